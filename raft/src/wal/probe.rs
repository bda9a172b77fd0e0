//! The records of a log, for fuzzing: they are not public otherwise.
//!
//! Nothing here is part of what this crate offers.

use pickbox_raft_core::ids::{Fingerprint, Index, LogPosition, NodeId, Term};
use pickbox_raft_core::log::{Content, Entry, HardState};
use pickbox_raft_core::members::Members;
use serde::Serialize;

use super::record::{Body, Cut, HEADER_BYTES, Head, Header, Kind, Mark, PAYLOAD_BYTES_MAX};

/// Takes a payload for that of a record of some kind.
///
/// # Panics
/// When one that it is does not survive being written.
pub fn payload(kind: u8, bytes: &[u8]) {
    let kind = kind_of(kind);
    let Some(body) = Body::decode(kind, bytes) else { return };
    let again = encode(&body);
    assert!(again.len() <= bytes.len(), "no more is written than was read");
    assert_eq!(Body::decode(kind, &again), Some(body), "what was written can be read");
}

/// Takes bytes for a header, with the checksum that it should have if `mend`, and what follows for
/// its payload.
///
/// # Panics
/// When one that it is does not survive being written, or says more than it can.
pub fn record(bytes: &[u8], mend: Mend) {
    let mut bytes = bytes.to_vec();
    if mend == Mend::Yes {
        let crc = crc32fast::hash(bytes.get(4..HEADER_BYTES).unwrap_or_default());
        if let Some(place) = bytes.get_mut(..4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }
    let Some(header) = Header::parse(&bytes) else { return };
    assert!(header.length <= PAYLOAD_BYTES_MAX, "{header:?}");
    let Some(payload) = header.whole_payload(&bytes) else { return };
    let mut again = Vec::new();
    header.encode(payload, &mut again);
    assert_eq!(again.len(), header.record_bytes(), "it is as long as it says");
    let written = bytes.get(..HEADER_BYTES + payload.len());
    assert_eq!(again.get(..HEADER_BYTES + payload.len()), written, "there is one way to write it");
}

/// Whether checksums are made right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// So that bytes changed at random get past the first gate.
    Yes,
    /// As on a disk.
    No,
}

fn kind_of(number: u8) -> Kind {
    let place = usize::from(number) % Kind::ALL.len();
    Kind::ALL.get(place).copied().unwrap_or(Kind::Confirm)
}

fn encode(body: &Body) -> Vec<u8> {
    fn of(value: &impl Serialize) -> Vec<u8> {
        postcard::to_allocvec(value).unwrap_or_default()
    }
    match body {
        Body::Head(head) => of(head),
        Body::HardState(state) => of(state),
        Body::Entry(entry) => of(entry),
        Body::Truncate(cut) => of(cut),
        Body::Reset(mark) | Body::Compact(mark) => of(mark),
        Body::Confirm => Vec::new(),
    }
}

/// A payload of each kind, behind the number that [`payload`] takes for it.
#[must_use]
pub fn payloads() -> Vec<(u8, Vec<u8>)> {
    (0..).zip(bodies()).map(|(kind, body)| (kind, encode(&body))).collect()
}

/// A whole record of each kind.
#[must_use]
pub fn records() -> Vec<Vec<u8>> {
    let record = |(kind, payload): (u8, Vec<u8>)| {
        let kind = kind_of(kind);
        let header = Header {
            payload_crc: crc32fast::hash(&payload),
            nonce: 7,
            sequence: 9,
            durable_before: 8,
            entry: (kind == Kind::Entry).then_some(position()),
            offset: 4096,
            length: payload.len(),
            kind,
        };
        let mut bytes = Vec::new();
        header.encode(&payload, &mut bytes);
        bytes
    };
    payloads().into_iter().map(record).collect()
}

fn position() -> LogPosition {
    LogPosition { index: Index::new(300), term: Term::new(2) }
}

/// One of each, in the order of [`Kind::ALL`].
fn bodies() -> [Body; 7] {
    let at = position();
    let hard_state = HardState { term: at.term, voted_for: Some(NodeId::new(1)) };
    let members = Members::bootstrap("node1".into(), "host:1".into(), Fingerprint([1; 32]));
    let mark = Mark { at, members: members.clone(), keep_from: 3 };
    let entry = Entry { index: at.index, term: at.term, content: Content::Noop };
    [
        Body::Head(Head { hard_state, last: at, members: members.clone(), keep_from: 2 }),
        Body::HardState(hard_state),
        Body::Entry(entry),
        Body::Truncate(Cut { last: at, members }),
        Body::Reset(mark.clone()),
        Body::Compact(mark),
        Body::Confirm,
    ]
}
