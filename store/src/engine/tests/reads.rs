//! Fresh reads, with a log that answers when the test says so.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use pickbox_raft::api::{Command, Delivery};
use pickbox_raft::core::ids::{Index as LogIndex, ReadId};

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::engine::Event;
use crate::engine::ports::{Answer, Freshness, Query, Request};
use crate::engine::reads::{READ_MS, READS_MAX};

type Answers = Receiver<Answer>;

fn request(query: Query) -> (Request, Answers) {
    let (send, receive) = channel();
    let reply = Box::new(move |answer| send.send(answer).unwrap());
    (Request { query, freshness: Freshness::Fresh, reply }, receive)
}

/// Puts a question before host 1, whose turn does not come yet.
fn put(fleet: &mut Fleet, query: Query) -> Answers {
    let (request, answers) = request(query);
    fleet.hosts[1].engine().event(Event::Request(request)).unwrap();
    answers
}

fn ask(fleet: &mut Fleet, query: Query) -> Answers {
    let answers = put(fleet, query);
    fleet.pass(1, 0);
    answers
}

/// What host 1 asked of the log since.
fn asked(fleet: &mut Fleet) -> Vec<ReadId> {
    let commands = std::mem::take(&mut fleet.commands);
    let read = |(at, command)| match command {
        Command::Read(id) if at == 1 => Some(id),
        _ => None,
    };
    commands.into_iter().filter_map(read).collect()
}

fn confirm(fleet: &mut Fleet, id: ReadId, index: Option<LogIndex>) {
    fleet.give(1, Event::Log(Delivery::Read { id, index }));
}

fn is_waiting(answers: &Answers) -> bool {
    answers.try_recv() == Err(TryRecvError::Empty)
}

fn versions(answers: &Answers) -> usize {
    match answers.try_recv().unwrap() {
        Answer::Versions(lines) => lines.len(),
        other => panic!("{other:?}"),
    }
}

/// A fleet in which host 1 has not applied the second version of `f`, and where that is.
fn lagging() -> (Fleet, LogIndex) {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.hosts[0].write("f", "two");
    fleet.look(0);
    fleet.commit(0);
    while fleet.deliver(0) {}
    let index = fleet.hosts[0].engine().index.position().index;
    fleet.commands.clear();
    (fleet, index)
}

/// checklist 113: a read on a follower waits until it has applied what the leader named.
#[test]
fn a_read_waits_until_the_index_of_the_leader_is_applied() {
    let (mut fleet, index) = lagging();
    let log = ask(&mut fleet, Query::Log(rel("f")));
    let find = put(&mut fleet, Query::Find(ContentId::of(b"two")));
    let ids = asked(&mut fleet);
    assert_eq!(ids.len(), 1);
    confirm(&mut fleet, ids[0], Some(index));
    assert!(is_waiting(&log), "confirmed, and not applied yet");
    while fleet.deliver(1) {}
    assert_eq!(versions(&log), 2);
    // The other one came after the question was put: it has one of its own.
    assert!(is_waiting(&find));
    let ids = asked(&mut fleet);
    assert_eq!(ids.len(), 1);
    confirm(&mut fleet, ids[0], Some(index));
    assert_eq!(versions(&find), 1);
    assert_eq!(fleet.hosts[1].engine().reads.len(), 0);
}

/// All that wait share one question, and those that come meanwhile the next.
#[test]
fn reads_share_their_questions() {
    let (mut fleet, index) = lagging();
    let first: Vec<_> = (0..100).map(|_| put(&mut fleet, Query::Log(rel("f")))).collect();
    fleet.pass(1, 0);
    let second: Vec<_> = (0..100).map(|_| ask(&mut fleet, Query::Log(rel("f")))).collect();
    let ids = asked(&mut fleet);
    assert_eq!(ids.len(), 1, "one question is out at a time");
    while fleet.deliver(1) {}
    confirm(&mut fleet, ids[0], Some(index));
    assert!(first.iter().all(|answers| versions(answers) == 2));
    assert!(second.iter().all(is_waiting));
    let ids = asked(&mut fleet);
    assert_eq!(ids.len(), 1);
    confirm(&mut fleet, ids[0], Some(index));
    assert!(second.iter().all(|answers| versions(answers) == 2));
    assert!(asked(&mut fleet).is_empty());
}

