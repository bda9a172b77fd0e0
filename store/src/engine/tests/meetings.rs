//! Things that are sound alone, and meet: renames and what is left out, rules and a state that is taken
//! over, deletions and what is on its way.

use super::fleet::{Fleet, Way, rel, share};
use crate::breaker::HoldRule;
use crate::content_id::ContentId;
use crate::contents::{ContentCommand, ContentEvent};
use crate::engine::ports::{Answer, HoldChoice, Query, WatchAsk};
use crate::engine::together::WAIT_MS;
use crate::engine::{Event, LIMBO_MS, LOOK_MS};
use crate::name::{Name, RelPath};
use crate::observation::{Hint, Observation, Place, Seen, Sighting};
use crate::op::Take;
use crate::placed::{LocalId, Placed};

fn make_pipe(path: &std::path::Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn unreadable(fleet: &mut Fleet, at: usize, path: &str) {
    let seen = Seen::Unreadable(rustix::io::Errno::ACCESS);
    let look = Observation { place: Place::Folder, path: rel(path), seen, hint: Hint::SCANNED };
    fleet.sight(at, Sighting::Saw(look));
}

fn flush(fleet: &mut Fleet, at: usize) -> Answer {
    let answers = fleet.ask_only(at, Query::Flush { timeout_ms: 60_000 });
    fleet.settle();
    answers.try_recv().expect("an answer")
}

/// Trap T28: what could not be read and left with its directory is nobody's concern any more.
#[test]
fn what_is_left_out_goes_with_its_directory() {
    let mut fleet = Fleet::new(1);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    unreadable(&mut fleet, 0, "d/x");
    // Moved out of the folder: one event for all of it.
    std::fs::rename(fleet.hosts[0].path("d"), fleet.hosts[0].state().join("d")).unwrap();
    let look = fleet.see(0, &rel("d")).unwrap();
    fleet.tell(0, look);
    fleet.settle();
    let index = fleet.hosts[0].engine().index.position().index;
    assert_eq!(flush(&mut fleet, 0), Answer::Flushed(index));
}

#[test]
fn what_is_left_out_is_told_by_its_new_path() {
    let mut fleet = Fleet::new(1);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    make_pipe(&fleet.hosts[0].path("d/x"));
    let look = fleet.see(0, &rel("d/x")).unwrap();
    fleet.tell(0, look);
    std::fs::rename(fleet.hosts[0].path("d"), fleet.hosts[0].path("e")).unwrap();
    for path in ["e", "d"] {
        let look = fleet.see(0, &rel(path)).unwrap();
        fleet.tell(0, look);
    }
    fleet.settle();
    assert_eq!(left_out(&mut fleet, 0), ["e/x"]);
}

fn left_out(fleet: &mut Fleet, at: usize) -> Vec<String> {
    fleet.hosts[at].engine().left_out.iter().map(|left| left.0.to_string()).collect()
}

/// Trap T3: two directories swap their names while the log hears of them. What it says of the one that
/// was not found again yet gives that one no name.
#[test]
fn directories_that_swap_their_names_on_their_way_stay_who_they_are() {
    let mut fleet = Fleet::new(1);
    for path in ["b", "c", "d"] {
        std::fs::create_dir(fleet.hosts[0].path(path)).unwrap();
    }
    fleet.look(0);
    fleet.commit(0);
    while fleet.deliver(0) {}
    // Those that waited for the first are on their way together.
    let away = fleet.hosts[0].path("away");
    for (from, to) in [("c", "away"), ("d", "c"), ("away", "d")] {
        std::fs::rename(fleet.hosts[0].path(from), fleet.hosts[0].path(to)).unwrap();
    }
    assert!(!away.exists());
    let look = fleet.see(0, &rel("d")).unwrap();
    fleet.tell(0, look);
    fleet.commit(0);
    while fleet.deliver(0) {}
    let known = ["c", "d"].map(|path| fleet.hosts[0].engine().index.resolve(&rel(path)).unwrap());
    assert!(known.iter().all(Option::is_some));
    let look = fleet.see_moved(0, &rel("c")).unwrap();
    fleet.tell(0, look);
    fleet.settle();
    let swapped = ["d", "c"].map(|path| fleet.hosts[0].engine().index.resolve(&rel(path)).unwrap());
    assert_eq!(swapped, known);
    fleet.assert_same();
}

/// Trap T16: a file gets another name. Nobody but the engine knows the first, through which no event tells
/// of what is written through the other; the watcher has to know that it has two.
#[test]
fn the_first_name_of_a_file_is_looked_at_when_it_gets_another() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "f", "one");
    std::fs::hard_link(fleet.hosts[0].path("f"), fleet.hosts[0].path("g")).unwrap();
    let look = fleet.see(0, &rel("g")).unwrap();
    fleet.tell(0, look);
    assert!(fleet.asked(0).contains(&WatchAsk::Examine(rel("f"))));
    fleet.settle();
    fleet.assert_same();
    assert_eq!(fleet.asked(0), &[], "that is the end of it");
}

