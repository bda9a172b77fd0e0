//! The parts that a node plays, each with what only that part knows.

use alloc::vec::Vec;

use crate::event::ChangeId;
use crate::ids::{Index, IoSeq, NodeId, ReadId};
use crate::members::Member;
use crate::message::{Ballot, Verdict};
use crate::progress::Peer;
use crate::time::Time;

#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// Voter or learner: the members in force tell.
    Follower(Follower),
    Candidate(Candidate),
    Leader(Leader),
}

#[derive(Clone, Debug)]
pub(crate) struct Follower {
    /// The leader of this term, once heard, and when it was heard last.
    pub(crate) leader: Option<Heard>,
    /// When to campaign.
    pub(crate) deadline: Time,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) from: NodeId,
    /// No votes for others until an election timeout after this; `None` once the connection broke.
    pub(crate) at: Option<Time>,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// [`Ballot::Pre`], or a real one.
    pub(crate) ballot: Ballot,
    pub(crate) votes: Vec<(NodeId, Verdict)>,
    /// This node's own vote counts once this is durable.
    pub(crate) own_vote: IoSeq,
    pub(crate) deadline: Time,
}

#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// Everybody else who receives the log.
    pub(crate) peers: Vec<Peer>,
    /// The no-op of this term: until it is committed, no reads and no changes of members.
    pub(crate) start: Index,
    pub(crate) heartbeat_due: Time,
    /// The current heartbeat round.
    pub(crate) round: u64,
    /// Reads that wait for the round to begin in which they are confirmed.
    pub(crate) waiting_reads: Vec<Reader>,
    /// Reads that the current round confirms, and the index that they will be told.
    pub(crate) confirming_reads: Vec<Reader>,
    pub(crate) read_index: Index,
    /// Changes of members that wait for their commit.
    pub(crate) changes: Vec<PendingChange>,
    pub(crate) transfer: Option<Transfer>,
    /// Weight of this leader's entries that are not committed.
    pub(crate) uncommitted_bytes: u64,
    /// Until then no faster disk is looked for.
    pub(crate) slow_disk_pause_until: Time,
}

impl Leader {
    pub(crate) fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    pub(crate) fn peer_mut(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }
}

/// Who wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) node: NodeId,
    pub(crate) id: ReadId,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct PendingChange {
    pub(crate) request: ChangeId,
    pub(crate) member: Member,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    pub(crate) deadline: Time,
    /// The target was told to campaign.
    pub(crate) told: bool,
}
