//! Trap T20: the folder is not there, or another one is in its place.

use std::path::PathBuf;

use super::fleet::Fleet;
use crate::engine::{Fatal, FolderRule, Strange};
use crate::observation::Sighting;

fn fleet_with_files() -> Fleet {
    let mut fleet = Fleet::new(3);
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    for name in ["same", "edited", "gone", "d/below"] {
        fleet.hosts[1].write(name, name);
    }
    fleet.look(1);
    fleet.settle();
    fleet.kill(1);
    fleet
}

/// The folder of node 2, and a place beside it.
fn folder_and_away(fleet: &Fleet) -> (PathBuf, PathBuf) {
    let folder = fleet.hosts[1].path("x").parent().unwrap().to_path_buf();
    (folder.clone(), folder.with_file_name("away"))
}

fn refused(fleet: &mut Fleet) -> Strange {
    match fleet.try_start(1, FolderRule::Marked) {
        Err(Fatal::Strange(strange)) => strange,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_folder_in_its_place_deletes_nothing() {
    let mut fleet = fleet_with_files();
    let before = fleet.hosts[0].tree();
    let (folder, away) = folder_and_away(&fleet);
    std::fs::rename(&folder, &away).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for _ in 0..2 {
        assert_eq!(refused(&mut fleet), Strange::Unmarked);
    }
    assert!(fleet.hosts[1].tree().is_empty(), "a refused folder is left alone");

    std::fs::remove_dir(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree(), before);
}

#[test]
fn an_accepted_empty_folder_is_filled_again() {
    let mut fleet = fleet_with_files();
    let before = fleet.hosts[0].tree();
    let folder = fleet.hosts[1].path("");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    fleet.try_start(1, FolderRule::Accept).unwrap();
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree(), before);
    fleet.kill(1);
    fleet.start(1);
}

/// What is equal is adopted, what differs is kept beside, what is missing comes again.
#[test]
fn an_accepted_copy_loses_neither_side() {
    let mut fleet = fleet_with_files();
    let (folder, away) = folder_and_away(&fleet);
    std::fs::rename(&folder, &away).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&away, &folder]).status();
    assert!(copied.unwrap().success());
    assert!(matches!(refused(&mut fleet), Strange::Copied | Strange::Unmarked));
    fleet.hosts[1].write("edited", "edited in the copy");
    std::fs::remove_file(fleet.hosts[1].path("gone")).unwrap();
    fleet.try_start(1, FolderRule::Accept).unwrap();
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let tree = fleet.hosts[2].tree();
    assert_eq!(tree.len(), 6, "{tree:?}");
    assert_eq!(fleet.hosts[2].read("edited"), "edited");
    assert_eq!(fleet.hosts[1].read("gone"), "gone");
    let copy = tree.keys().find(|name| name.starts_with("edited.conflict-node2-")).unwrap();
    assert_eq!(fleet.hosts[0].read(copy), "edited in the copy");
}

/// The flag left in a unit file does no harm where the folder is the right one.
#[test]
fn accepting_the_right_folder_changes_nothing() {
    let mut fleet = fleet_with_files();
    std::fs::remove_file(fleet.hosts[1].path("gone")).unwrap();
    fleet.try_start(1, FolderRule::Accept).unwrap();
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert!(!fleet.hosts[0].tree().contains_key("gone"), "a deletion is one");
}

#[test]
fn the_folder_of_another_node_is_refused() {
    let mut fleet = fleet_with_files();
    fleet.kill(2);
    let (own, other) = (fleet.hosts[1].path(""), fleet.hosts[2].path(""));
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::rename(&other, &own).unwrap();
    assert!(matches!(refused(&mut fleet), Strange::Foreign(_) | Strange::Unmarked));
}

/// The folder goes while the daemon runs: nothing of it is deleted elsewhere, and STATUS says why
/// nothing moves.
#[test]
fn a_folder_that_goes_during_a_run_deletes_nothing() {
    let mut fleet = fleet_with_files();
    fleet.start(1);
    fleet.settle();
    let before = fleet.hosts[0].tree();
    fleet.sight(1, Sighting::RootGone);
    std::fs::remove_file(fleet.hosts[1].path("same")).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[0].tree(), before);
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert!(status.blocked > 0 && status.waiting[0].contains("removed"), "{status:?}");
}

/// Trap T20, fault 46: the very same folder is back (mounted, moved back, no longer mounted over):
/// the node goes on by itself, and what happened meanwhile on either side is found.
#[test]
fn a_folder_that_is_back_is_gone_on_with() {
    let mut fleet = fleet_with_files();
    fleet.start(1);
    fleet.settle();
    fleet.sight(1, Sighting::RootGone);
    fleet.hosts[0].write("edited", "edited elsewhere");
    fleet.look(0);
    fleet.settle();
    assert_eq!(fleet.hosts[1].read("edited"), "edited", "nothing is placed");
    assert!(!fleet.hosts[1].engine().store_status().unwrap().alarms.is_empty());
    std::fs::remove_file(fleet.hosts[1].path("gone")).unwrap();
    fleet.hosts[1].write("made", "made meanwhile");
    fleet.sight(1, Sighting::RootBack);
    fleet.look(1);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("edited"), "edited elsewhere");
    assert_eq!(fleet.hosts[0].read("made"), "made meanwhile");
    assert!(!fleet.hosts[0].tree().contains_key("gone"));
    assert!(fleet.hosts[1].engine().store_status().unwrap().alarms.is_empty());
}
