//! From what the log decided to what the folder shows.
//!
//! Exchange first, look after: the new thing is made in staging, then one system call swaps it
//! with what stands at the name, and only then we look at what came out. What was expected goes
//! to history; anything else is a user's edit, safe in our hands, and is proposed. There is no
//! moment at which a look could be too old (traps T10, T12).
//!
//! One thread exposes, in log order; a thing that cannot be placed yet (its bytes are on their
//! way, a path is blocked, an edit of this disk is undecided) is overtaken by the rest.

use super::quarantine::evicted;
use std::ops::Bound::{Excluded, Unbounded};

use super::rows::{Actual, place_in_log};
use super::stage::{Staged, displaced_name};
use super::startup::names_in;
use super::{Engine, Fatal};
use crate::content_id::ContentId;
use crate::folder::{Dir, FolderError, Kind, Stat};
use crate::name::{Name, RelPath};
use crate::placed::{LocalId, Placed, Seen};
use crate::reconcile::{Agreed, Base, Decision, Part, Parts, View, reconcile};
use crate::record::{Body, FileId, Record};
use crate::xattr::Xattrs;

/// Things placed before the engine looks at its other inputs again.
const PLACED_PER_TURN_MAX: usize = 256;
/// Things tried again in one go.
const RETRIED_MAX: usize = 256;
/// Directories that may have to be made for one file.
const PARENTS_MAX: usize = 2048;

/// Why a thing cannot be placed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Why {
    /// Its bytes are on their way.
    Content(ContentId),
    /// An edit of this disk goes first; its outcome brings this back.
    Undecided,
    /// A large file of the same repository goes first.
    Together,
    /// The file system says no.
    Blocked(FolderError),
}

/// A step that works, or a reason to wait; only the index can really fail.
pub(super) type Step<T> = Result<Result<T, Why>, Fatal>;

/// The value, or out of the function with the reason to wait.
macro_rules! ready {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(why) => return Ok(Err(why)),
        }
    };
}

macro_rules! step {
    ($result:expr) => {
        ready!($result?)
    };
}

impl Engine {
    /// Places what can be placed, in log order, up to a bound a turn.
    pub(super) fn place_all(&mut self) -> Result<(), Fatal> {
        if !self.may_place() {
            return Ok(());
        }
        for id in self.todo.first(PLACED_PER_TURN_MAX) {
            if self.is_short_of_space() {
                return Ok(());
            }
            self.todo.take(id);
            self.try_place(id)?;
        }
        self.flush_journal()
    }

    /// Tries again what had to wait.
    pub(super) fn retry_stuck(&mut self) -> Result<(), Fatal> {
        if !self.may_place() {
            return Ok(());
        }
        // Those that came last get their turn too, however many there are.
        let from = self.retried.take().map_or(Unbounded, Excluded);
        let rest = self.stuck.range((from, Unbounded));
        let again: Vec<_> = rest.map(|(id, _)| *id).take(RETRIED_MAX).collect();
        if again.len() == RETRIED_MAX {
            self.retried = again.last().copied();
        }
        for id in again {
            if self.is_short_of_space() {
                return Ok(());
            }
            self.try_place(id)?;
        }
        self.flush_journal()
    }

    fn try_place(&mut self, id: FileId) -> Result<(), Fatal> {
        let placed =
            if self.waits_for_content(id)? { Err(Why::Together) } else { self.place_file(id)? };
        self.comes_in(id, placed.as_ref().err())?;
        match placed {
            Ok(()) => {
                self.stuck.remove(&id);
                self.todo.done(id);
                self.incoming.remove(id);
            }
            Err(why) => {
                // Tried again ten times a second: only what is new is said.
                if let Why::Blocked(error) = &why
                    && self.stuck.get(&id) != Some(&why)
                    && self.may_say()
                {
                    log::info!("event=blocked path=\"{}\" error=\"{error}\"", error.path());
                }
                self.todo.waits(id);
                self.stuck.insert(id, why);
            }
        }
        Ok(())
    }

