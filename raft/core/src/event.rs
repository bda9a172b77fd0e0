//! What goes into [`crate::Core::step`] and what comes out.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{
    Fingerprint, Incarnation, Index, IoSeq, LogPosition, NodeId, ReadId, Serial, Term, TokenId,
};
use crate::log::{Entry, HardState, Proposal};
use crate::members::{JoinToken, Member, Members};
use crate::message::{Message, Refusal};

/// What may happen to a node.
#[derive(Clone, Debug)]
pub enum Event {
    /// Nothing but time passed. Due at [`crate::Core::deadline`]; more often is harmless.
    Tick,
    /// A peer said something.
    Message(Message),
    /// A proposal of this node's. The leader appends it; elsewhere it is refused as
    /// [`Refusal::NotLeader`], and the caller sends it to the leader as
    /// [`crate::message::Body::Propose`] (see [`crate::Core::forward`]).
    Propose(Arc<Proposal>),
    /// Confirm a read; answered in [`Output::reads`], always, within a few election timeouts.
    ReadIndex(ReadId),
    /// All log operations tagged with this number or a lower one are durable.
    Durable(IoSeq),
    /// Progress of the room above: opens the window of [`Output::committed`] and is told to the
    /// leader.
    Applied {
        /// The highest index applied.
        applied: Index,
        /// The highest index whose changes all stand in the folder.
        placed: Index,
    },
    /// Answers an [`Output::log_reads`].
    LogRead {
        /// What the read was for.
        purpose: ReadPurpose,
        /// The entries of the range in order; fewer, or none, when the log has them no more.
        entries: Vec<Arc<Entry>>,
    },
    /// Change the members; answered in [`Output::changes`].
    ChangeMembers {
        /// Named by the caller, told back in the answer.
        request: ChangeId,
        /// What to change.
        change: Change,
    },
    /// Hand leadership to this voter, or to the one that is furthest.
    Transfer(Option<NodeId>),
    /// The state up to this position is durable above: the log up to it may be dropped.
    Compact {
        /// Its entry was applied here.
        through: Index,
    },
    /// A whole state that was fetched (see [`Output::need_state`]) is durable above.
    StateInstalled {
        /// What it stands for.
        at: LogPosition,
        /// The members as of that position.
        members: Members,
    },
    /// The connection to this peer broke: what was sent may be lost.
    Unreachable(NodeId),
}

/// Names a request to change the members, to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(pub u64);

/// A change of the members: a step from the list in force to the next one. All of them become one
/// order, "the members are these".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// List a node that does not take part yet. Idempotent: the same name and address give the
    /// same member again.
    Add {
        /// The name that people chose.
        name: String,
        /// Where peers will reach it, `HOST:PORT`.
        address: String,
        /// Whether it will become a voter.
        aim: Aim,
    },
    /// A node without state takes part from now on. It gets a new number, always: a node that has
    /// forgotten its votes must not have its old one. If there is a member of its name that is not
    /// connected, it takes that one's place in the same change.
    Join {
        /// The name that people chose.
        name: String,
        /// Where peers reach it, `HOST:PORT`.
        address: String,
        /// The key that it has proved to have.
        key: Fingerprint,
        /// By what right.
        warrant: Warrant,
    },
    /// Take a member out.
    Remove(NodeId),
    /// Put another node in the place of a member. The old one goes in the change that makes the
    /// new one a voter, so that there are never fewer voters than before.
    Replace {
        /// The member that goes.
        old: NodeId,
        /// The name of the one that comes.
        name: String,
        /// Where peers will reach it, `HOST:PORT`.
        address: String,
    },
    /// Make a learner a voter, once it has caught up.
    Promote(NodeId),
    /// Make a voter a learner.
    Demote(NodeId),
    /// A member is somewhere else now.
    Readdress {
        /// Which.
        id: NodeId,
        /// Where peers reach it, `HOST:PORT`.
        address: String,
    },
    /// A member has this key from now on, and its former one no more.
    Rekey {
        /// Which.
        id: NodeId,
        /// The new key.
        key: Fingerprint,
    },
    /// One node may join with this, once.
    IssueToken(JoinToken),
    /// Nobody may join with this token any more.
    RevokeToken(TokenId),
}

