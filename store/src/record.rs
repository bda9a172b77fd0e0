//! What the log says of one file, directory or symlink.

use std::fmt;

use pickbox_raft::core::ids::{Index, NodeId};
use serde::{Deserialize, Serialize};

use crate::content_id::ContentId;
use crate::name::Name;
use crate::owner::Owner;
use crate::time::Time;
use crate::xattr::Xattrs;

/// The identity of a file over all its renames and versions: minted where the entry that creates
/// it is applied, never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct FileId {
    /// The cluster's epoch: raised by a forced recovery, so that indices cannot repeat.
    pub epoch: u32,
    /// The entry that created it.
    pub index: Index,
    /// Which of the things that this entry created.
    pub ordinal: u32,
}

impl FileId {
    /// The folder itself: there from the start.
    pub const ROOT: Self = Self { epoch: 0, index: Index::ZERO, ordinal: 0 };

    /// One number that sorts as the ids do.
    #[must_use]
    pub fn to_number(self) -> u128 {
        u128::from_be_bytes(self.to_bytes())
    }

    /// The id in this number.
    #[must_use]
    pub fn from_number(number: u128) -> Self {
        let low = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        let short = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Self {
            epoch: short(low(number >> 96)),
            index: Index::new(low(number >> 32)),
            ordinal: short(low(number)),
        }
    }

    /// Sixteen bytes that sort as the ids do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let wide = u128::from(self.epoch) << 96
            | u128::from(self.index.get()) << 32
            | u128::from(self.ordinal);
        wide.to_be_bytes()
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.index, self.ordinal)
    }
}

/// What a thing is, with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// SHA-256 of the whole.
        content: ContentId,
    },
    /// A directory.
    Directory,
    /// A symbolic link; its text is stored as it is and never followed.
    Symlink {
        /// What it says.
        #[serde(with = "crate::bytes")]
        target: Vec<u8>,
    },
}

/// What is versioned apart from the content: the last in the log wins, never a conflict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, `0o7777`; set-id and sticky bits are masked on files.
    pub mode: u16,
    /// Time of last modification; zero for directories, since placing a child changes theirs.
    pub mtime: Time,
    /// Whose it is. `None` in a record: no node that keeps owners has said so yet, and each daemon
    /// makes it its own. `None` in an operation: as the record has it.
    pub owner: Option<Owner>,
    /// What users attached to it; symlinks have none.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// Bytes of what is as long as a host or a user made it; on the safe side.
    pub(crate) fn bytes(&self) -> usize {
        // Two lengths of at most two bytes for each.
        let xattrs = self.xattrs.bytes() + 4 * self.xattrs.iter().count();
        self.owner.as_ref().map_or(0, Owner::bytes) + xattrs
    }
}

/// Most nodes that one version vector names. Beyond that the counter that is furthest back is
/// dropped: a version is accepted by equality, so all that may suffer is the explanation of an old
/// conflict to people.
pub const VECTOR_NODES_MAX: usize = 64;

/// Which changes a content has seen: for each node the index of its last one. Counters are
/// commit indices, so they cannot repeat, whatever a node forgot (Parker et al. 1983).
///
/// Ordered by node, at most [`VECTOR_NODES_MAX`] nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(NodeId, Index)>")]
pub struct VersionVector(Vec<(NodeId, Index)>);

impl TryFrom<Vec<(NodeId, Index)>> for VersionVector {
    type Error = &'static str;
    fn try_from(counters: Vec<(NodeId, Index)>) -> Result<Self, Self::Error> {
        if counters.len() > VECTOR_NODES_MAX {
            return Err("a version vector names too many nodes");
        }
        if !counters.is_sorted_by(|(left, _), (right, _)| left < right) {
            return Err("a version vector is not ordered by node");
        }
        Ok(Self(counters))
    }
}

