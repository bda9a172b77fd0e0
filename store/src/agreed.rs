//! Agreed: the picture of the folder that the log paints, the same on every node.
//!
//! Apply reads nothing but the log: no clock, no disk, no setting of this node. So what two nodes
//! make of the same entries is the same, to the last bit, and the digests prove it.
//!
//! The rules, in one breath each; the modules have the details.
//!
//! - Files have ids, minted here and never used twice. A directory entry is (parent, name) -> id,
//!   so a rename of a directory is one change, and an edit follows its file.
//! - A change of content names the version it was made from. If that is the current one it is
//!   accepted. If not, it is concurrent: the first in the log keeps the name, the later becomes a
//!   *conflict copy* beside it, and the file remembers the *losing line*, so that the next edit of
//!   that line goes to the same copy.
//! - Equal contents merge without a word. An edit beats a deletion. Name, parent, mode and time are
//!   metadata: the last in the log wins.
//! - Two different things at one name: the first keeps it.
//! - Nothing is lost: a version that stops being current becomes a row of the history.

pub(crate) mod conflict;
mod content;
mod create;
mod moves;
mod namespace;
mod path_api;
pub mod payload;
mod place;
mod remove;
mod resolve;
pub(crate) mod tree;

use pickbox_raft::core::ids::{Index, NodeId};

use crate::history_rows::HistoryRow;
use crate::op::{Outcome, Refusal};
use crate::record::{FileId, Record};

pub use conflict::{CONFLICT_TRIES_MAX, LOSING_LINES_MAX};
pub(crate) use content::is_kept_so;
pub(crate) use namespace::{Namespace, write_history, write_row};

/// Whose change it is, and where in the log it stands.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// The node that made it.
    pub(crate) origin: NodeId,
    /// Its name, as conflict names carry it.
    pub(crate) origin_name: String,
    /// The entry.
    pub(crate) index: Index,
    /// The cluster's epoch.
    pub(crate) epoch: u32,
    /// The origin's wall clock.
    pub(crate) wall_ms: u64,
}

/// One record that an operation changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Which file.
    pub id: FileId,
    /// By which operation of the change. A move that waited for its name comes behind the
    /// operation that freed it.
    pub op: usize,
    /// What the log said of it before; `None`: it was not there.
    pub before: Option<Record>,
    /// What it says now; `None`: it is not there any more.
    pub after: Option<Record>,
}

/// What came of a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// For each operation what became of it.
    pub outcomes: Vec<Outcome>,
    /// The records changed, in an order in which a folder can follow: a directory before what is
    /// put into it, what leaves a name before what takes it. A file may be named more than once.
    pub touched: Vec<Touched>,
    /// Rows that the history gained.
    pub displaced: Vec<HistoryRow>,
    /// Rows that the history lost.
    pub pruned: Vec<HistoryRow>,
}

/// Why an operation ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It cannot be; nothing was changed for it.
    Refused(Refusal),
    /// The database failed.
    Failed(crate::index::IndexError),
}

impl<E: Into<crate::index::IndexError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Ends the operation with this refusal, before anything was changed for it.
pub(crate) fn refuse<T>(refusal: Refusal) -> Result<T, Stop> {
    Err(Stop::Refused(refusal))
}

#[cfg(test)]
mod endings;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;
#[cfg(test)]
pub(crate) mod world;
