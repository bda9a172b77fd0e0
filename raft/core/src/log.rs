//! Entries of the log, and what of Raft's state must outlive a crash.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Index, LogPosition, NodeId, Serial, Term};
use crate::members::Members;

/// A change that a node wants in the log, with what makes it apply exactly once: its origin, the
/// run of the origin and its place among that run's proposals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Opens the origin's incarnation and closes its former one for good.
    Open {
        /// The origin's name, for people.
        name: String,
    },
    /// Bytes that only the room above understands.
    Data(#[serde(with = "crate::bytes")] Vec<u8>),
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Content {
    /// A new leader's first entry (Raft paper, 8).
    Noop,
    /// A change of the members.
    Members(Members),
    /// A node's proposal.
    Proposal(Proposal),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it holds.
    pub content: Content,
}

impl Entry {
    /// Its weight for every bound of [`crate::limits`]: the bytes that it carries and a fixed
    /// allowance for everything around them. Close to its size on the wire, and equal everywhere.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        ENTRY_OVERHEAD_BYTES + self.content.bytes()
    }

    /// Its index and term.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        LogPosition { index: self.index, term: self.term }
    }
}

/// What an entry weighs beside the bytes that it carries.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

impl Content {
    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Noop => 0,
            Self::Members(members) => members.bytes(),
            Self::Proposal(proposal) => proposal.bytes(),
        };
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Proposal {
    /// What an entry with this weighs, as [`Entry::bytes`] counts it.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        ENTRY_OVERHEAD_BYTES + u64::try_from(self.bytes()).unwrap_or(u64::MAX)
    }

    fn bytes(&self) -> usize {
        let payload = match &self.payload {
            Payload::Open { name } => name.len(),
            Payload::Data(data) => data.len(),
        };
        payload + self.holders.as_ref().map_or(0, |holders| holders.len() * 8)
    }
}

/// What Raft must remember over a crash, beside the log (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term that this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}
