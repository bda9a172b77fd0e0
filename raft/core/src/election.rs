//! Elections: pre-vote, vote, the lease of a leader that is heard, taking over on request.

use alloc::vec::Vec;
use core::time::Duration;

use crate::event::{Fatal, RoleReason};
use crate::ids::{IoSeq, LogPosition, NodeId, Term};
use crate::log::HardState;
use crate::machine::{Core, PreVote};
use crate::message::{Ballot, Body, Verdict};
use crate::quorum::Tally;
use crate::role::{Candidate, Follower, Heard, Role};
use crate::time::Time;

impl Core {
    /// A moment between T and 2T from now, drawn anew each time, so that ties are broken; one T
    /// later where syncs are slow, so that others lead.
    pub(crate) fn draw_deadline(&mut self) -> Time {
        let timeout = self.config.election_timeout;
        let spread = self.draw(timeout);
        let grace = if self.is_disk_slow() { timeout } else { Duration::ZERO };
        self.now.after(timeout).after(spread).after(grace)
    }

    fn draw(&mut self, below: Duration) -> Duration {
        let micros = u64::try_from(below.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.below(micros))
    }

    pub(crate) fn on_election_timeout(&mut self, deadline: Time) {
        // A tick that comes so late means that this process slept: the leader's messages may be
        // waiting, so it gets the chance to be heard first.
        let late = self.now.since(deadline) > self.config.heartbeat_interval;
        if late && !self.is_only_voter() {
            let deadline = self.draw_deadline();
            match &mut self.role {
                Role::Follower(follower) => follower.deadline = deadline,
                Role::Candidate(candidate) => candidate.deadline = deadline,
                Role::Leader(_) => {}
            }
        } else if self.may_campaign() {
            let ballot = match self.config.pre_vote {
                PreVote::On => Ballot::Pre,
                PreVote::Off => Ballot::Real,
            };
            self.campaign(ballot, RoleReason::ElectionTimeout);
        } else {
            self.become_follower(None, RoleReason::ElectionTimeout);
        }
    }

    /// A voter whose state above reaches its log, that misses nothing in between, and whose disk
    /// works.
    fn may_campaign(&self) -> bool {
        let whole = self.supply.handed() >= self.log.base().index && self.supply.awaiting.is_none();
        whole && !self.is_disk_stalled() && self.may_be_needed()
    }

    /// Whether this node is a voter, or was one before the last change, and that is not known to be
    /// committed: it may then be the only one that has the change, so that nobody else can be
    /// elected. Its own vote does not count (thesis, 4.2.2).
    fn may_be_needed(&self) -> bool {
        let at = self.log.members_index();
        let was_voter = || self.log.members_at(at.previous()).is_voter(self.config.id);
        self.log.members().is_voter(self.config.id) || (at > self.commit && was_voter())
    }

    fn campaign(&mut self, ballot: Ballot, reason: RoleReason) {
        self.leave_role();
        let own_vote = if ballot == Ballot::Pre {
            IoSeq::ZERO
        } else {
            let term = self.hard_state.term.next();
            self.write_hard_state(HardState { term, voted_for: Some(self.config.id) })
        };
        // A pre-vote costs nothing, so it is repeated sooner than a vote.
        let half = self.config.election_timeout / 2;
        let deadline = match ballot {
            Ballot::Pre => {
                let spread = self.draw(half);
                self.now.after(half).after(spread)
            }
            Ballot::Real | Ballot::Handover => self.draw_deadline(),
        };
        self.role = Role::Candidate(Candidate { ballot, votes: Vec::new(), own_vote, deadline });
        self.announce(reason);
        let last = self.log.last();
        let voters: Vec<NodeId> = self.log.members().everyone().collect();
        for voter in voters {
            if voter != self.config.id && self.log.members().is_voter(voter) {
                self.send(voter, Body::Vote { ballot, last });
            }
        }
        self.count_votes();
    }

    /// A request for a vote in this term (or, for a pre-vote, in the next).
    pub(crate) fn on_vote(&mut self, from: NodeId, ballot: Ballot, last: LogPosition) {
        let ours = self.log.last();
        let up_to_date = (last.term, last.index) >= (ours.term, ours.index);
        let free = match ballot {
            Ballot::Pre => !self.is_bound_by_lease(ballot),
            Ballot::Real | Ballot::Handover => match self.hard_state.voted_for {
                Some(chosen) => chosen == from,
                None => self.leader().is_none(),
            },
        };
        let granted = up_to_date && free;
        if granted && ballot != Ballot::Pre {
            self.grant(from);
        }
        let verdict = if granted { Verdict::Granted } else { Verdict::Refused };
        self.send(from, Body::VoteReply { ballot, verdict });
    }

