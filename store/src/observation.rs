//! What was seen in the folder and beside it: the watcher fills it, the store compares it.
//!
//! Nothing here is an order of events. An observation says what stood at a path when it was
//! looked at, and a hint why somebody looked. The same thing may be observed many times.

use rustix::io::Errno;

use crate::content_id::ContentId;
use crate::folder::{Kind, Stat};
use crate::name::{Name, RelPath};

/// Which watched tree a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The user's folder.
    Folder,
    /// A single directory beside it, by the number it was given: quarantine.
    Beside(u8),
}

/// Why somebody looked: a set of reasons, gathered since the last look.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Hint(u16);

impl Hint {
    /// The name appeared (`IN_CREATE`).
    pub const CREATED: Self = Self(1);
    /// Bytes were written, or a writer closed it: the content must be read, never dismissed.
    pub const WROTE: Self = Self(1 << 1);
    /// It was renamed to this name.
    pub const MOVED_HERE: Self = Self(1 << 2);
    /// The name went away: deleted, or renamed to elsewhere. It may be back by now.
    pub const WENT: Self = Self(1 << 3);
    /// Mode, owner, times or link count changed.
    pub const ATTRIBUTES: Self = Self(1 << 4);
    /// A listing found the name.
    pub const SCANNED: Self = Self(1 << 5);
    /// A walk of a directory that had just appeared found it: its writer's events may be lost.
    pub const FRESH: Self = Self(1 << 6);
    /// The store asked.
    pub const ASKED: Self = Self(1 << 7);
    /// Both halves of the rename are inside the folder: the other half is, or was, observed too.
    pub const PAIRED: Self = Self(1 << 8);
    /// Still open for writing after the longest wait: a snapshot that may be in the middle of
    /// something. Another observation follows once it is closed.
    pub const HOT: Self = Self(1 << 9);

    /// Whether any of `reasons` is in it.
    #[must_use]
    pub const fn has(self, reasons: Self) -> bool {
        self.0 & reasons.0 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// This without those.
    #[must_use]
    pub const fn without(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }

    /// The reasons that both have.
    #[must_use]
    pub const fn only(self, those: Self) -> Self {
        Self(self.0 & those.0)
    }

    /// Whether the content must be read rather than guessed from `statx(2)`.
    #[must_use]
    pub const fn wants_content(self) -> bool {
        self.has(Self::WROTE.with(Self::FRESH).with(Self::ASKED).with(Self::HOT))
    }
}

impl std::fmt::Debug for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Self::CREATED, "created"),
            (Self::WROTE, "wrote"),
            (Self::MOVED_HERE, "moved-here"),
            (Self::WENT, "went"),
            (Self::ATTRIBUTES, "attributes"),
            (Self::SCANNED, "scanned"),
            (Self::FRESH, "fresh"),
            (Self::ASKED, "asked"),
            (Self::PAIRED, "paired"),
            (Self::HOT, "hot"),
        ];
        f.debug_set()
            .entries(names.iter().filter(|(hint, _)| self.has(*hint)).map(|(_, name)| *name))
            .finish()
    }
}

/// What stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing, in a directory that exists.
    Gone,
    /// A directory; its entries are observations of their own.
    Directory(Stat),
    /// A symbolic link.
    Symlink {
        /// The link itself.
        stat: Stat,
        /// Its text.
        target: Vec<u8>,
    },
    /// A file of at most [`crate::content_id::INLINE_BYTES_MAX`], nobody writing, read in one
    /// stable piece: `stat` and `data` belong together.
    Small {
        /// The look that belongs to the bytes.
        stat: Stat,
        /// SHA-256 of `data`.
        content: ContentId,
        /// All bytes.
        data: Vec<u8>,
    },
    /// A larger file whose content must be hashed (elsewhere); nobody was writing.
    Large(Stat),
    /// A file of which nobody says that it was written: looked at, not read. Ask for it to be
    /// examined if `stat` is not what was expected.
    StatOnly(Stat),
    /// Somebody has the file open for writing. It is observed again when that one is done.
    Busy(Stat),
    /// A pipe, socket, device, or another file system.
    Special(Stat),
    /// It is there and may not be read.
    Unreadable(Errno),
    /// The directory that should hold it is not there, or is no directory.
    ParentGone,
}

