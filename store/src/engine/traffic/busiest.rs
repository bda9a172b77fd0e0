//! Which paths cost the most: bytes that the log took for them, by the hour.
//!
//! A sketch of bounded size, "space saving" (Metwally, Agrawal, El Abbadi, 2005): a path that is
//! not among those counted takes the place of the least, and what that had is remembered as the
//! possible error. Whoever has more than its share of the bytes is certainly in it. The hour
//! slides: the one before counts by the part of it that is not yet sixty minutes ago.

use std::collections::HashMap;

use crate::name::RelPath;

/// Paths counted.
const PATHS_MAX: usize = 128;
/// Paths named.
const NAMED_MAX: usize = 5;
const HOUR_MS: u64 = 3_600_000;

/// Bytes of one path.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// In this hour, the error among them.
    now: u64,
    /// In the hour before.
    before: u64,
    /// What of each may belong to others.
    error_now: u64,
    error_before: u64,
}

impl Count {
    fn sum(&self) -> u64 {
        self.now.saturating_add(self.before)
    }
}

/// The busiest paths.
#[derive(Debug, Default)]
pub(in crate::engine) struct Busiest {
    hour: u64,
    counts: HashMap<RelPath, Count>,
}

impl Busiest {
    /// Counts bytes that were replicated for a path.
    pub(in crate::engine) fn add(&mut self, path: &RelPath, bytes: u64, now_ms: u64) {
        self.turn_to(now_ms / HOUR_MS);
        if let Some(count) = self.counts.get_mut(path) {
            count.now = count.now.saturating_add(bytes);
            return;
        }
        let mut count = Count::default();
        if self.counts.len() >= PATHS_MAX {
            let least = self.counts.iter().min_by_key(|(path, count)| (count.sum(), *path));
            if let Some((path, least)) = least.map(|(path, count)| (path.clone(), *count)) {
                self.counts.remove(&path);
                count = Count { error_now: least.now, error_before: least.before, ..least };
            }
        }
        count.now = count.now.saturating_add(bytes);
        self.counts.insert(path.clone(), count);
    }

    fn turn_to(&mut self, hour: u64) {
        match hour.saturating_sub(self.hour) {
            0 => return,
            1 => {
                for count in self.counts.values_mut() {
                    let Count { now, error_now, .. } = *count;
                    *count = Count { before: now, error_before: error_now, ..Count::default() };
                }
                self.counts.retain(|_, count| count.before > 0);
            }
            _ => self.counts.clear(),
        }
        self.hour = hour;
    }

    /// The paths with the most bytes in the last hour, the most first, each with at least how many.
    pub(in crate::engine) fn top(&mut self, now_ms: u64) -> Vec<(RelPath, u64)> {
        self.turn_to(now_ms / HOUR_MS);
        let left_ms = u128::from(HOUR_MS - now_ms % HOUR_MS);
        let mut all: Vec<(RelPath, u64)> = Vec::new();
        for (path, count) in &self.counts {
            let before = count.before.saturating_sub(count.error_before);
            let before = u128::from(before) * left_ms / u128::from(HOUR_MS);
            let now = count.now.saturating_sub(count.error_now);
            let bytes = now.saturating_add(u64::try_from(before).unwrap_or(u64::MAX));
            if bytes > 0 {
                all.push((path.clone(), bytes));
            }
        }
        all.sort_by(|(a, more), (b, less)| (less, a).cmp(&(more, b)));
        all.truncate(NAMED_MAX);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    #[test]
    fn the_five_with_the_most_bytes_are_named_among_very_many() {
        let mut busiest = Busiest::default();
        for round in 0..100u64 {
            for n in 0..100 {
                busiest.add(&rel(&format!("once{round}-{n}")), 10, round);
            }
            for n in 0..6u64 {
                busiest.add(&rel(&format!("busy{n}")), 1_000 + n, round);
            }
            assert!(busiest.counts.len() <= PATHS_MAX);
        }
        let top = busiest.top(100);
        let names: Vec<_> = top.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(names, ["busy5", "busy4", "busy3", "busy2", "busy1"]);
        // At least so many, and no more than there were.
        assert!((90_000..=100_500).contains(&top[0].1), "{top:?}");
    }

    #[test]
    fn an_hour_ago_is_forgotten() {
        let mut busiest = Busiest::default();
        busiest.add(&rel("f"), 1_000, 0);
        assert_eq!(busiest.top(HOUR_MS - 1), [(rel("f"), 1_000)]);
        assert_eq!(busiest.top(HOUR_MS + HOUR_MS / 4), [(rel("f"), 750)]);
        assert_eq!(busiest.top(2 * HOUR_MS), []);
        busiest.add(&rel("g"), 7, 5 * HOUR_MS);
        assert_eq!(busiest.top(5 * HOUR_MS), [(rel("g"), 7)]);
    }
}
