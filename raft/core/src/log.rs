//! Entries of the log, and what of Raft's state must outlive a crash.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Index, NodeId, Serial, Term};
use crate::members::Members;

/// A change that a node wants in the log, with what makes it apply exactly once: its origin, the
/// run of the origin and its place among that run's proposals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The member that made it.
    pub origin: NodeId,
    /// That member's run.
    pub incarnation: Incarnation,
    /// Its place in that run, from 1. Serial 1 is always [`Payload::Open`].
    pub serial: Serial,
    /// Members that hold the contents which this change names but does not carry, each on its
    /// disk, synced. `None`: it carries all that it names. The leader appends a proposal only if
    /// the holders are a majority of each configuration in force.
    pub holders: Option<Vec<NodeId>>,
    /// What it says.
    pub payload: Payload,
}

/// What a proposal says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Opens the origin's incarnation and closes its former one for good.
    Open {
        /// The origin's name, for people.
        name: String,
    },
    /// Bytes that only the room above understands.
    Data(Vec<u8>),
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A new leader's first entry (Raft paper, 8).
    Noop,
    /// A change of the members.
    Members(Members),
    /// A node's proposal.
    Proposal(Proposal),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it holds.
    pub content: Content,
}

/// What Raft must remember over a crash, beside the log (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term that this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}
