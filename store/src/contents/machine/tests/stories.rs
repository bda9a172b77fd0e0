//! What the protocol promises, as stories.

use std::time::Duration;

use super::net::{Dice, Live, Net, SMALL, content, large, node, path};
use crate::contents::machine::{Durability, Input};
use crate::contents::message::CannotTake;
use crate::contents::{
    ContentCommand, ContentEvent, FETCHES_MAX, FetchFailure, OFFERS_ACTIVE_MAX, PIECE_BYTES_U64,
    Quorum, Ticket,
};

const SECOND: Duration = Duration::from_secs(1);
/// Runs of the random test; thousands were run when it was written.
const SEEDS: u64 = 12;

fn fetch(n: u64, size: u64) -> ContentCommand {
    ContentCommand::Fetch { content: content(n), size, from: vec![node(1)] }
}

#[test]
fn an_offer_is_held_once_a_majority_has_it_synced() {
    let mut net = Net::connected(3);
    net.offer(1, 1, large(7, 9));
    net.settle();
    let (what, holders) = net.held(1, 1).unwrap();
    assert_eq!((what, holders), (content(7), vec![node(2), node(3)]));
    assert_eq!(net.piece_bytes, 2 * large(7, 9).size, "nothing is sent twice");
    assert!(!net.node(1).staging.contains_key(&content(7)), "the origin makes no copy");
}

#[test]
fn an_offer_waits_for_a_majority_and_no_longer() {
    let mut net = Net::connected(5);
    net.node(4).full = true;
    net.node(5).full = true;
    net.offer(1, 1, large(7, 2));
    net.settle();
    let (_, holders) = net.held(1, 1).expect("two peers and the origin's own copy are three");
    assert_eq!(holders, vec![node(1), node(2), node(3)]);
}

/// A full peer is asked again later (fault 21 and the like: it clears by itself).
#[test]
fn a_peer_that_was_full_gets_the_offer_again() {
    let mut net = Net::connected(3);
    net.node(3).full = true;
    net.offer(1, 1, large(7, 2));
    net.run(2 * SECOND);
    assert_eq!(net.held(1, 1).unwrap().1, vec![node(1), node(2)]);
    let (ticket, peer, reason) = (Ticket(1), node(3), CannotTake::NoSpace);
    assert!(net.saw(1, &ContentEvent::Refused { ticket, peer, reason }));
    net.node(3).full = false;
    net.run(20 * SECOND);
    assert_eq!(net.held(1, 1).unwrap().1, vec![node(1), node(2), node(3)]);
}

#[test]
fn with_one_peer_the_origin_makes_a_copy_of_its_own() {
    let mut net = Net::connected(2);
    net.offer(1, 1, large(7, 3));
    net.settle();
    assert_eq!(net.held(1, 1).unwrap().1, vec![node(1), node(2)]);
    net.command(1, ContentCommand::Settle(Ticket(1)));
    net.settle();
    assert!(!net.node(1).staging.contains_key(&content(7)), "released with the offer");
    assert!(net.node(2).staging.contains_key(&content(7)), "released by the log only");
}

#[test]
fn a_lone_voter_syncs_its_live_file() {
    let mut net = Net::new(1);
    net.offer(1, 1, large(7, 3));
    net.settle();
    assert_eq!(net.held(1, 1).unwrap().1, vec![node(1)]);
}

/// A peer that hangs with its connections open (SIGSTOP) is not waited for.
#[test]
fn a_silent_peer_is_replaced_by_an_own_copy() {
    let mut net = Net::connected(3);
    net.offer(1, 1, large(7, 3));
    for _ in 0..20 {
        while net.deliver(node(1), node(2), false) || net.deliver(node(2), node(1), false) {}
        net.work(node(1));
        net.work(node(2));
        net.pass(Duration::from_millis(500));
    }
    assert_eq!(net.held(1, 1).unwrap().1, vec![node(1), node(2)]);
}

#[test]
fn in_a_minority_an_offer_waits_and_goes_on_when_peers_come() {
    let mut net = Net::new(3);
    net.offer(1, 1, large(7, 3));
    net.run(10 * SECOND);
    assert_eq!(net.held(1, 1), None);
    assert!(!net.node(1).staging.contains_key(&content(7)), "a copy would not help");
    net.connect(node(1), node(3));
    net.run(SECOND);
    assert_eq!(net.held(1, 1).unwrap().1, vec![node(1), node(3)]);
}

