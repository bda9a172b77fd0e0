//! The placed journal: what changed in the rows since the index was last made durable.
//!
//! The index commits durably at checkpoints only; a kill in between takes its newer rows. They
//! are replayed from here: an append-only file, one write a batch, never synced, since the page
//! cache outlives the process (a power cut is found otherwise: see `engine::startup`). Before a
//! thing is exposed in the folder, its row as it will be is noted as an intent; the row itself
//! follows. An intent without its row is settled at start by looking which inode is there.
//!
//! What a proposal in flight is about is noted too: if its entry commits and this process does not
//! live to see it, the next run links its rows to what the log made of them, instead of meeting
//! its own change as a stranger's.
//!
//! Record: length (u32 LE), CRC32 of the body (u32 LE), body (postcard [`Note`]). The first
//! record that does not verify ends the journal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use pickbox_raft::core::ids::{Incarnation, Serial};

use super::{LocalId, Placed};
use crate::name::Name;
use crate::record::{Attributes, Body};

/// Longest record body: what a whole proposal is about.
const NOTE_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// What a proposal in flight is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightNote {
    /// Which run of this node made it.
    pub incarnation: Incarnation,
    /// Which of its proposals it is.
    pub serial: Serial,
    /// CRC32 of its payload: a serial may have been given twice if the first was refused.
    pub payload_crc: u32,
    /// What each operation is about, in order; `None` for those of clients.
    pub rows: Vec<Option<FlownRow>>,
}

/// What one operation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlownRow {
    /// The row.
    pub id: LocalId,
    /// The part of it.
    pub what: What,
    /// The disk as it was when the operation was made.
    pub facts: Facts,
}

/// Which operation it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A new thing or a new content.
    Content,
    /// Mode, time and owner.
    Attributes,
    /// Directory and name.
    Move,
    /// It vanished.
    Delete,
}

/// The disk as it was when an operation was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What it held; `None` if it was gone.
    pub body: Option<Body>,
    /// Mode, time and owner.
    pub attributes: Attributes,
    /// The row of its directory.
    pub parent: LocalId,
    /// Its name there.
    pub name: Name,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// The row is this now, or gone.
    Row(LocalId, Option<Placed>),
    /// The row will be this once the thing is exposed.
    Intent(LocalId, Placed),
    /// This proposal is in flight; none is any more.
    Flight(Option<FlightNote>),
}

/// Appends a record to a buffer. One that is too long is left out: only that of a flight can be,
/// which is then as if it had never been noted.
pub fn encode(note: &Note, buffer: &mut Vec<u8>) {
    let Ok(body) = postcard::to_allocvec(note) else { return };
    let Some(length) = u32::try_from(body.len()).ok().filter(|len| *len <= NOTE_BYTES_MAX) else {
        return;
    };
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    buffer.extend_from_slice(&body);
}

fn decode_one(bytes: &[u8]) -> Option<(Note, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length > NOTE_BYTES_MAX {
        return None;
    }
    let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, rest))
}

/// What a journal says: the last row of each thing, and the intents that no row followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Rows as last noted.
    pub rows: BTreeMap<LocalId, Option<Placed>>,
    /// Rows as they are if the exposing happened.
    pub intents: BTreeMap<LocalId, Placed>,
    /// The last that was said of a proposal in flight, if anything was.
    pub flight: Option<Option<FlightNote>>,
    /// Bytes that verified.
    pub valid_bytes: usize,
}

/// Reads a journal up to its first record that does not verify.
#[must_use]
pub fn replay(bytes: &[u8]) -> Replay {
    let mut found = Replay::default();
    let mut rest = bytes;
    while let Some((note, next)) = decode_one(rest) {
        match note {
            Note::Row(id, row) => {
                found.intents.remove(&id);
                found.rows.insert(id, row);
            }
            Note::Intent(id, row) => {
                found.intents.insert(id, row);
            }
            Note::Flight(flight) => found.flight = Some(flight),
        }
        rest = next;
    }
    found.valid_bytes = bytes.len() - rest.len();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn row(name: &str) -> Placed {
        Placed {
            parent: LocalId::ROOT,
            name: Name::new(name).unwrap(),
            seen: None,
            base: None,
            hold: None,
        }
    }

    /// Trap T19: a journal cut at any byte gives the state after some record, never a mix.
    #[test]
    fn a_journal_cut_anywhere_replays_a_prefix() {
        let notes = [
            Note::Row(LocalId(20), Some(row("a"))),
            Note::Intent(LocalId(21), row("b")),
            Note::Row(LocalId(21), Some(row("b"))),
            Note::Row(LocalId(20), None),
        ];
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for note in &notes {
            encode(note, &mut bytes);
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            assert_eq!(replay(&bytes[..cut]).valid_bytes, ends[whole], "cut at {cut}");
        }
        let all = replay(&bytes);
        assert!(all.intents.is_empty());
        assert_eq!(all.rows[&LocalId(20)], None);
        assert_eq!(replay(&bytes[..ends[2]]).intents.len(), 1, "an intent waits for its row");
    }

    /// Fault 61: a flipped bit ends the journal there, it never gives another row.
    #[test]
    fn a_flipped_bit_ends_the_journal() {
        let mut bytes = Vec::new();
        encode(&Note::Row(LocalId(20), Some(row("a"))), &mut bytes);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(replay(&bad), Replay::default(), "flip at {at}");
        }
    }
}
