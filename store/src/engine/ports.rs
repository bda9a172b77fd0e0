//! What the engine hears and what it says: values, so that a test can play every neighbour.

use std::fmt;
use std::sync::Arc;

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{Index, NodeId};

use crate::content_id::ContentId;
use crate::contents::ContentCommand;
use crate::history_rows::HistoryKey;
use crate::ignored::{Ignored, RuleRef};
use crate::name::RelPath;
use crate::op::{Refusal, Take};
use crate::record::{Body, FileId};
use crate::syncer::SyncJob;
use crate::time::Time;
use crate::why::WhyReport;

/// What leaves the engine, in order.
#[derive(Debug)]
pub enum Outgoing {
    /// To the log.
    Log(Command),
    /// To the watcher.
    Watch(WatchAsk),
    /// To the content worker.
    Content(ContentCommand),
    /// To the engine of another node, over the content connections.
    Peer(NodeId, Vec<u8>),
    /// To the syncer.
    Sync(SyncJob),
}

/// What the engine asks of the watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchAsk {
    /// Look at this path again and read what it holds.
    Examine(RelPath),
    /// Walk this directory again.
    Rescan(RelPath),
    /// Say so, among the sightings, when all that was written before is handed on (trap T28).
    Flush(u64),
    /// What is ignored from now on: no watch below, no look.
    Ignore(Arc<Ignored>),
}

/// A request of a client, with where its answer goes.
pub struct Request {
    /// What is asked.
    pub query: Query,
    /// How new the answer must be; of writes and of the status it says nothing.
    pub freshness: Freshness,
    /// Called once with the answer. It must not block.
    pub reply: Box<dyn FnOnce(Answer) + Send>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("query", &self.query).finish_non_exhaustive()
    }
}

/// How new the answer to a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing is missing that was acknowledged before the question came, on whatever node; only
    /// a majority can tell.
    #[default]
    Fresh,
    /// What this node has applied, at once: perhaps old.
    Local,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Write a file, whatever is there.
    Put {
        /// Where.
        path: RelPath,
        /// Its whole content.
        data: Vec<u8>,
    },
    /// Delete what is at a path.
    Remove {
        /// Where.
        path: RelPath,
    },
    /// How things are.
    Status,
    /// The versions of a path.
    Log(RelPath),
    /// A piece of one version, at most `CAT_PIECE_BYTES`.
    Cat {
        /// The path.
        path: RelPath,
        /// An entry, at which this version was current.
        index: Index,
        /// Where the piece begins.
        offset: u64,
    },
    /// Where a content is, or was.
    Find(ContentId),
    /// The conflicts that are open, a page of them behind this one.
    Conflicts(Option<ConflictKey>),
    /// End a conflict.
    Resolve {
        /// The file that has the name, or the copy.
        path: RelPath,
        /// How.
        take: Take,
        /// The entries that made the two versions that the person saw, of the file and of the
        /// copy; `None`: those that are current when it is asked.
        seen: Option<(Index, Index)>,
    },
    /// Answer when all that changed in the folder before the question is in the log.
    Flush {
        /// For how long at most, in milliseconds.
        timeout_ms: u64,
    },
    /// Answer when everything up to an entry stands in the folder.
    Wait {
        /// Which entry; the newest that is committed, as a majority says, if none is named.
        index: Option<Index>,
        /// In whose folders.
        scope: Scope,
        /// For how long at most, in milliseconds.
        timeout_ms: u64,
    },
    /// The deletions that are held on this node.
    Held,
    /// Propose held deletions.
    Approve(HoldChoice),
    /// Undo held deletions.
    Reject(HoldChoice),
    /// Why is a path as it is?
    Why(RelPath),
}

/// Whose folders are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of the node that is asked.
    Here,
    /// Those of all members, voters and learners.
    All,
}

