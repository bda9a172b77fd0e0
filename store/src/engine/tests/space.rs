//! Trap T21: a full disk.

use pickbox_raft::core::ids::NodeId;

use super::fleet::{Fleet, rel};
use crate::contents::message::CannotTake;
use crate::contents::{ContentEvent, Ticket};
use crate::engine::Event;
use crate::engine::ports::{Answer, Query};

fn shared(fleet: &mut Fleet, path: &str) {
    fleet.hosts[0].write(path, path);
    fleet.look(0);
    fleet.settle();
}

/// The node rests, says why, refuses writes, and goes on by itself.
#[test]
fn a_full_disk_is_waited_out() {
    let mut fleet = Fleet::new(3);
    fleet.hosts[1].engine().space.told = Some(1_000_000);
    fleet.settle();
    for path in ["a", "b"] {
        shared(&mut fleet, path);
    }
    fleet.hosts[1].write("mine", "mine");
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("b"), "b", "the others go on");
    let tree: Vec<_> = fleet.hosts[1].tree().into_keys().collect();
    assert_eq!(tree, ["mine"]);
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert!(status.waiting[0].contains("the disk is full (1000000 bytes"), "{status:?}");
    let put = Query::Put { path: rel("x"), data: b"x".to_vec() };
    assert_eq!(fleet.ask(1, put), Answer::NoSpace);

    fleet.hosts[1].engine().space.told = Some(20 * 1024 * 1024);
    fleet.settle();
    assert!(fleet.hosts[1].engine().rests(), "not back and forth at the edge");
    fleet.hosts[1].engine().space.told = None;
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree().len(), 3);
}

/// A content that no majority has room for waits, and the nodes that lack it are named.
#[test]
fn who_has_no_room_for_a_file_is_named() {
    let mut fleet = Fleet::new(3);
    shared(&mut fleet, "big");
    let engine = fleet.hosts[0].engine();
    let file = engine.index.resolve(&rel("big")).unwrap().unwrap();
    let row = engine.row_of(file).unwrap().unwrap();
    let stat = engine.row(row).unwrap().unwrap().seen.unwrap().stat;
    let ticket = Ticket(99);
    engine.offers.insert(row, (ticket, stat));
    engine.tickets.insert(ticket, row);
    for (peer, reason) in [(2, CannotTake::NoSpace), (3, CannotTake::Busy), (3, CannotTake::Disk)] {
        let peer = NodeId::new(peer);
        engine.event(Event::Content(ContentEvent::Refused { ticket, peer, reason })).unwrap();
    }
    let waiting = engine.store_status().unwrap().waiting;
    let expected = "big: waits for a majority that can hold it: node2 has no room for it, \
                    node3 cannot write to its disk";
    assert_eq!(waiting, [expected]);
    engine.event(Event::Content(ContentEvent::Changed(ticket))).unwrap();
    let waiting = engine.store_status().unwrap().waiting;
    assert!(waiting.iter().all(|line| !line.contains("no room")), "{waiting:?}");
}

/// The journal is cut in the middle of a note: nothing is exposed before it is whole, and it is
/// read back after a kill.
#[test]
fn a_journal_without_room_is_continued() {
    for room in [0, 1, 9, 40, 200] {
        let mut fleet = Fleet::new(3);
        shared(&mut fleet, "a");
        fleet.hosts[1].engine().journal.room = Some(room);
        fleet.hosts[0].write("a", "changed");
        fleet.look(0);
        fleet.settle();
        shared(&mut fleet, "b");
        if room < 100 {
            assert_eq!(fleet.hosts[1].read("a"), "a", "room for {room} bytes");
            let status = fleet.hosts[1].engine().store_status().unwrap();
            assert!(status.blocked > 0, "{status:?}");
        }
        fleet.hosts[1].engine().journal.room = None;
        fleet.settle();
        fleet.kill(1);
        fleet.start(1);
        fleet.settle();
        fleet.converge();
        fleet.assert_same();
        assert_eq!(fleet.hosts[1].read("a"), "changed");
        assert_eq!(fleet.hosts[1].engine().store_status().unwrap().recovered, 0);
    }
}

/// Ended while it rests, as by a service manager: the next start finds everything.
#[test]
fn a_stop_on_a_full_disk_is_clean() {
    let mut fleet = Fleet::new(3);
    shared(&mut fleet, "a");
    fleet.hosts[1].engine().space.told = Some(0);
    shared(&mut fleet, "b");
    fleet.stop(1);
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
}

/// Makes a directory immutable, or lets it be changed again; false where that cannot be done.
fn chattr(flag: &str, path: &std::path::Path) -> bool {
    let output = std::process::Command::new("chattr").arg(flag).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

/// What is blocked is tried again, however much there is: nothing waits behind the first.
#[test]
fn what_is_blocked_keeps_nothing_else_waiting() {
    let mut fleet = Fleet::new(2);
    for name in ["many", "one"] {
        std::fs::create_dir(fleet.hosts[0].path(name)).unwrap();
    }
    fleet.look(0);
    fleet.settle();
    let (many, one) = (fleet.hosts[1].path("many"), fleet.hosts[1].path("one"));
    if !chattr("+i", &many) || !chattr("+i", &one) {
        println!("skipped: immutable directories need root and ext4");
        return;
    }
    for number in 0..300 {
        fleet.hosts[0].write(&format!("many/{number}"), "x");
    }
    fleet.look(0);
    fleet.settle();
    fleet.hosts[0].write("one/more", "x");
    fleet.look(0);
    fleet.settle();
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!(status.blocked, 301);
    assert!(chattr("-i", &one));
    for _ in 0..3 {
        fleet.pass(1, 100);
    }
    assert_eq!(fleet.hosts[1].read("one/more"), "x");
    assert!(chattr("-i", &many));
    fleet.converge();
    fleet.assert_same();
}
