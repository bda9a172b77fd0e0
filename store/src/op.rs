//! What a node asks the log to change.
//!
//! An entry carries one [`Change`]: operations in order, all by one node. Whether each takes
//! effect is decided where it is applied, from the log alone, alike on every node.

use serde::{Deserialize, Serialize};

use crate::content_id::INLINE_BYTES_MAX;
use crate::name::{Name, PATH_BYTES_MAX, RelPath};
use crate::record::{Attributes, Body, FileId, VersionVector};

/// Most bytes of one encoded change.
pub const CHANGE_BYTES_MAX: usize = 1024 * 1024 + 32 * 1024;
/// Most bytes that an [`Op::Put`] carries. A client's write of any size up to this travels inside
/// the log: there is no file in a folder yet that it could be fetched from.
pub const PUT_BYTES_MAX: u64 = 1 << 20;
/// What a put takes beside its bytes, encoded; on the safe side.
const PUT_FRAME_BYTES: usize = 512;

// The same as above in the type of lengths in memory.
const PUT_BYTES: usize = 1 << 20;
const _: () = assert!(PUT_BYTES + PATH_BYTES_MAX + PUT_FRAME_BYTES <= CHANGE_BYTES_MAX);
const _: () = assert!(INLINE_BYTES_MAX <= PUT_BYTES_MAX);

/// Most operations in one change.
pub const OPS_MAX: usize = 4096;

/// One entry's operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The origin's wall clock in milliseconds since 1970: for people, never an order.
    pub wall_ms: u64,
    /// What to do, in order.
    pub ops: Vec<Op>,
}

/// A directory that an operation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parent {
    /// One that the log has.
    Id(FileId),
    /// The one that operation `n` of this same change creates (or joins).
    Op(u32),
}

/// A place in the namespace, as the origin saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The directory.
    pub parent: Parent,
    /// The name there.
    pub name: Name,
    /// The whole path: used only to make the directories anew when `parent` is gone by now.
    pub path: RelPath,
}

/// A content on its way: what it is, with its bytes if they travel inside the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// What it is and holds.
    pub body: Body,
    /// Mode, time and owner.
    pub attributes: Attributes,
    /// The bytes of a file of at most `INLINE_BYTES_MAX` ([`PUT_BYTES_MAX`] in a put); `None` for directories, symlinks and
    /// larger files, whose holders the proposal lists.
    #[serde(with = "crate::bytes::optional")]
    pub inline: Option<Vec<u8>>,
}

impl Incoming {
    /// Bytes of what is as long as the user made it.
    pub(crate) fn bytes(&self) -> usize {
        let target = match &self.body {
            Body::Symlink { target } => target.len(),
            Body::File { .. } | Body::Directory => 0,
        };
        target + self.attributes.bytes() + self.inline.as_ref().map_or(0, Vec::len)
    }
}

/// Which attributes an operation leaves as the record has them when it is applied: those that its
/// origin did not change. So a new mode on one node and a new content on another both come about,
/// whichever is first. (The owner says it itself: `None`.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep(u8);

impl Keep {
    /// The mode.
    pub const MODE: Self = Self(1);
    /// The time.
    pub const MTIME: Self = Self(1 << 1);
    /// What users attached.
    pub const XATTRS: Self = Self(1 << 2);
    /// None of them.
    pub const NOTHING: Self = Self(0);

    /// Those that are the same in both.
    #[must_use]
    pub fn same(base: &Attributes, actual: &Attributes) -> Self {
        let mut keep = Self::NOTHING;
        for (is_same, which) in [
            (base.mode == actual.mode, Self::MODE),
            (base.mtime == actual.mtime, Self::MTIME),
            (base.xattrs == actual.xattrs, Self::XATTRS),
        ] {
            keep.0 |= if is_same { which.0 } else { 0 };
        }
        keep
    }

    fn has(self, which: Self) -> bool {
        self.0 & which.0 != 0
    }

