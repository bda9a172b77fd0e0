//! Directories whose files belong together: a repository of git (trap T9).
//!
//! What git writes first, the object, must be seen before what it writes last, the ref that names
//! it; and what it deletes because a pack holds it now must not go before the pack is there. Small
//! files reach the log within a moment, but a large one is brought to a majority first, and would
//! be overtaken. So as long as a large file below a `.git` is on its way, out to the log or in to
//! this disk, the small ones below the same `.git` wait for it, for [`WAIT_MS`] at most: a content
//! that cannot be had must not hold back a repository for ever.

use std::collections::BTreeMap;

use super::place::Why;
use super::{Engine, Fatal};
use crate::name::{DEPTH_MAX, Name};
use crate::placed::LocalId;
use crate::record::FileId;

/// How long the rest of a repository waits for a large file of it.
pub(super) const WAIT_MS: u64 = 30_000;

/// Large files on their way below a `.git`: below which, and since when.
#[derive(Debug, Default)]
pub(super) struct Together {
    going_out: BTreeMap<LocalId, LocalId>,
    /// Repositories of which something is held back by these, however often they change.
    held_back: BTreeMap<LocalId, HeldBack>,
    coming_in: BTreeMap<FileId, (FileId, u64)>,
}

/// How long something of a repository is held back.
#[derive(Clone, Copy, Debug)]
struct HeldBack {
    since_ms: u64,
    /// When that was asked last.
    asked_ms: u64,
}

impl Together {
    /// The offer of a row is over.
    pub(super) fn offer_over(&mut self, id: LocalId) {
        self.going_out.remove(&id);
    }

    /// Whether something waits for nothing but time.
    pub(super) fn waits_for_time(&self, now_ms: u64) -> bool {
        self.held_back.values().any(|held| now_ms < held.since_ms.saturating_add(WAIT_MS))
    }

    /// Whether what is on offer holds back the rest of its repository. A file that changes again and
    /// again is on offer again and again: what waits for it waits no longer for that.
    fn holds_out(&mut self, repository: LocalId, now_ms: u64) -> bool {
        if !self.going_out.values().any(|of| *of == repository) {
            self.held_back.remove(&repository);
            return false;
        }
        self.held_back.retain(|_, held| now_ms < held.asked_ms.saturating_add(2 * WAIT_MS));
        let new = HeldBack { since_ms: now_ms, asked_ms: now_ms };
        let held = self.held_back.entry(repository).or_insert(new);
        held.asked_ms = now_ms;
        now_ms < held.since_ms.saturating_add(WAIT_MS)
    }
}

/// Whether any of these is below `repository`, and not for too long.
fn holds_back<T: PartialEq>(
    mut moving: impl Iterator<Item = (T, u64)>,
    repository: &T,
    now_ms: u64,
) -> bool {
    moving.any(|(of, since_ms)| of == *repository && now_ms < since_ms.saturating_add(WAIT_MS))
}

fn is_git(name: &Name) -> bool {
    name.as_bytes() == b".git"
}

impl Engine {
    /// A file is on offer to the others.
    pub(super) fn goes_out(&mut self, id: LocalId) -> Result<(), Fatal> {
        if let Some(repository) = self.repository_of_row(id)? {
            self.transfers.together.going_out.insert(id, repository);
        }
        Ok(())
    }

    /// Whether a row is not to be proposed before a large file of the same repository.
    pub(super) fn waits_for_offer(&mut self, id: LocalId) -> Result<bool, Fatal> {
        let together = &self.transfers.together;
        let is_idle = together.going_out.is_empty() && together.held_back.is_empty();
        if is_idle || self.offers.contains_key(&id) {
            return Ok(false);
        }
        let Some(repository) = self.repository_of_row(id)? else { return Ok(false) };
        let now = self.now_ms;
        Ok(self.transfers.together.holds_out(repository, now))
    }

    /// Takes note of whether a file waits for its content.
    pub(super) fn comes_in(&mut self, id: FileId, waits: Option<&Why>) -> Result<(), Fatal> {
        if !matches!(waits, Some(Why::Content(_))) {
            self.transfers.together.coming_in.remove(&id);
        } else if !self.transfers.together.coming_in.contains_key(&id)
            && let Some(repository) = self.repository_of_file(id)?
        {
            self.transfers.together.coming_in.insert(id, (repository, self.now_ms));
        }
        Ok(())
    }

    /// Whether a file is not to be placed before a large one of the same repository.
    pub(super) fn waits_for_content(&mut self, id: FileId) -> Result<bool, Fatal> {
        let coming = &self.transfers.together.coming_in;
        if coming.is_empty() || coming.contains_key(&id) {
            return Ok(false);
        }
        let Some(repository) = self.repository_of_file(id)? else { return Ok(false) };
        let moving = self.transfers.together.coming_in.values().copied();
        Ok(holds_back(moving, &repository, self.now_ms))
    }

    /// The topmost `.git` above a row.
    fn repository_of_row(&mut self, id: LocalId) -> Result<Option<LocalId>, Fatal> {
        let (mut found, mut at) = (None, id);
        for _ in 0..DEPTH_MAX {
            let Some(row) = self.row(at)? else { break };
            if at != id && is_git(&row.name) {
                found = Some(at);
            }
            if at == LocalId::ROOT {
                break;
            }
            at = row.parent;
        }
        Ok(found)
    }

    /// The same in the log; of a file that the log has no more, where it stands on this disk.
    fn repository_of_file(&mut self, id: FileId) -> Result<Option<FileId>, Fatal> {
        let Some(record) = self.index.record(id)? else {
            let Some(row) = self.row_of(id)? else { return Ok(None) };
            let Some(repository) = self.repository_of_row(row)? else { return Ok(None) };
            return self.file_of(repository);
        };
        let (mut found, mut at) = (None, record.parent);
        for _ in 0..DEPTH_MAX {
            if at == FileId::ROOT {
                break;
            }
            let Some(record) = self.index.record(at)? else { break };
            if is_git(&record.name) {
                found = Some(at);
            }
            at = record.parent;
        }
        Ok(found)
    }
}