/// Trap T6: a file written to while it is on its way is no version.
#[test]
fn a_file_that_changes_on_its_way_is_reported_and_forgotten() {
    let mut net = Net::connected(3);
    net.offer(1, 1, large(7, 9));
    for _ in 0..5 {
        net.deliver(node(1), node(2), false);
        net.deliver(node(2), node(1), false);
    }
    net.node(1).files.insert(path("f1"), large(8, 9));
    net.settle();
    assert!(net.saw(1, &ContentEvent::Changed(Ticket(1))));
    assert_eq!(net.held(1, 1), None);
    assert!(net.node(2).staging.is_empty() && net.node(3).staging.is_empty());
}

/// Trap T6, after the peers have all of it: their copies go too, also that of a peer which was
/// away when the offer was voided.
#[test]
fn a_cancelled_offer_leaves_nothing_behind() {
    let mut net = Net::connected(3);
    net.offer(1, 1, large(7, 2));
    net.settle();
    net.cut(node(1), node(3));
    net.command(1, ContentCommand::Cancel(Ticket(1)));
    net.settle();
    assert!(!net.node(2).staging.contains_key(&content(7)));
    assert!(net.node(3).staging.contains_key(&content(7)), "it could not hear of it");
    net.connect(node(1), node(3));
    net.settle();
    assert!(!net.node(3).staging.contains_key(&content(7)));
}

#[test]
fn a_copy_that_another_offer_counts_on_survives_a_cancel() {
    let mut net = Net::connected(3);
    net.offer(1, 1, large(7, 2));
    net.offer(2, 1, large(7, 2));
    net.settle();
    net.command(1, ContentCommand::Cancel(Ticket(1)));
    net.settle();
    assert!(net.node(3).staging.contains_key(&content(7)));
    net.command(2, ContentCommand::Cancel(Ticket(1)));
    net.settle();
    assert!(!net.node(3).staging.contains_key(&content(7)));
}

/// Two nodes add the same bytes; the first change is placed, which takes the copy away: the
/// second change still has its majority.
#[test]
fn a_copy_renamed_away_is_made_again_for_the_other_offer() {
    let mut net = Net::connected(3);
    net.offer(1, 1, large(7, 2));
    net.offer(2, 1, large(7, 2));
    net.settle();
    net.command(3, fetch(7, large(7, 2).size));
    assert!(net.saw(3, &ContentEvent::Fetched(content(7))));
    net.node(3).staging.remove(&content(7));
    net.node(3).files.insert(path("placed"), large(7, 2));
    net.command(3, ContentCommand::Adopted(content(7)));
    net.settle();
    let staged = net.node(3).staging.get(&content(7)).copied();
    assert_eq!(staged, Some((large(7, 2).size, Durability::Synced)));
    net.node(3).staging.remove(&content(7));
    net.command(3, ContentCommand::Adopted(content(7)));
    net.settle();
    assert!(!net.node(3).staging.contains_key(&content(7)), "each change takes one");
}

#[test]
fn what_a_closed_run_offered_and_never_committed_goes() {
    let mut net = Net::connected(3);
    net.offer(1, 1, large(7, 2));
    net.settle();
    let staged = net.node(2).events.clone();
    let Some(ContentEvent::Staged { origin, incarnation, .. }) = staged.first().cloned() else {
        panic!("{staged:?}")
    };
    net.crash(node(1));
    net.connect_all();
    net.settle();
    assert!(net.node(2).staging.contains_key(&content(7)), "only the log decides");
    net.command(2, ContentCommand::Close { origin, incarnation });
    assert!(!net.node(2).staging.contains_key(&content(7)));
}

/// A new majority after a change of the members: nothing is sent again to who has it.
#[test]
fn an_offer_is_judged_anew_when_the_members_change() {
    let mut net = Net::connected(3);
    let ids = net.ids();
    net.node(1).files.insert(path("f1"), large(7, 2));
    let mut request = net.offer_request(1, 1, "f1");
    request.peers = vec![node(2)];
    request.quorum = Quorum { sets: vec![vec![node(1), node(2)]] };
    net.node(1).events.clear();
    net.input(node(1), Input::Command(ContentCommand::Offer(request)));
    let sets = vec![vec![node(1), node(2)], ids];
    let peers = vec![node(2), node(3)];
    let quorum = Quorum { sets };
    net.command(1, ContentCommand::Regroup { ticket: Ticket(1), peers, quorum });
    net.settle();
    assert_eq!(net.held(1, 1).unwrap().1.len(), 3);
    assert_eq!(net.piece_bytes, 2 * large(7, 2).size);
}

