//! What stands in the folder and is not replicated, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rustix::io::Errno;

use crate::ignored::IGNORE_BYTES_MAX;
use crate::name::{Name, RelPath};
use crate::op::Refusal;

/// Why a thing is not replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// It is no file, directory or symlink.
    Special,
    /// Another file system is mounted there.
    Mounted,
    /// It cannot be read.
    Unreadable(Errno),
    /// It is a directory that cannot be listed, whatever a look at itself says.
    Unlisted(Errno),
    /// Its path is longer than the log takes.
    TooLong,
    /// It is a file of rules, and longer than one may be.
    LongRules,
    /// The log took it and said that it cannot be.
    Refused(Refusal),
}

impl LeftOut {
    /// What a look that failed with this means.
    pub(super) fn of(errno: Errno) -> Self {
        match errno {
            Errno::XDEV => Self::Mounted,
            Errno::NAMETOOLONG => Self::TooLong,
            other => Self::Unreadable(other),
        }
    }

    /// What a list that failed with this means.
    pub(super) fn of_list(errno: Errno) -> Self {
        match Self::of(errno) {
            Self::Unreadable(errno) => Self::Unlisted(errno),
            other => other,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Special => f.write_str("no file, directory or symlink"),
            Self::Mounted => f.write_str("another file system"),
            Self::Unreadable(errno) => write!(f, "cannot be read: {errno}"),
            Self::Unlisted(errno) => write!(f, "cannot be listed: {errno}"),
            Self::TooLong => f.write_str("its path is too long"),
            Self::LongRules => write!(
                f,
                "longer than {IGNORE_BYTES_MAX} bytes: spread the lines over directories; the \
                 former ones stay in force"
            ),
            Self::Refused(why) => write!(f, "refused: {why:?}"),
        }
    }
}

/// All that is left out.
#[derive(Debug, Default)]
pub(super) struct AllLeftOut(BTreeMap<RelPath, LeftOut>);

impl AllLeftOut {
    /// Whether it is news.
    pub(super) fn insert(&mut self, path: RelPath, why: LeftOut) -> bool {
        self.0.insert(path, why) != Some(why)
    }

    pub(super) fn remove(&mut self, path: &RelPath) {
        self.0.remove(path);
    }

    /// A path was looked at. What is wrong with what a directory holds is for a list to say, or for a
    /// look that is known not to be an old one.
    pub(super) fn looked_at(&mut self, path: &RelPath) {
        if !self.waits_for_list(path) {
            self.0.remove(path);
        }
    }

    /// Whether a thing is left out until it can be listed.
    pub(super) fn waits_for_list(&self, path: &RelPath) -> bool {
        matches!(self.0.get(path), Some(LeftOut::Unlisted(_) | LeftOut::Mounted))
    }

    pub(super) fn retain(&mut self, keeps: impl Fn(&RelPath) -> bool) {
        self.0.retain(|path, _| keeps(path));
    }

    /// A directory has another name, or none any more: what is left out below goes with it. The new
    /// paths.
    pub(super) fn moved(&mut self, from: &RelPath, to: Option<&RelPath>) -> Vec<RelPath> {
        let mut moved = Vec::new();
        for path in paths_below(self.0.range(from..).map(|(path, _)| path), from) {
            let why = self.0.remove(&path);
            if let (Some(why), Some(to)) = (why, to.and_then(|to| path.rebased(from, to))) {
                self.0.insert(to.clone(), why);
                moved.push(to);
            }
        }
        moved
    }

    /// The names of those that are in a directory.
    pub(super) fn names_in(&self, directory: &RelPath) -> Vec<Name> {
        let below = self.0.range(directory..).map(|(path, _)| path);
        let split = paths_below(below, directory).into_iter().filter_map(|path| path.split());
        split.filter(|(parent, _)| parent == directory).map(|(_, name)| name).collect()
    }

    pub(super) fn contains(&self, path: &RelPath) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn get(&self, path: &RelPath) -> Option<LeftOut> {
        self.0.get(path).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RelPath, &LeftOut)> {
        self.0.iter()
    }
}

/// The same for a set of paths.
pub(super) fn moved_below(
    paths: &mut BTreeSet<RelPath>,
    from: &RelPath,
    to: Option<&RelPath>,
) -> Vec<RelPath> {
    let mut moved = Vec::new();
    for path in paths_below(paths.range(from..), from) {
        paths.remove(&path);
        moved.extend(to.and_then(|to| path.rebased(from, to)));
    }
    paths.extend(moved.iter().cloned());
    moved
}

/// Those of the paths, which are ordered and begin at `from`, that lie below it.
fn paths_below<'a>(paths: impl Iterator<Item = &'a RelPath>, from: &RelPath) -> Vec<RelPath> {
    let alike = paths.take_while(|path| path.as_bytes().starts_with(from.as_bytes()));
    alike.filter(|path| *path != from && path.is_within(from)).cloned().collect()
}
