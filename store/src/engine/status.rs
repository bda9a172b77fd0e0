//! How things are, in numbers.

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::Index as LogIndex;

use super::Engine;
use super::place::Why;
use super::ports::{Outgoing, StoreStatus};

/// Rows that may wait for a proposal before the watcher has to wait.
pub(super) const OUTBOX_MAX: usize = 16 * 1024;
/// Reasons shown for things that cannot be placed.
const REASONS_MAX: usize = 5;

impl Engine {
    /// The highest index whose changes all stand in the folder.
    fn placed_index(&self) -> LogIndex {
        let position = self.index.position().index;
        let waiting = !self.todo.is_empty() || !self.stuck.is_empty() || !self.is_live();
        if waiting { self.placed_floor.min(position) } else { position }
    }

    /// Tells the log how far this node is, when it moved.
    pub(super) fn report_progress(&mut self) {
        let applied = self.index.position().index;
        let placed = self.placed_index();
        self.placed_floor = placed;
        if self.reported != (applied, placed) {
            self.reported = (applied, placed);
            self.out.push_back(Outgoing::Log(Command::Progress { applied, placed }));
        }
    }

    fn undecided(&self) -> usize {
        let landing = self.in_flight.as_ref().map_or(0, |in_flight| in_flight.flights.len());
        let offered = self.offers.keys().filter(|id| !self.outbox.contains(**id)).count();
        self.outbox.len()
            + landing
            + offered
            + self.api_writes.len()
            + self.limbo.len()
            + self.looks.len()
            + self.quarantined_undecided()
            + usize::from(!self.has_scanned())
    }

    fn quarantined_undecided(&self) -> usize {
        self.quarantined.keys().filter(|id| !self.outbox.contains(**id)).count()
    }

    pub(super) fn store_status(&self) -> StoreStatus {
        let counts = self.index.counts();
        let blocked = self.stuck.values().filter(|why| matches!(why, Why::Blocked(_)));
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        StoreStatus {
            applied: self.index.position().index,
            placed: self.placed_index(),
            digest: self.index.digest().to_string(),
            records: counts.records(),
            conflicts: counts.conflicts,
            undecided: wide(self.undecided()),
            unplaced: wide(self.todo.len() + self.stuck.len()),
            blocked: wide(blocked.clone().count()),
            blocked_why: blocked
                .take(REASONS_MAX)
                .map(|why| match why {
                    Why::Blocked(error) => error.to_string(),
                    _ => String::new(),
                })
                .collect(),
            recovered: self.recovered,
            left_out: wide(self.left_out.len()),
            live: self.has_scanned(),
        }
    }
}
