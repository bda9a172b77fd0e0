//! How things are, in numbers.

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::Index as LogIndex;

use super::place::Why;
use super::ports::{Outgoing, StoreStatus};
use super::traffic::pace::Rate;
use super::{Engine, Fatal};
use crate::name::RelPath;
use crate::placed::LocalId;

/// Rows that may wait for a proposal before the watcher has to wait.
pub(super) const OUTBOX_MAX: usize = 16 * 1024;
/// Open things that STATUS names.
const NAMED_MAX: usize = 8;

impl Engine {
    /// The highest index whose changes all stand in the folder.
    pub(super) fn placed_index(&self) -> LogIndex {
        let position = self.index.position().index;
        let placed = match self.todo.since() {
            _ if !self.is_live() => self.todo.floor,
            // What that entry brought does not stand there; all before does.
            Some(since) => self.todo.floor.max(LogIndex::new(since.get().saturating_sub(1))),
            None => position,
        };
        placed.min(position)
    }

    /// Tells the log how far this node is, when it moved.
    pub(super) fn report_progress(&mut self) {
        let applied = self.index.position().index;
        let placed = self.placed_index();
        self.todo.floor = placed;
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
            + self.guard.fresh_count()
            + self.limbo.len()
            + self.looks.len()
            + self.quarantined_undecided()
            + usize::from(!self.has_scanned())
            + usize::from(self.misses_rules())
    }

    fn quarantined_undecided(&self) -> usize {
        self.quarantined.keys().filter(|id| !self.outbox.contains(**id)).count()
    }

    pub(super) fn store_status(&mut self) -> Result<StoreStatus, Fatal> {
        let (waiting, ignoring) = (self.waiting()?, self.ignore_lines()?);
        let counts = self.index.counts();
        let blocked = self.stuck.values().filter(|why| matches!(why, Why::Blocked(_)));
        let trouble = self.troubles().len();
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(StoreStatus {
            applied: self.index.position().index,
            placed: self.placed_index(),
            digest: self.index.digest().to_string(),
            records: counts.records(),
            conflicts: counts.conflicts,
            undecided: wide(self.undecided()),
            unplaced: wide(self.todo.len() + self.stuck.len() + trouble),
            blocked: wide(blocked.count() + trouble),
            waiting,
            recovered: self.recovered,
            left_out: wide(self.left_out.len()),
            ignoring,
            held: wide(self.guard.held_count() + self.strangers.len()),
            alarms: self.alarms()?,
            busiest: self.traffic.busiest.top(self.now_ms),
            live: self.has_scanned(),
        })
    }

    /// What people have to decide or mend.
    fn alarms(&mut self) -> Result<Vec<String>, Fatal> {
        let mut alarms: Vec<String> = self.root_trouble().into_iter().collect();
        alarms.extend(self.brought_trouble());
        alarms.extend(self.hold_alarms()?);
        Ok(alarms)
    }

    /// What hinders everything.
    fn troubles(&self) -> Vec<String> {
        [self.root_trouble(), self.digest_trouble(), self.space_trouble(), self.state_trouble()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Names some of what is open, what hinders it first.
    pub(super) fn waiting(&mut self) -> Result<Vec<String>, Fatal> {
        let mut lines = self.troubles();
        let stuck: Vec<_> =
            self.stuck.iter().take(NAMED_MAX).map(|(id, why)| (*id, why.clone())).collect();
        for (id, why) in stuck {
            let path = match (self.index.path_of(id)?, self.row_of(id)?) {
                (None, Some(local)) => self.shown_path(local)?,
                (path, _) => path.unwrap_or_default(),
            };
            lines.push(match why {
                Why::Content(content) => {
                    format!("{path}: {}", self.transfers.why_missing(content))
                }
                Why::Together => format!("{path}: a large file of the same repository goes first"),
                Why::Undecided => format!("{path}: a change made here goes first"),
                Why::Blocked(error) => format!("{path}: {error}"),
            });
        }
        let offered: Vec<_> = self.offers.keys().take(NAMED_MAX).copied().collect();
        for id in offered {
            lines.push(format!("{}: {}", self.shown_path(id)?, self.why_on_offer(id)));
        }
        let paced: Vec<_> = self.traffic.pace.waiting().take(NAMED_MAX).collect();
        for (id, Rate { burst, every_ms }) in paced {
            lines.push(format!(
                "{}: it changes all the time: after {burst} versions in a row one in {} s goes",
                self.shown_path(id)?,
                every_ms / 1_000
            ));
        }
        let rows = [
            (
                self.strangers.iter().take(NAMED_MAX).copied().collect(),
                "not the cluster's: see the alarm",
            ),
            (self.outbox.first(NAMED_MAX), "not proposed yet"),
            (self.flying.iter().take(NAMED_MAX).copied().collect(), "proposed, not committed yet"),
            (self.looks.keys().take(NAMED_MAX).copied().collect(), "being looked at again"),
            (self.guard.fresh().take(NAMED_MAX).collect(), "deleted, weighed with what else is"),
            (self.limbo.keys().take(NAMED_MAX).copied().collect(), "moved away, perhaps deleted"),
            (self.quarantined.keys().take(NAMED_MAX).copied().collect(), "displaced, perhaps open"),
        ];
        for (ids, what) in rows {
            for id in ids {
                let path = self.shown_path(id)?;
                lines.push(format!("{path}: {what}"));
            }
        }
        let left = self.left_out.iter().take(NAMED_MAX);
        lines.extend(left.map(|(path, why)| format!("{path}: left out, not replicated: {why}")));
        lines.truncate(NAMED_MAX);
        Ok(lines)
    }

    /// The path that people know a row by.
    pub(super) fn shown_path(&mut self, id: LocalId) -> Result<RelPath, Fatal> {
        let Some(row) = self.row(id)? else { return Ok(RelPath::root()) };
        match self.home_of(&row)? {
            Some(home) => {
                let directory = match home.parent {
                    Some(parent) => self.index.path_of(parent)?.unwrap_or_default(),
                    None => RelPath::root(),
                };
                Ok(directory.join(&home.name))
            }
            None => Ok(self.path_of_row(id)?.unwrap_or_default()),
        }
    }
}
