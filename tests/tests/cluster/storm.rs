//! Many writers at once, and long runs of random work.

use std::collections::BTreeSet;
use std::fs;

use pickbox_tests::cluster::{Cluster, PATIENCE, env_number};

use super::files::noise;

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn three_nodes_write_different_files_at_once() {
    let cluster = Cluster::start_default();
    let each: usize = 300;
    std::thread::scope(|scope| {
        for node in 0..3 {
            let cluster = &cluster;
            scope.spawn(move || {
                fs::create_dir(cluster.path(node, &format!("from{node}"))).unwrap();
                for number in 0..each {
                    let seed = u64::try_from(node * each + number).unwrap();
                    cluster.write(node, &format!("from{node}/{number}"), noise(seed, 700));
                }
            });
        }
    });
    cluster.await_that("all files are everywhere", |cluster| {
        cluster.trees().values().all(|tree| tree.len() == 3 * (each + 1))
    });
    cluster.await_converged();
    for node in 0..3 {
        for number in (0..each).step_by(29) {
            let seed = u64::try_from(node * each + number).unwrap();
            let content = cluster.read((node + 1) % 3, &format!("from{node}/{number}"));
            assert_eq!(content.unwrap(), noise(seed, 700));
        }
    }
}

/// P2: of two edits of one file, both are kept.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_same_file_is_written_on_two_nodes_at_once() {
    let cluster = Cluster::start_default();
    let rounds = 20;
    for round in 0..rounds {
        let path = format!("file{round}");
        cluster.write(0, &path, "base");
        cluster.await_content(&path, "base");
    }
    cluster.await_converged();
    std::thread::scope(|scope| {
        for node in 0..2 {
            let cluster = &cluster;
            scope.spawn(move || {
                for round in 0..rounds {
                    cluster.write(
                        node,
                        &format!("file{round}"),
                        format!("round {round} node {node}"),
                    );
                }
            });
        }
    });
    let tree = cluster.await_converged();
    let found: BTreeSet<Vec<u8>> = tree
        .keys()
        .map(|path| cluster.read(2, std::str::from_utf8(path).unwrap()).unwrap())
        .collect();
    for round in 0..rounds {
        let written = |node: usize| format!("round {round} node {node}").into_bytes();
        // Both edits may also have come one after the other: then the second one replaced the first,
        // which is in the history.
        let kept = (0..2).filter(|&node| found.contains(&written(node))).count();
        assert!(
            kept == 2 || kept == 1 && in_history(&cluster, &format!("file{round}")) >= 3,
            "round {round}"
        );
    }
    assert_eq!(cluster.status(0).unwrap().conflicts, u64::try_from(tree.len() - rounds).unwrap());
}

fn in_history(cluster: &Cluster, path: &str) -> usize {
    let answer = cluster.ask(0, &format!("LOG {path}")).unwrap();
    answer.matches("\"index\":").count()
}

/// trap T5: an edit made while a remote version of the same file lands is not lost.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn edits_under_remote_changes_are_not_lost() {
    let cluster = Cluster::start_default();
    cluster.write(0, "ping", "0");
    cluster.await_content("ping", "0");
    // Each node in turn answers the moment it sees the other's edit: its own echo is still under way.
    for round in 1..=env_number("ROUNDS", 100) {
        let content = round.to_string();
        cluster.write(round % cluster.count(), "ping", &content);
        cluster.await_that("the next node sees it", |cluster| {
            cluster.read((round + 1) % cluster.count(), "ping").as_deref()
                == Some(content.as_bytes())
        });
    }
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), 1, "each edit followed the one before: {:?}", tree.keys());
    assert_eq!(cluster.read(0, "ping").unwrap(), env_number("ROUNDS", 100).to_string().as_bytes());
}

/// Write on a random node, read on another once visible: nothing missing, nothing torn.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn many_rounds_of_write_here_and_read_there() {
    let cluster = Cluster::start_default();
    let rounds = env_number("ROUNDS", 100);
    let mut state = 7_usize;
    for round in 0..rounds {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (writer, size) = ((state >> 33) % cluster.count(), (state >> 20) % 60_000 + 1);
        let reader = (writer + 1 + (state >> 50) % (cluster.count() - 1)) % cluster.count();
        let path = format!("file{}", round % 40);
        let content = noise(u64::try_from(round).unwrap(), size);
        cluster.write(writer, &path, &content);
        let end = pickbox_raft::clock::now() + PATIENCE;
        // A version is exposed by one exchange: a reader sees the old or the new, never a part.
        loop {
            let found = cluster.read(reader, &path);
            if found.as_deref() == Some(&content) {
                break;
            }
            let torn = found.is_some_and(|found| {
                found.len() < size && content.starts_with(&found) && !found.is_empty()
            });
            assert!(!torn, "round {round}: a part of the new content was seen");
            assert!(
                pickbox_raft::clock::now() < end,
                "round {round}: missing\n{}",
                cluster.describe()
            );
        }
    }
    cluster.await_converged();
}

/// Everything at once on every node, then silence: all agree.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn random_work_on_every_node_converges() {
    let cluster = Cluster::start_default();
    std::thread::scope(|scope| {
        for node in 0..cluster.count() {
            let cluster = &cluster;
            scope.spawn(move || random_work(cluster, node, env_number("STEPS", 400)));
        }
    });
    cluster.await_converged();
}

/// Creates, edits, renames and deletes a few names; what fails because another node was first is
/// part of it.
fn random_work(cluster: &Cluster, node: usize, steps: usize) {
    let mut state = u64::try_from(node).unwrap() + 1;
    let mut next = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for step in 0..steps {
        let directory = format!("d{}", next(4));
        let path = format!("{directory}/f{}", next(6));
        let other = format!("d{}/f{}", next(4), next(6));
        let _ = match next(8) {
            0 => fs::create_dir(cluster.path(node, &directory)),
            1 => fs::remove_file(cluster.path(node, &path)),
            2 => fs::rename(cluster.path(node, &path), cluster.path(node, &other)),
            3 => fs::remove_dir(cluster.path(node, &directory)),
            _ => fs::write(cluster.path(node, &path), format!("node {node} step {step}")),
        };
    }
}
