//! Directories that users exchange while the log speaks of them.

use std::fs;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::fleet::{Fleet, Host, rel, share};
use crate::name::RelPath;
use crate::placed::{LocalId, Placed};

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

/// What the other node did to a file meanwhile.
#[derive(Clone, Copy, Debug)]
enum Other {
    Writes,
    Deletes,
    MakesADirectory,
    Renames,
    PutsAnother,
}

/// Traps T11, T13: a file becomes a directory with something in it while the log has other plans with the
/// name, and nobody told of the directory yet: what is in it gets to the others.
#[test]
fn what_is_in_a_directory_that_took_a_files_name_is_not_lost() {
    let others =
        [Other::Writes, Other::Deletes, Other::MakesADirectory, Other::Renames, Other::PutsAnother];
    for other in others {
        for told in 0..2 {
            let mut fleet = Fleet::new(2);
            share(&mut fleet, 0, "f", "one");
            let theirs = fleet.hosts[0].path("f");
            match other {
                Other::Writes => fs::write(&theirs, "two").unwrap(),
                Other::Deletes => fs::remove_file(&theirs).unwrap(),
                Other::MakesADirectory => {
                    fs::remove_file(&theirs).unwrap();
                    fs::create_dir(&theirs).unwrap();
                    fs::write(theirs.join("g"), "theirs").unwrap();
                }
                Other::Renames => fs::rename(&theirs, fleet.hosts[0].path("e")).unwrap(),
                Other::PutsAnother => {
                    fs::rename(&theirs, fleet.hosts[0].path("e")).unwrap();
                    fs::write(&theirs, "another").unwrap();
                }
            }
            fleet.look(0);
            fleet.calm(0);
            fleet.pass(0, 1_000);
            fleet.commit(0);
            let ours = fleet.hosts[1].path("f");
            fs::remove_file(&ours).unwrap();
            fs::create_dir(&ours).unwrap();
            fs::write(ours.join("g"), "kept").unwrap();
            if told == 0 {
                let look = fleet.see(1, &rel("f")).unwrap();
                fleet.tell(1, look);
            }
            while fleet.deliver(1) {}
            if told == 1 {
                for path in ["f", "f/g"] {
                    if let Some(look) = fleet.see(1, &rel(path)) {
                        fleet.tell(1, look);
                    }
                }
            }
            fleet.settle();
            if told == 0 {
                fleet.look(1);
                fleet.settle();
            }
            let trees: Vec<_> = fleet.hosts.iter().map(Host::tree).collect();
            let has = |at: usize| trees[at].values().any(|text| text.contains("kept"));
            assert!(has(0) && has(1), "{other:?} {told}: {trees:?}");
            fleet.converge();
            fleet.assert_same();
        }
    }
}

/// Trap T13: a directory that was in the way of a file comes back beside it, with what is in it.
#[test]
fn what_is_in_a_directory_that_comes_back_is_looked_at() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    let engine = fleet.hosts[0].engine();
    let id = engine.resolve_local(&rel("f")).unwrap().unwrap();
    let mut row = engine.row(id).unwrap().unwrap();
    let away = engine.new_local();
    let kept = engine.quarantine_name(away, Some(&row.name));
    let path = fleet.hosts[0].state().join(format!("quarantine/{kept}"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("g"), "kept").unwrap();
    let engine = fleet.hosts[0].engine();
    let seen = row.seen.as_mut().unwrap();
    (seen.stat, seen.body) = (engine.quarantine.stat(&kept).unwrap(), None);
    (row.parent, row.name) = (LocalId::QUARANTINE, kept);
    engine.set_row(away, Some(&row)).unwrap();
    engine.sweep_one(away, row).unwrap();
    fleet.settle();
    fleet.assert_same();
    let tree = fleet.hosts[1].tree();
    assert!(
        tree.iter().any(|(path, text)| path.ends_with("/g") && text.contains("kept")),
        "{tree:?}"
    );
    assert!(tree["f"].contains("one"));
}

/// A directory waits in quarantine for its name, and what has the name is a directory that the log has no
/// more, with things in it that the log has in the first: neither waits for the other for ever.
#[test]
fn what_belongs_into_a_directory_that_is_away_goes_there() {
    let mut fleet = Fleet::new(2);
    for path in ["d", "x"] {
        fs::create_dir(fleet.hosts[0].path(path)).unwrap();
    }
    share(&mut fleet, 0, "d/f", "one");
    share(&mut fleet, 0, "x/g", "two");
    fs::rename(fleet.hosts[1].path("x/g"), fleet.hosts[1].path("d/g")).unwrap();
    fs::remove_dir(fleet.hosts[1].path("x")).unwrap();
    fleet.look(1);
    for path in ["d/g", "x/g", "x"] {
        let look = fleet.see_moved(1, &rel(path)).unwrap();
        fleet.tell(1, look);
    }
    fleet.calm(1);
    fleet.pass(1, 1_000);
    fleet.commit(1);
    let engine = fleet.hosts[0].engine();
    let [away, other] = ["d", "x"].map(|path| engine.resolve_local(&rel(path)).unwrap().unwrap());
    let row = engine.row(away).unwrap().unwrap();
    let (name, kept) = (row.name.clone(), engine.quarantine_name(away, Some(&row.name)));
    engine.set_aside(away, row, kept.clone()).unwrap();
    engine.quarantined.insert(away, 0);
    let mut row = engine.row(other).unwrap().unwrap();
    row.name = name.clone();
    row.base.as_mut().unwrap().view.place.name = name;
    engine.set_row(other, Some(&row)).unwrap();
    let kept = fleet.hosts[0].state().join(format!("quarantine/{kept}"));
    fs::rename(fleet.hosts[0].path("d"), kept).unwrap();
    fs::rename(fleet.hosts[0].path("x"), fleet.hosts[0].path("d")).unwrap();
    // As after a start: nothing is open.
    fleet.hosts[0].engine().dirs.clear();
    while fleet.deliver(0) {}
    fleet.settle();
    fleet.assert_same();
    let paths: Vec<_> = fleet.hosts[0].tree().into_keys().collect();
    assert_eq!(paths, ["d", "d/f", "d/g"]);
}

/// A directory waits in quarantine for its name, and another one stands in for it by now: what it holds
/// goes there.
#[test]
fn what_was_set_aside_goes_into_what_stands_in_for_it() {
    let mut fleet = Fleet::new(2);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    let engine = fleet.hosts[0].engine();
    let id = engine.resolve_local(&rel("d")).unwrap().unwrap();
    let row = engine.row(id).unwrap().unwrap();
    let kept = engine.quarantine_name(id, Some(&row.name));
    let path = fleet.hosts[0].state().join(format!("quarantine/{kept}"));
    fs::rename(fleet.hosts[0].path("d"), &path).unwrap();
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    let engine = fleet.hosts[0].engine();
    let stat = engine.folder.dir(&RelPath::root()).unwrap().stat(&row.name).unwrap();
    let mut stands_in = row.clone();
    stands_in.seen.as_mut().unwrap().stat = stat;
    let other = engine.new_local();
    engine.set_row(id, Some(&Placed { base: None, ..row.clone() })).unwrap();
    engine.set_row(other, Some(&stands_in)).unwrap();
    engine.set_aside(id, row, kept).unwrap();
    engine.limbo.clear();
    engine.quarantined.insert(id, 0);
    fleet.pass(0, 1_000);
    fleet.settle();
    fleet.assert_same();
    assert!(!path.exists());
    assert_eq!(paths(&fleet), ["d", "d/f"]);
}
