//! Directories whose files belong together.

use std::fs;

use super::fleet::{Fleet, share};
use crate::engine::together::WAIT_MS;

const PACK: &str = ".git/pack";

fn pack() -> String {
    "object ".repeat(10_000)
}

fn repository() -> Fleet {
    let mut fleet = Fleet::new(3);
    fs::create_dir(fleet.hosts[0].path(".git")).unwrap();
    share(&mut fleet, 0, ".git/loose", "an object that the pack will hold");
    share(&mut fleet, 0, ".git/ref", "before");
    fleet
}

/// What `git gc` and `git fetch` do: a large pack, then a ref, then loose objects away.
fn collect_garbage(fleet: &mut Fleet) {
    fleet.hosts[0].write(PACK, &pack());
    fleet.look(0);
    fleet.hosts[0].write(".git/ref", "after");
    fs::remove_file(fleet.hosts[0].path(".git/loose")).unwrap();
    fleet.hosts[0].write("elsewhere", "not of the repository");
    fleet.look(0);
}

/// Source: trap T9. Nothing of a repository overtakes a large file of it on its way to the log.
#[test]
fn a_ref_does_not_overtake_the_pack_that_it_needs() {
    let mut fleet = repository();
    fleet.has_slow_offers = true;
    collect_garbage(&mut fleet);
    fleet.settle();
    for at in [1, 2] {
        assert_eq!(fleet.hosts[at].read(".git/ref"), "before");
        assert!(fleet.hosts[at].path(".git/loose").exists());
        assert_eq!(fleet.hosts[at].read("elsewhere"), "not of the repository");
    }
    fleet.finish_offers(0);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read(".git/ref"), "after");
    assert_eq!(fleet.hosts[2].read(PACK), pack());
    assert!(!fleet.hosts[2].path(".git/loose").exists());
}

/// One that no majority can hold does not hold back the repository for ever.
#[test]
fn a_pack_that_cannot_be_had_is_not_waited_for_for_ever() {
    let mut fleet = repository();
    fleet.has_slow_offers = true;
    collect_garbage(&mut fleet);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read(".git/ref"), "before");
    fleet.pass(0, WAIT_MS);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read(".git/ref"), "after");
}

/// Source: trap T9. The same on a node that does not have the content yet.
#[test]
fn a_ref_is_not_placed_before_the_pack_that_it_needs() {
    let mut fleet = repository();
    fleet.loses_contents = true;
    collect_garbage(&mut fleet);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read(".git/ref"), "before");
    assert!(fleet.hosts[2].path(".git/loose").exists());
    assert_eq!(fleet.hosts[2].read("elsewhere"), "not of the repository");
    let waiting = fleet.hosts[2].engine().store_status().unwrap().waiting;
    let why = ".git/ref: a large file of the same repository goes first";
    assert!(waiting.iter().any(|line| line == why), "{waiting:?}");
    fleet.loses_contents = false;
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read(".git/ref"), "after");
}
