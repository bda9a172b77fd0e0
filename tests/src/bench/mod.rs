//! Measuring: what the cluster does, beside what the same disk and processor can do at best.
//!
//! A floor is measured by plain system calls in the same run, right before the thing itself; the
//! ratio to it says more than milliseconds of one machine. A floor knows nothing of finding a
//! change, of elections, of conflicts: nobody reaches it.
//!
//! | figure | begins | ends |
//! |---|---|---|
//! | latency | before a 1 KiB file is opened for writing, at most 5 a second | both others hold its bytes |
//! | burst | before the first of 10,000 files of 4 KiB is made | all names with full size on all nodes |
//! | large file | before `cp` of 1 GiB begins | both others have its full size |
//!
//! After each the folders are compared byte for byte, outside the timing.

mod figures;
mod floor;
mod work;

use std::fs;
use std::path::Path;

use crate::cluster::{Cluster, Place, env_number};
pub use figures::{Row, table};

/// What is measured how often, from the environment.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Edits of the latency run (`OPS`).
    pub edit_count: usize,
    /// Files of the burst (`FILES`).
    pub file_count: usize,
    /// Size of the large file in MiB (`BIG_MIB`).
    pub large_mib: usize,
    /// Seconds of idleness (`IDLE_S`).
    pub idle_s: usize,
}

impl Plan {
    /// Reads the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        Self {
            edit_count: env_number("OPS", 150),
            file_count: env_number("FILES", 10_000),
            large_mib: env_number("BIG_MIB", 1024),
            idle_s: env_number("IDLE_S", 20),
        }
    }
}

/// Runs everything in `directory`, which must not exist and is deleted at the end: files made while
/// others have just been deleted are slower on ext4, so nothing is deleted in between.
#[must_use]
pub fn run(directory: &Path, plan: Plan, mut say: impl FnMut(&str)) -> Vec<Row> {
    fs::create_dir_all(directory).expect("the bench directory");
    let root = directory.join("nodes");
    fs::create_dir(&root).expect("the bench directory");
    let place = Place { logs: directory.to_owned(), root, launcher: Vec::new() };
    let mut rows = Vec::new();
    {
        let cluster = Cluster::start_in(place, 3);
        say("latency: the floor, then edits");
        let best = floor::latency(directory, plan.edit_count.min(60));
        rows.extend(work::latency(&cluster, plan.edit_count, &best));
        say("burst: the floor, then files");
        let best = floor::burst(directory, plan.file_count);
        rows.push(work::burst(&cluster, plan.file_count, best));
        say("idle");
        rows.extend(work::idle(&cluster, plan.idle_s));
        say("large file: the floor, then the file");
        let (source, best) = floor::large(directory, plan.large_mib);
        rows.extend(work::large(&cluster, &source, best));
    }
    fs::remove_dir_all(directory).expect("the bench directory");
    rows
}
