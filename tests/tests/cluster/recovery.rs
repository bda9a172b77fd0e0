//! States that are lost, rotten, old or copied, and majorities that are gone.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pickbox_admin::status::MemberRole;
use pickbox_tests::cluster::{Cluster, tool_program};

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn state(cluster: &Cluster, node: usize) -> PathBuf {
    cluster.daemon(node).state.clone()
}

/// Turns a bit of the node's log, behind the first record.
fn turn_a_bit(cluster: &Cluster, node: usize) {
    let segment = state(cluster, node).join("wal/00000001.wal");
    let mut file = fs::File::options().read(true).write(true).open(segment).unwrap();
    let place = SeekFrom::Start(4096 + 700);
    let mut byte = [0];
    file.seek(place).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(place).unwrap();
    file.write_all(&[byte[0] ^ 4]).unwrap();
}

fn number_of(cluster: &Cluster, asked: usize, name: &str) -> u64 {
    cluster.member(asked, name).unwrap().number
}

fn await_new_number(cluster: &Cluster, asked: usize, name: &str, old: u64) {
    cluster.await_that(&format!("{name} is a voter under a new number"), |cluster| {
        cluster
            .member(asked, name)
            .is_some_and(|member| member.number != old && member.role == MemberRole::Voter)
    });
}

fn recover(cluster: &Cluster, node: usize, force: &[&str]) -> Output {
    let state_dir = state(cluster, node);
    let mut command = Command::new(tool_program());
    command.args(["recover", "--state-dir"]).arg(state_dir).args(force);
    command.output().unwrap()
}

fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// checklist 128: a bit of the log turned while the node was down. It is taken in anew by itself,
/// over its folder: what is equal stays, what is stale goes, what was edited meanwhile is kept.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_node_whose_log_rots_is_taken_in_anew() {
    let mut cluster = Cluster::start(3);
    for number in 0..30 {
        cluster.write(0, &format!("file{number}"), format!("content {number}"));
    }
    cluster.write(0, "large", vec![7; 200_000]);
    cluster.await_converged();
    let old = number_of(&cluster, 0, "node3");
    cluster.kill(2);
    turn_a_bit(&cluster, 2);
    cluster.write(0, "file1", "newer");
    fs::remove_file(cluster.path(0, "file2")).unwrap();
    cluster.write(2, "file3", "edited where the log rotted");
    cluster.write(2, "only here", "kept");
    cluster.restart(2);
    await_new_number(&cluster, 0, "node3", old);
    cluster.await_content("only here", "kept");
    let tree = cluster.await_converged();
    let names: Vec<String> =
        tree.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let copies: Vec<&String> = names.iter().filter(|name| name.contains("conflict")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert!(copies[0].contains("file3.conflict-node3-"), "{copies:?}");
    assert_eq!(cluster.read(1, "file1").unwrap(), b"newer");
    assert!(cluster.read(2, "file2").is_none(), "a deletion is not undone by a stale file");
    let log = cluster.daemon(2).log_text();
    assert!(log.contains("event=readmission") && log.contains("is corrupt at offset"), "{log}");
    assert!(state(&cluster, 2).join("lost/raft/identity").exists(), "it is kept for people");
}

/// checklist 102, fault 68: an image of a state directory, restored after the node ran again, is
/// found out at its first greeting.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn an_old_image_is_taken_in_anew() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "a", "one");
    cluster.await_converged();
    let old = number_of(&cluster, 0, "node3");
    cluster.terminate(2);
    let image = cluster.root().join("image");
    copy(&state(&cluster, 2), &image);
    cluster.restart(2);
    cluster.write(0, "a", "two");
    cluster.await_converged();
    cluster.terminate(2);
    fs::remove_dir_all(state(&cluster, 2)).unwrap();
    copy(&image, &state(&cluster, 2));
    cluster.restart(2);
    await_new_number(&cluster, 0, "node3", old);
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), 1, "{:?}", tree.keys());
    assert_eq!(cluster.read(2, "a").unwrap(), b"two");
}

/// checklist 101, fault 25: the disk lost synced entries: the log ends before what was applied.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_log_that_ends_too_early_is_found_out() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "a", "one");
    cluster.await_converged();
    let old = number_of(&cluster, 0, "node3");
    cluster.terminate(2);
    let log = cluster.root().join("log");
    copy(&state(&cluster, 2).join("wal"), &log);
    cluster.restart(2);
    for number in 0..20 {
        cluster.write(0, &format!("more{number}"), "more");
    }
    cluster.await_converged();
    // The index is durable when a node ends in order.
    cluster.terminate(2);
    fs::remove_dir_all(state(&cluster, 2).join("wal")).unwrap();
    copy(&log, &state(&cluster, 2).join("wal"));
    cluster.restart(2);
    await_new_number(&cluster, 0, "node3", old);
    cluster.await_converged();
    assert!(cluster.daemon(2).log_text().contains("it has lost some"));
}

/// checklist 136, fault 71: of three nodes two are gone. The right survivor goes on alone, in a new
/// epoch; the wrong one is refused; those that come back are told, and join again over their
/// folders.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_lost_majority_is_recovered() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "a", "one");
    cluster.await_converged();
    let running = recover(&cluster, 0, &["--force-new-cluster"]);
    assert!(!running.status.success() && words(&running).contains("stop it first"));
    cluster.terminate(1);
    let there = recover(&cluster, 1, &["--force-new-cluster"]);
    assert!(!there.status.success() && words(&there).contains("The majority is not lost"));
    cluster.write(0, "b", "not on node2");
    cluster.await_that("node3 has it", |cluster| cluster.read(2, "b").is_some());
    cluster.kill(0);
    let behind = recover(&cluster, 1, &["--force-new-cluster"]);
    assert!(!behind.status.success(), "node3 runs and has more: {}", words(&behind));
    cluster.kill(2);
    let shown = recover(&cluster, 2, &[]);
    assert!(shown.status.success() && words(&shown).contains("--force-new-cluster"));
    let founded = recover(&cluster, 2, &["--force-new-cluster"]);
    assert!(founded.status.success(), "{}", words(&founded));
    cluster.restart(2);
    cluster.await_that("node3 goes on alone", |cluster| {
        cluster.status(2).is_some_and(|report| {
            report.members.len() == 1 && report.leader_id.as_deref() == Some("node3")
        })
    });
    cluster.write(2, "c", "alone");
    cluster.restart(0);
    cluster.await_that("node1 is told that the cluster went on without it", |cluster| {
        let report = cluster.status(0);
        report.is_some_and(|report| report.alarms.iter().any(|text| text.contains("--rejoin")))
    });
    cluster.terminate(0);
    let seed = format!("127.0.0.1:{}", cluster.daemon(2).port);
    for node in [0, 1] {
        cluster.daemon_mut(node).entry = vec![format!("--join={seed}"), "--rejoin".into()];
        cluster.restart(node);
    }
    cluster.await_that("all three are voters again", |cluster| {
        cluster.status(2).is_some_and(|report| {
            report.members.iter().filter(|m| m.role == MemberRole::Voter).count() == 3
        })
    });
    cluster.await_content("b", "not on node2");
    cluster.await_content("c", "alone");
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), 3, "{:?}", tree.keys());
}
