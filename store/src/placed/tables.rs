//! The rows in the index: the same transaction as the agreed tables, so both move together.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{LocalId, Placed};
use crate::index::{IndexError, Reader};
use crate::name::{DEPTH_MAX, Name, RelPath};
use crate::record::FileId;

const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("placed");
const NAMES: TableDefinition<(u64, &[u8]), u64> = TableDefinition::new("placed_names");
const FILES: TableDefinition<&[u8], u64> = TableDefinition::new("placed_files");
const INODES: TableDefinition<u64, u64> = TableDefinition::new("placed_inodes");
const NAMELESS: TableDefinition<u64, ()> = TableDefinition::new("placed_nameless");

/// The rows, within the open transaction.
#[derive(Debug)]
pub struct Tables<'t> {
    rows: redb::Table<'t, u64, &'static [u8]>,
    names: redb::Table<'t, (u64, &'static [u8]), u64>,
    files: redb::Table<'t, &'static [u8], u64>,
    inodes: redb::Table<'t, u64, u64>,
    nameless: redb::Table<'t, u64, ()>,
}

fn file_key(id: FileId) -> [u8; 16] {
    id.to_bytes()
}

fn decode(bytes: &[u8]) -> Result<Placed, IndexError> {
    postcard::from_bytes(bytes).map_err(|_| IndexError::Corrupt("a row of placed"))
}

impl<'t> Tables<'t> {
    /// Opens (or makes) the tables.
    ///
    /// # Errors
    /// When the database fails.
    pub fn open(txn: &'t WriteTransaction) -> Result<Self, IndexError> {
        Ok(Self {
            rows: txn.open_table(ROWS)?,
            names: txn.open_table(NAMES)?,
            files: txn.open_table(FILES)?,
            inodes: txn.open_table(INODES)?,
            nameless: txn.open_table(NAMELESS)?,
        })
    }

    /// A number that no row has had.
    ///
    /// # Errors
    /// When the database fails.
    pub fn next_id(&self) -> Result<LocalId, IndexError> {
        let last = self.rows.last()?.map_or(0, |(key, _)| key.value());
        Ok(LocalId(last.max(LocalId::FIRST.0 - 1) + 1))
    }

