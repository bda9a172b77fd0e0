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
//! | `FORWARD`, one client | before a request for 1 KiB is sent | its `OK` |
//! | `FORWARD`, 64 clients | the first request of the first one | the last `OK` of the last one |
//! | the log alone | a client of its own process asks the log, with nothing above it | the entry is applied at the leader |
//! | large file | before `cp` of 1 GiB begins | both others have its full size |
//!
//! After each the folders are compared byte for byte, outside the timing.

mod etcd;
mod figures;
mod floor;
mod log;
mod puts;
mod scan;
mod work;

use std::fs;
use std::path::Path;

use crate::cluster::{Cluster, Place, env_number};
pub use figures::{Row, table};
pub use scan::{ScanPlan, scan};

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
    /// `FORWARD`s of one client in each round (`PUTS`).
    pub put_count: usize,
    /// Seconds of many clients in each round (`CROWD_S`).
    pub crowd_s: usize,
    /// Which parts run (`ONLY`).
    pub parts: Parts,
}

/// Which parts of the measuring run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// All.
    All,
    /// Only the `FORWARD`s.
    Puts,
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
            put_count: env_number("PUTS", 300),
            crowd_s: env_number("CROWD_S", 2),
            parts: match std::env::var("ONLY").as_deref() {
                Ok("puts") => Parts::Puts,
                _ => Parts::All,
            },
        }
    }
}

/// Runs everything in `directory`, which must not exist and is deleted at the end: files made while
/// others have just been deleted are slower on ext4, so nothing is deleted before the folder is measured.
#[must_use]
pub fn run(directory: &Path, plan: Plan, mut say: impl FnMut(&str)) -> Vec<Row> {
    fs::create_dir_all(directory).expect("the bench directory");
    let mut rows = Vec::new();
    if plan.parts == Parts::All {
        rows.extend(folder(directory, plan, &mut say));
    }
    {
        let cluster = start(directory, "commands");
        say("FORWARD: the floor, one client, many; etcd in turn");
        rows.extend(puts::measure(&cluster, directory, plan.put_count, plan.crowd_s));
    }
    fs::remove_dir_all(directory).expect("the bench directory");
    rows
}

fn start(directory: &Path, name: &str) -> Cluster {
    let (root, logs) = (directory.join(name), directory.join(format!("{name}.logs")));
    for made in [&root, &logs] {
        fs::create_dir(made).expect("the bench directory");
    }
    Cluster::start_in(Place { logs, root, launcher: Vec::new() }, 3)
}

/// What people see.
fn folder(directory: &Path, plan: Plan, say: &mut impl FnMut(&str)) -> Vec<Row> {
    let mut rows = Vec::new();
    let cluster = start(directory, "nodes");
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
    rows
}
