//! One record: sixty-four bytes of header, the payload, zeros up to a multiple of eight.
//!
//! Drawn in `docs/format.md`. The header is the record's *identity* and has a CRC of its own: it
//! covers the segment's nonce, the sequence and the place in the file, so that a record of a
//! recycled segment, of another place or of another time is no record here. The payload's CRC
//! stands in the header. So a record whose payload has rotted can still be named, and what it says
//! about others still counts (Alagappan et al., FAST 2018, keep identifiers apart for this).

use pickbox_raft_core::ids::{Index, LogPosition, Term};
use pickbox_raft_core::log::{Entry, HardState};
use pickbox_raft_core::members::Members;
use serde::{Deserialize, Serialize};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 64;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// No payload is longer, whatever a header says: the largest entry and room for its frame.
pub(super) const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// No sequence, index or term is larger: no log lives so long, and one can be added to each.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Head,
    HardState,
    Entry,
    Truncate,
    Reset,
    Compact,
    Confirm,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Head,
        Self::HardState,
        Self::Entry,
        Self::Truncate,
        Self::Reset,
        Self::Compact,
        Self::Confirm,
    ];

    fn byte(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::HardState => 2,
            Self::Entry => 3,
            Self::Truncate => 4,
            Self::Reset => 5,
            Self::Compact => 6,
            Self::Confirm => 7,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }

    /// How many sequence numbers such a record takes: the one that only confirms takes none, so
    /// that losing it leaves no gap.
    pub(super) fn sequences(self) -> u64 {
        u64::from(self != Self::Confirm)
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
    /// Says by its header alone what had been synced.
    Confirm,
}

impl Body {
    /// Reads a payload; `None` when it is not what its kind says.
    pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Self> {
        let body = match kind {
            Kind::Head => whole(payload).map(Self::Head),
            Kind::HardState => whole(payload).map(Self::HardState),
            Kind::Entry => whole(payload).map(Self::Entry),
            Kind::Truncate => whole(payload).map(Self::Truncate),
            Kind::Reset => whole(payload).map(Self::Reset),
            Kind::Compact => whole(payload).map(Self::Compact),
            Kind::Confirm => payload.is_empty().then_some(Self::Confirm),
        };
        body.filter(Self::is_plausible)
    }

    fn is_plausible(&self) -> bool {
        match self {
            Self::Head(head) => is_term(head.hard_state.term) && is_position(head.last),
            Self::HardState(state) => is_term(state.term),
            Self::Entry(entry) => is_position(entry.position()),
            Self::Truncate(cut) => is_position(cut.last),
            Self::Reset(mark) | Self::Compact(mark) => is_position(mark.at),
            Self::Confirm => true,
        }
    }
}

fn is_term(term: Term) -> bool {
    term.get() <= NUMBER_MAX
}

fn is_position(position: LogPosition) -> bool {
    position.index.get() <= NUMBER_MAX && is_term(position.term)
}

/// A value that takes up all the bytes.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes)
        .ok()
        .filter(|(_, rest)| rest.is_empty())
        .map(|(value, _)| value)
}

/// A record's header, its own CRC left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// CRC of the payload.
    pub(super) payload_crc: u32,
    /// Of the segment.
    pub(super) nonce: u64,
    /// That of the record before it and what that one took ([`Kind::sequences`]), over all
    /// segments.
    pub(super) sequence: u64,
    /// All records before this sequence had been synced when this one was written.
    pub(super) durable_before: u64,
    /// Which entry it is, if it is one.
    pub(super) entry: Option<LogPosition>,
    /// Where the record begins in its file.
    pub(super) offset: u32,
    /// Bytes of the payload.
    pub(super) length: usize,
    /// What it is.
    pub(super) kind: Kind,
}

impl Header {
    /// Reads a header; `None` if it is none. The payload is not looked at.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let kind = Kind::from_byte(*bytes.get(56)?)?;
        let position = LogPosition {
            index: Index::new(u64_at(bytes, 32)?),
            term: Term::new(u64_at(bytes, 40)?),
        };
        let header = Self {
            payload_crc: u32_at(bytes, 4)?,
            nonce: u64_at(bytes, 8)?,
            sequence: u64_at(bytes, 16)?,
            durable_before: u64_at(bytes, 24)?,
            entry: (kind == Kind::Entry).then_some(position),
            offset: u32_at(bytes, 48)?,
            length: usize::try_from(u32_at(bytes, 52)?).ok()?,
            kind,
        };
        let is_whole = u32_at(bytes, 0)? == crc32fast::hash(bytes.get(4..)?);
        let unused_is_zero = bytes.get(57..)?.iter().all(|byte| *byte == 0)
            && (header.entry.is_some() || position == LogPosition::default());
        let plausible = header.length <= PAYLOAD_BYTES_MAX
            && header.durable_before <= header.sequence
            && header.sequence <= NUMBER_MAX;
        (is_whole && unused_is_zero && plausible).then_some(header)
    }

    /// Bytes that the whole record takes up.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.length)
    }

    /// Where the payload is in the record.
    pub(super) fn payload(&self) -> std::ops::Range<usize> {
        HEADER_BYTES..HEADER_BYTES + self.length
    }

    /// The payload of a record with this header, if it is what was written.
    pub(super) fn whole_payload<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let payload = record.get(self.payload())?;
        (crc32fast::hash(payload) == self.payload_crc).then_some(payload)
    }

    /// Appends the record to a buffer.
    pub(super) fn encode(&self, payload: &[u8], buffer: &mut Vec<u8>) {
        assert!(payload.len() == self.length, "the header is of this payload");
        assert!(self.length <= PAYLOAD_BYTES_MAX, "a payload is bounded");
        let start = buffer.len();
        let entry = self.entry.unwrap_or_default();
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&self.payload_crc.to_le_bytes());
        buffer.extend_from_slice(&self.nonce.to_le_bytes());
        buffer.extend_from_slice(&self.sequence.to_le_bytes());
        buffer.extend_from_slice(&self.durable_before.to_le_bytes());
        buffer.extend_from_slice(&entry.index.get().to_le_bytes());
        buffer.extend_from_slice(&entry.term.get().to_le_bytes());
        buffer.extend_from_slice(&self.offset.to_le_bytes());
        buffer.extend_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        buffer.extend_from_slice(&[self.kind.byte(), 0, 0, 0, 0, 0, 0, 0]);
        let crc = crc32fast::hash(buffer.get(start + 4..).unwrap_or_default());
        if let Some(place) = buffer.get_mut(start..start + 4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        buffer.extend_from_slice(payload);
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
