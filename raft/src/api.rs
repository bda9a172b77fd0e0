//! The seam between the log and the room above: commands go down, deliveries come up.
//!
//! The room above runs one thread that owns its state. It sends [`Command`]s by a `Handle` and
//! receives [`Delivery`]s from one bounded channel; a full channel stops the log from handing out
//! more committed entries, never from replicating.

use std::sync::Arc;

use crossbeam_channel::Sender;
pub use pickbox_raft_core::event::{Aim, Change, ChangeRefusal, TransferFailure};
use pickbox_raft_core::ids::{
    ClusterId, Incarnation, Index, LogPosition, NodeId, ReadId, Serial, Term,
};
use pickbox_raft_core::log::{Entry, Proposal};
use pickbox_raft_core::members::{JoinToken, Member, Members};

use crate::net::Runs;

/// What the room above asks of the log.
#[derive(Debug)]
pub enum Command {
    /// Put this into the log. It is kept, and sent again over leader changes and lost
    /// connections, until [`Command::Settled`] names its serial or a later one; duplicates are
    /// told by the serial where entries are applied. At most one is outstanding.
    Propose(Arc<Proposal>),
    /// The proposal with this serial was seen in the stream of entries.
    Settled(Serial),
    /// Answer with [`Delivery::Read`] once a read at the returned index would be linearizable.
    Read(ReadId),
    /// Entries up to `applied` have been applied, those up to `placed` stand in the folder.
    Progress {
        /// Highest index applied.
        applied: Index,
        /// Highest index whose changes all stand in the folder.
        placed: Index,
    },
    /// The state up to this position is durable above: the log up to it may be dropped.
    Checkpoint(LogPosition),
    /// A state fetched from `from` (see [`Delivery::NeedState`]) is durable above.
    StateInstalled {
        /// The position that the state stands for.
        at: LogPosition,
        /// The members as of that position.
        members: Members,
        /// The newest run of each member that it knows.
        runs: Runs,
    },
    /// Change the members, here or at the leader.
    ChangeMembers {
        /// What to change.
        change: Change,
        /// Where the answer goes: the member as it is then, one that was removed as it was last.
        reply: Sender<Result<Member, ChangeRefusal>>,
    },
    /// Hand leadership to this voter, or to the one that is furthest.
    Transfer {
        /// To whom.
        to: Option<NodeId>,
        /// Where the answer goes: who leads now.
        reply: Sender<Result<NodeId, TransferFailure>>,
    },
    /// Tell how things are; answered at once, also without a leader.
    Status(Sender<Status>),
    /// Say that the threads of the log are at work: this one hands it on, and the log writer answers
    /// when it is done with what it does now. It says nothing of the disk being full.
    Pulse(Sender<()>),
    /// Hand leadership over if this node has it, then stop.
    Shutdown,
}

/// What the log tells the room above.
#[derive(Debug)]
pub enum Delivery {
    /// Committed entries, in order, without gap. The first one follows the `applied` position
    /// that the log was opened with, or the last `StateInstalled`.
    Entries(Vec<Entry>),
    /// The outstanding proposal cannot be appended as it is.
    Refused {
        /// Which one.
        serial: Serial,
        /// Why.
        reason: Refusal,
    },
    /// A read at `index` is linearizable once that index is applied. `None`: no leader could
    /// confirm it; ask again.
    Read {
        /// Which request.
        id: ReadId,
        /// Up to where the reader must have applied.
        index: Option<Index>,
    },
    /// The entries that this node needs next are gone from the leader's log: fetch the state from
    /// `from` (at this position or later), make it durable, answer with
    /// [`Command::StateInstalled`]. Entries stop until then.
    NeedState {
        /// Who has it.
        from: NodeId,
        /// At least this position.
        at_least: LogPosition,
    },
    /// The role of this node, the term or the known leader changed.
    Role(RoleChange),
    /// The log stopped for good: the disk failed, or it was asked to.
    Stopped(String),
}

/// Why a proposal was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The named holders are no majority: more members must hold the content first.
    NeedHolders,
    /// Over the bound for one entry.
    TooLarge,
}

/// Which part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes (or pre-votes).
    Candidate,
    /// Leads.
    Leader,
    /// A follower that counts in no majority.
    Learner,
}

/// A change of this node's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The part it plays now.
    pub role: Role,
    /// In which term.
    pub term: Term,
    /// The leader, when known.
    pub leader: Option<NodeId>,
}

/// How the log is, at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// This run of it.
    pub incarnation: Incarnation,
    /// Part, term, leader.
    pub role: RoleChange,
    /// Highest index known to be committed.
    pub commit: Index,
    /// Last index in the log.
    pub last: Index,
    /// First index still in the log.
    pub first: Index,
    /// The members in force, each with what is known of it.
    pub members: Vec<MemberStatus>,
    /// Whether a change of the members is not over yet: until it is, the former voters count too.
    pub changing: bool,
    /// The join tokens in the list in force; a leader lets nobody in with one that is over.
    pub tokens: Vec<JoinToken>,
    /// What somebody should look at, in words.
    pub alarms: Vec<String>,
    /// Whether this node was a member once and is none any more, for good. A node that still catches
    /// up with the log in which it joined is not removed.
    pub is_removed: bool,
    /// Counters since start, for measuring.
    pub counters: Counters,
}

/// What is known of one member.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// The member.
    pub member: Member,
    /// Whether messages can be sent to it now (true for this node itself).
    pub connected: bool,
    /// Highest index known to be in its log (leader only, else zero).
    pub matched: Index,
    /// What it last said of [`Command::Progress`] (known to the leader, and of itself).
    pub applied: Index,
    /// What it last said of [`Command::Progress`].
    pub placed: Index,
}

/// Counts since start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// fdatasync calls of the log.
    pub wal_syncs: u64,
    /// Bytes written to the log.
    pub wal_bytes: u64,
    /// Messages sent to peers.
    pub messages_sent: u64,
    /// Bytes sent to peers, content connections included.
    pub bytes_sent: u64,
    /// Connections refused: another cluster, a wrong name, garbage.
    pub refused_connections: u64,
}
