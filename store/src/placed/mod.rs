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
}

impl Seen {
    /// The attributes as the log keeps them: no set-id or sticky bits on files, no times of
    /// directories (placing a child changes them), no mode of symlinks.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let (mode, mtime) = mode_and_time(&self.stat);
        Attributes { mode, mtime, owner: self.owner.clone() }
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
