//! What must outlive a power cut, a month, and the end of a run.

use super::fleet::{Fleet, rel};
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
