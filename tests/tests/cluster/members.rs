//! Members that come, go, move and come back, while people go on.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pickbox_admin::status::{MemberRole, Role};
use pickbox_tests::cluster::{Cluster, Load, PATIENCE, daemon_program, free_pair, tool_program};

/// A client's pause between two writes.
const PAUSE: Duration = Duration::from_millis(5);

fn load(cluster: &Cluster) -> Load {
    Load::start(&cluster.doors(), 3, PAUSE)
}

fn ask_ok(cluster: &Cluster, node: usize, line: &str) -> String {
    let answer = cluster.ask(node, line).unwrap();
    assert!(answer.starts_with("OK "), "{line}: {answer}\n{}", cluster.describe());
    answer
}

fn await_role(cluster: &Cluster, asked: usize, name: &str, role: MemberRole) {
    cluster.await_that(&format!("{name} is a {role}"), |cluster| {
        cluster.member(asked, name).is_some_and(|member| member.role == role)
    });
}

fn term(cluster: &Cluster, node: usize) -> u64 {
    cluster.status(node).unwrap().term
}

/// checklist 93, trap T31: a cluster grows from one node to five under writes, each newcomer a learner until
/// it has caught up.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_cluster_grows_to_five_under_writes() {
    let mut cluster = Cluster::start(1);
    let load = load(&cluster);
    for size in [3, 5] {
        while cluster.count() < size {
            cluster.add_node();
        }
        cluster.await_members();
    }
    let writes = load.end();
    cluster.await_acknowledged(&writes);
    let leader = cluster.leader();
    let members = cluster.status(leader).unwrap().members;
    let numbers: Vec<u64> = members.iter().map(|member| member.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert!(members.iter().all(|member| member.leads == (member.number == numbers[leader])));
}

/// checklist 92: a leader that is removed hands over, says that it was removed, and disturbs
/// nobody, also after a restart.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_removed_leader_disturbs_nobody() {
    let mut cluster = Cluster::start(3);
    let mut load = load(&cluster);
    let gone = cluster.leader();
    let other = (gone + 1) % 3;
    load.await_write_after(pickbox_raft::clock::now(), PATIENCE);
    let name = cluster.daemon(gone).name.clone();
    ask_ok(&cluster, other, &format!("REMOVE {name}"));
    load.await_write_after(pickbox_raft::clock::now(), PATIENCE);
    cluster.await_that("the others have a leader without it", |cluster| {
        (0..3).filter(|&node| node != gone).all(|node| {
            let report = cluster.status(node).unwrap();
            report.leader_id.is_some_and(|leader| leader != name) && report.members.len() == 2
        })
    });
    let before = term(&cluster, other);
    let says_so = |cluster: &Cluster| {
        cluster.status(gone).is_some_and(|report| {
            let told = report.alarms.iter().any(|alarm| alarm.contains("was removed"));
            report.is_removed && told && report.role == Role::Candidate
        })
    };
    cluster.await_that("it says that it was removed, and campaigns in vain", says_so);
    cluster.terminate(gone);
    cluster.restart(gone);
    cluster.await_that("it says so after a restart too", says_so);
    load.await_write_after(pickbox_raft::clock::now(), PATIENCE);
    assert_eq!(term(&cluster, other), before, "it disturbed the others");
    cluster.terminate(gone);
    let writes = load.end();
    cluster.await_acknowledged(&writes);
}

/// checklist 94: one order puts a new node in the place of a dead one; the dead one stays a voter
/// until the new one votes.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_dead_node_is_replaced_in_one_order() {
    let mut cluster = Cluster::start(3);
    let load = load(&cluster);
    let dead = (cluster.leader() + 1) % 3;
    let asked = cluster.leader();
    cluster.kill(dead);
    let old = cluster.daemon(dead).name.clone();
    let new = cluster.prepare_node();
    let (name, port) = (cluster.daemon(new).name.clone(), cluster.daemon(new).port);
    ask_ok(&cluster, asked, &format!("REPLACE {old} {name} 127.0.0.1:{port}"));
    let listed = cluster.member(asked, &name).unwrap();
    let former = cluster.member(asked, &old).unwrap();
    assert_eq!((listed.role, listed.replaces), (MemberRole::Staging, Some(former.number)));
    assert_eq!(former.role, MemberRole::Voter, "there are never fewer voters than before");
    assert!(cluster.status(asked).unwrap().alarms.is_empty(), "it is wanted");
    let text = cluster.ask(asked, "MEMBERS").unwrap();
    assert!(text.contains(&format!("staging replaces {old} ")), "{text}");
    cluster.restart(new);
    await_role(&cluster, asked, &name, MemberRole::Voter);
    assert_eq!(cluster.member(asked, &old), None, "in the same change");
    let writes = load.end();
    cluster.await_acknowledged(&writes);
    assert_eq!(cluster.status(asked).unwrap().members.len(), 3);
}

