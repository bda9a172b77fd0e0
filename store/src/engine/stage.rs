//! Before the exposing and after it: making the new thing in staging, and finding a home for what
//! came out.

use std::collections::{BTreeMap, HashSet};

use pickbox_raft::core::ids::NodeId;

use super::place::Why;
use super::ports::{Outgoing, WatchAsk};
use super::{Engine, Fatal};
use crate::content_id::ContentId;
use crate::contents::ContentCommand;
use crate::folder::{Dir, FolderError, Kind, NewFile, Properties, Stat};
use crate::name::Name;
use crate::placed::{LocalId, Placed};
use crate::record::{Body, FileId, Record};
use crate::xattr::Xattrs;

/// A thing in staging, about to be exposed.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) name: Name,
    pub(super) stat: Stat,
    /// The content, if it came from the content worker and not from here.
    pub(super) taken: Option<ContentId>,
    /// The handle of a directory.
    directory: Option<Dir>,
    /// Whether it has attributes of users that the log did not give it.
    pub(super) has_users_attributes: bool,
}

impl Staged {
    fn new(name: Name, stat: Stat) -> Self {
        Self { name, stat, taken: None, directory: None, has_users_attributes: false }
    }
}

/// The right of a directory's owner to write to it: `rename(2)` wants it from a daemon that is not
/// root, since the directory's own `..` changes.
const OWNER_WRITES: u16 = 0o200;

