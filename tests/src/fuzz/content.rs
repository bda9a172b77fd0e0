//! What the content worker of a peer says, and what the protocol makes of it.

use std::time::Duration;

use pickbox_raft_core::ids::{Incarnation, NodeId};
use pickbox_store::content_id::ContentId;
use pickbox_store::contents::machine::{Action, Input, Machine, TICK};
use pickbox_store::contents::message::{
    CannotTake, FRAME_BYTES_MAX, Message, OfferId, SmallItem, Source, decode, encode,
};
use pickbox_store::contents::{ContentCommand, PIECE_BYTES, SMALL_BATCH_COUNT, Ticket};

use super::{framed, parts};

/// Nothing that a peer says makes more to do than this, however long it is: two things for each
/// content in the largest batch, and some for each that is under way.
const ACTIONS_MAX: usize = 4 * SMALL_BATCH_COUNT + 64;
/// Bytes of the content that is fetched.
const SIZE: u64 = 3 * 1024 * 1024;

/// Gives these frames to a machine that fetches two contents and has one, from two peers in turn.
/// The first byte says when time passes: a bit each.
pub(super) fn take(bytes: &[u8]) {
    let Some((ticks, rest)) = bytes.split_first() else { return };
    let mut machine = Machine::new(NodeId::new(1), Incarnation::new(1), &[(id("has"), 9)]);
    let mut now = Duration::ZERO;
    let mut step = |machine: &mut Machine, input| {
        machine.step(now, input);
        now += Duration::from_millis(1);
        machine.actions()
    };
    for input in begin() {
        step(&mut machine, input);
    }
    for (number, frame) in parts(rest).enumerate() {
        let Ok((message, payload)) = decode(frame) else { continue };
        let payload_bytes = check(&message, payload);
        let from = NodeId::new(2 + u64::from(number % 2 == 1));
        let actions = step(&mut machine, Input::Message { from, message, payload_bytes });
        judge(&actions, payload.len());
        if ticks >> (number % 8) & 1 == 1 {
            judge(&step(&mut machine, Input::Tick), 0);
        }
    }
    assert!(machine.deadline().is_none_or(|at| at <= now + TICK), "it is called back in time");
}

/// Both peers are there, and two contents are wanted.
fn begin() -> Vec<Input> {
    let peers = [2, 3].map(NodeId::new);
    let fetch = |name, size| {
        let command = ContentCommand::Fetch { content: id(name), size, from: peers.to_vec() };
        Input::Command(command)
    };
    let ups = peers.map(Input::Up).into_iter();
    ups.chain([fetch("large", SIZE), fetch("small", 5)]).collect()
}

/// What was read can be written; its bytes are bounded. Says how many there are.
fn check(message: &Message, payload: &[u8]) -> u64 {
    assert!(payload.len() <= PIECE_BYTES, "{} bytes", payload.len());
    let again = [encode(message, payload.len()), payload.to_vec()].concat();
    assert!(again.len() <= FRAME_BYTES_MAX, "{} bytes", again.len());
    assert_eq!(decode(&again), Ok((message.clone(), payload)), "what was read can be written");
    u64::try_from(payload.len()).unwrap_or(u64::MAX)
}

/// What is to be done is bounded by what is so, not by what the peer says.
fn judge(actions: &[Action], payload_bytes: usize) {
    assert!(actions.len() <= ACTIONS_MAX, "{} things to do", actions.len());
    for action in actions {
        match action {
            Action::Answer { len, .. } => {
                assert!(usize::try_from(*len).is_ok_and(|len| len <= PIECE_BYTES));
            }
            Action::AnswerSmall { contents, .. } => assert!(contents.len() <= SMALL_BATCH_COUNT),
            Action::StoreSmall { offset, len, .. } => {
                assert!(offset.saturating_add(*len) <= payload_bytes, "bytes that did not come");
            }
            Action::Write(_) => assert!(payload_bytes > 0, "nothing to write"),
            _ => {}
        }
    }
}

fn id(name: &str) -> ContentId {
    ContentId::of(name.as_bytes())
}

/// Every message, alone and as a conversation.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let offer = OfferId { incarnation: Incarnation::new(7), ticket: Ticket(3) };
    let large = Source::Content(id("large"));
    let batch = 1;
    let small = SmallItem { content: id("small"), len: 5 };
    let messages = [
        (Message::Hello(Incarnation::new(7)), &b""[..]),
        (Message::Offer { id: offer, size: 70_000, content: None }, b""),
        (Message::Offer { id: offer, size: 70_000, content: Some(id("large")) }, b""),
        (Message::Piece { source: Source::Offer(offer), offset: 0 }, b"bytes"),
        (Message::Sealed { id: offer, content: id("sealed") }, b""),
        (Message::Drop(offer), b""),
        (Message::Get { source: Source::Content(id("has")), offset: 0, len: 9 }, b""),
        (Message::Get { source: Source::Offer(offer), offset: 1 << 40, len: 1 << 20 }, b""),
        (Message::Piece { source: large, offset: 0 }, b"bytes"),
        (Message::Gone(large), b""),
        (Message::Have { id: offer, content: id("sealed") }, b""),
        (Message::Failed { id: offer, reason: CannotTake::Busy }, b""),
        (Message::GetSmall { batch, contents: vec![id("has"), id("not")] }, b""),
        (Message::Small { batch, items: vec![small], gone: vec![id("not")] }, b"small"),
        (Message::Small { batch, items: vec![small, small], gone: Vec::new() }, b"smallsmall"),
        (Message::Bad(id("has")), b""),
    ];
    let frame = |(message, payload): &(Message, &[u8])| {
        framed(&[encode(message, payload.len()), payload.to_vec()].concat())
    };
    let all: Vec<Vec<u8>> = messages.iter().map(frame).collect();
    let alone = all.iter().map(|one| [&[0][..], one].concat());
    alone.chain([[&[0x55][..], &all.concat()].concat()]).collect()
}
