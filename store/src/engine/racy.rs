//! Files that may have changed once more within one tick of the file system's clock (trap T18).
//!
//! A change time has a granularity: of the tick of the kernel's clock, of a second on ext4 with small inodes, of two on
//! FAT. If a file is changed, read, and changed again within one of these, size and times may be as
//! they were when it was read. While the watcher runs its events tell. What is left are changes after
//! it stopped: those bear a time that is not older than that moment, but for the granularity. So of a
//! file whose change time is older nothing can have been missed, and the few others are read again
//! when the first walk meets them, once. git does the same with the time of its index
//! (git/git:Documentation/technical/racy-git.adoc).
//!
//! The moment is told by the last former journal, by the same clock as the files: it was begun or
//! written to while the daemon ran. No time is kept for each file, and nothing is read twice while
//! the daemon runs.

use std::collections::HashSet;

use super::{Engine, Fatal};
use crate::content_id::INLINE_BYTES_MAX;
use crate::folder::Kind;
use crate::placed::{LocalId, Placed, Seen};
use crate::time::Time;

/// How much older than the last journal a change must be: the time that an end in order may take
/// from the watcher's stop to the last journal, and the coarsest clock (2 s).
const MARGIN_SECS: i64 = 15;

/// The row of the engine's own table that says so over restarts.
const RACY_ROW: &str = "racy";

/// What the first walk reads again.
#[derive(Debug, Default)]
pub(super) struct Racy {
    /// Changes from this on are in doubt; none: no former run, or all was looked at.
    pub(super) since: Option<Time>,
    /// What was read again, or is about to be.
    done: HashSet<LocalId>,
}

impl Racy {
    /// Whether what is known of a file is in doubt.
    pub(super) fn has(&self, id: LocalId, seen: &Seen) -> bool {
        let changed_late = self.since.is_some_and(|since| seen.stat.ctime >= since);
        changed_late
            && seen.stat.kind == Kind::File
            && seen.body.is_some()
            && !self.done.contains(&id)
    }

    /// This run has read a file: nothing of it is in doubt any more.
    pub(super) fn was_read(&mut self, id: LocalId) {
        if self.since.is_some() {
            self.done.insert(id);
        }
    }
}

impl Engine {
    /// What is in doubt after the former run. It stays so, durably, until a first walk is over: this
    /// run may end before.
    pub(super) fn begin_racy(&mut self) -> Result<(), Fatal> {
        let margin = |last: Time| Time { secs: last.secs.saturating_sub(MARGIN_SECS), ..last };
        let former = self.journal.former_written().map(margin);
        let open = self.meta(RACY_ROW)?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        self.racy.since = former.into_iter().chain(open).min();
        let Some(since) = self.racy.since else { return Ok(()) };
        let bytes = postcard::to_allocvec(&since).map_err(|_| Fatal::Encode)?;
        self.set_meta(RACY_ROW, &bytes)
    }

    /// The first walk is over: whatever was in doubt is being read.
    pub(super) fn end_racy(&mut self) -> Result<(), Fatal> {
        match std::mem::take(&mut self.racy).since {
            Some(_) => self.drop_meta(RACY_ROW),
            None => Ok(()),
        }
    }

    /// Has a file read again that looks as it did.
    pub(super) fn read_racy(&mut self, id: LocalId, mut row: Placed) -> Result<(), Fatal> {
        self.racy.done.insert(id);
        if row.seen.as_ref().is_some_and(|seen| seen.stat.size <= INLINE_BYTES_MAX) {
            return self.look_again(id);
        }
        if let Some(seen) = &mut row.seen {
            seen.body = None;
        }
        self.set_row(id, Some(&row))?;
        self.settle(id)
    }
}
