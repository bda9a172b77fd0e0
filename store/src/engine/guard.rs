//! Deletions of this disk before they are proposed: gathered, weighed together, held if there are
//! too many (trap T20). The decision is [`crate::breaker`]'s.
//!
//! Local to the node where the files vanished: the log, and what is applied, know nothing of it.
//! A row that vanished is in one of these states:
//!
//! - *fresh*: not weighed ([`super::weigh`]). The watcher says when it has told all that it knows of
//!   ([`Sighting::Calm`](crate::observation::Sighting::Calm)); so a lone deletion waits for nothing
//!   more than that. None is weighed while the folder is being walked: what is missing here may
//!   turn up there, as the same inode.
//! - *passed*: in the outbox like any change.
//! - *held*, in its row too, so that it outlives the process: nothing is proposed before a person
//!   approves. If it is there again, or was edited elsewhere, or deleted there too, it is held no
//!   more: every other outcome of the comparison takes it out.
//! - *approved*, in its row too: passes whatever goes with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::outbox::wall_ms;
use super::ports::{Answer, HoldChoice, HoldLine, Named};
use super::weigh::Doubt;
use super::{Engine, Fatal};
use crate::breaker::{Breaker, HoldRule, WINDOW_MS};
use crate::folder::{Kind, Stat};
use crate::placed::{Hold, HoldNote, LocalId, Placed};
use crate::record::Body;
use crate::time::Time;

/// The longest that deletions wait for the watcher to say that there are no more.
const GATHER_MS_MAX: u64 = 10_000;
/// Inodes of fresh deletions that are remembered; of more, one that was moved counts as deleted
/// and made anew.
const GONE_MAX: usize = 262_144;
/// Paths that are named of a hold.
const PATHS_MAX: usize = 5;

/// All vanished rows that are not settled, by their state.
#[derive(Debug, Default)]
pub(super) struct Guard {
    pub(super) rule: HoldRule,
    pub(super) breaker: Breaker,
    pub(super) fresh: BTreeSet<LocalId>,
    /// Since when there is a fresh one.
    fresh_ms: u64,
    /// The watcher is in the middle of telling what is gone.
    gathering: bool,
    /// The folder is being walked.
    walking: bool,
    /// Since when they look like too many, while what was seen elsewhere is not in the log yet.
    pub(super) doubt: Option<Doubt>,
    /// Inodes of fresh ones, with the time of their birth.
    pub(super) gone: HashMap<u64, (LocalId, Time)>,
    pub(super) passed: BTreeSet<LocalId>,
    holds: BTreeMap<u32, Held>,
    /// The hold that more deletions belong to, and until when.
    newest: Option<(HoldNote, u64)>,
    /// Whether the holds of the former run count in the window.
    pub(super) has_recalled: bool,
}

/// One hold.
#[derive(Debug, Default)]
struct Held {
    since_ms: u64,
    rows: BTreeSet<LocalId>,
}

impl Guard {
    pub(super) fn by(rule: HoldRule) -> Self {
        Self { rule, ..Self::default() }
    }

    /// A row is no deletion any more, or none that is known.
    pub(super) fn forget(&mut self, id: LocalId) {
        self.fresh.remove(&id);
        self.passed.remove(&id);
        if self.holds.is_empty() {
            return;
        }
        self.holds.retain(|_, held| {
            held.rows.remove(&id);
            !held.rows.is_empty()
        });
    }

    /// Whether the deletion of a row is held.
    pub(super) fn is_held(&self, id: LocalId) -> bool {
        self.holds.values().any(|held| held.rows.contains(&id))
    }

    /// Whether the deletion of a row is not weighed yet, or held.
    pub(super) fn waits(&self, id: LocalId) -> bool {
        self.is_fresh(id) || self.is_held(id)
    }

    /// The watcher tells of something that is gone, and of more behind it.
    pub(super) fn gather(&mut self) {
        self.gathering = true;
    }

