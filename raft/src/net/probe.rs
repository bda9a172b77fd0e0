//! The gates where bytes of a peer come in, for fuzzing: they are not public otherwise.
//!
//! Nothing here is part of what this crate offers.

use std::fmt::Debug;
use std::sync::Arc;

use pickbox_raft_core::ids::{
    ClusterId, Epoch, Fingerprint, Incarnation, Index, LogPosition, NodeId, Serial, Term,
};
use pickbox_raft_core::log::{Content, Entry, Payload, Proposal};
use pickbox_raft_core::members::Members;
use pickbox_raft_core::message::{Body, Message};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Frame, HEADER_BYTES, Kind, Parser, Phase};
use super::hello::{Hello, JoinReply, LocalNode, Purpose, Refusal, Runs, Welcome};
use super::hello::{decode, encode};
use super::join_request::{JOIN_REQUEST_BYTES, JoinRequest};
use super::trust::{Logged, Trust, Vouched};
use crate::consensus::wishes::Errand;
use crate::runs::Lineage;

/// Beyond a multiple of what arrived the parser holds no more than this.
const HELD_BYTES_MAX: usize = 128 * 1024;

/// Gives a stream of bytes to the parser, in pieces; says how many frames were in it.
///
/// # Panics
/// When the parser holds more memory than it may.
#[must_use]
pub fn frames(phase: u8, piece: usize, bytes: &[u8]) -> usize {
    let phases =
        [Phase::AwaitHello, Phase::AwaitWelcome, Phase::Consensus, Phase::Bulk, Phase::AwaitJoined];
    let place = usize::from(phase) % phases.len();
    let mut parser = Parser::new(phases.get(place).copied().unwrap_or(Phase::Consensus));
    let (mut rest, mut count) = (bytes, 0);
    while !rest.is_empty() {
        let filled = parser.fill(|buffer| {
            let room = buffer.capacity() - buffer.len();
            let (now, later) = rest.split_at(piece.max(1).min(room).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            Ok(now.len())
        });
        assert!(filled.is_ok_and(|bytes| bytes > 0), "the parser makes room");
        loop {
            match parser.next_frame() {
                Ok(Some((_, payload))) => {
                    payloads(&payload);
                    count += 1;
                }
                Ok(None) => break,
                Err(_) => return count,
            }
        }
        assert!(parser.capacity() <= 4 * bytes.len() + HELD_BYTES_MAX, "it holds too much");
    }
    count
}

/// Gives all frames of a stream, as far as their lengths fit, the checksums that they should have:
/// otherwise no change of a stream would get past the first gate.
pub fn mend(bytes: &mut [u8]) {
    let mut from = 0;
    while let Some(rest) = bytes.get_mut(from..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let Some((header, payload)) = rest.split_first_chunk_mut::<HEADER_BYTES>() else { return };
        let [l0, l1, l2, l3, .., code] = *header;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some(payload) = payload.get(..length) else { return };
        let right = Kind::from_code(code).and_then(|kind| Frame::new(kind, payload.to_vec()));
        let Some(right) = right else { return };
        *header = right.header;
        from += HEADER_BYTES + length;
    }
}

/// Takes a payload for each message that there is; those that it is must survive being sent.
///
/// # Panics
/// When one does not.
pub fn payloads(bytes: &[u8]) {
    if let Some(hello) = again::<Hello>(bytes) {
        greet(&hello);
    }
    again::<Welcome>(bytes);
    again::<Refusal>(bytes);
    again::<JoinReply>(bytes);
    again::<Errand>(bytes);
    again::<Message>(bytes);
}

fn again<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = decode(bytes)?;
    let sent = encode(Kind::Content, &value).map(|frame| frame.payload)?;
    let got: Option<T> = decode(&sent);
    assert_eq!(format!("{got:?}"), format!("Some({value:?})"), "what was sent arrives");
    Some(value)
}

/// A node answers any greeting, one way or the other.
fn greet(hello: &Hello) {
    let me = node(1);
    let members = Members::bootstrap(me.name.clone(), me.address.clone(), me.key);
    let trust = everywhere(&members);
    drop(hello.check(&me, (&trust, &Runs::default()), me.key));
}