/// Which held deletions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldChoice {
    /// All that this node holds.
    All,
    /// Those of one hold, by its id.
    One(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Committed at this index.
    Committed(Index),
    /// The log has it, and it cannot be.
    Refused(Refusal),
    /// Not taken: too much is waiting already.
    Busy,
    /// Not taken: no leader is known, so no majority either. Of a read: no leader could confirm
    /// in time that it still leads.
    NoQuorum,
    /// A read: this node has not applied in time what the majority has.
    Behind,
    /// It was proposed, and then the leader was lost: it may still be committed, or not.
    Unknown,
    /// Not taken: the disk of this node is full.
    NoSpace,
    /// How things are.
    Status(Box<StoreStatus>),
    /// Versions, newest first.
    Versions(Vec<VersionLine>),
    /// A piece of a version.
    Piece(Piece),
    /// Conflicts, oldest first.
    Conflicts(ConflictPage),
    /// The two versions, or one of them, are not the ones that were meant.
    Changed,
    /// There are several copies, these among them: which is meant?
    Several(Vec<RelPath>),
    /// No such path, version or content.
    NotFound,
    /// Not taken: a line of a file of rules ignores the path.
    Ignored(RuleRef),
    /// Not taken: a file of rules may not be that long.
    RulesTooLong,
    /// The version is known but nobody who can be reached has its bytes.
    Unavailable(String),
    /// All that was written is committed at this index or before.
    Flushed(Index),
    /// As `Flushed`, but for these.
    Partial(Box<Partial>),
    /// Everything up to this index stands in the folder, or in all folders.
    Placed(Index),
    /// How a path is.
    Why(Box<WhyReport>),
    /// Something has to be done by hand first: what, where, why.
    Blocked(String),
    /// A node that is waited for cannot be reached: its name, and what is known of it.
    Unreachable(String),
    /// It took longer than the client would wait: for what.
    TimedOut(String),
    /// To [`Query::Held`].
    Held(Vec<HoldLine>),
    /// To [`Query::Approve`] and [`Query::Reject`]: what becomes of so many things is decided.
    Decided {
        /// Files and directories.
        count: usize,
    },
    /// This node does not hold these deletions; why, and who may.
    NoHold(String),
}

/// Things of one kind: how many, and some of them by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// How many.
    pub count: usize,
    /// Some of them.
    pub paths: Vec<RelPath>,
}

impl Named {
    /// Counts one, and names it while fewer than `most` are named. One that is named already counts
    /// once.
    pub fn add(&mut self, path: RelPath, most: usize) {
        if self.paths.contains(&path) {
            return;
        }
        self.count += 1;
        if self.paths.len() < most {
            self.paths.push(path);
        }
    }
}

/// What a flush could not bring into the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// Everything else is committed at this index or before.
    pub index: Index,
    /// Files that a program has open for writing.
    pub open: Named,
    /// Deletions that are held for a decision by people.
    pub held: Named,
    /// What cannot be read, or what the log does not take.
    pub unreadable: Named,
}

/// Deletions that are held together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldLine {
    /// What it is called: `NODE-NUMBER`, in the whole cluster.
    pub id: String,
    /// The name of the node that holds it.
    pub node: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// Files and symlinks that went.
    pub files: u64,
    /// Directories that went.
    pub directories: u64,
    /// Some of the files.
    pub paths: Vec<RelPath>,
}

/// Where a conflict stands in the list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKey {
    /// The conflict of this copy.
    Copy(FileId),
    /// One whose loser is in the history only.
    Lost(HistoryKey),
}

impl fmt::Display for ConflictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy(id) => write!(f, "c.{id}"),
            Self::Lost(HistoryKey { index, ordinal }) => write!(f, "h.{index}.{ordinal}"),
        }
    }
}

impl ConflictKey {
    /// The key in this text, as it is shown.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| plain)
        };
        let short = |text: &str| u32::try_from(number(text)?).ok();
        let parts: Vec<&str> = text.split('.').collect();
        match parts.as_slice() {
            ["c", epoch, index, ordinal] => Some(Self::Copy(FileId {
                epoch: short(epoch)?,
                index: Index::new(number(index)?),
                ordinal: short(ordinal)?,
            })),
            ["h", index, ordinal] => Some(Self::Lost(HistoryKey {
                index: Index::new(number(index)?),
                ordinal: short(ordinal)?,
            })),
            _ => None,
        }
    }
}