/// Trap T10: a walk may tell of a pipe that is no more, after it was told that something else is there.
#[test]
fn a_stale_look_at_a_pipe_leaves_nothing_out() {
    let mut fleet = Fleet::new(1);
    for path in ["f", "gone"] {
        make_pipe(&fleet.hosts[0].path(path));
    }
    let looks: Vec<_> =
        ["f", "gone"].map(|path| fleet.see(0, &rel(path)).unwrap()).into_iter().collect();
    for path in ["f", "gone"] {
        std::fs::remove_file(fleet.hosts[0].path(path)).unwrap();
    }
    share(&mut fleet, 0, "f", "a file");
    for look in looks {
        fleet.tell(0, look);
    }
    fleet.settle();
    assert!(left_out(&mut fleet, 0).is_empty());
}

/// Trap T2: a directory that could be listed and not looked at is looked at again.
#[test]
fn a_directory_that_is_listed_and_not_known_is_looked_at() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "f", "one");
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    unreadable(&mut fleet, 0, "d");
    fleet.sight(0, Sighting::Listed { dir: rel("d"), names: Vec::new() });
    assert_eq!(left_out(&mut fleet, 0), ["d"], "it is not known yet");
    fleet.settle();
    assert!(left_out(&mut fleet, 0).is_empty());
    fleet.assert_same();
    assert!(fleet.hosts[0].engine().index.resolve(&rel("d")).unwrap().is_some());
}

/// Trap T28: a directory that can be looked at and not listed stays named until it can be listed: what
/// is in it is not in the log.
#[test]
fn a_directory_that_cannot_be_listed_stays_named() {
    let mut fleet = Fleet::new(1);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    fleet.look(0);
    fleet.settle();
    let (dir, errno) = (rel("d"), rustix::io::Errno::ACCESS);
    fleet.sight(0, Sighting::Unlisted { dir: dir.clone(), errno });
    let look = fleet.see(0, &dir).unwrap();
    fleet.tell(0, look);
    assert_eq!(left_out(&mut fleet, 0), ["d"]);
    fleet.sight(0, Sighting::Listed { dir, names: Vec::new() });
    assert!(left_out(&mut fleet, 0).is_empty());
}

/// Trap T10: a pipe went with the old path of its directory, which the log renamed meanwhile.
#[test]
fn what_is_left_out_below_a_directory_that_the_log_renames_is_looked_at() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    fleet.look(0);
    fleet.settle();
    make_pipe(&fleet.hosts[0].path("d/x"));
    let look = fleet.see(0, &rel("d/x")).unwrap();
    fleet.tell(0, look);
    std::fs::rename(fleet.hosts[1].path("d"), fleet.hosts[1].path("e")).unwrap();
    fleet.look(1);
    std::fs::remove_file(fleet.hosts[0].path("d/x")).unwrap();
    fleet.settle();
    let (place, seen, hint) = (Place::Folder, Seen::Gone, Hint::WENT);
    fleet.tell(0, Sighting::Saw(Observation { place, path: rel("d/x"), seen, hint }));
    fleet.settle();
    assert!(fleet.hosts[0].path("e").is_dir());
    assert!(left_out(&mut fleet, 0).is_empty());
}

