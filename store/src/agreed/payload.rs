//! How a change is written into an entry, and read back.

use crate::op::{CHANGE_BYTES_MAX, Change, OPS_MAX};

/// The first byte of a payload.
pub const PAYLOAD_FORMAT: u8 = 1;

/// Why a change cannot be proposed as it is: cut it in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a change is larger than one entry may be")
    }
}

impl std::error::Error for TooLarge {}

/// The bytes of a change.
///
/// # Errors
/// Over [`CHANGE_BYTES_MAX`] or [`OPS_MAX`].
pub fn encode(change: &Change) -> Result<Vec<u8>, TooLarge> {
    let bytes = postcard::to_extend(change, vec![PAYLOAD_FORMAT]).map_err(|_| TooLarge)?;
    if bytes.len() > CHANGE_BYTES_MAX || change.ops.len() > OPS_MAX {
        return Err(TooLarge);
    }
    Ok(bytes)
}

/// The change in these bytes: `None` if they hold none, or more than one may hold.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Change> {
    let (&PAYLOAD_FORMAT, body) = bytes.split_first()? else { return None };
    if bytes.len() > CHANGE_BYTES_MAX {
        return None;
    }
    let (change, rest) = postcard::take_from_bytes::<Change>(body).ok()?;
    (rest.is_empty() && change.ops.len() <= OPS_MAX).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreed::world::{at, attributes, file, rel};
    use crate::op::{At, Op, Parent};
    use crate::record::{FileId, VersionVector};
    use pickbox_raft::core::ids::{Index, NodeId};

    /// docs/format.md: these bytes are in logs; they may never mean anything else.
    #[test]
    fn the_bytes_of_a_change_are_fixed_for_ever() {
        let id = FileId { epoch: 0, index: Index::new(300), ordinal: 1 };
        let base = VersionVector::default().bumped(NodeId::new(2), Index::new(5));
        let below = At { parent: Parent::Op(3), ..at(id, "d/f") };
        let ops = vec![
            Op::Create { at: below, new: file("hi") },
            Op::Attributes { id, attributes: attributes(0o644) },
            Op::Move { id, to: at(id, "d/f") },
            Op::Delete { id, base },
            Op::Remove { path: rel("d") },
            Op::PruneHistory { before_wall_ms: 1 },
        ];
        let change = Change { wall_ms: 1, ops };
        let bytes = encode(&change).unwrap();
        let content = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
        let create = format!("00 0103 0166 03642f66 00 02 {content} a403 0e 08 01026869");
        let others = "02 00ac0201 a403 0e 08  03 00ac0201 0000ac0201 0166 03642f66";
        let rest = "04 00ac0201 010205  06 0164  07 01";
        let whole = format!("01 01 06 {create} {others} {rest}").replace(' ', "");
        let (pairs, _) = whole.as_bytes().as_chunks::<2>();
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        assert_eq!(bytes, pairs.iter().map(|pair| byte(pair)).collect::<Vec<u8>>());
        assert_eq!(decode(&bytes), Some(change));
    }
}