/// Bytes of small contents that came with entries and are not placed yet, bounded: what does not
/// fit goes to staging.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: BTreeMap<FileId, (ContentId, Vec<u8>)>,
    total: usize,
    /// What went to staging after a power cut, and may turn out not to be needed.
    in_doubt: HashSet<ContentId>,
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

    pub(super) fn get(&self, id: FileId, content: ContentId) -> Option<&[u8]> {
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

    /// Whether bytes wait to be placed.
    pub(super) fn has_any(&self) -> bool {
        !self.bytes.is_empty() || !self.in_doubt.is_empty()
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Vec<(ContentId, Vec<u8>)> {
        self.total = 0;
        std::mem::take(&mut self.bytes).into_values().collect()
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
        let in_doubt = self.is_in_doubt();
        if !in_doubt
            && let Some(local) = self.row_of(id)?
            && self.row(local)?.and_then(|row| row.content()) == Some(*content)
        {
            return Ok(());
        }
        if let Some(data) = self.incoming.insert(id, *content, data.to_vec()) {
            self.stash(*content, &data);
            if in_doubt {
                self.incoming.in_doubt.insert(*content);
            }
        }
        Ok(())
    }

    /// Whether a row may say more than the disk holds: after a power cut, until the log is applied
    /// and the suspects are known. If every node was cut, what the entries carry is nowhere else.
    fn is_in_doubt(&self) -> bool {
        self.cut.is_some() && !self.is_live()
    }

    /// The disk holds what the log says of a file: bytes that were kept for it go.
    pub(super) fn is_as_agreed(&mut self, id: FileId, body: Option<&Body>) {
        self.suspects.remove(&id);
        if self.is_in_doubt() {
            return;
        }
        self.incoming.remove(id);
        if let Some(Body::File { content, .. }) = body
            && self.incoming.in_doubt.remove(content)
            && self.staging.unlink(&whole_name(*content)).is_ok()
        {
            self.out.push_back(Outgoing::Content(ContentCommand::Adopted(*content)));
        }
    }

    /// Writes small bytes to staging under their hash, where [`Self::stage`] finds them.
    pub(super) fn stash(&mut self, content: ContentId, data: &[u8]) {
        let name = whole_name(content);
        let (properties, xattrs) = (Properties::OURS, Xattrs::NONE);
        let new = NewFile { bytes: data, properties, xattrs };
        match self.staging.write_new(&name, new) {
            Ok(_) | Err(FolderError::Exists(_)) => self.unsynced.insert_all(),
            Err(error) if self.may_say() => {
                log::warn!("event=stash_failed content={content} error=\"{error}\"");
            }
            Err(_) => {}
        }
    }

    /// Makes what a record says, ready to be exposed; directories too.
    pub(super) fn stage_any(&mut self, id: FileId, record: &Record) -> Result<Staged, Why> {
        if record.body != Body::Directory {
            return self.stage(id, record);
        }
        let name = staged_file_name(id, record, None);
        let properties = self.properties(&record.attributes);
        let made = match self.staging.mkdir(&name, 0o700) {
            Err(FolderError::Exists(_)) => {
                // Left by an attempt that could not be exposed.
                self.staging.rmdir(&name).and_then(|()| self.staging.mkdir(&name, 0o700))
            }
            other => other,
        };
        made.and_then(|dir| {
            dir.set_own_user_attributes(&record.attributes.xattrs)?;
            let writable = properties.mode | OWNER_WRITES;
            let stat = dir.attach_self(Properties { mode: writable, ..properties })?;
            Ok(Staged { directory: Some(dir), ..Staged::new(name, stat) })
        })
        .map_err(Why::Blocked)
    }

    /// What was staged is exposed. Returns how it is now: a directory gets the rest of its mode.
    pub(super) fn exposed_now(&mut self, staged: &Staged, record: &Record) -> Stat {
        if let Some(content) = staged.taken {
            // The content worker has no more to do with it.
            self.out.push_back(Outgoing::Content(ContentCommand::Adopted(content)));
        }
        let Some(directory) = &staged.directory else { return staged.stat };
        if record.attributes.mode & OWNER_WRITES != 0 {
            return staged.stat;
        }
        let owner = Some(staged.stat.ids());
        let properties = Properties { owner, ..self.properties(&record.attributes) };
        match directory.attach_self(properties) {
            Ok(stat) => stat,
            Err(error) => {
                log::warn!("event=mode_not_set error=\"{error}\"");
                staged.stat
            }
        }
    }

    /// What a thing in staging has of the attributes of users with which it was made.
    pub(super) fn staged_xattrs(&self, staged: &Staged, wanted: &Xattrs) -> Xattrs {
        if wanted.is_empty() && !staged.has_users_attributes {
            return Xattrs::default();
        }
        self.staging.user_attributes(&staged.name).unwrap_or_default().kept
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
        let properties = self.properties(&record.attributes);
        made.and_then(|()| self.staging.attach_ours(&name, properties))
            .map(|stat| Staged::new(name, stat))
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
        let properties = self.properties(&record.attributes);
        let xattrs = &record.attributes.xattrs;
        if let Some(bytes) = self.incoming.get(id, content) {
            return self.write_staged(name, NewFile { bytes, properties, xattrs });
        }
        if size == 0 {
            return self.write_staged(name, NewFile { bytes: &[], properties, xattrs });
        }
        let whole = whole_name(content);
        if self.staging.stat(&whole).is_ok_and(|stat| stat.size == size) {
            match self.take_staged(&whole, name, (properties, xattrs), content) {
                // RACE: the content worker let go of it in between (an offer that was settled, say): it
                // is had from elsewhere, and nothing is blocked.
                Err(Why::Blocked(FolderError::Absent(_))) => {}
                other => return other,
            }
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
        made.map(|stat| Staged::new(name, stat)).map_err(Why::Blocked)
    }

    fn take_staged(
        &self,
        whole: &Name,
        name: Name,
        (properties, xattrs): (Properties, &Xattrs),
        content: ContentId,
    ) -> Result<Staged, Why> {
        let made = self.staging.open_read(whole).and_then(|file| {
            let staging = &self.staging;
            staging.rename_no_replace(whole, staging, &name).or_else(|error| match error {
                FolderError::Exists(_) => staging
                    .unlink(&name)
                    .and_then(|()| staging.rename_no_replace(whole, staging, &name)),
                other => Err(other),
            })?;
            staging.finish_file(&name, &file, properties, xattrs)
        });
        made.map(|stat| Staged { taken: Some(content), ..Staged::new(name, stat) })
            .map_err(Why::Blocked)
    }

    /// Asks for a content, once: the worker tries on until it has it.
    pub(super) fn fetch(&mut self, content: ContentId, size: u64, record: &Record) {
        self.fetch_from(content, size, vec![record.author]);
    }

    /// Asks for a content of these nodes first, then of all.
    pub(super) fn fetch_from(&mut self, content: ContentId, size: u64, from: Vec<NodeId>) {
        if self.transfers.fetching.insert(content) {
            self.out.push_back(Outgoing::Content(ContentCommand::Fetch { content, size, from }));
        }
    }

    /// Removes what was made in staging and never exposed.
    pub(super) fn unstage(&mut self, staged: &Staged) {
        let removed = match (staged.stat.kind, staged.taken) {
            (Kind::Directory, _) => self.staging.rmdir(&staged.name),
            (_, Some(content)) => {
                // Fetching it again would cost the whole way of it: the next attempt finds it.
                let staging = &self.staging;
                staging.rename_no_replace(&staged.name, staging, &whole_name(content))
            }
            _ => self.staging.unlink(&staged.name),
        };
        if let Err(error) = removed {
            log::debug!("event=unstage_failed error=\"{error}\"");
        }
    }

    /// Small bytes that would otherwise be nowhere but in the log.
    pub(super) fn keep_bytes(&mut self, content: ContentId, data: &[u8]) {
        let name = Name::made(format!("k.{content}"));
        let (properties, xattrs) = (Properties::OURS, Xattrs::NONE);
        let new = NewFile { bytes: data, properties, xattrs };
        match self.staging.write_new(&name, new) {
            Ok(_) | Err(FolderError::Exists(_)) => self.keep_in_history(&name, content),
            Err(error) if self.may_say() => {
                log::warn!("event=history_failed content={content} error=\"{error}\"");
            }
            Err(_) => {}
        }
    }

    pub(super) fn ask_examine(&mut self, parent: LocalId, name: &Name) -> Result<(), Fatal> {
        if let Some(path) = self.path_of_row(parent)? {
            self.ask_watch(WatchAsk::Examine(path.join(name)));
        }
        Ok(())
    }

    pub(super) fn ask_rescan(&mut self, directory: LocalId) -> Result<(), Fatal> {
        if let Some(path) = self.path_of_row(directory)? {
            self.ask_watch(WatchAsk::Rescan(path));
        }
        Ok(())
    }
}

/// What the content worker calls a whole content in staging.
pub(super) fn whole_name(content: ContentId) -> Name {
    Name::made(format!("c.{content}"))
}

/// What a thing is called in staging on its way out of the folder, as [`staged_file_name`]: for
/// a thing that the log never knew, a name that no start takes for one of the log.
pub(super) fn displaced_name(row: &Placed) -> Name {
    let hash = row.content().map_or_else(String::new, |content| content.to_string());
    let short = hash.get(..16).unwrap_or("-");
    match &row.base {
        Some(base) => Name::made(format!("{}.out.{short}", base.id)),
        None => Name::made(format!("out.{short}")),
    }
}

/// The content of which a file in staging has this name.
pub(super) fn content_of_whole(name: &Name) -> Option<ContentId> {
    ContentId::parse_hex(std::str::from_utf8(name.as_bytes()).ok()?.strip_prefix("c.")?)
}

/// What a thing is called in staging: which file, which of its versions, what it should hold.
fn staged_file_name(id: FileId, record: &Record, content: Option<ContentId>) -> Name {
    let hash: String = content.map_or_else(String::new, |content| content.to_string());
    let short = hash.get(..16).unwrap_or("-");
    Name::made(format!("{id}.{}.{short}", record.changed))
}
