//! How one thing stands to the rules, and what is done about it.

use crate::engine::place::Why;
use crate::engine::rows::Actual;
use crate::engine::startup::names_in;
use crate::engine::{Engine, Fatal};
use crate::folder::{FolderError, Kind};
use crate::name::{Name, RelPath};
use crate::observation;
use crate::placed::{LocalId, Placed};
use crate::reconcile::{Decision, Part, reconcile};
use crate::record::{Body, FileId, Record};

/// How a row stands to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// It is compared and replicated.
    Counts,
    /// The log has it, or had it, and it is ignored.
    Asleep,
    /// Ignored, and the log never heard of it.
    Stray,
    /// A user moved it to where it is ignored.
    MovedAway,
}

impl Engine {
    /// How a row stands to the rules.
    pub(super) fn ground_of(&mut self, id: LocalId, row: &Placed) -> Result<Ground, Fatal> {
        if self.ignoring.is_empty() || id == LocalId::ROOT {
            return Ok(Ground::Counts);
        }
        let Some(path) = self.path_of_row(id)? else { return Ok(Ground::Counts) };
        if self.ignored_here(&path, is_directory(row))?.is_none() {
            return Ok(Ground::Counts);
        }
        let Some(base) = &row.base else { return Ok(Ground::Stray) };
        let Some(record) = self.index.record(base.id)? else { return Ok(Ground::Asleep) };
        if self.is_hidden(base.id, &record)? {
            return Ok(Ground::Asleep);
        }
        let moved = row.seen.is_some() && self.place_of(row)? != base.view.place;
        Ok(if moved { Ground::MovedAway } else { Ground::Counts })
    }

    /// Whether a row stands where things are ignored.
    pub(in crate::engine) fn is_ignored_row(
        &mut self,
        id: LocalId,
        row: &Placed,
    ) -> Result<bool, Fatal> {
        if self.ignoring.is_empty() {
            return Ok(false);
        }
        let Some(path) = self.path_of_row(id)? else { return Ok(false) };
        Ok(self.ignored_here(&path, is_directory(row))?.is_some())
    }

    /// Whether what this disk has of a file of the log is ignored.
    pub(in crate::engine) fn is_asleep(&mut self, id: FileId) -> Result<bool, Fatal> {
        let Some(local) = self.row_of(id)? else { return Ok(false) };
        let Some(row) = self.row(local)? else { return Ok(false) };
        Ok(self.ground_of(local, &row)? == Ground::Asleep)
    }

    /// Whether the log has a thing where things are ignored.
    fn is_hidden(&mut self, id: FileId, record: &Record) -> Result<bool, Fatal> {
        if self.ignoring.is_empty() {
            return Ok(false);
        }
        let Some(path) = self.index.path_of(id)? else { return Ok(false) };
        Ok(self.ignored_in_log(&path, record.body == Body::Directory)?.is_some())
    }

