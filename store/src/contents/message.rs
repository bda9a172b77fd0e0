//! What the content workers of two nodes say to each other.
//!
//! A frame is one version byte, a postcard-encoded [`Message`], and, for [`Message::Piece`] and
//! [`Message::Small`], raw bytes behind it. docs/format.md draws it.

use pickbox_raft::core::ids::Incarnation;
use serde::{Deserialize, Serialize};

use super::{PIECE_BYTES, SMALL_BATCH_BYTES, SMALL_BATCH_COUNT, Ticket};
use crate::content_id::ContentId;

/// The version of these messages.
pub const VERSION: u8 = 1;
/// Room for version and header in front of the bytes of a piece.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES_MAX + PIECE_BYTES;

const _: () = assert!(SMALL_BATCH_BYTES <= PIECE_BYTES);
const _: () = assert!(SMALL_BATCH_COUNT * 40 + 64 <= HEADER_BYTES_MAX);

/// One offer of one run of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OfferId {
    /// Which run.
    pub incarnation: Incarnation,
    /// Which of its offers.
    pub ticket: Ticket,
}

/// Where bytes are asked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// A live file of the asked node, whose hash need not be known yet.
    Offer(OfferId),
    /// Whatever holds this content there.
    Content(ContentId),
}

/// Why a node cannot take what it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CannotTake {
    /// Its disk is full.
    NoSpace,
    /// It has too many offers of that node open.
    Busy,
    /// Its disk failed.
    Disk,
}

/// One small content in a [`Message::Small`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallItem {
    /// Which.
    pub content: ContentId,
    /// How many of the bytes behind the header are its.
    pub len: u32,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// First on each connection. Said again: what the sender was going to send is lost.
    Hello(Incarnation),
    /// Come and take this.
    Offer {
        /// Which.
        id: OfferId,
        /// Bytes.
        size: u64,
        /// What it is, once known.
        content: Option<ContentId>,
    },
    /// What an offer turned out to be.
    Sealed {
        /// Which offer.
        id: OfferId,
        /// Its content.
        content: ContentId,
    },
    /// The offer is void: it will never be proposed.
    Drop(OfferId),
    /// Send these bytes.
    Get {
        /// Of what.
        source: Source,
        /// From where on.
        offset: u64,
        /// At most [`PIECE_BYTES`].
        len: u32,
    },
    /// Bytes asked for: they follow the header.
    Piece {
        /// Of what.
        source: Source,
        /// From where on.
        offset: u64,
    },
    /// What was asked for is not to be had here (any more).
    Gone(Source),
    /// The offered content is here, immutable and synced.
    Have {
        /// Which offer.
        id: OfferId,
        /// What it hashed to.
        content: ContentId,
    },
    /// The offered content cannot be taken.
    Failed {
        /// Which offer.
        id: OfferId,
        /// Why.
        reason: CannotTake,
    },
    /// Send as many of these small contents as fit in one answer.
    GetSmall {
        /// Names the request: an answer to an older one is not taken.
        batch: u64,
        /// Which.
        contents: Vec<ContentId>,
    },
    /// Small contents: their bytes follow the header, in this order. What is neither here nor in
    /// `gone` did not fit: ask again.
    Small {
        /// Which request this answers.
        batch: u64,
        /// What follows.
        items: Vec<SmallItem>,
        /// What is not to be had here.
        gone: Vec<ContentId>,
    },
    /// Bytes that this node sent for the content did not hash to it.
    Bad(ContentId),
}

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// Longer than any frame may be.
    TooLong,
    /// Of a version that this node does not speak.
    Version,
    /// The header is no message.
    Header,
    /// Bytes behind a header that has none, or not as many as it says.
    Payload,
}

/// The frame of a message without its bytes, with room for `payload_bytes` more.
#[must_use]
pub fn encode(message: &Message, payload_bytes: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES_MAX.min(256) + payload_bytes);
    frame.push(VERSION);
    // Only a container that is full or a type that cannot be encoded fails: neither is here.
    postcard::to_extend(message, frame).unwrap_or_default()
}

/// Reads a frame: the message, and the bytes behind its header.
///
/// # Errors
/// When the peer speaks another version, or nonsense.
pub fn decode(frame: &[u8]) -> Result<(Message, &[u8]), BadFrame> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(BadFrame::TooLong);
    }
    let (version, rest) = frame.split_first().ok_or(BadFrame::Header)?;
    if *version != VERSION {
        return Err(BadFrame::Version);
    }
    let (message, payload) =
        postcard::take_from_bytes::<Message>(rest).map_err(|_| BadFrame::Header)?;
    check(&message, payload)?;
    Ok((message, payload))
}

/// Whether the bytes behind a header are those that it says.
fn check(message: &Message, payload: &[u8]) -> Result<(), BadFrame> {
    let ok = match message {
        Message::Piece { .. } => !payload.is_empty() && payload.len() <= PIECE_BYTES,
        Message::Small { items, gone, .. } => {
            let told: u64 = items.iter().map(|item| u64::from(item.len)).sum();
            items.len() <= SMALL_BATCH_COUNT
                && gone.len() <= SMALL_BATCH_COUNT
                && u64::try_from(payload.len()) == Ok(told)
        }
        Message::GetSmall { contents, .. } => {
            contents.len() <= SMALL_BATCH_COUNT && payload.is_empty()
        }
        Message::Get { len, .. } => {
            payload.is_empty() && usize::try_from(*len).is_ok_and(|len| len <= PIECE_BYTES)
        }
        _ => payload.is_empty(),
    };
    ok.then_some(()).ok_or(BadFrame::Payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_piece_carries_its_bytes_behind_the_header() {
        let message =
            Message::Piece { source: Source::Content(ContentId::of(b"x")), offset: 1 << 40 };
        let mut frame = encode(&message, 5);
        frame.extend_from_slice(b"hello");
        assert_eq!(decode(&frame), Ok((message, &b"hello"[..])));
    }

    #[test]
    fn bytes_behind_a_message_that_has_none_are_refused() {
        let mut frame = encode(&Message::Bad(ContentId::of(b"x")), 0);
        assert!(decode(&frame).is_ok());
        frame.push(0);
        assert_eq!(decode(&frame), Err(BadFrame::Payload));
    }

    #[test]
    fn a_peer_cannot_ask_for_more_than_a_piece() {
        let source = Source::Content(ContentId::of(b"x"));
        let len = u32::try_from(PIECE_BYTES).unwrap() + 1;
        let frame = encode(&Message::Get { source, offset: 0, len }, 0);
        assert_eq!(decode(&frame), Err(BadFrame::Payload));
    }

    #[test]
    fn full_batches_fit_in_the_header() {
        let contents = vec![ContentId::of(b"x"); SMALL_BATCH_COUNT];
        assert!(
            encode(&Message::GetSmall { batch: u64::MAX, contents: contents.clone() }, 0).len()
                <= HEADER_BYTES_MAX
        );
        let items = contents.iter().map(|id| SmallItem { content: *id, len: u32::MAX }).collect();
        let message = Message::Small { batch: u64::MAX, items, gone: vec![] };
        assert!(encode(&message, 0).len() <= HEADER_BYTES_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// Bytes of a peer never bring the worker down (fault 81 and the like).
        #[test]
        fn garbage_is_an_error_not_a_crash(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = decode(&bytes);
        }
    }
}
