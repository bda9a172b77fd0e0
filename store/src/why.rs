//! Why a path is as it is: what is known of it, as values, and what the kernel's words mean.
//!
//! The engine gathers the facts, other nodes' engines theirs; `pickbox_admin::why` makes sentences of
//! them. Paths are texts here, as people see them: facts are for reading, nothing is decided by them.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Facts of one kind that a node tells of a path.
pub const REASONS_MAX: usize = 16;
/// Longest text of a fact, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// All that is known of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReport {
    /// The path.
    pub path: String,
    /// The node that was asked.
    pub node: String,
    /// What the log says of it, as far as that node has applied it.
    pub agreed: Option<Agreed>,
    /// Who deleted what was there last, if nothing is there now.
    pub deleted: Option<Deleted>,
    /// How it is on that node.
    pub here: NodeFacts,
    /// How it is on the others, by name; none of those that did not answer in time.
    pub others: Vec<(String, Option<NodeFacts>)>,
}

/// The current version of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// What it is.
    pub thing: Thing,
    /// The node that made this content.
    pub author: String,
    /// The entry that last changed anything of it: name, mode and time too.
    pub changed: u64,
    /// When the content was committed, by its author's clock, in milliseconds since 1970; none if no
    /// earlier version is remembered.
    pub wall_ms: Option<u64>,
    /// When it was modified, in seconds since 1970; none of directories.
    pub mtime: Option<i64>,
    /// Which changes it has seen: for each node, by name, the index of its last one.
    pub version: Vec<(String, u64)>,
}

/// A version in short, the same on every node that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// The entry that made it.
    pub index: u64,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file.
    pub size: u64,
    /// SHA-256 of a file.
    pub sha256: Option<String>,
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, socket or device.
    Special,
}

/// A deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The entry.
    pub index: u64,
    /// The node that deleted it.
    pub author: String,
    /// When, by that node's clock, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// How a path is on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Up to where this node has applied the log.
    pub applied: u64,
    /// Up to where everything stands in its folder.
    pub placed: u64,
    /// What the log has at the path, as far as it is applied there.
    pub version: Option<Thing>,
    /// What stands on the disk.
    pub disk: Disk,
    /// Why it is not in the log, or not in the folder; and what else is to be known.
    pub reasons: Vec<Reason>,
}

/// What stands on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disk {
    /// Nothing.
    Nothing,
    /// What the log has.
    AsAgreed(Stands),
    /// Something else.
    Other(Stands),
    /// It cannot be looked at; the number of the error.
    Unreadable(i32),
}

/// A thing on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stands {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// When it was modified, in seconds since 1970.
    pub mtime: i64,
    /// Its inode's number.
    pub ino: u64,
    /// Its device's number, as `st_dev` has it.
    pub dev: u64,
}

/// A program with a file open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// Why a path is not replicated, or not placed; or what else somebody should know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The node starts: nothing is compared yet.
    Starting,
    /// What keeps the node from placing and proposing anything.
    Standstill(String),
    /// No majority can be reached: what is written waits.
    NoLeader,
    /// The watcher has not told of it yet.
    NotSeen,
    /// It differs from what the watcher told last.
    ChangedSince,
    /// It is to be looked at once more.
    LookedAtAgain,
    /// It left its place a moment ago, perhaps to another.
    MovedAway,
    /// It waits for its turn to be proposed.
    NotProposed,
    /// It was proposed and is not committed yet.
    Proposed,
    /// Its content is on its way to a majority: how far.
    Offered(String),
    /// Programs have it open for writing.
    Open {
        /// Those that are known.
        by: Vec<Program>,
        /// Whether some may not be seen by whoever looked.
        hidden: bool,
    },
    /// A program still writes to what stood there before.
    FormerOpen,
    /// It was deleted here, and the deletion is weighed with what else is.
    Weighed,
    /// Its deletion is held for a decision by people: by which hold.
    Held(String),
    /// A rule says that it is none of Pickbox's business.
    Ignored {
        /// The file with the rule.
        file: String,
        /// Which line of it.
        line: u64,
        /// What that line says.
        pattern: String,
    },
    /// It, or a directory above it, is no file, directory or symlink.
    Special(String),
    /// Another file system is mounted there.
    Mounted(String),
    /// It cannot be read: the number of the error.
    Unreadable(String, i32),
    /// Its path is longer than the log takes.
    TooLong(String),
    /// The log said that it cannot be.
    Refused(String),
    /// It waits for its turn to be placed.
    Placing,
    /// A change made on this node goes first.
    EditFirst,
    /// A large file of the same repository goes first.
    Together,
    /// The file system says no: at which path, and the number of the error.
    Blocked(String, i32),
    /// Its content is not here: why.
    Content(String),
    /// It is a conflict copy of this.
    CopyOf(String),
    /// These are conflict copies of it.
    Copies(Vec<String>),
}

