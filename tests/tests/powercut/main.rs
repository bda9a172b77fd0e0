//! What ends a process in the middle of writing its log, on real file systems: power cuts (fault 21,
//! 23) and kills at every system call (fault 2).
//!
//! A process keeps a log and tells what it does (`pickbox_tests::log_life`). The file system beneath
//! it is cut off by `FS_IOC_SHUTDOWN`, or it is killed; then the log is opened again: what was
//! acknowledged must be there, and nothing else but a beginning of the step under way.
//!
//! `make crash`; the power cuts need root and loop devices, the kills strace.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use disk::{Disk, Journal};
use pickbox_raft::clock;
use pickbox_raft::disk::sim::Random;
use pickbox_raft::identity::random_u64;
use pickbox_tests::log_life::{self, Promised};

mod disk;

/// Small segments, so that each round comes by several.
const SEGMENT_BYTES: u32 = 64 * 1024;
/// The smallest, for a short life that comes by all that a log does.
const SEGMENT_BYTES_MIN: u32 = 8 * 1024;
/// Steps of that life.
const KILLED_STEPS: u64 = 60;
/// Enough that no power cut comes too late.
const STEPS_MAX: u64 = 1_000_000;

/// The process, started by others if there are any before it.
fn writer(before: &[&str], state: &Path, segment_bytes: u32, seed: u64, steps: u64) -> Command {
    let mut words = before.iter().copied().chain([env!("CARGO_BIN_EXE_log-life")]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(state);
    command.args([segment_bytes.to_string(), seed.to_string(), steps.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Waits a moment that no scheduler hands out: for up to a millisecond.
fn dawdle(random: &mut Random) {
    let until = clock::now() + Duration::from_micros(random.below(1000));
    while clock::now() < until {
        std::hint::spin_loop();
    }
}

/// Source: fault 3, 21, 23, checklist 121, 133, 134: after each of `CUTS` power cuts on each file
/// system of `FS` all that was acknowledged is there.
#[test]
#[ignore = "needs root and loop devices: make crash"]
fn an_acknowledged_batch_survives_every_power_cut() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let cuts = std::env::var("CUTS").map_or(30, |cuts| cuts.parse().unwrap());
    let file_systems = std::env::var("FS").unwrap_or_else(|_| "ext4 xfs".to_owned());
    for name in file_systems.split(' ') {
        let began = clock::now();
        let disk = Disk::new(name);
        let promised = cut_power(&disk, cuts);
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{cuts} power cuts survived on {name} in {seconds:.0} s; acknowledged: {:?}",
            promised.steps
        );
    }
}

fn cut_power(disk: &Disk, cuts: u64) -> Promised {
    let state = disk.mountpoint().join("state");
    let mut promised = Promised::default();
    let mut random = Random::new(random_u64().unwrap());
    disk.mount();
    for _ in 0..cuts {
        let seed = random.next_u64();
        let mut child = writer(&[], &state, SEGMENT_BYTES, seed, STEPS_MAX).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let enough = usize::try_from(random.below(60)).unwrap();
        for line in lines.by_ref().take(enough) {
            promised.hear(&line);
        }
        dawdle(&mut random);
        disk.cut(if random.below(3) == 0 { Journal::Written } else { Journal::Lost });
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            // Said before it knew, or while the power failed.
            promised.hear(&line);
        }
        disk.unmount();
        disk.mount();
        promised.check(&log_life::open(&state, SEGMENT_BYTES));
    }
    disk.unmount();
    promised
}

/// Source: fault 2, checklist 121, 134: killed before each of its system calls in turn, a log keeps
/// what it acknowledged, and goes on.
#[test]
#[ignore = "needs strace: make crash"]
fn a_kill_at_every_system_call_loses_nothing_acknowledged() {
    // A kill leaves what was written whether it was synced or not: memory will do.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let began = clock::now();
    for point in 1.. {
        let root = tempfile::Builder::new().prefix("pickbox-kill-").tempdir_in(&parent).unwrap();
        let state = root.path().join("state");
        let inject = format!("inject=all:signal=KILL:when={point}");
        let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &inject];
        let output = writer(&strace, &state, SEGMENT_BYTES_MIN, 1, KILLED_STEPS).output().unwrap();
        let mut promised = Promised::default();
        for line in output.stdout.lines() {
            promised.hear(&line.unwrap());
        }
        if output.status.success() {
            println!(
                "{} crash points, every system call of a life, survived in {:.0} s; acknowledged: {:?}",
                point - 1,
                began.elapsed().as_secs_f64(),
                promised.steps
            );
            assert!(promised.steps.len() == 4, "the life came by all that a log does");
            return;
        }
        promised.check(&log_life::open(&state, SEGMENT_BYTES_MIN));
        // It goes on from there, and ends in order.
        let output = writer(&[], &state, SEGMENT_BYTES_MIN, 2, 3).output().unwrap();
        assert!(output.status.success(), "after a kill at {point}");
        for line in output.stdout.lines() {
            promised.hear(&line.unwrap());
        }
        promised.check(&log_life::open(&state, SEGMENT_BYTES_MIN));
    }
}
