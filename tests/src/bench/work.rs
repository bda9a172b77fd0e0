//! What the cluster does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pickbox_raft::clock;

use super::figures::{Row, Sample, number};
use crate::cluster::{Cluster, PATIENCE};

/// At most five edits a second: an idle processor wakes up slowly, as it does for people.
pub(super) const PACE: Duration = Duration::from_millis(200);
/// Size of a file of the burst.
pub(super) const FILE_BYTES: usize = 4096;
const FILES_PER_DIRECTORY: usize = 100;
const EDIT_BYTES: usize = 1024;
/// `USER_HZ` of every Linux that matters.
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes that differ for each number and do not compress.
pub(super) fn file_content(number: usize, length: usize) -> Vec<u8> {
    let mut state = u64::try_from(number).expect("small").wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Makes `count` files in directories of a hundred.
pub(super) fn write_burst(folder: &Path, count: usize, size: usize) {
    for number in 0..count {
        let directory = folder.join(format!("d{:03}", number / FILES_PER_DIRECTORY));
        if number % FILES_PER_DIRECTORY == 0 {
            fs::create_dir(&directory).expect("a directory");
        }
        let path = directory.join(format!("f{number:05}"));
        fs::write(path, file_content(number, size)).expect("a file");
    }
}

/// Edits one after the other, each on another node.
pub(super) fn latency(cluster: &Cluster, count: usize, floor: &Sample) -> Vec<Row> {
    cluster.await_converged();
    let before = counters(cluster);
    let edits = (0..count).map(|number| {
        std::thread::sleep(PACE);
        edit(cluster, number)
    });
    let sample = Sample::new(edits.collect());
    let after = counters(cluster);
    cluster.await_converged();
    let mut rows: Vec<Row> = [(50, "<= 3 x floor"), (95, "-"), (99, "-")]
        .into_iter()
        .map(|(percent, target)| {
            let what = format!("latency p{percent}, 1 KiB, paced");
            Row::times(&what, sample.percentile(percent), floor.percentile(percent), target)
        })
        .collect();
    let each = |key: usize| format!("{:.2}", number(after[key] - before[key]) / number(count));
    rows.push(Row::plain("log syncs per edit, all nodes", each(0), "-"));
    rows.push(Row::plain("messages per edit, all nodes", each(1), "-"));
    rows
}

/// Log syncs and messages of all nodes since their start.
fn counters(cluster: &Cluster) -> [u64; 2] {
    ["wal_syncs", "messages_sent"].map(|key| {
        let count = |node| {
            let report = cluster.status(node).expect("a status");
            *report.counters.get(key).unwrap_or_else(|| panic!("no counter {key}"))
        };
        cluster.running().into_iter().map(count).sum()
    })
}

/// From before the file is opened until both others hold its bytes.
fn edit(cluster: &Cluster, number: usize) -> Duration {
    let content = file_content(number, EDIT_BYTES);
    let path = format!("edit{number:05}");
    let writer = number % cluster.count();
    let begun = clock::now();
    cluster.write(writer, &path, &content);
    for node in (0..cluster.count()).filter(|&node| node != writer) {
        while cluster.read(node, &path).as_ref() != Some(&content) {
            let elapsed = begun.elapsed();
            assert!(elapsed < PATIENCE, "{path} does not arrive\n{}", cluster.describe());
            // An error of at most one per cent, and a processor left to the daemons.
            let pause = (elapsed / 100).clamp(Duration::from_micros(100), Duration::from_millis(5));
            std::thread::sleep(pause);
        }
    }
    begun.elapsed()
}

/// Many files at once on one node.
pub(super) fn burst(cluster: &Cluster, count: usize, floor: f64) -> Row {
    let roots: Vec<_> = (0..cluster.count()).map(|node| cluster.path(node, "burst")).collect();
    fs::create_dir(&roots[0]).expect("a directory");
    cluster.await_converged();
    let begun = clock::now();
    std::thread::scope(|scope| {
        scope.spawn(|| write_burst(&roots[0], count, FILE_BYTES));
        for root in &roots {
            await_burst(cluster, root, count);
        }
    });
    let rate = number(count) / begun.elapsed().as_secs_f64();
    cluster.await_converged();
    let what = format!("burst, {count} x 4 KiB");
    Row::rates(&what, rate, floor, "files/s", ">= 1000 files/s")
}

fn await_burst(cluster: &Cluster, root: &Path, count: usize) {
    for first in (0..count).step_by(FILES_PER_DIRECTORY) {
        let directory = root.join(format!("d{:03}", first / FILES_PER_DIRECTORY));
        let expected = FILES_PER_DIRECTORY.min(count - first);
        cluster.await_that("the burst is everywhere", |_| whole_files(&directory) == expected);
    }
}

fn whole_files(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = u64::try_from(FILE_BYTES).expect("small");
    let is_whole = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|found| found.len() == size);
    entries.flatten().filter(is_whole).count()
}

/// What the daemons take when nothing happens, with the files of the burst in their folders.
pub(super) fn idle(cluster: &Cluster, seconds: usize) -> Vec<Row> {
    let ticks = || -> Vec<u64> {
        cluster.running().into_iter().map(|node| cluster.daemon(node).cpu_ticks()).collect()
    };
    // What was begun by the burst (checkpoints) is not idleness.
    std::thread::sleep(Duration::from_secs(5));
    let before = ticks();
    std::thread::sleep(Duration::from_secs(u64::try_from(seconds).expect("small")));
    let used = ticks().into_iter().zip(before).map(|(after, before)| after - before).max();
    let percent = number(used.unwrap_or(0)) / TICKS_PER_SECOND / number(seconds) * 100.0;
    vec![
        Row::plain("idle CPU of one core, busiest node", format!("{percent:.2} %"), "< 1 %"),
        Row::plain("memory now, largest node", memory(cluster, "VmRSS"), "< 64 MiB"),
        Row::plain("memory at most so far, largest node", memory(cluster, "VmHWM"), "< 64 MiB"),
    ]
}

fn memory(cluster: &Cluster, key: &str) -> String {
    let sizes = cluster.running().into_iter().map(|node| cluster.daemon(node).memory_kb(key));
    format!("{:.1} MiB", number(sizes.max().unwrap_or(0)) / 1024.0)
}

/// One large file.
pub(super) fn large(cluster: &Cluster, source: &Path, floor: f64) -> Vec<Row> {
    let size = source.metadata().expect("the source").len();
    let begun = clock::now();
    let mut copy =
        Command::new("cp").arg(source).arg(cluster.path(0, "large")).spawn().expect("cp");
    cluster.await_that("the large file is everywhere", |cluster| {
        (0..cluster.count()).all(|node| {
            let metadata = cluster.path(node, "large").metadata();
            metadata.is_ok_and(|metadata| metadata.len() == size)
        })
    });
    let rate = number(size / 1000) / 1000.0 / begun.elapsed().as_secs_f64();
    assert!(copy.wait().expect("cp").success());
    cluster.await_converged();
    let what = format!("one file of {} MiB", size >> 20);
    vec![
        Row::rates(&what, rate, floor, "MB/s", ">= 0.4 x floor"),
        Row::plain("memory at most, largest node", memory(cluster, "VmHWM"), "< 64 MiB"),
    ]
}
