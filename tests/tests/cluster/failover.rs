//! Leaders that die, freeze, or have a disk that hangs, while clients write.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pickbox_admin::node::VersionReport;
use pickbox_admin::status::Role;
use pickbox_raft::clock;
use pickbox_tests::cluster::{Cluster, Load, PATIENCE, Signal, env_number};

use crate::hang::{Hang, can_hang};

/// Clients, and the pause of each between two writes.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// How long the disk of a leader hangs.
const STALL: Duration = Duration::from_secs(10);

fn load(cluster: &Cluster) -> Load {
    Load::start(&cluster.doors(), CLIENTS, PAUSE)
}

/// The leader is killed again and again under writes from several clients (`KILLS` says how often):
/// what was acknowledged is on all nodes, and the next write is accepted soon.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn killed_leaders_lose_no_acknowledged_write() {
    let mut cluster = Cluster::start(3);
    let mut load = load(&cluster);
    let mut gaps: Vec<Duration> = Vec::new();
    for _ in 0..env_number("KILLS", 3) {
        load.await_write_after(clock::now(), PATIENCE);
        let leader = cluster.leader();
        let killed = clock::now();
        cluster.daemon(leader).signal(Signal::KILL);
        let next = load.await_write_after(killed, PATIENCE);
        gaps.push(next.done.saturating_duration_since(killed));
        cluster.daemon_mut(leader).await_exit();
        cluster.restart(leader);
        await_caught_up(&cluster);
    }
    gaps.sort_unstable();
    let rank = |percent: usize| gaps[(gaps.len() * percent).div_ceil(100).max(1) - 1];
    println!(
        "{} kills: the next write is accepted after p50 {:?}, p99 {:?}, at most {:?}",
        gaps.len(),
        rank(50),
        rank(99),
        gaps.last().unwrap()
    );
    let writes = load.end();
    println!("{} writes were acknowledged", writes.len());
    cluster.await_acknowledged(&writes);
}

/// Waits until one leads, reaches all, and all have what is committed now.
fn await_caught_up(cluster: &Cluster) {
    let leader = cluster.leader();
    let commit = cluster.status(leader).unwrap().commit_index;
    cluster.await_that("all have caught up", |cluster| {
        cluster.running().into_iter().all(|node| {
            cluster.status(node).is_some_and(|report| {
                report.applied_index >= commit
                    && report.leader_id.is_some()
                    && report.members.iter().all(|member| member.connected)
            })
        })
    });
}

/// A question that waits in the socket of a daemon while that is frozen.
fn ask_frozen(cluster: &Cluster, node: usize, line: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(cluster.daemon(node).admin_address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    BufReader::new(stream)
}

fn answer(mut asked: BufReader<TcpStream>) -> String {
    let mut line = String::new();
    asked.read_line(&mut line).unwrap();
    line
}

/// fault 5, P5: a leader that was frozen while another took over answers nothing from the past,
/// neither what it was asked meanwhile nor later, and acknowledges nothing that is not committed.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_frozen_leader_answers_nothing_from_the_past() {
    let cluster = Cluster::start(3);
    let mut load = load(&cluster);
    assert!(cluster.forward_write(0, "key", b"old").starts_with("OK"));
    cluster.await_content("key", "old");
    let frozen = cluster.leader();
    let other = (frozen + 1) % 3;
    cluster.daemon(frozen).freeze();
    let stopped = clock::now();
    let read = ask_frozen(&cluster, frozen, "LOG key");
    let write = r#"FORWARD {"op":"write","path":"late","data":"bGF0ZQ=="}"#;
    let write = ask_frozen(&cluster, frozen, write);
    cluster.await_that("another leads and commits", |cluster| {
        cluster.forward_write(other, "key", b"new").starts_with("OK")
    });
    println!("another one served {:?} after the freeze", stopped.elapsed());
    load.await_write_after(clock::now(), PATIENCE);
    cluster.daemon(frozen).signal(Signal::CONT);
    let read = answer(read);
    let is_refused = read.starts_with("ERROR ");
    let versions = read.strip_prefix("OK ").map(serde_json::from_str::<Vec<VersionReport>>);
    let size = versions.map(|versions| versions.unwrap()[0].sha256.clone());
    let new = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437";
    assert!(is_refused || size == Some(Some(new.to_owned())), "a stale read: {read}");
    let write = answer(write);
    assert!(write.starts_with("OK ") || write.starts_with("ERROR "), "{write}");
    cluster.await_content("key", "new");
    if write.starts_with("OK ") {
        cluster.await_content("late", "late");
    }
    let writes = load.end();
    cluster.await_acknowledged(&writes);
}

/// fault 6, fault 35: the disk of the leader hangs; another node leads and serves long before it
/// comes back, and what was acknowledged stays.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_leader_whose_disk_hangs_is_replaced() {
    if !can_hang() {
        println!("skipped: only root may trace a daemon");
        return;
    }
    let cluster = Cluster::start(3);
    let mut load = load(&cluster);
    load.await_write_after(clock::now(), PATIENCE);
    let slow = cluster.leader();
    let disk = Hang::of(cluster.daemon(slow), "log-writer", "fdatasync", STALL);
    let hung = clock::now();
    cluster.await_that("another leads", |cluster| {
        (0..3)
            .filter(|&node| node != slow)
            .any(|node| cluster.status(node).is_some_and(|report| report.role == Role::Leader))
    });
    let led = hung.elapsed();
    let since: Instant = clock::now();
    let next = load.await_write_after(since, PATIENCE);
    let served = next.done.saturating_duration_since(hung);
    println!("another one led {led:?} and served {served:?} after the disk of the leader hung");
    assert!(served < STALL, "only when the disk was back");
    drop(disk);
    let writes = load.end();
    cluster.await_acknowledged(&writes);
}
