//! The simulator: a whole cluster in one thread, from one number.
//!
//! The real [`Core`](pickbox_raft_core::Core) and the real write-ahead log run on a simulated
//! network, disk and clock. One seed decides everything: the size of the cluster, how bad the
//! network and the disks are, when nodes die, what is proposed. So the same seed gives the same
//! run, told by the same hash, and a failure is found again by its seed:
//!
//! ```text
//! SIM_SEED=1234 cargo test -p pickbox-tests --profile sim --test sim
//! ```
//!
//! What must hold is checked after each step by `checker`; what goes wrong is decided by
//! `faults`. After the given number of steps all faults stop, and the cluster must come to rest
//! with every change applied everywhere.

mod checker;
mod faults;
mod machine;
mod network;
mod node;
mod random;
mod shadow;
mod world;

use std::fmt;

pub use faults::Faults;

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything else.
    pub seed: u64,
    /// Steps with faults, before the cluster must come to rest.
    pub steps: u64,
    /// Whether to keep the story of the last steps, for [`Failure::story`].
    pub story: Story,
}

/// Whether the run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// No: only the hash.
    Untold,
    /// The last steps in words: slow.
    Told,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Reads answered with an index.
    pub reads: u64,
    /// Nodes that died.
    pub crashes: u64,
    /// Members that joined and became voters.
    pub joins: u64,
    /// Whole states installed.
    pub installs: u64,
    /// Handovers of leadership asked for.
    pub transfers: u64,
    /// Old entries read back from the log.
    pub log_reads: u64,
    /// Nodes whose disk changed what it held, and that noticed.
    pub lost: u64,
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
