//! Contents: the bytes of files too large for the log, on their way between nodes.
//!
//! A node that sees a new large file *offers* it: its peers pull pieces of [`PIECE_BYTES`] out of
//! the live file, write them to their staging directories, sync, and answer `Have` with the
//! SHA-256 of what they got. Once a majority of voters holds the same immutable, synced content
//! the engine is told ([`ContentEvent::Held`]) and may propose the change: what the log names is
//! then on a majority of disks. A node that lacks a content that the log names *fetches* it by its
//! SHA-256 from any node that has it: in staging, in history, or as a live file.
//!
//! Receivers pull, so each decides how much may be on its way to it, and a lost connection costs
//! no more than asking again from the last byte written. Nothing is remembered over a restart but
//! what lies in staging under its own hash.
//!
//! The parts, from the pure to the worldly:
//!
//! - [`message`]: what peers say to each other.
//! - [`machine`]: the protocol: offers, pulls, fetches, windows, retries. No I/O, no clock.
//! - [`staging`], [`history`]: our own files. `live`: the user's, through the folder's door.
//! - [`worker`]: the thread that joins them.

pub mod hasher;
pub mod history;
pub(crate) mod live;
pub mod machine;
pub mod message;
pub mod staging;
pub mod wire;
pub mod worker;

use pickbox_raft::core::ids::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

use self::message::CannotTake;
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::folder::Stat;
use crate::name::RelPath;

/// Bytes of one piece on its way.
pub const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces asked of one peer and not yet here: bounds what a peer queues for this node, and with it
/// the memory of both.
pub const WINDOW_PIECES: u64 = 4;
/// Offers of this node whose files are open at a time; more wait in a queue.
pub const OFFERS_ACTIVE_MAX: usize = 64;
/// Offers of this node in all; one more is refused.
pub const OFFERS_MAX: usize = 4096;
/// Offers of one peer that this node takes at a time.
pub const OFFERS_PER_PEER_MAX: usize = 2 * OFFERS_ACTIVE_MAX;
/// Contents being received at a time, each with a file open; more wait.
pub const PULLS_ACTIVE_MAX: usize = 32;
/// Contents that the engine may want at a time; one more is refused.
pub const FETCHES_MAX: usize = 65_536;
/// Bytes of small contents in one answer.
pub const SMALL_BATCH_BYTES: usize = 512 * 1024;
/// Small contents asked for in one request.
pub const SMALL_BATCH_COUNT: usize = 128;

const _: () = assert!(INLINE_BYTES_MAX < PIECE_BYTES_U64);

/// [`PIECE_BYTES`], for offsets.
pub(crate) const PIECE_BYTES_U64: u64 = 1024 * 1024;
const _: () = assert!(PIECE_BYTES == 1 << PIECE_BYTES_U64.ilog2());

/// Names one [`ContentCommand`] of the engine, so that the answer can be told. Never reused within
/// one run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ticket(pub u64);

/// What is a majority: more than half of each set of voters (two sets while the members change).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// The voters of each configuration in force; empty sets do not count.
    pub sets: Vec<Vec<NodeId>>,
}

impl Quorum {
    /// Whether the nodes for which `holds` is true are a majority of each set. No voters at all:
    /// never.
    pub fn satisfied(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        let mut sets = self.sets.iter().filter(|set| !set.is_empty()).peekable();
        sets.peek().is_some()
            && sets.all(|set| set.iter().filter(|id| holds(**id)).count() * 2 > set.len())
    }
}

/// A large file of this node's folder to bring to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferRequest {
    /// Names it in the answers.
    pub ticket: Ticket,
    /// Where it is.
    pub path: RelPath,
    /// How it looked when the engine decided.
    pub expect: Stat,
    /// All other members, learners too.
    pub peers: Vec<NodeId>,
    /// What the change will need when it is proposed.
    pub quorum: Quorum,
}

