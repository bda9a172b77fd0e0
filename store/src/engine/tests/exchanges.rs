//! Directories that users exchange while the log speaks of them.

use std::fs;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::fleet::{Fleet, rel, share};

/// Two directories with a file each, on two nodes.
fn two_directories() -> Fleet {
    let mut fleet = Fleet::new(2);
    for path in ["x", "y"] {
        fs::create_dir(fleet.hosts[0].path(path)).unwrap();
    }
    share(&mut fleet, 0, "x/f", "one");
    share(&mut fleet, 0, "y/g", "two");
    fleet
}

fn exchange(fleet: &Fleet, at: usize) {
    let [one, other] = ["x", "y"].map(|path| fleet.hosts[at].path(path));
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

fn paths(fleet: &Fleet) -> Vec<String> {
    fleet.hosts[0].tree().into_keys().collect()
}

/// Trap T3: two directories are exchanged, and back, and only one of the names is looked at between: each
/// is what it was.
#[test]
fn directories_exchanged_twice_are_what_they_were() {
    let mut fleet = two_directories();
    let known = ["x", "y"].map(|path| fleet.hosts[1].engine().resolve_local(&rel(path)).unwrap());
    exchange(&fleet, 1);
    let look = fleet.see_moved(1, &rel("x")).unwrap();
    fleet.tell(1, look);
    exchange(&fleet, 1);
    for path in ["x", "y"] {
        let look = fleet.see_moved(1, &rel(path)).unwrap();
        fleet.tell(1, look);
    }
    fleet.settle();
    let after = ["x", "y"].map(|path| fleet.hosts[1].engine().resolve_local(&rel(path)).unwrap());
    assert_eq!(after, known);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(paths(&fleet), ["x", "x/f", "y", "y/g"]);
}

/// Trap T3: the log renames a directory by a name at which a user has put another one, and nobody told
/// yet: that one does not become the renamed one, nor does what is in it vanish.
#[test]
fn the_log_does_not_rename_a_directory_that_took_the_name() {
    let mut fleet = two_directories();
    fs::rename(fleet.hosts[0].path("x"), fleet.hosts[0].path("z")).unwrap();
    let look = fleet.see_moved(0, &rel("z")).unwrap();
    fleet.tell(0, look);
    fleet.calm(0);
    fleet.pass(0, 1_000);
    fleet.commit(0);
    exchange(&fleet, 1);
    while fleet.deliver(1) {}
    for path in ["x", "y", "z"] {
        if let Some(look) = fleet.see_moved(1, &rel(path)) {
            fleet.tell(1, look);
        }
    }
    fleet.settle();
    // Nobody walks the folder.
    fleet.assert_same();
    let files: Vec<_> = fleet.hosts[1].tree().into_values().collect();
    for text in ["one", "two"] {
        assert_eq!(files.iter().filter(|file| file.contains(text)).count(), 1, "{files:?}");
    }
}

/// A large file waits in quarantine for its name, and somebody who has it open writes to it: it is back
/// in the folder before that goes to the others, who could not have it from elsewhere.
#[test]
fn a_large_edit_of_what_was_set_aside_gets_to_the_others() {
    for large in [false, true] {
        let text = if large { "edit".repeat(20_000) } else { "edit".to_owned() };
        let mut fleet = Fleet::new(2);
        share(&mut fleet, 0, "f", "one");
        let engine = fleet.hosts[0].engine();
        let id = engine.resolve_local(&rel("f")).unwrap().unwrap();
        let row = engine.row(id).unwrap().unwrap();
        let kept = engine.quarantine_name(id, Some(&row.name));
        engine.set_aside(id, row, kept.clone()).unwrap();
        engine.quarantined.insert(id, 0);
        let away = fleet.hosts[0].state().join(format!("quarantine/{kept}"));
        fs::rename(fleet.hosts[0].path("f"), &away).unwrap();
        fs::write(&away, &text).unwrap();
        fleet.pass(0, 1_000);
        fleet.settle();
        fleet.converge();
        fleet.assert_same();
        assert_eq!(fleet.hosts[1].read("f"), text);
    }
}
