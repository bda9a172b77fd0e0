//! A state on its way from one node to another: cut, shuffled, overtaken, and put in force.

use std::collections::VecDeque;

use pickbox_raft::api::{Command, Delivery};
use pickbox_raft::core::ids::{LogPosition, Term};
use pickbox_raft::core::log::Content;

use super::fleet::{Fleet, Letter, share};
use crate::engine::Event;
use crate::engine::catchup::{
    HELD_LOG_BYTES_MAX, PAGES_PER_TICK_MAX, PeerMessage, SNAPSHOT_IDLE_MS,
};

/// Small pages, so that a small namespace has many.
const PAGE_BYTES: usize = 150;

/// Hosts of which the second lacks some 40 pages of the state that the others have, and is up.
fn behind(hosts: u64) -> Fleet {
    let mut fleet = Fleet::new(hosts);
    fleet.kill(1);
    for number in 0..60 {
        fleet.hosts[0].write(&format!("file {number}"), &format!("text {number}"));
    }
    fleet.look(0);
    fleet.settle_others(1);
    fleet.hosts[0].write("file 0", "another text");
    fleet.look(0);
    fleet.settle_others(1);
    for host in &mut fleet.hosts {
        if host.is_up() {
            host.engine().catchup.page_bytes = PAGE_BYTES;
        }
    }
    fleet.start(1);
    fleet.wire = Some(VecDeque::new());
    fleet
}

fn read(letter: &Letter) -> PeerMessage {
    postcard::from_bytes(&letter.bytes).unwrap()
}

fn is_page(letter: &Letter) -> bool {
    matches!(read(letter), PeerMessage::Page { .. })
}

fn next_letter(fleet: &mut Fleet) -> Option<Letter> {
    fleet.wire.as_mut().unwrap().pop_front()
}

/// Carries messages, with time passing where none is under way, until the host has the state.
fn carry_all(fleet: &mut Fleet) -> Vec<Letter> {
    carry_until(fleet, usize::MAX)
}

/// The same, until so many pages were carried.
fn carry_until(fleet: &mut Fleet, pages_max: usize) -> Vec<Letter> {
    let mut carried: Vec<Letter> = Vec::new();
    for _ in 0..2_000 {
        let pages = carried.iter().filter(|letter| is_page(letter)).count();
        if pages >= pages_max || installed(fleet) > 0 {
            return carried;
        }
        match next_letter(fleet) {
            Some(letter) => {
                carried.push(letter.clone());
                fleet.carry(letter);
            }
            None => (0..fleet.hosts.len()).for_each(|at| fleet.pass(at, 100)),
        }
    }
    panic!("the transfer does not come to its end");
}

/// How many states were put in force on host 1.
fn installed(fleet: &Fleet) -> usize {
    let is_it = |(at, command): &&(usize, Command)| {
        *at == 1 && matches!(command, Command::StateInstalled { .. })
    };
    fleet.commands.iter().filter(is_it).count()
}

fn finish(fleet: &mut Fleet) {
    for letter in fleet.wire.take().unwrap_or_default() {
        fleet.carry(letter);
    }
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
}

fn pages_of(letters: &[Letter]) -> Vec<Letter> {
    letters.iter().filter(|letter| is_page(letter)).cloned().collect()
}

/// checklist 73: what is on a connection when it breaks is asked for again, and no more than that.
/// What came is verified as a whole, so that every byte counts.
#[test]
fn a_transfer_that_is_cut_goes_on_with_the_page_that_is_missing() {
    let mut whole = behind(3);
    whole.need_state(1, 0);
    let all = pages_of(&carry_all(&mut whole)).len();
    assert!(all > 20, "{all}");

    let mut fleet = behind(3);
    fleet.need_state(1, 0);
    let before = carry_until(&mut fleet, all * 6 / 10);
    // Nothing gets through for some seconds.
    for _ in 0..50 {
        (0..3).for_each(|at| fleet.pass(at, 100));
        fleet.wire.as_mut().unwrap().clear();
    }
    let after = carry_all(&mut fleet);
    let begun = |letters: &[Letter]| {
        letters.iter().filter(|l| matches!(read(l), PeerMessage::Begin { .. })).count()
    };
    assert_eq!((begun(&before), begun(&after)), (1, 0), "it did not begin anew");
    assert_eq!(pages_of(&before).len() + pages_of(&after).len(), all, "no page was taken twice");
    finish(&mut fleet);
}

