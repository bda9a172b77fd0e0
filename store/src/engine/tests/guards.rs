//! Trap T20: too many deletions are held, by the node on which they were made, for a person to
//! decide. The bounds here are lower than those of a daemon.

use super::fleet::{Fleet, rel, share};
use crate::breaker::HoldRule;
use crate::engine::ports::{Answer, HoldChoice, HoldLine, Query};

/// Held above 4 files and a quarter.
const RULE: HoldRule = HoldRule::Above { files: 4, percent: 25 };

/// Three nodes; node 2, on which things are deleted, holds early. Ten files, six of them below `d`.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new(3);
    fleet.kill(1);
    fleet.hosts[1].hold_rule = RULE;
    fleet.start(1);
    fleet.settle();
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    for n in 0..6 {
        fleet.hosts[1].write(&format!("d/{n}"), &format!("below {n}"));
    }
    for n in 0..4 {
        fleet.hosts[1].write(&format!("top{n}"), &format!("top {n}"));
    }
    fleet.converge();
    fleet
}

fn held(fleet: &mut Fleet) -> Vec<HoldLine> {
    let Answer::Held(lines) = fleet.ask(1, Query::Held) else { panic!() };
    lines
}

fn decide(fleet: &mut Fleet, query: Query) -> usize {
    match fleet.ask(1, query) {
        Answer::Decided { count } => count,
        other => panic!("{other:?}"),
    }
}

/// `rm -rf FOLDER/*` on node 2.
fn remove_all(fleet: &mut Fleet) {
    std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
    for n in 0..4 {
        std::fs::remove_file(fleet.hosts[1].path(&format!("top{n}"))).unwrap();
    }
    fleet.look(1);
    fleet.settle();
}

/// Trap T20, faults 46 and 47: the folder was emptied; no other node loses a file, from the first
/// one on, and STATUS says what to do.
#[test]
fn an_emptied_folder_is_held_whole() {
    let mut fleet = fleet();
    let before = fleet.hosts[0].tree();
    remove_all(&mut fleet);
    assert_eq!(fleet.hosts[0].tree(), before);
    assert_eq!(fleet.hosts[2].tree(), before);
    let lines = held(&mut fleet);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].id.as_str(), lines[0].files, lines[0].directories), ("node2-1", 10, 1));
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!((status.held, status.undecided), (11, 0));
    let alarm = &status.alarms[0];
    assert!(alarm.contains("pickbox approve node2-1"), "{alarm}");
    assert!(alarm.contains("pickbox reject node2-1") && alarm.contains("10 files"), "{alarm}");
}

/// Trap T20, fault 47.
#[test]
fn what_is_approved_is_deleted_everywhere() {
    let mut fleet = fleet();
    remove_all(&mut fleet);
    assert_eq!(decide(&mut fleet, Query::Approve(HoldChoice::One("node2-1".into()))), 11);
    fleet.converge();
    fleet.assert_same();
    assert!(fleet.hosts[0].tree().is_empty());
    assert!(fleet.hosts[1].engine().store_status().unwrap().alarms.is_empty());
}

/// Trap T20, fault 47.
#[test]
fn what_is_rejected_comes_back() {
    let mut fleet = fleet();
    let before = fleet.hosts[0].tree();
    remove_all(&mut fleet);
    assert_eq!(decide(&mut fleet, Query::Reject(HoldChoice::All)), 11);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].tree(), before);
    assert!(held(&mut fleet).is_empty());
    std::fs::remove_file(fleet.hosts[1].path("top1")).unwrap();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree().len(), before.len() - 1, "and single deletions go on");
}

/// Trap T20: nothing is proposed before the watcher has told all that went together.
#[test]
fn the_first_deletion_waits_for_the_last() {
    let mut fleet = fleet();
    let before = fleet.hosts[0].tree();
    let mut looks = Vec::new();
    for n in 0..6 {
        let path = format!("d/{n}");
        std::fs::remove_file(fleet.hosts[1].path(&path)).unwrap();
        looks.push(fleet.see(1, &rel(&path)).unwrap());
    }
    let entries = fleet.log_len();
    for look in looks {
        fleet.sight(1, look);
        fleet.commit(1);
    }
    assert_eq!(fleet.log_len(), entries);
    fleet.calm(1);
    fleet.settle();
    assert_eq!(fleet.hosts[2].tree(), before);
    assert_eq!(held(&mut fleet)[0].files, 6);
}

/// Few deletions go at once with the word of the watcher: no timer of the store's own.
#[test]
fn a_single_deletion_waits_for_nothing_more() {
    let mut fleet = fleet();
    std::fs::remove_file(fleet.hosts[1].path("top0")).unwrap();
    let look = fleet.see(1, &rel("top0")).unwrap();
    fleet.sight(1, look);
    fleet.commit(1);
    assert_eq!(fleet.hosts[1].engine().guard.fresh_count(), 1);
    let before = fleet.log_len();
    fleet.calm(1);
    fleet.commit(1);
    assert_eq!(fleet.log_len(), before + 1, "no time has passed");
}

