//! New contents and attributes for files that are there.

use super::namespace::{Namespace, not_root};
use super::{Stop, refuse};
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::history_rows::Reason;
use crate::index::IndexError;
use crate::name::PATH_BYTES_MAX;
use crate::op::{At, Incoming, Keep, Outcome, Refusal};
use crate::owner::Owner;
use crate::record::{Attributes, Body, FileId, Record, VersionVector};
use crate::time::Time;
use crate::xattr::Xattrs;

/// Permission bits of files: set-id and sticky bits are never given to them.
const FILE_MODE_MASK: u16 = 0o777;
/// Of directories: set-group-id and sticky are what shared folders live on.
const DIRECTORY_MODE_MASK: u16 = 0o3777;
/// Symlinks have no mode of their own.
const SYMLINK_MODE: u16 = 0o777;
const NANOS_MAX: u32 = 999_999_999;

impl Namespace<'_> {
    pub(super) fn replace(
        &mut self,
        id: FileId,
        (base, keep): (&VersionVector, Keep),
        at: &At,
        new: &Incoming,
    ) -> Result<Outcome, Stop> {
        not_root(id)?;
        check(new, INLINE_BYTES_MAX)?;
        let version = base.bumped(self.stamp.origin, self.stamp.index);
        let Some(record) = self.record(id)? else {
            // Deleted meanwhile: an edit beats a deletion.
            return self.create_version(at, new, version);
        };
        if record.body == new.body {
            let version = record.version.joined(base);
            let attributes = keep.over(&record.attributes, &new.attributes);
            return Ok(self.merge(id, &record, &attributes, version)?);
        }
        if *base == record.version && self.may_become(id, &record, &new.body)? {
            let new = &kept(new, keep, &record);
            match record.conflict_of {
                // Not edited under its own name: its author has it still where it lost.
                Some(winner) if at.name != record.name => self.follow(winner, id, new, &version)?,
                _ => self.overwrite(id, &record, new, version)?,
            }
            return Ok(Outcome::Done(id));
        }
        let line = record.losing.iter().find(|line| line.version == *base);
        if let Some(copy) = line.map(|line| line.copy)
            && let Some(before) = self.record(copy)?
            && self.may_become(copy, &before, &new.body)?
        {
            self.follow(id, copy, &kept(new, keep, &before), &version)?;
            return Ok(Outcome::Conflict { copy });
        }
        let mut loser = Record { version, ..self.fresh_from(record.parent, record.name, new) };
        if loser.attributes.owner.is_none() {
            loser.attributes.owner = record.attributes.owner;
        }
        self.lose(id, loser)
    }

    /// The next edit of a line that lost goes to its copy.
    fn follow(
        &mut self,
        winner: FileId,
        copy: FileId,
        new: &Incoming,
        version: &VersionVector,
    ) -> Result<(), IndexError> {
        let before = self.linked(copy)?;
        self.set_content(copy, &before, before.clone(), new, version.clone())?;
        self.move_line(winner, copy, version)
    }

    /// A new content for a file that was named itself: a copy is a file of its own from then on.
    pub(super) fn overwrite(
        &mut self,
        id: FileId,
        before: &Record,
        new: &Incoming,
        version: VersionVector,
    ) -> Result<(), IndexError> {
        let mut after = before.clone();
        self.end_line(id, &mut after)?;
        self.set_content(id, before, after, new, version)
    }

    pub(super) fn set_content(
        &mut self,
        id: FileId,
        before: &Record,
        mut after: Record,
        new: &Incoming,
        version: VersionVector,
    ) -> Result<(), IndexError> {
        if before.body != new.body {
            self.displace(id, before, Reason::Replaced)?;
        }
        after.body = new.body.clone();
        after.attributes = normal(&new.body, &new.attributes, before.attributes.owner.as_ref());
        after.version = version;
        after.author = self.stamp.origin;
        self.update(id, before, after)
    }

    /// The content is there already: only the attributes, and what the version has seen, may move.
    pub(super) fn merge(
        &mut self,
        id: FileId,
        before: &Record,
        attributes: &Attributes,
        version: VersionVector,
    ) -> Result<Outcome, IndexError> {
        let attributes = normal(&before.body, attributes, before.attributes.owner.as_ref());
        // A directory's version changes only at its creation.
        let version = if before.body == Body::Directory { before.version.clone() } else { version };
        if attributes != before.attributes || version != before.version {
            // A copy's line is at the version of the copy.
            let moved = before.conflict_of.filter(|_| version != before.version);
            let after = Record { attributes, version: version.clone(), ..before.clone() };
            self.update(id, before, after)?;
            if let Some(winner) = moved {
                self.move_line(winner, id, &version)?;
            }
        }
        Ok(Outcome::Merged(id))
    }

    pub(super) fn set_attributes(
        &mut self,
        id: FileId,
        attributes: &Attributes,
        keep: Keep,
    ) -> Result<Outcome, Stop> {
        not_root(id)?;
        let Some(before) = self.record(id)? else { return Ok(Outcome::Nothing) };
        let attributes = &keep.over(&before.attributes, attributes);
        let attributes = normal(&before.body, attributes, before.attributes.owner.as_ref());
        if attributes == before.attributes {
            return Ok(Outcome::Merged(id));
        }
        self.update(id, &before, Record { attributes, ..before.clone() })?;
        Ok(Outcome::Done(id))
    }

    /// Whether this may turn into that: anything but a directory that holds something.
    fn may_become(&self, id: FileId, record: &Record, body: &Body) -> Result<bool, IndexError> {
        let stays = record.body != Body::Directory || *body == Body::Directory;
        Ok(stays || self.is_empty(id)?)
    }

    /// A record for what comes in, begun by this change.
    pub(super) fn fresh_from(
        &self,
        parent: FileId,
        name: crate::name::Name,
        new: &Incoming,
    ) -> Record {
        self.fresh(parent, name, new.body.clone(), normal(&new.body, &new.attributes, None))
    }
}

