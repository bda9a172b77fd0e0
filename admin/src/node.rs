//! What stands behind the protocol: one trait, its requests and its replies.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::{Token, Waker};
use pickbox_store::engine::ports::ConflictKey;
use pickbox_store::name::RelPath;
use pickbox_store::why::WhyReport;
use serde::{Deserialize, Serialize};

use crate::conflicts::ConflictList;
use crate::forward::Forward;
use crate::holds::{self, HoldReport, Which};
use crate::join_tokens::{JoinLine, TokenId, TokenReport, TokenRequest};
use crate::members::MemberChange;
use crate::path_text;
use crate::status::StatusReport;

/// The node that answers. The daemon is one, tests have another.
pub trait Node {
    /// Takes a request over without waiting for anything: called in the loop that serves all
    /// clients. The answer is given to the ticket, here or later, from any thread.
    fn submit(&self, request: Request, ticket: Ticket);
}

/// What a client asks of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How things are; must be answered at once, also without a leader.
    Status,
    /// Commit a write or a delete; answered when it is committed.
    Forward(Forward),
    /// Change the members; answered when it is committed.
    Change(MemberChange),
    /// Hand leadership to the voter of this name, or to the one that is furthest.
    Transfer(Option<NodeName>),
    /// Make, list or end what lets nodes join.
    Token(TokenRequest),
    /// Give the node that is asked a new key; answered when its former one counts no more.
    RotateKey(Absent),
    /// End a conflict; answered when that is committed.
    Resolve {
        /// The file that has the name, or the copy.
        path: RelPath,
        /// How.
        take: Take,
        /// The indices of the two versions that the person saw, of the file and of the copy.
        seen: Option<(u64, u64)>,
    },
    /// Look something up.
    Read(Look, Freshness),
    /// Answer when all that changed in the folder before is committed.
    Flush {
        /// Give up after this.
        timeout: Duration,
    },
    /// Answer when everything up to an entry stands in the folder.
    Wait {
        /// Which entry; the newest that is committed, if none is named.
        index: Option<u64>,
        /// In whose folders.
        scope: Scope,
        /// Give up after this.
        timeout: Duration,
    },
    /// List the deletions that this node holds.
    Held,
    /// Decide what becomes of these.
    Decide(holds::Verdict, Which),
    /// Tell how a path is, here and on the others.
    Why(RelPath),
}

/// Whose folders are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of the node that is asked.
    Here,
    /// Those of all members.
    All,
}

/// Which side of a conflict stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// What has the name; the copy goes to history.
    Ours,
    /// What the copy holds, under the name; what has it goes to history.
    Theirs,
    /// Both; the copy is a file like any other from then on.
    Both,
}

impl Take {
    /// The side of this name, in whatever letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "ours" => Some(Self::Ours),
            "theirs" => Some(Self::Theirs),
            "both" => Some(Self::Both),
            _ => None,
        }
    }
}

/// What about members that cannot be reached, and so do not learn of a change now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing is changed.
    Refuse,
    /// It is changed without them.
    Leave,
}

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The versions of the file at this path.
    Log(RelPath),
    /// A piece of a version, at most [`crate::limits::PIECE_BYTES_MAX`] from `offset`.
    Cat {
        /// The file.
        path: RelPath,
        /// The log index of the change that made the version.
        index: u64,
        /// Where the piece begins.
        offset: u64,
    },
    /// Where content with this SHA-256 is or was.
    Find(ContentHash),
    /// A page of the open conflicts, behind this one.
    Conflicts(Option<ConflictKey>),
}

/// How new an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing may be missing that was acknowledged before the question: a majority is asked.
    Fresh,
    /// What the node has, at once.
    Local,
}

impl Request {
    /// Bytes that the request keeps while it waits.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Forward(forward) => forward.held_bytes(),
            _ => size_of::<Self>(),
        }
    }

    /// How long the node may take to answer it, if the client said so.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Flush { timeout } | Self::Wait { timeout, .. } => Some(*timeout),
            _ => None,
        }
    }

    /// Whether this changes something, so that half of it must not be acted upon.
    pub(crate) fn is_change(&self) -> bool {
        match self {
            Self::Status
            | Self::Read(..)
            | Self::Held
            | Self::Flush { .. }
            | Self::Wait { .. }
            | Self::Why(_)
            | Self::Token(TokenRequest::List) => false,
            Self::Forward(_)
            | Self::Change(_)
            | Self::Transfer(_)
            | Self::Token(TokenRequest::Create { .. } | TokenRequest::Revoke(_))
            | Self::RotateKey(_)
            | Self::Resolve { .. }
            | Self::Decide(..) => true,
        }
    }
}

