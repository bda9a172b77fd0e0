//! Why a path is as it is: facts of several nodes, put together.

use std::collections::VecDeque;
use std::process::Command as Program;

use super::fleet::{Fleet, rel, share};
use crate::engine::ports::{Answer, Query};
use crate::engine::questions::{Question, Told};
use crate::engine::why::{OTHERS_MS, WHYS_MAX};
use crate::observation::{Hint, Observation, Place, Seen, Sighting};
use crate::why::{Disk, Kind, Reason, WhyReport};

fn why(fleet: &mut Fleet, at: usize, path: &str) -> WhyReport {
    let answers = fleet.ask_only(at, Query::Why(rel(path)));
    match answers.try_recv() {
        Ok(Answer::Why(report)) => *report,
        other => panic!("{other:?}"),
    }
}

/// A version that is everywhere: by whom, of which entry, and the same in each folder.
#[test]
fn a_path_that_is_everywhere_says_so() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    share(&mut fleet, 1, "f", "two");
    let report = why(&mut fleet, 2, "f");
    let agreed = report.agreed.expect("it is agreed");
    assert_eq!((agreed.author.as_str(), agreed.thing.size), ("node2", 3));
    let version: Vec<&str> = agreed.version.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(version, ["node1", "node2"]);
    assert!(agreed.wall_ms.is_some(), "a former version was displaced then");
    assert!(report.deleted.is_none() && report.here.reasons.is_empty(), "{:?}", report.here);
    assert_eq!(report.others.len(), 2);
    for (name, facts) in &report.others {
        let facts = facts.as_ref().unwrap_or_else(|| panic!("{name}"));
        assert!(matches!(facts.disk, Disk::AsAgreed(_)), "{name}: {facts:?}");
        assert_eq!(facts.version.as_ref(), Some(&agreed.thing));
    }
}

/// A node that is dead or silent does not keep the answer for long.
#[test]
fn who_does_not_answer_is_not_waited_for() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.kill(2);
    let report = why(&mut fleet, 0, "f");
    assert!(report.others[0].1.is_some() && report.others[1].1.is_none());
    fleet.wire = Some(VecDeque::new());
    let answers = fleet.ask_only(0, Query::Why(rel("f")));
    fleet.pass(0, OTHERS_MS - 100);
    assert!(answers.try_recv().is_err());
    fleet.pass(0, 100);
    let Ok(Answer::Why(report)) = answers.try_recv() else { panic!("an answer") };
    assert!(report.others.iter().all(|(_, facts)| facts.is_none()));
    let asked: Vec<_> = (0..WHYS_MAX).map(|_| fleet.ask_only(0, Query::Why(rel("f")))).collect();
    assert_eq!(fleet.ask_only(0, Query::Why(rel("f"))).try_recv(), Ok(Answer::Busy));
    fleet.pass(0, OTHERS_MS);
    assert!(asked.iter().all(|answers| answers.try_recv().is_ok()));
}

/// What is not in the log, step by step: not seen, not proposed, proposed, without a majority.
#[test]
fn an_edit_says_how_far_it_is() {
    let mut fleet = Fleet::new(3);
    fleet.settle();
    fleet.hosts[0].write("f", "one");
    let report = why(&mut fleet, 0, "f");
    assert_eq!(report.here.reasons, [Reason::NotSeen]);
    assert!(report.agreed.is_none() && matches!(report.here.disk, Disk::Other(_)));
    let look = fleet.see(0, &rel("f")).unwrap();
    fleet.tell(0, look);
    assert_eq!(why(&mut fleet, 0, "f").here.reasons, [Reason::Proposed]);
    fleet.leader(0, None);
    assert_eq!(why(&mut fleet, 0, "f").here.reasons, [Reason::Proposed, Reason::NoLeader]);
    fleet.hosts[0].write("g", "two");
    let look = fleet.see(0, &rel("g")).unwrap();
    fleet.tell(0, look);
    assert_eq!(why(&mut fleet, 0, "g").here.reasons, [Reason::NotProposed, Reason::NoLeader]);
    fleet.settle();
    assert!(why(&mut fleet, 0, "f").here.reasons.is_empty());
    fleet.hosts[0].write("f", "changed, and longer");
    assert_eq!(why(&mut fleet, 0, "f").here.reasons, [Reason::ChangedSince]);
    std::fs::remove_file(fleet.hosts[0].path("f")).unwrap();
    fleet.look(0);
    fleet.settle();
    let report = why(&mut fleet, 1, "f");
    let deleted = report.deleted.expect("it was deleted");
    assert_eq!((deleted.author.as_str(), report.here.disk), ("node1", Disk::Nothing));
}

/// Trap T21, fault 50: what is blocked on another node is told here, with the number of the error.
#[test]
fn what_is_blocked_elsewhere_is_told() {
    let mut fleet = Fleet::new(2);
    fleet.settle();
    let made = Program::new("mkfifo").arg(fleet.hosts[1].path("f")).status().unwrap();
    assert!(made.success());
    share(&mut fleet, 0, "f", "text");
    let report = why(&mut fleet, 0, "f");
    let facts = report.others[0].1.clone().expect("it answers");
    let isdir = rustix::io::Errno::ISDIR.raw_os_error();
    assert!(facts.reasons.contains(&Reason::Blocked("f".to_owned(), isdir)), "{facts:?}");
    assert!(matches!(facts.disk, Disk::Other(stands) if stands.kind == Kind::Special));
    assert!(report.here.reasons.is_empty());
}

