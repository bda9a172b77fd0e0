//! The simulated folder: whole stores and watchers, from one number.
//!
//! Each node has the real engine of `store` (with its index, journal, staging, quarantine and history)
//! and the real watcher, over a file system in memory
//! ([`FileSystem`](pickbox_store::folder::simulated::FileSystem)) with its own clock and inotify. The log
//! is one list that every node gets in order. One seed decides everything: what users do between any
//! two calls of the daemon, which step of which machinery comes next, when a node is killed or loses its
//! power, at which call. The same seed gives the same run.
//!
//! During the run no content may be committed that no program ever finished writing. At rest all trees
//! and digests are equal, nothing is pending, and every content that a user wrote and closed is in
//! some folder or history, unless a user who had it before him overwrote or deleted it.

mod host;
mod people;
mod rest;
mod tally;
mod world;

use std::fmt;

pub use tally::{Tally, kinds};

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything else.
    pub seed: u64,
    /// Steps with users and faults, before the nodes must come to rest.
    pub steps: u64,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of all that happened, in order.
    pub hash: u64,
    /// Calls of daemons on their file systems.
    pub calls: u64,
    /// What users did.
    pub deeds: u64,
    /// Of that, in the middle of a step of a daemon.
    pub in_between: u64,
    /// Entries of the log.
    pub entries: u64,
    /// What happened how often, by kind.
    pub tally: Tally,
    /// Conflict copies at the end.
    pub conflicts: u64,
    /// What happened, if the run failed or was asked for.
    pub story: Vec<String>,
}

/// A run that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Say it again with this.
    pub seed: u64,
    /// What does not hold.
    pub reason: String,
    /// The steps.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        write!(f, "FOLDER_SEED={} fails: {}", self.seed, self.reason)
    }
}

impl std::error::Error for Failure {}

/// Runs one seed.
///
/// # Errors
/// When something that must hold does not.
pub fn run(options: Options) -> Result<Report, Failure> {
    world::World::live(options)
}