    /// The row of `id`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn get(&self, id: LocalId) -> Result<Option<Placed>, IndexError> {
        self.rows.get(id.0)?.map(|bytes| decode(bytes.value())).transpose()
    }

    /// What stands at `name` in `parent`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn at(&self, parent: LocalId, name: &Name) -> Result<Option<LocalId>, IndexError> {
        Ok(self.names.get((parent.0, name.as_bytes()))?.map(|id| LocalId(id.value())))
    }

    /// The row that holds what the log calls `file`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn of_file(&self, file: FileId) -> Result<Option<LocalId>, IndexError> {
        if file == FileId::ROOT {
            return Ok(Some(LocalId::ROOT));
        }
        Ok(self.files.get(file_key(file).as_slice())?.map(|id| LocalId(id.value())))
    }

    /// The row that was last seen with this inode number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn of_inode(&self, ino: u64) -> Result<Option<LocalId>, IndexError> {
        Ok(self.inodes.get(ino)?.map(|id| LocalId(id.value())))
    }

    /// Entries of a directory by name, at most `limit`, after `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn children(
        &self,
        parent: LocalId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, LocalId)>, IndexError> {
        let from = after.map_or(&[][..], Name::as_bytes);
        let mut found = Vec::new();
        for row in self.names.range((parent.0, from)..)? {
            let (key, id) = row?;
            let (holder, name) = key.value();
            if holder != parent.0 || found.len() >= limit {
                break;
            }
            if after.is_some_and(|after| after.as_bytes() == name) {
                continue;
            }
            let name = Name::new(name).map_err(|_| IndexError::Corrupt("a placed name"))?;
            found.push((name, LocalId(id.value())));
        }
        Ok(found)
    }

    /// Rows by number, at most `limit`, after `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn page(
        &self,
        after: Option<LocalId>,
        limit: usize,
    ) -> Result<Vec<(LocalId, Placed)>, IndexError> {
        let from = after.map_or(0, |id| id.0 + 1);
        let rows = self.rows.range(from..)?.take(limit);
        rows.map(|row| {
            let (key, bytes) = row?;
            Ok((LocalId(key.value()), decode(bytes.value())?))
        })
        .collect()
    }

    /// Writes or takes away the row of `id`, and what finds it; gives the former one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put(&mut self, id: LocalId, row: Option<&Placed>) -> Result<Option<Placed>, IndexError> {
        let deprived = self.deprives(id, row)?;
        self.put_over(id, row, deprived)
    }

    /// As [`Self::put`], if what [`Self::deprives`] says of it is known already.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_over(
        &mut self,
        id: LocalId,
        row: Option<&Placed>,
        deprived: Option<LocalId>,
    ) -> Result<Option<Placed>, IndexError> {
        let former = self.get(id)?;
        let was_nameless = self.nameless.remove(id.0)?.is_some();
        if let Some(old) = &former {
            self.unlink(id, old, row)?;
        }
        let Some(row) = row else {
            self.rows.remove(id.0)?;
            return Ok(former);
        };
        let bytes = postcard::to_allocvec(row)
            .map_err(|_| IndexError::Corrupt("a row that cannot be encoded"))?;
        self.rows.insert(id.0, bytes.as_slice())?;
        if deprived.is_some() || self.standing_at_name_of(id, row)?.is_none() {
            self.names.insert((row.parent.0, row.name.as_bytes()), id.0)?;
        } else if was_nameless && row.seen.is_some() {
            self.nameless.insert(id.0, ())?;
        }
        if let Some(other) = deprived {
            self.nameless.insert(other.0, ())?;
        }
        if let Some(base) = &row.base
            && self.of_file(base.id)?.is_none()
        {
            // One that was displaced does not take the file from the row that stands in for it.
            self.files.insert(file_key(base.id).as_slice(), id.0)?;
        }
        if let Some(seen) = &row.seen {
            self.inodes.insert(seen.stat.ino, id.0)?;
        }
        Ok(former)
    }

    /// The thing that loses its name to a row when that is written. One that is gone has no claim to its
    /// former name; nor has one that lost it, unless it is seen anew: it may be written for another
    /// reason.
    ///
    /// # Errors
    /// When the database fails.
    pub fn deprives(
        &self,
        id: LocalId,
        row: Option<&Placed>,
    ) -> Result<Option<LocalId>, IndexError> {
        let Some((row, seen)) = row.and_then(|row| Some((row, row.seen.as_ref()?))) else {
            return Ok(None);
        };
        let Some(other) = self.standing_at_name_of(id, row)? else { return Ok(None) };
        let is_the_same = |old: &Placed| {
            (old.parent, &old.name) == (row.parent, &row.name)
                && old.seen.as_ref().is_some_and(|old| old.stat.same_inode(&seen.stat))
        };
        let lost_it = self.is_nameless(id)? && self.get(id)?.as_ref().is_some_and(is_the_same);
        Ok((!lost_it).then_some(other))
    }

    /// The other thing that stands at the name of a row.
    fn standing_at_name_of(
        &self,
        id: LocalId,
        row: &Placed,
    ) -> Result<Option<LocalId>, IndexError> {
        let Some(other) = self.at(row.parent, &row.name)?.filter(|other| *other != id) else {
            return Ok(None);
        };
        let stands = self.get(other)?.is_some_and(|other| other.seen.is_some());
        Ok(stands.then_some(other))
    }

    /// Rows of things that were seen and whose names others have by now, at most `limit`: they stand
    /// elsewhere, or nowhere.
    ///
    /// # Errors
    /// When the database fails.
    pub fn nameless(&self, limit: usize) -> Result<Vec<LocalId>, IndexError> {
        self.nameless.iter()?.take(limit).map(|row| Ok(LocalId(row?.0.value()))).collect()
    }

    /// A thing was seen at a name: its row has a claim to that again.
    ///
    /// # Errors
    /// When the database fails.
    pub fn claim(&mut self, id: LocalId) -> Result<(), IndexError> {
        self.nameless.remove(id.0)?;
        Ok(())
    }

    /// Whether a row is one of those.
    ///
    /// # Errors
    /// When the database fails.
    pub fn is_nameless(&self, id: LocalId) -> Result<bool, IndexError> {
        Ok(self.nameless.get(id.0)?.is_some())
    }

    /// Takes away what found the old row and does not find the new one; an entry that another row
    /// has taken over meanwhile stays.
    fn unlink(
        &mut self,
        id: LocalId,
        old: &Placed,
        new: Option<&Placed>,
    ) -> Result<(), IndexError> {
        let moved = new.is_none_or(|new| (new.parent, &new.name) != (old.parent, &old.name));
        if moved && self.at(old.parent, &old.name)? == Some(id) {
            self.names.remove((old.parent.0, old.name.as_bytes()))?;
        }
        if let Some(base) = &old.base {
            let relinked = new.and_then(|new| new.base.as_ref()).is_none_or(|b| b.id != base.id);
            if relinked && self.of_file(base.id)? == Some(id) {
                self.files.remove(file_key(base.id).as_slice())?;
            }
        }
        if let Some(seen) = &old.seen {
            let ino = seen.stat.ino;
            let other = new.and_then(|new| new.seen.as_ref()).is_none_or(|s| s.stat.ino != ino);
            if other && self.of_inode(ino)? == Some(id) {
                self.inodes.remove(ino)?;
            }
        }
        Ok(())
    }
}

/// The rows as last committed, for other threads.
#[derive(Debug)]
pub struct ReadTables {
    rows: redb::ReadOnlyTable<u64, &'static [u8]>,
    files: redb::ReadOnlyTable<&'static [u8], u64>,
}

impl ReadTables {
    /// Opens the tables; `None` before the first commit made them.
    ///
    /// # Errors
    /// When the database fails.
    pub fn open(reader: &Reader) -> Result<Option<Self>, IndexError> {
        let txn = reader.begin()?;
        match (txn.open_table(ROWS), txn.open_table(FILES)) {
            (Ok(rows), Ok(files)) => Ok(Some(Self { rows, files })),
            (Err(redb::TableError::TableDoesNotExist(_)), _)
            | (_, Err(redb::TableError::TableDoesNotExist(_))) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error.into()),
        }
    }

    /// The row that holds what the log calls `file`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn of_file(&self, file: FileId) -> Result<Option<Placed>, IndexError> {
        match self.files.get(file_key(file).as_slice())? {
            Some(id) => self.get(LocalId(id.value())),
            None => Ok(None),
        }
    }

    fn get(&self, id: LocalId) -> Result<Option<Placed>, IndexError> {
        self.rows.get(id.0)?.map(|bytes| decode(bytes.value())).transpose()
    }

    /// Where a row stands; `None` outside the folder.
    ///
    /// # Errors
    /// When the database fails.
    pub fn path_of(&self, row: &Placed) -> Result<Option<RelPath>, IndexError> {
        let (mut names, mut parent) = (vec![row.name.clone()], row.parent);
        while parent != LocalId::ROOT {
            let above = if names.len() < DEPTH_MAX { self.get(parent)? } else { None };
            let Some(above) = above else { return Ok(None) };
            parent = above.parent;
            names.push(above.name);
        }
        Ok(Some(names.iter().rev().fold(RelPath::root(), |path, name| path.join(name))))
    }
}
