//! Questions to the index, answered from the open transaction.

use std::collections::HashMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use redb::{
    AccessGuard, Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableError,
};

use super::Index;
use super::error::IndexError;
use super::tables::{self, LIVE};
use crate::agreed::tree;
use crate::content_id::ContentId;
use crate::history_rows::{BY_TIME, HistoryKey, HistoryOf, HistoryRow};
use crate::name::{Name, RelPath};
use crate::record::{FileId, Record};

impl Index {
    /// What the log says of this file. The folder itself ([`FileId::ROOT`]) has no record.
    ///
    /// # Errors
    /// When the database fails.
    pub fn record(&self, id: FileId) -> Result<Option<Record>, IndexError> {
        tables::record(&self.tables()?.open_table(LIVE.records)?, id)
    }

    /// Which file has this name in this directory.
    ///
    /// # Errors
    /// When the database fails.
    pub fn lookup(&self, parent: FileId, name: &Name) -> Result<Option<FileId>, IndexError> {
        tables::child(&self.tables()?.open_table(LIVE.names)?, parent, name)
    }

    /// Up to `limit` entries of a directory, by name, behind `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn children(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, FileId)>, IndexError> {
        tree::children(&self.tables()?.open_table(LIVE.names)?, parent, after, limit)
    }

    /// Which file is at this path. No link is followed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn resolve(&self, path: &RelPath) -> Result<Option<FileId>, IndexError> {
        let names = self.tables()?.open_table(LIVE.names)?;
        let mut id = FileId::ROOT;
        for name in path.names() {
            match tables::child(&names, id, &name)? {
                Some(child) => id = child,
                None => return Ok(None),
            }
        }
        Ok(Some(id))
    }

    /// Where this file is. `None`: it is not there (any more), or its path is longer than a path
    /// may be, which moving directories into one another can lead to.
    ///
    /// # Errors
    /// When the database fails.
    pub fn path_of(&self, id: FileId) -> Result<Option<RelPath>, IndexError> {
        let records = self.tables()?.open_table(LIVE.records)?;
        if id != FileId::ROOT && tables::record(&records, id)?.is_none() {
            return Ok(None);
        }
        Ok(tree::Ancestry::of(&records, id)?.path())
    }

    /// Up to `limit` records in the order of their ids, behind `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn records(
        &self,
        after: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<(FileId, Record)>, IndexError> {
        let records = self.tables()?.open_table(LIVE.records)?;
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_number()));
        let rows = records.range::<u128>((start, Bound::Unbounded))?;
        rows.take(limit)
            .map(|row| {
                let (id, row) = row?;
                let record = tables::decode(row.value(), "a record")?;
                Ok((FileId::from_number(id.value()), record))
            })
            .collect()
    }

    /// What the log says of these files, by their ids; those that it does not have are missing.
    ///
    /// # Errors
    /// When the database fails.
    pub fn records_of(
        &self,
        ids: impl IntoIterator<Item = FileId>,
    ) -> Result<HashMap<FileId, Record>, IndexError> {
        let records = self.tables()?.open_table(LIVE.records)?;
        let mut found = HashMap::new();
        for id in ids {
            if let Some(record) = tables::record(&records, id)? {
                found.insert(id, record);
            }
        }
        Ok(found)
    }

    /// Up to `limit` current files with this content.
    ///
    /// # Errors
    /// When the database fails.
    pub fn holders_of_content(
        &self,
        content: ContentId,
        limit: usize,
    ) -> Result<Vec<FileId>, IndexError> {
        let contents = self.tables()?.open_table(LIVE.contents)?;
        let rows = contents.range((&content.0, 0)..=(&content.0, u128::MAX))?;
        rows.take(limit).map(|row| Ok(FileId::from_number(row?.0.value().1))).collect()
    }

    /// Up to `limit` conflict copies that nobody has dealt with, in the order of their ids, behind
    /// `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn copies(&self, after: Option<FileId>, limit: usize) -> Result<Vec<FileId>, IndexError> {
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_number()));
        let copies = self.tables()?.open_table(LIVE.copies)?;
        let rows = copies.range::<u128>((start, Bound::Unbounded))?;
        rows.take(limit).map(|row| Ok(FileId::from_number(row?.0.value()))).collect()
    }

    /// When the oldest row of the history was displaced, in milliseconds since 1970 by the wall
    /// clock of the node that displaced it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn oldest_history(&self) -> Result<Option<u64>, IndexError> {
        let keys = self.tables()?.open_table(LIVE.history_keys)?;
        let Some(row) = keys.range::<&[u8]>(BY_TIME..)?.next() else { return Ok(None) };
        let (key, ()) = {
            let (key, unit) = row?;
            (key, unit.value())
        };
        let Some(tail) = key.value().strip_prefix(BY_TIME) else { return Ok(None) };
        let (time, _) =
            tail.split_first_chunk().ok_or(IndexError::Corrupt("a key of the history"))?;
        Ok(Some(u64::from_be_bytes(*time)))
    }

    /// Up to `limit` rows of the history, oldest first, behind `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn history(
        &self,
        of: &HistoryOf<'_>,
        after: Option<HistoryKey>,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, IndexError> {
        let start = after.map_or(Bound::Included(HistoryKey::default()), Bound::Excluded);
        self.history_behind(of, start, Order::OldestFirst, limit)
    }

    /// The newest rows of the history, up to `limit`, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn newest_history(
        &self,
        of: &HistoryOf<'_>,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, IndexError> {
        let start = Bound::Included(HistoryKey::default());
        self.history_behind(of, start, Order::NewestFirst, limit)
    }

    /// Whether the history has anything that once was below this path.
    ///
    /// # Errors
    /// When the database fails.
    pub fn has_history_below(&self, path: &RelPath) -> Result<bool, IndexError> {
        let keys = self.tables()?.open_table(LIVE.history_keys)?;
        let below = [b"p", path.as_bytes(), b"/"].concat();
        let first = keys.range::<&[u8]>(below.as_slice()..)?.next().transpose()?;
        Ok(first.is_some_and(|(key, _)| key.value().starts_with(&below)))
    }

    fn history_behind(
        &self,
        of: &HistoryOf<'_>,
        start: Bound<HistoryKey>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, IndexError> {
        let txn = self.tables()?;
        let (keys, rows) = (txn.open_table(LIVE.history_keys)?, txn.open_table(LIVE.history)?);
        let prefix = of.prefix();
        let key = |key: [u8; 12]| [prefix.as_slice(), &key].concat();
        let start = start.map(|start| key(start.to_bytes()));
        let end = key([u8::MAX; 12]);
        let bounds = (start.as_ref().map(Vec::as_slice), Bound::Included(end.as_slice()));
        let read = |row: Result<(AccessGuard<'_, &[u8]>, AccessGuard<'_, ()>), StorageError>| {
            let (key, _) = row?;
            let tail = key.value().strip_prefix(prefix.as_slice());
            let key = tail.and_then(HistoryKey::from_bytes);
            let key = key.ok_or(IndexError::Corrupt("a key of the history"))?;
            tables::history_row(&rows, key)?
                .ok_or(IndexError::Corrupt("a key of the history names no row"))
        };
        let range = keys.range::<&[u8]>(bounds)?;
        match order {
            Order::OldestFirst => range.take(limit).map(read).collect(),
            Order::NewestFirst => range.rev().take(limit).map(read).collect(),
        }
    }
}

/// From which end a list is read.
#[derive(Clone, Copy, Debug)]
enum Order {
    OldestFirst,
    NewestFirst,
}

/// Reads what was last committed, from any thread.
#[derive(Clone)]
pub struct Reader {
    database: Arc<Database>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// The state as of the last commit.
    ///
    /// # Errors
    /// When the database fails.
    pub fn begin(&self) -> Result<ReadTransaction, IndexError> {
        Ok(self.database.begin_read()?)
    }

    /// As [`Index::holders_of_content`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn holders_of_content(
        &self,
        content: ContentId,
        limit: usize,
    ) -> Result<Vec<FileId>, IndexError> {
        let contents = match self.begin()?.open_table(LIVE.contents) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let rows = contents.range((&content.0, 0)..=(&content.0, u128::MAX))?;
        rows.take(limit).map(|row| Ok(FileId::from_number(row?.0.value().1))).collect()
    }
}
