//! What a log entry asks the namespace for: decoded or not, and applied to a small state.

use pickbox_store::agreed::payload;
use pickbox_store::index::{Applied, Index, What};
use pickbox_store::name::{Name, RelPath};
use pickbox_store::op::{At, Change, Op};

use super::parts;
use super::world::{self, Tried};

/// Gives these payloads to a small state, in this order. The first byte says who says them, a bit
/// each; the last of its bits, whether all is done twice.
pub(super) fn apply(bytes: &[u8]) {
    let Some((who, rest)) = bytes.split_first() else { return };
    let nodes = (0..7).map(|bit| 1 + u64::from(who >> bit & 1));
    let said: Vec<(u64, &[u8])> = nodes.zip(parts(rest)).collect();
    if !said.iter().any(|(_, bytes)| payload::decode(bytes).is_some()) {
        // The state would be as it was. (One between others is tried.)
        return;
    }
    world::with_small(|index| {
        let before = index.position();
        let first = all(index, &said);
        world::check(index);
        if who & 0x80 != 0 && index.roll_back().is_ok() && index.position() == before {
            // Whatever was remembered meanwhile.
            assert_eq!(first, all(index, &said), "apply reads nothing but the log");
        }
        Tried::Something
    });
}

/// What came of each.
fn all(index: &mut Index, said: &[(u64, &[u8])]) -> Vec<Applied> {
    let mut applied = Vec::new();
    for (node, bytes) in said {
        let change = payload::decode(bytes);
        change.iter().for_each(check);
        let one = world::say(index, *node, bytes);
        let is_change = matches!(one.what, What::Change { .. });
        let is_none = matches!(one.what, What::Undecodable { .. });
        assert!(if change.is_some() { is_change } else { is_none }, "what is none is not one");
        applied.push(one);
    }
    applied
}

/// What was read can be written, and holds no name that is none.
fn check(change: &Change) {
    let again = payload::encode(change).ok().and_then(|bytes| payload::decode(&bytes));
    assert_eq!(again.as_ref(), Some(change), "what was read can be written");
    let is_name = |name: &Name| assert!(world::is_name(name.as_bytes()), "{name:?}");
    let is_path = |path: &RelPath| assert!(world::is_path(path.as_bytes()), "{path:?}");
    for op in &change.ops {
        match op {
            Op::Create { at: At { name, path, .. }, .. }
            | Op::Replace { at: At { name, path, .. }, .. }
            | Op::Move { to: At { name, path, .. }, .. } => {
                is_name(name);
                is_path(path);
            }
            Op::Put { path, .. } | Op::Remove { path } => is_path(path),
            Op::Attributes { .. }
            | Op::Delete { .. }
            | Op::PruneHistory { .. }
            | Op::Resolve { .. } => {}
        }
    }
}

/// What made the small state, said again: alone, and in pairs.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let framed = |ops: Vec<Op>| {
        let bytes = payload::encode(&Change { wall_ms: 5000, ops }).unwrap_or_default();
        super::framed(&bytes)
    };
    let all: Vec<Vec<u8>> = world::story().into_iter().map(|(.., ops)| framed(ops)).collect();
    let alone = all.iter().map(|one| [&[0], one.as_slice()].concat());
    let pairs = all.windows(2).map(|two| [&[2][..], &two.concat()].concat());
    let none = [&[0][..], &super::framed(b"none"), all.first().map_or(&[][..], Vec::as_slice)];
    let twice = [&[0b1101_0101][..], &all.concat()].concat();
    alone.chain(pairs).chain([none.concat(), twice]).collect()
}
