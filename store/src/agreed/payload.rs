//! How a change is written into an entry, and read back.

use crate::op::{CHANGE_BYTES_MAX, Change, OPS_MAX};

/// The first byte of a payload.
pub const PAYLOAD_FORMAT: u8 = 3;

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
    use crate::name::{Name, RelPath};
    use crate::op::{At, Keep, Op, Parent};
    use crate::owner::{Account, Owner};
    use crate::record::{Attributes, FileId, VersionVector};
    use crate::xattr::Xattrs;
    use pickbox_raft::core::ids::{Index, NodeId};

    /// docs/format.md: these bytes are in logs; they may never mean anything else.
    #[test]
    fn the_bytes_of_a_change_are_fixed_for_ever() {
        let id = FileId { epoch: 0, index: Index::new(300), ordinal: 1 };
        let base = VersionVector::default().bumped(NodeId::new(2), Index::new(5));
        let below = At { parent: Parent::Op(3), ..at(id, "d/f") };
        let account = |name: &str, id| Account::new(name.to_owned(), id).unwrap();
        let owner = Some(Owner { user: account("al", 1000), group: account("", 7) });
        let mut xattrs = Xattrs::default();
        xattrs.push(b"x".to_vec(), b"1".to_vec()).unwrap();
        xattrs.push(b"y".to_vec(), Vec::new()).unwrap();
        let alices = Attributes { owner, xattrs, ..attributes(0o644) };
        let ops = vec![
            Op::Create { at: below, new: file("hi") },
            Op::Attributes { id, attributes: attributes(0o644), keep: Keep::MODE },
            Op::Attributes { id, attributes: alices, keep: Keep::NOTHING },
            Op::Move { id, to: at(id, "d/f") },
            Op::Delete { id, base },
            Op::Remove { path: rel("d") },
            Op::PruneHistory { before_wall_ms: 1 },
        ];
        let change = Change { wall_ms: 1, ops };
        let bytes = encode(&change).unwrap();
        let content = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
        let create = format!("00 0103 0166 03642f66 00 02 {content} a403 0e 08 00 00 01026869");
        let others = "02 00ac0201 a403 0e 08 00 00 01  02 00ac0201 a403 0e 08 01 02616ce807 0007 02 01780131 017900 00  03 00ac0201 0000ac0201 0166 03642f66";
        let rest = "04 00ac0201 010205  06 0164  07 01";
        let whole = format!("03 01 07 {create} {others} {rest}").replace(' ', "");
        let (pairs, _) = whole.as_bytes().as_chunks::<2>();
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        assert_eq!(bytes, pairs.iter().map(|pair| byte(pair)).collect::<Vec<u8>>());
        assert_eq!(decode(&bytes), Some(change));
    }

    /// The bytes that stand where a name or path should; the first of each are good ones.
    fn suspicious() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let long = |length: usize| vec![b'x'; length];
        let deep = [long(250), long(250)].join(&b'/').repeat(9);
        let names: [&[u8]; 10] =
            [b"ok", b"", b".", b"..", b"a/b", b"/a", b"a/", b"../a", b"a\0", b"\0"];
        let paths: [&[u8]; 11] = [
            b"a/ok",
            b"..",
            b"../a",
            b"/etc/passwd",
            b"a/../../b",
            b"a/./b",
            b"a//b",
            b"a/",
            b"/",
            b"a/b\0c",
            b"a/..",
        ];
        let own = |all: &[&[u8]]| all.iter().map(|bytes| bytes.to_vec()).collect::<Vec<_>>();
        let names = [own(&names), vec![long(256), long(5000)]].concat();
        let paths = [own(&paths), vec![[&b"a/"[..], &long(256)].concat(), deep]].concat();
        (names, paths)
    }

    /// Fault 84 (`GlusterFS` CVE-2018-10923, rsync CVE-2024-12086): a name or path that leads out is
    /// refused where it is decoded, in whichever operation it stands, and the whole change with it.
    #[test]
    fn names_and_paths_that_lead_out_are_refused_when_decoded() {
        let id = FileId { epoch: 0, index: Index::new(300), ordinal: 1 };
        let (names, paths) = suspicious();
        let by_name = |name: &[u8]| At { name: Name::forged(name), ..at(id, "d/f") };
        let by_path = |path: &[u8]| At { path: RelPath::forged(path), ..at(id, "d/f") };
        let with_at = |at: At| {
            let (base, keep) = (VersionVector::default(), Keep::NOTHING);
            [
                Op::Create { at: at.clone(), new: file("hi") },
                Op::Replace { id, base, at: at.clone(), new: file("hi"), keep },
                Op::Move { id, to: at },
            ]
        };
        let with_path = |path: &[u8]| {
            let path = RelPath::forged(path);
            [Op::Put { path: path.clone(), new: file("hi") }, Op::Remove { path }]
        };
        let mut ops = Vec::new();
        for (number, name) in names.iter().enumerate() {
            ops.extend(with_at(by_name(name)).map(|op| (number == 0, op)));
        }
        for (number, path) in paths.iter().enumerate() {
            ops.extend(with_at(by_path(path)).map(|op| (number == 0, op)));
            ops.extend(with_path(path).map(|op| (number == 0, op)));
        }
        for (is_good, op) in ops {
            let good = Op::PruneHistory { before_wall_ms: 1 };
            let bytes = encode(&Change { wall_ms: 1, ops: vec![good, op.clone()] }).unwrap();
            assert_eq!(decode(&bytes).is_some(), is_good, "{op:?}");
        }
    }
}
