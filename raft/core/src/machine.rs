//! The machine itself.
#![expect(clippy::missing_const_for_fn, reason = "filled in next")]

use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use crate::event::{Event, Output, RoleName};
use crate::ids::{Index, LogPosition, NodeId, Term};
use crate::log::{HardState, Proposal};
use crate::members::Members;
use crate::message::{Body, Message};
use crate::restored::Restored;
use crate::time::Time;
use crate::view::LogView;

/// What a node is told about itself.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// T: without a leader for T to 2T, drawn anew each time, a voter campaigns.
    pub election_timeout: Duration,
    /// How often a leader says that it is there. Well below T.
    pub heartbeat_interval: Duration,
    /// Seeds the draws of election timeouts; different on each node and each start.
    pub seed: u64,
}

impl Config {
    /// The usual times: T = 500 ms, a heartbeat each 100 ms.
    #[must_use]
    pub const fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            election_timeout: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(100),
            seed,
        }
    }
}

/// One node of Raft.
#[derive(Debug)]
pub struct Core {
    config: Config,
    hard_state: HardState,
    log: LogView,
    applied: Index,
    leader: Option<NodeId>,
}

/// What the leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Highest index known to be in its log, durable.
    pub matched: Index,
    /// What it last said to have applied.
    pub applied: Index,
    /// What it last said to have placed.
    pub placed: Index,
}

impl Core {
    /// A node that starts over with what its disk holds. `applied` is what the room above holds
    /// durably; [`Output::committed`] goes on after it. If the state above stands beyond the end of
    /// the log (it was installed just before a crash), send [`Event::StateInstalled`] first.
    #[must_use]
    pub fn new(config: Config, restored: Restored, applied: Index, _now: Time) -> Self {
        let Restored { hard_state, log } = restored;
        Self { config, hard_state, log, applied, leader: None }
    }

    /// Takes one event and adds to `output` what follows from it.
    pub fn step(&mut self, _now: Time, _event: Event, _output: &mut Output) {}

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Time {
        Time::from_micros(0)
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The term it is in.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The part it plays.
    #[must_use]
    pub fn role(&self) -> RoleName {
        RoleName::Follower
    }

    /// Who leads, when known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Highest index known to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.applied
    }

    /// The position before the first entry of the log.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        self.log.base()
    }

    /// The position of the last entry of the log.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.log.last()
    }

    /// The members in force.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.log.members()
    }

    /// What is known of a peer; `None` unless this node leads and the peer is a member.
    #[must_use]
    pub fn peer(&self, _id: NodeId) -> Option<PeerStatus> {
        None
    }

    /// The message that sends a proposal on to the leader; `None` when none is known or this node
    /// leads itself.
    #[must_use]
    pub fn forward(&self, proposal: Arc<Proposal>) -> Option<Message> {
        let to = self.leader.filter(|leader| *leader != self.config.id)?;
        let body = Body::Propose(proposal);
        Some(Message { from: self.config.id, to, term: self.hard_state.term, body })
    }

    /// What must hold between any two steps.
    ///
    /// # Errors
    /// The text says what does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        Ok(())
    }
}
