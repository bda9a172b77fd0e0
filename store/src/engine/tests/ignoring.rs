//! `.pickboxignore`: what is ignored is asleep, on every host, and nothing of it is lost.

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::engine::Event;
use crate::engine::ports::{Answer, Query};

const RULES: &str = ".pickboxignore";

fn exists(fleet: &Fleet, at: usize, path: &str) -> bool {
    fleet.hosts[at].path(path).symlink_metadata().is_ok()
}

/// Nothing waits anywhere, and all logs say the same.
fn assert_quiet(fleet: &mut Fleet) {
    let digest = fleet.hosts[0].engine().store_status().unwrap().digest;
    for host in &mut fleet.hosts {
        let status = host.engine().store_status().unwrap();
        assert_eq!(status.digest, digest);
        assert_eq!((status.undecided, status.unplaced), (0, 0), "{:?}", status.waiting);
    }
}

fn has_record(fleet: &mut Fleet, path: &str) -> bool {
    fleet.hosts[0].engine().index.resolve(&rel(path)).unwrap().is_some()
}

#[test]
fn what_a_rule_ignores_is_not_replicated_on_any_host() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, RULES, "*.o\nbuild/\n");
    assert_eq!(fleet.hosts[2].read(RULES), "*.o\nbuild/\n");
    for at in 0..3 {
        std::fs::create_dir(fleet.hosts[at].path("build")).unwrap();
        fleet.hosts[at].write("build/out", &format!("out {at}"));
        fleet.hosts[at].write("a.o", &format!("object {at}"));
    }
    share(&mut fleet, 1, "a.c", "source");
    fleet.converge();
    for at in 0..3 {
        assert_eq!(fleet.hosts[at].read("a.c"), "source");
        assert_eq!(fleet.hosts[at].read("a.o"), format!("object {at}"));
        assert_eq!(fleet.hosts[at].read("build/out"), format!("out {at}"));
    }
    assert!(!has_record(&mut fleet, "a.o") && !has_record(&mut fleet, "build"));
    assert_quiet(&mut fleet);
}

#[test]
fn a_new_rule_stops_replication_and_deletes_nothing_anywhere() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "x.log", "one");
    share(&mut fleet, 1, RULES, "*.log\n");
    fleet.hosts[0].write("x.log", "edited on 0");
    fleet.look(0);
    std::fs::remove_file(fleet.hosts[2].path("x.log")).unwrap();
    fleet.look(2);
    fleet.converge();
    assert_eq!(fleet.hosts[0].read("x.log"), "edited on 0");
    assert_eq!(fleet.hosts[1].read("x.log"), "one");
    assert!(!exists(&fleet, 2, "x.log"));
    assert!(has_record(&mut fleet, "x.log"), "the log keeps what it has");
    assert_quiet(&mut fleet);
}

/// As after a stop: edits go on their old base, what is missing was deleted, what was never here
/// is not taken for a deletion.
#[test]
fn a_rule_that_goes_is_like_a_start_after_a_stop() {
    let mut fleet = Fleet::new(3);
    for file in ["edited.log", "deleted.log", "same.log"] {
        share(&mut fleet, 0, file, "one");
    }
    share(&mut fleet, 1, RULES, "*.log\n");
    fleet.hosts[0].write("edited.log", "two");
    std::fs::remove_file(fleet.hosts[2].path("deleted.log")).unwrap();
    fleet.hosts[1].write("new.log", "made while ignored");
    fleet.converge();
    std::fs::remove_file(fleet.hosts[1].path(RULES)).unwrap();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("edited.log"), "two");
    assert_eq!(fleet.hosts[0].read("new.log"), "made while ignored");
    assert!(!exists(&fleet, 0, "deleted.log"));
    assert_eq!(fleet.hosts[2].tree().len(), 3);
}

#[test]
fn what_was_never_here_comes_when_its_rule_goes() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "d.log", "one");
    share(&mut fleet, 0, RULES, "*.log\n");
    // A host whose folder never had it: it joins while the rule holds.
    fleet.stop(1);
    std::fs::remove_file(fleet.hosts[1].path("d.log")).unwrap();
    fleet.readmit(1, super::fleet::Way::State);
    fleet.converge();
    assert!(!exists(&fleet, 1, "d.log"), "ignored: not placed");
    assert_quiet(&mut fleet);
    share(&mut fleet, 1, RULES, "");
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("d.log"), "one");
}