/// Trap T6, T19: what is left out is told, for all below it; and who is open for writing, as far as a
/// lease tells.
#[test]
fn what_is_left_out_or_open_is_told() {
    crate::lease::ignore_sigio().unwrap();
    let mut fleet = Fleet::new(1);
    fleet.settle();
    let saw = |path: &str, seen| {
        let (place, path, hint) = (Place::Folder, rel(path), Hint::SCANNED);
        Sighting::Saw(Observation { place, path, seen, hint })
    };
    let access = rustix::io::Errno::ACCESS;
    fleet.sight(0, saw("secret", Seen::Unreadable(access)));
    let unreadable = Reason::Unreadable("secret".to_owned(), access.raw_os_error());
    assert_eq!(why(&mut fleet, 0, "secret/below").here.reasons, [unreadable]);
    share(&mut fleet, 0, "f", "text");
    let writer = std::fs::File::options().append(true).open(fleet.hosts[0].path("f")).unwrap();
    let report = why(&mut fleet, 0, "f");
    assert_eq!(report.here.reasons, [Reason::Open { by: Vec::new(), hidden: true }]);
    drop(writer);
    assert!(why(&mut fleet, 0, "f").here.reasons.is_empty());
}

/// What a rule leaves alone names the file with the rule, its line and what that says; of several the one
/// that decides.
#[test]
fn what_is_ignored_names_the_line_that_says_so() {
    let mut fleet = Fleet::new(1);
    fleet.settle();
    share(&mut fleet, 0, ".pickboxignore", "# results\n\n*.o\n!keep.o\n/out/\n");
    fleet.hosts[0].write("a.o", "text");
    std::fs::create_dir(fleet.hosts[0].path("out")).unwrap();
    fleet.hosts[0].write("out/b", "text");
    fleet.look(0);
    fleet.settle();
    for (path, line, pattern) in [("a.o", 3, "*.o"), ("out", 5, "/out/"), ("out/b", 5, "/out/")] {
        let (file, pattern) = (".pickboxignore".to_owned(), pattern.to_owned());
        let ignored = Reason::Ignored { file, line, pattern };
        assert!(why(&mut fleet, 0, path).here.reasons.contains(&ignored), "{path}");
    }
    share(&mut fleet, 0, "keep.o", "text");
    assert!(why(&mut fleet, 0, "keep.o").here.reasons.is_empty());
}

/// Trap T20: a deletion says that it is weighed, and by which hold it is held: by the same one after a
/// restart.
#[test]
fn what_is_held_names_the_hold_also_after_a_restart() {
    let mut fleet = Fleet::new(2);
    fleet.settle();
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    for number in 0..120 {
        fleet.hosts[1].write(&format!("d/{number}"), &format!("content {number}"));
    }
    fleet.look(1);
    fleet.settle();
    std::fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
    fleet.look(1);
    assert!(why(&mut fleet, 1, "d/7").here.reasons.contains(&Reason::Weighed));
    fleet.settle();
    let held = Reason::Held("node2-1".to_owned());
    for _ in 0..2 {
        assert_eq!(why(&mut fleet, 1, "d/7").here.reasons, std::slice::from_ref(&held));
        fleet.kill(1);
        fleet.start(1);
        fleet.converge();
    }
    assert_eq!(why(&mut fleet, 1, "d").here.reasons, [held]);
}

/// P2: a conflict copy says of what it is one, and the file which copies it has.
#[test]
fn a_conflict_names_both_sides() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "base");
    for at in 0..2 {
        fleet.hosts[at].write("f", &format!("of node{}", at + 1));
        fleet.look(at);
    }
    fleet.settle();
    let tree = fleet.hosts[0].tree();
    let copy = tree.keys().find(|name| name.contains(".conflict-")).expect("a copy").clone();
    let of = why(&mut fleet, 0, &copy).here.reasons;
    assert!(of.contains(&Reason::CopyOf("f".to_owned())), "{of:?}");
    let copies = why(&mut fleet, 1, "f").here.reasons;
    assert!(copies.contains(&Reason::Copies(vec![copy])), "{copies:?}");
}

/// A question or an answer of another version is not guessed at.
#[test]
fn another_version_is_not_understood() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    fleet.wire = Some(VecDeque::new());
    let (me, other) = (fleet.hosts[0].id, fleet.hosts[1].id);
    let question = Question::Why { path: rel("f") };
    fleet.hosts[0].engine().asked(other, 9, 1, &question).unwrap();
    let answers = fleet.ask_only(1, Query::Why(rel("f")));
    let facts = fleet.hosts[0].engine().facts_of(&rel("f")).unwrap();
    let told = || Told::Why(Box::new(facts.clone()));
    fleet.hosts[1].engine().told(me, 9, 1, told());
    fleet.pass(1, 0);
    assert!(answers.try_recv().is_err(), "an answer of another version counts for none");
    fleet.hosts[1].engine().told(me, 1, 1, told());
    fleet.pass(1, 0);
    assert!(answers.try_recv().is_ok());
}
