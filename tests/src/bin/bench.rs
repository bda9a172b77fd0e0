//! `make bench`: measures a three-node cluster on this machine and prints a table; `make bench-scan`
//! (`bench scan`) measures the start over a folder of a million files.
//!
//! The files are made below the directory `BENCH_DIR`, else `target/bench`: measure the disk that
//! matters. docs/performance.md tells how to read the figures.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]

use std::path::PathBuf;

use pickbox_tests::bench::{Plan, ScanPlan, run, scan, table};

fn main() {
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| "target/bench".into(), PathBuf::from);
    let directory = base.join(std::process::id().to_string());
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let say = |step: &str| eprintln!("{step}");
    let rows = match std::env::args().nth(1).as_deref() {
        None => {
            let plan = Plan::from_environment();
            eprintln!("{plan:?} in {}", directory.display());
            run(&directory, plan, say)
        }
        Some("scan") => {
            let plan = ScanPlan::from_environment();
            eprintln!("{plan:?} in {}", directory.display());
            scan(&directory, plan, say)
        }
        Some(other) => {
            eprintln!("bench: '{other}' is not known: say nothing, or scan");
            std::process::exit(2);
        }
    };
    println!("{}", table(&rows));
}
