//! The breaker for mass deletions: whether deletions may be proposed, or have to be held for a
//! person to decide (trap T20).
//!
//! Pure. What is asked is whether there was a moment within the last ten minutes from which on too
//! many *and* too large a part of the files that the folder had *then* were deleted. So it does not
//! matter whether they went at once or one by one, and a program that makes and removes a file a
//! second is not stopped: what was not there at that moment is no loss of it.
//!
//! Not every moment is looked at but one a minute, each with two numbers: a bounded memory however
//! much is deleted.

use std::collections::VecDeque;
use std::fmt;

use crate::record::FileId;

/// How far back deletions count.
pub const WINDOW_MS: u64 = 10 * 60 * 1000;
/// How far apart the moments are that are looked at.
const MOMENT_EVERY_MS: u64 = 60 * 1000;

const _: () = assert!(MOMENT_EVERY_MS < WINDOW_MS);

/// When deletions are held: `--hold-deletes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldRule {
    /// Never.
    Off,
    /// When there are more of them than both of these.
    Above {
        /// So many files...
        files: u64,
        /// ...and so many of a hundred files that the folder had.
        percent: u64,
    },
}

impl Default for HoldRule {
    fn default() -> Self {
        Self::Above { files: 100, percent: 25 }
    }
}

impl fmt::Display for HoldRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Above { files, percent } => write!(f, "{files},{percent}"),
        }
    }
}

/// What to do with some deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Propose them.
    Pass,
    /// Ask a person first.
    Hold,
}

/// A moment, and what became since of the files that there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    at_ms: u64,
    /// How many files the folder had, by the log.
    files: u64,
    /// The newest change of the log: whatever has a lower id was there.
    newest: FileId,
    /// Files of these that were deleted since.
    deleted: u64,
}

/// How the folder is when deletions are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The time, in milliseconds since any moment.
    pub now_ms: u64,
    /// Files and symlinks that the log has, those among them whose deletion is weighed.
    pub files: u64,
    /// An id above all that the log has given out.
    pub newest: FileId,
}

/// What it remembers; see the module.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    moments: VecDeque<Moment>,
}

impl Breaker {
    /// Weighs the deletion of these files (no directories: they are lost with nothing), and
    /// remembers it whatever comes of it: what is held was deleted too. `gone` are their ids.
    pub fn weigh(&mut self, rule: HoldRule, scale: Scale, gone: &[FileId]) -> Verdict {
        let HoldRule::Above { files, percent } = rule else { return Verdict::Pass };
        let Scale { now_ms, files: there, newest } = scale;
        while self.moments.front().is_some_and(|moment| moment.at_ms + WINDOW_MS < now_ms) {
            self.moments.pop_front();
        }
        if self.moments.back().is_none_or(|last| last.at_ms + MOMENT_EVERY_MS <= now_ms) {
            self.moments.push_back(Moment { at_ms: now_ms, files: there, newest, deleted: 0 });
        }
        for moment in &mut self.moments {
            let old = gone.iter().filter(|id| **id < moment.newest).count();
            moment.deleted = moment.deleted.saturating_add(count(old));
        }
        let of_now = Moment { at_ms: now_ms, files: there, newest, deleted: count(gone.len()) };
        let too_many = |moment: &Moment| {
            moment.deleted > files
                && moment.deleted.saturating_mul(100) > moment.files.saturating_mul(percent)
        };
        let trips = self.moments.iter().chain([&of_now]).any(too_many);
        if trips { Verdict::Hold } else { Verdict::Pass }
    }

