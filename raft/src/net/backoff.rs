//! How long to wait before trying again, and how often to speak of it.

use std::time::{Duration, Instant};

/// The first wait for a peer that does not answer, before it is spread: at least half of it.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The same trouble is spoken of once in this time.
const QUIET: Duration = Duration::from_mins(10);

/// Waits that double up to a bound, each spread at random so that peers do not march in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    wait: Duration,
    state: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { wait: WAIT_MIN, state: seed | 1 }
    }

    /// The next wait: between half and the whole of the current step.
    pub(crate) fn next_wait(&mut self) -> Duration {
        // xorshift64 (Marsaglia, 2003)
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let half = self.wait / 2;
        let share = u32::try_from(self.state % 1_024).unwrap_or_default();
        self.wait = self.wait.saturating_mul(2).min(WAIT_MAX);
        half + half * share / 1_024
    }

    /// It worked: start small again.
    pub(crate) fn reset(&mut self) {
        self.wait = WAIT_MIN;
    }
}

/// Lets one of many equal complaints through.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Option<Instant>,
    held_back: u64,
}

impl Quiet {
    /// Whether to speak now; then how many times it was held back before.
    pub(crate) fn speak(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }

    /// Whether nothing is held back and the next complaint may be spoken of.
    fn is_over(&self, now: Instant) -> bool {
        let recent = |last| now.saturating_duration_since(last) < QUIET;
        self.held_back == 0 && !self.last.is_some_and(recent)
    }

    /// The trouble is over, the next one is new; whether there was any.
    pub(crate) fn reset(&mut self) -> bool {
        std::mem::take(self).last.is_some()
    }
}
/// As [`Quiet`], for each of several sources apart, so that a noisy one does not hide another.
#[derive(Debug)]
pub(crate) struct QuietBy<K> {
    sources: Vec<(K, Quiet)>,
    others: Quiet,
}

/// Sources that are told apart; others share one limit until one of these has been silent for long.
const SOURCES_MAX: usize = 64;

impl<K> Default for QuietBy<K> {
    fn default() -> Self {
        Self { sources: Vec::new(), others: Quiet::default() }
    }
}

impl<K: PartialEq> QuietBy<K> {
    /// Whether to speak of this source now; then how many times it was held back before.
    pub(crate) fn speak(&mut self, source: K, now: Instant) -> Option<u64> {
        if let Some((_, quiet)) = self.sources.iter_mut().find(|(known, _)| *known == source) {
            return quiet.speak(now);
        }
        if self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|(_, quiet)| !quiet.is_over(now));
        }
        if self.sources.len() >= SOURCES_MAX {
            return self.others.speak(now);
        }
        let mut quiet = Quiet::default();
        let spoken = quiet.speak(now);
        self.sources.push((source, quiet));
        spoken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// fault 64, 80: a flood of one kind makes one line, and does not hide another kind.
    #[test]
    fn one_noisy_source_does_not_hide_another() {
        let (mut quiet, now) = (QuietBy::default(), clock::now());
        assert_eq!(quiet.speak(1, now), Some(0));
        assert!((0..1_000).all(|_| quiet.speak(1, now).is_none()));
        assert_eq!(quiet.speak(2, now), Some(0));
        assert_eq!(quiet.speak(1, now + QUIET), Some(1_000));
        // Nor does a crowd of them, each a little noisy, fill the log.
        let spoken = (3..10_000).filter(|source| quiet.speak(*source, now).is_some()).count();
        assert_eq!(spoken, SOURCES_MAX - 2 + 1);
        assert!(quiet.sources.len() <= SOURCES_MAX);
        let later = now + 2 * QUIET;
        assert_eq!(
            quiet.speak(20_000, later),
            Some(0),
            "those that have long been silent make room"
        );
    }
}