/// checklist 73, fault 61: a page that came damaged is asked for again.
#[test]
fn a_page_that_came_damaged_costs_that_page() {
    let mut fleet = behind(3);
    fleet.need_state(1, 0);
    carry_until(&mut fleet, 10);
    let mut pages = 10;
    while installed(&fleet) == 0 {
        let Some(mut letter) = next_letter(&mut fleet) else {
            (0..3).for_each(|at| fleet.pass(at, 100));
            continue;
        };
        assert!(!matches!(read(&letter), PeerMessage::Begin { .. }), "it did not begin anew");
        pages += usize::from(is_page(&letter));
        if is_page(&letter) && pages == 12 {
            let last = letter.bytes.len() - 1;
            letter.bytes[last] ^= 1;
        }
        fleet.carry(letter);
    }
    finish(&mut fleet);
}

/// splitmix64 (Steele et al. 2014).
fn roll(state: &mut u64, sides: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % sides
}

/// checklist 74: pages lost, twice, in any order, of a state that was given up, of whoever led
/// before: what is put in force is one state, whole.
#[test]
fn pages_in_any_order_from_whomever_make_one_state_or_none() {
    for seed in 0..6 {
        let mut dice = seed;
        let mut fleet = behind(3);
        fleet.need_state(1, 0);
        let mut old = carry_until(&mut fleet, 8);
        for step in 0..40_000 {
            if installed(&fleet) > 0 {
                break;
            }
            assert!(step < 39_999, "seed {seed}: does not come to its end");
            let waiting = fleet.wire.as_ref().unwrap().len();
            match roll(&mut dice, 40) {
                0..=29 if waiting > 0 => {
                    let at = roll(&mut dice, waiting);
                    let letter = fleet.wire.as_mut().unwrap().remove(at).unwrap();
                    old.push(letter.clone());
                    fleet.carry(letter);
                }
                30..=33 => {
                    let letter = old[roll(&mut dice, old.len())].clone();
                    fleet.carry(letter);
                }
                34 => fleet.wire.as_mut().unwrap().clear(),
                35 if step % 16 == 0 => {
                    let leader = 2 * roll(&mut dice, 2);
                    fleet.append(Content::Noop);
                    fleet.need_state(1, leader);
                }
                _ => (0..3).for_each(|at| fleet.pass(at, 100)),
            }
        }
        finish(&mut fleet);
    }
}

/// checklist 74 and 82: a state of a later position and an earlier term, or of the same position and other
/// bytes, is of another log: refused, and said.
#[test]
fn a_state_that_contradicts_what_was_committed_here_is_refused_loudly() {
    let mut fleet = behind(3);
    while fleet.deliver(1) {}
    fleet.hosts[1].write("own", "committed here");
    fleet.look(1);
    fleet.settle_others(1);
    while fleet.deliver(1) {}
    let engine = fleet.hosts[1].engine();
    let position = LogPosition { term: Term::new(2), ..engine.index.position() };
    engine.index.pretend(position);
    fleet.append(Content::Noop);
    fleet.need_state(1, 0);
    for _ in 0..300 {
        match next_letter(&mut fleet) {
            Some(letter) => fleet.carry(letter),
            None => (0..3).for_each(|at| fleet.pass(at, 100)),
        }
    }
    assert_eq!(installed(&fleet), 0);
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert!(status.waiting[0].contains("contradicts"), "{:?}", status.waiting);
}

/// checklist 75: a second request close behind the first, for a later position, ends neither the
/// one that is given nor the one that is put in force.
#[test]
fn two_states_close_together_are_taken_one_after_the_other() {
    let mut fleet = behind(3);
    fleet.need_state(1, 0);
    carry_until(&mut fleet, 8);
    // What is on its way is enough for this one.
    let (from, at_least) = (fleet.hosts[0].id, LogPosition::default().index.next());
    let at_least = LogPosition { index: at_least, term: Term::new(1) };
    fleet.give(1, Event::Log(Delivery::NeedState { from, at_least }));
    let carried = carry_all(&mut fleet);
    assert!(carried.iter().all(|letter| !matches!(read(letter), PeerMessage::Begin { .. })));
    let first = fleet.hosts[1].engine().index.position();

    // And this one begins the moment that the first is in force.
    fleet.append(Content::Noop);
    fleet.need_state(1, 0);
    let asked = carry_until(&mut fleet, 1);
    assert!(asked.is_empty(), "the first is counted: {asked:?}");
    fleet.commands.clear();
    carry_all(&mut fleet);
    assert!(fleet.hosts[1].engine().index.position().index > first.index);
    // One that was meant for before is not needed any more.
    fleet.give(1, Event::Log(Delivery::NeedState { from, at_least: first }));
    assert!(next_letter(&mut fleet).is_none());
    fleet.hosts[1].engine().index.check_sums();
    finish(&mut fleet);
}