    fn grant(&mut self, to: NodeId) {
        if self.hard_state.voted_for.is_none() {
            let term = self.hard_state.term;
            self.write_hard_state(HardState { term, voted_for: Some(to) });
        }
        let deadline = self.draw_deadline();
        if let Role::Follower(follower) = &mut self.role {
            follower.deadline = deadline;
        }
    }

    pub(crate) fn on_vote_reply(&mut self, from: NodeId, ballot: Ballot, verdict: Verdict) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        if candidate.ballot != ballot || candidate.votes.iter().any(|(voter, _)| *voter == from) {
            return;
        }
        if self.log.members().is_voter(from) {
            candidate.votes.push((from, verdict));
            self.count_votes();
        }
    }

    /// Sees whether the votes suffice; this node's own counts once it is durable.
    pub(crate) fn count_votes(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        let own = (candidate.own_vote <= self.journal.durable()).then_some(Verdict::Granted);
        let tally = self.log.members().tally(|voter| {
            if voter == self.config.id {
                return own;
            }
            let vote = candidate.votes.iter().find(|(from, _)| *from == voter);
            vote.map(|(_, verdict)| *verdict)
        });
        match (tally, candidate.ballot) {
            (Tally::Open, _) => {}
            (Tally::Won, Ballot::Pre) => self.campaign(Ballot::Real, RoleReason::PreElected),
            (Tally::Won, Ballot::Real | Ballot::Handover) => self.become_leader(),
            (Tally::Lost, _) => self.become_follower(None, RoleReason::Lost),
        }
    }

    /// The leader asks this node to take over.
    pub(crate) fn on_timeout_now(&mut self, from: NodeId) {
        if self.leader() == Some(from) && self.may_campaign() {
            self.campaign(Ballot::Handover, RoleReason::Handover);
        }
    }

    /// Whether a leader is so fresh in mind that this kind of vote is out of the question.
    pub(crate) fn is_bound_by_lease(&self, ballot: Ballot) -> bool {
        if ballot == Ballot::Handover {
            return false;
        }
        match &self.role {
            // It steps down by itself when it loses touch with the majority.
            Role::Leader(_) => true,
            Role::Candidate(_) => false,
            Role::Follower(follower) => {
                let heard = follower.leader.and_then(|leader| leader.at);
                heard.is_some_and(|at| self.now < at.after(self.config.election_timeout))
            }
        }
    }

    /// Follows a higher term, of which no leader is known yet.
    pub(crate) fn adopt_term(&mut self, term: Term) {
        assert!(term > self.hard_state.term, "only a higher term is adopted");
        self.write_hard_state(HardState { term, voted_for: None });
        self.become_follower(None, RoleReason::HigherTerm);
    }

    pub(crate) fn become_follower(&mut self, leader: Option<NodeId>, reason: RoleReason) {
        self.leave_role();
        let deadline = self.draw_deadline();
        let leader = leader.map(|from| Heard { from, at: Some(self.now) });
        self.role = Role::Follower(Follower { leader, deadline });
        self.announce(reason);
    }

    /// A message that only the leader of this term sends. Says whether the sender is that leader.
    pub(crate) fn hear_leader(&mut self, from: NodeId) -> bool {
        let known = self.leader();
        if let Some(first) = known.filter(|leader| *leader != from) {
            let term = self.hard_state.term;
            self.halt(Fatal::TwoLeaders { term, first, second: from });
            return false;
        }
        let deadline = self.draw_deadline();
        match &mut self.role {
            Role::Follower(follower) => {
                follower.leader = Some(Heard { from, at: Some(self.now) });
                follower.deadline = deadline;
                self.announce(RoleReason::LeaderHeard);
            }
            Role::Candidate(_) | Role::Leader(_) => {
                self.become_follower(Some(from), RoleReason::LeaderHeard);
            }
        }
        if known.is_none() {
            self.on_new_leader(from);
        }
        true
    }

    /// The connection to a peer broke. If that was the leader, its process may have ended: ask
    /// the others soon, who decide by their own leases whether it is gone.
    pub(crate) fn on_unreachable(&mut self, peer: NodeId) {
        let soon = self.draw(self.config.election_timeout / 2);
        let soon = self.now.after(self.config.heartbeat_interval).after(soon);
        match &mut self.role {
            Role::Follower(follower) => {
                if let Some(leader) = follower.leader.as_mut().filter(|leader| leader.from == peer)
                {
                    leader.at = None;
                    follower.deadline = follower.deadline.min(soon);
                }
            }
            Role::Leader(leader) => {
                if let Some(peer) = leader.peer_mut(peer) {
                    peer.on_unreachable();
                }
            }
            Role::Candidate(_) => {}
        }
    }
}