/// These members, committed and in force.
pub(crate) fn everywhere(members: &Members) -> Trust {
    let at = Index::new(1);
    Trust::new(Logged { in_force: (members, at), committed: (members, at) }, None)
}

/// Takes bytes for a request to join; one that it is must be said again in the same bytes. Whether
/// it is one.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn join_request(bytes: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; JOIN_REQUEST_BYTES]>::try_from(bytes) else { return false };
    let Some(request) = JoinRequest::decode(bytes) else { return false };
    assert_eq!(request.encode().as_ref(), Some(bytes), "one request has one form");
    true
}

/// A request to join, as it is sent.
#[must_use]
pub fn join_request_example() -> Vec<u8> {
    let request = JoinRequest {
        cluster: ClusterId([1; 16]),
        token: [2; 32],
        proof: [3; 64],
        name: "node4".into(),
        address: "10.0.0.4:8001".into(),
    };
    request.encode().map(Vec::from).unwrap_or_default()
}

fn node(id: u64) -> LocalNode {
    LocalNode {
        cluster: ClusterId::default(),
        epoch: Epoch::ZERO,
        node: NodeId::new(id),
        name: format!("node{id}"),
        address: format!("host:{id}"),
        incarnation: Incarnation::new(id),
        lineage: Lineage::of(Incarnation::new(id)),
        key: Fingerprint([7; 32]),
    }
}

/// Streams that a peer may send.
#[must_use]
pub fn examples() -> Vec<Vec<u8>> {
    let me = node(2);
    let hello = |purpose| encode(Kind::Hello, &Hello::of(&me, NodeId::new(1), purpose));
    let members = Members::bootstrap("node1".into(), "host:1".into(), me.key);
    let vouched = Vouched { at: Index::new(9), members };
    let joined = JoinReply::Joined {
        cluster: ClusterId::default(),
        epoch: Epoch::ZERO,
        node: NodeId::new(3),
        peers: vouched.clone(),
    };
    let welcome =
        Welcome { node: NodeId::new(1), name: "node1".into(), incarnation: Incarnation::new(5) };
    let frames = [
        hello(Purpose::Consensus),
        hello(Purpose::Survey),
        encode(Kind::Welcome, &welcome),
        encode(Kind::Refused, &Refusal::Loop),
        encode(Kind::Errand, &Errand::Peers(vouched)),
        encode(Kind::Joined, &joined),
        Frame::new(Kind::Content, vec![7; 300]),
    ];
    let said = messages().into_iter().map(|body| {
        let (from, to, term) = (NodeId::new(2), NodeId::new(1), Term::new(3));
        encode(Kind::Entries, &Message { from, to, term, body })
    });
    frames
        .into_iter()
        .chain(said)
        .flatten()
        .map(|frame| [&frame.header[..], &frame.payload].concat())
        .collect()
}

/// What members say, a few of each kind.
fn messages() -> Vec<Body> {
    let last = LogPosition { index: Index::new(300), term: Term::new(2) };
    let proposal = Proposal {
        origin: NodeId::new(2),
        incarnation: Incarnation::new(7),
        serial: Serial::new(4),
        holders: Some(vec![NodeId::new(1)]),
        payload: Payload::Data(vec![7; 40]),
    };
    let proposal = Arc::new(proposal);
    let contents = [
        Content::Noop,
        Content::Proposal(Proposal::clone(&proposal)),
        Content::Members(Members::bootstrap("node1".into(), "host:1".into(), node(1).key)),
    ];
    let entry = |(index, content)| Arc::new(Entry { index, term: Term::new(3), content });
    let indices = (301..).map(Index::new);
    let entries = indices.zip(contents).map(entry).collect();
    vec![
        Body::Append { previous: last, commit: last.index, entries },
        Body::AppendRejected { previous: last.index, hint: last },
        Body::Heartbeat { commit: last.index, matched: last.index, round: 9 },
        Body::InstallState { at_least: last },
        Body::Propose(proposal),
    ]
}