/// Trap T2: a list tells also what is not left out any more.
#[test]
fn what_is_left_out_and_not_listed_is_gone() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "f", "one");
    make_pipe(&fleet.hosts[0].path("x"));
    for path in ["x", "y"] {
        unreadable(&mut fleet, 0, path);
    }
    fleet.sight(0, Sighting::Listed { dir: rel(""), names: vec![Name::new("f").unwrap()] });
    assert_eq!(left_out(&mut fleet, 0), ["x"], "the list is older than what is there");
}

/// Source: promise P3. A state that is wrong is not right because the daemon was restarted.
#[test]
fn a_node_that_was_outvoted_leaves_its_folder_alone_after_a_restart() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.hosts[1].engine().index.rot();
    share(&mut fleet, 0, "f", "two");
    for at in 0..3 {
        fleet.pass(at, 6_000);
    }
    fleet.settle();
    assert!(fleet.hosts[1].engine().comparison.is_outvoted());
    fleet.checkpoint(1);
    fleet.stop(1);
    fleet.start(1);
    while fleet.deliver(1) {}
    assert!(fleet.hosts[1].engine().comparison.is_outvoted());
}

/// Trap T28: what is left alone because nobody knows whether it is ignored is not in the log.
#[test]
fn a_flush_waits_for_rules_that_are_on_their_way() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, ".pickboxignore", "*.o\n");
    fleet.loses_contents = true;
    std::fs::remove_file(fleet.hosts[2].path(".pickboxignore")).unwrap();
    fleet.readmit(2, Way::State);
    fleet.settle();
    assert!(fleet.hosts[2].engine().misses_rules());
    fleet.hosts[2].write("mine", "is not ignored");
    let answers = fleet.ask_only(2, Query::Flush { timeout_ms: 60_000 });
    for _ in 0..20 {
        fleet.answer_asks(2);
        fleet.commit(2);
        while fleet.deliver(2) {}
        fleet.pass(2, 100);
    }
    let answer = answers.try_recv();
    assert!(!matches!(answer, Ok(Answer::Flushed(_))), "{answer:?}");
}

fn held_dir() -> Fleet {
    let mut fleet = Fleet::new(3);
    fleet.kill(1);
    fleet.hosts[1].hold_rule = HoldRule::Above { files: 4, percent: 25 };
    fleet.start(1);
    fleet.settle();
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    for n in 0..6 {
        fleet.hosts[1].write(&format!("d/{n}"), &format!("below {n}"));
    }
    fleet.converge();
    fleet
}

/// Traps T13 and T20: a file in place of a directory lets nothing through that is held below.
#[test]
fn a_file_takes_the_place_of_a_directory_whose_files_are_held() {
    for approve in [true, false] {
        let mut fleet = held_dir();
        std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
        fleet.hosts[1].write("d", "a file now");
        fleet.look(1);
        fleet.settle();
        let tree = fleet.hosts[0].tree();
        for n in 0..6 {
            assert!(tree.contains_key(&format!("d/{n}")), "{tree:?}");
        }
        let query =
            if approve { Query::Approve(HoldChoice::All) } else { Query::Reject(HoldChoice::All) };
        let answer = fleet.ask(1, query);
        assert!(matches!(answer, Answer::Decided { .. }), "{answer:?}");
        fleet.converge();
        fleet.assert_same();
    }
}

/// Trap T20: who answers late must not decide about another hold than the one that was shown.
#[test]
fn the_id_of_a_hold_that_was_decided_is_not_used_again() {
    let mut fleet = held_dir();
    std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
    fleet.look(1);
    fleet.settle();
    let Answer::Held(lines) = fleet.ask(1, Query::Held) else { panic!() };
    let first = lines[0].id.clone();
    fleet.ask(1, Query::Reject(HoldChoice::All));
    fleet.converge();
    std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
    fleet.look(1);
    fleet.settle();
    let Answer::Held(lines) = fleet.ask(1, Query::Held) else { panic!() };
    assert_ne!(lines[0].id, first);
}