    fn place_file(&mut self, id: FileId) -> Step<()> {
        let (record, local) = (self.index.record(id)?, self.row_of(id)?);
        if let Some(done) = self.place_ignored(id, record.as_ref(), local)? {
            return Ok(done);
        }
        match (record, local) {
            (None, None) => Ok(Ok(())),
            (None, Some(local)) => self.take_away(local),
            (Some(record), None) => self.place_new(id, &record),
            (Some(record), Some(local)) => self.bring(local, id, &record),
        }
    }

    /// Brings a thing that is on this disk to what the log says.
    fn bring(&mut self, local: LocalId, id: FileId, record: &Record) -> Step<()> {
        if local == LocalId::ROOT {
            return Ok(Ok(()));
        }
        let Some(mut row) = self.row(local)? else { return Ok(Ok(())) };
        if row.parent == LocalId::QUARANTINE && !Self::is_displaced(&row) && row.seen.is_some() {
            // Whatever it holds by now: only in the folder can that be read and brought to the others.
            if self.is_in_flight(local) {
                return Ok(Err(Why::Undecided));
            }
            step!(self.relocate(local, record));
            self.settle(local)?;
            let Some(back) = self.row(local)? else { return Ok(Ok(())) };
            row = back;
        }
        let actual = step!(self.decided(local, &row));
        let agreed = self.agreed_of(record);
        match reconcile(Some(&agreed), row.base.as_ref(), actual.as_ref()) {
            Decision::Place(parts) if row.seen.is_some() => {
                self.bring_parts(local, id, record, parts)
            }
            Decision::Place(_) => {
                // It vanished here while it was changed elsewhere: it comes back.
                self.set_row(local, None)?;
                self.place_new(id, record)
            }
            _ => {
                self.settle(local)?;
                Ok(Ok(()))
            }
        }
    }

    /// How the thing of a row is on this disk, `None` if it is gone; nothing is placed over what is not
    /// known or decided yet.
    pub(super) fn decided(&mut self, local: LocalId, row: &Placed) -> Step<Option<View>> {
        if self.is_in_flight(local) || self.outbox.contains(local) {
            return Ok(Err(Why::Undecided));
        }
        match self.actual(row)? {
            Actual::Known(view) => Ok(Ok(Some(view))),
            Actual::Gone => Ok(Ok(None)),
            Actual::Unread => {
                self.settle(local)?;
                Ok(Err(Why::Undecided))
            }
        }
    }

    fn bring_parts(
        &mut self,
        local: LocalId,
        id: FileId,
        record: &Record,
        parts: Parts,
    ) -> Step<()> {
        if parts.place == Part::Change {
            step!(self.relocate(local, record));
        }
        if parts.content == Part::Change {
            step!(self.exchange(local, id, record));
        } else if parts.attributes == Part::Change {
            step!(self.set_attributes(local, record));
        }
        Ok(Ok(()))
    }

    /// The row of a directory of the log, made on this disk first where it is missing.
    fn directory(&mut self, id: FileId) -> Step<LocalId> {
        let (mut missing, mut at) = (Vec::new(), id);
        let top = loop {
            if let Some(local) = self.row_of(at)?
                && (local == LocalId::ROOT
                    || self.row(local)?.is_some_and(|row| row.seen.is_some()))
            {
                break local;
            }
            let Some(record) = self.index.record(at)? else { return Ok(Err(Why::Undecided)) };
            if missing.len() >= PARENTS_MAX {
                return Ok(Err(Why::Undecided));
            }
            missing.push(at);
            at = record.parent;
        };
        if missing.is_empty() {
            return Ok(Ok(top));
        }
        for id in missing.into_iter().rev() {
            match self.row_of(id)? {
                Some(local) if self.guard.is_held(local) => step!(self.revive(local, id)),
                _ => step!(self.place_file(id)),
            }
        }
        let made = self.row_of(id)?;
        Ok(made.ok_or(Why::Undecided))
    }