    /// The watcher has told all that it knows of.
    pub(super) fn calm(&mut self) {
        self.gathering = false;
    }

    pub(super) fn walk_started(&mut self) {
        self.walking = true;
    }

    pub(super) fn walk_done(&mut self) {
        self.walking = false;
    }

    /// Vanished rows whose deletion is not weighed.
    pub(super) fn fresh_count(&self) -> usize {
        self.fresh.len()
    }

    /// They, in no order that means anything.
    pub(super) fn fresh(&self) -> impl Iterator<Item = LocalId> + '_ {
        self.fresh.iter().copied()
    }

    /// Whether the deletion of a row is not weighed yet.
    pub(super) fn is_fresh(&self, id: LocalId) -> bool {
        self.fresh.contains(&id)
    }

    /// Vanished rows that are held.
    pub(super) fn held_count(&self) -> usize {
        self.holds.values().map(|held| held.rows.len()).sum()
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        let waited = now_ms.saturating_sub(self.fresh_ms) >= GATHER_MS_MAX;
        !self.fresh.is_empty() && !self.walking && (!self.gathering || waited)
    }

    fn add_fresh(&mut self, id: LocalId, now_ms: u64) {
        if self.fresh.is_empty() {
            self.fresh_ms = now_ms;
            self.doubt = None;
        }
        self.fresh.insert(id);
    }

    fn add_held(&mut self, id: LocalId, note: HoldNote) {
        let held = self.holds.entry(note.number).or_default();
        held.since_ms = note.since_ms;
        held.rows.insert(id);
    }

    /// The rows of holds that are younger than the window, by the wall clock; more deletions belong to
    /// the newest of them.
    pub(super) fn recall(&mut self, now_ms: u64, wall_ms: u64) -> Vec<LocalId> {
        self.has_recalled = true;
        let age_ms = |held: &Held| wall_ms.saturating_sub(held.since_ms);
        let young: Vec<_> =
            self.holds.iter().filter(|(_, held)| age_ms(held) < WINDOW_MS).collect();
        if let Some((number, held)) = young.last() {
            let note = HoldNote { number: **number, since_ms: held.since_ms };
            self.newest = Some((note, now_ms + WINDOW_MS - age_ms(held)));
        }
        young.iter().flat_map(|(_, held)| held.rows.iter().copied()).collect()
    }

    /// The hold for deletions that are held now: that of what went shortly before, or a new one.
    fn hold_for(&mut self, now_ms: u64, wall_ms: u64) -> HoldNote {
        let open = self
            .newest
            .filter(|(note, until)| *until >= now_ms && self.holds.contains_key(&note.number));
        // Never one that was decided: who answers late must not decide about another hold.
        let former = self.newest.map_or(0, |(note, _)| note.number);
        let last = self.holds.last_key_value().map_or(0, |(number, _)| *number).max(former);
        let number = last.saturating_add(1);
        let (note, _) = open.unwrap_or((HoldNote { number, since_ms: wall_ms }, 0));
        self.newest = Some((note, now_ms + WINDOW_MS));
        note
    }
}

impl Engine {
    /// What the comparison calls a deletion: where it goes from here.
    pub(super) fn vanished_for_good(&mut self, id: LocalId, row: &Placed) {
        match row.hold {
            Some(Hold::Approved) => self.outbox.insert(id),
            Some(Hold::Held(note)) => self.guard.add_held(id, note),
            None if self.guard.passed.contains(&id) => self.outbox.insert(id),
            None => self.guard.add_fresh(id, self.now_ms),
        }
    }

