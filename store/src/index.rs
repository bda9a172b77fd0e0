//! The index: a database that one thread owns, with all that the log has said.
//!
//! One write transaction stays open over many entries, and everything is read through it: so the
//! newest state is seen at the price of a lookup. [`Index::commit`] makes it visible to read
//! transactions ([`Index::snapshot`]) without touching the disk, [`Index::checkpoint`] makes it
//! durable. A kill between two checkpoints takes the index back to the last one, and the log is
//! applied again from there: the same entries give the same rows.
//!
//! Other tables (what this node has on its disk) live in the same transaction: [`Index::tables`].

mod apply;
mod check;
mod error;
mod import;
mod pages;
#[doc(hidden)]
pub mod probe;
mod read;
#[cfg(any(test, feature = "simulated"))]
mod simulated;
mod sound;
pub(crate) mod state;
pub(crate) mod tables;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use pickbox_raft::core::ids::LogPosition;
use pickbox_raft::core::members::Members;
use redb::{Database, Durability, ReadableTable, WriteTransaction};

use crate::agreed::tree::Memo;
use crate::digest::Digest;
use crate::sessions::Sessions;

pub use apply::{Applied, What};
pub use check::{Sums, recompute};
pub use error::IndexError;
pub use import::{ImportError, Importer, Received};
pub use pages::{Cursor, PAGE_BYTES_MAX, Page, Snapshot};
pub use read::Reader;
pub use state::{Counts, FEATURE_LEVEL, INDEX_FORMAT};

use state::State;
use tables::{INCOMING, LIVE, STATE, Tables};

/// Memory that the database may use to keep pages.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// So many changed records later the open transaction is committed by itself (not durably), which
/// bounds what it holds.
pub const CHANGES_PER_COMMIT: usize = 1_000;
/// The row of [`STATE`].
pub(crate) const STATE_ROW: &str = "state";

/// The database with its open transaction.
pub struct Index {
    // Dropped before the database that it belongs to.
    txn: Option<WriteTransaction>,
    database: Arc<Database>,
    state: State,
    memo: Memo,
    /// Records changed since the last commit.
    changes: usize,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the database in this file, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or has a format of the future.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::start(Database::builder().set_cache_size(CACHE_BYTES).create(path)?)
    }

    /// One that lives in memory alone, for tests and simulation.
    ///
    /// # Errors
    /// As the database has them.
    pub fn in_memory() -> Result<Self, IndexError> {
        let backend = redb::backends::InMemoryBackend::new();
        Self::start(Database::builder().create_with_backend(backend)?)
    }

    fn start(database: Database) -> Result<Self, IndexError> {
        let txn = database.begin_write()?;
        // What is left of a state that never came to its end.
        tables::drop_set(&txn, &INCOMING)?;
        let state = read_state(&txn)?;
        // All tables are there from the start, so that a snapshot finds them.
        drop(Tables::open(&txn, &LIVE)?);
        Ok(Self {
            txn: Some(txn),
            database: Arc::new(database),
            state,
            memo: Memo::default(),
            changes: 0,
        })
    }

    /// A reader of what is committed, for other threads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.database))
    }

    /// The last entry applied.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.state.position
    }

    /// The members as of [`Index::position`].
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.state.members
    }

    /// Which run of each node is open.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.state.sessions
    }

    /// Says something else of the records than the others do, as rot in memory might.
    #[cfg(test)]
    pub(crate) fn rot(&mut self) {
        self.state.digest.add(b"rot", b"rot");
    }

    /// The sum over all records; equal positions mean equal digests.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.state.digest
    }

    /// How many records there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.counts
    }

    /// How many rows the history has.
    #[must_use]
    pub fn history_rows(&self) -> u64 {
        self.state.history_rows
    }

    /// The open transaction, for tables of other modules. A table may be open once at a time:
    /// close it before calling the index again if it is one of the index's own.
    ///
    /// # Errors
    /// After a commit failed: the node stops.
    pub fn tables(&self) -> Result<&WriteTransaction, IndexError> {
        self.txn.as_ref().ok_or(IndexError::Corrupt("used after a commit failed"))
    }

    /// Makes everything visible to snapshots. Nothing reaches the disk for sure.
    ///
    /// # Errors
    /// When the database fails: the index cannot be used any more.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        let mut txn = self.closing()?;
        txn.set_durability(Durability::None)?;
        self.reopen(txn)
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// When the database fails: the index cannot be used any more.
    pub fn checkpoint(&mut self) -> Result<(), IndexError> {
        let mut txn = self.closing()?;
        txn.set_durability(Durability::Immediate)?;
        // With it, opening after a crash need not walk the whole file.
        txn.set_quick_repair(true);
        self.reopen(txn)
    }

    /// The open transaction with the state written, for its commit.
    fn closing(&mut self) -> Result<WriteTransaction, IndexError> {
        let row = tables::encode(&self.state)?;
        self.tables()?.open_table(STATE)?.insert(STATE_ROW, row.as_slice())?;
        self.txn.take().ok_or(IndexError::Corrupt("used after a commit failed"))
    }

    fn reopen(&mut self, txn: WriteTransaction) -> Result<(), IndexError> {
        txn.commit()?;
        self.changes = 0;
        self.txn = Some(self.database.begin_write()?);
        Ok(())
    }
}

fn read_state(txn: &WriteTransaction) -> Result<State, IndexError> {
    let table = txn.open_table(STATE)?;
    let Some(row) = table.get(STATE_ROW)? else {
        return Ok(State::default());
    };
    match postcard::take_from_bytes::<u16>(row.value()) {
        Ok((INDEX_FORMAT, _)) => tables::decode(row.value(), "the state row"),
        Ok((found, _)) => Err(IndexError::Format { found }),
        Err(_) => Err(IndexError::Corrupt("the state row")),
    }
}

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod stories;