/// The majority holds a large file the moment that it is deleted: what was deleted stays deleted.
#[test]
fn a_deletion_outruns_the_offer_of_the_file() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", &"one".repeat(20_000));
    fleet.has_slow_offers = true;
    let two = "two".repeat(20_000);
    fleet.hosts[0].write("f", &two);
    fleet.look(0);
    let offer = fleet
        .told
        .iter()
        .rev()
        .find_map(|(_, command)| match command {
            ContentCommand::Offer(offer) => Some(offer.clone()),
            _ => None,
        })
        .unwrap();
    std::fs::remove_file(fleet.hosts[0].path("f")).unwrap();
    let look = fleet.see(0, &rel("f")).unwrap();
    fleet.sight(0, look);
    let content = ContentId::of(two.as_bytes());
    let holders = (1..=3).map(pickbox_raft::core::ids::NodeId::new).collect();
    let (ticket, stat, size) = (offer.ticket, offer.expect, offer.expect.size);
    fleet.give(0, Event::Content(ContentEvent::Held { ticket, content, size, stat, holders }));
    fleet.calm(0);
    fleet.loses_contents = true;
    fleet.settle();
    assert!(fleet.hosts[0].tree().is_empty());
    fleet.loses_contents = false;
    assert!(fleet.hosts[1].tree().is_empty(), "{:?}", fleet.hosts[1].tree());
}

/// Trap T9: a large file that changes faster than it is brought to the others holds the rest of its
/// repository back for no longer than any other.
#[test]
fn a_large_file_that_changes_all_the_time_does_not_starve_its_repository() {
    let mut fleet = Fleet::new(3);
    std::fs::create_dir(fleet.hosts[0].path(".git")).unwrap();
    share(&mut fleet, 0, ".git/ref", "before");
    fleet.has_slow_offers = true;
    fleet.hosts[0].write(".git/log", &"x".repeat(40_000));
    fleet.look(0);
    fleet.hosts[0].write(".git/ref", "after");
    for n in 0..20 {
        fleet.hosts[0].write(".git/log", &"x".repeat(40_001 + n));
        fleet.look(0);
        for _ in 0..10 {
            fleet.pass(0, WAIT_MS / 50);
            fleet.commit(0);
            for at in 0..3 {
                while fleet.deliver(at) {}
            }
        }
    }
    assert_eq!(fleet.hosts[1].read(".git/ref"), "after");
}

/// The names of conflict copies are ignored: the loser is kept by the node that lost.
#[test]
fn a_loser_whose_copy_is_ignored_is_not_lost() {
    for large in [false, true] {
        let text = |text: &str| if large { text.repeat(20_000) } else { text.to_owned() };
        let mut fleet = Fleet::new(3);
        share(&mut fleet, 0, ".pickboxignore", "*.conflict-*\n");
        share(&mut fleet, 0, "f", "base");
        fleet.hosts[0].write("f", &text("left"));
        fleet.look(0);
        fleet.hosts[1].write("f", &text("right"));
        fleet.look(1);
        fleet.commit(0);
        fleet.commit(1);
        fleet.settle();
        for at in 0..3 {
            fleet.look(at);
        }
        fleet.settle();
        for at in 0..3 {
            let status = fleet.hosts[at].engine().store_status().unwrap();
            assert_eq!((status.undecided, status.unplaced), (0, 0), "{:?}", status.waiting);
        }
        let content = ContentId::of(text("right").as_bytes());
        assert!(fleet.find_bytes(content).is_some());
    }
}

/// Trap T10: the same for an edit that an exchange brought out.
#[test]
fn a_displaced_edit_whose_copy_is_ignored_is_not_lost() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, ".pickboxignore", "*.conflict-*\n");
    share(&mut fleet, 0, "f", "base");
    // Unseen edit on 1 while version of 0 arrives: displaced.
    fleet.hosts[1].write("f", "unseen edit");
    share(&mut fleet, 0, "f", "of the other");
    for at in 0..3 {
        fleet.look(at);
    }
    fleet.settle();
    for at in 0..3 {
        let status = fleet.hosts[at].engine().store_status().unwrap();
        assert_eq!((status.undecided, status.unplaced), (0, 0), "{at} {:?}", status.waiting);
    }
    assert!(fleet.find_bytes(ContentId::of(b"unseen edit")).is_some());
}