    fn place_new(&mut self, id: FileId, record: &Record) -> Step<()> {
        let parent = step!(self.directory(record.parent));
        let dir = ready!(self.dir_step(parent));
        if let Some(joined) = step!(self.free_name(parent, &record.name, Some((id, record)))) {
            return self.join_directory(joined, id, record);
        }
        let local = self.new_local();
        self.expose_new(local, (parent, &dir), id, record)
    }

    /// Puts a thing where nothing stands, for this row.
    fn expose_new(
        &mut self,
        local: LocalId,
        (parent, dir): (LocalId, &Dir),
        id: FileId,
        record: &Record,
    ) -> Step<()> {
        let staged = ready!(self.stage_any(id, record));
        let row = self.new_row(parent, id, record, &staged);
        step!(self.note_intent(local, &row));
        match self.staging.rename_no_replace(&staged.name, dir, &record.name) {
            Ok(()) => {
                let made = self.exposed_now(&staged, record);
                self.placed_at(local, row, dir, made)
            }
            Err(error) => self.not_exposed(&staged, error, parent, &record.name),
        }
    }

    /// A directory whose deletion is held is needed: something below it was edited or made
    /// elsewhere. That beats its deletion, whatever becomes of the others.
    fn revive(&mut self, local: LocalId, id: FileId) -> Step<()> {
        let Some(record) = self.index.record(id)? else { return Ok(Err(Why::Undecided)) };
        let Some(parent) = self.row_of(record.parent)? else { return Ok(Err(Why::Undecided)) };
        let dir = ready!(self.dir_step(parent));
        self.guard.forget(local);
        self.expose_new(local, (parent, &dir), id, &record)
    }

    /// Records what was just exposed, as the disk shows it.
    fn placed_at(&mut self, local: LocalId, mut row: Placed, dir: &Dir, made: Stat) -> Step<()> {
        // Exposing moved its ctime. If another inode is there by now, a hint is on its way.
        let stat = dir.stat(&row.name).ok().filter(|stat| stat.same_content_hint(&made));
        if let (Some(seen), Some(stat)) = (&mut row.seen, stat) {
            let mut as_made = Seen { stat: made, ..seen.clone() };
            if let Some(base) = &row.base {
                as_made = as_made.placed_with(&base.view.attributes);
            }
            *seen = self.seen(stat, as_made.body.clone(), Some(&as_made));
        }
        self.unsynced.insert(local);
        self.placed_count += 1;
        self.set_row(local, Some(&row))?;
        self.rules_moved(&row);
        self.settle_touched(local, &row)?;
        Ok(Ok(()))
    }