impl Seen {
    /// What `statx(2)` said, if anything is there.
    #[must_use]
    pub fn stat(&self) -> Option<&Stat> {
        match self {
            Self::Directory(stat)
            | Self::Symlink { stat, .. }
            | Self::Small { stat, .. }
            | Self::Large(stat)
            | Self::StatOnly(stat)
            | Self::Busy(stat)
            | Self::Special(stat) => Some(stat),
            Self::Gone | Self::Unreadable(_) | Self::ParentGone => None,
        }
    }
}

/// One look at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which tree.
    pub place: Place,
    /// Where in it.
    pub path: RelPath,
    /// What stood there.
    pub seen: Seen,
    /// Why somebody looked.
    pub hint: Hint,
}

impl Observation {
    /// One of the looks of [`Sighting::Looked`], by itself.
    #[must_use]
    pub fn in_passing(dir: &RelPath, name: &Name, stat: Stat) -> Self {
        let seen = match stat.kind {
            Kind::Special => Seen::Special(stat),
            _ => Seen::StatOnly(stat),
        };
        Self { place: Place::Folder, path: dir.join(name), seen, hint: Hint::SCANNED }
    }
}

/// The answer to a flush: where it ended, and what it could not wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Which flush, as it was asked for.
    pub id: u64,
    /// Files that changed before and that somebody has open for writing.
    pub open_count: usize,
    /// Some of them.
    pub open: Vec<RelPath>,
}

/// Everything that the watcher tells the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A look at one path.
    Saw(Observation),
    /// What a walk found in one directory of the folder that is no directory itself, and of which
    /// nobody says that it changed: looked at, not read, as [`Seen::StatOnly`] and with
    /// [`Hint::SCANNED`]. At most a few hundred at a time, so that a folder of a million files is
    /// handed on in bounded pieces.
    Looked {
        /// The directory; it was told of before.
        dir: RelPath,
        /// Names in it, unordered, and what stands there.
        looks: Vec<(Name, Stat)>,
    },
    /// A whole directory of the folder was listed, by a walk or because it appeared. A name that
    /// the store has placed there and that is not in `names` may have vanished, or may have come
    /// after the listing: have it examined. Looks at the names themselves come on their own,
    /// before or after this.
    Listed {
        /// The directory.
        dir: RelPath,
        /// All its names, unordered.
        names: Vec<Name>,
    },
    /// A walk could not list a directory: nothing below it may be taken as vanished.
    Unlisted {
        /// The directory.
        dir: RelPath,
        /// What the kernel said.
        errno: Errno,
    },
    /// A walk of this subtree begins: events were lost, or somebody asked.
    WalkStarted(RelPath),
    /// A walk of this subtree ended and everything that it found was handed on.
    WalkDone {
        /// Where it began.
        top: RelPath,
        /// Whether every directory could be listed. A deletion is concluded only then.
        complete: bool,
    },
    /// All that was known to be gone when the last of these was told has been told, and no walk
    /// is under way: deletions may be weighed as a whole (trap T20). Follows everything from which
    /// a deletion may be concluded.
    Calm,
    /// The folder was moved, deleted or unmounted: stop placing, sound the alarm (trap T20).
    RootGone,
    /// It is where its path leads again, the very same one; a walk of all of it follows.
    RootBack,
    /// What was written before a flush was asked for has all been handed on before this (trap T28).
    Flushed(Flushed),
}

impl Sighting {
    /// The looks at single paths that it consists of.
    #[must_use]
    pub fn into_looks(self) -> Vec<Observation> {
        match self {
            Self::Saw(look) => vec![look],
            Self::Looked { dir, looks } => looks
                .into_iter()
                .map(|(name, stat)| Observation::in_passing(&dir, &name, stat))
                .collect(),
            _ => Vec::new(),
        }
    }
}