/// The watcher was too busy to hear of the rules: what it passed by is looked at in the end.
#[test]
fn rules_that_the_watcher_did_not_hear_are_told_again() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, ".pickboxignore", "build/\n");
    std::fs::create_dir(fleet.hosts[0].path("build")).unwrap();
    fleet.hosts[0].write("build/out", "made while ignored");
    fleet.settle();
    fleet.hosts[1].write(".pickboxignore", "");
    fleet.look(1);
    fleet.commit(1);
    while fleet.deliver(1) {}
    while fleet.deliver(0) {}
    // Its watcher is too busy for the rules, and walks by the old ones.
    let asks = fleet.asked(0).to_vec();
    for ask in &asks {
        if let WatchAsk::Ignore(_) = ask {
            fleet.forget_ask(0, ask);
            fleet.hosts[0].engine().not_taken(ask);
        }
    }
    fleet.settle();
    assert_eq!(fleet.hosts[1].read("build/out"), "made while ignored");
}

/// Trap T19: a node is admitted anew, and its folder is walked before the rules are here: what was
/// passed by is judged like all the rest.
#[test]
fn a_folder_is_taken_over_with_what_waited_for_rules() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, ".pickboxignore", "*.o\n");
    share(&mut fleet, 0, "gone", "will be deleted");
    share(&mut fleet, 0, "old", "old version");
    fleet.kill(2);
    std::fs::remove_file(fleet.hosts[0].path("gone")).unwrap();
    fleet.hosts[0].write("old", "new version");
    fleet.hosts[0].write(".pickboxignore", "*.o\n*.a\n");
    fleet.look(0);
    for _ in 0..10 {
        for at in 0..2 {
            fleet.commit(at);
            while fleet.deliver(at) {}
            fleet.answer_asks(at);
            fleet.pass(at, 1_000);
        }
    }
    fleet.loses_contents = true;
    fleet.readmit(2, Way::State);
    for _ in 0..20 {
        for at in 0..3 {
            fleet.commit(at);
            while fleet.deliver(at) {}
            if at == 2
                && fleet.hosts[2].engine().is_live()
                && !fleet.hosts[2].engine().has_scanned()
            {
                fleet.look(2);
            }
            fleet.answer_asks(at);
            fleet.pass(at, 1_000);
        }
    }
    assert!(fleet.hosts[2].engine().misses_rules());
    fleet.checkpoint(2);
    fleet.loses_contents = false;
    fleet.converge();
    let names: Vec<_> = fleet.hosts[0].tree().into_keys().collect();
    assert_eq!(names, [".pickboxignore", "old"]);
    fleet.assert_same();
}

/// Trap T20: a hold and a rule that comes and goes: nothing is let through.
#[test]
fn a_rule_over_held_deletions_lets_nothing_through() {
    let mut fleet = held_dir();
    let before = fleet.hosts[0].tree();
    std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
    fleet.look(1);
    fleet.settle();
    share(&mut fleet, 0, ".pickboxignore", "d/\n");
    std::fs::remove_file(fleet.hosts[0].path(".pickboxignore")).unwrap();
    fleet.converge();
    assert_eq!(fleet.hosts[0].tree(), before);
    let Answer::Held(lines) = fleet.ask(1, Query::Held) else { panic!() };
    assert_eq!(lines[0].files, 6, "{lines:?}");
    fleet.ask(1, Query::Reject(HoldChoice::All));
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].tree(), before);
}

