//! Whether a state that a peer sends is one that apply can have made.
//!
//! A member may change the folder, but it may not bring a peer down or get anything into it that
//! no entry could: so what entries are checked for when they are applied, a state is checked for
//! before it is put in force. What is checked here is what the rest relies upon: rows that later
//! entries never meet again, a tree, lines of conflicts that have their copies, modes without
//! set-id bits, bounded rows.

use pickbox_raft::core::ids::{Index, Term};
use pickbox_raft::core::members::Members;
use redb::ReadableTable;

use super::import::ImportError;
use super::pages::ROW_BYTES_MAX;
use super::state::State;
use super::tables::{self, Tables};
use crate::agreed::{LOSING_LINES_MAX, is_kept_so};
use crate::history_rows::HistoryRow;
use crate::record::{Body, FileId, Record};

/// What a page adds to a row: what it is, its id and its length.
const ROW_FRAME_BYTES: usize = 64;

/// Refuses a row that is longer than any of ours: it could not be given on.
pub(super) fn check_length(row: &[u8]) -> Result<(), ImportError> {
    require(row.len() + ROW_FRAME_BYTES <= ROW_BYTES_MAX, "a row is too long")
}

/// Refuses what no log comes to.
pub(super) fn check_head(head: &State) -> Result<(), ImportError> {
    let position = head.position;
    require(position.index <= Index::MAX && position.term <= Term::MAX, "the position")?;
    let none_yet = head.members == Members::default();
    require(none_yet || head.members.is_sound(), "the members")?;
    let epoch = u32::try_from(head.members.epoch.get()).unwrap_or(u32::MAX);
    require(head.epoch == epoch, "the epoch")?;
    require(head.sessions.are_sound(&head.members), "the runs")
}

/// Refuses a record that no entry up to the state's position makes.
pub(super) fn check_record(head: &State, id: FileId, record: &Record) -> Result<(), ImportError> {
    // Ids are minted of the next entries: none of those must be there yet.
    let minted = id.epoch < head.epoch
        || id.epoch == head.epoch && id.index <= head.position.index && id.index != Index::ZERO;
    require(minted, "an id of the future")?;
    require(is_kept_so(&record.body, &record.attributes), "a link, a mode or a time")?;
    require(record.losing.len() <= LOSING_LINES_MAX, "too many lines")?;
    let since = record.losing.iter().map(|line| line.since).max();
    require(since.is_none_or(|since| since <= head.position.index), "a conflict of the future")
}

/// Refuses a row of the history that no entry up to the state's position makes.
pub(super) fn check_history(head: &State, row: &HistoryRow) -> Result<(), ImportError> {
    require(row.key.index <= head.position.index, "a displacement of the future")?;
    require(row.body != Body::Directory, "a version of a directory")?;
    require(is_kept_so(&row.body, &row.attributes), "a link, a mode or a time")
}

fn require(sound: bool, what: &'static str) -> Result<(), ImportError> {
    if sound { Ok(()) } else { Err(ImportError::Damaged(what)) }
}

/// Walks down from the folder. Each record has one place, so whoever is reached is reached once;
/// what is below a file, below nothing, or below itself is not.
pub(super) fn check_tree(tables: &Tables<'_>, count: u64) -> Result<(), ImportError> {
    let (mut waiting, mut reached) = (vec![FileId::ROOT], 0_u64);
    while let Some(directory) = waiting.pop() {
        let number = directory.to_number();
        for row in tables.names.range::<(u128, &[u8])>((number, [].as_slice())..)? {
            let (place, child) = row?;
            if place.value().0 != number {
                break;
            }
            let id = FileId::from_number(child.value());
            let record = linked(tables, id)?;
            if record.body == Body::Directory {
                waiting.push(id);
            }
            check_lines(tables, id, &record)?;
            reached += 1;
        }
    }
    if reached == count {
        Ok(())
    } else {
        Err(ImportError::Mismatch("a file lies in no directory"))
    }
}

/// A line and its copy know each other.
fn check_lines(tables: &Tables<'_>, id: FileId, record: &Record) -> Result<(), ImportError> {
    let broken = || ImportError::Mismatch("a conflict lacks its other side");
    for line in &record.losing {
        let copy = linked(tables, line.copy)?;
        if copy.conflict_of != Some(id) || copy.version != line.version {
            return Err(broken());
        }
    }
    if let Some(winner) = record.conflict_of {
        let winner = linked(tables, winner)?;
        winner.losing.iter().find(|line| line.copy == id).ok_or_else(broken)?;
    }
    Ok(())
}

fn linked(tables: &Tables<'_>, id: FileId) -> Result<Record, ImportError> {
    let record = tables::record(&tables.records, id)?;
    record.ok_or(ImportError::Mismatch("a row names one that is not there"))
}
