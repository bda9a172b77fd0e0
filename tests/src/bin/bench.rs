//! `make bench`: measures a three-node cluster on this machine and prints a table.
//!
//! The files are made below the directory `BENCH_DIR`, else `target/bench`: measure the disk that
//! matters. docs/performance.md tells how to read the figures.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]

use std::path::PathBuf;

use pickbox_tests::bench::{Plan, run, table};

fn main() {
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| "target/bench".into(), PathBuf::from);
    let directory = base.join(std::process::id().to_string());
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let plan = Plan::from_environment();
    eprintln!("{plan:?} in {}", directory.display());
    let rows = run(&directory, plan, |step| eprintln!("{step}"));
    println!("{}", table(&rows));
}