    /// Whether this took the place of a directory, and the deletion of what that held is not weighed
    /// yet: it goes first, since the log keeps a directory that holds something (trap T13).
    pub(super) fn waits_for_those_below(
        &mut self,
        id: LocalId,
        row: &Placed,
    ) -> Result<bool, Fatal> {
        let was_directory = row.base.as_ref().is_some_and(|base| base.view.body == Body::Directory);
        let is_one = row.seen.as_ref().is_some_and(|seen| seen.stat.kind == Kind::Directory);
        if !was_directory || is_one || self.guard.fresh.is_empty() {
            return Ok(false);
        }
        let mut after = None;
        loop {
            let page = self.tables()?.children(id, after.as_ref(), 1024)?;
            let Some((last, _)) = page.last() else { return Ok(false) };
            after = Some(last.clone());
            if page.iter().any(|(_, below)| self.guard.is_fresh(*below)) {
                return Ok(true);
            }
        }
    }

    /// Remembers what inode a row had that vanished: it may turn up elsewhere.
    pub(super) fn remember_gone(&mut self, id: LocalId, stat: &Stat) {
        if stat.btime != Time::default() && self.guard.gone.len() < GONE_MAX {
            self.guard.gone.insert(stat.ino, (id, stat.btime));
        }
    }

    /// The row that vanished and whose inode is this one: it was moved.
    pub(super) fn gone_as(&mut self, stat: &Stat) -> Result<Option<(LocalId, Placed)>, Fatal> {
        let Some((id, btime)) = self.guard.gone.get(&stat.ino).copied() else { return Ok(None) };
        if btime != stat.btime || !self.guard.fresh.contains(&id) {
            return Ok(None);
        }
        Ok(self
            .row(id)?
            .filter(|row| row.seen.is_none() && is_kind(row, stat))
            .map(|row| (id, row)))
    }

    /// Holds deletions, and with them those that passed before and are not yet on their way.
    pub(super) fn hold(&mut self, mut rows: BTreeSet<LocalId>) -> Result<(), Fatal> {
        rows.extend(std::mem::take(&mut self.guard.passed));
        // What is on its way and comes back is weighed again.
        rows.retain(|id| !self.is_in_flight(*id));
        let note = self.guard.hold_for(self.now_ms, wall_ms(&self.folder));
        for id in rows {
            self.outbox.remove(id);
            let Some(mut row) = self.row(id)? else { continue };
            row.hold = Some(Hold::Held(note));
            self.set_row(id, Some(&row))?;
            self.guard.add_held(id, note);
        }
        let rows = self.guard.holds.get(&note.number).map_or(0, |held| held.rows.len());
        log::error!("event=deletions_held hold={} count={rows}", self.hold_name(note.number));
        Ok(())
    }

    /// What holds the deletion of a row, if it is held.
    pub(super) fn hold_of(&self, id: LocalId) -> Option<String> {
        let mut holds = self.guard.holds.iter();
        let (number, _) = holds.find(|(_, held)| held.rows.contains(&id))?;
        Some(self.hold_name(*number))
    }

