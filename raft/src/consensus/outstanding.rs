//! The one proposal that this node has under way, and when it must be sent again.
//!
//! A message may be lost, a leader may fall; so the proposal is sent again until the room above
//! has seen it in the stream. Sent twice is harmless (duplicates are told by serial where entries
//! are applied) but costs a place in the log, so there is no hurry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pickbox_raft_core::event::Refused;
use pickbox_raft_core::ids::{Incarnation, NodeId, Serial, Term};
use pickbox_raft_core::log::Proposal;
use pickbox_raft_core::message::Refusal as CoreRefusal;

use crate::api::Refusal;

/// A proposal sent on to a leader is sent again after so long without an outcome.
const RESEND: Duration = Duration::from_secs(1);
/// After "busy" or "not me".
const RETRY: Duration = Duration::from_millis(20);

/// To whom it was given, in which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) leader: NodeId,
    pub(crate) term: Term,
}

/// The proposal under way.
#[derive(Debug)]
struct Waiting {
    proposal: Arc<Proposal>,
    last: Option<Attempt>,
    /// Not before; `None`: only when the leader changes.
    retry_at: Option<Instant>,
}

/// The place for at most one proposal.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(Option<Waiting>);

impl Outstanding {
    /// Takes the place of whatever was there.
    pub(crate) fn put(&mut self, proposal: Arc<Proposal>, now: Instant) {
        self.0 = Some(Waiting { proposal, last: None, retry_at: Some(now) });
    }

    /// This serial, and so all before it, were seen in the stream.
    pub(crate) fn settle(&mut self, serial: Serial) {
        if self.0.as_ref().is_some_and(|waiting| waiting.proposal.serial <= serial) {
            self.0 = None;
        }
    }

    /// When to try again, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|waiting| waiting.retry_at)
    }

    /// The proposal, if it should be given to this leader now.
    pub(crate) fn due(&self, now: Instant, to: Attempt) -> Option<Arc<Proposal>> {
        let waiting = self.0.as_ref()?;
        let due = waiting.last != Some(to) || waiting.retry_at.is_some_and(|at| at <= now);
        due.then(|| Arc::clone(&waiting.proposal))
    }

    /// It was appended by this node itself: it stays in the log for as long as the term lasts.
    pub(crate) fn appended(&mut self, at: Attempt) {
        self.tried(at, None);
    }

    /// It was sent on.
    pub(crate) fn sent(&mut self, to: Attempt, now: Instant) {
        self.tried(to, Some(now + RESEND));
    }

    /// It could not even be sent.
    pub(crate) fn postpone(&mut self, now: Instant) {
        if let Some(waiting) = &mut self.0 {
            waiting.retry_at = Some(now + RETRY);
        }
    }

    /// The connection to this leader broke: what was sent may be lost.
    pub(crate) fn lost(&mut self, leader: NodeId) {
        if let Some(waiting) = &mut self.0
            && waiting.last.is_some_and(|last| last.leader == leader)
        {
            waiting.last = None;
        }
    }

    /// The leader refused. `Some`: the room above must decide.
    pub(crate) fn refused(
        &mut self,
        incarnation: Incarnation,
        refused: &Refused,
        now: Instant,
    ) -> Option<Refusal> {
        let waiting = self.0.as_ref()?;
        if refused.incarnation != incarnation || refused.serial != waiting.proposal.serial {
            return None;
        }
        let reason = match refused.reason {
            CoreRefusal::NeedHolders => Refusal::NeedHolders,
            CoreRefusal::TooLarge => Refusal::TooLarge,
            CoreRefusal::Busy | CoreRefusal::NotLeader(_) => {
                self.postpone(now);
                return None;
            }
        };
        self.0 = None;
        Some(reason)
    }

    fn tried(&mut self, attempt: Attempt, retry_at: Option<Instant>) {
        if let Some(waiting) = &mut self.0 {
            waiting.last = Some(attempt);
            waiting.retry_at = retry_at;
        }
    }
}
