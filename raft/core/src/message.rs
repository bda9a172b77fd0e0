//! What members say to each other.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Index, LogPosition, NodeId, ReadId, Serial, Term};
use crate::log::{Content, Entry, Proposal};

/// One message from one member to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who says it. The transport must have checked that the connection is this member's.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's term when it was made.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Asks for a vote.
    Vote {
        /// What kind of vote.
        ballot: Ballot,
        /// The last entry of the candidate's log.
        last: LogPosition,
    },
    /// Answers [`Body::Vote`].
    VoteReply {
        /// What was asked.
        ballot: Ballot,
        /// The answer.
        verdict: Verdict,
    },
    /// The leader's entries.
    Append {
        /// The entry before the first of `entries`.
        previous: LogPosition,
        /// The leader's commit index, possibly beyond these entries.
        commit: Index,
        /// In order, without gap, possibly none.
        entries: Vec<Arc<Entry>>,
    },
    /// The log up to `matched` equals the leader's and is durable here.
    Appended {
        /// The highest index that is known to be equal.
        matched: Index,
    },
    /// `previous` of an append was not found here.
    AppendRejected {
        /// The index of that `previous`.
        previous: Index,
        /// An entry of this log that may be common: the last one at or before `previous` whose
        /// term is not above the refused one.
        hint: LogPosition,
    },
    /// The log of the receiver is committed up to here; sent as soon as that is so.
    Commit {
        /// Never beyond what the receiver has acknowledged.
        commit: Index,
    },
    /// The sender's log is committed and durable up to `at`: go on from there, if that position is
    /// in the leader's log too.
    CommittedTo {
        /// The last committed position.
        at: LogPosition,
    },
    /// The leader is there.
    Heartbeat {
        /// Commit index, never beyond `matched`.
        commit: Index,
        /// What this follower has said to have in this term, durably. If it has less, its disk
        /// has lost it.
        matched: Index,
        /// Echoed in the answer: confirms reads.
        round: u64,
    },
    /// Answers [`Body::Heartbeat`].
    HeartbeatReply {
        /// The round that is answered.
        round: u64,
        /// The highest index applied here.
        applied: Index,
        /// The highest index placed in the folder here.
        placed: Index,
        /// How long this node's syncs take, in microseconds; 0 when it has made none yet.
        sync_us: u32,
    },
    /// The entries that this follower needs are gone from the leader's log: it needs a whole state.
    InstallState {
        /// At this position or a later one.
        at_least: LogPosition,
    },
    /// Campaign at once: leadership is being handed to you (thesis, 3.10).
    TimeoutNow,
    /// A follower asks up to where it must have applied for a linearizable read.
    ReadIndex {
        /// Names the request at its origin.
        id: ReadId,
    },
    /// Answers [`Body::ReadIndex`].
    ReadIndexReply {
        /// Which request.
        id: ReadId,
        /// `None`: this node cannot tell; ask again.
        index: Option<Index>,
    },
    /// A proposal, sent on to the leader.
    Propose(Arc<Proposal>),
    /// The leader's refusal of [`Body::Propose`].
    ProposeRefused {
        /// The run of the origin that proposed.
        incarnation: Incarnation,
        /// Which proposal.
        serial: Serial,
        /// Why.
        reason: Refusal,
    },
}

impl Body {
    /// Whether all numbers in here can be such.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let index = |index: &Index| *index <= Index::MAX;
        let at = |at: &LogPosition| at.index <= Index::MAX && at.term <= Term::MAX;
        match self {
            Self::Vote { last, .. } => at(last),
            Self::Append { previous, commit, entries } => {
                let sound = |entry: &Arc<Entry>| match &entry.content {
                    Content::Members(members) => members.is_sound(),
                    Content::Noop | Content::Proposal(_) => true,
                };
                let fits = |entry: &Arc<Entry>| at(&entry.position()) && sound(entry);
                at(previous) && index(commit) && entries.iter().all(fits)
            }
            Self::Appended { matched: one } | Self::Commit { commit: one } => index(one),
            Self::AppendRejected { previous, hint } => index(previous) && at(hint),
            Self::CommittedTo { at: place } | Self::InstallState { at_least: place } => at(place),
            Self::Heartbeat { commit, matched, .. } => index(commit) && index(matched),
            Self::HeartbeatReply { applied, placed, .. } => index(applied) && index(placed),
            Self::ReadIndexReply { index: found, .. } => found.as_ref().is_none_or(index),
            Self::VoteReply { .. }
            | Self::TimeoutNow
            | Self::ReadIndex { .. }
            | Self::Propose(_)
            | Self::ProposeRefused { .. } => true,
        }
    }

    /// Whether this concerns the term of its message, and nobody in a later one. Proposals and
    /// reads do not: a proposal may be late, and a read is confirmed by itself.
    #[must_use]
    pub const fn is_of_a_term(&self) -> bool {
        !matches!(
            self,
            Self::Propose(_)
                | Self::ProposeRefused { .. }
                | Self::ReadIndex { .. }
                | Self::ReadIndexReply { .. }
        )
    }
}

/// The kinds of vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ballot {
    /// Would you vote for me in the term after the message's? Changes nothing (thesis, 9.6).
    Pre,
    /// Vote for me in the message's term.
    Real,
    /// As `Real`, at the leader's own wish: its lease does not count (thesis, 4.2.3).
    Handover,
}

/// The answer to a request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// No.
    Refused,
}

/// Why a proposal was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// This node does not lead; here is who does, when known. Propose there.
    NotLeader(Option<NodeId>),
    /// The named holders are no majority of each configuration in force.
    NeedHolders,
    /// Over [`crate::limits::ENTRY_BYTES_MAX`].
    TooLarge,
    /// Too much is waiting to be committed, or leadership is being handed over: try again soon.
    Busy,
}
