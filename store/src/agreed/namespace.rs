//! The tables under one change: the only place where agreed records are written.

use std::sync::Arc;

use super::tree::{Ancestry, Memo, children};
use super::{Effects, Stamp, Stop, Touched};
use crate::history_rows::{BY_TIME, HistoryKey, HistoryRow, PRUNE_ROWS_MAX, Reason, keys_of};
use crate::index::IndexError;
use crate::index::state::State;
use crate::index::tables::{self, Tables};
use crate::name::Name;
use crate::op::{Change, Op, Outcome, Refusal};
use crate::record::{Body, FileId, Record};

use redb::ReadableTable;

/// A move that found its name taken, to be looked at again when the whole change is done.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) op: usize,
    pub(super) id: FileId,
    pub(super) parent: FileId,
    /// The name that it wants.
    pub(super) name: Name,
    /// The name that it got for now.
    pub(super) beside: Name,
}

/// The agreed tables while one change is applied.
#[derive(Debug)]
pub(crate) struct Namespace<'a> {
    tables: Tables<'a>,
    state: &'a mut State,
    memo: &'a mut Memo,
    pub(super) stamp: Stamp,
    pub(super) effects: Effects,
    pub(super) waiting: Vec<Waiting>,
    /// The operation under way.
    pub(super) op: usize,
    minted: u32,
}

impl<'a> Namespace<'a> {
    pub(crate) fn new(
        tables: Tables<'a>,
        state: &'a mut State,
        memo: &'a mut Memo,
        stamp: Stamp,
    ) -> Self {
        let (effects, waiting) = (Effects::default(), Vec::new());
        Self { tables, state, memo, stamp, effects, waiting, op: 0, minted: 0 }
    }

    /// Applies all operations in order.
    pub(crate) fn change(mut self, change: &Change) -> Result<Effects, IndexError> {
        for (number, op) in change.ops.iter().enumerate() {
            self.op = number;
            let outcome = match self.op(op) {
                Ok(outcome) => outcome,
                Err(Stop::Refused(refusal)) => Outcome::Refused(refusal),
                Err(Stop::Failed(error)) => return Err(error),
            };
            self.effects.outcomes.push(outcome);
        }
        self.settle_moves()?;
        Ok(self.effects)
    }

    fn op(&mut self, op: &Op) -> Result<Outcome, Stop> {
        match op {
            Op::Create { at, new } => self.create(at, new),
            Op::Replace { id, base, at, new, keep } => self.replace(*id, (base, *keep), at, new),
            Op::Attributes { id, attributes, keep } => self.set_attributes(*id, attributes, *keep),
            Op::Move { id, to } => self.relocate(*id, to),
            Op::Delete { id, base } => self.delete(*id, base),
            Op::Put { path, new } => self.put(path, new),
            Op::Remove { path } => self.remove(path),
            Op::PruneHistory { before_wall_ms } => Ok(self.prune(*before_wall_ms)?),
            Op::Resolve { file, copy, take } => self.resolve(file, copy, *take),
        }
    }

    pub(super) fn record(&self, id: FileId) -> Result<Option<Record>, IndexError> {
        tables::record(&self.tables.records, id)
    }

    /// The record of an id that another record names.
    pub(super) fn linked(&self, id: FileId) -> Result<Record, IndexError> {
        self.record(id)?.ok_or(IndexError::Corrupt("a record names one that is missing"))
    }

    pub(super) fn child(&self, parent: FileId, name: &Name) -> Result<Option<FileId>, IndexError> {
        tables::child(&self.tables.names, parent, name)
    }

    pub(super) fn is_directory(&self, id: FileId) -> Result<bool, IndexError> {
        if id == FileId::ROOT || self.memo.knows(id) {
            return Ok(true);
        }
        Ok(self.record(id)?.is_some_and(|record| record.body == Body::Directory))
    }

    pub(super) fn is_empty(&self, directory: FileId) -> Result<bool, IndexError> {
        Ok(children(&self.tables.names, directory, None, 1)?.is_empty())
    }

