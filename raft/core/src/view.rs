//! The log as the core sees it: the term and weight of every entry since compaction, the payloads
//! of the newest ones, and which members each part of it puts in force.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ids::{Index, LogPosition, Term};
use crate::limits::RECENT_BYTES_MAX;
use crate::log::{Content, Entry};
use crate::members::Members;

/// The log in memory. Four bytes an entry, plus the newest payloads within
/// [`RECENT_BYTES_MAX`].
#[derive(Clone, Debug, Hash)]
pub(crate) struct LogView {
    /// The position before the first entry.
    base: LogPosition,
    /// The members as of `base`.
    base_members: Members,
    /// The weight of each entry, from the one after `base`.
    weights: VecDeque<u32>,
    /// Where each term begins: the first entry after `base` and every one whose term differs from
    /// the term before it.
    terms: VecDeque<LogPosition>,
    /// The newest entries: a suffix of the log.
    recent: VecDeque<Arc<Entry>>,
    recent_bytes: u64,
    recent_bytes_max: u64,
    /// The members that each entry of that kind put in force, by its index.
    members: Vec<(Index, Members)>,
}

impl Default for LogView {
    fn default() -> Self {
        Self {
            base: LogPosition::default(),
            base_members: Members::default(),
            weights: VecDeque::new(),
            terms: VecDeque::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            recent_bytes_max: RECENT_BYTES_MAX,
            members: Vec::new(),
        }
    }
}

impl LogView {
    /// Bounds the payloads in memory.
    pub(crate) fn keep_recent(&mut self, bytes_max: u64) {
        self.recent_bytes_max = bytes_max;
        self.trim_recent();
    }

    pub(crate) fn base(&self) -> LogPosition {
        self.base
    }

    pub(crate) fn last(&self) -> LogPosition {
        let index = Index::new(self.base.index.get() + count(self.weights.len()));
        LogPosition { index, term: self.terms.back().map_or(self.base.term, |run| run.term) }
    }

    /// The members in force: those of the newest such entry, committed or not (thesis, 4.1).
    pub(crate) fn members(&self) -> &Members {
        self.members.last().map_or(&self.base_members, |(_, members)| members)
    }

    /// Where the members in force stand in the log; `base` for those of before.
    pub(crate) fn members_index(&self) -> Index {
        self.members.last().map_or(self.base.index, |(index, _)| *index)
    }

    /// The members in force at `index`.
    pub(crate) fn members_at(&self, index: Index) -> &Members {
        let known = self.members.iter().rev().find(|(at, _)| *at <= index);
        known.map_or(&self.base_members, |(_, members)| members)
    }