impl VersionVector {
    /// What `node` last did to it.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Index {
        self.0.iter().find(|(id, _)| *id == node).map_or(Index::ZERO, |(_, index)| *index)
    }

    /// Each node with the index of its last change, in order of nodes.
    pub fn counters(&self) -> impl Iterator<Item = (NodeId, Index)> + '_ {
        self.0.iter().copied()
    }

    /// This, after `node` changed it at `index`.
    #[must_use]
    pub fn bumped(&self, node: NodeId, index: Index) -> Self {
        let mut counters = self.0.clone();
        match counters.binary_search_by_key(&node, |(id, _)| *id) {
            Ok(at) => counters.iter_mut().skip(at).take(1).for_each(|slot| slot.1 = index),
            Err(at) => counters.insert(at, (node, index)),
        }
        while counters.len() > VECTOR_NODES_MAX {
            let oldest = counters.iter().map(|(_, index)| *index).min();
            let at = counters.iter().position(|(_, index)| Some(*index) == oldest);
            at.map(|at| counters.remove(at));
        }
        Self(counters)
    }

    /// Whether this has seen all that `other` has.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(node, index)| self.get(*node) >= *index)
    }

    /// What both together have seen.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        other
            .0
            .iter()
            .filter(|(node, index)| self.get(*node) < *index)
            .fold(self.clone(), |all, (node, index)| all.bumped(*node, *index))
    }
}

/// A line of edits that lost a conflict and lives on in a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LosingLine {
    /// The version that the line is at.
    pub version: VersionVector,
    /// The file that holds it.
    pub copy: FileId,
    /// The entry that decided that it lost.
    pub since: Index,
    /// The wall clock of the node that lost, then, in milliseconds since 1970: for people.
    pub wall_ms: u64,
}

/// All that the log says of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The directory that holds it.
    pub parent: FileId,
    /// Its name there.
    pub name: Name,
    /// What it is and holds.
    pub body: Body,
    /// Mode, time and owner.
    pub attributes: Attributes,
    /// The version of its content.
    pub version: VersionVector,
    /// Who last changed the content.
    pub author: NodeId,
    /// The entry that last changed anything of it.
    pub changed: Index,
    /// Lines that lost against it.
    pub losing: Vec<LosingLine>,
    /// The file that it is a conflict copy of, until it is renamed or edited by name.
    pub conflict_of: Option<FileId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_tell_successor_from_concurrent() {
        let (a, b) = (NodeId::new(1), NodeId::new(2));
        let base = VersionVector::default().bumped(a, Index::new(3));
        let left = base.bumped(a, Index::new(5));
        let right = base.bumped(b, Index::new(6));
        assert!(left.covers(&base) && right.covers(&base));
        assert!(!left.covers(&right) && !right.covers(&left));
        let both = left.joined(&right);
        assert!(both.covers(&left) && both.covers(&right));
    }

    #[test]
    fn a_vector_drops_the_oldest_node_beyond_its_bound() {
        let nodes = u64::try_from(VECTOR_NODES_MAX).unwrap() + 1;
        let all = (1..=nodes).rev().fold(VersionVector::default(), |vector, node| {
            vector.bumped(NodeId::new(node), Index::new(1000 - node))
        });
        assert_eq!(all.0.len(), VECTOR_NODES_MAX);
        assert_eq!(all.get(NodeId::new(nodes)), Index::ZERO, "it was the first to change it");
        assert_eq!(all.get(NodeId::new(1)), Index::new(999));
    }

    #[test]
    fn ids_sort_as_numbers_and_come_back() {
        let id = |epoch, index, ordinal| FileId { epoch, index: Index::new(index), ordinal };
        let ids = [FileId::ROOT, id(0, 1, 0), id(0, 1, u32::MAX), id(0, u64::MAX, 0), id(1, 0, 9)];
        assert!(ids.is_sorted() && ids.is_sorted_by_key(|id| id.to_number()));
        for id in ids {
            assert_eq!(FileId::from_number(id.to_number()), id);
        }
    }
}
