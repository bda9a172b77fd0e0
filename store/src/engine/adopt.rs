//! Taking over a folder of which placed knows nothing: at a join, after `--accept-folder`, and when
//! a node is admitted anew over the folder that it had before.
//!
//! What the log has at a name is adopted where it stands: no proposal, no transfer, the same inode;
//! only its mode and time become those of the log. In a *former* folder, what equals a version that
//! the history knows of that path was put there by the log, so it is no edit: it gives way to what
//! the log says now, quietly, and its bytes go to history. Everything else is the user's: it is
//! proposed as new, and where the name is taken becomes a conflict copy. What is missing was
//! deleted by nobody.
//!
//! A large file is read here alone before anybody is told of it, where it may be one of those.

use std::collections::HashSet;

use pickbox_raft::core::ids::Index as LogIndex;
use serde::{Deserialize, Serialize};

use super::brought::BroughtRule;
use super::checkpoint::{meta_of, set_meta_of};
use super::{Engine, Fatal};
use crate::contents::{Quorum, Ticket};
use crate::history_rows::{HistoryOf, HistoryRow};
use crate::index::Index;
use crate::name::RelPath;
use crate::placed::{LocalId, Placed, Seen};
use crate::reconcile::{Base, Place, View};
use crate::record::{Body, FileId, VersionVector};
use crate::time::Time;

/// The row of the engine's own table: there until all that the folder held was judged.
pub(super) const ADOPTING_ROW: &str = "adopting";
/// Versions of a path that are compared, the newest first: as many as LOG lists.
const VERSIONS_MAX: usize = 1_000;

/// Whose the folder was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Claim {
    /// A user's, or nobody knows: whatever differs from the log is an edit.
    Brought,
    /// This very member's, before it was admitted anew.
    Former,
}

/// What is durable of an adoption, so that it goes on over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    claim: Claim,
    /// When it began. What changed since is an edit, whatever it equals: the one other use of a
    /// wall clock in a decision, compared with change times that the same kernel made.
    since: Time,
    /// What becomes of what the log does not have.
    rule: BroughtRule,
}

/// An adoption under way.
#[derive(Debug)]
pub(super) struct Adoption {
    note: Note,
    /// Files that are read here alone.
    reading: HashSet<Ticket>,
}

/// Notes that the folder is to be adopted; durable with the next checkpoint of the index.
pub(super) fn note(
    index: &Index,
    claim: Claim,
    rule: BroughtRule,
    since: Time,
) -> Result<(), Fatal> {
    write_note(index, Note { claim, since, rule })
}

/// Notes what somebody decided about an adoption under way, if there is one that waits for it.
pub(super) fn decide(index: &Index, rule: BroughtRule) -> Result<(), Fatal> {
    match under_way(index)? {
        Some(Adoption { note, .. }) if note.rule == BroughtRule::Ask && note.rule != rule => {
            write_note(index, Note { rule, ..note })
        }
        _ => Ok(()),
    }
}

fn write_note(index: &Index, note: Note) -> Result<(), Fatal> {
    let bytes = postcard::to_allocvec(&note).map_err(|_| Fatal::Encode)?;
    set_meta_of(index, ADOPTING_ROW, &bytes)
}

/// The adoption that this run begins or goes on with.
pub(super) fn under_way(index: &Index) -> Result<Option<Adoption>, Fatal> {
    let bytes = meta_of(index, ADOPTING_ROW)?;
    let note = bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok());
    Ok(note.map(|note| Adoption { note, reading: HashSet::new() }))
}

impl Adoption {
    pub(super) fn rule(&self) -> BroughtRule {
        self.note.rule
    }

    /// For this run; the next finds out for itself.
    pub(super) fn decide(&mut self, rule: BroughtRule) {
        self.note.rule = rule;
    }
}

impl Engine {
    /// Whether all that stood in the folder has been judged.
    pub(super) fn has_adopted(&self) -> bool {
        let reading = self.adoption.as_ref().is_some_and(|a| !a.reading.is_empty());
        // What lies outside comes back only once things are placed again.
        let is_looked_at = self.has_scanned() && self.looks.values().all(|look| look.is_away);
        is_looked_at && !reading && !self.misses_rules() && !self.ignoring.is_walk_owed()
    }

    /// Whether a folder is being adopted that was this node's own.
    pub(super) fn adopts_former(&self) -> bool {
        self.adoption.as_ref().is_some_and(|adoption| adoption.note.claim == Claim::Former)
    }

    /// What the thing of a row without a base is for the log, if it is no user's edit.
    pub(super) fn recognise(&mut self, id: LocalId, row: &Placed) -> Result<Option<Base>, Fatal> {
        let (None, Some(seen)) = (&row.base, &row.seen) else { return Ok(None) };
        let Some(body) = seen.body.clone().filter(|_| self.is_old(seen)) else { return Ok(None) };
        if row.parent == LocalId::QUARANTINE {
            return Ok(None);
        }
        let place = Place { parent: self.file_of(row.parent)?, name: row.name.clone() };
        let view = View { body, attributes: seen.attributes(), place };
        if let Some(there) = self.unclaimed_at(&view.place)? {
            let agreed = self.index.record(there)?;
            let Some(record) = agreed else { return Ok(None) };
            if record.body == view.body {
                return Ok(Some(Base { id: there, view, version: record.version }));
            }
            let whole = record.body != Body::Directory && view.body != Body::Directory;
            if whole && self.adopts_former() {
                let versions = self.versions_known(row, Some(there))?;
                let version = versions.into_iter().find(|known| known.body == view.body);
                return Ok(version.map(|known| Base { id: there, view, version: known.version }));
            }
        }
        if self.adopts_former() && self.was_here(row, &view.body)? {
            let version = VersionVector::default();
            return Ok(Some(Base { id: deleted_id(id), view, version }));
        }
        Ok(None)
    }

