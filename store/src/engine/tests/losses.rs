//! Trap T20: what deletions take away counts, not how many they are. The bounds are those of a daemon.

use std::fmt::Write;
use std::path::PathBuf;

use super::fleet::{Fleet, share};
use crate::engine::ports::{Answer, HoldLine, Query};
use crate::git_index::index_of;

const COUNT: u64 = 150;

fn held(fleet: &mut Fleet) -> Vec<HoldLine> {
    let Answer::Held(lines) = fleet.ask(1, Query::Held) else { panic!() };
    lines
}

/// Two nodes; the second has `COUNT` different files below a directory.
fn with_tree(directory: &str) -> Fleet {
    let mut fleet = Fleet::new(2);
    fill(&mut fleet, directory);
    fleet.converge();
    fleet
}

fn fill(fleet: &mut Fleet, directory: &str) {
    std::fs::create_dir_all(fleet.hosts[1].path(directory)).unwrap();
    for number in 0..COUNT {
        fleet.hosts[1].write(&format!("{directory}/{number}"), &format!("content {number}"));
    }
}

fn remove_tree(fleet: &mut Fleet, directory: &str) {
    std::fs::remove_dir_all(fleet.hosts[1].path(directory)).unwrap();
    fleet.look(1);
    fleet.settle();
}

/// Trap T20: copied and removed, as `mv` does between file systems: nothing is gone. What is removed
/// after that is.
#[test]
fn a_copy_and_its_removal_is_no_mass_deletion() {
    let mut fleet = with_tree("from");
    fill(&mut fleet, "to");
    remove_tree(&mut fleet, "from");
    assert!(held(&mut fleet).is_empty());
    fleet.converge();
    fleet.assert_same();
    assert!(!fleet.hosts[0].path("from").exists());
    assert_eq!(fleet.hosts[0].read("to/7"), "content 7");

    let before = fleet.hosts[0].tree();
    remove_tree(&mut fleet, "to");
    assert_eq!(held(&mut fleet)[0].files, COUNT, "as many, and nothing is left of them");
    assert_eq!(fleet.hosts[0].tree(), before);
}

/// Trap T20: both copies at once are no copy and its removal.
#[test]
fn copies_that_go_together_are_held() {
    let mut fleet = with_tree("from");
    fill(&mut fleet, "to");
    fleet.converge();
    for directory in ["from", "to"] {
        std::fs::remove_dir_all(fleet.hosts[1].path(directory)).unwrap();
    }
    fleet.look(1);
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, 2 * COUNT);
}

/// Trap T20: one file that is left does not make up for all that were equal to it.
#[test]
fn one_file_is_no_copy_of_many() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    for number in 0..COUNT {
        fleet.hosts[1].write(&format!("d/{number}"), "equal");
    }
    share(&mut fleet, 1, "top", "equal");
    remove_tree(&mut fleet, "d");
    assert_eq!(held(&mut fleet)[0].files, COUNT);
}

/// Trap T20: `rsync --delete` removes first and writes then: what comes within a moment still makes up
/// for what went; a flush waits as long.
#[test]
fn what_is_written_right_after_makes_up_for_what_went() {
    let mut fleet = with_tree("from");
    let before = fleet.hosts[0].tree();
    std::fs::remove_dir_all(fleet.hosts[1].path("from")).unwrap();
    fleet.look(1);
    fleet.pass(1, 200);
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!(status.held, 0, "nothing is decided yet");
    assert_eq!(fleet.hosts[0].tree(), before);
    fill(&mut fleet, "to");
    fleet.look(1);
    fleet.settle();
    assert!(held(&mut fleet).is_empty());
    fleet.converge();
    fleet.assert_same();
    assert!(!fleet.hosts[0].path("from").exists());
}