/// Trap T20: a held deletion is not one for a node that is admitted anew, nor let through by a state
/// that is taken over.
#[test]
fn a_hold_and_a_state_that_is_taken_over() {
    for way in [None, Some(Way::Log), Some(Way::State)] {
        let mut fleet = held_dir();
        let before = fleet.hosts[0].tree();
        std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
        fleet.look(1);
        fleet.settle();
        if let Some(way) = way {
            fleet.readmit(1, way);
        } else {
            share(&mut fleet, 0, "new", "one more");
            std::fs::remove_file(fleet.hosts[0].path("new")).unwrap();
            fleet.look(0);
            fleet.settle_others(1);
            fleet.need_state(1, 0);
        }
        fleet.converge();
        assert_eq!(fleet.hosts[0].tree(), before, "{way:?}");
        let Answer::Held(lines) = fleet.ask(1, Query::Held) else { panic!() };
        let held = lines.first().map_or(0, |line| line.files);
        assert_eq!(held, if way.is_none() { 6 } else { 0 }, "{way:?}");
    }
}

/// Two sides of a partition change the rules: one of them is in force, and what only the other one
/// ignores is replicated.
#[test]
fn rules_that_lost_ignore_nothing() {
    let mut fleet = Fleet::new(3);
    fleet.hosts[0].write(".pickboxignore", "*.b\n");
    fleet.look(0);
    fleet.hosts[1].write(".pickboxignore", "*.a\n");
    fleet.hosts[1].write("x.a", "ignored by the loser");
    fleet.look(1);
    fleet.commit(0);
    fleet.commit(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read(".pickboxignore"), "*.b\n");
    assert_eq!(fleet.hosts[2].read("x.a"), "ignored by the loser");
}

/// A directory is renamed elsewhere while its deletion is held here.
#[test]
fn what_is_held_is_renamed_elsewhere() {
    for approve in [true, false] {
        let mut fleet = held_dir();
        std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
        fleet.look(1);
        fleet.settle();
        std::fs::rename(fleet.hosts[0].path("d"), fleet.hosts[0].path("e")).unwrap();
        fleet.look(0);
        fleet.settle();
        assert!(fleet.hosts[2].path("e/3").exists());
        let query =
            if approve { Query::Approve(HoldChoice::All) } else { Query::Reject(HoldChoice::All) };
        fleet.ask(1, query);
        fleet.converge();
        fleet.assert_same();
        assert_eq!(fleet.hosts[2].path("e/3").exists(), !approve);
    }
}

/// The copy of a conflict is ignored, so one node alone has it, and it is the one to be taken.
#[test]
fn an_ignored_copy_can_be_taken() {
    for large in [false, true] {
        let text = |text: &str| if large { text.repeat(20_000) } else { text.to_owned() };
        let mut fleet = Fleet::new(3);
        share(&mut fleet, 0, ".pickboxignore", "*.conflict-*\n");
        share(&mut fleet, 0, "f", "base");
        fleet.hosts[0].write("f", &text("left"));
        fleet.look(0);
        fleet.hosts[1].write("f", &text("right"));
        fleet.look(1);
        fleet.commit(0);
        fleet.commit(1);
        fleet.settle();
        let query = Query::Resolve { path: rel("f"), take: Take::Theirs, seen: None };
        let answer = fleet.ask(2, query);
        assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
        for at in 0..3 {
            fleet.look(at);
        }
        fleet.settle();
        for at in 0..3 {
            assert_eq!(fleet.hosts[at].read("f"), text("right"));
            let status = fleet.hosts[at].engine().store_status().unwrap();
            assert_eq!((status.undecided, status.unplaced), (0, 0), "{at} {:?}", status.waiting);
        }
    }
}

/// Trap T13: found by a walk, before which nothing is said of what is gone: the deletions go first.
#[test]
fn a_walk_finds_a_file_where_a_directory_was() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path("x")).unwrap();
    share(&mut fleet, 0, "x/in", "inside");
    std::fs::remove_dir_all(fleet.hosts[0].path("x")).unwrap();
    fleet.hosts[0].write("x", "a file now");
    fleet.sight(0, Sighting::WalkStarted(rel("")));
    let look = fleet.see(0, &rel("x")).unwrap();
    fleet.sight(0, look);
    fleet.commit(0);
    while fleet.deliver(0) {}
    fleet.sight(0, Sighting::WalkDone { top: rel(""), complete: true });
    fleet.calm(0);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].tree().len(), 1, "no copy: {:?}", fleet.hosts[1].tree());
    assert_eq!(fleet.hosts[1].read("x"), "a file now");
}