/// What comes in, with those attributes of what it replaces that it did not change. Its bytes were
/// checked.
pub(super) fn kept(new: &Incoming, keep: Keep, before: &Record) -> Incoming {
    let attributes = keep.over(&before.attributes, &new.attributes);
    Incoming { body: new.body.clone(), attributes, inline: None }
}

/// Refuses what makes no sense, and bytes that are not the content that they are said to be: a
/// peer is not believed.
pub(super) fn check(new: &Incoming, inline_bytes_max: u64) -> Result<(), Stop> {
    let sound = match (&new.body, &new.inline) {
        (Body::File { size, content }, Some(bytes)) => {
            *size <= inline_bytes_max
                && u64::try_from(bytes.len()) == Ok(*size)
                && ContentId::of(bytes) == *content
        }
        (body, None) => is_body(body),
        (Body::Directory | Body::Symlink { .. }, Some(_)) => false,
    };
    if sound { Ok(()) } else { refuse(Refusal::Malformed) }
}

/// Whether it can be at all: a symlink says something, in as many bytes as the kernel takes.
fn is_body(body: &Body) -> bool {
    match body {
        Body::Symlink { target } => {
            !target.is_empty() && target.len() <= PATH_BYTES_MAX && !target.contains(&0)
        }
        Body::File { .. } | Body::Directory => true,
    }
}

/// Whether a record may hold this.
pub(crate) fn is_kept_so(body: &Body, attributes: &Attributes) -> bool {
    is_body(body) && normal(body, attributes, None) == *attributes
}

/// The attributes as they are kept. A node that does not look at owners says none: then it stays
/// what it was.
fn normal(body: &Body, attributes: &Attributes, owner_before: Option<&Owner>) -> Attributes {
    let owner = attributes.owner.as_ref().or(owner_before).cloned();
    let (mode, mtime, xattrs) = (attributes.mode, attributes.mtime, attributes.xattrs.clone());
    let mtime = Time { nanos: mtime.nanos.min(NANOS_MAX), ..mtime };
    match body {
        Body::File { .. } => Attributes { mode: mode & FILE_MODE_MASK, mtime, owner, xattrs },
        Body::Symlink { .. } => {
            Attributes { mode: SYMLINK_MODE, mtime, owner, xattrs: Xattrs::default() }
        }
        Body::Directory => {
            let mode = mode & DIRECTORY_MODE_MASK;
            Attributes { mode, mtime: Time::default(), owner, xattrs }
        }
    }
}
