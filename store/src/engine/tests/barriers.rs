//! Flush and wait (trap T28), with a watcher and a wire that do what the test says.

use std::collections::VecDeque;
use std::process::Command as Program;
use std::sync::mpsc::{Receiver, TryRecvError};

use pickbox_raft::api::{Command, Delivery};
use pickbox_raft::core::ids::Index as LogIndex;

use super::fleet::{Fleet, rel, share};
use crate::engine::Event;
use crate::engine::flush::{FLUSHES_MAX, NO_LEADER_MS};
use crate::engine::ports::{Answer, Query, Scope, WatchAsk};
use crate::engine::waits::{ASK_AGAIN_MS, SILENT_MS, WAITS_MAX};
use crate::observation::{Flushed, Hint, Observation, Place, Seen, Sighting};

type Answers = Receiver<Answer>;

const TIMEOUT_MS: u64 = 60_000;

fn flush(fleet: &mut Fleet, at: usize) -> Answers {
    fleet.ask_only(at, Query::Flush { timeout_ms: TIMEOUT_MS })
}

fn wait(fleet: &mut Fleet, at: usize, index: LogIndex, scope: Scope) -> Answers {
    fleet.ask_only(at, Query::Wait { index: Some(index), scope, timeout_ms: TIMEOUT_MS })
}

fn is_waiting(answers: &Answers) -> bool {
    answers.try_recv() == Err(TryRecvError::Empty)
}

fn index_of(fleet: &mut Fleet, at: usize) -> LogIndex {
    fleet.hosts[at].engine().index.position().index
}

/// Trap T28: a flush is answered when the watcher has come to its end and what it had to tell is
/// committed, not before; and it names the index.
#[test]
fn a_flush_waits_for_the_watcher_and_for_the_log() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.hosts[0].write("f", "two");
    fleet.hosts[0].write("g", "new");
    let answers = flush(&mut fleet, 0);
    assert!(is_waiting(&answers), "the watcher has not said anything");
    fleet.answer_asks(0);
    assert!(is_waiting(&answers), "nothing is committed");
    fleet.commit(0);
    while fleet.deliver(0) {}
    assert!(is_waiting(&answers), "the first to be seen is, the other is on its way");
    fleet.commit(0);
    while fleet.deliver(0) {}
    let index = index_of(&mut fleet, 0);
    assert_eq!(answers.try_recv(), Ok(Answer::Flushed(index)));
    let answers = flush(&mut fleet, 0);
    fleet.answer_asks(0);
    assert_eq!(answers.try_recv(), Ok(Answer::Flushed(index)), "nothing is left to commit");
}

/// Trap T28: one question to the watcher stands for all flushes that waited when it was asked; one that
/// comes later must not be answered by it.
#[test]
fn a_later_flush_has_a_question_of_its_own() {
    let mut fleet = Fleet::new(1);
    fleet.settle();
    let first = flush(&mut fleet, 0);
    let second = flush(&mut fleet, 0);
    let third = flush(&mut fleet, 0);
    let end = |id| Sighting::Flushed(Flushed { id, ..Flushed::default() });
    fleet.sight(0, end(1));
    assert!(matches!(first.try_recv(), Ok(Answer::Flushed(_))));
    assert!(is_waiting(&second) && is_waiting(&third));
    fleet.sight(0, end(1));
    assert!(is_waiting(&second), "that one was answered");
    fleet.sight(0, end(2));
    for answers in [second, third] {
        assert!(matches!(answers.try_recv(), Ok(Answer::Flushed(_))));
    }
}

/// Trap T28: what a look leads to is part of it: a new directory that is heard of by a name within is
/// walked first.
#[test]
fn a_flush_waits_for_what_the_looks_lead_to() {
    let mut fleet = Fleet::new(1);
    fleet.settle();
    std::fs::create_dir_all(fleet.hosts[0].path("d/e")).unwrap();
    fleet.hosts[0].write("d/e/f", "deep");
    let answers = flush(&mut fleet, 0);
    let look = fleet.see(0, &rel("d/e/f")).unwrap();
    fleet.tell(0, look);
    fleet.sight(0, Sighting::Flushed(Flushed { id: 1, ..Flushed::default() }));
    assert!(is_waiting(&answers), "the way to it is not known");
    fleet.settle();
    let found = fleet.hosts[0].engine().index.resolve(&rel("d/e/f")).unwrap();
    assert!(found.is_some());
    assert!(matches!(answers.try_recv(), Ok(Answer::Flushed(_))));
}