    /// A directory with all above it.
    pub(super) fn above(&mut self, directory: FileId) -> Result<Arc<Ancestry>, IndexError> {
        self.memo.above(&self.tables.records, directory)
    }

    pub(super) fn mint(&mut self) -> FileId {
        let ordinal = self.minted;
        self.minted += 1;
        FileId { epoch: self.stamp.epoch, index: self.stamp.index, ordinal }
    }

    /// A new record.
    pub(super) fn insert(&mut self, record: Record) -> Result<FileId, IndexError> {
        let id = self.mint();
        self.write(id, None, Some(record))?;
        Ok(id)
    }

    /// Another state of a record: marks it as changed by this entry.
    pub(super) fn update(
        &mut self,
        id: FileId,
        before: &Record,
        mut after: Record,
    ) -> Result<(), IndexError> {
        after.changed = self.stamp.index;
        self.write(id, Some(before.clone()), Some(after))
    }

    /// Takes a record away.
    pub(super) fn erase(&mut self, id: FileId, before: Record) -> Result<(), IndexError> {
        self.write(id, Some(before), None)
    }

    fn write(
        &mut self,
        id: FileId,
        before: Option<Record>,
        after: Option<Record>,
    ) -> Result<(), IndexError> {
        if before.as_ref().is_some_and(|before| before.body == Body::Directory) {
            self.memo.forget();
        }
        write_row(&mut self.tables, self.state, id, before.as_ref(), after.as_ref())?;
        match self.effects.touched.last_mut() {
            Some(last) if last.id == id && last.op == self.op => last.after = after,
            _ => self.effects.touched.push(Touched { id, op: self.op, before, after }),
        }
        Ok(())
    }

    /// Makes the version that `record` is at a row of the history. Directories have no versions.
    pub(super) fn displace(
        &mut self,
        id: FileId,
        record: &Record,
        reason: Reason,
    ) -> Result<(), IndexError> {
        if record.body == Body::Directory {
            return Ok(());
        }
        let path = self.above(record.parent)?.path_below(&record.name);
        self.displace_at(id, path, record, reason)
    }

    /// The same for one that is at this path, or never came to be there.
    pub(super) fn displace_at(
        &mut self,
        file: FileId,
        path: crate::name::RelPath,
        record: &Record,
        reason: Reason,
    ) -> Result<(), IndexError> {
        let ordinal = u32::try_from(self.effects.displaced.len())
            .map_err(|_| IndexError::Corrupt("a change displaced too much"))?;
        let row = HistoryRow {
            key: HistoryKey { index: self.stamp.index, ordinal },
            file,
            path,
            body: record.body.clone(),
            attributes: record.attributes.clone(),
            version: record.version.clone(),
            author: record.author,
            made: record.version.get(record.author),
            displaced_by: self.stamp.origin,
            wall_ms: self.stamp.wall_ms,
            reason,
        };
        write_history(&mut self.tables, self.state, &row)?;
        self.effects.displaced.push(row);
        Ok(())
    }

    fn prune(&mut self, before_wall_ms: u64) -> Result<Outcome, IndexError> {
        let end = [BY_TIME, &before_wall_ms.to_be_bytes()].concat();
        let old = self.tables.history_keys.range::<&[u8]>(BY_TIME..end.as_slice())?;
        let old = old.take(PRUNE_ROWS_MAX).map(|row| {
            let (key, _) = row?;
            let tail = key.value().get(BY_TIME.len() + size_of::<u64>()..);
            let key = tail.and_then(HistoryKey::from_bytes);
            key.ok_or(IndexError::Corrupt("a key of the history"))
        });
        let old = old.collect::<Result<Vec<_>, IndexError>>()?;
        for &key in &old {
            let row = tables::history_row(&self.tables.history, key)?
                .ok_or(IndexError::Corrupt("a key of the history names no row"))?;
            self.tables.history.remove(key.to_bytes().as_slice())?;
            for key in keys_of(&row) {
                self.tables.history_keys.remove(key.as_slice())?;
            }
            self.state.history_rows -= 1;
            self.effects.pruned.push(row);
        }
        Ok(match u32::try_from(old.len()).unwrap_or(u32::MAX) {
            0 => Outcome::Nothing,
            rows => Outcome::Pruned(rows),
        })
    }
}

