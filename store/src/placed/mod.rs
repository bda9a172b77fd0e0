//! The second picture: this disk as this node last saw it, and what of it the log agrees with.
//!
//! Each thing on the disk has a row under a number of its own ([`LocalId`]), from the moment that
//! it is first seen, whether the log knows it or not. The rows are a tree of their own, so that a
//! hint's path is always resolved as the disk has it, and a directory moves by one row. A row's
//! [`Base`] is what disk and log last had in common; without one, the log has yet to hear of it.
//!
//! No device number is kept: it changes over reboots.

pub mod journal;
mod tables;

use serde::{Deserialize, Serialize};

pub use tables::{ReadTables, Tables};

use crate::content_id::ContentId;
use crate::folder::{Kind, Stat};
use crate::name::Name;
use crate::owner::Owner;
use crate::reconcile::Base;
use crate::record::{Attributes, Body};
use crate::time::Time;
use crate::xattr::Xattrs;

/// A thing on this disk: this node's own number for it, never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LocalId(u64);

impl LocalId {
    /// The folder itself.
    pub const ROOT: Self = Self(0);
    /// The directory outside the folder where displaced things wait: for their last writer to
    /// close them, for their proposal, or for their new name to become free.
    pub const QUARANTINE: Self = Self(1);
    /// The first number for a thing in the folder.
    pub const FIRST: Self = Self(16);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// From the number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }
}

/// What was seen at a place, and when nothing was read of it, that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What `statx` said.
    pub stat: Stat,
    /// What it holds; `None` for a file whose bytes were not read since they changed.
    pub body: Option<Body>,
    /// Whose it is, in the words of the log: as it was placed, whatever numbers that came to here,
    /// until the numbers change; then as this host calls them. `None` where owners are not kept,
    /// or where the log had none and the thing became the daemon's own.
    pub owner: Option<Owner>,
    /// What users attached to it, as far as the log can hold it.
    pub xattrs: Xattrs,
    /// What this disk could not hold of the attributes with which it was placed, if there is any.
    pub shortfall: Option<Box<Shortfall>>,
}

/// Attributes of the log that a disk could not hold (a mode on FAT, attributes of users on NFS, a
/// time that is finer than its own): as long as it shows what it made of them, they are unchanged,
/// and are not proposed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// What was to be set.
    wanted: Attributes,
    /// What came of it.
    made: Attributes,
}

impl Seen {
    /// The attributes as the log keeps them: no set-id or sticky bits on files, no times of
    /// directories (placing a child changes them), no mode of symlinks. What the disk could not
    /// hold counts as held while it stays as the disk made it.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let shown = self.shown();
        let Some(Shortfall { wanted, made }) = self.shortfall.as_deref() else { return shown };
        Attributes {
            mode: if shown.mode == made.mode { wanted.mode } else { shown.mode },
            mtime: if shown.mtime == made.mtime { wanted.mtime } else { shown.mtime },
            owner: shown.owner,
            // One by one: the change of one is not the removal of another that does not fit.
            xattrs: wanted.xattrs.with_changes(&made.xattrs, &shown.xattrs),
        }
    }

    /// The attributes as the disk shows them.
    fn shown(&self) -> Attributes {
        let (mode, mtime) = mode_and_time(&self.stat);
        Attributes { mode, mtime, owner: self.owner.clone(), xattrs: self.xattrs.clone() }
    }

    /// This with what users attached to it, if that was looked at.
    #[must_use]
    pub fn with(self, xattrs: Option<Xattrs>) -> Self {
        match xattrs {
            Some(xattrs) => Self { xattrs, ..self },
            None => self,
        }
    }

    /// This, just placed with these attributes: where they differ the disk could not hold them.
    #[must_use]
    pub fn placed_with(mut self, wanted: &Attributes) -> Self {
        let shown = self.shown();
        // What it has besides was attached by a user meanwhile.
        let xattrs = wanted.xattrs.also_in(&shown.xattrs);
        let made = Attributes { xattrs, ..shown };
        let wanted = Attributes { owner: made.owner.clone(), ..wanted.clone() };
        self.shortfall = (made != wanted).then(|| Box::new(Shortfall { wanted, made }));
        self
    }

    /// Whether the disk holds all of the attributes with which this was placed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shortfall.is_none()
    }
}

/// Mode and time of a stat as the log keeps them.
#[must_use]
pub fn mode_and_time(stat: &Stat) -> (u16, Time) {
    match stat.kind {
        Kind::Directory => (stat.masked_mode(), Time::default()),
        Kind::Symlink => (0o777, stat.mtime),
        Kind::File | Kind::Special => (stat.masked_mode(), stat.mtime),
    }
}