/// checklist 99 and 101: a node that lost its state comes back under its name with a new number and
/// does not vote until it has caught up; its folder stays and nothing in it is doubled.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_node_that_lost_its_state_comes_back() {
    let mut cluster = Cluster::start(3);
    for number in 0..50 {
        cluster.write(0, &format!("file{number}"), format!("content {number}"));
    }
    let before = cluster.await_converged();
    let old = cluster.member(0, "node3").unwrap().number;
    cluster.terminate(2);
    fs::remove_dir_all(&cluster.daemon(2).state).unwrap();
    cluster.write(0, "written meanwhile", "new");
    cluster.restart(2);
    cluster.await_that("node3 is a voter under a new number", |cluster| {
        cluster
            .member(0, "node3")
            .is_some_and(|member| member.number != old && member.role == MemberRole::Voter)
    });
    cluster.await_content("written meanwhile", "new");
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), before.len() + 1, "conflict copies? {:?}", tree.keys());
    assert!(cluster.status(0).unwrap().alarms.is_empty());
    assert_eq!(cluster.status(0).unwrap().members.len(), 3);
}

/// checklist 101: while such a node is not back the status says so, whomever one asks.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_node_that_is_to_come_back_is_an_alarm() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    cluster.terminate(2);
    fs::remove_dir_all(&cluster.daemon(2).state).unwrap();
    let number = cluster.member(0, "node3").unwrap().number;
    let address = format!("127.0.0.1:{}", cluster.daemon(2).port);
    // A leader that has heard it a moment ago takes it for connected.
    cluster.await_that("its place is given to itself", |cluster| {
        let answer = cluster.ask(0, &format!("REPLACE node3 node3 {address}")).unwrap();
        assert!(answer.starts_with("OK") || answer.starts_with("ERROR connected"), "{answer}");
        answer.starts_with("OK")
    });
    cluster.await_that("both others have an alarm", |cluster| {
        (0..2).all(|node| {
            let alarms = cluster.status(node).unwrap().alarms;
            alarms.iter().any(|alarm| {
                alarm.starts_with(&format!(
                    "node3 came back without its state (was number {number}, is 4 now)"
                ))
            })
        })
    });
    let text = cluster.ask(1, "STATUS").unwrap();
    assert!(text.starts_with("DEGRADED") && text.contains("\nalarm: node3 came back"), "{text}");
    cluster.restart(2);
    await_role(&cluster, 0, "node3", MemberRole::Voter);
    cluster.await_converged();
    assert!(cluster.status(1).unwrap().alarms.is_empty());
}

