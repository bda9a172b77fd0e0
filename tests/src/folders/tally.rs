//! What was drawn how often: a world in which something never happens tests nothing of it.

use std::collections::BTreeMap;

use super::people;

/// What befalls hosts, beside what users do there.
pub(super) const FAULTS: &[&str] = &[
    "a call refused",
    "a queue overflowed",
    "an end at some call",
    "a kill",
    "a power cut",
    "cut off from the log",
    "nothing happens for seconds",
    "the kernel writes back",
];

/// Everything that a run can count.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    people::KINDS.iter().chain(FAULTS).copied()
}

/// How often each kind of thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// It happened once.
    ///
    /// # Panics
    /// If it is none of [`kinds`].
    pub(super) fn note(&mut self, kind: &'static str) {
        self.note_times(kind, 1);
    }

    pub(super) fn note_times(&mut self, kind: &'static str, times: u64) {
        assert!(kinds().any(|known| known == kind), "'{kind}' is not listed");
        *self.0.entry(kind).or_default() += times;
    }

    /// Takes in what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (kind, times) in &other.0 {
            *self.0.entry(kind).or_default() += times;
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }
}