/// Rules and what they ignore come together, in whatever order: nothing of it reaches the log.
#[test]
fn rules_decide_first_about_what_is_seen_with_them() {
    for order in [[RULES, "a.o", "b.c"], ["b.c", "a.o", RULES]] {
        let mut fleet = Fleet::new(2);
        fleet.hosts[0].write(RULES, "*.o\n");
        fleet.hosts[0].write("a.o", "object");
        fleet.hosts[0].write("b.c", "source");
        for path in order {
            let look = fleet.see(0, &rel(path)).unwrap();
            fleet.hosts[0].engine().event(Event::Sighting(look)).unwrap();
        }
        fleet.pass(0, 10);
        fleet.converge();
        assert_eq!(fleet.hosts[1].read("b.c"), "source", "{order:?}");
        assert!(!exists(&fleet, 1, "a.o") && !has_record(&mut fleet, "a.o"), "{order:?}");
        assert_quiet(&mut fleet);
    }
}

/// A line that is added and what it is for: held until the log has the line, not only when the
/// file of rules is new.
#[test]
fn an_edit_of_rules_holds_back_what_it_will_ignore() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, RULES, "*.o\n");
    fleet.hosts[0].write(RULES, "*.o\n*.tmp\n");
    let look = fleet.see(0, &rel(RULES)).unwrap();
    fleet.tell(0, look);
    // The proposal of the rules is in flight.
    fleet.hosts[0].write("x.tmp", "temporary");
    fleet.look(0);
    let status = fleet.hosts[0].engine().store_status().unwrap();
    assert!(status.undecided >= 2, "what waits is counted");
    fleet.converge();
    assert!(!has_record(&mut fleet, "x.tmp"));
    assert_eq!(fleet.hosts[0].read("x.tmp"), "temporary");
    assert_quiet(&mut fleet);
}

#[test]
fn rules_further_down_move_with_their_directory() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    fleet.hosts[0].write("d/.pickboxignore", "/x\n");
    fleet.hosts[0].write("d/x", "here");
    fleet.look(0);
    fleet.converge();
    assert!(!exists(&fleet, 1, "d/x"));
    std::fs::rename(fleet.hosts[1].path("d"), fleet.hosts[1].path("e")).unwrap();
    fleet.hosts[1].write("e/x", "mine");
    fleet.converge();
    assert_eq!(
        (fleet.hosts[0].read("e/x"), fleet.hosts[1].read("e/x")),
        ("here".into(), "mine".into())
    );
    assert!(!has_record(&mut fleet, "e/x"));
    assert_quiet(&mut fleet);
}

/// Of git: what is moved to an ignored place is deleted, what comes out of one is new.
#[test]
fn moving_over_the_border_deletes_and_makes() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, RULES, "*.o\nout/\n");
    std::fs::create_dir(fleet.hosts[0].path("src")).unwrap();
    share(&mut fleet, 0, "src/f", "in src");
    share(&mut fleet, 0, "in", "goes");
    std::fs::rename(fleet.hosts[0].path("in"), fleet.hosts[0].path("in.o")).unwrap();
    std::fs::rename(fleet.hosts[0].path("src"), fleet.hosts[0].path("out")).unwrap();
    fleet.converge();
    assert_eq!(fleet.hosts[0].read("in.o"), "goes");
    assert!(!exists(&fleet, 1, "in") && !exists(&fleet, 1, "in.o") && !exists(&fleet, 1, "src"));
    assert_quiet(&mut fleet);
    std::fs::rename(fleet.hosts[0].path("out"), fleet.hosts[0].path("back")).unwrap();
    fleet.converge();
    assert_eq!(fleet.hosts[1].read("back/f"), "in src");
    assert_quiet(&mut fleet);
}

