//! Frames: any cut of the bytes gives the same frames, any damage an error.

use proptest::prelude::*;

use pickbox_raft_core::message::Message;

use crate::consensus::wishes::Errand;
use crate::net::frame::{Frame, FrameError, HEADER_BYTES, Kind, Parser, Phase};
use crate::net::hello::{Hello, JoinReply, Refusal, Welcome, decode};

fn wire(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let frame = Frame::new(kind, payload.to_vec()).expect("within bounds");
    [&frame.header[..], &frame.payload].concat()
}

/// Feeds `bytes` in pieces of at most the given sizes, taken in turn.
fn feed(
    parser: &mut Parser,
    bytes: &[u8],
    pieces: &[usize],
) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut sizes = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).max(1);
        let read = |buffer: &mut Vec<u8>| {
            let room = buffer.capacity() - buffer.len();
            let count = size.min(room).min(rest.len());
            let (now, later) = rest.split_at(count);
            buffer.extend_from_slice(now);
            rest = later;
            Ok(count)
        };
        assert!(parser.fill(read).expect("a buffer cannot fail") > 0, "the parser makes room");
        while let Some(frame) = parser.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let small = proptest::collection::vec(any::<u8>(), 0..200);
    let large = (65_000_usize..400_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]);
    proptest::collection::vec(prop_oneof![4 => small, 1 => large], 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Source: docs/format.md, "Transport"; TCP keeps no boundaries (RFC 9293, 3.8).
    #[test]
    fn any_split_of_the_bytes_gives_the_same_frames(
        payloads in payloads(),
        pieces in proptest::collection::vec(
            prop_oneof![1_usize..40, 1_000_usize..200_000],
            1..8,
        ),
    ) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|p| wire(Kind::Content, p)).collect();
        let frames = feed(&mut Parser::new(Phase::Bulk), &bytes, &pieces).unwrap();
        let found: Vec<Vec<u8>> = frames.into_iter().map(|(_, payload)| payload).collect();
        prop_assert_eq!(found, payloads);
    }

    /// checklist 122: damage is an error or an unfinished frame, never a frame, and never makes
    /// the parser hold more than a small multiple of what arrived.
    #[test]
    fn any_damage_is_noticed(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        position in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let mut bytes = wire(Kind::Content, &payload);
        let at = position.index(bytes.len());
        bytes[at] ^= flip;
        let mut parser = Parser::new(Phase::Bulk);
        if let Ok(frames) = feed(&mut parser, &bytes, &[17]) {
            prop_assert!(frames.is_empty(), "a damaged frame got through");
        }
        prop_assert!(parser.capacity() <= 4 * bytes.len() + 128 * 1024);
    }

    /// fault 60: whatever a peer puts into a frame is a value or none, never a panic.
    #[test]
    fn any_payload_is_a_value_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(decode::<Message>(&bytes));
        drop(decode::<Hello>(&bytes));
        drop(decode::<Welcome>(&bytes));
        drop(decode::<Refusal>(&bytes));
        drop(decode::<JoinReply>(&bytes));
        drop(decode::<Errand>(&bytes));
    }

    /// Random bytes are no frames.
    #[test]
    fn noise_never_passes(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for phase in [Phase::AwaitHello, Phase::Consensus, Phase::Bulk, Phase::AwaitJoined] {
            let found = feed(&mut Parser::new(phase), &bytes, &[31, 5]);
            prop_assert!(found.is_err() || found.unwrap().is_empty());
        }
    }
}

/// security.md "nothing allocated from a peer's length": the header claims 4 MiB, little comes.
#[test]
fn a_claimed_length_allocates_nothing() {
    let bytes = wire(Kind::Content, &vec![7; 4 * 1024 * 1024]);
    let mut parser = Parser::new(Phase::Bulk);
    for arrived in [HEADER_BYTES, HEADER_BYTES + 1, 100_000] {
        let mut parser = Parser::new(Phase::Bulk);
        feed(&mut parser, &bytes[..arrived], &[65_536]).unwrap();
        assert!(parser.capacity() <= 4 * arrived + 128 * 1024, "{}", parser.capacity());
    }
    let frames = feed(&mut parser, &bytes, &[1 << 20]).unwrap();
    assert_eq!(frames[0].1.len(), 4 * 1024 * 1024);
}

/// Each kind has its bound, and each phase its kinds: checked before anything is kept.
#[test]
fn bounds_and_phases_are_checked_at_the_header() {
    let next = |phase, bytes: &[u8]| feed(&mut Parser::new(phase), bytes, &[64]).unwrap_err();
    let mut long = wire(Kind::Control, b"x");
    long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(next(Phase::Consensus, &long), FrameError::TooLong(u32::MAX));
    assert_eq!(next(Phase::AwaitHello, &long), FrameError::Unexpected(Kind::Control));
    long[8] = 9;
    assert_eq!(next(Phase::Consensus, &long), FrameError::Version(9));
    let mut strange = wire(Kind::Control, b"x");
    strange[9] = 77;
    assert_eq!(next(Phase::Consensus, &strange), FrameError::Kind(77));
    assert!(Frame::new(Kind::Control, vec![0; 64 * 1024 + 1]).is_none());
}

/// The golden frame of docs/format.md.
#[test]
fn the_format_is_as_documented() {
    let bytes = wire(Kind::Content, b"pickbox");
    assert_eq!(bytes, b"\x07\0\0\0\x8e\x3f\x77\x69\x01\x07pickbox");
}