    /// What people call a hold: unique in the cluster, and it says where to ask.
    fn hold_name(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    /// All holds, the oldest first.
    pub(super) fn holds(&mut self) -> Result<Vec<HoldLine>, Fatal> {
        let numbers: Vec<u32> = self.guard.holds.keys().copied().collect();
        let mut lines = Vec::new();
        for number in numbers {
            let Some(held) = self.guard.holds.get(&number) else { continue };
            let (since_ms, rows) = (held.since_ms, held.rows.clone());
            let (mut files, mut directories, mut paths) = (0, 0, Vec::new());
            for id in &rows {
                let Some(row) = self.row(*id)? else { continue };
                if row.base.as_ref().is_some_and(|base| base.view.body == Body::Directory) {
                    directories += 1;
                    continue;
                }
                files += 1;
                if paths.len() < PATHS_MAX {
                    paths.extend(self.path_of_row(*id)?);
                }
            }
            let id = self.hold_name(number);
            let node = self.name.clone();
            lines.push(HoldLine { id, node, since_ms, files, directories, paths });
        }
        Ok(lines)
    }

    /// How many deletions are held, and some by their paths: for whoever flushes.
    pub(super) fn held_by_name(&mut self, most: usize) -> Result<Named, Fatal> {
        let rows = self.guard.holds.values().flat_map(|held| &held.rows).copied();
        let some: Vec<LocalId> = rows.take(most).collect();
        let mut held = Named { count: self.guard.held_count(), paths: Vec::new() };
        for id in some {
            held.paths.extend(self.path_of_row(id)?);
        }
        Ok(held)
    }

    /// For STATUS: what has to be decided, and how.
    pub(super) fn hold_alarms(&mut self) -> Result<Vec<String>, Fatal> {
        Ok(self.holds()?.iter().map(alarm).collect())
    }

    /// A person says that held deletions are meant: they are proposed.
    pub(super) fn approve(&mut self, choice: &HoldChoice) -> Result<Answer, Fatal> {
        let rows = match self.chosen(choice) {
            Ok(rows) => rows,
            Err(why) => return Ok(Answer::NoHold(why)),
        };
        let count = rows.len();
        for id in rows {
            self.guard.forget(id);
            let Some(mut row) = self.row(id)? else { continue };
            row.hold = Some(Hold::Approved);
            self.set_row(id, Some(&row))?;
            self.settle(id)?;
        }
        self.guard.breaker.forget();
        log::warn!("event=deletions_approved count={count}");
        Ok(Answer::Decided { count })
    }

    /// A person says that held deletions are not meant: what the log has is placed again.
    pub(super) fn reject(&mut self, choice: &HoldChoice) -> Result<Answer, Fatal> {
        let rows = match self.chosen(choice) {
            Ok(rows) => rows,
            Err(why) => return Ok(Answer::NoHold(why)),
        };
        let count = rows.len();
        let mut deepest_first = Vec::with_capacity(count);
        for id in rows {
            self.guard.forget(id);
            if let Some(row) = self.row(id)? {
                deepest_first.push((std::cmp::Reverse(self.depth(&row)?), id));
            }
        }
        deepest_first.sort_unstable();
        for (_, id) in deepest_first {
            // A thing of the log that has no row is placed as a new one.
            self.set_row(id, None)?;
        }
        self.guard.breaker.forget();
        log::warn!("event=deletions_rejected count={count}");
        Ok(Answer::Decided { count })
    }

    fn chosen(&self, choice: &HoldChoice) -> Result<BTreeSet<LocalId>, String> {
        let holds = &self.guard.holds;
        match choice {
            HoldChoice::All if holds.is_empty() => Err(format!(
                "nothing is held on {}: deletions are held by the node on which they were made, ask that one",
                self.name
            )),
            HoldChoice::All => Ok(holds.values().flat_map(|held| &held.rows).copied().collect()),
            HoldChoice::One(id) => {
                let (node, number) = id.rsplit_once('-').unwrap_or((self.name.as_str(), id));
                if node != self.name {
                    return Err(format!(
                        "{id} is held on {node}, this is {}: ask that one",
                        self.name
                    ));
                }
                let held = number.parse().ok().and_then(|number: u32| holds.get(&number));
                held.map(|held| held.rows.clone()).ok_or_else(|| {
                    format!(
                        "no deletions are held as {id} on {}: HELD lists those that are",
                        self.name
                    )
                })
            }
        }
    }
}

/// Whether a vanished row and an inode are things of one kind.
fn is_kind(row: &Placed, stat: &Stat) -> bool {
    let Some(base) = &row.base else { return false };
    match base.view.body {
        Body::Directory => stat.kind == Kind::Directory,
        Body::File { .. } => stat.kind == Kind::File,
        Body::Symlink { .. } => stat.kind == Kind::Symlink,
    }
}

/// No name of a file is in it: STATUS is for more people than the folder.
fn alarm(line: &HoldLine) -> String {
    let HoldLine { id, node, files, directories, .. } = line;
    format!(
        "deletions are held: {files} files and {directories} directories went on {node} within ten minutes \
         (pickbox held tells which). If that was meant: pickbox approve {id}; if not, they come back by: \
         pickbox reject {id}"
    )
}
