//! Promise P3: equal positions mean equal digests, and the nodes see to it themselves.

use super::fleet::{Fleet, share};

fn pass(fleet: &mut Fleet) {
    for at in 0..fleet.hosts.len() {
        fleet.pass(at, 6_000);
    }
    fleet.settle();
}

fn waiting(fleet: &mut Fleet, at: usize) -> Vec<String> {
    fleet.hosts[at].engine().store_status().unwrap().waiting
}

/// Source: promise P3. A node whose index says something else than the others' says so, and leaves
/// the folder alone; the others go on and name it.
#[test]
fn a_node_that_is_outvoted_stops() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    pass(&mut fleet);
    for at in 0..3 {
        assert!(waiting(&mut fleet, at).is_empty(), "equal digests are silent");
    }
    fleet.hosts[1].engine().index.rot();
    share(&mut fleet, 0, "f", "two");
    pass(&mut fleet);
    assert!(waiting(&mut fleet, 1)[0].contains("--rejoin"), "{:?}", waiting(&mut fleet, 1));
    for at in [0, 2] {
        let lines = waiting(&mut fleet, at);
        assert!(lines[0].contains("same index: node2"), "{lines:?}");
    }

    fleet.hosts[1].write("mine", "an edit that is compared with a wrong state");
    fleet.look(1);
    share(&mut fleet, 0, "f", "three");
    assert_eq!(fleet.hosts[2].read("f"), "three");
    assert_ne!(fleet.hosts[1].read("f"), "three", "nothing is placed any more");
    assert!(!fleet.hosts[2].tree().contains_key("mine"), "and nothing proposed");
}

/// Without a majority nobody knows who is right: both say so and go on.
#[test]
fn two_nodes_that_differ_go_on() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    fleet.hosts[1].engine().index.rot();
    share(&mut fleet, 0, "f", "two");
    pass(&mut fleet);
    for (at, other) in [(0, "node2"), (1, "node1")] {
        let lines = waiting(&mut fleet, at);
        assert!(lines[0].contains(&format!("same index: {other}")), "{lines:?}");
    }
    share(&mut fleet, 0, "f", "three");
    assert_eq!(fleet.hosts[1].read("f"), "three");
}

/// A node that is behind compares when it has come so far, and a milestone is compared although
/// its teller has gone on.
#[test]
fn a_node_that_is_behind_is_compared_later() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.hosts[2].engine().index.rot();
    for number in 0..300 {
        fleet.hosts[0].write("f", &format!("edit {number}"));
        fleet.look(0);
        fleet.settle_others(2);
    }
    for at in 0..2 {
        fleet.pass(at, 6_000);
    }
    assert!(waiting(&mut fleet, 2).is_empty());
    fleet.settle();
    pass(&mut fleet);
    assert!(waiting(&mut fleet, 2)[0].contains("--rejoin"), "{:?}", waiting(&mut fleet, 2));
}