/// checklist 99: a second node with the name of a connected member is refused in words.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_second_node_of_one_name_is_refused() {
    let cluster = Cluster::start(3);
    let (port, admin_port) = free_pair();
    let before = cluster.status(0).unwrap().members;
    let output = Command::new(daemon_program())
        .args(["--node-id=node2", &format!("--port={port}"), &format!("--admin-port={admin_port}")])
        .arg(format!("--join=127.0.0.1:{}", cluster.daemon(0).port))
        .arg("--data-dir")
        .arg(cluster.root().join("second"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("node2") && words.contains("stop that one first"), "{words}");
    let after = cluster.status(0).unwrap().members;
    let numbers = |members: &[pickbox_admin::status::MemberReport]| -> Vec<u64> {
        members.iter().map(|member| member.number).collect()
    };
    assert_eq!(numbers(&after), numbers(&before));
    for (line, code) in [
        (format!("ADD_VOTER node2 127.0.0.1:{port}"), "taken"),
        (format!("ADD_LEARNER other 127.0.0.1:{}", cluster.daemon(1).port), "taken"),
        (format!("REPLACE node1 node2 127.0.0.1:{port}"), "taken"),
        (format!("REPLACE node2 node2 127.0.0.1:{port}"), "connected"),
        ("REMOVE node9".to_owned(), "not-found"),
        ("TRANSFER node9".to_owned(), "not-found"),
        ("ADD_VOTER node9 0.0.0.0:8001".to_owned(), "bad-request"),
    ] {
        let answer = cluster.ask(2, &line).unwrap();
        assert!(answer.starts_with(&format!("ERROR {code}: ")), "{line}: {answer}");
    }
}

/// checklist 94 and 99: what would leave no majority is refused, with who is missing.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_change_that_would_leave_no_majority_is_refused() {
    let mut cluster = Cluster::start(3);
    cluster.kill(2);
    let asked = cluster.leader();
    let other = 1 - asked;
    let name = cluster.daemon(other).name.clone();
    cluster.await_that("node3 is missed", |cluster| {
        cluster.member(asked, "node3").is_some_and(|member| !member.connected)
    });
    let answer = cluster.ask(asked, &format!("REMOVE {name}")).unwrap();
    assert!(answer.starts_with("ERROR too-few: node3 at 127.0.0.1:"), "{answer}");
    assert!(answer.contains("start node3 again"), "{answer}");
    ask_ok(&cluster, asked, "REMOVE node3");
    ask_ok(&cluster, asked, &format!("DEMOTE {name}"));
    let last = cluster.daemon(asked).name.clone();
    for order in ["REMOVE", "DEMOTE"] {
        let answer = cluster.ask(other, &format!("{order} {last}")).unwrap();
        assert!(answer.starts_with("ERROR last-voter: "), "{order}: {answer}");
    }
    let answer = cluster.ask(asked, &format!("TRANSFER {name}")).unwrap();
    assert!(answer.starts_with("ERROR not-a-voter: "), "{answer}");
    ask_ok(&cluster, asked, &format!("PROMOTE {name}"));
    await_role(&cluster, asked, &name, MemberRole::Voter);
    assert!(cluster.forward_write(other, "a", b"a").starts_with("OK"));
    cluster.await_content("a", "a");
}

/// A node that is started at another port is found again, whether it led or not.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_node_may_move_to_another_port() {
    let mut cluster = Cluster::start(3);
    for moving in [cluster.leader(), (cluster.leader() + 1) % 3] {
        cluster.terminate(moving);
        let (port, _) = free_pair();
        cluster.daemon_mut(moving).port = port;
        cluster.restart(moving);
        let name = cluster.daemon(moving).name.clone();
        cluster.await_that("all list the new port and reach it", |cluster| {
            (0..3).all(|node| {
                cluster.member(node, &name).is_some_and(|member| {
                    member.address == format!("127.0.0.1:{port}") && member.connected
                })
            })
        });
        let path = format!("from {name}");
        cluster.write(moving, &path, "moved");
        cluster.await_content(&path, "moved");
    }
    cluster.await_converged();
}

/// checklist 108: leadership goes round under writes, to whom it is told to go; nothing is lost.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn leadership_goes_where_it_is_told_under_writes() {
    let cluster = Cluster::start(3);
    let mut load = load(&cluster);
    for round in 0..6 {
        let (to, asked) = (round % 3, (round + 1) % 3);
        let name = cluster.daemon(to).name.clone();
        assert_eq!(
            ask_ok(&cluster, asked, &format!("TRANSFER {name}")),
            format!("OK leader {name}")
        );
        cluster.await_that("it leads", |cluster| {
            cluster.status(to).is_some_and(|report| report.role == Role::Leader)
        });
        load.await_write_after(pickbox_raft::clock::now(), PATIENCE);
    }
    let writes = load.end();
    cluster.await_acknowledged(&writes);
}

