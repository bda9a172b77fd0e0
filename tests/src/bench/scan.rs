//! A folder of very many files: how long a node takes from its start until it knows that nothing changed.
//!
//! | figure | begins | ends |
//! |---|---|---|
//! | floor | before the first directory is opened | after the last `statx`; the same tree, a moment before, one thread |
//! | first start | before the process is born, on a folder that is full and a state that is empty | `STATUS` says 0 pending |
//! | restart | before the process is born, after a clean stop; what the kernel keeps of the disk is warm | the same |
//!
//! Directories hang ten on one, as in most source trees; every file has 32 bytes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pickbox_raft::clock;

use super::figures::{Row, number};
use crate::cluster::{Cluster, Daemon, LOOK_AGAIN, Place, Signal};

/// Directories that hang on one.
const FANOUT: usize = 10;
/// How long a start may take before the measuring is given up.
const START_MAX: Duration = Duration::from_hours(1);

/// How much there is to scan, from the environment.
#[derive(Clone, Copy, Debug)]
pub struct ScanPlan {
    /// Files in all (`FILES`).
    pub file_count: usize,
    /// Directories (`DIRS`).
    pub directory_count: usize,
    /// Warm restarts (`RESTARTS`).
    pub restart_count: usize,
}

impl ScanPlan {
    /// Reads the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        use crate::cluster::env_number;
        Self {
            file_count: env_number("FILES", 1_000_000),
            directory_count: env_number("DIRS", 100_000),
            restart_count: env_number("RESTARTS", 3),
        }
    }
}

/// Measures in `directory`, which must not exist and is deleted at the end.
#[must_use]
pub fn scan(directory: &Path, plan: ScanPlan, mut say: impl FnMut(&str)) -> Vec<Row> {
    let (root, logs) = (directory.join("nodes"), directory.join("logs"));
    for made in [&root, &logs] {
        fs::create_dir_all(made).expect("the bench directory");
    }
    let folder = root.join("node1");
    say("the tree");
    make_tree(&folder, plan);
    let mut rows = Vec::new();
    say("first start");
    let begun = clock::now();
    let mut cluster = Cluster::start_in(Place { logs, root, launcher: Vec::new() }, 1);
    await_ready(&cluster, begun + START_MAX);
    rows.push(seconds("first start: all is proposed and committed", begun.elapsed(), "-"));
    rows.extend(memory(cluster.daemon(0), "after the first start", "-"));
    for round in 1..=plan.restart_count {
        say(&format!("restart {round}: the floor, then the daemon"));
        cluster.daemon(0).signal(Signal::TERM);
        cluster.daemon_mut(0).await_exit();
        let entries = walk(&folder);
        let begun = clock::now();
        assert_eq!(walk(&folder), entries, "the tree holds still");
        let floor = begun.elapsed();
        assert_eq!(entries, plan.file_count + plan.directory_count, "all that was made");
        let begun = clock::now();
        cluster.daemon_mut(0).start();
        await_ready(&cluster, begun + START_MAX);
        rows.push(Row {
            what: format!("restart {round}, until ready"),
            measured: format!("{:.2} s", begun.elapsed().as_secs_f64()),
            floor: Some(format!("{:.2} s", floor.as_secs_f64())),
            ratio: Some(begun.elapsed().as_secs_f64() / floor.as_secs_f64()),
            target: "< 20 s",
        });
        let cpu = number(cluster.daemon(0).cpu_ticks()) / 100.0;
        let threads = thread_times(cluster.daemon(0));
        rows.push(Row::plain("its CPU time", format!("{cpu:.2} s ({threads})"), "-"));
        rows.extend(memory(cluster.daemon(0), "after it", "< 256 MiB"));
        let watches = watches_of(cluster.daemon(0));
        assert!(watches > plan.directory_count, "every directory is watched: {watches}");
        rows.push(Row::plain("watches", watches.to_string(), "-"));
    }
    drop(cluster);
    say("taking the tree away");
    fs::remove_dir_all(directory).expect("the bench directory");
    rows
}

fn seconds(what: &str, taken: Duration, target: &'static str) -> Row {
    Row::plain(what, format!("{:.2} s", taken.as_secs_f64()), target)
}

fn memory(daemon: &Daemon, when: &str, target: &'static str) -> Vec<Row> {
    let mib = |key: &str| format!("{:.1} MiB", number(daemon.memory_kb(key)) / 1024.0);
    vec![
        Row::plain(&format!("memory {when}"), mib("VmRSS"), target),
        Row::plain(&format!("memory at most {when}"), mib("VmHWM"), target),
        Row::plain(&format!("of it not files, {when}"), mib("RssAnon"), "-"),
    ]
}

/// Waits until the node says that all is looked at and decided.
fn await_ready(cluster: &Cluster, end: std::time::Instant) {
    while cluster.status(0).is_none_or(|report| report.pending > 0) {
        assert!(clock::now() < end, "not ready within {START_MAX:?}\n{}", cluster.describe());
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// CPU time of the threads that work most.
fn thread_times(daemon: &Daemon) -> String {
    let pid = daemon.pid().expect("it runs");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let time = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, fields) = text.rsplit_once(')')?;
        let ticks = fields.split_ascii_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
        Some((ticks, head.rsplit_once('(')?.1.to_owned()))
    };
    let mut times: Vec<_> = tasks.flatten().filter_map(time).collect();
    times.sort();
    let shown = times.into_iter().rev().take(3);
    let shown = shown.map(|(ticks, name)| format!("{name} {:.2}", f64::from(ticks) / 100.0));
    shown.collect::<Vec<_>>().join(", ")
}

/// Inotify watches that a process has set (proc(5), fdinfo).
fn watches_of(daemon: &Daemon) -> usize {
    let pid = daemon.pid().expect("it runs");
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("its descriptors");
    let texts = infos.flatten().filter_map(|info| fs::read_to_string(info.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("inotify wd:")).count()).sum()
}

/// Makes the directories, parents first, and spreads the files over them.
fn make_tree(folder: &Path, plan: ScanPlan) {
    fs::create_dir_all(folder).expect("the folder");
    let mut paths = vec![folder.to_owned()];
    for made in 0..plan.directory_count {
        let path = paths[made / FANOUT].join(format!("d{}", made % FANOUT));
        fs::create_dir(&path).expect("a directory");
        paths.push(path);
    }
    let below = paths.get(1..).filter(|below| !below.is_empty()).expect("a directory");
    for file in 0..plan.file_count {
        let path = below[file % below.len()].join(format!("file{}", file / below.len()));
        fs::write(path, format!("the content of file {file:11}")).expect("a file");
    }
}

/// Looks at everything below as `find -printf %i` would: how many things there are.
fn walk(folder: &Path) -> usize {
    let (mut waiting, mut count) = (vec![folder.to_owned()], 0);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            count += 1;
            // One look at each inode.
            if entry.metadata().expect("an entry").is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    count
}