/// Trap T20: a hold outlives the daemon, however that ends, under the same name.
#[test]
fn a_hold_outlives_a_kill_and_a_stop() {
    let mut fleet = fleet();
    let before = fleet.hosts[0].tree();
    remove_all(&mut fleet);
    let lines = held(&mut fleet);
    // With other bounds it would not be held again: it is remembered, not found anew.
    fleet.hosts[1].hold_rule = HoldRule::Off;
    for round in 0..3 {
        if round == 1 {
            fleet.stop(1);
        } else {
            fleet.kill(1);
        }
        fleet.start(1);
        fleet.converge();
        assert_eq!(held(&mut fleet), lines, "round {round}");
        assert_eq!(fleet.hosts[0].tree(), before);
        fleet.checkpoint(1);
    }
    assert_eq!(decide(&mut fleet, Query::Approve(HoldChoice::All)), 11);
    fleet.converge();
    fleet.assert_same();
    assert!(fleet.hosts[0].tree().is_empty());
}

/// Trap T20: an accident that a restart comes into: what goes after it is held with what went before,
/// though it would be few by itself.
#[test]
fn what_goes_after_a_restart_joins_the_hold() {
    let mut fleet = fleet();
    let before = fleet.hosts[0].tree();
    std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, 6);
    fleet.kill(1);
    fleet.start(1);
    fleet.converge();
    std::fs::remove_file(fleet.hosts[1].path("top0")).unwrap();
    fleet.look(1);
    fleet.settle();
    let lines = held(&mut fleet);
    assert_eq!((lines.len(), lines[0].id.as_str(), lines[0].files), (1, "node2-1", 7));
    assert_eq!(fleet.hosts[0].tree(), before);
    // Somebody has looked: the window ends.
    assert_eq!(decide(&mut fleet, Query::Approve(HoldChoice::All)), 8);
    std::fs::remove_file(fleet.hosts[1].path("top1")).unwrap();
    fleet.converge();
    assert!(held(&mut fleet).is_empty());
    fleet.assert_same();
}

/// Trap T20: nobody is asked twice, also if the daemon is killed right after the answer.
#[test]
fn an_approval_outlives_a_kill() {
    let mut fleet = fleet();
    remove_all(&mut fleet);
    let answer = fleet.ask_only(1, Query::Approve(HoldChoice::All));
    assert_eq!(answer.try_recv().unwrap(), Answer::Decided { count: 11 });
    fleet.kill(1);
    fleet.start(1);
    fleet.converge();
    fleet.assert_same();
    assert!(fleet.hosts[0].tree().is_empty());
}

/// Traps T12 and T20: an edit beats a deletion, held or not; the others stay held.
#[test]
fn an_edit_elsewhere_takes_a_file_out_of_the_hold() {
    let mut fleet = fleet();
    remove_all(&mut fleet);
    share(&mut fleet, 0, "d/3", "edited");
    share(&mut fleet, 0, "d/new", "made");
    assert_eq!(fleet.hosts[1].read("d/3"), "edited");
    assert_eq!(fleet.hosts[1].read("d/new"), "made");
    let lines = held(&mut fleet);
    assert_eq!((lines[0].files, lines[0].directories), (9, 0), "{lines:?}");
    assert_eq!(decide(&mut fleet, Query::Approve(HoldChoice::All)), 9);
    fleet.converge();
    fleet.assert_same();
    let left: Vec<_> = fleet.hosts[2].tree().into_keys().collect();
    assert_eq!(left, ["d", "d/3", "d/new"]);
}

/// Traps T8 and T20: `rm -rf build && make`: what is made again was replaced, not deleted.
#[test]
fn what_is_made_again_is_held_no_more() {
    let mut fleet = fleet();
    remove_all(&mut fleet);
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    for n in 0..6 {
        fleet.hosts[1].write(&format!("d/{n}"), "built again");
    }
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[0].read("d/5"), "built again");
    assert_eq!(held(&mut fleet)[0].files, 4);
    for n in 0..4 {
        fleet.hosts[1].write(&format!("top{n}"), &format!("top {n}"));
    }
    fleet.converge();
    fleet.assert_same();
    assert!(held(&mut fleet).is_empty());
    assert_eq!(fleet.hosts[2].tree().len(), 11, "no conflict copies");
}

/// Trap T20: what was deleted elsewhere too needs no decision.
#[test]
fn what_others_delete_too_is_held_no_more() {
    let mut fleet = fleet();
    remove_all(&mut fleet);
    for n in 0..4 {
        std::fs::remove_file(fleet.hosts[0].path(&format!("top{n}"))).unwrap();
    }
    fleet.look(0);
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, 6);
}

