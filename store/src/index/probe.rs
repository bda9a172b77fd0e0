//! What fuzzing needs of the index beyond what a node does with it.
//!
//! Nothing here is part of what this crate offers.

use super::error::IndexError;
use super::{Importer, Index, read_state};

impl Index {
    /// Takes back everything since the last commit, so that the next input finds the same state
    /// without a new database.
    ///
    /// # Errors
    /// When the database fails.
    pub fn roll_back(&mut self) -> Result<(), IndexError> {
        let txn = self.txn.take().ok_or(IndexError::Corrupt("used after a commit failed"))?;
        txn.abort()?;
        let txn = self.database.begin_write()?;
        self.state = read_state(&txn)?;
        self.memo.forget();
        self.changes = 0;
        self.txn = Some(txn);
        Ok(())
    }
}

impl Importer {
    /// Lets the sender have said what the rows come to. Whoever makes up rows can add them up too;
    /// without this nothing made up at random would get past the digest.
    pub fn mend(&mut self) {
        if let Some(head) = &mut self.head {
            head.digest = self.sum.digest;
            head.counts = self.sum.counts;
            head.history_rows = self.sum.history_rows;
        }
    }
}