    /// The attributes that come of `new` for what has these.
    #[must_use]
    pub fn over(self, before: &Attributes, new: &Attributes) -> Attributes {
        Attributes {
            mode: if self.has(Self::MODE) { before.mode } else { new.mode },
            mtime: if self.has(Self::MTIME) { before.mtime } else { new.mtime },
            owner: new.owner.clone(),
            xattrs: if self.has(Self::XATTRS) { &before.xattrs } else { &new.xattrs }.clone(),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A new thing at a name. A directory joins one that is there already; anything else at a
    /// taken name gets the conflict name, unless its content equals what is there.
    Create {
        /// Where.
        at: At,
        /// What.
        new: Incoming,
    },
    /// New content for a file or symlink (or a change of its kind), made from version `base`.
    Replace {
        /// Of which file.
        id: FileId,
        /// The version that the edit was made from.
        base: VersionVector,
        /// Where it was: used to make it anew when it was deleted meanwhile.
        at: At,
        /// What.
        new: Incoming,
        /// The attributes that the edit did not change.
        keep: Keep,
    },
    /// Another mode, time, owner or attributes of users for the same content.
    Attributes {
        /// Of which file.
        id: FileId,
        /// The new ones.
        attributes: Attributes,
        /// Those that did not change.
        keep: Keep,
    },
    /// Another name or parent.
    Move {
        /// Of which file.
        id: FileId,
        /// Where to.
        to: At,
    },
    /// Away with it, if it is still at version `base` (edit beats delete); a directory only if
    /// empty.
    Delete {
        /// Which.
        id: FileId,
        /// The version that the deletion was decided on.
        base: VersionVector,
    },
    /// The file API's write: whatever stands at `path` when this is applied is replaced (and goes
    /// to history); missing parents are made. Refused through a file or symlink, or over a
    /// directory.
    Put {
        /// Where.
        path: RelPath,
        /// What.
        new: Incoming,
    },
    /// The file API's delete: nothing there is no error.
    Remove {
        /// Where.
        path: RelPath,
    },
    /// Forget history rows up to this age, the oldest first and at most `PRUNE_ROWS_MAX`;
    /// proposed by the leader.
    PruneHistory {
        /// Rows superseded before this wall time (milliseconds since 1970) go.
        before_wall_ms: u64,
    },
    /// The end of a conflict, decided by a person who saw these two versions: of any others it is
    /// no decision.
    Resolve {
        /// What has the name.
        file: Known,
        /// The conflict copy beside it.
        copy: Known,
        /// What becomes of the two.
        take: Take,
    },
}

/// A version of a file, as somebody knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Which file.
    pub id: FileId,
    /// The version of its content.
    pub version: VersionVector,
}

/// How a conflict ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Take {
    /// What has the name stays; the copy goes, to history.
    Ours,
    /// What the copy holds takes the name, and what has it goes, to history.
    Theirs,
    /// Both stay; the copy is a file like any other.
    Both,
}

/// What became of one operation; the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: this is the file, at this version now.
    Done(FileId),
    /// Lost against a concurrent change: its content is in this copy.
    Conflict {
        /// The copy.
        copy: FileId,
    },
    /// Lost against a concurrent change below a `.git` directory, where no copy may be made: its
    /// content is in the history only.
    History {
        /// The file that it lost against.
        winner: FileId,
    },
    /// It said what was so already: nothing changed but perhaps mode or time.
    Merged(FileId),
    /// A deletion that came after an edit, or of a directory that is not empty: not done.
    Kept(FileId),
    /// Nothing there (any more) to do it to.
    Nothing,
    /// So many rows of the history went.
    Pruned(u32),
    /// It was decided on versions that are not current any more, or on a conflict that is over:
    /// not done.
    Changed,
    /// Cannot be: the reason for people.
    Refused(Refusal),
}

/// Why an operation could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A parent in the path is a file or symlink.
    NotADirectory,
    /// A directory stands where a file was to go.
    IsADirectory,
    /// The move would put a directory below itself.
    Cycle,
    /// The folder itself cannot be changed so.
    Root,
    /// A conflict name could not be made, or a path grew too long.
    NameTooLong,
    /// It makes no sense: inline bytes that are not the content named, a symlink to nothing...
    Malformed,
    /// A directory that holds something is not deleted.
    NotEmpty,
}