    /// A person has looked at what was deleted: it counts no more.
    pub fn forget(&mut self) {
        self.moments.clear();
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use pickbox_raft::core::ids::Index;
    use proptest::prelude::*;

    use super::*;

    fn id(index: u64) -> FileId {
        FileId { epoch: 0, index: Index::new(index), ordinal: 0 }
    }

    fn ids(range: std::ops::Range<u64>) -> Vec<FileId> {
        range.map(id).collect()
    }

    fn scale(now_ms: u64, files: u64, newest: u64) -> Scale {
        Scale { now_ms, files, newest: id(newest) }
    }

    /// Trap T20, fault 47: more than 100 and more than a quarter; neither alone.
    #[test]
    fn both_bounds_have_to_be_passed() {
        let rule = HoldRule::default();
        for (gone, files, verdict) in [
            (100, 100, Verdict::Pass),
            (101, 101, Verdict::Hold),
            (101, 403, Verdict::Hold),
            (101, 404, Verdict::Pass),
            (250, 1000, Verdict::Pass),
            (251, 1000, Verdict::Hold),
            (1000, 1000, Verdict::Hold),
        ] {
            let found = Breaker::default().weigh(rule, scale(5, files, 9999), &ids(0..gone));
            assert_eq!(found, verdict, "{gone} of {files}");
        }
        let all = Breaker::default().weigh(HoldRule::Off, scale(5, 1000, 9999), &ids(0..1000));
        assert_eq!(all, Verdict::Pass);
    }

    /// Trap T20: `rm` in a loop that takes its time is the same as one `rm`, for ten minutes.
    #[test]
    fn slow_deletions_add_up_for_ten_minutes() {
        let held_at = |pause_ms: u64| {
            let mut breaker = Breaker::default();
            (0..400).find(|n| {
                let scale = scale(n * pause_ms, 400 - n, 1000);
                breaker.weigh(HoldRule::default(), scale, &[id(*n)]) == Verdict::Hold
            })
        };
        assert_eq!(held_at(1), Some(100));
        assert_eq!(held_at(5_000), Some(100));
        // 100 in ten minutes, and not one more.
        assert_eq!(held_at(6_700), None);
    }

    /// A program that makes a file and removes it, for ever, in a folder that has few.
    #[test]
    fn files_that_come_and_go_do_not_trip_it() {
        let mut breaker = Breaker::default();
        for n in 0..5_000 {
            let scale = scale(n * 300, 10, 100 + n);
            assert_eq!(
                breaker.weigh(HoldRule::default(), scale, &[id(99 + n)]),
                Verdict::Pass,
                "{n}"
            );
        }
    }

    #[test]
    fn what_a_person_has_looked_at_counts_no_more() {
        let mut breaker = Breaker::default();
        let rule = HoldRule::default();
        assert_eq!(breaker.weigh(rule, scale(0, 200, 999), &ids(0..150)), Verdict::Hold);
        assert_eq!(breaker.weigh(rule, scale(9, 200, 999), &[id(170)]), Verdict::Hold);
        breaker.forget();
        assert_eq!(breaker.weigh(rule, scale(9, 200, 999), &[id(171)]), Verdict::Pass);
    }

    /// One weighing: after how long, how many of the oldest files, how many new ones before.
    fn steps() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
        prop::collection::vec((0..400_000_u64, 0..60_u64, 0..80_u64), 1..40)
    }

    proptest! {
        /// Against the plain reading of the rule, with every weighing of the window a moment:
        /// never held where that would not, and always where one batch alone is too much.
        #[test]
        fn it_holds_what_the_rule_says(steps in steps(), few in 0..50_u64, percent in 0..100_u64) {
            let rule = HoldRule::Above { files: few, percent };
            let mut breaker = Breaker::default();
            let (mut now_ms, mut oldest, mut next) = (0, 0, 100_u64);
            let mut past: Vec<(u64, u64, u64, Vec<u64>)> = Vec::new();
            for (pause, gone, made) in steps {
                now_ms += pause;
                next += made;
                let files = next - oldest;
                let batch: Vec<u64> = (oldest..(oldest + gone).min(next)).collect();
                oldest += count(batch.len());
                past.push((now_ms, files, next, batch.clone()));
                let gone: Vec<FileId> = batch.iter().copied().map(id).collect();
                let verdict = breaker.weigh(rule, scale(now_ms, files, next), &gone);
                let trips = |start: usize| {
                    let (_, files, newest, _) = past[start];
                    let lost = past[start..].iter().flat_map(|(.., batch)| batch);
                    let lost = count(lost.filter(|id| **id < newest).count());
                    lost > few && lost * 100 > files * percent
                };
                let in_window = |start: &usize| past[*start].0 + WINDOW_MS >= now_ms;
                let any = (0..past.len()).filter(in_window).any(trips);
                let alone = trips(past.len() - 1);
                prop_assert!(any || verdict == Verdict::Pass, "held {past:?}");
                prop_assert!(!alone || verdict == Verdict::Hold, "passed {past:?}");
            }
        }

        /// Whatever went before, so few deletions in a window pass.
        #[test]
        fn few_deletions_always_pass(pauses in prop::collection::vec(0..9_000_u64, 1..100)) {
            let mut breaker = Breaker::default();
            let mut now_ms = 0;
            for (n, pause) in pauses.into_iter().enumerate() {
                now_ms += pause;
                let verdict =
                    breaker.weigh(HoldRule::default(), scale(now_ms, 1, 999), &[id(count(n))]);
                prop_assert_eq!(verdict, Verdict::Pass);
            }
        }
    }
}
