//! How fast one file may change (traps T26 and T9).
//!
//! Two programs on two hosts that rewrite one file whenever it arrives would do so for ever, as
//! fast as the log can. So what a node makes of a version of another node, or anew at a name, has a
//! budget for each path: the first of them in a row are free, then one goes in each interval, the newest that there is by
//! then. A node that goes on writing where it wrote last is not slowed down. A path that rests gets its budget back
//! at the same rate, so nobody who saves by hand ever waits. This is the node's own affair, before
//! it proposes: what is in the log is applied as ever, everywhere.
//!
//! The measure is the generic cell rate algorithm (ITU-T I.371): one number a path, the time at
//! which its budget is whole again.

use std::collections::{BTreeMap, HashMap};

use crate::name::RelPath;
use crate::placed::LocalId;

/// Paths whose budget is remembered; those that spent least are forgotten first.
const PATHS_MAX: usize = 4_096;

/// A budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Rate {
    /// Versions in a row that are free.
    pub(in crate::engine) burst: u64,
    /// Milliseconds between the others.
    pub(in crate::engine) every_ms: u64,
}

/// Of files in general: nobody saves by hand that often.
pub(in crate::engine) const FILES: Rate = Rate { burst: 32, every_ms: 1_000 };
/// Of the index of a git repository: `git status` rewrites it when it only looked, also on the host
/// where it has just arrived (trap T9).
pub(in crate::engine) const GIT_INDEX: Rate = Rate { burst: 8, every_ms: 5_000 };

/// Which budget a path has.
pub(in crate::engine) fn rate_of(path: &RelPath) -> Rate {
    let mut names = path.names().rev();
    let is_index = names.next().is_some_and(|name| name.as_bytes() == b"index");
    if is_index && names.any(|name| name.as_bytes() == b".git") { GIT_INDEX } else { FILES }
}

/// What the paths have spent.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pace {
    /// When the budget of a path is whole again, in milliseconds of the engine's clock.
    whole_ms: HashMap<RelPath, u64>,
    /// Rows that wait for their turn, since the last draft.
    waiting: BTreeMap<LocalId, Rate>,
}

impl Pace {
    /// Whether a path has to wait.
    fn is_spent(&self, path: &RelPath, now_ms: u64) -> bool {
        let Rate { burst, every_ms } = rate_of(path);
        let whole_ms = self.whole_ms.get(path).copied().unwrap_or_default();
        whole_ms > now_ms + (burst - 1) * every_ms
    }

    /// Whether a version at a path may go now. One that may not is noted as waiting.
    pub(in crate::engine) fn may_go(&mut self, id: LocalId, path: &RelPath, now_ms: u64) -> bool {
        if !self.is_spent(path, now_ms) {
            return true;
        }
        self.waiting.insert(id, rate_of(path));
        false
    }

    /// A version at a path went.
    pub(in crate::engine) fn went(&mut self, path: &RelPath, now_ms: u64) {
        let every_ms = rate_of(path).every_ms;
        if let Some(whole_ms) = self.whole_ms.get_mut(path) {
            *whole_ms = now_ms.max(*whole_ms) + every_ms;
            return;
        }
        if self.whole_ms.len() >= PATHS_MAX {
            self.forget(now_ms);
        }
        self.whole_ms.insert(path.clone(), now_ms + every_ms);
    }

    /// Forgets those that spent little, and if that is not enough, all: they begin anew.
    fn forget(&mut self, now_ms: u64) {
        self.whole_ms.retain(|path, whole_ms| *whole_ms > now_ms + 4 * rate_of(path).every_ms);
        if self.whole_ms.len() >= PATHS_MAX {
            self.whole_ms.clear();
        }
    }

    /// A new draft begins: who still has to wait will say so.
    pub(in crate::engine) fn begin(&mut self) {
        self.waiting.clear();
    }

    pub(in crate::engine) fn is_waiting(&self, id: LocalId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Rows that wait, with the budget that they overdrew.
    pub(in crate::engine) fn waiting(&self) -> impl Iterator<Item = (LocalId, Rate)> {
        self.waiting.iter().map(|(id, rate)| (*id, *rate))
    }

    pub(in crate::engine) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    /// How many versions go in `ms` if one wants to go in each millisecond.
    fn count(pace: &mut Pace, path: &str, from_ms: u64, ms: u64) -> u64 {
        let path = rel(path);
        let mut count = 0;
        for now in from_ms..from_ms + ms {
            if pace.may_go(LocalId::FIRST, &path, now) {
                pace.went(&path, now);
                count += 1;
            }
        }
        count
    }

    /// Trap T26: the first ones are free, then the rate is what it is, and rest restores.
    #[test]
    fn a_burst_is_free_and_the_rest_has_its_rate() {
        let mut pace = Pace::default();
        assert_eq!(count(&mut pace, "f", 0, 10), 10);
        assert_eq!(count(&mut pace, "f", 10, 990), 22);
        assert_eq!(count(&mut pace, "f", 1_000, 60_000), 60);
        assert_eq!(count(&mut pace, "g", 61_000, 10), 10, "another path has its own");
        assert_eq!(count(&mut pace, "f", 200_000, 10), 10, "whole again");
    }

    /// Trap T26: rest is not saved up; however long it was, the burst after it is the usual one.
    #[test]
    fn after_a_long_rest_the_burst_is_no_longer() {
        let mut pace = Pace::default();
        pace.went(&rel("f"), 0);
        assert_eq!(count(&mut pace, "f", 600_000, 990), 32);
        assert_eq!(count(&mut pace, "f", 600_990, 60_000), 60);
    }

    #[test]
    fn who_saves_once_a_second_never_waits() {
        let mut pace = Pace::default();
        for now in (0..10_000_000).step_by(1_000) {
            assert!(pace.may_go(LocalId::FIRST, &rel("f"), now));
            pace.went(&rel("f"), now);
        }
    }

    /// Trap T9.
    #[test]
    fn an_index_of_git_has_a_smaller_budget() {
        assert_eq!(rate_of(&rel("r/.git/index")), GIT_INDEX);
        assert_eq!(rate_of(&rel(".git/worktrees/w/index")), GIT_INDEX);
        assert_eq!(rate_of(&rel("index")), FILES);
        assert_eq!(rate_of(&rel(".git/HEAD")), FILES);
        assert_eq!(count(&mut Pace::default(), ".git/index", 0, 60_000), 8 + 11);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_busy_are_kept() {
        let mut pace = Pace::default();
        count(&mut pace, "busy", 0, 10);
        for n in 0..3 * PATHS_MAX {
            pace.went(&rel(&format!("f{n}")), 10);
            assert!(pace.whole_ms.len() <= PATHS_MAX);
        }
        assert_eq!(count(&mut pace, "busy", 20, 200), 22);
    }
}