impl NodeFacts {
    /// Brings what another node says within bounds.
    pub fn bound(&mut self) {
        self.reasons.truncate(REASONS_MAX);
        if let Some(sha256) = self.version.as_mut().and_then(|version| version.sha256.as_mut()) {
            cut(sha256);
        }
        for reason in &mut self.reasons {
            match reason {
                Reason::Standstill(text)
                | Reason::Offered(text)
                | Reason::Held(text)
                | Reason::Special(text)
                | Reason::Mounted(text)
                | Reason::Unreadable(text, _)
                | Reason::TooLong(text)
                | Reason::Refused(text)
                | Reason::Blocked(text, _)
                | Reason::Content(text)
                | Reason::CopyOf(text) => cut(text),
                Reason::Ignored { file, pattern, .. } => {
                    cut(file);
                    cut(pattern);
                }
                Reason::Copies(texts) => {
                    texts.truncate(REASONS_MAX);
                    texts.iter_mut().for_each(cut);
                }
                Reason::Open { by, .. } => {
                    by.truncate(REASONS_MAX);
                    for program in by {
                        cut(&mut program.name);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Cuts a text that is too long.
pub(crate) fn cut(text: &mut String) {
    let mut end = TEXT_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// As [`errno_words`], of a number of an error.
#[must_use]
pub fn error_words(number: i32) -> String {
    errno_words(Errno::from_raw_os_error(number))
}

/// What the kernel meant, and what helps.
#[must_use]
pub fn errno_words(errno: Errno) -> String {
    let (what, help) = match errno {
        Errno::PERM => (
            "immutable, or not this daemon's to change",
            "look with lsattr and take an `i` or `a` away by chattr -i -a",
        ),
        Errno::ACCESS => {
            ("the daemon may not write there", "give its user the right, or the files")
        }
        Errno::ROFS => ("the file system is read-only", "mount it writable"),
        Errno::NOSPC => ("no space is left", "free some"),
        Errno::DQUOT => ("the quota is used up", "raise it or free some space"),
        Errno::XDEV => {
            ("another file system is mounted there", "unmount it, or move the path away")
        }
        Errno::NAMETOOLONG => ("the name is too long for this file system", "rename it elsewhere"),
        Errno::ILSEQ => ("this file system cannot hold the name", "rename it elsewhere"),
        Errno::BUSY => ("it is in use as a mount point or a swap file", "unmount it, or swapoff"),
        Errno::TXTBSY => ("the program is being run", "end it"),
        Errno::FBIG => ("it is too large for this file system", "make it smaller elsewhere"),
        Errno::MLINK => ("the directory has too many entries", "move some elsewhere"),
        Errno::ISDIR => ("a pipe, socket or device is in the way", "move it away"),
        Errno::IO => ("the disk fails", "look at dmesg"),
        Errno::MFILE | Errno::NFILE => ("too many files are open", "raise the limit (ulimit -n)"),
        other => return other.to_string(),
    };
    format!("{what} ({errno}): {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_told_with_what_helps() {
        assert!(errno_words(Errno::PERM).starts_with("immutable"));
        assert!(errno_words(Errno::ROFS).contains("mount"));
        assert!(!errno_words(Errno::NOENT).is_empty());
    }
}
