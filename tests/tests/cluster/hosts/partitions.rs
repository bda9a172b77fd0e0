//! Networks that break.

use std::time::Duration;

use pickbox_admin::status::Role;
use pickbox_tests::cluster::hosts::are_wanted;
use pickbox_tests::cluster::{Cluster, Load};

fn term(cluster: &Cluster, node: usize) -> u64 {
    cluster.status(node).unwrap().term
}

/// Waits until a node leads that is none of these.
fn await_leader_but(cluster: &Cluster, not: &[usize]) -> usize {
    let mut leader = None;
    cluster.await_that("one of the others leads", |cluster| {
        let others = cluster.running().into_iter().filter(|node| !not.contains(node));
        leader = others
            .into_iter()
            .find(|&node| cluster.status(node).is_some_and(|report| report.role == Role::Leader));
        leader.is_some()
    });
    leader.unwrap()
}

/// fault 11: a minority of one refuses writes of programs and keeps edits of its folder; the others
/// go on; when the network heals both sides have all of it.
#[test]
#[ignore = "needs built daemons and root: make test-cluster HOSTS=netns"]
fn a_minority_waits_and_the_majority_goes_on() {
    if !are_wanted() {
        return;
    }
    let cluster = Cluster::start_on_hosts(3);
    cluster.write(0, "before", "before");
    cluster.await_converged();
    let leader = cluster.leader();
    let cut = (leader + 1) % 3;
    let other = 3 - leader - cut;
    cluster.network().cut_off(&[cluster.host(cut)]);
    cluster.await_that("it has no leader and says so", |cluster| {
        cluster.status(cut).is_some_and(|report| report.leader_id.is_none())
    });
    let refused = cluster.forward_write(cut, "program", b"minority");
    assert!(refused.starts_with("ERROR no-quorum"), "{refused}");
    assert!(cluster.ask(cut, "STATUS").unwrap().starts_with("NO-QUORUM"));
    cluster.write(cut, "edited there", "minority");
    assert!(cluster.forward_write(other, "program", b"majority").starts_with("OK"));
    cluster.write(leader, "edited here", "majority");
    cluster.await_that("the two have it", |cluster| cluster.read(other, "edited here").is_some());
    assert!(cluster.read(cut, "edited here").is_none() && cluster.read(cut, "program").is_none());
    let before = term(&cluster, leader);
    cluster.network().heal();
    for (path, content) in [("edited there", "minority"), ("program", "majority")] {
        cluster.await_content(path, content);
    }
    cluster.await_content("edited here", "majority");
    cluster.await_converged();
    assert_eq!(term(&cluster, leader), before, "it asked before it campaigned");
}

/// fault 12: the leader alone on its side ceases to lead, another one is chosen, and nothing that
/// was acknowledged is lost, however often.
#[test]
#[ignore = "needs built daemons and root: make test-cluster HOSTS=netns"]
fn an_isolated_leader_ceases_to_lead() {
    if !are_wanted() {
        return;
    }
    let cluster = Cluster::start_on_hosts(3);
    let mut load = Load::start(&cluster.doors(), 3, Duration::from_millis(20));
    for _ in 0..3 {
        let old = cluster.leader();
        cluster.network().cut_off(&[cluster.host(old)]);
        await_leader_but(&cluster, &[old]);
        cluster.await_that("it leads no more", |cluster| {
            cluster.status(old).is_some_and(|report| report.role != Role::Leader)
        });
        let refused = cluster.forward_write(old, "x", b"x");
        assert!(refused.starts_with("ERROR no-quorum"), "{refused}");
        load.await_write_after(pickbox_raft::clock::now(), pickbox_tests::cluster::PATIENCE);
        cluster.network().heal();
        cluster.await_that("it follows", |cluster| {
            cluster.status(old).is_some_and(|report| report.leader_id.is_some())
        });
    }
    let writes = load.end();
    cluster.await_acknowledged(&writes);
}

/// fault 12: a node that reaches the others and not the leader does not depose it, however long; it
/// has everything again when it reaches the leader.
#[test]
#[ignore = "needs built daemons and root: make test-cluster HOSTS=netns"]
fn a_node_that_does_not_reach_the_leader_deposes_nobody() {
    if !are_wanted() {
        return;
    }
    let cluster = Cluster::start_on_hosts(3);
    cluster.write(0, "before", "before");
    cluster.await_converged();
    let leader = cluster.leader();
    let (cut, between) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = term(&cluster, leader);
    cluster.network().cut_between(cluster.host(leader), cluster.host(cut));
    let tries = |cluster: &Cluster| {
        cluster.daemon(cut).log_text().matches("reason=ElectionTimeout").count()
    };
    let before_the_cut = tries(&cluster);
    cluster.await_that("it has asked for votes", |cluster| tries(cluster) > before_the_cut);
    for number in 0..20 {
        let answer = cluster.forward_write(between, &format!("file{number}"), b"meanwhile");
        assert!(answer.starts_with("OK"), "{answer}");
    }
    assert_eq!((cluster.leader(), term(&cluster, leader)), (leader, before));
    cluster.network().heal();
    for number in 0..20 {
        cluster.await_content(&format!("file{number}"), "meanwhile");
    }
    cluster.await_converged();
    assert_eq!((cluster.leader(), term(&cluster, leader)), (leader, before));
}

/// fault 13: a leader that is heard and hears nobody steps down, and another one leads.
#[test]
#[ignore = "needs built daemons and root: make test-cluster HOSTS=netns"]
fn a_leader_that_hears_nobody_steps_down() {
    if !are_wanted() {
        return;
    }
    let cluster = Cluster::start_on_hosts(3);
    cluster.write(0, "before", "before");
    cluster.await_converged();
    let deaf = cluster.leader();
    let others = [(deaf + 1) % 3, (deaf + 2) % 3];
    cluster.network().drop_one_way(&others.map(|node| cluster.host(node)), cluster.host(deaf));
    let next = await_leader_but(&cluster, &[deaf]);
    cluster.await_that("it leads no more", |cluster| {
        cluster.status(deaf).is_some_and(|report| report.role != Role::Leader)
    });
    assert!(cluster.forward_write(next, "meanwhile", b"meanwhile").starts_with("OK"));
    cluster.network().heal();
    cluster.await_content("meanwhile", "meanwhile");
    cluster.await_converged();
}

/// fault 14: with one packet of five lost everything arrives, and is applied once.
#[test]
#[ignore = "needs built daemons and root: make test-cluster HOSTS=netns"]
fn lost_packets_cost_time_and_nothing_else() {
    if !are_wanted() {
        return;
    }
    let cluster = Cluster::start_on_hosts(3);
    cluster.network().lose(20);
    for number in 0..20 {
        cluster.write(number % 3, &format!("file{number}"), format!("content {number}"));
    }
    for number in 0..20 {
        cluster.await_content(&format!("file{number}"), format!("content {number}"));
    }
    cluster.network().heal();
    assert_eq!(cluster.await_converged().len(), 20);
}