/// Trap T20: one after the other is the same as at once; what goes later belongs to the same hold.
#[test]
fn slow_deletions_are_held_once_they_are_too_many() {
    let mut fleet = fleet();
    for path in ["top0", "top1", "top2", "top3", "d/0", "d/1"] {
        std::fs::remove_file(fleet.hosts[1].path(path)).unwrap();
        fleet.look(1);
        fleet.settle();
    }
    let lines = held(&mut fleet);
    assert_eq!((lines.len(), lines[0].files), (1, 2), "{lines:?}");
    assert_eq!(fleet.hosts[0].tree().len(), 7);
    assert_eq!(decide(&mut fleet, Query::Reject(HoldChoice::All)), 2);
    fleet.converge();
    fleet.assert_same();
}

/// Trap T20: a tree that is moved out of the folder is deleted for the others.
#[test]
fn what_is_moved_out_of_the_folder_is_held() {
    let mut fleet = fleet();
    let before = fleet.hosts[0].tree();
    let away = fleet.hosts[1].path("").with_file_name("away");
    std::fs::rename(fleet.hosts[1].path("d"), &away).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, 6);
    assert_eq!(fleet.hosts[0].tree(), before);
    std::fs::rename(&away, fleet.hosts[1].path("d")).unwrap();
    fleet.converge();
    fleet.assert_same();
    assert!(held(&mut fleet).is_empty());
}

/// Traps T3 and T20: a moved inode is looked for before anything counts as deleted, also when a
/// walk meets its old place first. The files keep their history.
#[test]
fn what_was_moved_while_the_daemon_was_down_is_no_deletion() {
    let mut fleet = fleet();
    fleet.kill(1);
    std::fs::create_dir(fleet.hosts[1].path("z")).unwrap();
    for n in 0..6 {
        let (from, to) = (format!("d/{n}"), format!("z/{n}"));
        std::fs::rename(fleet.hosts[1].path(&from), fleet.hosts[1].path(&to)).unwrap();
    }
    fleet.start(1);
    fleet.converge();
    fleet.assert_same();
    assert!(held(&mut fleet).is_empty());
    assert_eq!(fleet.hosts[0].read("z/5"), "below 5");
    let log = fleet.ask(0, Query::Log(rel("d/5")));
    assert_eq!(log, Answer::NotFound, "renamed, not deleted");
}

/// Trap T20: deletions made while the daemon was down are weighed when the first walk is over.
#[test]
fn what_was_deleted_while_the_daemon_was_down_is_held() {
    let mut fleet = fleet();
    let before = fleet.hosts[0].tree();
    fleet.kill(1);
    std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
    fleet.start(1);
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, 6);
    assert_eq!(fleet.hosts[0].tree(), before);
}

/// Trap T20: a client that deletes one file after another means it.
#[test]
fn deletions_by_clients_are_not_held() {
    let mut fleet = fleet();
    for n in 0..6 {
        let path = rel(&format!("d/{n}"));
        assert!(matches!(fleet.ask(1, Query::Remove { path }), Answer::Committed(_)));
    }
    fleet.converge();
    fleet.assert_same();
    assert!(held(&mut fleet).is_empty());
}

/// Trap T20: to empty files is not to delete them: the versions before are in the history.
#[test]
fn emptied_files_are_edits() {
    let mut fleet = fleet();
    for n in 0..6 {
        fleet.hosts[1].write(&format!("d/{n}"), "");
    }
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("d/0"), "");
}

/// Trap T20: who asks the wrong node is told which one.
#[test]
fn another_node_says_who_holds_them() {
    let mut fleet = fleet();
    remove_all(&mut fleet);
    let one = HoldChoice::One("node2-1".into());
    let Answer::NoHold(why) = fleet.ask(0, Query::Approve(one)) else { panic!() };
    assert!(why.contains("held on node2, this is node1"), "{why}");
    let Answer::NoHold(why) = fleet.ask(0, Query::Reject(HoldChoice::All)) else { panic!() };
    assert!(why.contains("nothing is held on node1"), "{why}");
    let none = HoldChoice::One("node2-7".into());
    assert!(matches!(fleet.ask(1, Query::Approve(none)), Answer::NoHold(_)));
    assert_eq!(held(&mut fleet)[0].files, 10);
}

/// `--hold-deletes off`.
#[test]
fn a_node_may_be_told_to_hold_nothing() {
    let mut fleet = fleet();
    fleet.kill(1);
    fleet.hosts[1].hold_rule = HoldRule::Off;
    fleet.start(1);
    remove_all(&mut fleet);
    fleet.converge();
    fleet.assert_same();
    assert!(fleet.hosts[0].tree().is_empty());
}

/// Traps T20 and T28: a flush does not wait for a person; it says what it leaves behind.
#[test]
fn a_flush_names_what_is_held() {
    let mut fleet = fleet();
    remove_all(&mut fleet);
    fleet.hosts[1].write("new", "new");
    let answer = fleet.ask(1, Query::Flush { timeout_ms: 60_000 });
    let Answer::Partial(partial) = answer else { panic!("{answer:?}") };
    assert_eq!((partial.held.count, partial.open.count), (11, 0), "{partial:?}");
    assert!(!partial.held.paths.is_empty());
}