    /// The term of the entry at `index`, `base` included; `None` outside the log.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last().index {
            return None;
        }
        let runs = self.terms.partition_point(|run| run.index <= index);
        self.terms.get(runs.checked_sub(1)?).map(|run| run.term)
    }

    /// Whether this position is in the log, `base` included.
    pub(crate) fn contains(&self, at: LogPosition) -> bool {
        self.term_at(at.index) == Some(at.term)
    }

    /// The last position at or before `limit.index` whose term is not above `limit.term`; `base`
    /// when there is none. Both sides of a mismatch use it, so that one round trip skips one term
    /// (Raft paper, end of 5.3).
    pub(crate) fn last_not_above(&self, limit: LogPosition) -> LogPosition {
        let index = limit.index.min(self.last().index);
        let mut end = index;
        for run in self.terms.iter().rev().filter(|run| run.index <= index) {
            if run.term <= limit.term {
                return LogPosition { index: end, term: run.term };
            }
            end = run.index.previous();
        }
        self.base
    }

    /// Appends entries that follow the last one.
    pub(crate) fn append(&mut self, entries: &[Arc<Entry>]) {
        for entry in entries {
            let last = self.last();
            assert!(entry.index == last.index.next(), "entries are appended without gap");
            assert!(entry.term >= last.term, "terms never fall along the log");
            if entry.term != last.term || self.terms.is_empty() {
                self.terms.push_back(entry.position());
            }
            self.weights.push_back(u32::try_from(entry.bytes()).unwrap_or(u32::MAX));
            if let Content::Members(members) = &entry.content {
                self.members.push((entry.index, members.clone()));
            }
            self.recent.push_back(Arc::clone(entry));
            self.recent_bytes += entry.bytes();
        }
        self.trim_recent();
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.base.index, "a compacted entry cannot be truncated");
        let kept = usize::try_from(self.base.index.next().distance_to(from)).unwrap_or(usize::MAX);
        self.weights.truncate(kept);
        while self.terms.back().is_some_and(|run| run.index >= from) {
            self.terms.pop_back();
        }
        while self.members.last().is_some_and(|(index, _)| *index >= from) {
            self.members.pop();
        }
        while self.recent.back().is_some_and(|entry| entry.index >= from) {
            let dropped = self.recent.pop_back();
            self.recent_bytes -= dropped.map_or(0, |entry| entry.bytes());
        }
    }

    /// Drops everything: the log begins anew after `at`.
    pub(crate) fn reset(&mut self, at: LogPosition, members: Members) {
        let recent_bytes_max = self.recent_bytes_max;
        *self = Self { base: at, base_members: members, recent_bytes_max, ..Self::default() };
    }

    /// Forgets the entries up to `through`, which must be in the log.
    pub(crate) fn compact(&mut self, through: Index) {
        let Some(term) = self.term_at(through) else { return };
        let members = self.members_at(through).clone();
        let gone = usize::try_from(self.base.index.distance_to(through)).unwrap_or(usize::MAX);
        self.weights.drain(..gone.min(self.weights.len()));
        while self.terms.get(1).is_some_and(|next| next.index <= through.next()) {
            self.terms.pop_front();
        }
        if self.weights.is_empty() {
            self.terms.clear();
        } else if let Some(first) = self.terms.front_mut() {
            first.index = first.index.max(through.next());
        }
        self.members.retain(|(index, _)| *index > through);
        while self.recent.front().is_some_and(|entry| entry.index <= through) {
            let dropped = self.recent.pop_front();
            self.recent_bytes -= dropped.map_or(0, |entry| entry.bytes());
        }
        self.base = LogPosition { index: through, term };
        self.base_members = members;
    }

    /// The last index of the longest run of entries from `from` that weighs at most `bytes` and
    /// has at most `count` entries, but at least one; not beyond `through`. `None` when there is no
    /// entry at `from` or `from` is beyond `through`.
    pub(crate) fn fit(
        &self,
        from: Index,
        through: Index,
        bytes: u64,
        count: usize,
    ) -> Option<Index> {
        let skip = usize::try_from(self.base.index.next().distance_to(from)).ok()?;
        let through = through.min(self.last().index);
        if from <= self.base.index || from > through {
            return None;
        }
        let wanted = usize::try_from(from.distance_to(through)).unwrap_or(usize::MAX);
        let mut end = from;
        let mut total = u64::from(*self.weights.get(skip)?);
        let more = self.weights.range(skip + 1..);
        for weight in more.take(wanted.min(count.saturating_sub(1))) {
            total += u64::from(*weight);
            if total > bytes {
                break;
            }
            end = end.next();
        }
        Some(end)
    }

    /// What the entries from `from` to `through` weigh together.
    pub(crate) fn weight(&self, from: Index, through: Index) -> u64 {
        let first = self.base.index.next();
        let place = |index| {
            let place = usize::try_from(first.distance_to(index)).unwrap_or(usize::MAX);
            place.min(self.weights.len())
        };
        let (start, end) = (place(from), place(through.next()));
        self.weights.range(start..end.max(start)).map(|weight| u64::from(*weight)).sum()
    }

    /// The entries from `from` to `through`, if all their payloads are in memory.
    pub(crate) fn recent(&self, from: Index, through: Index) -> Option<Vec<Arc<Entry>>> {
        let first = self.recent.front()?.index;
        if from < first || through > self.last().index {
            return None;
        }
        let skip = usize::try_from(first.distance_to(from)).ok()?;
        let taken = usize::try_from(from.distance_to(through.next())).ok()?;
        let skip = skip.min(self.recent.len());
        Some(self.recent.range(skip..).take(taken).map(Arc::clone).collect())
    }

    fn trim_recent(&mut self) {
        while self.recent_bytes > self.recent_bytes_max && self.recent.len() > 1 {
            let dropped = self.recent.pop_front();
            self.recent_bytes -= dropped.map_or(0, |entry| entry.bytes());
        }
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