    /// Whether the bytes of a large file have to be known before it may be offered to anybody.
    pub(super) fn may_be_known(&mut self, row: &Placed) -> Result<bool, Fatal> {
        let (None, Some(seen)) = (&row.base, &row.seen) else { return Ok(false) };
        if !self.is_old(seen) {
            return Ok(false);
        }
        let size_of = |body: &Body| match body {
            Body::File { size, .. } => Some(*size),
            Body::Directory | Body::Symlink { .. } => None,
        };
        let place = Place { parent: self.file_of(row.parent)?, name: row.name.clone() };
        let there = self.unclaimed_at(&place)?;
        if let Some(there) = there
            && let Some(record) = self.index.record(there)?
            && size_of(&record.body) == Some(seen.stat.size)
        {
            return Ok(true);
        }
        let known =
            if self.adopts_former() { self.versions_known(row, there)? } else { Vec::new() };
        Ok(known.iter().any(|known| size_of(&known.body) == Some(seen.stat.size)))
    }

    /// Has a large file read here: an offer that is made to nobody, and that this node's own
    /// synced file is enough for.
    pub(super) fn read_alone(&mut self, id: LocalId, row: &Placed) -> Result<(), Fatal> {
        let alone = Quorum { sets: vec![vec![self.me]] };
        if let Some(ticket) = self.offer_to(id, row, Vec::new(), alone)?
            && let Some(adoption) = &mut self.adoption
        {
            adoption.reading.insert(ticket);
        }
        Ok(())
    }

    /// Whether a file is only being read here, not offered.
    pub(super) fn is_read_alone(&self, ticket: Ticket) -> bool {
        self.adoption.as_ref().is_some_and(|adoption| adoption.reading.contains(&ticket))
    }

    /// The reading of a file came to its end, one way or the other. True if it was one.
    pub(super) fn end_reading(&mut self, ticket: Ticket) -> bool {
        self.adoption.as_mut().is_some_and(|adoption| adoption.reading.remove(&ticket))
    }

    /// What the log has at a place, if nothing on this disk stands for it yet.
    fn unclaimed_at(&mut self, place: &Place) -> Result<Option<FileId>, Fatal> {
        let Some(parent) = place.parent else { return Ok(None) };
        let Some(there) = self.index.lookup(parent, &place.name)? else { return Ok(None) };
        Ok(self.row_of(there)?.is_none().then_some(there))
    }

    /// Whether this stood in a folder before that is being adopted.
    pub(super) fn is_old(&self, seen: &Seen) -> bool {
        self.adoption.as_ref().is_some_and(|adoption| seen.stat.ctime < adoption.note.since)
    }

    fn own_path(&mut self, row: &Placed) -> Result<Option<RelPath>, Fatal> {
        let above = self.path_of_row(row.parent)?;
        Ok(above.map(|above| above.join(&row.name)))
    }

    /// The versions that the history has of the path of a row, and of the file that is there now.
    fn versions_known(
        &mut self,
        row: &Placed,
        file: Option<FileId>,
    ) -> Result<Vec<HistoryRow>, Fatal> {
        let mut known = Vec::new();
        if let Some(path) = self.own_path(row)? {
            known = self.index.newest_history(&HistoryOf::Path(&path), VERSIONS_MAX)?;
        }
        if let Some(file) = file {
            known.extend(self.index.newest_history(&HistoryOf::File(file), VERSIONS_MAX)?);
        }
        Ok(known)
    }

    /// Whether the log once had this at the path of a row. Of a directory the history keeps no
    /// version, but it keeps what was displaced below.
    fn was_here(&mut self, row: &Placed, body: &Body) -> Result<bool, Fatal> {
        if *body == Body::Directory {
            let path = self.own_path(row)?;
            return Ok(path.map_or(Ok(false), |path| self.index.has_history_below(&path))?);
        }
        Ok(self.versions_known(row, None)?.iter().any(|known| known.body == *body))
    }

    /// Whether the log, or its history, knows these bytes, wherever.
    pub(super) fn is_content_known(&self, body: &Body) -> Result<bool, Fatal> {
        let Body::File { size, content } = body else { return Ok(false) };
        Ok(*size == 0
            || !self.index.holders_of_content(*content, 1)?.is_empty()
            || !self.index.newest_history(&HistoryOf::Content(*content), 1)?.is_empty())
    }
}

/// The id of something that the log deleted under an id that nobody remembers. No log mints it (the
/// epoch counts forced recoveries), and no two rows share it.
fn deleted_id(id: LocalId) -> FileId {
    FileId { epoch: u32::MAX, index: LogIndex::new(id.get()), ordinal: u32::MAX }
}