/// By what right a node that is no member, or has lost its state, joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Warrant {
    /// It runs on the leader's host for the leader's user, who could take its key and its state.
    SameUser,
    /// Its key is that of the member whose name it has.
    Listed,
    /// It has the secret of the token with this public key, which is used up by this.
    Token([u8; 32]),
}

/// What a new member is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Aim {
    /// A voter, once it has caught up.
    Voter,
    /// A learner for good.
    Learner,
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeRefusal {
    /// This node does not lead; here is who does, when known.
    NotLeader(Option<NodeId>),
    /// Another change, or this leader's first entry, is not committed yet, or leadership is being
    /// handed over: try again soon.
    InProgress {
        /// The entry that is waited for.
        at: Index,
    },
    /// The name belongs to another address, or the address to another name.
    Taken(Member),
    /// A member of that name is connected: two nodes cannot be one.
    Connected(Member),
    /// No member has that number.
    NoSuchMember(NodeId),
    /// Without this one there would be no voter.
    LastVoter,
    /// The voters that this leader hears would be no majority of the new ones.
    TooFew {
        /// New voters that are heard.
        heard: usize,
        /// How many must be.
        needed: usize,
        /// The first one that is not heard.
        missing: Box<Member>,
    },
    /// The name or the address is empty or too long.
    Invalid,
    /// There are [`crate::limits::MEMBERS_MAX`] members.
    TooMany,
    /// There is no such join token, or none any more: it was used, revoked, or is over.
    NoSuchToken,
    /// The join token is for a node of another name.
    TokenForOther(String),
    /// There are [`crate::limits::TOKENS_MAX`] join tokens.
    TooManyTokens,
    /// The key is not that of the member of this name.
    NotListed,
    /// Leadership was lost before the outcome was known: ask again.
    Unknown,
}

/// What a read of old entries is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadPurpose {
    /// To send them to this peer.
    Peer(NodeId),
    /// To hand them out in [`Output::committed`].
    Apply,
}

/// A request to read entries back from the log, in the order of the log operations: it sees all
/// that were output before it. Answer with [`Event::LogRead`], also when nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// Tell this back.
    pub purpose: ReadPurpose,
    /// The first entry wanted.
    pub from: Index,
    /// The last entry wanted. The range is bounded in bytes by [`crate::limits`] already.
    pub through: Index,
}

/// One change of the log on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// The hard state is this from now on.
    HardState(HardState),
    /// Drop the entries from this index on.
    Truncate {
        /// The first one to go.
        from: Index,
    },
    /// Append these, the first of which follows the last one there.
    Append(Vec<Arc<Entry>>),
    /// Drop all entries: the log now begins after `at`. Also the first operation of every log.
    Reset {
        /// The position before the first entry; zero for a new log.
        at: LogPosition,
        /// The members as of `at`: the one voter at bootstrap, nobody for a node that joins.
        members: Members,
    },
    /// The entries up to here are not needed any more. May be carried out late or in part.
    Compact {
        /// The last one to go.
        through: LogPosition,
        /// The members as of `through`.
        members: Members,
    },
}

/// What is to be done. The caller takes it all after each step, or after several; order within
/// each field matters.
#[derive(Debug, Default, Clone)]
pub struct Output {
    /// To be written in this order and synced, then answered by [`Event::Durable`] with `io`.
    pub log_ops: Vec<LogOp>,
    /// Tags `log_ops`; means nothing while that is empty. Grows with every step that writes.
    pub io: IoSeq,
    /// To be sent. All of them may leave now: the core itself holds back what must wait for a sync.
    pub messages: Vec<Message>,
    /// Committed entries that are durable here, in order, without gap, within the window of
    /// [`Event::Applied`].
    pub committed: Vec<Arc<Entry>>,
    /// Old entries that are needed again.
    pub log_reads: Vec<LogRead>,
    /// Answers to [`Event::ReadIndex`].
    pub reads: Vec<ReadAnswer>,
    /// Proposals of this node that were not appended, here or by the leader.
    pub refused: Vec<Refused>,
    /// Answers to [`Event::ChangeMembers`].
    pub changes: Vec<ChangeAnswer>,
    /// Changes of role, term or known leader, in order.
    pub roles: Vec<RoleChange>,
    /// The members changed: take these from [`crate::Core::members`] and connect accordingly.
    pub members_changed: Option<Members>,
    /// Leadership is being handed over, by this leader's own wish or at a request.
    pub handover: Option<Handover>,
    /// Handing over leadership failed.
    pub transfer_failed: Option<TransferFailure>,
    /// This node needs a whole state; `committed` stops until [`Event::StateInstalled`].
    pub need_state: Option<NeedState>,
    /// The node must stop at once and say this. Nothing else may be done any more.
    pub fatal: Option<Fatal>,
}