/// checklist 76: while a state is given the giver's log is kept from there on, so what is put in
/// force connects to it, however much is written and checkpointed meanwhile.
#[test]
fn the_log_behind_a_state_is_kept_until_it_is_taken() {
    let mut fleet = behind(3);
    fleet.checkpoint(0);
    fleet.need_state(1, 0);
    carry_until(&mut fleet, 3);
    let given = fleet.hosts[0].engine().index.position();
    for round in 0..5 {
        fleet.hosts[0].write("file 1", &format!("round {round}"));
        fleet.look(0);
        fleet.commit(0);
        while fleet.deliver(0) {}
        fleet.checkpoint(0);
        carry_until(&mut fleet, 3);
        assert_eq!(let_go(&fleet), given.index.get());
    }
    carry_all(&mut fleet);
    assert_eq!(fleet.hosts[1].engine().index.position(), given);
    fleet.pass(0, SNAPSHOT_IDLE_MS + 100);
    assert!(let_go(&fleet) > given.index.get(), "then it goes, without another checkpoint");
    finish(&mut fleet);
}

/// The log is not kept without bound for one who takes too long.
#[test]
fn the_log_is_kept_up_to_a_bound() {
    let mut fleet = behind(3);
    fleet.checkpoint(0);
    fleet.need_state(1, 0);
    carry_until(&mut fleet, 3);
    let given = fleet.hosts[0].engine().index.position();
    fleet.append(Content::Noop);
    while fleet.deliver(0) {}
    fleet.hosts[0].engine().count_applied(HELD_LOG_BYTES_MAX);
    fleet.checkpoint(0);
    assert!(let_go(&fleet) > given.index.get());
}

/// Up to where host 0 let its log be dropped.
fn let_go(fleet: &Fleet) -> u64 {
    let told = fleet.commands.iter().filter_map(|(at, command)| match command {
        Command::Checkpoint(until) if *at == 0 => Some(until.index.get()),
        _ => None,
    });
    told.max().unwrap_or_default()
}

/// Who leads does not matter to a transfer whose giver still answers.
#[test]
fn a_transfer_goes_on_over_a_change_of_the_leader() {
    let mut fleet = behind(3);
    fleet.need_state(1, 0);
    carry_until(&mut fleet, 12);
    let at_least = fleet.hosts[0].engine().index.position();
    let from = fleet.hosts[2].id;
    fleet.give(1, Event::Log(Delivery::NeedState { from, at_least }));
    let carried = carry_all(&mut fleet);
    assert!(carried.iter().all(|letter| letter.to != 2 && letter.from != 2));
    finish(&mut fleet);
}

/// A giver that died is left for the leader; one whose state does not reach far enough, at once.
#[test]
fn a_giver_that_is_silent_or_too_far_back_is_left_for_the_leader() {
    for silent in [0, 1] {
        let mut fleet = behind(3);
        fleet.need_state(1, 0);
        carry_until(&mut fleet, 12);
        if silent == 0 {
            fleet.append(Content::Noop);
        } else {
            fleet.kill(0);
        }
        fleet.need_state(1, 2);
        carry_all(&mut fleet);
        let position = fleet.hosts[1].engine().index.position();
        assert_eq!(position, fleet.hosts[2].engine().index.position());
        if silent == 1 {
            fleet.start(0);
        }
        finish(&mut fleet);
    }
}

/// The giver forgot what it gave: it says so, and the transfer begins anew at once.
#[test]
fn a_state_that_is_gone_is_taken_anew() {
    let mut fleet = behind(3);
    fleet.need_state(1, 0);
    carry_until(&mut fleet, 12);
    fleet.kill(0);
    fleet.start(0);
    fleet.hosts[0].engine().catchup.page_bytes = PAGE_BYTES;
    while fleet.deliver(0) {}
    let letters = carry_all(&mut fleet);
    let said: Vec<_> = letters.iter().map(read).collect();
    let gone = said.iter().filter(|said| matches!(said, PeerMessage::Gone { .. })).count();
    let begun = said.iter().filter(|said| matches!(said, PeerMessage::Begin { .. })).count();
    assert_eq!((gone, begun), (1, 1));
    finish(&mut fleet);
}

/// One that was let go for want of questions is the same if nothing happened since.
#[test]
fn a_state_that_idled_out_is_taken_up_again_where_nothing_happened() {
    let mut fleet = behind(3);
    fleet.need_state(1, 0);
    carry_until(&mut fleet, 12);
    for _ in 0..400 {
        (0..3).for_each(|at| fleet.pass(at, 100));
        fleet.wire.as_mut().unwrap().clear();
    }
    let letters = carry_all(&mut fleet);
    assert!(letters.iter().all(|letter| !matches!(read(letter), PeerMessage::Begin { .. })));
    finish(&mut fleet);
}

