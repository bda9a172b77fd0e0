//! The agreed tables, and how their rows are written.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::IndexError;
use crate::history_rows::{HistoryKey, HistoryRow};
use crate::name::Name;
use crate::record::{FileId, Record};

/// Directory and name.
pub(crate) type PlaceKey = (u128, &'static [u8]);
/// Content and file.
pub(crate) type ContentKey = (&'static [u8; 32], u128);

/// One row: [`super::state::State`].
pub(crate) const STATE: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("agreed.state");

/// The names of one set of agreed tables.
pub(crate) struct Set {
    pub(crate) records: TableDefinition<'static, u128, &'static [u8]>,
    pub(crate) names: TableDefinition<'static, PlaceKey, u128>,
    pub(crate) contents: TableDefinition<'static, ContentKey, ()>,
    pub(crate) copies: TableDefinition<'static, u128, ()>,
    pub(crate) history: TableDefinition<'static, &'static [u8], &'static [u8]>,
    pub(crate) history_keys: TableDefinition<'static, &'static [u8], ()>,
}

/// The tables in force.
pub(crate) const LIVE: Set = Set {
    records: TableDefinition::new("agreed.records"),
    names: TableDefinition::new("agreed.names"),
    contents: TableDefinition::new("agreed.contents"),
    copies: TableDefinition::new("agreed.copies"),
    history: TableDefinition::new("agreed.history"),
    history_keys: TableDefinition::new("agreed.history_keys"),
};

/// The tables that a state from another node is gathered in, before it is put in force.
pub(crate) const INCOMING: Set = Set {
    records: TableDefinition::new("incoming.records"),
    names: TableDefinition::new("incoming.names"),
    contents: TableDefinition::new("incoming.contents"),
    copies: TableDefinition::new("incoming.copies"),
    history: TableDefinition::new("incoming.history"),
    history_keys: TableDefinition::new("incoming.history_keys"),
};

/// One set of tables, open for writing.
#[derive(Debug)]
pub(crate) struct Tables<'t> {
    pub(crate) records: Table<'t, u128, &'static [u8]>,
    pub(crate) names: Table<'t, PlaceKey, u128>,
    pub(crate) contents: Table<'t, ContentKey, ()>,
    /// Conflict copies that nobody has dealt with.
    pub(crate) copies: Table<'t, u128, ()>,
    pub(crate) history: Table<'t, &'static [u8], &'static [u8]>,
    pub(crate) history_keys: Table<'t, &'static [u8], ()>,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(txn: &'t WriteTransaction, set: &Set) -> Result<Self, IndexError> {
        Ok(Self {
            records: txn.open_table(set.records)?,
            names: txn.open_table(set.names)?,
            contents: txn.open_table(set.contents)?,
            copies: txn.open_table(set.copies)?,
            history: txn.open_table(set.history)?,
            history_keys: txn.open_table(set.history_keys)?,
        })
    }
}

/// Takes all tables of a set away.
pub(crate) fn drop_set(txn: &WriteTransaction, set: &Set) -> Result<(), IndexError> {
    txn.delete_table(set.records)?;
    txn.delete_table(set.names)?;
    txn.delete_table(set.contents)?;
    txn.delete_table(set.copies)?;
    txn.delete_table(set.history)?;
    txn.delete_table(set.history_keys)?;
    Ok(())
}

/// Gives the tables of `from` the names of `to`; costs the same whatever they hold.
pub(crate) fn rename_set(txn: &WriteTransaction, from: &Set, to: &Set) -> Result<(), IndexError> {
    txn.rename_table(from.records, to.records)?;
    txn.rename_table(from.names, to.names)?;
    txn.rename_table(from.contents, to.contents)?;
    txn.rename_table(from.copies, to.copies)?;
    txn.rename_table(from.history, to.history)?;
    txn.rename_table(from.history_keys, to.history_keys)?;
    Ok(())
}

/// A row's bytes.
pub(crate) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, IndexError> {
    postcard::to_allocvec(row).map_err(|_| IndexError::Corrupt("a row cannot be encoded"))
}

/// A row from its bytes, all of them.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, IndexError> {
    match postcard::take_from_bytes(bytes) {
        Ok((row, [])) => Ok(row),
        _ => Err(IndexError::Corrupt(what)),
    }
}

pub(crate) fn record(
    records: &impl ReadableTable<u128, &'static [u8]>,
    id: FileId,
) -> Result<Option<Record>, IndexError> {
    let row = records.get(id.to_number())?;
    row.map(|row| decode(row.value(), "a record")).transpose()
}

pub(crate) fn child(
    names: &impl ReadableTable<PlaceKey, u128>,
    parent: FileId,
    name: &Name,
) -> Result<Option<FileId>, IndexError> {
    let row = names.get((parent.to_number(), name.as_bytes()))?;
    Ok(row.map(|row| FileId::from_number(row.value())))
}

pub(crate) fn history_row(
    history: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: HistoryKey,
) -> Result<Option<HistoryRow>, IndexError> {
    let row = history.get(key.to_bytes().as_slice())?;
    row.map(|row| decode(row.value(), "a history row")).transpose()
}