/// Trap T28: a file that changed again while it was on its way to the log has to go once more; one that
/// goes on changing after the flush does not keep it.
#[test]
fn a_flush_waits_for_the_proposal_drafted_after_it() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "f", "zero");
    let change = |fleet: &mut Fleet, text: &str| {
        fleet.hosts[0].write("f", text);
        let look = fleet.see(0, &rel("f")).unwrap();
        fleet.tell(0, look);
    };
    change(&mut fleet, "first, on its way");
    change(&mut fleet, "second, before the flush");
    let answers = flush(&mut fleet, 0);
    fleet.sight(0, Sighting::Flushed(Flushed { id: 1, ..Flushed::default() }));
    fleet.commit(0);
    while fleet.deliver(0) {}
    assert!(is_waiting(&answers), "only the first is in the log");
    change(&mut fleet, "third, after it");
    fleet.commit(0);
    while fleet.deliver(0) {}
    assert!(matches!(answers.try_recv(), Ok(Answer::Flushed(_))), "the second is in the log");
}

/// Trap T28, T12: what left its place and was found nowhere is a deletion; a flush does not wait for its
/// time.
#[test]
fn a_flush_ends_the_wait_of_what_may_turn_up() {
    let mut fleet = Fleet::new(1);
    std::fs::create_dir(fleet.hosts[0].path("a")).unwrap();
    std::fs::create_dir(fleet.hosts[0].path("b")).unwrap();
    fleet.look(0);
    fleet.settle();
    std::fs::remove_dir(fleet.hosts[0].path("b")).unwrap();
    std::fs::rename(fleet.hosts[0].path("a"), fleet.hosts[0].path("b")).unwrap();
    let look = fleet.see(0, &rel("b")).unwrap();
    fleet.tell(0, look);
    assert!(!fleet.hosts[0].engine().limbo.is_empty());
    let answers = flush(&mut fleet, 0);
    fleet.sight(0, Sighting::Flushed(Flushed { id: 1, ..Flushed::default() }));
    for _ in 0..8 {
        // No time passes.
        fleet.commit(0);
        while fleet.deliver(0) {}
        fleet.answer_asks(0);
    }
    assert!(matches!(answers.try_recv(), Ok(Answer::Flushed(_))));
}

/// Trap T28, P4: files that are open or cannot be read are named; all else is committed.
#[test]
fn a_flush_names_what_it_does_not_cover() {
    let mut fleet = Fleet::new(1);
    fleet.settle();
    let saw = |path: &str, seen| {
        let (place, path, hint) = (Place::Folder, rel(path), Hint::SCANNED);
        Sighting::Saw(Observation { place, path, seen, hint })
    };
    fleet.sight(0, saw("secret", Seen::Unreadable(rustix::io::Errno::ACCESS)));
    fleet.sight(0, saw("mnt", Seen::Unreadable(rustix::io::Errno::XDEV)));
    let answers = flush(&mut fleet, 0);
    let open = vec![rel("open")];
    fleet.sight(0, Sighting::Flushed(Flushed { id: 1, open_count: 3, open }));
    let Ok(Answer::Partial(partial)) = answers.try_recv() else { panic!("an answer") };
    assert_eq!((partial.open.count, partial.open.paths), (3, vec![rel("open")]));
    assert_eq!((partial.unreadable.count, partial.unreadable.paths), (1, vec![rel("secret")]));
    assert_eq!(partial.held.count, 0);
}

/// Trap T28, P6: without a majority what was found cannot be committed, and after an election's time that
/// is said; where there is nothing to commit, there is nothing to wait for.
#[test]
fn a_flush_without_a_majority_says_so() {
    let mut fleet = Fleet::new(3);
    fleet.settle();
    fleet.leader(0, None);
    let answers = flush(&mut fleet, 0);
    fleet.answer_asks(0);
    assert!(matches!(answers.try_recv(), Ok(Answer::Flushed(_))));
    fleet.hosts[0].write("f", "one");
    let answers = flush(&mut fleet, 0);
    fleet.answer_asks(0);
    fleet.pass(0, NO_LEADER_MS - 1_000);
    assert!(is_waiting(&answers));
    fleet.pass(0, 1_000);
    assert_eq!(answers.try_recv(), Ok(Answer::NoQuorum));
}

