//! Changes that size and times do not show.

use std::fs::File;
use std::time::{Duration, SystemTime};

use super::fleet::{Fleet, rel, share};
use crate::engine::ports::WatchAsk;
use crate::placed::LocalId;

/// What the clock of the file system would say if it did not tick between the last look and now.
fn hold_the_clock(fleet: &mut Fleet, at: usize, path: &str) {
    let engine = fleet.hosts[at].engine();
    let id: LocalId = engine.resolve_local(&rel(path)).unwrap().unwrap();
    let mut row = engine.row(id).unwrap().unwrap();
    let (directory, name) = rel(path).split().unwrap();
    let stat = engine.folder.dir(&directory).unwrap().stat(&name).unwrap();
    row.seen.as_mut().unwrap().stat = stat;
    engine.set_row(id, Some(&row)).unwrap();
}

/// Source: trap T18. A file that was changed right after the watcher stopped, in the tick in which it
/// had been read, looks as it did.
#[test]
fn a_change_in_the_tick_of_the_last_look_is_found_at_the_start() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    share(&mut fleet, 0, "large", &"a".repeat(40_000));
    fleet.stop(0);
    fleet.hosts[0].write("f", "two");
    fleet.hosts[0].write("large", &"b".repeat(40_000));
    fleet.start(0);
    while fleet.deliver(0) {}
    hold_the_clock(&mut fleet, 0, "f");
    hold_the_clock(&mut fleet, 0, "large");
    fleet.walk(0);
    fleet.settle();
    assert_eq!(fleet.hosts[1].read("f"), "two");
    assert!(fleet.hosts[1].read("large").starts_with("bb"));
    fleet.converge();
    fleet.assert_same();
}

/// Source: trap T18. What changed before that is not read again, and nothing twice.
#[test]
fn only_what_changed_at_the_end_of_the_former_run_is_read_again() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "old", "1");
    // More than a tick of the clock that stamps files.
    std::thread::sleep(Duration::from_millis(20));
    share(&mut fleet, 0, "late", "1");
    fleet.stop(0);
    fleet.start(0);
    let engine = fleet.hosts[0].engine();
    let (root, name) = rel("late").split().unwrap();
    let stat = engine.folder.dir(&root).unwrap().stat(&name).unwrap();
    assert!(engine.racy.since.is_some_and(|since| since < stat.ctime), "both are late");
    engine.racy.since = Some(stat.ctime);
    while fleet.deliver(0) {}
    fleet.walk(0);
    assert_eq!(fleet.asked(0), [WatchAsk::Examine(rel("late"))]);
    fleet.settle();
    fleet.walk(0);
    assert_eq!(fleet.asked(0), []);
}

/// Source: fault 41. Times that lie hide no edit: the change time, which nobody can set, tells.
#[test]
fn a_time_that_lies_hides_no_edit() {
    let mut fleet = Fleet::new(2);
    let future = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let times = [SystemTime::UNIX_EPOCH, future, SystemTime::UNIX_EPOCH + Duration::from_secs(9)];
    for (round, time) in times.into_iter().enumerate() {
        let set = |fleet: &Fleet| {
            let file = File::options().write(true).open(fleet.hosts[0].path("f")).unwrap();
            file.set_modified(time).unwrap();
        };
        fleet.hosts[0].write("f", &format!("{round} a"));
        set(&fleet);
        fleet.walk(0);
        fleet.settle();
        assert_eq!(fleet.hosts[1].read("f"), format!("{round} a"));
        fleet.hosts[0].write("f", &format!("{round} b"));
        set(&fleet);
        fleet.walk(0);
        fleet.settle();
        assert_eq!(fleet.hosts[1].read("f"), format!("{round} b"), "size and time are the same");
    }
    fleet.assert_same();
}