/// Some conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictPage {
    /// How many conflicts are open in all, those in the history only left out.
    pub open: u64,
    /// These of them.
    pub conflicts: Vec<ConflictLine>,
    /// Ask for those behind this one, if there are more.
    pub next: Option<ConflictKey>,
}

/// One conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictLine {
    /// The file that has the name, where it is now; where the loser was to be, if there is no such
    /// file any more.
    pub path: RelPath,
    /// What it holds now, if it is there.
    pub winner: Option<ConflictSide>,
    /// Where the conflict copy is; `None`: the loser is in the history only.
    pub copy: Option<RelPath>,
    /// The version that lost, as it is now.
    pub loser: ConflictSide,
    /// The entry that decided it.
    pub since: Index,
    /// When that was, by the clock of the node that lost, in milliseconds since 1970.
    pub wall_ms: u64,
}

impl ConflictLine {
    /// Whether the two still hold different things.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.winner.as_ref().is_none_or(|winner| winner.body != self.loser.body)
    }
}

/// One of the two sides of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictSide {
    /// The entry that made this version; what `cat PATH@INDEX` takes.
    pub index: Index,
    /// The name of the node that made it.
    pub author: String,
    /// What it holds.
    pub body: Body,
}

/// A part of a version. Only one that is all of its content has been verified; who reads a longer
/// one hashes what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the whole version.
    pub size: u64,
    /// Where this part begins.
    pub offset: u64,
    /// What the whole version is; `None` for a symlink.
    pub content: Option<ContentId>,
    /// The bytes; empty at the end.
    pub data: Vec<u8>,
}

/// One version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionLine {
    /// The path it had.
    pub path: RelPath,
    /// The entry that made it, or deleted it; what `cat PATH@INDEX` takes.
    pub index: Index,
    /// Its content; `None` for a symlink.
    pub content: Option<ContentId>,
    /// Bytes.
    pub size: u64,
    /// The name of the node that made it.
    pub author: String,
    /// When the file was modified, as the node that made it saw it; `None` for directories and
    /// deletions.
    pub mtime: Option<Time>,
    /// What the entry did.
    pub made: Made,
    /// Where its bytes are.
    pub bytes: Bytes,
}

/// What an entry did to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It wrote this version.
    Write,
    /// It lost against a concurrent change: this is a conflict copy, or, below `.git`, kept in
    /// the history only.
    Conflict,
    /// It deleted what was there.
    Delete,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Conflict => "conflict",
            Self::Delete => "delete",
        })
    }
}

/// Where the bytes of a version are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// It is what the log has at this path now.
    Current,
    /// On this node.
    Kept,
    /// Not on this node; perhaps on others.
    Gone,
}

/// The store's part of STATUS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Highest index applied.
    pub applied: Index,
    /// Highest index whose changes all stand in the folder.
    pub placed: Index,
    /// The root digest at `applied`, in hexadecimal.
    pub digest: String,
    /// Files, directories and symlinks that the log has.
    pub records: u64,
    /// Conflict copies among them.
    pub conflicts: u64,
    /// Changes seen here that the log does not have yet.
    pub undecided: u64,
    /// Changes of the log that this folder does not show yet.
    pub unplaced: u64,
    /// Of those, the ones that something hinders.
    pub blocked: u64,
    /// Some of what is open or left out, each with its path and reason.
    pub waiting: Vec<String>,
    /// Files that were put back after a power cut.
    pub recovered: u64,
    /// Things here that are not replicated (devices, sockets, unreadable files).
    pub left_out: u64,
    /// What is to be known about the rules of `.pickboxignore`: lines that are none, directories
    /// that the log has deleted and that are here for what is ignored in them.
    pub ignoring: Vec<String>,
    /// Deletions that are held for a person to decide.
    pub held: u64,
    /// What somebody has to do something about, a sentence each.
    pub alarms: Vec<String>,
    /// The paths with the most replicated bytes in the last hour, and at least how many.
    pub busiest: Vec<(RelPath, u64)>,
    /// Whether the start is over: the log caught up and the folder was scanned once.
    pub live: bool,
}