#[test]
fn more_offers_than_may_be_open_wait_their_turn() {
    let mut net = Net::connected(3);
    let count = u64::try_from(OFFERS_ACTIVE_MAX).unwrap() + 20;
    for ticket in 1..=count {
        net.offer(1, ticket, large(1000 + ticket, 1));
    }
    net.settle();
    for ticket in 1..=count {
        if net.held(1, ticket).is_some() {
            net.command(1, ContentCommand::Settle(Ticket(ticket)));
        }
    }
    net.settle();
    assert!((1..=count).all(|ticket| net.held(1, ticket).is_some()));
}

#[test]
fn a_fetch_asks_until_somebody_has_it() {
    let mut net = Net::connected(3);
    net.node(3).history.insert(content(7), large(7, 9).size);
    net.command(2, fetch(7, large(7, 9).size));
    net.settle();
    assert!(net.saw(2, &ContentEvent::Fetched(content(7))));
    assert_eq!(net.piece_bytes, large(7, 9).size);
}

#[test]
fn a_content_that_nobody_has_is_reported_once_and_asked_for_again() {
    let mut net = Net::connected(3);
    net.command(2, fetch(7, large(7, 9).size));
    net.run(10 * SECOND);
    let reason = FetchFailure::NobodyHasIt;
    let failed = ContentEvent::FetchFailed { content: content(7), reason };
    let told = net.node(2).events.iter().filter(|event| **event == failed).count();
    assert_eq!(told, 1);
    net.node(1).history.insert(content(7), large(7, 9).size);
    net.run(60 * SECOND);
    assert!(net.saw(2, &ContentEvent::Fetched(content(7))));
    assert!(net.nodes[&node(2)].machine.deadline().is_none(), "idle again");
}

/// Source: trap T31: what a new node lacks it takes from whoever has it, one after the other.
#[test]
fn a_fetch_goes_on_at_another_peer_where_the_first_stopped() {
    let mut net = Net::connected(3);
    for id in [1, 3] {
        net.node(id).history.insert(content(7), large(7, 20).size);
    }
    net.command(2, fetch(7, large(7, 20).size));
    for _ in 0..10 {
        net.deliver(node(2), node(1), false);
        net.deliver(node(1), node(2), false);
    }
    net.cut(node(1), node(2));
    net.settle();
    assert!(net.saw(2, &ContentEvent::Fetched(content(7))));
    let wasted = net.piece_bytes - large(7, 20).size;
    assert!(wasted <= 4 * PIECE_BYTES_U64, "at most the window: {wasted}");
}

#[test]
fn a_fetch_rides_on_an_offer_that_brings_the_same() {
    let mut net = Net::connected(2);
    net.offer(1, 1, large(7, 9));
    while net.work(node(1)) {}
    while net.deliver(node(1), node(2), false) {}
    net.command(2, fetch(7, large(7, 9).size));
    net.settle();
    assert!(net.saw(2, &ContentEvent::Fetched(content(7))));
    assert_eq!(net.piece_bytes, large(7, 9).size, "sent once");
}

#[test]
fn small_contents_come_in_batches() {
    let mut net = Net::connected(3);
    for n in 0..1000_u64 {
        let holder = if n.is_multiple_of(10) { 3 } else { 1 };
        net.node(holder).history.insert(content(n), SMALL);
        net.command(2, fetch(n, SMALL));
    }
    let mut asked = 0;
    for _ in 0..200 {
        asked += usize::from(net.deliver(node(2), node(1), false));
        net.deliver(node(1), node(2), false);
        net.deliver(node(2), node(3), false);
        net.deliver(node(3), node(2), false);
    }
    assert!((0..1000).all(|n| net.saw(2, &ContentEvent::Fetched(content(n)))));
    assert!(asked < 30, "{asked} messages for 1000 contents");
}

#[test]
fn wants_are_bounded() {
    let mut net = Net::new(1);
    for n in 0..u64::try_from(FETCHES_MAX).unwrap() {
        net.nodes.get_mut(&node(1)).unwrap().machine.step(net.now, Input::Command(fetch(n, 1)));
    }
    net.command(1, fetch(u64::MAX - 1, 1));
    let reason = FetchFailure::Busy;
    assert!(net.saw(1, &ContentEvent::FetchFailed { content: content(u64::MAX - 1), reason }));
}

