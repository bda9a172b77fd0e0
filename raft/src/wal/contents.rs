//! What the log says up to its last record, kept in memory: twelve bytes an entry.

use std::collections::VecDeque;

use pickbox_raft_core::ids::{Index, LogPosition, Term};
use pickbox_raft_core::log::{Content, Entry, HardState};
use pickbox_raft_core::members::Members;

use super::record::{Cut, Mark};

/// Where an entry's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) payload_bytes: u32,
}

#[derive(Debug)]
pub(super) struct Contents {
    pub(super) hard_state: HardState,
    /// Entries up to here are gone.
    base: LogPosition,
    places: VecDeque<Place>,
    /// From which index on entries have which term: ascending in both.
    terms: VecDeque<LogPosition>,
    /// The members from which index on; the first one is as of `base` or before.
    members: VecDeque<(Index, Members)>,
}

impl Contents {
    /// A log that begins after a position.
    pub(super) fn new(hard_state: HardState, base: LogPosition, members: Members) -> Self {
        Self {
            hard_state,
            base,
            places: VecDeque::new(),
            terms: VecDeque::new(),
            members: VecDeque::from([(base.index, members)]),
        }
    }

    /// Entries up to here are gone.
    pub(super) fn base(&self) -> LogPosition {
        self.base
    }

    /// The position of the last entry, or the base.
    pub(super) fn last(&self) -> LogPosition {
        let length = u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        let index = Index::new(self.base.index.get() + length);
        let term = self.terms.back().map_or(self.base.term, |run| run.term);
        LogPosition { index, term }
    }

    /// The members as of the last entry.
    pub(super) fn members(&self) -> Members {
        self.members.back().map(|(_, members)| members.clone()).unwrap_or_default()
    }

    /// Whether this is the position of an entry of the log.
    pub(super) fn has(&self, position: LogPosition) -> bool {
        self.place(position.index).is_some() && self.position(position.index) == position
    }

    /// The position of this index, which the log has or begins after.
    pub(super) fn position(&self, index: Index) -> LogPosition {
        let run = self.terms.iter().rev().find(|run| run.index <= index);
        LogPosition { index, term: run.map_or(self.base.term, |run| run.term) }
    }

    /// Where an entry is, if it is in the log.
    pub(super) fn place(&self, index: Index) -> Option<Place> {
        let after_base = self.base.index.distance_to(index).checked_sub(1)?;
        self.places.get(usize::try_from(after_base).ok()?).copied()
    }

    /// Whether the next entry may be this one (Raft paper, 5.3: terms never fall along the log).
    pub(super) fn accepts(&self, index: Index, term: Term) -> bool {
        let last = self.last();
        index == last.index.next() && term >= last.term
    }

    pub(super) fn append(&mut self, entry: &Entry, place: Place) {
        assert!(self.accepts(entry.index, entry.term), "an entry follows the last one");
        if entry.term > self.last().term {
            self.terms.push_back(LogPosition { index: entry.index, term: entry.term });
        }
        if let Content::Members(members) = &entry.content {
            self.members.push_back((entry.index, members.clone()));
        }
        self.places.push_back(place);
    }

    /// What a truncation from this index on leaves.
    pub(super) fn cut(&self, from: Index) -> Cut {
        let last = self.position(from.previous());
        let before = self.members.iter().rev().find(|(at, _)| *at < from);
        let members = before.map(|(_, members)| members.clone()).unwrap_or_default();
        Cut { last, members }
    }

    pub(super) fn truncate(&mut self, from: Index) {
        assert!(from > self.base.index, "what was compacted is not truncated");
        let kept = usize::try_from(self.base.index.distance_to(from) - 1).unwrap_or(usize::MAX);
        self.places.truncate(kept);
        while self.terms.back().is_some_and(|run| run.index >= from) {
            self.terms.pop_back();
        }
        while self.members.len() > 1 && self.members.back().is_some_and(|(at, _)| *at >= from) {
            self.members.pop_back();
        }
    }

    pub(super) fn reset(&mut self, mark: &Mark) {
        *self = Self::new(self.hard_state, mark.at, mark.members.clone());
    }

    /// Forgets the entries up to a position; one that is not in the log changes nothing.
    pub(super) fn compact(&mut self, mark: &Mark) {
        let through = mark.at.index;
        if !self.has(mark.at) {
            return;
        }
        let gone = usize::try_from(self.base.index.distance_to(through)).unwrap_or(usize::MAX);
        self.places.drain(..gone.min(self.places.len()));
        while self.terms.front().is_some_and(|run| run.index <= through) {
            self.terms.pop_front();
        }
        while self.members.front().is_some_and(|(at, _)| *at <= through) {
            self.members.pop_front();
        }
        self.members.push_front((through, mark.members.clone()));
        self.base = mark.at;
    }
}