/// What the engine asks of the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentCommand {
    /// Bring a live file to a majority: answered by [`ContentEvent::Held`],
    /// [`ContentEvent::Changed`] or [`ContentEvent::Failed`]. Kept up until [`Self::Settle`] or
    /// [`Self::Cancel`].
    Offer(OfferRequest),
    /// The members changed before the offer was committed: judge it anew, telling
    /// [`ContentEvent::Held`] once the new majority holds it.
    Regroup {
        /// Which offer.
        ticket: Ticket,
        /// All other members now.
        peers: Vec<NodeId>,
        /// What the change will need now.
        quorum: Quorum,
    },
    /// The change of this offer is committed: peers that are still pulling may finish; a copy that
    /// this node made of its own is released.
    Settle(Ticket),
    /// The offer will never be proposed: everybody may forget what it brought.
    Cancel(Ticket),
    /// Have this content in staging: the log names it. Answered by [`ContentEvent::Fetched`],
    /// perhaps after [`ContentEvent::FetchFailed`]s. It stays there until [`Self::Release`] or
    /// [`Self::Adopted`]. Idempotent.
    Fetch {
        /// Which.
        content: ContentId,
        /// Bytes, as the record says.
        size: u64,
        /// Who may have it, best first; then all connected peers are asked.
        from: Vec<NodeId>,
    },
    /// The engine no longer wants this content in staging (or no longer wants it fetched): it is
    /// removed unless an offer of a peer still counts on it. Sent for events of the log only.
    Release(ContentId),
    /// The engine has renamed this content to a name of its own, for placing. It never exchanges
    /// a `c.SHA256` itself: what lies under such a name may be removed here at any time.
    Adopted(ContentId),
    /// This run of a node is closed by the log: what it offered and never committed may go.
    Close {
        /// Whose.
        origin: NodeId,
        /// Which run.
        incarnation: Incarnation,
    },
    /// Read all of an object of the history; if it does not hash to its name it is removed, and
    /// [`ContentEvent::Rotten`] told.
    Verify(ContentId),
    /// Stop the thread.
    Stop,
}

/// What the worker tells the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentEvent {
    /// A majority holds the offered content. Told again when more nodes hold it, until the offer
    /// is settled or cancelled.
    Held {
        /// Which offer.
        ticket: Ticket,
        /// What it is.
        content: ContentId,
        /// Bytes.
        size: u64,
        /// How the file looked before and after it was read.
        stat: Stat,
        /// Who holds it, immutable and synced; this node only if it made a copy (or is the only
        /// voter).
        holders: Vec<NodeId>,
    },
    /// The file is not (or no longer) as the request said: the ticket is closed; look again.
    Changed(Ticket),
    /// The request cannot be done: the ticket is closed.
    Failed {
        /// Which.
        ticket: Ticket,
        /// Why.
        reason: FailReason,
    },
    /// A peer cannot take what it is offered, for now: it is asked again.
    Refused {
        /// Which offer.
        ticket: Ticket,
        /// Which peer.
        peer: NodeId,
        /// Why.
        reason: CannotTake,
    },
    /// The content is in staging as [`staging::staged_name`].
    Fetched(ContentId),
    /// The content could not be had; the worker tries on.
    FetchFailed {
        /// Which.
        content: ContentId,
        /// Why.
        reason: FetchFailure,
    },
    /// A peer's offer has arrived in staging here, not yet named by the log.
    Staged {
        /// What.
        content: ContentId,
        /// Whose offer.
        origin: NodeId,
        /// Of which of its runs.
        incarnation: Incarnation,
    },
    /// A history object did not hash to its name and was removed.
    Rotten(ContentId),
    /// The thread is about to end: the reason.
    Stopped(String),
}

/// Why a request about a live file failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// It cannot be opened or read: the system's words.
    Unreadable(String),
    /// Too many requests are open.
    Busy,
}

/// Why a content could not be had yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// Every peer that could be reached says that it does not have it.
    NobodyHasIt,
    /// No peer can be reached.
    NobodyReachable,
    /// The disk here is full.
    NoSpace,
    /// The disk here failed.
    Disk,
    /// More than [`FETCHES_MAX`] are wanted: ask again later.
    Busy,
}
