//! What a node's disk must hold, kept apart from the node: the judge of everything that the node
//! says to have stored.

use std::collections::VecDeque;

use pickbox_raft_core::Core;
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Index, LogPosition, Term};
use pickbox_raft_core::log::HardState;
use pickbox_raft_core::members::Members;

/// Term and vote, the terms of the log, and the members that it begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shadow {
    pub(crate) hard_state: HardState,
    base: LogPosition,
    /// As of `base`.
    members: Members,
    terms: VecDeque<Term>,
}

/// The smallest change that a crash can keep or lose.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    HardState(HardState),
    Entry(LogPosition),
    Truncate(Index),
    Reset(LogPosition, Members),
}

/// The changes that an operation consists of.
pub(crate) fn changes(op: &LogOp) -> Vec<Change> {
    match op {
        LogOp::HardState(state) => vec![Change::HardState(*state)],
        LogOp::Truncate { from } => vec![Change::Truncate(*from)],
        LogOp::Append(entries) => {
            entries.iter().map(|entry| Change::Entry(entry.position())).collect()
        }
        LogOp::Reset { at, members } => vec![Change::Reset(*at, members.clone())],
        // Frees space, nothing else.
        LogOp::Compact { .. } => Vec::new(),
    }
}

impl Shadow {
    /// Of a new log.
    pub(crate) fn new(members: Members) -> Self {
        Self { members, ..Self::default() }
    }

    pub(crate) fn take(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::HardState(state) => self.hard_state = *state,
            Change::Entry(at) if at.index == self.last().next() => self.terms.push_back(at.term),
            Change::Entry(at) => {
                return Err(format!("entry {} is written after {}", at.index, self.last()));
            }
            Change::Truncate(from) => {
                let kept = self.base.index.next().distance_to(*from);
                self.terms.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            }
            Change::Reset(at, members) => {
                self.base = *at;
                self.members.clone_from(members);
                self.terms.clear();
            }
        }
        Ok(())
    }

    pub(crate) fn last(&self) -> Index {
        let count = u64::try_from(self.terms.len()).unwrap_or(u64::MAX);
        Index::new(self.base.index.get() + count)
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let place = self.base.index.next().distance_to(index);
        let inside = index > self.base.index;
        self.terms.get(usize::try_from(place).ok()?).copied().filter(|_| inside)
    }

    /// Whether this (committed) entry is on the disk, or stands behind a state that is.
    pub(crate) fn holds(&self, at: LogPosition) -> bool {
        at.index < self.base.index || self.term_at(at.index) == Some(at.term)
    }

    /// What a node that has just started has: this, or this and a first part of `more`, which is
    /// told too. `None` when it is neither.
    pub(crate) fn find<'a>(
        &self,
        more: &'a [Change],
        core: &Core,
    ) -> Result<Option<(Self, &'a [Change])>, String> {
        let mut shadow = self.clone();
        for taken in 0..=more.len() {
            if shadow.equals(core) {
                return Ok(more.get(..taken).map(|found| (shadow, found)));
            }
            if let Some(change) = more.get(taken) {
                shadow.take(change)?;
            }
        }
        Ok(None)
    }

    /// Whether a node that has just started has what this says.
    pub(crate) fn equals(&self, core: &Core) -> bool {
        if self.hard_state != core.hard_state() || self.last() != core.last().index {
            return false;
        }
        let is_whole = core.base() == self.base;
        if is_whole && *core.members_at(self.base.index) != self.members {
            return false;
        }
        let mut index = self.base.index.max(core.base().index);
        while index < self.last() {
            index = index.next();
            if self.term_at(index) != core.term_at(index) {
                return false;
            }
        }
        true
    }
}