/// P8: as many may wait as there is room for, and none for ever.
#[test]
fn waiters_are_bounded() {
    let mut fleet = Fleet::new(1);
    fleet.settle();
    let far = LogIndex::new(1_000_000);
    let flushes: Vec<Answers> = (0..FLUSHES_MAX).map(|_| flush(&mut fleet, 0)).collect();
    assert_eq!(flush(&mut fleet, 0).try_recv(), Ok(Answer::Busy));
    let waits: Vec<Answers> =
        (0..WAITS_MAX).map(|_| wait(&mut fleet, 0, far, Scope::Here)).collect();
    assert_eq!(wait(&mut fleet, 0, far, Scope::Here).try_recv(), Ok(Answer::Busy));
    fleet.pass(0, TIMEOUT_MS);
    for answers in flushes.iter().chain(&waits) {
        assert!(matches!(answers.try_recv(), Ok(Answer::TimedOut(_))));
    }
    let answers = flush(&mut fleet, 0);
    fleet.answer_asks(0);
    assert!(matches!(answers.try_recv(), Ok(Answer::Flushed(_))));
}

/// A fleet in which node 3 has not applied the last entry, and that entry.
fn lagging() -> (Fleet, LogIndex) {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.hosts[0].write("f", "two");
    fleet.look(0);
    fleet.commit(0);
    for at in 0..2 {
        while fleet.deliver(at) {}
    }
    let index = index_of(&mut fleet, 0);
    (fleet, index)
}

/// Trap T28: a wait is over when the folder of the node that was asked shows the entry.
#[test]
fn a_wait_is_for_the_folder() {
    let (mut fleet, index) = lagging();
    let there = wait(&mut fleet, 1, index, Scope::Here);
    assert_eq!(there.try_recv(), Ok(Answer::Placed(index)));
    let answers = wait(&mut fleet, 2, index, Scope::Here);
    assert!(is_waiting(&answers));
    while fleet.deliver(2) {}
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)));
    assert_eq!(fleet.hosts[2].read("f"), "two");
}

/// Trap T28: without an index, a majority is asked for the newest (P5).
#[test]
fn a_wait_without_an_index_asks_what_is_committed() {
    let (mut fleet, index) = lagging();
    fleet.commands.clear();
    let query = Query::Wait { index: None, scope: Scope::Here, timeout_ms: TIMEOUT_MS };
    let answers = fleet.ask_only(2, query);
    let read = fleet.commands.iter().find_map(|(at, command)| match command {
        Command::Read(id) if *at == 2 => Some(*id),
        _ => None,
    });
    let id = read.expect("a question to the log");
    fleet.give(2, Event::Log(Delivery::Read { id, index: Some(index) }));
    fleet.pass(2, 20_000);
    assert!(is_waiting(&answers), "it waits as long as its client does, not as a read");
    while fleet.deliver(2) {}
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)));
}

/// Trap T28: with `all` the others are asked, and tell when they are there.
#[test]
fn a_wait_for_all_hears_from_each() {
    let (mut fleet, index) = lagging();
    let answers = wait(&mut fleet, 1, index, Scope::All);
    assert!(is_waiting(&answers));
    while fleet.deliver(2) {}
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)), "node3 told it by itself");
    let answers = wait(&mut fleet, 1, index, Scope::All);
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)));
}

