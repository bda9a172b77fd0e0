//! Directories that become other things for the log than they were, and what stands in them.

use std::fs;

use super::fleet::{Fleet, share};

fn mkdir(fleet: &mut Fleet, at: usize, path: &str) {
    fs::create_dir(fleet.hosts[at].path(path)).unwrap();
    fleet.look(at);
    fleet.settle();
}

/// Source: promise P3. A directory was renamed on one host to a name that a new one has on another: for the
/// log both are one, and what was placed in the old one meanwhile is not where the log has it.
#[test]
fn what_stands_in_a_directory_that_another_one_stands_for_is_compared_anew() {
    let mut fleet = Fleet::new(2);
    mkdir(&mut fleet, 0, "old");
    let path = |at: usize, name: &str| fleet.hosts[at].path(name);
    fs::rename(path(0, "old"), path(0, "new")).unwrap();
    fs::write(path(0, "new/file"), "a file").unwrap();
    fs::create_dir(path(1, "new")).unwrap();
    fleet.look(0);
    for _ in 0..3 {
        fleet.commit(0);
        while fleet.deliver(0) {}
    }
    while fleet.deliver(1) {}
    assert_eq!(fleet.hosts[1].read("old/file"), "a file", "the other name is taken");
    fleet.settle();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("new/file"), "a file", "as it was renamed");
}

/// But what a user put there stays.
#[test]
fn what_a_user_moved_into_a_directory_that_another_one_stands_for_stays() {
    let mut fleet = Fleet::new(2);
    mkdir(&mut fleet, 0, "old");
    share(&mut fleet, 0, "one", "a file");
    let path = |at: usize, name: &str| fleet.hosts[at].path(name);
    fs::rename(path(0, "old"), path(0, "new")).unwrap();
    fs::create_dir(path(1, "new")).unwrap();
    fs::rename(path(1, "one"), path(1, "old/one")).unwrap();
    fs::write(path(1, "old/two"), "another file").unwrap();
    fleet.look(0);
    fleet.commit(0);
    while fleet.deliver(0) {}
    fleet.look(1);
    fleet.settle();
    fleet.assert_same();
    let paths: Vec<_> = fleet.hosts[0].tree().into_keys().collect();
    assert_eq!(paths, ["new", "old", "old/one", "old/two"]);
}