/// checklist 77: the state is in force on the disk and the node dies before its log has heard of
/// it, and at every message before: the next start stands on the old state or on the new one.
#[test]
fn a_kill_at_any_page_leaves_the_old_state_or_the_new() {
    for after in [0, 1, 10, usize::MAX] {
        let mut fleet = behind(3);
        let old = fleet.hosts[1].engine().index.position();
        fleet.need_state(1, 0);
        let new = fleet.hosts[0].engine().index.position();
        carry_until(&mut fleet, after);
        fleet.kill(1);
        fleet.start(1);
        let found = fleet.hosts[1].engine().index.position();
        assert_eq!(found, if after == usize::MAX { new } else { old });
        fleet.hosts[1].engine().index.check_sums();
        finish(&mut fleet);
    }
}

/// checklist 78, trap T31: however many take the state, an entry waits for one page at most, and the pages
/// of a tick are bounded. Counted, not timed.
#[test]
fn giving_a_state_lets_entries_through_after_every_page() {
    let mut fleet = Fleet::new(6);
    for number in 0..60 {
        fleet.hosts[0].write(&format!("file {number}"), &format!("text {number}"));
    }
    fleet.look(0);
    fleet.settle();
    fleet.hosts[0].engine().catchup.page_bytes = PAGE_BYTES;
    fleet.wire = Some(VecDeque::new());
    for _ in 0..200 {
        fleet.append(Content::Noop);
    }
    let at_least = fleet.hosts[0].engine().index.position();
    let begin = postcard::to_allocvec(&PeerMessage::Begin { at_least }).unwrap();
    for from in 1..5 {
        hand(&mut fleet, from, &begin);
    }
    let (mut given, mut tick_pages) = (0, 0);
    for round in 0..100 {
        if round % 10 == 0 {
            assert!(tick_pages <= PAGES_PER_TICK_MAX, "{tick_pages} pages in one tick");
            given += tick_pages;
            tick_pages = 0;
            fleet.hosts[0].now_ms += 100;
        }
        let applied = fleet.hosts[0].engine().index.position().index;
        assert!(fleet.deliver(0), "an entry in each turn");
        assert_eq!(fleet.hosts[0].engine().index.position().index, applied.next());
        let pages = fleet.wire.as_ref().unwrap().iter().filter(|letter| is_page(letter)).count();
        assert!(pages <= 1, "{pages} pages in one turn");
        tick_pages += pages;
        // Every taker asks for its next page at once.
        while let Some(letter) = next_letter(&mut fleet) {
            if let PeerMessage::Page { next: Some(cursor), bytes } = read(&letter) {
                assert!(bytes.len() <= 4 * PAGE_BYTES);
                let to = fleet.hosts[letter.to].id;
                let position = fleet.hosts[0].engine().catchup.given_to(to).unwrap();
                let ask = PeerMessage::Continue { position, cursor };
                let bytes = postcard::to_allocvec(&ask).unwrap();
                hand(&mut fleet, letter.to, &bytes);
            }
        }
    }
    assert!(given > 30, "and they are given all the same: {given}");
}

/// Puts a message before host 0, whose turn does not come yet.
fn hand(fleet: &mut Fleet, from: usize, bytes: &[u8]) {
    let from = fleet.hosts[from].id;
    fleet.hosts[0].engine().event(Event::Peer(from, bytes.to_vec())).unwrap();
}

/// checklist 80: the members that a state brings are those that the log has up to there.
#[test]
fn a_state_brings_the_members_of_its_position() {
    let mut fleet = behind(3);
    let mut members = fleet.hosts[0].engine().index.members().clone();
    members.members[2].address = "127.0.0.1:9999".to_owned();
    fleet.append(Content::Members(members.clone()));
    fleet.need_state(1, 0);
    let mut later = members.clone();
    later.members[2].address = "127.0.0.1:7777".to_owned();
    carry_until(&mut fleet, 2);
    fleet.append(Content::Members(later.clone()));
    while fleet.deliver(0) {}
    carry_all(&mut fleet);
    let told = fleet.commands.iter().find_map(|(_, command)| match command {
        Command::StateInstalled { at, members, .. } => Some((*at, members.clone())),
        _ => None,
    });
    let position = fleet.hosts[1].engine().index.position();
    assert_eq!(told, Some((position, members.clone())));
    assert_eq!(*fleet.hosts[1].engine().index.members(), members);
    finish(&mut fleet);
    assert_eq!(*fleet.hosts[1].engine().index.members(), later);
}

/// The entry that opens this run lies within the state: no other will come, and the node lives.
#[test]
fn a_state_may_hold_this_runs_own_opening() {
    let mut fleet = behind(3);
    fleet.wire = None;
    assert!(!fleet.hosts[1].engine().is_live());
    fleet.need_state(1, 0);
    fleet.pass(0, 100);
    for _ in 0..200 {
        (0..3).for_each(|at| fleet.pass(at, 100));
    }
    assert!(fleet.hosts[1].engine().is_live());
    finish(&mut fleet);
    share(&mut fleet, 1, "file 1", "edited here");
    assert_eq!(fleet.hosts[0].read("file 1"), "edited here");
}