/// Writes one record with everything that follows from it: names, contents, digest, counts.
pub(crate) fn write_row(
    tables: &mut Tables<'_>,
    state: &mut State,
    id: FileId,
    before: Option<&Record>,
    after: Option<&Record>,
) -> Result<(), IndexError> {
    let (key, number) = (id.to_bytes(), id.to_number());
    write_place(tables, number, before, after)?;
    write_content(tables, number, before, after)?;
    write_copy(tables, number, before, after)?;
    if let Some(after) = after {
        let row = tables::encode(after)?;
        let old = tables.records.insert(number, row.as_slice())?;
        state.digest.add(&key, &row);
        state.counts.add(after);
        assert!(old.is_some() == before.is_some(), "what was there is what was said to be there");
        if let Some(old) = old {
            state.digest.remove(&key, old.value());
        }
    } else {
        let old = tables.records.remove(number)?;
        let old = old.ok_or(IndexError::Corrupt("a record to be removed is missing"))?;
        state.digest.remove(&key, old.value());
    }
    if let Some(before) = before {
        state.counts.remove(before);
    }
    Ok(())
}

fn write_place(
    tables: &mut Tables<'_>,
    number: u128,
    before: Option<&Record>,
    after: Option<&Record>,
) -> Result<(), IndexError> {
    let place = |record: &Record| (record.parent, record.name.clone());
    if before.map(place) == after.map(place) {
        return Ok(());
    }
    if let Some(old) = before {
        tables.names.remove((old.parent.to_number(), old.name.as_bytes()))?;
    }
    if let Some(new) = after {
        let taken = tables.names.insert((new.parent.to_number(), new.name.as_bytes()), number)?;
        assert!(taken.is_none(), "a name is free when it is given");
    }
    Ok(())
}

fn write_content(
    tables: &mut Tables<'_>,
    number: u128,
    before: Option<&Record>,
    after: Option<&Record>,
) -> Result<(), IndexError> {
    let content = |record: &Record| match record.body {
        Body::File { content, .. } => Some(content),
        _ => None,
    };
    let (old, new) = (before.and_then(content), after.and_then(content));
    if old == new {
        return Ok(());
    }
    if let Some(old) = old {
        tables.contents.remove((&old.0, number))?;
    }
    if let Some(new) = new {
        tables.contents.insert((&new.0, number), ())?;
    }
    Ok(())
}

fn write_copy(
    tables: &mut Tables<'_>,
    number: u128,
    before: Option<&Record>,
    after: Option<&Record>,
) -> Result<(), IndexError> {
    let is_copy = |record: Option<&Record>| record.is_some_and(|it| it.conflict_of.is_some());
    match (is_copy(before), is_copy(after)) {
        (false, true) => drop(tables.copies.insert(number, ())?),
        (true, false) => drop(tables.copies.remove(number)?),
        (true, true) | (false, false) => {}
    }
    Ok(())
}

/// Writes one row of the history with its keys.
pub(crate) fn write_history(
    tables: &mut Tables<'_>,
    state: &mut State,
    row: &HistoryRow,
) -> Result<(), IndexError> {
    let bytes = tables::encode(row)?;
    let old = tables.history.insert(row.key.to_bytes().as_slice(), bytes.as_slice())?;
    assert!(old.is_none(), "a row of the history is written once");
    drop(old);
    for key in keys_of(row) {
        tables.history_keys.insert(key.as_slice(), ())?;
    }
    state.history_rows += 1;
    Ok(())
}

/// What an operation on the folder itself comes to.
pub(super) fn not_root(id: FileId) -> Result<(), Stop> {
    if id == FileId::ROOT { super::refuse(Refusal::Root) } else { Ok(()) }
}