/// What the node answers when it could do what was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<StatusReport>),
    /// To [`Request::Forward`]: committed at this index.
    Committed {
        /// The index of its entry.
        index: u64,
    },
    /// To [`Request::Change`]: the members are changed.
    Changed {
        /// The internal number of the member that it was about.
        number: u64,
        /// What was done.
        change: MemberChange,
    },
    /// To [`Request::Transfer`]: the name of the node that leads now.
    Leads(String),
    /// To [`TokenRequest::Create`].
    Token(JoinLine),
    /// To [`TokenRequest::List`]: those that are not over, the oldest first.
    Tokens(Vec<TokenReport>),
    /// To [`TokenRequest::Revoke`].
    Revoked(TokenId),
    /// To [`Request::RotateKey`]: the new key, in hex.
    KeyChanged(String),
    /// To [`Look::Log`], the newest first.
    Versions(Vec<VersionReport>),
    /// To [`Look::Cat`].
    Piece(Piece),
    /// To [`Look::Find`].
    Found(Vec<VersionReport>),
    /// To [`Look::Conflicts`].
    Conflicts(ConflictList),
    /// To [`Request::Why`].
    Why(Box<WhyReport>),
    /// To [`Request::Flush`] and [`Request::Wait`]: done, up to this entry.
    UpTo {
        /// Its index.
        index: u64,
    },
    /// To [`Request::Held`], the oldest first.
    Holds(Vec<HoldReport>),
    /// To [`Request::Decide`]: so many files and directories.
    Decided(holds::Verdict, u64),
}

/// One version of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    /// The path that it had.
    #[serde(with = "path_text::json")]
    pub path: RelPath,
    /// The log index of the change that made it, or deleted what was there.
    pub index: u64,
    /// What the change did, in one word: `write`, `delete`, or `conflict`: it lost against a
    /// concurrent one, and is a conflict copy, or below `.git` in the history only. Renames and
    /// changes of mode make no version.
    pub change: String,
    /// The node on which the change was made.
    pub node_id: String,
    /// Size in bytes, if it is a file.
    pub size: Option<u64>,
    /// SHA-256 of the content in hex, if it is a file.
    pub sha256: Option<String>,
    /// Modification time, seconds since 1970; none for directories and deletions.
    pub mtime: Option<i64>,
    /// Whether it is the current version, and whether its bytes are on this node.
    pub state: VersionState,
}

/// Where the bytes of a version are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// It is what stands at its path now, by the log.
    Current,
    /// It is kept on this node.
    Kept,
    /// This node does not have its bytes: other nodes may, and `CAT` asks them. Also of a deletion,
    /// which has none.
    Gone,
}

/// A part of a version's content. The node has verified it only if it is all of the content; who
/// reads more than one piece hashes what came and compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Size of the whole content.
    pub size: u64,
    /// SHA-256 of the whole content in hex, if it is a file.
    pub sha256: Option<String>,
    /// Where this part begins.
    pub offset: u64,
    /// The bytes; empty at the end.
    pub data: Vec<u8>,
}

