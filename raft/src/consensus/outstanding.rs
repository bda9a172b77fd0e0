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

#[cfg(test)]
mod tests {
    use pickbox_raft_core::log::Payload;

    use super::*;
    use crate::clock;

    const RUN: Incarnation = Incarnation::new(9);

    fn proposal(serial: u64) -> Arc<Proposal> {
        Arc::new(Proposal {
            origin: NodeId::new(1),
            incarnation: RUN,
            serial: Serial::new(serial),
            holders: None,
            payload: Payload::Data(Vec::new()),
        })
    }

    fn to(leader: u64, term: u64) -> Attempt {
        Attempt { leader: NodeId::new(leader), term: Term::new(term) }
    }

    fn outstanding(now: Instant) -> Outstanding {
        let mut outstanding = Outstanding::default();
        outstanding.put(proposal(5), now);
        outstanding
    }

    fn refused(reason: CoreRefusal) -> Refused {
        Refused { incarnation: RUN, serial: Serial::new(5), reason }
    }

    /// checklist 53: sent once, sent again after a while without an outcome, and to whoever leads
    /// next at once.
    #[test]
    fn a_proposal_is_sent_again_late_or_to_a_new_leader() {
        let now = clock::now();
        let mut outstanding = outstanding(now);
        assert!(outstanding.due(now, to(2, 1)).is_some());
        outstanding.sent(to(2, 1), now);
        assert!(outstanding.due(now, to(2, 1)).is_none());
        assert_eq!(outstanding.deadline(), Some(now + RESEND));
        assert!(outstanding.due(now + RESEND, to(2, 1)).is_some());
        assert!(outstanding.due(now, to(2, 2)).is_some(), "the same node in a later term");
        assert!(outstanding.due(now, to(3, 2)).is_some(), "another leader");
    }

    /// What this node has appended itself needs no second place in the log while the term lasts.
    #[test]
    fn what_the_leader_appended_itself_is_not_appended_twice() {
        let now = clock::now();
        let mut outstanding = outstanding(now);
        outstanding.appended(to(1, 4));
        assert_eq!(outstanding.deadline(), None);
        assert!(outstanding.due(now + 10 * RESEND, to(1, 4)).is_none());
        assert!(outstanding.due(now, to(1, 5)).is_some());
    }

    /// A connection that broke may have taken the message with it.
    #[test]
    fn a_broken_connection_to_the_leader_makes_it_due() {
        let now = clock::now();
        let mut outstanding = outstanding(now);
        outstanding.sent(to(2, 1), now);
        outstanding.lost(NodeId::new(3));
        assert!(outstanding.due(now, to(2, 1)).is_none(), "another's connection says nothing");
        outstanding.lost(NodeId::new(2));
        assert!(outstanding.due(now, to(2, 1)).is_some());
    }

    /// Refusals that pass are hidden from the room above; those that it must decide end the wait.
    #[test]
    fn only_lasting_refusals_are_told() {
        let now = clock::now();
        let mut outstanding = outstanding(now);
        outstanding.sent(to(2, 1), now);
        assert_eq!(outstanding.refused(RUN, &refused(CoreRefusal::Busy), now), None);
        assert!(outstanding.due(now, to(2, 1)).is_none());
        assert!(outstanding.due(now + RETRY, to(2, 1)).is_some());
        let need = refused(CoreRefusal::NeedHolders);
        assert_eq!(outstanding.refused(Incarnation::new(8), &need, now), None, "a former run's");
        assert_eq!(outstanding.refused(RUN, &need, now), Some(Refusal::NeedHolders));
        assert!(outstanding.due(now + RESEND, to(2, 9)).is_none());
    }

    /// A later serial in the stream settles all before it; an earlier one does not.
    #[test]
    fn a_serial_seen_settles_itself_and_those_before() {
        let now = clock::now();
        let mut outstanding = outstanding(now);
        outstanding.settle(Serial::new(4));
        assert!(outstanding.due(now, to(2, 1)).is_some());
        outstanding.settle(Serial::new(6));
        assert!(outstanding.due(now, to(2, 1)).is_none());
    }
}
