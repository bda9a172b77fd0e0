//! Clients' writes while no leader is known: refused before they are proposed, unknown after (P6).
//!
//! A proposal that left cannot be taken back: the log sends it again until it is settled, so a
//! client that is told "unknown" may find its write committed later. One that was never sent is
//! refused for sure.

use pickbox_raft::core::ids::NodeId;

use super::outbox::Flight;
use super::ports::Answer;
use super::{ApiWrite, Engine};

/// How long a write that was proposed waits for a leader before its client is told that its
/// outcome is not known.
const UNKNOWN_AFTER_MS: u64 = 10_000;

/// What the log says of its leader.
#[derive(Debug, Default)]
pub(super) struct Quorum {
    /// Known while a majority hears it: a leader without one steps down, a follower that hears
    /// nothing forgets it.
    leader: Option<NodeId>,
    /// Whether this node leads: then it asks for old history to be forgotten.
    pub(super) leads: bool,
    /// Since when there is none.
    lost_ms: u64,
}

impl Engine {
    pub(super) fn leader_is(&mut self, leader: Option<NodeId>) {
        if self.quorum.leader.is_some() && leader.is_none() {
            self.quorum.lost_ms = self.now_ms;
        }
        self.quorum.leader = leader;
        if leader.is_none() {
            self.refuse_unsent_writes();
        }
    }

    pub(super) fn knows_leader(&self) -> bool {
        self.quorum.leader.is_some()
    }

    /// Whether no leader was known for so long.
    pub(super) fn has_no_leader_for(&self, ms: u64) -> bool {
        !self.knows_leader() && self.now_ms.saturating_sub(self.quorum.lost_ms) >= ms
    }

    fn refuse_unsent_writes(&mut self) {
        let (sent, unsent): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.api_writes).into_iter().partition(|write| write.was_sent);
        self.api_writes.extend(sent);
        for write in unsent {
            self.api_bytes -= write.bytes();
            write.answer(Answer::NoQuorum);
        }
    }

    /// Whether a client waits for a leader.
    pub(super) fn awaits_quorum(&self) -> bool {
        !self.knows_leader() && (!self.api_writes.is_empty() || self.has_writes_in_flight())
    }

    fn has_writes_in_flight(&self) -> bool {
        let mut flights = self.in_flight.iter().flat_map(|in_flight| &in_flight.flights);
        flights.any(|flight| matches!(flight, Flight::Api(_)))
    }

    /// Tells clients whose writes were proposed that nobody knows what becomes of them.
    pub(super) fn quorum_tick(&mut self) {
        let waited = self.now_ms.saturating_sub(self.quorum.lost_ms);
        if !self.awaits_quorum() || waited < UNKNOWN_AFTER_MS {
            return;
        }
        for write in std::mem::take(&mut self.api_writes) {
            self.api_bytes -= write.bytes();
            ApiWrite::answer(write, Answer::Unknown);
        }
        for flight in self.in_flight.iter_mut().flat_map(|in_flight| &mut in_flight.flights) {
            if let Flight::Api(_) = flight
                && let Flight::Api(write) = std::mem::replace(flight, Flight::Forgotten)
            {
                write.answer(Answer::Unknown);
            }
        }
    }
}
