//! Everything that is left to chance.

use pickbox_raft::disk::sim::Random as Numbers;

/// Numbers from a seed, in the shapes that the simulator needs.
#[derive(Clone, Debug)]
pub(crate) struct Random(Numbers);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Numbers::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Between the two, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }

    /// A place among so many; zero when there are none.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.0.below(count)).unwrap_or(0)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn per_mille(&mut self, chance: u64) -> bool {
        self.0.below(1000) < chance
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let count = u64::try_from(choices.len()).ok().filter(|count| *count > 0)?;
        choices.get(usize::try_from(self.0.below(count)).ok()?).copied()
    }
}