/// SIGTERM of the leader: another one is made leader by it, before anybody's election timeout.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_leader_that_stops_makes_another_one_leader() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    let leader = cluster.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let timeouts = |cluster: &Cluster| -> usize {
        let logs = others.map(|node| cluster.daemon(node).log_text());
        logs.iter().map(|log| log.matches("reason=ElectionTimeout").count()).sum()
    };
    let (term_before, timeouts_before) = (term(&cluster, leader), timeouts(&cluster));
    cluster.terminate(leader);
    let next = cluster.leader();
    assert!(others.contains(&next));
    assert_eq!(term(&cluster, next), term_before + 1, "one election");
    assert_eq!(timeouts(&cluster), timeouts_before, "nobody waited for a timeout");
    assert!(cluster.daemon(leader).log_text().contains("event=handover"));
}

/// `pickbox member` and `pickbox cluster add` and `join`, as documented.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_tool_grows_and_shrinks_a_local_cluster() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let (port, admin_port) = free_pair();
    let (port, admin_port) = (port.to_string(), admin_port.to_string());
    let address = format!("127.0.0.1:{admin_port}");
    let tool = |words: &[&str]| -> Output {
        let mut command = Command::new(tool_program());
        let output = command.args(words).stdin(Stdio::null()).output().unwrap();
        println!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    };
    let place = ["--data-dir", data.to_str().unwrap()];
    let cluster = |words: &[&str]| tool(&[&["cluster"], words, &place[..]].concat());
    let member = |words: &[&str]| tool(&[&["member"], words, &["--addr", &address]].concat());
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let code = |output: &Output| output.status.code();
    let stop = StopOnDrop(place.map(str::to_owned));

    let started = cluster(&["start", "-n", "1", "-p", &port, "-a", &admin_port]);
    assert_eq!(code(&started), Some(0), "{started:?}");
    assert_eq!(code(&cluster(&["add", "-n", "2"])), Some(0));
    let (peer, _) = free_pair();
    let node_addr = format!("127.0.0.1:{peer}");
    let leader = format!("127.0.0.1:{port}");
    let join = |name: &str, leader: &str| {
        cluster(&["join", "--leader", leader, "--node-id", name, "--node-addr", &node_addr])
    };
    assert_eq!(code(&join("web", &leader)), Some(0));
    assert_eq!(code(&join("web", &leader)), Some(1), "it runs");
    assert_eq!(code(&cluster(&["join", "--leader", &leader])), Some(64), "who?");
    fs::write(data.join("node1/a"), "a").unwrap();
    let end = pickbox_raft::clock::now() + PATIENCE;
    while fs::read(data.join("web/a")).ok().as_deref() != Some(b"a") {
        assert!(pickbox_raft::clock::now() < end);
        std::thread::sleep(pickbox_tests::cluster::LOOK_AGAIN);
    }
    let listed = text(&member(&["list"]));
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(listed.contains("web ") && listed.contains(&node_addr), "{listed}");

    assert_eq!(text(&member(&["transfer", "node2"])), "node2 leads\n");
    assert_eq!(text(&member(&["transfer", "web", "--json"])), "{\"leader_id\":\"web\"}\n");
    assert_eq!(code(&member(&["demote", "node3"])), Some(0));
    assert_eq!(code(&member(&["promote", "node3", "--wait"])), Some(0));
    assert!(text(&member(&["list", "--json"])).matches("\"voter\"").count() == 4);
    assert_eq!(code(&member(&["remove", "node3"])), Some(0));
    assert_eq!(code(&member(&["remove", "node3"])), Some(1), "it is none");
    let restarted = cluster(&["restart"]);
    assert!(String::from_utf8_lossy(&restarted.stderr).contains("node3 was removed"));
    assert!(text(&restarted).contains("removed"), "{restarted:?}");
    assert_eq!(code(&cluster(&["stop"])), Some(0));
    assert_eq!(code(&cluster(&["clean", "--yes"])), Some(0));
    assert!(!data.exists(), "nodes that came later are cleaned too");
    drop(stop);
}

/// Ends the local cluster also when the test fails.
struct StopOnDrop([String; 2]);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = Command::new(tool_program()).args(["cluster", "stop"]).args(&self.0).output();
    }
}
