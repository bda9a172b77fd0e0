//! What the log says of one file, directory or symlink.

use std::fmt;

use pickbox_raft::core::ids::{Index, NodeId};
use serde::{Deserialize, Serialize};

use crate::content_id::ContentId;
use crate::name::Name;
use crate::time::Time;

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
        target: Vec<u8>,
    },
}

/// What is versioned apart from the content: the last in the log wins, never a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, `0o7777`; set-id and sticky bits are masked on files.
    pub mode: u16,
    /// Time of last modification; zero for directories, since placing a child changes theirs.
    pub mtime: Time,
}

/// Which changes a content has seen: for each node the index of its last one. Counters are
/// commit indices, so they cannot repeat, whatever a node forgot (Parker et al. 1983).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionVector(Vec<(NodeId, Index)>);

impl VersionVector {
    /// What `node` last did to it.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Index {
        self.0.iter().find(|(id, _)| *id == node).map_or(Index::ZERO, |(_, index)| *index)
    }

    /// This, after `node` changed it at `index`.
    #[must_use]
    pub fn bumped(&self, node: NodeId, index: Index) -> Self {
        let mut counters = self.0.clone();
        match counters.binary_search_by_key(&node, |(id, _)| *id) {
            Ok(at) => counters.iter_mut().skip(at).take(1).for_each(|slot| slot.1 = index),
            Err(at) => counters.insert(at, (node, index)),
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
    /// Mode and time.
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
}
