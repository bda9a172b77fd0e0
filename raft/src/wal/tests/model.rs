//! What a log should say, kept in the simplest way.

use std::collections::BTreeMap;

use super::*;

/// What a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    hard_state: HardState,
    base: LogPosition,
    last: LogPosition,
    entries: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Shape {
    pub(super) fn empty() -> Self {
        let (base, last) = (position(0, 0), position(0, 0));
        Self { hard_state: HardState::default(), base, last, entries: BTreeMap::new() }
    }

    /// What a log on disk says, both to the core and to readers.
    pub(super) fn of(wal: &Wal<SimDisk>, restored: &Restored) -> Self {
        assert_eq!(wal.base(), restored.base());
        assert_eq!(wal.last(), restored.last());
        assert_eq!(wal.hard_state(), restored.hard_state());
        Self::of_wal(wal)
    }

    pub(super) fn of_wal(wal: &Wal<SimDisk>) -> Self {
        let entries = contents(wal).into_iter();
        Self {
            hard_state: wal.hard_state(),
            base: wal.base(),
            last: wal.last(),
            entries: entries.map(|(index, term, data)| (index, (term, data))).collect(),
        }
    }

    pub(super) fn last(&self) -> LogPosition {
        self.last
    }

    pub(super) fn base(&self) -> LogPosition {
        self.base
    }

    /// Whether it could be what another log said at an earlier time: no entry that is another there,
    /// or was never.
    pub(super) fn is_beginning_of(&self, later: &Self) -> bool {
        let common = self
            .entries
            .iter()
            .filter_map(|(index, entry)| later.entries.get(index).map(|other| (entry, other)));
        self.term() <= later.term()
            && self.last.index <= later.last.index
            && common.into_iter().all(|(entry, other)| entry == other || entry.0 < other.0)
    }

    pub(super) fn term(&self) -> u64 {
        self.hard_state.term.get()
    }

    pub(super) fn position_of(&self, index: u64) -> LogPosition {
        let term = self.entries.get(&index).map_or(self.base.term.get(), |(term, _)| *term);
        position(index, term)
    }

    fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(state) => self.hard_state = *state,
            LogOp::Append(entries) => {
                for entry in entries {
                    let value = (entry.term.get(), data(entry));
                    self.entries.insert(entry.index.get(), value);
                    self.last = LogPosition { index: entry.index, term: entry.term };
                }
            }
            LogOp::Truncate { from } => {
                self.entries.split_off(&from.get());
                self.last = self.position_of(from.get() - 1);
            }
            LogOp::Reset { at, .. } => {
                self.entries.clear();
                (self.base, self.last) = (*at, *at);
            }
            LogOp::Compact { through, .. } => {
                self.entries = self.entries.split_off(&(through.index.get() + 1));
                self.base = *through;
            }
        }
    }
}

/// What a log may say after a crash: what was acknowledged, and any beginning of what followed.
#[derive(Clone, Debug)]
pub(super) struct Model {
    acknowledged: Shape,
    attempted: Vec<Shape>,
}

impl Model {
    pub(super) fn new(shape: Shape) -> Self {
        Self { acknowledged: shape, attempted: Vec::new() }
    }

    pub(super) fn newest(&self) -> &Shape {
        self.attempted.last().unwrap_or(&self.acknowledged)
    }

    /// Operations were given to the log.
    pub(super) fn attempt(&mut self, ops: &[LogOp]) {
        for op in ops {
            let parts = match op {
                LogOp::Append(entries) => {
                    entries.iter().map(|entry| LogOp::Append(vec![entry.clone()])).collect()
                }
                other => vec![other.clone()],
            };
            for part in parts {
                let mut shape = self.newest().clone();
                shape.apply(&part);
                self.attempted.push(shape);
            }
        }
    }

    /// The log said that all of it is durable.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = self.newest().clone();
        self.attempted.clear();
    }

    /// The log was opened again and says this: from now on it must stay so.
    pub(super) fn found(&mut self, shape: Shape) {
        let allowed = shape == self.acknowledged || self.attempted.contains(&shape);
        assert!(allowed, "found {shape:#?}\nbut acknowledged was {:#?}", self.acknowledged);
        *self = Self::new(shape);
    }
}