/// The answer to [`Event::ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Which request.
    pub id: ReadId,
    /// The read is linearizable once this is applied. `None`: nobody could confirm it; ask again.
    pub index: Option<Index>,
}

/// A proposal of this node that was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The run of this node that made it.
    pub incarnation: Incarnation,
    /// Which one.
    pub serial: Serial,
    /// Why.
    pub reason: Refusal,
}

/// The answer to [`Event::ChangeMembers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeAnswer {
    /// Which request.
    pub request: ChangeId,
    /// The member as committed; one that was removed as it was last.
    pub result: Result<Member, ChangeRefusal>,
}

/// Leadership on its way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// To whom.
    pub to: NodeId,
    /// Why.
    pub reason: HandoverReason,
}

/// Why a leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverReason {
    /// It was asked to.
    Asked,
    /// Its disk takes nothing in: see [`crate::Config::disk_stall_timeout`].
    DiskStalled,
    /// Its disk is slow, and the other's is much faster.
    DiskSlow,
    /// It is a voter no more.
    Removed,
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransferFailure {
    /// This node does not lead.
    NotLeader,
    /// There is no such other voter.
    NoTarget,
    /// The target did not take over in time; this node leads on.
    TimedOut,
}

/// Where to get a whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeedState {
    /// The leader.
    pub from: NodeId,
    /// At this position or a later one.
    pub at_least: LogPosition,
}

/// Which part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Follows a leader, or waits for one; counts in a majority.
    Follower,
    /// As follower, counting nowhere.
    Learner,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A change of a node's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The part it plays now.
    pub role: RoleName,
    /// In which term.
    pub term: Term,
    /// The leader, when known.
    pub leader: Option<NodeId>,
    /// Why.
    pub reason: RoleReason,
}

/// Why a node's part changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleReason {
    /// Nothing was heard from a leader for an election timeout.
    ElectionTimeout,
    /// A majority would vote for this node.
    PreElected,
    /// A majority voted for this node.
    Elected,
    /// A majority refused.
    Lost,
    /// A message carried a higher term.
    HigherTerm,
    /// The leader of this term was heard for the first time.
    LeaderHeard,
    /// This leader did not hear from a majority for an election timeout.
    QuorumLost,
    /// The disk of this leader took nothing in for too long.
    DiskStalled,
    /// The former leader handed over.
    Handover,
    /// This leader is a voter no more.
    Removed,
    /// This node became a voter, or ceased to be one.
    MembersChanged,
}

/// A state that cannot be: the node stops and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fatal {
    /// Two nodes claim to lead one term: one of them has lost or forged its vote.
    TwoLeaders {
        /// That term.
        term: Term,
        /// Known first.
        first: NodeId,
        /// Heard now.
        second: NodeId,
    },
    /// The leader knows that this node had stored more than it has: its disk lost synced writes, or
    /// was replaced. Remove its state and let it join again.
    LogLost {
        /// What this node once acknowledged.
        acknowledged: Index,
        /// The last entry it has.
        last: Index,
    },
    /// The leader's log contradicts an entry that is committed here.
    CommittedConflict {
        /// Where.
        at: Index,
        /// The term of the entry here.
        ours: Term,
        /// The term of the leader's.
        theirs: Term,
    },
}
