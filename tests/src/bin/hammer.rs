//! `make hammer`: programs, faults, and an account of every content; see [`pickbox_tests::hammer`].

use std::time::Duration;

use pickbox_tests::cluster::env_number;
use pickbox_tests::hammer::{Options, run};

fn main() {
    let seconds = env_number("SECONDS_OF_WORK", env_number("MINUTES", 5) * 60);
    run(Options {
        seed: u64::try_from(env_number("SEED", 1)).unwrap_or(1),
        nodes: env_number("NODES", 3),
        length: Duration::from_secs(u64::try_from(seconds).unwrap_or(300)),
        writers: env_number("WRITERS", 2),
        pause_ms: u64::try_from(env_number("PAUSE_MS", 30)).unwrap_or(30),
    });
}
