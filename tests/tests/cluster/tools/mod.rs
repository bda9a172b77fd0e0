//! Real tools in the folder, one node at a time, while other nodes are busy with other files.
//!
//! What a tool left on one node is what all others have once a flush there is waited for here: no
//! sleep, no patience. A tool that is not installed is named and its test passes; `scripts/setup`
//! installs all of them.

mod copies;
mod databases;
mod editors;
mod git;
mod logs;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use pickbox_tests::cluster::{Cluster, Kind, Tree, read_tree};

/// Whether a tool is installed. Says so past what catches the output of a test, if not.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed: scripts/setup");
    }
    found
}

/// Everything that was changed on one node until now stands on all.
fn bring_to_all(cluster: &Cluster, from: usize) {
    // A program that another test starts has copies of our descriptors until it is executed: a file that
    // was closed here may be open there for that moment.
    let mut flushed = String::new();
    cluster.await_that("nothing is open", |cluster| {
        flushed = cluster.ask(from, "FLUSH timeout 30").unwrap();
        !flushed.starts_with("ERROR partial")
    });
    let index = flushed.trim().strip_prefix("OK ").unwrap_or_else(|| panic!("{flushed}"));
    for node in cluster.running() {
        let answer = cluster.ask(node, &format!("WAIT {index} timeout 30")).unwrap();
        assert!(answer.starts_with("OK"), "node{}: {answer}\n{}", node + 1, cluster.describe());
    }
}

/// Work beside that of the tool: one node writes and deletes files of its own, until the end.
fn under_load(cluster: &Cluster, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let folder = cluster.folder(cluster.count() - 1);
    fs::create_dir(folder.join("load")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let path = folder.join(format!("load/{}", number % 40));
                fs::write(&path, super::files::noise(number, 3_000)).unwrap();
                if number % 3 == 0 {
                    fs::remove_file(path).unwrap();
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        // The load ends too when the work fails.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

/// What is below a directory of a node, without the times.
fn below(cluster: &Cluster, node: usize, directory: &str) -> Tree {
    let mut tree = read_tree(&cluster.path(node, directory));
    for entry in tree.values_mut() {
        entry.mtime = None;
    }
    tree
}

/// Every node has below `directory` what `original` has: kinds, modes, targets, contents.
fn assert_copied(cluster: &Cluster, original: &Path, directory: &str) {
    let mut expected = read_tree(original);
    for entry in expected.values_mut() {
        entry.mtime = None;
    }
    assert!(!expected.is_empty());
    for node in cluster.running() {
        let found = below(cluster, node, directory);
        let differences = pickbox_tests::cluster::differences(&expected, &found);
        assert!(differences.is_empty(), "node{}: {differences:#?}", node + 1);
    }
}

/// No name in any folder tells of a conflict.
fn assert_no_conflicts(cluster: &Cluster) {
    for (node, tree) in cluster.trees() {
        let copy = tree.keys().find(|path| path.windows(10).any(|part| part == b".conflict-"));
        assert_eq!(copy, None, "node{}", node + 1);
    }
}

/// A tree of some hundred files like a source tree: small and large, executable, links, empty
/// directories.
fn make_tree(at: &Path, files: u64) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    for number in 0..files {
        let directory = at.join(format!("crate{}/src/part{}", number % 23, number % 7));
        fs::create_dir_all(&directory).unwrap();
        let size = if number % 97 == 0 { 90_000 } else { 200 + number * 13 % 5_000 };
        let bytes = super::files::noise(number + 1, usize::try_from(size).unwrap());
        let path = directory.join(format!("file{number}.rs"));
        fs::write(&path, bytes).unwrap();
        if number % 11 == 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if number % 41 == 0 {
            symlink(format!("file{number}.rs"), directory.join(format!("link{number}"))).unwrap();
        }
    }
    fs::create_dir(at.join("empty")).unwrap();
}

fn files_of(tree: &Tree) -> usize {
    tree.values().filter(|entry| matches!(entry.kind, Kind::File { .. })).count()
}
