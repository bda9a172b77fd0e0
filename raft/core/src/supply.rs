//! Handing committed entries to the room above, in bounded batches.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::event::{LogRead, NeedState, ReadPurpose};
use crate::ids::Index;
use crate::limits::MESSAGE_ENTRIES_MAX;
use crate::log::Entry;
use crate::machine::Core;

/// What was handed out, and what came back as applied.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Supply {
    /// Entries up to here were handed out.
    handed: Index,
    applied: Index,
    placed: Index,
    /// Batches not yet applied: the last index and the weight of each.
    batches: VecDeque<(Index, u64)>,
    bytes: u64,
    bytes_max: u64,
    /// Old entries are being read back.
    reading: bool,
    /// A whole state is needed; nothing is handed out until it is there.
    pub(crate) awaiting: Option<NeedState>,
    /// The position of the last installed state. Up to here the log is vouched for by that state,
    /// perhaps by a later leader than this node knows.
    pub(crate) installed: Index,
}

impl Supply {
    pub(crate) fn new(applied: Index, bytes_max: u64) -> Self {
        Self {
            handed: applied,
            applied,
            placed: Index::ZERO,
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            reading: false,
            awaiting: None,
            installed: applied,
        }
    }

    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn placed(&self) -> Index {
        self.placed
    }

    pub(crate) fn on_applied(&mut self, applied: Index, placed: Index) {
        self.applied = self.applied.max(applied.min(self.handed));
        self.placed = self.placed.max(placed);
        while let Some((_, bytes)) = self.batches.front().filter(|(at, _)| *at <= self.applied) {
            self.bytes -= *bytes;
            self.batches.pop_front();
        }
    }

    /// The room above now stands at `at`.
    pub(crate) fn on_installed(&mut self, at: Index) {
        *self =
            Self { placed: self.placed, reading: self.reading, ..Self::new(at, self.bytes_max) };
    }

    fn has_room(&self) -> bool {
        self.awaiting.is_none() && self.bytes < self.bytes_max
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.applied > self.handed {
            return Err("more was applied than handed out");
        }
        Ok(())
    }
}

impl Core {
    /// Hands out what is committed, durable here, and within the window. Durable here, so that the
    /// state above never runs ahead of the log on the same disk.
    pub(crate) fn hand_out(&mut self) {
        let limit = self.commit.min(self.journal.durable_index());
        while self.supply.has_room() {
            let from = self.supply.handed.next();
            let room = self.supply.bytes_max - self.supply.bytes;
            let Some(end) = self.log.fit(from, limit, room, MESSAGE_ENTRIES_MAX) else { return };
            match self.log.recent(from, end) {
                Some(entries) => self.hand_out_batch(entries),
                None if self.supply.reading => return,
                None => {
                    self.supply.reading = true;
                    let purpose = ReadPurpose::Apply;
                    self.out.log_reads.push(LogRead { purpose, from, through: end });
                    return;
                }
            }
        }
    }

    /// Entries came back from the log. What does not fit any more is forgotten and asked for anew.
    pub(crate) fn on_log_read(&mut self, purpose: ReadPurpose, entries: Vec<Arc<Entry>>) {
        let known = entries.iter().all(|entry| self.log.contains(entry.position()));
        match purpose {
            ReadPurpose::Peer(peer) => self.on_read_for_peer(peer, entries, known),
            ReadPurpose::Apply => {
                self.supply.reading = false;
                let first = entries.first().map(|entry| entry.index);
                if known && first == Some(self.supply.handed.next()) && self.supply.has_room() {
                    self.hand_out_batch(entries);
                }
            }
        }
    }

    fn hand_out_batch(&mut self, entries: Vec<Arc<Entry>>) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        let bytes: u64 = entries.iter().map(|entry| entry.bytes()).sum();
        assert!(last <= self.commit, "only committed entries are handed out");
        self.supply.handed = last;
        self.supply.bytes += bytes;
        self.supply.batches.push_back((last, bytes));
        self.out.committed.extend(entries);
    }
}
