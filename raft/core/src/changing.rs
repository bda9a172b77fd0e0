//! Changing the members.
//!
//! One change at a time, each a whole new list in one entry; in force from the moment when it is
//! in the log (thesis, 4.1). If the voters change, that list names both sets of voters, and every
//! decision needs a majority of each; once it is committed a second entry names the new set alone
//! (thesis, 4.3). Whoever leads then appends it, so a change outlives its leader. A node is added
//! as a learner and becomes a voter, by a change of its own, once what was new when a round
//! of catching up began took it less than an election timeout: a dead or slow learner harms nobody
//! (thesis, 4.2.1).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::change::Changed;
use crate::event::{
    Change, ChangeAnswer, ChangeId, ChangeRefusal, Handover, HandoverReason, RoleReason,
};
use crate::ids::NodeId;
use crate::limits::CHANGES_MAX;
use crate::log::Content;
use crate::machine::Core;
use crate::members::{Member, Members};
use crate::message::Body;
use crate::progress::Peer;
use crate::role::{Leader, PendingChange, Role};

impl Core {
    pub(crate) fn on_change(&mut self, request: ChangeId, change: &Change) {
        if let Err(refusal) = self.change_members(request, change) {
            self.out.changes.push(ChangeAnswer { request, result: Err(refusal) });
        }
    }

    /// `Ok`: the answer follows, or was given.
    fn change_members(&mut self, request: ChangeId, change: &Change) -> Result<(), ChangeRefusal> {
        let Role::Leader(leader) = &self.role else {
            return Err(ChangeRefusal::NotLeader(self.leader()));
        };
        let at = self.log.members_index().max(leader.start);
        if leader.changes.len() >= CHANGES_MAX {
            return Err(ChangeRefusal::InProgress { at });
        }
        let members = self.log.members();
        let heard = |id| self.may_be_there(id);
        let Changed { members: target, member } =
            members.changed(change, self.log.last().index.next(), heard)?;
        if target != members.settled() {
            if !self.may_change_members(leader) {
                return Err(ChangeRefusal::InProgress { at });
            }
            self.check_reach(&target)?;
            self.set_members(target);
        }
        self.await_change(request, member);
        Ok(())
    }

    /// The one order there is: the members are these.
    fn set_members(&mut self, target: Members) {
        let next = self.log.members().on_the_way_to(target);
        self.append_as_leader(Content::Members(next));
    }

    /// One change at a time, and none before this leader has committed in its own term: otherwise
    /// two leaders could change disjoint majorities (Ongaro, raft-dev, July 2015).
    fn may_change_members(&self, leader: &Leader) -> bool {
        self.commit >= leader.start
            && self.commit >= self.log.members_index()
            && !self.log.members().is_joint()
            && leader.transfer.is_none()
    }

    /// New voters that cannot be reached must not stop the cluster.
    fn check_reach(&self, target: &Members) -> Result<(), ChangeRefusal> {
        if self.log.members().voters().eq(target.voters()) {
            return Ok(());
        }
        let (heard, missing): (Vec<NodeId>, Vec<NodeId>) =
            target.voters().partition(|id| self.is_there(*id));
        let needed = target.voters().count() / 2 + 1;
        let missing = missing.first().and_then(|id| target.get(*id));
        match missing.filter(|_| heard.len() < needed) {
            None => Ok(()),
            Some(missing) => {
                let (heard, missing) = (heard.len(), Box::new(missing.clone()));
                Err(ChangeRefusal::TooFew { heard, needed, missing })
            }
        }
    }

    /// Whether this leader hears the node, itself included.
    pub(crate) fn is_there(&self, id: NodeId) -> bool {
        self.hears(id, |peer| peer.answered)
    }

    /// As [`Core::is_there`], and also while it had no time to answer yet.
    fn may_be_there(&self, id: NodeId) -> bool {
        self.hears(id, |_| true)
    }

    fn hears(&self, id: NodeId, counts: impl Fn(&Peer) -> bool) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let timeout = self.config.election_timeout;
        let heard = |peer| counts(peer) && self.now < peer.heard.after(timeout);
        leader.peer(id).map_or(id == self.config.id, heard)
    }

    /// Answers once the members in force are committed, and a change of voters is over.
    fn await_change(&mut self, request: ChangeId, member: Member) {
        if let Role::Leader(leader) = &mut self.role {
            leader.changes.push(PendingChange { request, member });
        }
        self.answer_changes();
    }

    /// After a commit: finishes what is under way, answers who waits for it, and steps down if
    /// this node is no voter any more.
    pub(crate) fn go_on_changing(&mut self) {
        self.leave_joint();
        self.answer_changes();
        self.step_down_if_removed();
    }

    /// The members in force, once they are committed.
    fn committed_in_force(&self) -> Option<&Members> {
        let Role::Leader(leader) = &self.role else { return None };
        let committed = self.commit >= leader.start && self.commit >= self.log.members_index();
        committed.then(|| self.log.members())
    }

    /// Both sets of voters have agreed to the new one: from now on it is alone. Not before this
    /// leader has committed in its term, so that nobody appends it twice.
    fn leave_joint(&mut self) {
        if let Some(members) = self.committed_in_force().filter(|members| members.is_joint()) {
            let settled = members.settled();
            self.append_as_leader(Content::Members(settled));
        }
    }

    fn answer_changes(&mut self) {
        if self.committed_in_force().is_none_or(Members::is_joint) {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        for PendingChange { request, member } in core::mem::take(&mut leader.changes) {
            self.out.changes.push(ChangeAnswer { request, result: Ok(member) });
        }
    }

    /// A leader that is no voter serves the change to its end, hands over and is a leader no more
    /// (thesis, 4.2.2).
    fn step_down_if_removed(&mut self) {
        let me = self.config.id;
        if self.committed_in_force().is_none_or(|members| members.is_voter(me)) {
            return;
        }
        if let Some(to) = self.best_voter(None) {
            self.out.handover = Some(Handover { to, reason: HandoverReason::Removed });
            self.send(to, Body::TimeoutNow);
        }
        self.become_follower(None, RoleReason::Removed);
    }

    pub(crate) fn fail_changes(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        for change in core::mem::take(&mut leader.changes) {
            let (request, result) = (change.request, Err(ChangeRefusal::Unknown));
            self.out.changes.push(ChangeAnswer { request, result });
        }
    }

    /// Makes a learner a voter if it is to be one and has caught up.
    pub(crate) fn promote_learner(&mut self, id: NodeId) {
        let (last, now) = (self.log.last().index, self.now);
        let Some(target) = self.log.members().promoted(id, last.next()) else { return };
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(id) else { return };
        let round = peer.round_of_catching_up(last, now);
        let caught_up = round.is_some_and(|took| took < self.config.election_timeout);
        let Role::Leader(leader) = &self.role else { return };
        if caught_up && self.may_change_members(leader) && self.check_reach(&target).is_ok() {
            self.set_members(target);
        }
    }
}
