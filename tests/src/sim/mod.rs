//! The simulator: a whole cluster in one thread, from one number.
//!
//! The real [`Core`](pickbox_raft_core::Core) and the real write-ahead log run on a simulated
//! network, disk and clock. One seed decides everything: the size of the cluster, how bad the
//! network and the disks are, when nodes die, what is proposed. So the same seed gives the same
//! run, told by the same hash, and a failure is found again by its seed:
//!
//! ```text
//! make sim SEED=1234
//! ```
//!
//! What must hold is checked after each step by `checker`; what goes wrong is drawn by `faults` and
//! done by `evil`; what people do is in `people` and `wishes`. After the given number of steps all faults stop.
//! Then something new must be accepted within twenty election timeouts, and the cluster must come
//! to rest with every change applied once everywhere.

mod checker;
mod clock;
mod evil;
mod faults;
mod machine;
mod network;
mod node;
mod people;
mod random;
mod shadow;
mod wishes;
mod world;

use std::fmt;

pub use faults::{Deed, Tally};
pub(crate) use machine::fold;
pub(crate) use random::Random;

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything else.
    pub seed: u64,
    /// Steps with faults, before the cluster must come to rest.
    pub steps: u64,
    /// How much of the story to keep, for [`Failure::story`] and [`Report::story`].
    pub story: Story,
}

/// How much of a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Nothing: only the hash.
    Untold,
    /// The last steps in words: slow.
    Last,
    /// Every step.
    All,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of all that happened, in order.
    pub hash: u64,
    /// Steps in all, the quiet ones at the end included.
    pub steps: u64,
    /// Entries committed.
    pub committed: u64,
    /// Proposals that took effect.
    pub accepted: u64,
    /// Elections won.
    pub elections: u64,
    /// Nodes that died.
    pub crashes: u64,
    /// Old entries read back from the log.
    pub log_reads: u64,
    /// Nodes that lost what they had, and stayed away.
    pub lost: u64,
    /// How long it took after all faults ended until something new was accepted.
    pub accept_us: u64,
    /// What happened how often.
    pub tally: Tally,
    /// All steps, if they were told.
    pub story: Vec<String>,
}

/// A run that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Say it again with this.
    pub seed: u64,
    /// At which step.
    pub step: u64,
    /// What does not hold.
    pub reason: String,
    /// The last steps, if they were told.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        write!(f, "SIM_SEED={} fails at step {}: {}", self.seed, self.step, self.reason)
    }
}

impl std::error::Error for Failure {}

/// Runs one seed.
///
/// # Errors
/// When something that must hold does not.
pub fn run(options: Options) -> Result<Report, Failure> {
    world::World::new(options).run()
}