    /// Attributes were changed by a user while a thing was being placed: that is an edit.
    fn settle_touched(&mut self, local: LocalId, row: &Placed) -> Result<(), Fatal> {
        match (&row.seen, &row.base) {
            (Some(seen), Some(base)) if seen.attributes() != base.view.attributes => {
                self.settle(local)
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that a name is free for a thing of the log. `Some` is a directory that is there
    /// already and that the new one may be.
    fn free_name(
        &mut self,
        parent: LocalId,
        name: &Name,
        wanted: Option<(FileId, &Record)>,
    ) -> Step<Option<LocalId>> {
        let Some((other, row)) = self.row_at(parent, name)? else { return Ok(Ok(None)) };
        let both_directories = wanted.is_some_and(|(_, record)| record.body == Body::Directory)
            && row.seen.as_ref().is_some_and(|seen| seen.stat.kind == Kind::Directory);
        if self.is_in_flight(other) {
            return Ok(Err(Why::Undecided));
        }
        if self.is_ignored_row(other, &row)? {
            let path = self.path_of_row(other)?.unwrap_or_default();
            return Ok(Err(Why::Blocked(FolderError::Exists(path))));
        }
        let Some(base) = &row.base else {
            if row.seen.is_none() {
                // Gone for disk and log; only what stood below is not settled yet.
                return Ok(Ok(None));
            }
            return Ok(if both_directories { Ok(Some(other)) } else { Err(Why::Undecided) });
        };
        if self.outbox.contains(other) || self.guard.waits(other) {
            return Ok(Err(Why::Undecided));
        }
        if row.seen.is_none() {
            // It vanished and that is settled: nothing stands here.
            self.set_row(other, None)?;
            return Ok(Ok(None));
        }
        if self.index.record(base.id)?.is_some() {
            // The log has it elsewhere: out of the way with it, its own turn will come.
            let id = base.id;
            step!(self.evict(other, row));
            self.todo.insert(id);
            return Ok(Ok(None));
        }
        if both_directories {
            return Ok(Ok(Some(other)));
        }
        step!(self.take_away(other));
        Ok(Ok(None))
    }

    fn join_directory(&mut self, local: LocalId, id: FileId, record: &Record) -> Step<()> {
        let Some(mut row) = self.row(local)? else { return Ok(Ok(())) };
        // The mode that the directory has here counts as a change of what the log says: nothing
        // tells which of the two is older, and the user's must not be taken away.
        let Agreed { view, version } = self.agreed_of(record);
        row.base = Some(Base { id, view, version });
        self.outbox.remove(local);
        self.set_row(local, Some(&row))?;
        self.rules_moved(&row);
        self.settle(local)?;
        Ok(Ok(()))
    }

    /// Moves a thing out of the folder until its own name is free: how cycles of renames go.
    fn evict(&mut self, local: LocalId, row: Placed) -> Step<()> {
        let dir = ready!(self.dir_step(row.parent));
        let (parent, old, before) = (row.parent, row.name.clone(), row.clone());
        let name = self.quarantine_name(local, Some(&old));
        let row = evicted(row, name);
        step!(self.note_intent(local, &row));
        if let Err(error) = dir.rename_no_replace(&old, &self.quarantine, &row.name) {
            return self.examine_and_wait(error, parent, &old);
        }
        if was_another((&self.quarantine, &row.name), (&dir, &before)) {
            self.ask_examine(parent, &old)?;
            return Ok(Err(Why::Undecided));
        }
        self.set_row(local, Some(&row))?;
        Ok(Ok(()))
    }

    pub(super) fn relocate(&mut self, local: LocalId, record: &Record) -> Step<()> {
        let Some(mut row) = self.row(local)? else { return Ok(Ok(())) };
        let parent = step!(self.directory(record.parent));
        let to = ready!(self.dir_step(parent));
        if (parent, &record.name) != (row.parent, &row.name) {
            if step!(self.free_name(parent, &record.name, None)).is_some() {
                return Ok(Err(Why::Undecided));
            }
            let Some(current) = self.row(local)? else { return Ok(Ok(())) };
            row = current;
            if self.is_no_directory(row.parent)? {
                // It went with its directory, and nobody told.
                self.children_vanish(row.parent)?;
                return Ok(Err(Why::Undecided));
            }
            let from = ready!(self.dir_step(row.parent));
            let mut moved = row.clone();
            moved.parent = parent;
            moved.name = record.name.clone();
            moved.base = row.base.clone().map(|base| with_place(base, record));
            step!(self.note_intent(local, &moved));
            if let Err(error) = from.rename_no_replace(&row.name, &to, &record.name) {
                self.ask_examine(row.parent, &row.name)?;
                return self.examine_and_wait(error, parent, &record.name);
            }
            if was_another((&to, &record.name), (&from, &row)) {
                self.ask_examine(row.parent, &row.name)?;
                return Ok(Err(Why::Undecided));
            }
            row = moved;
        }
        row.base = row.base.map(|base| with_place(base, record));
        let now = to.stat(&row.name).ok();
        if let (Some(seen), Some(stat)) = (&mut row.seen, now) {
            // Another inode, or other bytes, moved along: an edit; it is read like any other.
            let same = seen.stat.same_content_hint(&stat);
            let body = seen.body.clone().filter(|_| same);
            // So may what a user attached meanwhile, of which only the change time told until now.
            let xattrs = self.look_at_xattrs(parent, &row.name);
            *seen = self.seen(stat, body, Some(&seen.clone())).with(xattrs);
        }
        self.unsynced.insert(local);
        self.set_row(local, Some(&row))?;
        self.rules_moved(&row);
        if row.seen.as_ref().is_some_and(|seen| seen.body.is_none()) {
            self.settle(local)?;
            return Ok(Err(Why::Undecided));
        }
        self.settle_touched(local, &row)?;
        Ok(Ok(()))
    }

    /// New content at a name that holds an older version.
    fn exchange(&mut self, local: LocalId, id: FileId, record: &Record) -> Step<()> {
        let Some(row) = self.row(local)? else { return Ok(Ok(())) };
        let (Some(old_seen), Some(old_base)) = (row.seen.clone(), row.base.clone()) else {
            return Ok(Ok(()));
        };
        let dir = ready!(self.dir_step(row.parent));
        let mut staged = ready!(self.stage_any(id, record));
        let (name, of) = (&staged.name, self.properties(&record.attributes));
        let known = &old_seen.xattrs;
        match self.staging.inherit(name, of, &dir, &row.name, &old_seen.stat, known) {
            Ok(inherited) => {
                if let Some(ids) = inherited.owner {
                    (staged.stat.uid, staged.stat.gid) = (ids.uid, ids.gid);
                }
                staged.has_users_attributes = inherited.has_users_attributes;
            }
            Err(error) => return self.not_exposed(&staged, error, row.parent, &row.name),
        }
        let new = Placed {
            parent: row.parent,
            name: row.name.clone(),
            ..self.new_row(row.parent, id, record, &staged)
        };
        step!(self.note_intent(local, &new));
        if let Err(error) = self.staging.exchange(&staged.name, &dir, &row.name) {
            return self.not_exposed(&staged, error, row.parent, &row.name);
        }
        let out = match self.staging.stat(&staged.name) {
            Ok(out) => out,
            Err(error) => return Ok(Err(Why::Blocked(error))),
        };
        let was = new.base.as_ref().map(|base| base.view.place.clone());
        let displaced = staged.name.clone();
        let expected = match out.kind {
            // What it holds moves its time; whether it may go is for rmdir to say.
            Kind::Directory => old_seen.stat.same_inode(&out),
            _ => old_seen.stat.same_content_hint(&out),
        };
        if expected && out.kind == Kind::Directory && self.staging.rmdir(&displaced).is_err() {
            // Something in it that the log does not know: it stays until that is settled.
            // RACE: between the two exchanges the name shows the new thing for some microseconds.
            if self.staging.exchange(&displaced, &dir, &row.name).is_ok() {
                return self.not_exposed(
                    &staged,
                    FolderError::NotEmpty(dir.path().join(&row.name)),
                    row.parent,
                    &row.name,
                );
            }
        }
        let made = self.exposed_now(&staged, record);
        step!(self.placed_at(local, new, &dir, made));
        if !(expected && out.kind == Kind::Directory) {
            let body = if expected { old_seen.body.clone() } else { None };
            let out = self.seen(out, body, Some(&old_seen));
            let base = Base {
                view: View { place: was.unwrap_or(old_base.view.place), ..old_base.view },
                ..old_base
            };
            self.retire(&displaced, &out, Some(base))?;
        }
        Ok(Ok(()))
    }

    fn set_attributes(&mut self, local: LocalId, record: &Record) -> Step<()> {
        let Some(mut row) = self.row(local)? else { return Ok(Ok(())) };
        let Some(seen) = row.seen.clone() else { return Ok(Ok(())) };
        let dir = ready!(self.dir_step(row.parent));
        let wanted = self.agreed_of(record).view.attributes;
        let properties = self.properties(&wanted);
        let xattrs = match change_xattrs(&dir, &row.name, &seen, &wanted.xattrs) {
            Ok(xattrs) => xattrs,
            Err(error) => return self.examine_and_wait(error, row.parent, &row.name),
        };
        // RACE: a write between the look and the setting loses its time, by which it would be told;
        // its own event makes the watcher read the bytes.
        let stat = match dir.attach(&row.name, &seen.stat, properties) {
            Ok(stat) => stat,
            Err(error) => return self.examine_and_wait(error, row.parent, &row.name),
        };
        let seen = Seen { stat, owner: wanted.owner.clone(), xattrs, ..seen }.placed_with(&wanted);
        if !seen.is_whole() {
            log::debug!("event=attributes_differ name=\"{}\"", row.name);
        }
        row.seen = Some(seen);
        if let Some(base) = &mut row.base {
            // Also where the disk could not hold all of it: the row says what it made of it, so
            // that it is not tried for ever, and not proposed back.
            base.view.attributes = wanted.clone();
            base.version = record.version.clone();
        }
        self.set_row(local, Some(&row))?;
        Ok(Ok(()))
    }

    /// Takes off the disk what the log has deleted.
    pub(super) fn take_away(&mut self, local: LocalId) -> Step<()> {
        let Some(row) = self.row(local)? else { return Ok(Ok(())) };
        let Some(actual) = step!(self.decided(local, &row)) else {
            self.set_row(local, None)?;
            return Ok(Ok(()));
        };
        if reconcile(None, row.base.as_ref(), Some(&actual)) != Decision::Remove {
            self.settle(local)?;
            return Ok(Ok(()));
        }
        let dir = ready!(self.dir_step(row.parent));
        if actual.body == Body::Directory {
            return match dir.rmdir(&row.name) {
                Ok(()) | Err(FolderError::Absent(_)) => {
                    self.children_vanish(local)?;
                    self.set_row(local, None)?;
                    Ok(Ok(()))
                }
                // Something in it that the log does not know: it will be proposed, and the
                // directory with it.
                Err(FolderError::NotEmpty(_)) if row.parent == LocalId::QUARANTINE => {
                    // Nobody lists what is in there: back with it into the folder, as a new one.
                    self.surface(local, row)?;
                    Ok(Ok(()))
                }
                Err(error @ FolderError::NotEmpty(_)) => {
                    if self.holds_only_ignored(local, &row)? {
                        self.keep_for_ignored(local);
                        return Ok(Ok(()));
                    }
                    let waits = self.examine_and_wait(error, row.parent, &row.name)?;
                    if waits == Err(Why::Undecided) {
                        self.ask_rescan(local)?;
                    }
                    Ok(waits)
                }
                Err(error) => self.examine_and_wait(error, row.parent, &row.name),
            };
        }
        // The name says whose it was, should this process end before it has a home.
        let out = displaced_name(&row);
        if let Err(error) = dir.rename_no_replace(&row.name, &self.staging, &out) {
            return self.examine_and_wait(error, row.parent, &row.name);
        }
        self.set_row(local, None)?;
        let (Some(seen), Ok(stat)) = (row.seen, self.staging.stat(&out)) else { return Ok(Ok(())) };
        let body = seen.body.clone().filter(|_| seen.stat.same_content_hint(&stat));
        let seen = Seen { body: None, ..seen };
        let seen = self.seen(stat, body, Some(&seen));
        self.retire(&out, &seen, row.base)?;
        Ok(Ok(()))
    }

    fn examine_and_wait(&mut self, error: FolderError, parent: LocalId, name: &Name) -> Step<()> {
        if self.is_ignored_in_the_way(&error, parent, name)? {
            return Ok(Err(Why::Blocked(error)));
        }
        if let Some(path) = self.special_in_the_way(&error, parent, name) {
            return Ok(Err(Why::Blocked(FolderError::WrongKind(path))));
        }
        match error {
            FolderError::Absent(_)
            | FolderError::Exists(_)
            | FolderError::NotDirectory(_)
            | FolderError::WrongKind(_)
            | FolderError::Unstable(_)
            | FolderError::NotEmpty(_) => {
                self.dirs.remove(&parent);
                self.ask_examine(parent, name)?;
                Ok(Err(Why::Undecided))
            }
            other => Ok(Err(Why::Blocked(other))),
        }
    }

    /// A pipe, socket or device that has the name, or is left in the directory that should go:
    /// those are never touched, so nothing but the user's hand helps.
    fn special_in_the_way(
        &mut self,
        error: &FolderError,
        parent: LocalId,
        name: &Name,
    ) -> Option<RelPath> {
        let dir = self.dir(parent).ok()?;
        match error {
            FolderError::Exists(_) => {
                let stat = dir.stat(name).ok()?;
                (stat.kind == Kind::Special).then(|| dir.path().join(name))
            }
            FolderError::NotEmpty(_) => {
                let below = dir.open_dir(name).ok()?;
                let names = names_in(&below).ok()?;
                let special = names
                    .into_iter()
                    .find(|name| below.stat(name).is_ok_and(|stat| stat.kind == Kind::Special));
                special.map(|name| below.path().join(&name))
            }
            _ => None,
        }
    }

    fn not_exposed(
        &mut self,
        staged: &Staged,
        error: FolderError,
        parent: LocalId,
        name: &Name,
    ) -> Step<()> {
        self.unstage(staged);
        self.examine_and_wait(error, parent, name)
    }

    /// The row of a thing that stands as the log has it.
    fn new_row(&self, parent: LocalId, id: FileId, record: &Record, staged: &Staged) -> Placed {
        let Agreed { view, version } = self.agreed_of(record);
        let (stat, owner) = (staged.stat, view.attributes.owner.clone());
        let xattrs = self.staged_xattrs(staged, &record.attributes.xattrs);
        let seen = Seen { stat, body: Some(record.body.clone()), owner, xattrs, shortfall: None };
        Placed {
            parent,
            name: record.name.clone(),
            seen: Some(seen.placed_with(&view.attributes)),
            base: Some(Base { id, view, version }),
            hold: None,
        }
    }

    fn dir_step(&mut self, id: LocalId) -> Result<std::sync::Arc<Dir>, Why> {
        self.dir(id).map_err(|error| match error {
            FolderError::Absent(_) | FolderError::NotDirectory(_) => Why::Undecided,
            other => Why::Blocked(other),
        })
    }
}

/// Brings the attributes of users of a thing to what the log says, as far as this disk holds
/// them. Returns what it holds of those. Before the mode: it may be one that forbids it.
fn change_xattrs(
    dir: &Dir,
    name: &Name,
    seen: &Seen,
    wanted: &Xattrs,
) -> Result<Xattrs, FolderError> {
    if seen.xattrs == *wanted {
        return Ok(wanted.clone());
    }
    dir.change_user_attributes(name, &seen.stat, &seen.xattrs, wanted)?;
    match dir.user_attributes(name) {
        Ok(found) => Ok(wanted.also_in(&found.kept)),
        // It may not be looked at: nothing that was not there before is known to be there now.
        Err(FolderError::Blocked { .. }) => Ok(wanted.also_in(&seen.xattrs)),
        Err(error) => Err(error),
    }
}

fn with_place(mut base: Base, record: &Record) -> Base {
    base.view.place = place_in_log(record);
    base
}

/// Whether a rename by name took another directory than its row says, or one in place of a file: a user
/// exchanged the two, and that is not told yet. It is put back; what is in it belongs to another row.
fn was_another((to, now): (&Dir, &Name), (from, row): (&Dir, &Placed)) -> bool {
    let (Ok(stat), Some(seen)) = (to.stat(now), &row.seen) else { return false };
    let are_files = [stat.kind, seen.stat.kind].iter().all(|kind| *kind != Kind::Directory);
    if are_files || seen.stat.same_inode(&stat) {
        return false;
    }
    // RACE: if the name was taken within the microsecond, the watcher tells of it at the new one.
    to.rename_no_replace(now, from, &row.name).is_ok()
}