#[test]
fn what_is_released_is_neither_kept_nor_fetched() {
    let mut net = Net::connected(2);
    net.node(1).history.insert(content(7), large(7, 9).size);
    net.command(2, fetch(7, large(7, 9).size));
    net.deliver(node(2), node(1), false);
    net.command(2, ContentCommand::Release(content(7)));
    net.settle();
    assert!(!net.node(2).staging.contains_key(&content(7)));
    net.command(2, fetch(7, large(7, 9).size));
    net.settle();
    assert!(net.node(2).staging.contains_key(&content(7)));
    net.command(2, ContentCommand::Release(content(7)));
    assert!(!net.node(2).staging.contains_key(&content(7)));
}

#[test]
fn what_a_start_finds_counts_after_a_sync() {
    let mut net = Net::connected(3);
    net.node(2).staging.insert(content(7), (large(7, 9).size, Durability::Cached));
    net.crash(node(2));
    net.offer(1, 1, large(7, 9));
    while net.work(node(1)) {}
    net.connect_all();
    net.settle();
    assert_eq!(net.held(1, 1).unwrap().1, net.ids());
    assert_eq!(net.piece_bytes, large(7, 9).size, "sent to the other only");
}

/// Cuts, crashes, duplicates, delays (faults 24 and the like): held is always true (checked where
/// it is told), and once the faults end everything is held and fetched.
#[test]
fn through_random_faults_every_held_is_true_and_everything_arrives() {
    for seed in 1..=SEEDS {
        let mut dice = Dice::new(seed);
        let mut net = Net::connected(3 + dice.below(2) * 2);
        let nodes = u64::try_from(net.nodes.len()).unwrap();
        for n in 0..20_u64 {
            let holder = 1 + dice.below(nodes);
            let size = if n.is_multiple_of(2) { SMALL } else { large(n, n).size };
            net.node(holder).history.insert(content(n), size);
        }
        let mut ticket = 0;
        for _ in 0..1500 {
            random_step(&mut net, &mut dice, &mut ticket);
            net.check_bounds();
        }
        net.connect_all();
        for n in 0..20_u64 {
            let size = if n.is_multiple_of(2) { SMALL } else { large(n, n).size };
            net.command(1, ContentCommand::Fetch { content: content(n), size, from: vec![] });
        }
        net.offer(1, 10_000, large(10_000, 3));
        net.run(120 * SECOND);
        assert!(net.held(1, 10_000).is_some(), "seed {seed}");
        for n in 0..20_u64 {
            let machine = &net.nodes[&node(1)].machine;
            assert!(
                net.saw(1, &ContentEvent::Fetched(content(n))),
                "seed {seed}, content {n}: {:?} {:?}",
                machine.fetches,
                machine.staged
            );
        }
    }
}

fn random_step(net: &mut Net, dice: &mut Dice, ticket: &mut u64) {
    let nodes = u64::try_from(net.nodes.len()).unwrap();
    let a = node(1 + dice.below(nodes));
    let b = node(1 + dice.below(nodes));
    match dice.below(100) {
        0 => net.cut(a, b),
        1 if dice.below(4) == 0 => net.crash(a),
        2..5 => net.connect(a, b),
        5 => net.pass(Duration::from_millis(100 * dice.below(60))),
        6..8 => {
            *ticket += 1;
            let live =
                Live { content: content(100 + dice.below(5)), ..large(0, 1 + dice.below(9)) };
            net.offer(a.get(), *ticket, Live { size: live.size, content: sized(live) });
        }
        8 => {
            let n = dice.below(20);
            let size = if n.is_multiple_of(2) { SMALL } else { large(n, n).size };
            net.command(
                a.get(),
                ContentCommand::Fetch { content: content(n), size, from: vec![b] },
            );
        }
        9 => net.command(a.get(), ContentCommand::Cancel(Ticket(dice.below(*ticket + 1)))),
        10 => net.command(a.get(), ContentCommand::Settle(Ticket(dice.below(*ticket + 1)))),
        11..14 => {
            net.deliver(a, b, true);
        }
        14..40 => {
            net.work(a);
        }
        _ => {
            net.deliver(a, b, false);
        }
    }
}

/// One content has one size.
fn sized(live: Live) -> crate::content_id::ContentId {
    crate::content_id::ContentId::of(format!("{} {}", live.content, live.size).as_bytes())
}
