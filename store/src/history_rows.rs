//! The list of displaced versions: agreed state, pruned by the log alone. The bytes are another
//! matter: each node keeps what it can of them.

use pickbox_raft::core::ids::{Index, NodeId};
use serde::{Deserialize, Serialize};

use crate::content_id::ContentId;
use crate::name::RelPath;
use crate::record::{Attributes, Body, FileId, VersionVector};

/// How long a displaced version stays in the list: 30 days by the wall clocks of the node that
/// displaced it and of the leader. A node keeps the bytes no longer than that either.
pub const HISTORY_KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Most rows that one `PruneHistory` takes away, some 50 us each; the leader asks again while
/// there are more.
pub const PRUNE_ROWS_MAX: usize = 1_000;

/// Names a row: the entry that displaced the version, and which of those it displaced.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct HistoryKey {
    /// The entry.
    pub index: Index,
    /// Which of those that it displaced, from 0.
    pub ordinal: u32,
}

impl HistoryKey {
    /// Twelve bytes that sort as the keys do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (index, ordinal) = bytes.split_at_mut(8);
        index.copy_from_slice(&self.index.get().to_be_bytes());
        ordinal.copy_from_slice(&self.ordinal.to_be_bytes());
        bytes
    }

    /// The key in these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (index, ordinal) = bytes.split_first_chunk::<8>()?;
        let ordinal: [u8; 4] = ordinal.try_into().ok()?;
        Some(Self {
            index: Index::new(u64::from_be_bytes(*index)),
            ordinal: u32::from_be_bytes(ordinal),
        })
    }
}

/// Why a version is not current any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Another content took its place.
    Replaced,
    /// The file was deleted.
    Deleted,
    /// It lost against a concurrent change where no copy may be made (below `.git`): it never was
    /// current.
    Lost,
}

/// One displaced version of a file or symlink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Where it stands in the list.
    pub key: HistoryKey,
    /// Of which file; for [`Reason::Lost`] the one that it lost against.
    pub file: FileId,
    /// Where the file was then. Of a path over `PATH_BYTES_MAX` only the lower part.
    pub path: RelPath,
    /// What it held.
    pub body: Body,
    /// With which mode, time and owner.
    pub attributes: Attributes,
    /// Its version.
    pub version: VersionVector,
    /// Who made it.
    pub author: NodeId,
    /// The entry that made it.
    pub made: Index,
    /// Who displaced it.
    pub displaced_by: NodeId,
    /// That node's wall clock then, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Why it was displaced.
    pub reason: Reason,
}

impl HistoryRow {
    /// The content, if it was a regular file.
    #[must_use]
    pub fn content(&self) -> Option<ContentId> {
        match self.body {
            Body::File { content, .. } => Some(content),
            _ => None,
        }
    }

    /// Whether this version was current when entry `index` had just been applied.
    #[must_use]
    pub fn was_current_at(&self, index: Index) -> bool {
        self.reason != Reason::Lost && self.made <= index && index < self.key.index
    }
}

/// Which rows to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryOf<'a> {
    /// Of files that were at this path.
    Path(&'a RelPath),
    /// Of this file.
    File(FileId),
    /// With this content.
    Content(ContentId),
    /// That lost a conflict and never were current.
    Lost,
}

impl HistoryOf<'_> {
    /// What the keys of these rows begin with, in the table of keys.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        match self {
            Self::Content(content) => [b"c".as_slice(), &content.0].concat(),
            Self::Lost => b"l".to_vec(),
            Self::File(file) => [b"f".as_slice(), &file.to_bytes()].concat(),
            // No path holds a zero byte: no prefix is the start of another.
            Self::Path(path) => [b"p".as_slice(), path.as_bytes(), b"\0"].concat(),
        }
    }
}

/// What the keys begin with that list rows by age.
pub(crate) const BY_TIME: &[u8] = b"t";

/// The keys under which a row is found.
pub(crate) fn keys_of(row: &HistoryRow) -> Vec<Vec<u8>> {
    let mut keys = vec![
        HistoryOf::File(row.file).prefix(),
        HistoryOf::Path(&row.path).prefix(),
        [BY_TIME, &row.wall_ms.to_be_bytes()].concat(),
    ];
    keys.extend(row.content().map(|content| HistoryOf::Content(content).prefix()));
    keys.extend((row.reason == Reason::Lost).then(|| HistoryOf::Lost.prefix()));
    for key in &mut keys {
        key.extend_from_slice(&row.key.to_bytes());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_as_bytes() {
        let key = |index, ordinal| HistoryKey { index: Index::new(index), ordinal };
        let keys = [key(0, 0), key(0, 1), key(1, 0), key(256, 3), key(u64::MAX, u32::MAX)];
        assert!(keys.is_sorted_by_key(|key| key.to_bytes()));
        for key in keys {
            assert_eq!(HistoryKey::from_bytes(&key.to_bytes()), Some(key));
        }
        assert_eq!(HistoryKey::from_bytes(&[0; 11]), None);
        assert_eq!(HistoryKey::from_bytes(&[0; 13]), None);
    }
}