/// Why something was not done. Programs read the code, people the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The line is no request that is known, or its parts are wrong.
    BadRequest,
    /// No such command.
    UnknownCommand,
    /// Who asks may not do that; nothing was done.
    Denied,
    /// The line is over the bound.
    TooLong,
    /// The answer or the content is over a bound.
    TooLarge,
    /// The data do not have the hash that was given.
    HashMismatch,
    /// At a bound: try again later.
    Busy,
    /// Silent for too long.
    Idle,
    /// The disk of this node is full; nothing was done.
    NoSpace,
    /// No leader, or no majority can be reached; nothing was done.
    NoQuorum,
    /// The outcome is not known: it may yet happen. Look before asking again.
    Unknown,
    /// A line of `.pickboxignore` ignores the path; nothing was done.
    Ignored,
    /// No such file, version, content or member.
    NotFound,
    /// It is not as it was when it was looked at; nothing was done.
    Changed,
    /// It is not clear which of several is meant; nothing was done.
    Several,
    /// The bytes of that version are on other nodes only, or nowhere any more.
    Gone,
    /// The path leads through a file or a symlink, or a directory is in the way.
    NotADirectory,
    /// The path is a directory.
    IsADirectory,
    /// The name or the address belongs to another member.
    Taken,
    /// A node of that name is connected.
    Connected,
    /// There is the most there may be.
    TooMany,
    /// Another change of the members is under way.
    InProgress,
    /// Too few of the voters that there would be can be reached; nothing was changed.
    TooFew,
    /// Without this one there would be no voter.
    LastVoter,
    /// Only a voter can lead, and there is no such other voter.
    NotAVoter,
    /// It did not take over in time.
    TimedOut,
    /// Not all of it could be done: what was not, is named.
    Partial,
    /// Something has to be done by hand first, on the node that is named.
    Blocked,
    /// A node that it needs cannot be reached.
    Unreachable,
    /// The node is stopping.
    Stopping,
    /// This build cannot do that.
    Unsupported,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "bad-request",
            Self::UnknownCommand => "unknown-command",
            Self::Denied => "denied",
            Self::TooLong => "too-long",
            Self::TooLarge => "too-large",
            Self::HashMismatch => "hash-mismatch",
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::NoSpace => "no-space",
            Self::NoQuorum => "no-quorum",
            Self::Unknown => "unknown",
            Self::Ignored => "ignored",
            Self::NotFound => "not-found",
            Self::Changed => "changed",
            Self::Several => "several",
            Self::Gone => "gone",
            Self::NotADirectory => "not-a-directory",
            Self::IsADirectory => "is-a-directory",
            Self::Taken => "taken",
            Self::Connected => "connected",
            Self::TooMany => "too-many",
            Self::InProgress => "in-progress",
            Self::TooFew => "too-few",
            Self::LastVoter => "last-voter",
            Self::NotAVoter => "not-a-voter",
            Self::TimedOut => "timed-out",
            Self::Partial => "partial",
            Self::Blocked => "blocked",
            Self::Unreachable => "unreachable",
            Self::Stopping => "stopping",
            Self::Unsupported => "unsupported",
        })
    }
}

/// A request that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what, why, and what to do where that is known. One line.
    pub text: String,
}

impl Refusal {
    /// A refusal with these words.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for Refusal {}

/// The answer to one ticket on its way back to the loop.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) connection: Token,
    pub(crate) result: Result<Reply, Refusal>,
}

/// The right to answer one request. Dropped without an answer it says that the outcome is unknown.
#[derive(Debug)]
pub struct Ticket {
    connection: Token,
    /// Has room for every ticket that is out ([`crate::Limits::requests_max`]): never blocks.
    answers: Sender<Answered>,
    waker: Arc<Waker>,
    open: bool,
}

impl Ticket {
    pub(crate) fn new(connection: Token, answers: Sender<Answered>, waker: Arc<Waker>) -> Self {
        Self { connection, answers, waker, open: true }
    }

    /// Sends the answer to the client; never blocks.
    pub fn answer(mut self, result: Result<Reply, Refusal>) {
        self.send(result);
    }

    fn send(&mut self, result: Result<Reply, Refusal>) {
        self.open = false;
        let sent = self.answers.try_send(Answered { connection: self.connection, result });
        if sent.is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::warn!("admin=wake error={error}");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            let text = "the node dropped the request; its outcome is not known";
            self.send(Err(Refusal::new(Code::Unknown, text)));
        }
    }
}

/// The name of a node: 1-64 bytes of `[A-Za-z0-9._-]`, not starting with a dot or a dash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// Longest name.
    pub const BYTES_MAX: usize = 64;

    /// Checks a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        (fits && !text.starts_with(['.', '-'])).then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a node listens: `HOST:PORT`, the port not zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress(String);

impl PeerAddress {
    /// Longest host name (RFC 1035) with a port.
    pub const BYTES_MAX: usize = 253 + 6;

    /// Checks the shape; names are not looked up.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:%".contains(&byte);
        let port_fits = port.parse::<u16>().is_ok_and(|port| port != 0);
        let host_fits = !host.is_empty() && host.bytes().all(allowed);
        (port_fits && host_fits && text.len() <= Self::BYTES_MAX).then(|| Self(text.to_owned()))
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256, shown in hex as `sha256sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = path_text::hex_byte(pair)?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_plain_words() {
        for good in ["node1", "a", "A.b_c-9", &"x".repeat(64)] {
            assert!(NodeName::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(NodeName::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["127.0.0.1:8001", "[::1]:8001", "host-1.lan:1"] {
            assert!(PeerAddress::parse(good).is_some(), "{good}");
        }
        for bad in ["", ":1", "a", "a:0", "a:65536", "a b:1", "a:x"] {
            assert!(PeerAddress::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_hash_is_64_hex_digits() {
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(ContentHash::parse(text).unwrap().to_string(), text);
        assert!(ContentHash::parse(&text[1..]).is_none());
        assert!(ContentHash::parse(&text.replace('e', "g")).is_none());
    }
}