/// Trap T12: a directory that is deleted elsewhere stays where it holds ignored files, with just
/// these, and STATUS lists it.
#[test]
fn a_deleted_directory_stays_for_its_ignored_files_and_is_listed() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir_all(fleet.hosts[0].path("d/sub")).unwrap();
    share(&mut fleet, 0, RULES, "*.o\n");
    share(&mut fleet, 0, "d/sub/a.c", "source");
    fleet.hosts[1].write("d/sub/a.o", "object");
    fleet.look(1);
    fleet.converge();
    std::fs::remove_dir_all(fleet.hosts[0].path("d")).unwrap();
    fleet.converge();
    assert!(!exists(&fleet, 0, "d") && !has_record(&mut fleet, "d"));
    assert!(!exists(&fleet, 1, "d/sub/a.c"));
    assert_eq!(fleet.hosts[1].read("d/sub/a.o"), "object");
    assert_quiet(&mut fleet);
    let lines = fleet.hosts[1].engine().store_status().unwrap().ignoring;
    assert!(lines.iter().any(|line| line.starts_with("d/sub: deleted elsewhere")), "{lines:?}");
    // A start finds the same.
    fleet.stop(1);
    fleet.start(1);
    fleet.converge();
    assert_eq!(fleet.hosts[1].engine().store_status().unwrap().ignoring, lines);
    assert_quiet(&mut fleet);
    // Something that counts brings the directory back for all.
    fleet.hosts[1].write("d/sub/b.c", "new");
    fleet.converge();
    assert_eq!(fleet.hosts[0].read("d/sub/b.c"), "new");
    assert_eq!(fleet.hosts[1].read("d/sub/a.o"), "object");
    assert_quiet(&mut fleet);
    assert_eq!(fleet.hosts[1].engine().store_status().unwrap().ignoring, [""; 0]);
}

/// Trap T12: once the ignored files are gone, so is the directory.
#[test]
fn a_directory_kept_for_ignored_files_goes_with_the_last_of_them() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, RULES, "*.o\n");
    share(&mut fleet, 0, "d/a.c", "source");
    fleet.hosts[1].write("d/a.o", "object");
    fleet.converge();
    std::fs::remove_dir_all(fleet.hosts[0].path("d")).unwrap();
    fleet.converge();
    std::fs::remove_file(fleet.hosts[1].path("d/a.o")).unwrap();
    fleet.converge();
    assert!(!exists(&fleet, 1, "d"));
    assert_quiet(&mut fleet);
}

/// A directory with files that the log has and a later rule ignores can still be deleted.
#[test]
fn a_directory_with_sleeping_records_can_be_deleted() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir_all(fleet.hosts[0].path("d/deps/x")).unwrap();
    fleet.hosts[0].write("d/a.c", "source");
    fleet.hosts[0].write("d/deps/x/y", "dependency");
    fleet.look(0);
    fleet.settle();
    share(&mut fleet, 0, RULES, "deps/\n");
    std::fs::remove_dir_all(fleet.hosts[0].path("d")).unwrap();
    fleet.converge();
    assert!(!exists(&fleet, 0, "d") && !has_record(&mut fleet, "d"));
    assert_eq!(fleet.hosts[1].read("d/deps/x/y"), "dependency");
    assert!(!exists(&fleet, 1, "d/a.c"));
    assert_quiet(&mut fleet);
}

#[test]
fn a_client_is_refused_by_the_line_that_ignores_its_path() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, RULES, "# objects\n*.o\n");
    let put = Query::Put { path: rel("d/a.o"), data: b"x".to_vec() };
    let Answer::Ignored(rule) = fleet.ask(1, put) else { panic!() };
    assert_eq!(rule.to_string(), ".pickboxignore:2 '*.o'");
    let Answer::Ignored(_) = fleet.ask(1, Query::Remove { path: rel("a.o") }) else { panic!() };
    let put = Query::Put { path: rel("d/a.c"), data: b"x".to_vec() };
    let Answer::Committed(_) = fleet.ask(1, put) else { panic!() };
    let put = Query::Put { path: rel(RULES), data: vec![b'x'; 40_000] };
    assert_eq!(fleet.ask(1, put), Answer::RulesTooLong);
}

