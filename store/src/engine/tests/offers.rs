//! Large files on their way to the others: an offer ends with its reason, and is made again while
//! there is one.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::contents::ContentCommand;
use crate::engine::Event;
use crate::engine::place::Why;
use pickbox_raft::api::{Delivery, Refusal};

fn large(word: &str) -> String {
    word.repeat(20_000)
}

/// A large file that a majority holds, and whose change is proposed.
fn proposed() -> Fleet {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "small");
    fleet.hosts[0].write("f", &large("one"));
    fleet.look(0);
    assert!(fleet.hosts[0].proposed.is_some());
    fleet
}

/// The log refuses the proposal of a large file (those who hold it are no majority any more): the file
/// is brought to the others anew, and proposed again.
#[test]
fn a_large_file_whose_proposal_is_refused_is_offered_again() {
    let mut fleet = proposed();
    let serial = fleet.hosts[0].proposed.take().unwrap().serial;
    let refused = Delivery::Refused { serial, reason: Refusal::NeedHolders };
    fleet.give(0, Event::Log(refused));
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("f"), large("one"));
    assert!(!fleet.hosts[0].engine().offers_anything());
}

/// The state that is taken over has the change: its offer is over, and what the others hold of it is
/// not taken back.
#[test]
fn the_offer_of_what_a_state_brought_is_settled() {
    let mut fleet = proposed();
    fleet.settle_others(0);
    fleet.need_state(0, 1);
    assert!(!fleet.hosts[0].engine().offers_anything());
    let settled = |told: &(usize, ContentCommand)| matches!(told, (0, ContentCommand::Settle(_)));
    assert!(fleet.told.iter().any(settled));
    assert!(!fleet.told.iter().any(|(_, told)| matches!(told, ContentCommand::Cancel(_))));
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("f"), large("one"));
}

/// A majority holds a large file, and before it is proposed the file is what the log has again:
/// nothing is on its way any more, and the others may let its bytes go.
#[test]
fn an_offer_that_is_held_ends_when_the_file_is_as_agreed_again() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "small");
    // One proposal at a time.
    fleet.hosts[0].write("g", "another");
    fleet.look(0);
    fleet.hosts[0].write("f", &large("one"));
    fleet.look(0);
    assert!(fleet.hosts[0].engine().offers_anything());
    fleet.hosts[0].write("f", "small");
    fleet.look(0);
    assert!(!fleet.hosts[0].engine().offers_anything());
    let ended = fleet.told.iter().any(|(_, told)| matches!(told, ContentCommand::Cancel(_)));
    assert!(ended);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("f"), "small");
}

/// Trap T18. A large file is found by the first walk, and a majority holds it, before the walk meets
/// it again and has doubts about it: it is not waited for for ever.
#[test]
fn a_large_file_that_the_first_walk_doubts_is_offered_again() {
    for doubts in [false, true] {
        let mut fleet = Fleet::new(3);
        share(&mut fleet, 0, "f", "small");
        share(&mut fleet, 0, "g", "small");
        fleet.stop(0);
        fleet.hosts[0].write("f", &large("one"));
        fleet.hosts[0].write("g", "another");
        fleet.start(0);
        while fleet.deliver(0) {}
        for path in ["g", "f"] {
            let look = fleet.see(0, &rel(path)).unwrap();
            fleet.tell(0, look);
        }
        assert!(fleet.hosts[0].proposed.is_some(), "one proposal at a time");
        assert!(fleet.hosts[0].engine().offers_anything());
        if doubts {
            let engine = fleet.hosts[0].engine();
            let id = engine.resolve_local(&rel("f")).unwrap().unwrap();
            let row = engine.row(id).unwrap().unwrap();
            engine.read_racy(id, row).unwrap();
        } else {
            fleet.walk(0);
            let offers =
                |told: &&(usize, ContentCommand)| matches!(told.1, ContentCommand::Offer(_));
            assert_eq!(
                fleet.told.iter().filter(offers).count(),
                1,
                "nothing is in doubt that was read"
            );
        }
        fleet.converge();
        fleet.assert_same();
        assert_eq!(fleet.hosts[2].read("f"), large("one"));
        assert!(!fleet.hosts[0].engine().offers_anything());
    }
}

/// A row waits for its content, and is not in the way of the others meanwhile: nobody asks for it time
/// and again.
#[test]
fn what_is_on_its_way_is_not_looked_at_all_the_time() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "small");
    fleet.hosts[0].write("g", "another");
    fleet.look(0);
    fleet.hosts[0].write("f", "a change that waits");
    fleet.look(0);
    fleet.has_slow_offers = true;
    fleet.hosts[0].write("f", &large("one"));
    let look = fleet.see(0, &rel("f")).unwrap();
    fleet.tell(0, look);
    fleet.commit(0);
    for _ in 0..3 {
        while fleet.deliver(0) {}
        fleet.pass(0, 1);
        assert_eq!(fleet.asked(0), []);
    }
    fleet.finish_offers(0);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("f"), large("one"));
}

/// The content worker lets go of a content while it is being placed: that is waited for, as if it had
/// never been there, and is no reason to call the file blocked.
#[test]
fn a_content_that_goes_while_it_is_placed_blocks_nothing() {
    let mut fleet = Fleet::new(2);
    fleet.hosts[0].write("f", &large("one"));
    fleet.look(0);
    fleet.commit(0);
    fleet.loses_contents = true;
    while fleet.deliver(1) {}
    let staged = fleet.hosts[1]
        .state()
        .join(format!("staging/c.{}", ContentId::of(large("one").as_bytes())));
    let engine = fleet.hosts[1].engine();
    let id = engine.index.resolve(&rel("f")).unwrap().unwrap();
    let record = engine.index.record(id).unwrap().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let beside = staged.with_file_name("beside");
            while !is_over.load(Ordering::Relaxed) {
                fs::write(&beside, large("one")).unwrap();
                let _ = fs::rename(&beside, &staged);
                let _ = fs::remove_file(&staged);
            }
        });
        let mut met = 0;
        for _ in 0..20_000 {
            match engine.stage(id, &record) {
                Ok(made) => {
                    engine.unstage(&made);
                    met += 1;
                }
                Err(Why::Content(_)) => {}
                Err(why) => {
                    is_over.store(true, Ordering::Relaxed);
                    panic!("{why:?}");
                }
            }
            if met > 200 {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// The daemon is killed while a large change was seen and not read yet: the next run, to which the file
/// looks as it did to the last one, reads it.
#[test]
fn a_large_change_that_was_not_read_before_a_kill_is_read_after_it() {
    for walks in [false, true] {
        let mut fleet = Fleet::new(2);
        share(&mut fleet, 0, "f", &large("one"));
        fleet.has_slow_offers = true;
        fleet.hosts[0].write("f", &large("two"));
        fleet.look(0);
        fleet.checkpoint(0);
        fleet.kill(0);
        fleet.has_slow_offers = false;
        fleet.start(0);
        while fleet.deliver(0) {}
        if walks {
            fleet.walk(0);
        }
        fleet.settle();
        fleet.assert_same();
        assert_eq!(fleet.hosts[1].read("f"), large("two"));
    }
}
