//! What must outlive a power cut, a month, and the end of a run.

use pickbox_raft::api::{Delivery, Role, RoleChange};
use pickbox_raft::core::ids::Term;

use super::fleet::{Fleet, rel};
use crate::engine::Event;
use crate::engine::outbox::wall_ms;
use crate::engine::ports::{Answer, Query, VersionLine};
use crate::engine::retention::PRUNE_EVERY_MS;
use crate::history_rows::HISTORY_KEPT_MS;
use crate::syncer::{SyncDone, SyncJob};

/// Writes on a host, lets everybody see it.
fn share(fleet: &mut Fleet, at: usize, path: &str, text: &str) {
    fleet.hosts[at].write(path, text);
    fleet.look(at);
    fleet.settle();
}

/// What a checkpoint that begins now would sync.
fn files_of(job: SyncJob) -> Vec<String> {
    let SyncJob::Files(paths) = job else { panic!("{job:?}") };
    let mut paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
    paths.sort();
    paths
}

/// The log that a checkpoint lets go may be all that holds what a program wrote here.
#[test]
fn a_checkpoint_syncs_what_this_node_proposed_itself() {
    let mut fleet = Fleet::new(2);
    fleet.checkpoint(0);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "small, so it is nowhere but in the log");
    let job = fleet.hosts[0].engine().begin_checkpoint().unwrap();
    assert_eq!(files_of(job), ["d", "d/f"]);
}

/// Else a deleted file that a power cut brings back would be proposed as a new one.
#[test]
fn a_checkpoint_syncs_the_directory_that_lost_a_name() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    fleet.checkpoint(0);
    fleet.checkpoint(1);
    std::fs::remove_file(fleet.hosts[0].path("d/f")).unwrap();
    fleet.look(0);
    fleet.settle();
    for at in 0..2 {
        let job = fleet.hosts[at].engine().begin_checkpoint().unwrap();
        assert_eq!(files_of(job), ["d"], "host {at}");
    }
}

#[test]
fn what_a_failed_sync_covered_is_synced_by_the_next() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    let engine = fleet.hosts[1].engine();
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
    engine.synced(&SyncDone { failed: Some("f: Input/output error".into()) }).unwrap();
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
    engine.synced(&SyncDone { failed: None }).unwrap();
    assert!(files_of(engine.begin_checkpoint().unwrap()).is_empty());
}

/// The node stops while the syncer is at work: the last checkpoint does not count on it.
#[test]
fn a_sync_under_way_is_no_sync_yet() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    let engine = fleet.hosts[1].engine();
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
}

/// A fleet in which host 1 placed a version after its last checkpoint; then its power was cut, and
/// half of the file did not make it to the disk.
fn cut_short() -> Fleet {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "the old version");
    fleet.checkpoint(1);
    share(&mut fleet, 0, "f", "the newer version");
    cut_power(&mut fleet, 1);
    fleet.hosts[1].write("f", "the newer");
    fleet.start(1);
    fleet
}

/// Ends a host so that its next start finds another boot than the one that wrote last.
fn cut_power(fleet: &mut Fleet, at: usize) {
    let engine = fleet.hosts[at].engine();
    engine.set_meta("mark", b"another boot").unwrap();
    engine.index.checkpoint().unwrap();
    fleet.kill(at);
}

fn assert_recovered(mut fleet: Fleet) {
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    for host in &fleet.hosts {
        assert_eq!(host.read("f"), "the newer version");
        assert_eq!(host.tree().len(), 1);
    }
}

#[test]
fn what_a_power_cut_shortened_is_no_edit() {
    assert_recovered(cut_short());
}

#[test]
fn a_kill_after_the_start_that_noticed_a_power_cut_forgets_no_suspect() {
    let mut fleet = cut_short();
    fleet.kill(1);
    fleet.start(1);
    assert_recovered(fleet);
}

#[test]
fn a_checkpoint_between_a_power_cut_and_the_scan_forgets_no_suspect() {
    let mut fleet = cut_short();
    while fleet.deliver(1) {}
    fleet.checkpoint(1);
    fleet.kill(1);
    fleet.start(1);
    assert_recovered(fleet);
}

/// The row of a fresh file is in the journal only, which is not synced either.
#[test]
fn a_shortened_file_whose_row_was_lost_is_no_edit() {
    let mut fleet = Fleet::new(3);
    fleet.checkpoint(1);
    share(&mut fleet, 1, "f", "the newer version");
    let engine = fleet.hosts[1].engine();
    let file = engine.index.resolve(&rel("f")).unwrap().unwrap();
    let local = engine.row_of(file).unwrap().unwrap();
    engine.set_row(local, None).unwrap();
    engine.flush_journal().unwrap();
    cut_power(&mut fleet, 1);
    fleet.hosts[1].write("f", "the newer");
    fleet.start(1);
    assert_recovered(fleet);
}

/// An edit made while the daemon is down, long after a cut, is an edit.
#[test]
fn a_settled_power_cut_is_over() {
    let mut fleet = cut_short();
    fleet.settle();
    fleet.converge();
    assert!(fleet.hosts[1].engine().is_cut_settled().unwrap());
    fleet.checkpoint(1);
    fleet.kill(1);
    fleet.hosts[1].write("f", "edited while down");
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("f"), "edited while down");
}

fn versions(fleet: &mut Fleet, at: usize, path: &str) -> Vec<VersionLine> {
    let Answer::Versions(lines) = fleet.ask(at, Query::Log(rel(path))) else { panic!() };
    lines
}

fn lead(fleet: &mut Fleet, at: usize) {
    let change = RoleChange { role: Role::Leader, term: Term::new(1), leader: None };
    fleet.give(at, Event::Log(Delivery::Role(change)));
}

/// The time rides in the entry; nobody looks at its own clock while applying.
#[test]
fn the_leader_has_versions_forgotten_after_thirty_days() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    let before = wall_ms();
    share(&mut fleet, 1, "f", "two!");
    let after = wall_ms();
    lead(&mut fleet, 2);
    for (at, wall_ms, count) in [
        (2, before + HISTORY_KEPT_MS, 2),
        (1, after + HISTORY_KEPT_MS + 1, 2),
        (2, after + HISTORY_KEPT_MS + 1, 1),
    ] {
        fleet.pass(at, PRUNE_EVERY_MS);
        let engine = fleet.hosts[at].engine();
        engine.next_prune_ms = 0;
        engine.retention_tick(wall_ms).unwrap();
        fleet.settle();
        for host in 0..3 {
            assert_eq!(versions(&mut fleet, host, "f").len(), count, "host {host}");
        }
    }
    fleet.assert_same();
}

/// Nothing is proposed when nothing is old, or the list was looked through a moment ago.
#[test]
fn an_idle_leader_proposes_nothing() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "f", "one");
    share(&mut fleet, 0, "f", "two!");
    lead(&mut fleet, 0);
    fleet.settle();
    let engine = fleet.hosts[0].engine();
    let index = engine.index.position().index;
    engine.retention_tick(wall_ms() + 2 * HISTORY_KEPT_MS).unwrap();
    assert_eq!(engine.prune_before_ms, None, "looked a moment ago");
    fleet.pass(0, PRUNE_EVERY_MS);
    fleet.settle();
    assert_eq!(fleet.hosts[0].engine().index.position().index, index);
}
