//! The rows of placed as the engine uses them: every change goes to the index and the journal.

use super::left_out::moved_below;
use super::place::Why;
use super::ports::WatchAsk;
use super::space::is_full;
use super::{Engine, Fatal, LIMBO_MS};
use crate::folder::{FolderError, Kind, Stat};
use crate::history_rows::HistoryOf;
use crate::name::{DEPTH_MAX, Name, RelPath};
use crate::op::{At, Parent};
use crate::owner::OwnerRule;
use crate::placed::journal::{self, Note};
use crate::placed::{LocalId, Placed, Seen, Tables, mode_and_time};
use crate::reconcile::{Agreed, Base, Place, View};
use crate::record::{FileId, Record};

impl Engine {
    pub(super) fn tables(&mut self) -> Result<Tables<'_>, Fatal> {
        Ok(Tables::open(self.index.tables()?)?)
    }

    pub(super) fn row(&mut self, id: LocalId) -> Result<Option<Placed>, Fatal> {
        let row = self.tables()?.get(id)?;
        Ok(row.map(|row| self.without_owner(row)))
    }

    /// The row at a name, if the name still belongs to it.
    pub(super) fn row_at(
        &mut self,
        parent: LocalId,
        name: &Name,
    ) -> Result<Option<(LocalId, Placed)>, Fatal> {
        let tables = self.tables()?;
        let Some(id) = tables.at(parent, name)? else { return Ok(None) };
        let row = tables.get(id)?;
        drop(tables);
        Ok(row.map(|row| (id, self.without_owner(row))))
    }

    pub(super) fn row_of(&mut self, file: FileId) -> Result<Option<LocalId>, Fatal> {
        Ok(self.tables()?.of_file(file)?)
    }

    pub(super) fn new_local(&mut self) -> LocalId {
        let id = self.next_local;
        self.next_local = LocalId::new(id.get() + 1);
        id
    }

    /// Writes a row, or takes it away. One that others still stand below stays, as a thing that is
    /// gone for disk and log, until the last of those has gone.
    pub(super) fn set_row(&mut self, id: LocalId, row: Option<&Placed>) -> Result<(), Fatal> {
        let Some(row) = row else { return self.remove_row(id) };
        let kept = row.hold.map(|_| row.clone().without_idle_hold());
        let row = kept.as_ref().unwrap_or(row);
        let was = match row.base {
            Some(_) => None,
            None => self.row(id)?.and_then(|old| old.base),
        };
        self.write_row(id, Some(row))?;
        self.unplace(was);
        Ok(())
    }

    /// What is left out below a directory, or open, goes where that goes.
    fn carry_left_out(&mut self, id: LocalId, row: Option<&Placed>) -> Result<(), Fatal> {
        if self.left_out.is_empty() && self.open_for_writing.is_empty() {
            return Ok(());
        }
        let is_there =
            |row: &Placed| row.seen.as_ref().is_some_and(|seen| seen.stat.kind == Kind::Directory);
        let Some(old) = self.row(id)?.filter(is_there) else { return Ok(()) };
        let row = row.filter(|row| is_there(row));
        if row.is_some_and(|row| (row.parent, &row.name) == (old.parent, &old.name)) {
            return Ok(());
        }
        let Some(from) = self.path_of_row(id)? else { return Ok(()) };
        if self.resolve_local(&from)? != Some(id) {
            // What has that path by now is another directory, and what is below is in that one.
            return Ok(());
        }
        let to = match row {
            Some(row) => self.path_of_row(row.parent)?.map(|above| above.join(&row.name)),
            None => None,
        };
        let mut moved = self.left_out.moved(&from, to.as_ref());
        moved.extend(moved_below(&mut self.open_for_writing, &from, to.as_ref()));
        // What became of them meanwhile may be told by a path that they do not have any more.
        for path in moved {
            self.ask_watch(WatchAsk::Examine(path));
        }
        Ok(())
    }

    /// A directory lost its name to another thing. What is left out below it goes with it; where that is
    /// nobody knows, so it is listed if it is found.
    fn drop_left_out(&mut self, id: LocalId) -> Result<(), Fatal> {
        let known = self.left_out.len() + self.open_for_writing.len();
        if known == 0 {
            return Ok(());
        }
        let (row, path) = (self.row(id)?, self.path_of_row(id)?);
        let (Some(seen), Some(path)) = (row.and_then(|row| row.seen), path) else { return Ok(()) };
        self.left_out.moved(&path, None);
        moved_below(&mut self.open_for_writing, &path, None);
        if self.left_out.len() + self.open_for_writing.len() < known {
            self.owe_list(&seen.stat);
        }
        Ok(())
    }

    fn write_row(&mut self, id: LocalId, row: Option<&Placed>) -> Result<(), Fatal> {
        let deprived = self.tables()?.deprives(id, row)?;
        if let Some(other) = deprived {
            // Two things cannot stand at one name: that one is found elsewhere, or is no more.
            self.limbo.entry(other).or_insert(self.now_ms + LIMBO_MS);
            self.drop_left_out(other)?;
        }
        self.carry_left_out(id, row)?;
        journal::encode(&Note::Row(id, row.cloned()), &mut self.journal_buffer);
        self.index_changed = true;
        let former = self.tables()?.put_over(id, row, deprived)?;
        let file = |row: &Placed| row.base.as_ref().map(|base| base.id);
        let holds_nothing = row
            .and_then(|row| row.seen.as_ref())
            .is_some_and(|seen| seen.stat.kind != Kind::Directory);
        if !holds_nothing && former.as_ref().is_some_and(|old| file(old) != row.and_then(file)) {
            self.renamed.insert(id);
        }
        let former = former.and_then(|former| former.seen);
        let is_the_same = row
            .and_then(|row| row.seen.as_ref())
            .zip(former.as_ref())
            .is_some_and(|(seen, former)| seen.stat.same_inode(&former.stat));
        if !is_the_same {
            // What is open for it is another directory.
            self.dirs.remove(&id);
        }
        Ok(())
    }

    /// Compares what stands in directories that became other things for the log. What is open comes to
    /// that by itself, and what the log does not know has no place in it.
    pub(super) fn compare_renamed(&mut self) -> Result<(), Fatal> {
        if !self.is_live() {
            // All will be compared.
            self.renamed.clear();
        }
        while let Some(directory) = self.renamed.pop_first() {
            let mut after = None;
            loop {
                let page = self.tables()?.children(directory, after.as_ref(), 1024)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (_, child) in page {
                    let is_open = self.outbox.contains(child) || self.is_in_flight(child);
                    if !is_open && self.row(child)?.is_some_and(|row| row.base.is_some()) {
                        self.settle(child)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the log has and no row stands for has to be placed, however that came about.
    fn unplace(&mut self, was: Option<Base>) {
        if let Some(base) = was {
            self.todo.insert(base.id);
        }
    }

    fn remove_row(&mut self, mut id: LocalId) -> Result<(), Fatal> {
        for _ in 0..DEPTH_MAX {
            let Some(old) = self.row(id)? else { return Ok(()) };
            // That a name is gone has to reach the disk like a new one.
            self.unsynced.insert(old.parent);
            self.forget_local(id);
            if !self.tables()?.children(id, None, 1)?.is_empty() {
                let gone = Placed { seen: None, base: None, hold: None, ..old.clone() };
                self.write_row(id, Some(&gone))?;
                self.unplace(old.base);
                return Ok(());
            }
            self.write_row(id, None)?;
            self.unplace(old.base);
            let above = self.row(old.parent)?;
            if above.is_none_or(|above| above.seen.is_some() || above.base.is_some()) {
                return Ok(());
            }
            id = old.parent;
        }
        Ok(())
    }

    /// Notes what a row will be once a thing is exposed, and writes the journal: the intent must
    /// be out of this process before the folder changes.
    pub(super) fn note_intent(
        &mut self,
        id: LocalId,
        row: &Placed,
    ) -> Result<Result<(), Why>, Fatal> {
        journal::encode(&Note::Intent(id, row.clone()), &mut self.journal_buffer);
        self.flush_journal()?;
        let full = || Why::Blocked(FolderError::NoSpace(RelPath::root().join(&row.name)));
        Ok(if self.is_noted() { Ok(()) } else { Err(full()) })
    }

    /// Writes the journal. What a full disk does not take waits in the buffer, and with it all
    /// that must not be done before it is written: see `space`.
    pub(super) fn flush_journal(&mut self) -> Result<(), Fatal> {
        match self.write_journal() {
            Err(error) if !is_full(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn write_journal(&mut self) -> std::io::Result<()> {
        if self.journal_buffer.is_empty() {
            return Ok(());
        }
        self.journal.append(&mut self.journal_buffer)
    }

    /// The path of a row as this disk has it; `None` when it lies outside the folder.
    pub(super) fn path_of_row(&mut self, id: LocalId) -> Result<Option<RelPath>, Fatal> {
        let tables = self.tables()?;
        let (mut names, mut at) = (Vec::new(), id);
        for _ in 0..DEPTH_MAX {
            if at == LocalId::ROOT {
                let path = names.iter().rev().fold(RelPath::root(), |path, name| path.join(name));
                return Ok(Some(path));
            }
            let Some(row) = tables.get(at)? else { return Ok(None) };
            names.push(row.name);
            at = row.parent;
        }
        Ok(None)
    }

    /// The row that a path of this disk leads to.
    pub(super) fn resolve_local(&mut self, path: &RelPath) -> Result<Option<LocalId>, Fatal> {
        let tables = self.tables()?;
        let mut at = LocalId::ROOT;
        for name in path.names() {
            match tables.at(at, &name)? {
                Some(id) => at = id,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// What the log calls the directory of a row; `None` when it does not know it, or the row
    /// lies in quarantine.
    pub(super) fn file_of(&mut self, id: LocalId) -> Result<Option<FileId>, Fatal> {
        if id == LocalId::ROOT {
            return Ok(Some(FileId::ROOT));
        }
        Ok(self.row(id)?.and_then(|row| row.base).map(|base| base.id))
    }

    pub(super) fn place_of(&mut self, row: &Placed) -> Result<Place, Fatal> {
        if let (LocalId::QUARANTINE, Some(base)) = (row.parent, &row.base) {
            // Whatever came out of the folder did not leave its place by a user's hand.
            return Ok(base.view.place.clone());
        }
        Ok(Place { parent: self.file_of(row.parent)?, name: row.name.clone() })
    }

    /// The third picture.
    pub(super) fn actual(&mut self, row: &Placed) -> Result<Actual, Fatal> {
        let Some(seen) = &row.seen else { return Ok(Actual::Gone) };
        let Some(body) = seen.body.clone() else { return Ok(Actual::Unread) };
        let place = self.place_of(row)?;
        Ok(Actual::Known(View { body, attributes: seen.attributes(), place }))
    }

    /// The first picture of a record, as far as this node keeps it.
    pub(super) fn agreed_of(&self, record: &Record) -> Agreed {
        let mut attributes = record.attributes.clone();
        attributes.owner = attributes.owner.filter(|_| self.owners.rule == OwnerRule::Keep);
        Agreed {
            view: View { body: record.body.clone(), attributes, place: place_in_log(record) },
            version: record.version.clone(),
        }
    }

    pub(super) fn agreed(&mut self, id: FileId) -> Result<Option<Agreed>, Fatal> {
        Ok(self.index.record(id)?.map(|record| self.agreed_of(&record)))
    }

    /// Where a row stands, for a proposal. One in quarantine belongs where it was displaced from.
    pub(super) fn at_of(&mut self, row: &Placed, parent: Parent) -> Result<At, Fatal> {
        if let Some(place) = self.home_of(row)? {
            let directory = self.path_of_file(place.parent)?;
            return Ok(At { parent, path: directory.join(&place.name), name: place.name });
        }
        let path = self.path_of_row(row.parent)?.unwrap_or_default().join(&row.name);
        Ok(At { parent, name: row.name.clone(), path })
    }

    /// Where a thing in quarantine belongs: a displaced one where it stood, one that waits for its
    /// name where the log has it.
    pub(super) fn home_of(&self, row: &Placed) -> Result<Option<Place>, Fatal> {
        let (LocalId::QUARANTINE, Some(base)) = (row.parent, &row.base) else { return Ok(None) };
        if Self::is_displaced(row) && base.view.place.parent.is_some() {
            return Ok(Some(base.view.place.clone()));
        }
        if let Some(record) = self.index.record(base.id)? {
            return Ok(Some(Place { parent: Some(record.parent), name: record.name }));
        }
        self.last_place(base.id, &row.name).map(Some)
    }

    /// Where a thing stood when the log lost it; at the top of the folder if nobody knows.
    fn last_place(&self, id: FileId, otherwise: &Name) -> Result<Place, Fatal> {
        let rows = self.index.newest_history(&HistoryOf::File(id), 1)?;
        let split = rows.first().and_then(|row| row.path.split());
        let (directory, name) = split.unwrap_or((RelPath::root(), otherwise.clone()));
        let parent = self.index.resolve(&directory)?.unwrap_or(FileId::ROOT);
        Ok(Place { parent: Some(parent), name })
    }

    /// The path of a directory of the log: on this disk if it is here, else in the log, else the
    /// folder itself.
    fn path_of_file(&mut self, id: Option<FileId>) -> Result<RelPath, Fatal> {
        let Some(id) = id else { return Ok(RelPath::root()) };
        if let Some(local) = self.row_of(id)?
            && let Some(path) = self.path_of_row(local)?
        {
            return Ok(path);
        }
        Ok(self.index.path_of(id)?.unwrap_or_default())
    }
}

/// What is on the disk for a row.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for one comparison")]
pub(super) enum Actual {
    /// It vanished.
    Gone,
    /// Its bytes have to be read first.
    Unread,
    /// This.
    Known(View),
}

impl Actual {
    pub(super) fn known(self) -> Option<View> {
        match self {
            Self::Known(view) => Some(view),
            Self::Gone | Self::Unread => None,
        }
    }
}

/// Where the log has a thing.
pub(super) fn place_in_log(record: &Record) -> Place {
    Place { parent: Some(record.parent), name: record.name.clone() }
}

/// Whether a stat shows the very state that was seen before: same inode, size, times, mode and owner.
/// The change time takes part, so that a rewrite that restores the time of modification is found;
/// renaming changes it as well, which only costs a read.
pub(super) fn is_unchanged(seen: &Seen, stat: &Stat) -> bool {
    let same_rights =
        mode_and_time(&seen.stat) == mode_and_time(stat) && seen.stat.ids() == stat.ids();
    seen.stat.same_to_ctime(stat) && same_rights
}