/// Trap T28: who cannot be reached is named at once; who says nothing, in seconds. Lost questions and
/// answers are asked for again.
#[test]
fn a_wait_for_all_names_who_is_not_reached() {
    let (mut fleet, index) = lagging();
    fleet.wire = Some(VecDeque::new());
    let answers = wait(&mut fleet, 0, index, Scope::All);
    assert_eq!(fleet.wire.as_ref().unwrap().len(), 2);
    fleet.wire.as_mut().unwrap().clear();
    fleet.pass(0, ASK_AGAIN_MS);
    while fleet.deliver(2) {}
    while let Some(letter) = fleet.wire.as_mut().unwrap().pop_front() {
        fleet.carry(letter);
    }
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)), "it was asked again");
    let answers = wait(&mut fleet, 0, index, Scope::All);
    for _ in 0..SILENT_MS / ASK_AGAIN_MS {
        fleet.pass(0, ASK_AGAIN_MS);
    }
    let Ok(Answer::Unreachable(why)) = answers.try_recv() else { panic!("an answer") };
    assert!(why.starts_with("node2"), "{why}");
    fleet.wire = None;
    fleet.kill(2);
    let answers = wait(&mut fleet, 0, index, Scope::All);
    assert_eq!(answers.try_recv(), Ok(Answer::Unreachable("node3".into())));
    let here = wait(&mut fleet, 0, index, Scope::Here);
    assert_eq!(here.try_recv(), Ok(Answer::Placed(index)));
}

/// Trap T28: what waits for somebody's hand is named at once, on whatever node it is; entries before it
/// are not kept by it.
#[test]
fn a_wait_names_what_is_blocked() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "before", "x");
    let before = index_of(&mut fleet, 0);
    let made = Program::new("mkfifo").arg(fleet.hosts[1].path("f")).status().unwrap();
    assert!(made.success());
    share(&mut fleet, 0, "f", "text");
    let index = index_of(&mut fleet, 0);
    for (at, scope) in [(0, Scope::All), (1, Scope::Here), (1, Scope::All)] {
        let Ok(Answer::Blocked(why)) = wait(&mut fleet, at, index, scope).try_recv() else {
            panic!("an answer")
        };
        assert!(why.starts_with("f on node2: a pipe, socket or device is in the way"), "{why}");
    }
    let answers = wait(&mut fleet, 0, before, Scope::All);
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(before)));
    let answers = wait(&mut fleet, 0, index, Scope::Here);
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)));
    std::fs::remove_file(fleet.hosts[1].path("f")).unwrap();
    fleet.settle();
    let answers = wait(&mut fleet, 0, index, Scope::All);
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)));
}

/// Trap T28: a wait that takes too long says for what: here for a content that nobody has sent.
#[test]
fn a_wait_that_takes_too_long_says_for_what() {
    let mut fleet = Fleet::new(2);
    fleet.settle();
    fleet.hosts[0].write("large", &"x".repeat(40_000));
    fleet.look(0);
    fleet.commit(0);
    fleet.lose_contents();
    while fleet.deliver(0) {}
    while fleet.deliver(1) {}
    let index = index_of(&mut fleet, 1);
    let answers = wait(&mut fleet, 0, index, Scope::All);
    for _ in 0..TIMEOUT_MS / ASK_AGAIN_MS {
        fleet.pass(1, ASK_AGAIN_MS);
        fleet.pass(0, ASK_AGAIN_MS);
    }
    let Ok(Answer::TimedOut(why)) = answers.try_recv() else { panic!("an answer") };
    assert!(why.contains("large on node2") && why.contains("content"), "{why}");
}

/// Trap T28: an index counts as placed although something before it is stuck on another node, and not
/// where it is stuck itself; a start forgets nothing of it.
#[test]
fn placed_is_told_again_after_a_start() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "text");
    let index = index_of(&mut fleet, 0);
    fleet.stop(1);
    fleet.start(1);
    let answers = wait(&mut fleet, 1, index, Scope::Here);
    assert!(is_waiting(&answers), "nothing is compared before the log is");
    fleet.settle();
    assert_eq!(answers.try_recv(), Ok(Answer::Placed(index)));
}

/// A watcher that has too much to do for a question is asked again.
#[test]
fn a_flush_that_was_not_taken_is_asked_again() {
    let mut fleet = Fleet::new(1);
    fleet.settle();
    let answers = flush(&mut fleet, 0);
    fleet.hosts[0].engine().not_taken(&WatchAsk::Flush(1));
    fleet.sight(0, Sighting::Flushed(Flushed { id: 1, ..Flushed::default() }));
    assert!(is_waiting(&answers));
    fleet.pass(0, 100);
    fleet.answer_asks(0);
    assert!(matches!(answers.try_recv(), Ok(Answer::Flushed(_))));
}
