//! P6: a client's write without a majority.

use std::sync::mpsc::TryRecvError;

use pickbox_raft::core::ids::NodeId;

use super::fleet::{Fleet, rel};
use crate::engine::ports::{Answer, Query};

fn put(path: &str) -> Query {
    Query::Put { path: rel(path), data: path.as_bytes().to_vec() }
}

#[test]
fn a_write_without_a_leader_is_refused_and_never_proposed() {
    let mut fleet = Fleet::new(3);
    fleet.leader(1, None);
    assert_eq!(fleet.ask_only(1, put("a")).try_recv(), Ok(Answer::NoQuorum));
    let remove = Query::Remove { path: rel("a") };
    assert_eq!(fleet.ask_only(1, remove).try_recv(), Ok(Answer::NoQuorum));
    fleet.leader(1, Some(NodeId::new(3)));
    fleet.settle();
    assert!(fleet.hosts[0].tree().is_empty());
    assert!(matches!(fleet.ask(1, put("b")), Answer::Committed(_)));
}

/// What was proposed is unknown after 10 s, and may be committed after all; what waited behind it
/// is refused at once.
#[test]
fn a_proposed_write_is_unknown_when_the_leader_is_lost() {
    let mut fleet = Fleet::new(3);
    fleet.pass(1, 100_000);
    let (sent, waiting) = (fleet.ask_only(1, put("sent")), fleet.ask_only(1, put("waiting")));
    fleet.leader(1, None);
    assert_eq!(waiting.try_recv(), Ok(Answer::NoQuorum));
    fleet.pass(1, 9_900);
    assert_eq!(sent.try_recv(), Err(TryRecvError::Empty));
    fleet.pass(1, 200);
    assert_eq!(sent.try_recv(), Ok(Answer::Unknown));
    fleet.leader(1, Some(NodeId::new(3)));
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("sent"), "sent");
    assert_eq!(fleet.hosts[0].tree().len(), 1);
    assert!(matches!(fleet.ask(1, put("again")), Answer::Committed(_)));
}

/// A leader that is found again in time: nobody notices.
#[test]
fn a_short_election_costs_no_proposed_write() {
    let mut fleet = Fleet::new(3);
    let sent = fleet.ask_only(1, put("sent"));
    fleet.leader(1, None);
    fleet.pass(1, 1_000);
    fleet.leader(1, Some(NodeId::new(2)));
    fleet.pass(1, 20_000);
    fleet.settle();
    assert!(matches!(sent.try_recv(), Ok(Answer::Committed(_))));
}