    /// Before a row is compared: whether that is all, because it is ignored.
    pub(in crate::engine) fn settle_ignored(
        &mut self,
        id: LocalId,
        row: &Placed,
    ) -> Result<bool, Fatal> {
        match self.ground_of(id, row)? {
            Ground::Counts => return Ok(false),
            Ground::Stray => self.set_row(id, None)?,
            Ground::MovedAway => self.vanished(id)?,
            Ground::Asleep => {
                self.outbox.remove(id);
                self.guard.forget(id);
                self.data.remove(id);
                self.held.remove(&id);
                self.limbo.remove(&id);
                self.refused_rows.remove(&id);
                self.cancel_offer(id);
                if let Some(base) = &row.base {
                    self.suspects.remove(&base.id);
                    let is_over = row.seen.is_none() && self.index.record(base.id)?.is_none();
                    if is_over {
                        self.set_row(id, None)?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Whether what was seen at a path is ignored there.
    pub(in crate::engine) fn is_to_be_ignored(
        &mut self,
        path: &RelPath,
        seen: &observation::Seen,
    ) -> Result<bool, Fatal> {
        if self.ignoring.is_empty() {
            return Ok(false);
        }
        if !matches!(seen, observation::Seen::Gone | observation::Seen::ParentGone) {
            let is_dir = matches!(seen, observation::Seen::Directory(_));
            return Ok(self.ignored_here(path, is_dir)?.is_some());
        }
        // Nobody knows what it was but its row.
        let Some(id) = self.resolve_local(path)? else { return Ok(false) };
        let Some(row) = self.row(id)? else { return Ok(false) };
        self.is_ignored_row(id, &row)
    }

    /// A look at a path that is ignored: what was known there as something that counts is gone.
    pub(in crate::engine) fn saw_ignored(&mut self, path: &RelPath) -> Result<(), Fatal> {
        let Some((directory, name)) = path.split() else { return Ok(()) };
        let Some(parent) = self.resolve_local(&directory)? else { return Ok(()) };
        self.try_kept(parent)?;
        let Some((id, row)) = self.row_at(parent, &name)? else { return Ok(()) };
        if !self.is_ignored_row(id, &row)? {
            return self.vanished(id);
        }
        if self.ground_of(id, &row)? == Ground::Counts { Ok(()) } else { self.settle(id) }
    }

    /// Something was seen in a directory that is here only for what is ignored in it.
    pub(in crate::engine) fn try_kept(&mut self, id: LocalId) -> Result<(), Fatal> {
        if self.ignoring.kept.remove(&id)
            && let Some(base) = self.row(id)?.and_then(|row| row.base)
        {
            self.todo.insert(base.id);
        }
        Ok(())
    }

    /// Whether a directory holds nothing but what is ignored, so that it stays on this disk alone
    /// when the log has deleted it (trap T12).
    pub(in crate::engine) fn holds_only_ignored(
        &mut self,
        id: LocalId,
        row: &Placed,
    ) -> Result<bool, Fatal> {
        if self.ignoring.is_empty() {
            return Ok(false);
        }
        let Some(path) = self.path_of_row(id)? else { return Ok(false) };
        let below = self.dir(row.parent).and_then(|dir| dir.open_dir(&row.name));
        let Ok(below) = below else { return Ok(false) };
        for name in names_in(&below)? {
            let Ok(stat) = below.stat(&name) else { return Ok(false) };
            let is_dir = stat.kind == Kind::Directory;
            if self.ignored_here(&path.join(&name), is_dir)?.is_some() {
                continue;
            }
            let there = self.row_at(id, &name)?;
            if !there.is_some_and(|(there, _)| self.ignoring.kept.contains(&there)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether what hinders placing is ignored: then nothing but the user's hand helps.
    pub(in crate::engine) fn is_ignored_in_the_way(
        &mut self,
        error: &FolderError,
        parent: LocalId,
        name: &Name,
    ) -> Result<bool, Fatal> {
        if self.ignoring.is_empty() {
            return Ok(false);
        }
        match error {
            FolderError::Exists(_) => {
                let Some(path) = self.path_of_row(parent)? else { return Ok(false) };
                let stat = self.dir(parent).and_then(|dir| dir.stat(name));
                let Ok(stat) = stat else { return Ok(false) };
                let is_dir = stat.kind == Kind::Directory;
                Ok(self.ignored_here(&path.join(name), is_dir)?.is_some())
            }
            FolderError::NotEmpty(_) => match self.row_at(parent, name)? {
                Some((id, row)) => self.holds_only_ignored(id, &row),
                None => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// Notes a directory that stays for what is ignored in it.
    pub(in crate::engine) fn keep_for_ignored(&mut self, id: LocalId) {
        self.ignoring.kept.insert(id);
    }

    /// A row is gone.
    pub(in crate::engine) fn forget_rules_of(&mut self, id: LocalId) {
        self.ignoring.kept.remove(&id);
        self.ignoring.edited.remove(&id);
    }

    /// Before a thing of the log is placed: what became of it, if a rule has to do with it.
    pub(in crate::engine) fn place_ignored(
        &mut self,
        id: FileId,
        record: Option<&Record>,
        local: Option<LocalId>,
    ) -> Result<Option<Result<(), Why>>, Fatal> {
        if self.ignoring.is_empty() || local == Some(LocalId::ROOT) {
            return Ok(None);
        }
        let row = match local {
            Some(local) => self.row(local)?.map(|row| (local, row)),
            None => None,
        };
        let is_ignored = match &row {
            Some((local, row)) => self.is_ignored_row(*local, row)?,
            None => false,
        };
        let is_hidden = match record {
            Some(record) => self.is_hidden(id, record)?,
            None => false,
        };
        match (record, row) {
            (Some(record), None) if is_hidden => {
                // Its bytes may be nowhere else.
                if let Body::File { content, .. } = record.body
                    && let Some(data) = self.incoming.take(id, content)
                {
                    self.keep_bytes(content, &data);
                }
                Ok(Some(Ok(())))
            }
            (_, Some(_)) if is_ignored && (is_hidden || record.is_none()) => Ok(Some(Ok(()))),
            (Some(record), Some((local, row))) if is_hidden => {
                self.hide(local, row, record).map(Some)
            }
            (Some(_), Some((local, mut row))) if is_ignored => {
                if matches!(self.actual(&row)?, Actual::Unread) {
                    // Nobody looks at it there: it stays, and what the log has is placed anew.
                    row.base = None;
                    self.set_row(local, Some(&row))?;
                    self.settle(local)?;
                    return Ok(Some(Ok(())));
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The log has moved a thing of this disk to where it is ignored: it goes there too, if that
    /// is possible, and else to history. One that was edited here stays, as a thing of its own.
    fn hide(
        &mut self,
        local: LocalId,
        mut row: Placed,
        record: &Record,
    ) -> Result<Result<(), Why>, Fatal> {
        let actual = match self.decided(local, &row)? {
            Ok(Some(actual)) => actual,
            Ok(None) => {
                self.set_row(local, None)?;
                return Ok(Ok(()));
            }
            Err(why) => return Ok(Err(why)),
        };
        let agreed = self.agreed_of(record);
        match reconcile(Some(&agreed), row.base.as_ref(), Some(&actual)) {
            Decision::Place(parts) if parts.place == Part::Change => {}
            Decision::Place(_) => return Ok(Ok(())),
            _ => {
                self.settle(local)?;
                return Ok(Ok(()));
            }
        }
        if let Some(parent) = self.row_of(record.parent)?
            && self.row(parent)?.is_some_and(|row| row.seen.is_some())
            && self.relocate(local, record)?.is_ok()
        {
            return Ok(Ok(()));
        }
        if row.base.as_ref().is_some_and(|base| base.view.body == actual.body) {
            return self.take_away(local);
        }
        row.base = None;
        self.set_row(local, Some(&row))?;
        self.settle(local)?;
        Ok(Ok(()))
    }

    /// All that the log has below a directory, deepest first, if it is ignored: who deletes the
    /// directory deletes that with it, or it could never be deleted. Every folder keeps its own.
    pub(in crate::engine) fn ignored_below(
        &mut self,
        dir: FileId,
        limit: usize,
    ) -> Result<Vec<(FileId, Record)>, Fatal> {
        let mut found = Vec::new();
        if self.ignoring.is_empty() {
            return Ok(found);
        }
        // Each directory with how far its entries were gone through.
        let mut stack: Vec<(FileId, Option<Record>, Option<Name>)> = vec![(dir, None, None)];
        while let Some((dir, record, after)) = stack.pop() {
            let next = self.index.children(dir, after.as_ref(), 1)?.pop();
            let Some((name, id)) = next else {
                found.extend(record.map(|record| (dir, record)));
                continue;
            };
            stack.push((dir, record, Some(name)));
            let Some(record) = self.index.record(id)? else { continue };
            if !self.is_hidden(id, &record)? {
                continue;
            }
            match record.body {
                Body::Directory => stack.push((id, Some(record), None)),
                _ => found.push((id, record)),
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }
}

/// Whether a row is of a directory, as far as rules ask.
pub(super) fn is_directory(row: &Placed) -> bool {
    match (&row.seen, &row.base) {
        (Some(seen), _) => seen.stat.kind == Kind::Directory,
        (None, Some(base)) => base.view.body == Body::Directory,
        (None, None) => false,
    }
}