/// A file of rules that is too long stays here alone; the rules before it stay in force.
#[test]
fn rules_that_are_too_long_change_nothing() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, RULES, "*.o\n");
    fleet.hosts[0].write(RULES, &"*.tmp\n".repeat(6_000));
    fleet.hosts[0].write("a.o", "object");
    fleet.converge();
    assert_eq!(fleet.hosts[1].read(RULES), "*.o\n");
    assert!(!has_record(&mut fleet, "a.o"));
    let status = fleet.hosts[0].engine().store_status().unwrap();
    assert!(status.waiting.iter().any(|line| line.starts_with(RULES)), "{:?}", status.waiting);
    share(&mut fleet, 0, RULES, "*.tmp\n");
    fleet.converge();
    fleet.assert_same();
}

#[test]
fn bad_lines_are_named_in_the_status_and_the_rest_counts() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, RULES, "[z-a]\n*.o\n");
    share(&mut fleet, 0, "a.o", "object");
    assert!(!has_record(&mut fleet, "a.o"));
    for at in 0..2 {
        let lines = fleet.hosts[at].engine().store_status().unwrap().ignoring;
        assert!(lines[0].starts_with(".pickboxignore:1: no rule: "), "{lines:?}");
    }
}

/// The bytes of rules that were renamed to their name are in no entry: they are found all the
/// same, before and after a kill.
#[test]
fn a_file_that_becomes_rules_by_a_rename_is_in_force() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "rules", "*.o\n");
    std::fs::rename(fleet.hosts[1].path("rules"), fleet.hosts[1].path(RULES)).unwrap();
    fleet.converge();
    fleet.kill(2);
    fleet.start(2);
    fleet.converge();
    for at in 0..3 {
        fleet.hosts[at].write("a.o", "object");
        fleet.look(at);
    }
    fleet.converge();
    assert!(!has_record(&mut fleet, "a.o"));
    assert_quiet(&mut fleet);
}

/// A move that was under way when its target became ignored takes nothing from the others.
#[test]
fn a_move_that_meets_a_new_rule_goes_along() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "x", "text");
    std::fs::rename(fleet.hosts[0].path("x"), fleet.hosts[0].path("x.o")).unwrap();
    fleet.look(0);
    // In the log, and nobody has it yet.
    fleet.commit(0);
    fleet.hosts[1].write(RULES, "*.o\n");
    let look = fleet.see(1, &rel(RULES)).unwrap();
    fleet.tell(1, look);
    fleet.commit(1);
    fleet.converge();
    assert_eq!(fleet.hosts[1].read("x.o"), "text");
    assert!(!exists(&fleet, 1, "x"));
    assert_quiet(&mut fleet);
}

/// What a rule hides is left alone also where a name is in the way.
#[test]
fn a_name_that_an_ignored_thing_has_blocks_and_is_named() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, RULES, "build/\n");
    std::fs::create_dir(fleet.hosts[1].path("build")).unwrap();
    fleet.hosts[1].write("build/out", "mine");
    share(&mut fleet, 0, "build", "a file");
    fleet.look(1);
    fleet.settle();
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!(status.blocked, 1, "{:?}", status.waiting);
    assert_eq!(fleet.hosts[1].read("build/out"), "mine");
    std::fs::remove_dir_all(fleet.hosts[1].path("build")).unwrap();
    fleet.converge();
    assert_eq!(fleet.hosts[1].read("build"), "a file");
    assert_quiet(&mut fleet);
}

/// Bytes of an edit that lost its place in the log's tree are found.
#[test]
fn an_edit_that_meets_its_own_rule_is_kept() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "x.o", "one");
    fleet.hosts[0].write("x.o", "two, in flight");
    fleet.look(0);
    fleet.commit(0);
    share(&mut fleet, 1, RULES, "*.o\n");
    fleet.converge();
    assert_eq!(fleet.hosts[0].read("x.o"), "two, in flight");
    assert!(fleet.find_bytes(ContentId::of(b"two, in flight")).is_some());
    assert_quiet(&mut fleet);
    std::fs::remove_file(fleet.hosts[0].path(RULES)).unwrap();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("x.o"), "two, in flight");
}

/// The watcher hears of the rules as they are in force.
#[test]
fn the_watcher_is_told_of_the_rules() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, RULES, "out/\n");
    assert!(fleet.hosts[0].ignored.by(&rel("out"), true).is_some());
    fleet.stop(0);
    fleet.start(0);
    fleet.settle();
    assert!(fleet.hosts[0].ignored.by(&rel("out"), true).is_some());
}
