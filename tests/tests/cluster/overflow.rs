//! More events than the kernel keeps for a daemon that does not read them.

use std::collections::BTreeMap;
use std::fs;

use pickbox_tests::cluster::{Cluster, Kind, Signal, Tree};
use sha2::{Digest, Sha256};

const DIRECTORIES: usize = 50;
const FILES_EACH: usize = 1_000;

fn path_of(directory: usize, number: usize) -> String {
    format!("{directory:02}/{number}")
}

fn content_of(directory: usize, number: usize) -> Vec<u8> {
    format!("file {number} of directory {directory}\n").into_bytes()
}

/// Of names and contents, in the order of the names.
fn digest(files: impl Iterator<Item = (Vec<u8>, [u8; 32])>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (path, content) in files {
        hash.update(&path);
        hash.update([0]);
        hash.update(content);
    }
    hash.finalize().into()
}

fn files_of(tree: &Tree) -> impl Iterator<Item = (Vec<u8>, [u8; 32])> + '_ {
    tree.iter().filter_map(|(path, entry)| match entry.kind {
        Kind::File { sha256, .. } => Some((path.clone(), sha256)),
        _ => None,
    })
}

/// Trap T1, fault 53: a daemon is stopped while 50,000 files are made in directories that it
/// watches. Its queue holds 16,384 events (`fs.inotify.max_queued_events`, `inotify(7)`), the rest is
/// lost; no file is.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn what_is_made_while_a_daemon_stands_still_is_found_whole() {
    let cluster = Cluster::start(3);
    let stopped = (cluster.leader() + 1) % 3;
    for directory in 0..DIRECTORIES {
        fs::create_dir(cluster.path(stopped, &format!("{directory:02}"))).unwrap();
    }
    cluster.await_that("all directories are everywhere", |cluster| {
        cluster.trees().values().all(|tree| tree.len() == DIRECTORIES)
    });
    cluster.await_converged();
    cluster.daemon(stopped).freeze();
    let mut made = BTreeMap::new();
    for directory in 0..DIRECTORIES {
        for number in 0..FILES_EACH {
            let (path, content) = (path_of(directory, number), content_of(directory, number));
            fs::write(cluster.path(stopped, &path), &content).unwrap();
            made.insert(path.into_bytes(), Sha256::digest(&content).into());
        }
    }
    cluster.daemon(stopped).signal(Signal::CONT);
    cluster.await_that("all files are everywhere", |cluster| {
        (0..cluster.count()).all(|node| (0..DIRECTORIES).rev().all(|at| is_full(cluster, node, at)))
    });
    let tree = cluster.await_converged();
    let found: Vec<_> = files_of(&tree).collect();
    assert_eq!(found.len(), DIRECTORIES * FILES_EACH);
    assert_eq!(digest(found.into_iter()), digest(made.into_iter()));
    // Otherwise the kernel kept all, and nothing was tried here.
    let status = cluster.status(stopped).unwrap();
    assert!(status.counters["watch_overflows"] > 0, "{:?}", status.counters);
}

fn is_full(cluster: &Cluster, node: usize, directory: usize) -> bool {
    let names = fs::read_dir(cluster.path(node, &format!("{directory:02}")));
    names.is_ok_and(|names| names.count() >= FILES_EACH)
}
