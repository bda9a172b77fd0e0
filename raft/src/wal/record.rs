//! One record: forty bytes of header, the payload, zeros up to a multiple of eight.
//!
//! Drawn in `docs/format.md`. The CRC covers the segment's nonce, the sequence and the place in
//! the file, so that a record of a recycled segment, of another place or of another time is no
//! record here.

use pickbox_raft_core::ids::LogPosition;
use pickbox_raft_core::log::{Entry, HardState};
use pickbox_raft_core::members::Members;
use serde::{Deserialize, Serialize};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 40;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// No payload is longer, whatever a header says: the largest entry and room for its frame.
pub(super) const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Head,
    HardState,
    Entry,
    Truncate,
    Reset,
    Compact,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::HardState => 2,
            Self::Entry => 3,
            Self::Truncate => 4,
            Self::Reset => 5,
            Self::Compact => 6,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Head, Self::HardState, Self::Entry, Self::Truncate, Self::Reset, Self::Compact]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }
}

/// The first record of each segment: all that the segments before it say beside the entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Term and vote.
    pub(super) hard_state: HardState,
    /// The last entry of the log.
    pub(super) last: LogPosition,
    /// The members as of `last`.
    pub(super) members: Members,
    /// The first segment that is still needed.
    pub(super) keep_from: u32,
}

/// The payload of [`Kind::Reset`] and of [`Kind::Compact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The position: entries up to it are gone.
    pub(super) at: LogPosition,
    /// The members as of it.
    pub(super) members: Members,
    /// The first segment that is still needed.
    pub(super) keep_from: u32,
}

/// The payload of [`Kind::Truncate`]: enough to go on from here without what was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// The last entry that stays.
    pub(super) last: LogPosition,
    /// The members as of it.
    pub(super) members: Members,
}

/// A record's content, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Head(Head),
    HardState(HardState),
    Entry(Entry),
    Truncate(Cut),
    Reset(Mark),
    Compact(Mark),
}

impl Body {
    /// Reads a payload; `None` when it is not what its kind says.
    pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Self> {
        match kind {
            Kind::Head => whole(payload).map(Self::Head),
            Kind::HardState => whole(payload).map(Self::HardState),
            Kind::Entry => whole(payload).map(Self::Entry),
            Kind::Truncate => whole(payload).map(Self::Truncate),
            Kind::Reset => whole(payload).map(Self::Reset),
            Kind::Compact => whole(payload).map(Self::Compact),
        }
    }
}

/// A value that takes up all the bytes.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes)
        .ok()
        .filter(|(_, rest)| rest.is_empty())
        .map(|(value, _)| value)
}

/// A record's header without CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Of the payload.
    pub(super) length: usize,
    /// Of the segment.
    pub(super) nonce: u64,
    /// One more than that of the record before it, over all segments.
    pub(super) sequence: u64,
    /// All records before this sequence had been synced when this one was written.
    pub(super) durable_before: u64,
    /// Where the record begins in its file.
    pub(super) offset: u32,
    /// What it is.
    pub(super) kind: Kind,
}

impl Header {
    /// Reads a header; `None` if it cannot be one. The payload is not checked yet.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Self {
            length: usize::try_from(u32_at(bytes, 4)?).ok()?,
            nonce: u64_at(bytes, 8)?,
            sequence: u64_at(bytes, 16)?,
            durable_before: u64_at(bytes, 24)?,
            offset: u32_at(bytes, 32)?,
            kind: Kind::from_byte(*bytes.get(36)?)?,
        };
        let unused_is_zero = bytes.get(37..HEADER_BYTES)?.iter().all(|byte| *byte == 0);
        let plausible = unused_is_zero && header.length <= PAYLOAD_BYTES_MAX;
        plausible.then_some(header)
    }

    /// Bytes that the whole record takes up.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.length)
    }

    /// Where the payload is in the record.
    pub(super) fn payload(&self) -> std::ops::Range<usize> {
        HEADER_BYTES..HEADER_BYTES + self.length
    }

    /// Whether header and payload are what was written.
    pub(super) fn verify(record: &[u8], length: usize) -> bool {
        let covered = record.get(4..HEADER_BYTES + length);
        u32_at(record, 0).zip(covered).is_some_and(|(crc, bytes)| crc32fast::hash(bytes) == crc)
    }

    /// Appends the record to a buffer.
    pub(super) fn encode(&self, payload: &[u8], buffer: &mut Vec<u8>) {
        assert!(payload.len() == self.length, "the header is of this payload");
        assert!(self.length <= PAYLOAD_BYTES_MAX, "a payload is bounded");
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        buffer.extend_from_slice(&self.nonce.to_le_bytes());
        buffer.extend_from_slice(&self.sequence.to_le_bytes());
        buffer.extend_from_slice(&self.durable_before.to_le_bytes());
        buffer.extend_from_slice(&self.offset.to_le_bytes());
        buffer.extend_from_slice(&[self.kind.byte(), 0, 0, 0]);
        buffer.extend_from_slice(payload);
        let crc = crc32fast::hash(buffer.get(start + 4..).unwrap_or_default());
        if let Some(place) = buffer.get_mut(start..start + 4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        buffer.resize(start + self.record_bytes(), 0);
    }
}

/// Bytes that a record with such a payload takes up.
pub(super) fn record_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}