/// Trap T20: a copy that goes on too long, or never reaches the log, does not put off the hold for
/// ever.
#[test]
fn what_waits_for_the_log_puts_a_hold_off_for_ten_seconds_at_most() {
    let mut fleet = with_tree("from");
    std::fs::remove_dir_all(fleet.hosts[1].path("from")).unwrap();
    fleet.look(1);
    for number in 0..12 {
        fleet.hosts[1].write("other", &format!("{number}"));
        fleet.look(1);
        let status = fleet.hosts[1].engine().store_status().unwrap();
        assert!(number >= 10 || status.held == 0, "{number}");
        fleet.pass(1, 1_000);
    }
    assert!(fleet.hosts[1].engine().store_status().unwrap().held > 0, "nothing was committed");
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, COUNT);
}

/// A repository on node 2 with `COUNT` loose objects, other files, and `COUNT` files in its work tree.
/// Returns where it is.
fn repository(fleet: &mut Fleet) -> PathBuf {
    let repository = fleet.hosts[1].path("project/.git");
    for directory in ["objects/ab", "objects/pack", "refs/heads"] {
        std::fs::create_dir_all(repository.join(directory)).unwrap();
    }
    std::fs::write(repository.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    for number in 0..COUNT {
        std::fs::write(repository.join(format!("objects/ab/{number:038x}")), [1]).unwrap();
    }
    fill(fleet, "project/src");
    write_index(fleet, COUNT);
    fleet.look(1);
    fleet.settle();
    repository
}

/// As git leaves its index: by rename, with so many files of the tree.
fn write_index(fleet: &mut Fleet, count: u64) {
    let paths: Vec<String> = (0..count).map(|number| format!("src/{number}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let index = fleet.hosts[1].path("project/.git/index");
    std::fs::write(index.with_extension("lock"), index_of(&paths)).unwrap();
    std::fs::rename(index.with_extension("lock"), index).unwrap();
}

/// Trap T20: `git gc` takes away the objects that a pack holds now; who takes away the repository is
/// asked.
#[test]
fn objects_that_git_has_packed_are_no_mass_deletion() {
    let mut fleet = Fleet::new(2);
    repository(&mut fleet);
    share(&mut fleet, 1, "project/.git/objects/pack/pack-1.pack", "all of them");
    remove_tree(&mut fleet, "project/.git/objects/ab");
    assert!(held(&mut fleet).is_empty());
    assert!(!fleet.hosts[0].path("project/.git/objects/ab").exists());

    // As many that no pack can hold, since the pack goes as well.
    repository(&mut fleet);
    remove_tree(&mut fleet, "project/.git/objects");
    assert_eq!(held(&mut fleet).len(), 1);
}

/// Trap T20: without a pack nothing holds what went.
#[test]
fn objects_that_no_pack_holds_are_held() {
    let mut fleet = Fleet::new(2);
    repository(&mut fleet);
    remove_tree(&mut fleet, "project/.git/objects/ab");
    assert_eq!(held(&mut fleet).len(), 1);
}

/// Trap T20: `git pack-refs`, also by `git gc`: the values are in `packed-refs`, or they are lost.
#[test]
fn refs_that_git_has_packed_are_no_mass_deletion() {
    for is_packed in [true, false] {
        let mut fleet = Fleet::new(2);
        let heads = "repository.git/refs/heads";
        std::fs::create_dir_all(fleet.hosts[1].path(heads)).unwrap();
        let mut packed = "# pack-refs with: peeled fully-peeled sorted\n".to_owned();
        for number in 0..COUNT {
            fleet.hosts[1].write(&format!("{heads}/{number}"), &format!("{number:040x}\n"));
            let value = if is_packed { number } else { number + COUNT };
            writeln!(packed, "{value:040x} refs/heads/{number}").unwrap();
        }
        fleet.look(1);
        fleet.settle();
        fleet.hosts[1].write("repository.git/packed-refs", &packed);
        remove_tree(&mut fleet, heads);
        assert_eq!(held(&mut fleet).is_empty(), is_packed);
    }
}

/// Trap T20: `git checkout` of a commit without these files: git has them, and took their names out of
/// its index.
#[test]
fn files_that_git_took_out_of_its_index_are_no_mass_deletion() {
    let mut fleet = Fleet::new(2);
    repository(&mut fleet);
    // Files first, the index last.
    std::fs::remove_dir_all(fleet.hosts[1].path("project/src")).unwrap();
    write_index(&mut fleet, 0);
    fleet.converge();
    assert!(held(&mut fleet).is_empty());
    fleet.assert_same();
    assert!(!fleet.hosts[0].path("project/src").exists());
}

/// Trap T20: as above, while git is still at it: its index comes seconds later.
#[test]
fn a_long_checkout_is_waited_for() {
    let mut fleet = Fleet::new(2);
    let repository = repository(&mut fleet);
    std::fs::write(repository.join("index.lock"), "").unwrap();
    std::fs::remove_dir_all(fleet.hosts[1].path("project/src")).unwrap();
    fleet.look(1);
    for _ in 0..15 {
        fleet.pass(1, 1_000);
    }
    assert_eq!(fleet.hosts[1].engine().store_status().unwrap().held, 0);
    write_index(&mut fleet, 0);
    for _ in 0..3 {
        fleet.pass(1, 1_000);
    }
    fleet.converge();
    assert!(held(&mut fleet).is_empty());
    fleet.assert_same();
    assert!(!fleet.hosts[0].path("project/src").exists());
}

/// Trap T20: a lock that nobody takes away does not put off the hold for ever.
#[test]
fn a_lock_that_git_left_behind_is_not_waited_for_for_ever() {
    let mut fleet = Fleet::new(2);
    let repository = repository(&mut fleet);
    std::fs::write(repository.join("index.lock"), "").unwrap();
    std::fs::remove_dir_all(fleet.hosts[1].path("project/src")).unwrap();
    fleet.look(1);
    for _ in 0..35 {
        fleet.pass(1, 1_000);
    }
    assert_eq!(held(&mut fleet)[0].files, COUNT);
}

/// Trap T20: `rm -rf` in a work tree: its index still names what went. `git status` after it, which
/// writes the index anew, changes nothing of that.
#[test]
fn files_that_the_index_still_names_are_held() {
    let mut fleet = Fleet::new(2);
    repository(&mut fleet);
    std::fs::remove_dir_all(fleet.hosts[1].path("project/src")).unwrap();
    write_index(&mut fleet, COUNT);
    fleet.look(1);
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, COUNT);
}

/// Trap T20: what git was never told of (`git clean`, a directory of results) is lost with nothing to
/// show for it, whatever git does beside it.
#[test]
fn files_that_git_never_had_are_held() {
    let mut fleet = Fleet::new(2);
    repository(&mut fleet);
    fill(&mut fleet, "project/results");
    // No copies of the others.
    for number in 0..COUNT {
        fleet.hosts[1].write(&format!("project/results/{number}"), &format!("result {number}"));
    }
    fleet.converge();
    std::fs::remove_dir_all(fleet.hosts[1].path("project/results")).unwrap();
    write_index(&mut fleet, COUNT - 1);
    fleet.look(1);
    fleet.settle();
    assert_eq!(held(&mut fleet)[0].files, COUNT);
}

/// Trap T20: the whole repository: nothing is left that could have anything.
#[test]
fn a_repository_that_goes_with_its_work_tree_is_held() {
    let mut fleet = Fleet::new(2);
    repository(&mut fleet);
    write_index(&mut fleet, 0);
    fleet.look(1);
    remove_tree(&mut fleet, "project");
    assert!(held(&mut fleet)[0].files > 2 * COUNT);
}

/// Trap T20: a daemon that starts reads the indexes that it finds.
#[test]
fn a_checkout_right_after_a_start_is_no_mass_deletion() {
    let mut fleet = Fleet::new(2);
    repository(&mut fleet);
    fleet.converge();
    fleet.checkpoint(1);
    fleet.kill(1);
    fleet.start(1);
    fleet.converge();
    std::fs::remove_dir_all(fleet.hosts[1].path("project/src")).unwrap();
    write_index(&mut fleet, 0);
    fleet.converge();
    assert!(held(&mut fleet).is_empty());
    fleet.assert_same();
}