/// One thing on this disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The directory that holds it, as this disk has it.
    pub parent: LocalId,
    /// Its name there.
    pub name: Name,
    /// What was last seen there; `None` once it vanished and until that is settled.
    pub seen: Option<Seen>,
    /// What disk and log last had in common.
    pub base: Option<Base>,
    /// Of a thing that vanished: what the breaker for mass deletions made of it, if that has to
    /// outlive this process.
    pub hold: Option<Hold>,
}

/// What the breaker for mass deletions, or a person, made of a thing that vanished (trap T20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// It went together with too many others: a person decides.
    Held(HoldNote),
    /// A person approved of it: the deletion is proposed whatever goes with it.
    Approved,
}

/// Which hold a vanished thing belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldNote {
    /// The number of the hold on this node, from 1; used again once no hold is open.
    pub number: u32,
    /// When it was first held, by the wall clock, milliseconds since 1970: for people.
    pub since_ms: u64,
}

impl Placed {
    /// As it is kept: only what vanished, and is known to the log, can be held.
    #[must_use]
    pub fn without_idle_hold(mut self) -> Self {
        if self.seen.is_some() || self.base.is_none() {
            self.hold = None;
        }
        self
    }

    /// The content that the disk holds, as far as known.
    #[must_use]
    pub fn content(&self) -> Option<ContentId> {
        match self.seen.as_ref()?.body.as_ref()? {
            Body::File { content, .. } => Some(*content),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mode: u16, mtime: i64, note: &[u8]) -> Seen {
        let mut xattrs = Xattrs::default();
        if !note.is_empty() {
            xattrs.push(b"note".to_vec(), note.to_vec()).unwrap();
        }
        let time = Time { secs: mtime, nanos: 0 };
        let stat = Stat {
            kind: Kind::Directory,
            ino: 1,
            btime: Time::default(),
            size: 0,
            mtime: time,
            ctime: time,
            mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            dev: 0,
        };
        Seen { stat, body: Some(Body::Directory), owner: None, xattrs, shortfall: None }
    }

    fn file(mode: u16, mtime: i64, note: &[u8]) -> Seen {
        let directory = seen(mode, mtime, note);
        Seen { stat: Stat { kind: Kind::File, ..directory.stat }, ..directory }
    }

    /// Trap T14: what a disk cannot hold is noted, and not proposed back; a change by a user is.
    #[test]
    fn what_a_disk_made_of_attributes_counts_as_what_was_wanted() {
        let wanted = file(0o640, 7, b"mine").attributes();
        let made = file(0o755, 6, b"").placed_with(&wanted);
        assert!(!made.is_whole());
        assert_eq!(made.attributes(), wanted);
        let looked_at = |mode, mtime, note| Seen {
            shortfall: made.shortfall.clone(),
            ..file(mode, mtime, note)
        };
        assert_eq!(looked_at(0o755, 6, b"").attributes(), wanted, "however often it is looked at");
        let touched = Attributes { mtime: Time { secs: 9, nanos: 0 }, ..wanted.clone() };
        assert_eq!(looked_at(0o755, 9, b"").attributes(), touched, "the time alone");
        let moded = Attributes { mode: 0o700, ..wanted.clone() };
        assert_eq!(looked_at(0o700, 6, b"").attributes(), moded, "the mode alone");
        let whole = file(0o640, 7, b"mine").placed_with(&wanted);
        assert!(whole.is_whole() && whole.attributes() == wanted);
    }

    /// Trap T14: who changes one attribute did not take away another that the disk has no room for.
    #[test]
    fn an_attribute_that_does_not_fit_outlives_the_change_of_another() {
        let mut wanted = file(0o644, 7, b"mine").attributes();
        wanted.xattrs.push(b"too-long".to_vec(), b"value".to_vec()).unwrap();
        let made = file(0o644, 7, b"mine").placed_with(&wanted);
        let edited = Seen { shortfall: made.shortfall, ..file(0o644, 7, b"other") };
        let xattrs = edited.attributes().xattrs;
        assert_eq!(
            (xattrs.get(b"note"), xattrs.get(b"too-long")),
            (Some(&b"other"[..]), Some(&b"value"[..]))
        );
    }

    /// Trap T14: as above for a directory, whose time is never compared.
    #[test]
    fn a_mode_that_a_disk_cannot_hold_is_not_proposed_for_a_directory() {
        let wanted = seen(0o2770, 0, b"").attributes();
        let made = seen(0o755, 12, b"").placed_with(&wanted);
        assert_eq!(made.attributes(), wanted);
        let later = Seen { shortfall: made.shortfall, ..seen(0o755, 99, b"") };
        assert_eq!(later.attributes(), wanted, "a child was placed since");
    }
}
