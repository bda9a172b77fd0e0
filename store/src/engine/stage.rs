//! Before the exposing and after it: making the new thing in staging, and finding a home for what
//! came out.

use std::collections::HashMap;

use super::place::Why;
use super::ports::{Outgoing, WatchAsk};
use super::startup::names_in;
use super::{Engine, Fatal};
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::contents::ContentCommand;
use crate::folder::{Dir, FolderError, Kind, NewFile, Stat};
use crate::lease::{Lease, open_for_writing};
use crate::name::Name;
use crate::placed::{LocalId, Placed, Seen};
use crate::reconcile::{Base, Place};
use crate::record::{Body, FileId, Record};

/// A thing in staging, about to be exposed.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) name: Name,
    pub(super) stat: Stat,
}

/// Bytes of small contents that came with entries and are not placed yet, bounded: what does not
/// fit goes to staging.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: HashMap<FileId, (ContentId, Vec<u8>)>,
    total: usize,
}

/// Most bytes kept in memory.
const INCOMING_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Incoming {
    fn insert(&mut self, id: FileId, content: ContentId, data: Vec<u8>) -> Option<Vec<u8>> {
        self.remove(id);
        if self.total + data.len() > INCOMING_BYTES_MAX {
            return Some(data);
        }
        self.total += data.len();
        self.bytes.insert(id, (content, data));
        None
    }

    pub(super) fn remove(&mut self, id: FileId) {
        if let Some((_, data)) = self.bytes.remove(&id) {
            self.total -= data.len();
        }
    }

    fn get(&self, id: FileId, content: ContentId) -> Option<&[u8]> {
        let (found, data) = self.bytes.get(&id)?;
        (*found == content).then_some(data.as_slice())
    }

    /// Takes out the bytes of `id` if they are `content`.
    pub(super) fn take(&mut self, id: FileId, content: ContentId) -> Option<Vec<u8>> {
        self.get(id, content)?;
        let (_, data) = self.bytes.remove(&id)?;
        self.total -= data.len();
        Some(data)
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Vec<(ContentId, Vec<u8>)> {
        self.total = 0;
        self.bytes.drain().map(|(_, bytes)| bytes).collect()
    }
}

impl Engine {
    /// Remembers bytes that came with an entry, until they are placed.
    pub(super) fn remember_incoming(
        &mut self,
        id: FileId,
        record: &Record,
        data: &[u8],
    ) -> Result<(), Fatal> {
        let Body::File { content, .. } = &record.body else { return Ok(()) };
        if let Some(local) = self.row_of(id)?
            && self.row(local)?.and_then(|row| row.content()) == Some(*content)
        {
            return Ok(());
        }
        if let Some(data) = self.incoming.insert(id, *content, data.to_vec()) {
            self.stash(*content, &data);
        }
        Ok(())
    }

    /// Writes small bytes to staging under their hash, where [`Self::stage`] finds them.
    pub(super) fn stash(&mut self, content: ContentId, data: &[u8]) {
        let name = whole_name(content);
        let new = NewFile { bytes: data, mode: 0o600, mtime: crate::time::Time::default() };
        match self.staging.write_new(&name, new) {
            Ok(_) | Err(FolderError::Exists(_)) => {}
            Err(error) => log::warn!("event=stash_failed content={content} error=\"{error}\""),
        }
    }

    /// Makes what a record says, ready to be exposed; directories too.
    pub(super) fn stage_any(&mut self, id: FileId, record: &Record) -> Result<Staged, Why> {
        if record.body != Body::Directory {
            return self.stage(id, record);
        }
        let name = staged_file_name(id, record, None);
        self.staging
            .mkdir(&name, record.attributes.mode)
            .and_then(|dir| dir.stat_self())
            .map(|stat| Staged { name, stat })
            .map_err(Why::Blocked)
    }

    /// Makes the file or symlink of a record in staging.
    pub(super) fn stage(&mut self, id: FileId, record: &Record) -> Result<Staged, Why> {
        match &record.body {
            Body::Directory => Err(Why::Undecided),
            Body::Symlink { target } => self.stage_symlink(id, record, target),
            Body::File { content, size } => self.stage_file(id, record, *content, *size),
        }
    }

    fn stage_symlink(&mut self, id: FileId, record: &Record, target: &[u8]) -> Result<Staged, Why> {
        let name = staged_file_name(id, record, None);
        let made = match self.staging.symlink(&name, target) {
            Err(FolderError::Exists(_)) => {
                self.staging.unlink(&name).and_then(|()| self.staging.symlink(&name, target))
            }
            other => other,
        };
        made.and_then(|()| self.staging.set_mtime(&name, record.attributes.mtime))
            .and_then(|()| self.staging.stat(&name))
            .map(|stat| Staged { name, stat })
            .map_err(Why::Blocked)
    }

    fn stage_file(
        &mut self,
        id: FileId,
        record: &Record,
        content: ContentId,
        size: u64,
    ) -> Result<Staged, Why> {
        let name = staged_file_name(id, record, Some(content));
        let attributes = record.attributes;
        if let Some(bytes) = self.incoming.get(id, content) {
            let new = NewFile { bytes, mode: attributes.mode, mtime: attributes.mtime };
            return self.write_staged(name, new);
        }
        if size == 0 {
            let new = NewFile { bytes: &[], mode: attributes.mode, mtime: attributes.mtime };
            return self.write_staged(name, new);
        }
        let whole = whole_name(content);
        if self.staging.stat(&whole).is_ok_and(|stat| stat.size == size) {
            return self.take_staged(&whole, name, record, content);
        }
        self.fetch(content, size, record);
        Err(Why::Content(content))
    }

    fn write_staged(&self, name: Name, new: NewFile<'_>) -> Result<Staged, Why> {
        let made = match self.staging.write_new(&name, new) {
            Err(FolderError::Exists(_)) => {
                // Left by an attempt that could not be exposed: it is remade, not trusted.
                self.staging.unlink(&name).and_then(|()| self.staging.write_new(&name, new))
            }
            other => other,
        };
        made.map(|stat| Staged { name, stat }).map_err(Why::Blocked)
    }

    fn take_staged(
        &mut self,
        whole: &Name,
        name: Name,
        record: &Record,
        content: ContentId,
    ) -> Result<Staged, Why> {
        let attributes = record.attributes;
        let made = self.staging.open_read(whole).and_then(|file| {
            let staging = &self.staging;
            staging.rename_no_replace(whole, staging, &name).or_else(|error| match error {
                FolderError::Exists(_) => staging
                    .unlink(&name)
                    .and_then(|()| staging.rename_no_replace(whole, staging, &name)),
                other => Err(other),
            })?;
            staging.finish_file(&name, &file, attributes.mode, attributes.mtime)
        });
        self.out.push_back(Outgoing::Content(ContentCommand::Adopted(content)));
        made.map(|stat| Staged { name, stat }).map_err(Why::Blocked)
    }

    /// Asks for a content, once: the worker tries on until it has it.
    pub(super) fn fetch(&mut self, content: ContentId, size: u64, record: &Record) {
        if self.fetching.insert(content) {
            let from = vec![record.author];
            self.out.push_back(Outgoing::Content(ContentCommand::Fetch { content, size, from }));
        }
    }

    /// Removes what was made in staging and never exposed.
    pub(super) fn unstage(&mut self, staged: &Staged) {
        let removed = match staged.stat.kind {
            Kind::Directory => self.staging.rmdir(&staged.name),
            _ if staged.stat.size > INLINE_BYTES_MAX => Ok(()),
            _ => self.staging.unlink(&staged.name),
        };
        if let Err(error) = removed {
            log::debug!("event=unstage_failed error=\"{error}\"");
        }
    }

    /// Finds a home for what an exposing displaced, now in staging under `name`. `seen.body` is
    /// known if it is the version that was expected; that goes to history as soon as nobody can
    /// write to it any more. Anything else is an edit, on `base`.
    pub(super) fn retire(
        &mut self,
        name: &Name,
        seen: Seen,
        base: Option<Base>,
    ) -> Result<(), Fatal> {
        match (seen.stat.kind, &seen.body) {
            (Kind::Symlink, _) => {
                if let Err(error) = self.staging.unlink(name) {
                    log::warn!("event=retire_failed error=\"{error}\"");
                }
                return Ok(());
            }
            (Kind::File, Some(Body::File { content, .. }))
                if !may_be_written(&self.staging, name) =>
            {
                self.keep_in_history(name, *content);
                return Ok(());
            }
            _ => {}
        }
        self.quarantine_it(name, seen, base)
    }

    fn keep_in_history(&mut self, name: &Name, content: ContentId) {
        if let Err(error) = self.history.keep(&self.staging, name, content) {
            log::warn!("event=history_failed content={content} error=\"{error}\"");
        }
    }

    /// A displaced thing that somebody still writes to, or that is not what was expected: watched
    /// until it is settled (trap T11).
    fn quarantine_it(&mut self, name: &Name, seen: Seen, base: Option<Base>) -> Result<(), Fatal> {
        let local = self.new_local();
        let kept = self.quarantine_name(local);
        if let Err(error) = self.staging.rename_no_replace(name, &self.quarantine, &kept) {
            log::warn!("event=quarantine_failed error=\"{error}\"");
            return Ok(());
        }
        let row = Placed { parent: LocalId::QUARANTINE, name: kept, seen: Some(seen), base };
        self.set_row(local, Some(&row))?;
        self.quarantined.insert(local, self.now_ms);
        self.settle(local)
    }

    pub(super) fn quarantine_name(&self, local: LocalId) -> Name {
        Name::made(format!("q.{}.{}", self.incarnation, local.get()))
    }

    /// Looks at what waits in quarantine: the version that was expected goes to history once
    /// nobody can write to it.
    pub(super) fn sweep_quarantine(&mut self) -> Result<(), Fatal> {
        let waiting: Vec<_> = self.quarantined.keys().copied().take(64).collect();
        for id in waiting {
            let Some(row) = self.row(id)?.filter(|row| row.parent == LocalId::QUARANTINE) else {
                self.quarantined.remove(&id);
                continue;
            };
            self.sweep_one(id, row)?;
        }
        Ok(())
    }

    pub(super) fn sweep_one(&mut self, id: LocalId, row: Placed) -> Result<(), Fatal> {
        let (Some(seen), Ok(stat)) = (&row.seen, self.quarantine.stat(&row.name)) else {
            if !self.tables()?.children(id, None, 1)?.is_empty() {
                // The log is about to hear what became of them.
                return Ok(());
            }
            self.quarantined.remove(&id);
            return self.set_row(id, None);
        };
        if stat.kind == Kind::Directory {
            return self.sweep_directory(id, row);
        }
        if seen.body.is_none() || !seen.stat.same_content_hint(&stat) {
            return self.read_quarantined(id, row, stat);
        }
        let unchanged =
            row.base.as_ref().is_none_or(|base| Some(&base.view.body) == seen.body.as_ref());
        let primary = match &row.base {
            Some(base) => self.row_of(base.id)? == Some(id),
            None => false,
        };
        if !unchanged || primary || may_be_written(&self.quarantine, &row.name) {
            return Ok(());
        }
        if let Some(Body::File { content, .. }) = &seen.body
            && let Err(error) = self.history.keep(&self.quarantine, &row.name, *content)
        {
            log::warn!("event=history_failed content={content} error=\"{error}\"");
            return Ok(());
        }
        self.quarantined.remove(&id);
        self.set_row(id, None)
    }

    /// A directory out of its place waits for its name to become free; but if another one here
    /// became the same for the log meanwhile, what it holds goes there.
    fn sweep_directory(&mut self, id: LocalId, mut row: Placed) -> Result<(), Fatal> {
        let into = match &row.base {
            Some(base) => self.row_of(base.id)?,
            None => None,
        };
        let is_directory = match into {
            Some(into) => self.is_directory(into)?,
            None => false,
        };
        if into == Some(id) {
            return Ok(());
        }
        let Some(into) = into.filter(|_| is_directory) else { return self.surface(id, row) };
        let (Ok(from), Ok(to)) = (self.quarantine.open_dir(&row.name), self.dir(into)) else {
            return Ok(());
        };
        for name in names_in(&from)? {
            self.hand_over(id, &name, &from, into, &to)?;
        }
        if self.quarantine.rmdir(&row.name).is_err() {
            return Ok(());
        }
        self.children_vanish(id)?;
        row.seen = None;
        self.set_row(id, Some(&row))?;
        self.sweep_one(id, row)
    }

    /// Moves one thing from a displaced directory into the one that stands in for it.
    fn hand_over(
        &mut self,
        directory: LocalId,
        name: &Name,
        from: &Dir,
        into: LocalId,
        to: &Dir,
    ) -> Result<(), Fatal> {
        let known = self.row_at(directory, name)?;
        match from.rename_no_replace(name, to, name) {
            Ok(()) => {
                if let Some((id, mut row)) = known {
                    row.parent = into;
                    self.set_row(id, Some(&row))?;
                }
                self.ask_examine(into, name)
            }
            Err(FolderError::Exists(_)) => match known {
                Some((id, row)) if row.base.is_some() => {
                    let kept = self.quarantine_name(id);
                    if from.rename_no_replace(name, &self.quarantine, &kept).is_ok() {
                        self.set_aside(id, row, kept)?;
                        self.settle(id)?;
                    }
                    Ok(())
                }
                known => {
                    let beside = self.conflict_name(name);
                    if from.rename_no_replace(name, to, &beside).is_ok() {
                        if let Some((id, mut row)) = known {
                            row.parent = into;
                            row.name = beside.clone();
                            self.set_row(id, Some(&row))?;
                        }
                        self.ask_examine(into, &beside)?;
                    }
                    Ok(())
                }
            },
            Err(error) => {
                log::warn!("event=hand_over_failed error=\"{error}\"");
                Ok(())
            }
        }
    }

    /// Notes that a thing of the log is in quarantine until its own name is free.
    pub(super) fn set_aside(
        &mut self,
        id: LocalId,
        mut row: Placed,
        kept: Name,
    ) -> Result<(), Fatal> {
        row.parent = LocalId::QUARANTINE;
        row.name = kept.clone();
        if let Some(base) = &mut row.base {
            base.view.place = Place { parent: None, name: kept };
        }
        self.set_row(id, Some(&row))
    }

    /// The name for what cannot have its own because another thing has it.
    fn conflict_name(&self, name: &Name) -> Name {
        let suffix = format!(".conflict-{}-{}", self.name, self.index.position().index);
        let room = crate::name::NAME_BYTES_MAX.saturating_sub(suffix.len());
        let bytes = name.as_bytes().get(..room).unwrap_or(name.as_bytes());
        Name::new([bytes, suffix.as_bytes()].concat()).unwrap_or_else(|_| name.clone())
    }

    /// Reads a displaced thing whose bytes are not known. A large one is brought back into the
    /// folder under a name of its own, where it is found and replicated like any new file.
    fn read_quarantined(&mut self, id: LocalId, mut row: Placed, stat: Stat) -> Result<(), Fatal> {
        if may_be_written(&self.quarantine, &row.name) && stat.kind == Kind::File {
            return Ok(());
        }
        if stat.kind == Kind::File && stat.size > INLINE_BYTES_MAX {
            return self.surface(id, row);
        }
        let body = match stat.kind {
            Kind::File => match self.quarantine.read_small(&row.name, INLINE_BYTES_MAX) {
                Ok((stat, Some(data))) => {
                    let body = Body::File { size: stat.size, content: ContentId::of(&data) };
                    self.data.insert(id, data);
                    body
                }
                _ => return Ok(()),
            },
            Kind::Symlink => match self.quarantine.read_link(&row.name) {
                Ok((_, target)) => Body::Symlink { target },
                Err(_) => return Ok(()),
            },
            // Directories are swept apart, and nothing special is ever displaced.
            Kind::Directory | Kind::Special => return Ok(()),
        };
        row.seen = Some(Seen { stat, body: Some(body) });
        self.set_row(id, Some(&row))?;
        self.settle(id)
    }

    /// Brings a displaced thing back into the folder under a name of its own, as a new one.
    fn surface(&mut self, id: LocalId, mut row: Placed) -> Result<(), Fatal> {
        let place = row.base.take().map(|base| base.view.place);
        let (parent, name) = match place {
            Some(Place { parent: Some(parent), name }) => {
                (self.row_of(parent)?.unwrap_or(LocalId::ROOT), name)
            }
            Some(Place { parent: None, name }) => (LocalId::ROOT, name),
            None => (LocalId::ROOT, row.name.clone()),
        };
        let name = self.conflict_name(&name);
        let Ok(dir) = self.dir(parent) else { return Ok(()) };
        if self.quarantine.rename_no_replace(&row.name, &dir, &name).is_ok() {
            self.quarantined.remove(&id);
            (row.parent, row.name) = (parent, name);
            self.dirs.remove(&id);
            self.set_row(id, Some(&row))?;
            self.look_again(id)?;
        }
        Ok(())
    }

    fn is_directory(&mut self, id: LocalId) -> Result<bool, Fatal> {
        let seen = self.row(id)?.and_then(|row| row.seen);
        Ok(id == LocalId::ROOT || seen.is_some_and(|seen| seen.stat.kind == Kind::Directory))
    }

    /// Small bytes that would otherwise be nowhere but in the log.
    pub(super) fn keep_bytes(&mut self, content: ContentId, data: &[u8]) {
        let name = Name::made(format!("k.{content}"));
        let new = NewFile { bytes: data, mode: 0o600, mtime: crate::time::Time::default() };
        match self.staging.write_new(&name, new) {
            Ok(_) | Err(FolderError::Exists(_)) => self.keep_in_history(&name, content),
            Err(error) => log::warn!("event=history_failed content={content} error=\"{error}\""),
        }
    }

    pub(super) fn ask_examine(&mut self, parent: LocalId, name: &Name) -> Result<(), Fatal> {
        if let Some(path) = self.path_of_row(parent)? {
            self.out.push_back(Outgoing::Watch(WatchAsk::Examine(path.join(name))));
        }
        Ok(())
    }

    pub(super) fn ask_rescan(&mut self, directory: LocalId) -> Result<(), Fatal> {
        if let Some(path) = self.path_of_row(directory)? {
            self.out.push_back(Outgoing::Watch(WatchAsk::Rescan(path)));
        }
        Ok(())
    }
}

/// What the content worker calls a whole content in staging.
pub(super) fn whole_name(content: ContentId) -> Name {
    Name::made(format!("c.{content}"))
}

/// What a thing is called in staging: which file, which of its versions, what it should hold.
fn staged_file_name(id: FileId, record: &Record, content: Option<ContentId>) -> Name {
    let hash: String = content.map_or_else(String::new, |content| content.to_string());
    let short = hash.get(..16).unwrap_or("-");
    Name::made(format!("{id}.{}.{short}", record.changed))
}

/// Whether a program may still write to a file that has left the folder.
fn may_be_written(dir: &Dir, name: &Name) -> bool {
    match dir.open_read(name) {
        Ok(file) => open_for_writing(&file) == Lease::Busy,
        Err(_) => false,
    }
}