/// A walk finds that something can be read again, although it did not change.
#[test]
fn a_walk_takes_back_what_was_left_out() {
    let mut fleet = Fleet::new(1);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    share(&mut fleet, 0, "d/g", "one");
    unreadable(&mut fleet, 0, "d/f");
    fleet.walk(0);
    assert!(fleet.hosts[0].engine().left_out.is_empty());
    let asked = fleet.asked(0).len();
    fleet.walk(0);
    assert_eq!(fleet.asked(0).len(), asked, "nothing is read for that");
}

/// Trap T3: a directory took the name of an empty one, and then the empty one is known to be gone. Its
/// row does not take the name back from what stands there, which would be deleted everywhere.
#[test]
fn what_is_gone_does_not_take_its_name_back() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    share(&mut fleet, 1, "d/f", "text");
    let engine = fleet.hosts[1].engine();
    let name = crate::name::Name::new("d").unwrap();
    let (live, row) = engine.row_at(LocalId::ROOT, &name).unwrap().unwrap();
    let gone = Placed { seen: None, base: None, ..row };
    let old = engine.new_local();
    engine.set_row(old, Some(&gone)).unwrap();
    assert_eq!(engine.row_at(LocalId::ROOT, &name).unwrap().map(|(id, _)| id), Some(live));
    assert!(engine.limbo.is_empty(), "and nobody doubts that it is there");
}

/// Source: trap T3. A directory lost its name to another one and went nobody knows where, and the
/// daemon is killed while it waits to be told: what was in it went as well.
#[test]
fn a_directory_that_lost_its_name_before_a_kill_is_gone_with_what_it_held() {
    let mut fleet = Fleet::new(2);
    for path in ["d", "a"] {
        std::fs::create_dir(fleet.hosts[0].path(path)).unwrap();
    }
    share(&mut fleet, 0, "d/f", "one");
    share(&mut fleet, 0, "a/g", "two");
    std::fs::rename(fleet.hosts[0].path("d"), fleet.hosts[0].state().join("d")).unwrap();
    std::fs::rename(fleet.hosts[0].path("a"), fleet.hosts[0].path("d")).unwrap();
    let look = fleet.see_moved(0, &rel("d")).unwrap();
    fleet.tell(0, look);
    fleet.kill(0);
    fleet.start(0);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let paths: Vec<_> = fleet.hosts[1].tree().into_keys().collect();
    assert_eq!(paths, ["d", "d/g"]);
}

/// A thing below a directory whose name another thing has is not looked for time and again: what is
/// asked of that name is asked of the other thing.
#[test]
fn what_stood_below_a_thing_that_lost_its_name_is_no_more() {
    let mut fleet = Fleet::new(1);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    std::fs::remove_dir_all(fleet.hosts[0].path("d")).unwrap();
    fleet.hosts[0].write("d", "a file");
    let engine = fleet.hosts[0].engine();
    let below = engine.resolve_local(&rel("d/f")).unwrap().unwrap();
    let above = engine.resolve_local(&rel("d")).unwrap().unwrap();
    let mut file = engine.row(above).unwrap().unwrap();
    let stat = engine.folder.dir(&RelPath::root()).unwrap().stat(&file.name).unwrap();
    (file.base, file.seen.as_mut().unwrap().stat) = (None, stat);
    let other = engine.new_local();
    engine.set_row(other, Some(&file)).unwrap();
    // As after a kill: nobody remembers that it is in doubt.
    engine.limbo.clear();
    engine.look_again(below).unwrap();
    for _ in 0..5 {
        fleet.answer_asks(0);
        fleet.pass(0, LOOK_MS + LIMBO_MS);
    }
    assert_eq!(fleet.asked(0), []);
    assert!(fleet.hosts[0].engine().row(below).unwrap().is_none_or(|row| row.seen.is_none()));
    fleet.converge();
    fleet.assert_same();
}
