//! What of the agreed state is small: kept in memory, written with each commit.

use pickbox_raft::core::ids::LogPosition;
use pickbox_raft::core::members::Members;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::record::{Body, Record};
use crate::sessions::Sessions;

/// The version of the rows that this program writes.
pub const INDEX_FORMAT: u16 = 6;
/// What apply and digest can do; digests are compared at equal levels only.
pub const FEATURE_LEVEL: u32 = 4;

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories, without the folder itself.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Those of all these that are conflict copies which nobody has dealt with.
    pub conflicts: u64,
    /// Bytes of all regular files; wraps.
    pub bytes: u64,
}

impl Counts {
    /// All records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.files + self.directories + self.symlinks
    }

    pub(crate) fn add(&mut self, record: &Record) {
        *self.kind(&record.body) += 1;
        self.conflicts += u64::from(record.conflict_of.is_some());
        self.bytes = self.bytes.wrapping_add(size(&record.body));
    }

    /// Panics when more is taken out than was put in: the index would not be what it says.
    pub(crate) fn remove(&mut self, record: &Record) {
        *self.kind(&record.body) -= 1;
        self.conflicts -= u64::from(record.conflict_of.is_some());
        self.bytes = self.bytes.wrapping_sub(size(&record.body));
    }

    fn kind(&mut self, body: &Body) -> &mut u64 {
        match body {
            Body::File { .. } => &mut self.files,
            Body::Directory => &mut self.directories,
            Body::Symlink { .. } => &mut self.symlinks,
        }
    }
}

fn size(body: &Body) -> u64 {
    match body {
        Body::File { size, .. } => *size,
        _ => 0,
    }
}

/// The small part of the agreed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// [`INDEX_FORMAT`]: first, so that it can be read whatever follows.
    pub(crate) format: u16,
    /// [`FEATURE_LEVEL`].
    pub(crate) level: u32,
    /// The cluster's epoch, part of each new file's id.
    pub(crate) epoch: u32,
    /// The last entry applied.
    pub(crate) position: LogPosition,
    /// The members as of it.
    pub(crate) members: Members,
    /// Who has said what already.
    pub(crate) sessions: Sessions,
    /// The sum over all records.
    pub(crate) digest: Digest,
    /// How many records.
    pub(crate) counts: Counts,
    /// How many rows of history.
    pub(crate) history_rows: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: INDEX_FORMAT,
            level: FEATURE_LEVEL,
            epoch: 0,
            position: LogPosition::default(),
            members: Members::default(),
            sessions: Sessions::default(),
            digest: Digest::default(),
            counts: Counts::default(),
            history_rows: 0,
        }
    }
}