/// checklist 115: a leader steps down, and the log says that nobody could confirm: each read is
/// asked for once more, then refused; nothing is left.
#[test]
fn what_nobody_confirms_is_asked_once_more_and_then_refused() {
    let (mut fleet, _) = lagging();
    let reads: Vec<_> = (0..10).map(|_| put(&mut fleet, Query::Log(rel("f")))).collect();
    fleet.pass(1, 0);
    for _ in 0..2 {
        assert!(reads.iter().all(is_waiting));
        let ids = asked(&mut fleet);
        assert_eq!(ids.len(), 1);
        confirm(&mut fleet, ids[0], None);
        // Said twice, as an answer that was late: it is of no question that is out.
        confirm(&mut fleet, ids[0], Some(LogIndex::ZERO));
    }
    for read in &reads {
        assert_eq!(read.try_recv(), Ok(Answer::NoQuorum));
    }
    assert!(asked(&mut fleet).is_empty());
    assert_eq!(fleet.hosts[1].engine().reads.len(), 0);
}

/// checklist 115: an answer that never comes, or an index that is never reached, frees them too.
#[test]
fn reads_do_not_wait_for_ever() {
    let (mut fleet, index) = lagging();
    let applying = ask(&mut fleet, Query::Log(rel("f")));
    let ids = asked(&mut fleet);
    confirm(&mut fleet, ids[0], Some(index));
    let unanswered = ask(&mut fleet, Query::Log(rel("f")));
    let waiting = ask(&mut fleet, Query::Log(rel("f")));
    for _ in 0..=READ_MS / 1_000 {
        fleet.pass(1, 1_000);
    }
    assert_eq!(applying.try_recv(), Ok(Answer::Behind));
    assert_eq!(unanswered.try_recv(), Ok(Answer::NoQuorum));
    assert_eq!(waiting.try_recv(), Ok(Answer::NoQuorum));
    assert_eq!(fleet.hosts[1].engine().reads.len(), 0);
    asked(&mut fleet);
    // And the next one gets its own question.
    let next = ask(&mut fleet, Query::Log(rel("f")));
    let ids = asked(&mut fleet);
    confirm(&mut fleet, ids[0], Some(LogIndex::ZERO));
    assert_eq!(versions(&next), 1);
}

/// An answer to a question of the former run is not one of this: it may be older than this run.
#[test]
fn a_confirmation_of_a_former_run_is_worth_nothing() {
    let (mut fleet, index) = lagging();
    drop(ask(&mut fleet, Query::Log(rel("f"))));
    let old = asked(&mut fleet);
    fleet.kill(1);
    fleet.start(1);
    let read = ask(&mut fleet, Query::Log(rel("f")));
    let new = asked(&mut fleet);
    assert_ne!(old, new);
    confirm(&mut fleet, old[0], Some(LogIndex::ZERO));
    assert!(is_waiting(&read));
    while fleet.deliver(1) {}
    confirm(&mut fleet, new[0], Some(index));
    assert_eq!(versions(&read), 2);
}

/// Who says LOCAL hears at once what is here, and STATUS and an old version never wait.
#[test]
fn what_needs_no_majority_does_not_wait() {
    let (mut fleet, index) = lagging();
    let receive = fleet.ask_only(1, Query::Log(rel("f")));
    assert_eq!(versions(&receive), 1, "the newer one is not here yet");
    let status = ask(&mut fleet, Query::Status);
    assert!(matches!(status.try_recv(), Ok(Answer::Status(_))));
    let applied = fleet.hosts[1].engine().index.position().index;
    let cat = |index| Query::Cat { path: rel("f"), index, offset: 0 };
    let known = ask(&mut fleet, cat(applied));
    assert!(matches!(known.try_recv(), Ok(Answer::Piece(_))));
    assert!(asked(&mut fleet).is_empty());
    let unknown = ask(&mut fleet, cat(index));
    assert!(is_waiting(&unknown), "what the path held then is not known here yet");
    let ids = asked(&mut fleet);
    confirm(&mut fleet, ids[0], Some(index));
    while fleet.deliver(1) {}
    match unknown.try_recv() {
        Ok(Answer::Piece(piece)) => assert_eq!(piece.data, b"two"),
        other => panic!("{other:?}"),
    }
}

/// P8: reads that wait are bounded, and the end of a run answers them.
#[test]
fn reads_that_wait_are_bounded() {
    let (mut fleet, _) = lagging();
    let reads: Vec<_> = (0..READS_MAX).map(|_| put(&mut fleet, Query::Log(rel("f")))).collect();
    let one_more = put(&mut fleet, Query::Log(rel("f")));
    assert_eq!(one_more.try_recv(), Ok(Answer::Busy));
    fleet.stop(1);
    assert!(reads.iter().all(|read| matches!(read.try_recv(), Ok(Answer::Unavailable(_)))));
}
