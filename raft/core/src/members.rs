//! Who belongs to the cluster.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemberRole {
    /// Counts in every majority.
    Voter,
    /// Receives the log and counts nowhere; becomes a voter once it has caught up.
    Learner,
}

/// One member, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The internal number.
    pub id: NodeId,
    /// The name that people chose, such as `node1`: 1-64 bytes of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Where its peers reach it, `HOST:PORT`.
    pub address: String,
    /// Voter or learner.
    pub role: MemberRole,
}

/// The members at one place of the log; a `Members` entry takes effect when it is appended
/// (Ongaro's thesis, 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// All members, ordered by id.
    pub members: Vec<Member>,
    /// The voters of the outgoing set while a joint change is under way (thesis, 4.3); else empty.
    pub outgoing_voters: Vec<NodeId>,
    /// The number that the next member will get.
    pub next_id: NodeId,
}
