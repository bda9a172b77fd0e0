//! What deletions take away, as far as this node knows, and what becomes of them ([`crate::loss`],
//! [`crate::breaker`]; trap T20).
//!
//! Three kinds of deletions take nothing away and do not count:
//!
//! - of a file whose content another one holds that lives on: it was copied and removed;
//! - of an object or a ref of git that a pack or `packed-refs` holds now, while those are there;
//! - of a file of a work tree that git itself took away ([`super::git`]).
//!
//! What makes up for a deletion may come behind it: `rsync` deletes first, `git checkout` writes its index
//! last. So where deletions would be held, nothing is decided before this node has been quiet for
//! [`QUIET_MS`]: nobody's work stops for that, they would have waited for a person.

use std::collections::{BTreeMap, BTreeSet};

use pickbox_raft::core::ids::Index as LogIndex;

use super::outbox::wall_ms;
use super::root::Standing;
use super::{Engine, Fatal};
use crate::breaker::{Scale, Verdict};
use crate::content_id::ContentId;
use crate::loss::{self, Gone};
use crate::name::RelPath;
use crate::placed::LocalId;
use crate::record::{Body, FileId};

/// So long nothing is on its way to the log, before deletions are held.
const QUIET_MS: u64 = 1_000;
/// The longest that is waited for that, as for the watcher's word.
const DOUBT_MS_MAX: u64 = 10_000;
/// The longest that is waited for git to end what it is at.
const GIT_MS_MAX: u64 = 30_000;
/// Files with one content that are looked through for such as live on; the others count as gone.
const HEIRS_MAX: usize = 1_024;

/// Deletions that look like too many.
#[derive(Debug)]
pub(super) struct Doubt {
    since_ms: u64,
    /// When something was last on its way.
    busy_ms: u64,
    /// Work trees of git that they are from.
    work_trees: BTreeSet<RelPath>,
}

impl Engine {
    /// Lets the deletions go that may, and holds the others.
    pub(super) fn weigh_deletions(&mut self) -> Result<(), Fatal> {
        if !self.has_scanned()
            || !self.guard.is_due(self.now_ms)
            || self.standing == Standing::Gone
            || self.is_asking()
            || self.looks_like_too_many()
        {
            return Ok(());
        }
        let doubt = self.guard.doubt.take();
        let is_new = doubt.is_none();
        if let Some(doubt) = doubt {
            self.read_indexes_again(&doubt.work_trees);
        }
        self.recall_holds()?;
        let fresh = self.guard.fresh.clone();
        let gone = self.gone_files(&fresh)?;
        let heirs = self.heirs(&gone)?;
        let scale = self.scale();
        let mut breaker = self.guard.breaker.clone();
        let verdict = breaker.weigh(self.guard.rule, scale, &loss::lost(&gone, &heirs));
        if verdict == Verdict::Hold && is_new {
            let (now, work_trees) = (self.now_ms, self.work_trees_of_fresh()?);
            self.guard.doubt = Some(Doubt { since_ms: now, busy_ms: now, work_trees });
            return Ok(());
        }
        self.guard.breaker = breaker;
        self.guard.fresh.clear();
        self.guard.gone.clear();
        match verdict {
            Verdict::Pass => {
                for id in fresh {
                    self.guard.passed.insert(id);
                    self.outbox.insert(id);
                }
                Ok(())
            }
            Verdict::Hold => self.hold(fresh),
        }
    }

    /// What the former run held and nobody decided about counts in the window, from now on: what goes
    /// after a restart in the middle of an accident belongs to it.
    fn recall_holds(&mut self) -> Result<(), Fatal> {
        if self.guard.has_recalled {
            return Ok(());
        }
        let held = self.guard.recall(self.now_ms, wall_ms(&self.folder));
        let gone = self.gone_files(&held.into_iter().collect())?;
        let ids: Vec<FileId> = gone.iter().map(|gone| gone.id).collect();
        let scale = self.scale();
        // Held already: the verdict says nothing new.
        let _ = self.guard.breaker.weigh(self.guard.rule, scale, &ids);
        Ok(())
    }

    /// Whether deletions look like too many, and what makes up for them may be on its way.
    fn looks_like_too_many(&mut self) -> bool {
        let Some(mut doubt) = self.guard.doubt.take() else { return false };
        let (now, waited_ms) = (self.now_ms, self.now_ms.saturating_sub(doubt.since_ms));
        // What waits in the outbox only because of the deletions is nothing to wait for.
        let is_on_its_way = self.in_flight.is_some() || !self.offers.is_empty();
        let is_busy = is_on_its_way && waited_ms < DOUBT_MS_MAX
            || waited_ms < GIT_MS_MAX && self.is_git_at_work(&doubt.work_trees);
        if is_busy {
            doubt.busy_ms = now;
        }
        let is_quiet = now.saturating_sub(doubt.busy_ms) >= QUIET_MS;
        self.guard.doubt = Some(doubt);
        is_busy || !is_quiet
    }

    /// Files and symlinks among rows that vanished, but for those that git still has.
    fn gone_files(&mut self, rows: &BTreeSet<LocalId>) -> Result<Vec<Gone>, Fatal> {
        let kept = self.kept_by_git(rows)?;
        let mut gone = Vec::new();
        for id in rows.difference(&kept) {
            let Some(base) = self.row(*id)?.and_then(|row| row.base) else { continue };
            let content = match base.view.body {
                Body::Directory => continue,
                Body::File { content, .. } => Some(content),
                Body::Symlink { .. } => None,
            };
            gone.push(Gone { id: base.id, content });
        }
        Ok(gone)
    }

    /// How many files that live on hold what these held, as far as that is needed.
    fn heirs(&mut self, gone: &[Gone]) -> Result<BTreeMap<ContentId, usize>, Fatal> {
        let mut heirs = BTreeMap::new();
        for (content, count) in loss::by_content(gone) {
            let mut living = 0;
            for id in self.index.holders_of_content(content, HEIRS_MAX)? {
                if living == count {
                    break;
                }
                living += usize::from(self.lives_on(id, content)?);
            }
            heirs.insert(content, living);
        }
        Ok(heirs)
    }

    /// Whether a file of the log that holds a content goes on doing so, as far as this node can see: it
    /// stands here as the log has it, or has not come here yet.
    fn lives_on(&mut self, id: FileId, content: ContentId) -> Result<bool, Fatal> {
        let Some(local) = self.row_of(id)? else { return Ok(true) };
        let Some(row) = self.row(local)? else { return Ok(true) };
        Ok(row.seen.is_some() && row.content() == Some(content))
    }

    fn scale(&self) -> Scale {
        let counts = self.index.counts();
        let index = LogIndex::new(self.index.position().index.get().saturating_add(1));
        let epoch = u32::try_from(self.index.members().epoch.get()).unwrap_or(u32::MAX);
        let newest = FileId { epoch, index, ordinal: 0 };
        Scale { now_ms: self.now_ms, files: counts.files + counts.symlinks, newest }
    }
}
