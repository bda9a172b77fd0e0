//! Changing the members, and handing over leadership.
//!
//! One change at a time, each a whole new list in one entry; in force from the moment when it is
//! in the log (thesis, 4.1). A node is added as a learner and becomes a voter, by a second entry,
//! once it is less than one heartbeat behind: a dead or slow learner harms nobody (thesis, 4.2.1).

use alloc::vec::Vec;

use crate::event::{Change, ChangeAnswer, ChangeId, ChangeRefusal, TransferFailure};
use crate::ids::NodeId;
use crate::limits::{CHANGES_MAX, MEMBERS_MAX, NAME_BYTES_MAX};
use crate::log::Content;
use crate::machine::Core;
use crate::members::{Member, MemberRole, Members};
use crate::message::Body;
use crate::role::{Leader, PendingChange, Role, Transfer};

impl Core {
    pub(crate) fn on_change(&mut self, request: ChangeId, change: Change) {
        let Change::Add { name, address } = change;
        if let Err(refusal) = self.add(request, name, address) {
            self.out.changes.push(ChangeAnswer { request, result: Err(refusal) });
        }
    }

    /// Adds a learner. `Ok`: the answer follows, or was given.
    fn add(
        &mut self,
        request: ChangeId,
        name: alloc::string::String,
        address: alloc::string::String,
    ) -> Result<(), ChangeRefusal> {
        let Role::Leader(leader) = &self.role else {
            return Err(ChangeRefusal::NotLeader(self.leader()));
        };
        let members = self.log.members();
        let valid = |text: &str| !text.is_empty() && text.len() <= NAME_BYTES_MAX;
        if !valid(&name) || !valid(&address) || leader.changes.len() >= CHANGES_MAX {
            return Err(ChangeRefusal::Invalid);
        }
        if let Some(known) = members.members.iter().find(|m| m.name == name || m.address == address)
        {
            if known.name != name || known.address != address {
                return Err(ChangeRefusal::Taken(known.clone()));
            }
            let member = known.clone();
            self.await_change(request, member);
            return Ok(());
        }
        if !self.may_change_members(leader) {
            return Err(ChangeRefusal::InProgress);
        }
        if members.members.len() >= MEMBERS_MAX {
            return Err(ChangeRefusal::Invalid);
        }
        let mut members = members.clone();
        let id = members.next_id;
        let member = Member { id, name, address, role: MemberRole::Learner };
        members.members.push(member.clone());
        members.next_id = id.next();
        self.append_as_leader(Content::Members(members));
        self.await_change(request, member);
        Ok(())
    }

    /// One change at a time, and none before this leader has committed in its own term: otherwise
    /// two leaders could change disjoint majorities (Ongaro, raft-dev, July 2015).
    fn may_change_members(&self, leader: &Leader) -> bool {
        self.commit >= leader.start
            && self.commit >= self.log.members_index()
            && self.log.members().outgoing_voters.is_empty()
            && leader.transfer.is_none()
    }

    /// Answers once the members in force are committed.
    fn await_change(&mut self, request: ChangeId, member: Member) {
        let at = self.log.members_index();
        if let Role::Leader(leader) = &mut self.role {
            leader.changes.push(PendingChange { request, at, member });
        }
        self.finish_changes();
    }

    /// After a commit: answers who waits for it, and goes on with the next learner.
    pub(crate) fn finish_changes(&mut self) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        let out = &mut self.out;
        leader.changes.retain(|change| {
            let done = change.at <= commit;
            if done {
                let (request, member) = (change.request, change.member.clone());
                out.changes.push(ChangeAnswer { request, result: Ok(member) });
            }
            !done
        });
    }

    pub(crate) fn fail_changes(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        for change in core::mem::take(&mut leader.changes) {
            let (request, result) = (change.request, Err(ChangeRefusal::Unknown));
            self.out.changes.push(ChangeAnswer { request, result });
        }
    }

    /// Makes a learner a voter if it has caught up.
    pub(crate) fn promote_learner(&mut self, id: NodeId) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(peer) = leader.peer(id) else { return };
        let members = self.log.members();
        let learner = members.get(id).is_some_and(|member| !member.role.is_voter());
        let caught_up = peer.goal.is_some_and(|goal| peer.matched >= goal);
        if learner && caught_up && self.may_change_members(leader) {
            let promoted = members.with_voter(id);
            self.append_as_leader(Content::Members(promoted));
        }
    }

    /// Hands over to `target`, or to the voter that is furthest.
    pub(crate) fn on_transfer(&mut self, target: Option<NodeId>) {
        let deadline = self.now.after(self.config.election_timeout);
        let Role::Leader(leader) = &mut self.role else {
            self.out.transfer_failed = Some(TransferFailure::NotLeader);
            return;
        };
        let members = self.log.members();
        let voters = leader.peers.iter().filter(|peer| {
            members.is_voter(peer.id) && target.is_none_or(|target| target == peer.id)
        });
        // Among equals the one that was heard last: the others may be gone.
        let Some(best) = voters.max_by_key(|peer| (peer.matched, peer.heard)) else {
            self.out.transfer_failed = Some(TransferFailure::NoTarget);
            return;
        };
        leader.transfer = Some(Transfer { to: best.id, deadline, told: false });
        self.continue_transfer();
    }

    /// Once the target has everything it is told to campaign.
    pub(crate) fn continue_transfer(&mut self) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = leader.transfer.filter(|transfer| !transfer.told) else { return };
        if leader.peer(transfer.to).is_some_and(|peer| peer.matched == last) {
            leader.transfer = Some(Transfer { told: true, ..transfer });
            self.send(transfer.to, Body::TimeoutNow);
        }
    }

    pub(crate) fn expire_transfer(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.transfer.is_some_and(|transfer| self.now >= transfer.deadline) {
            leader.transfer = None;
            self.out.transfer_failed = Some(TransferFailure::TimedOut);
        }
    }
}

impl Members {
    /// The same members, `id` being a voter.
    fn with_voter(&self, id: NodeId) -> Self {
        let promote = |member: &Member| {
            let role = if member.id == id { MemberRole::Voter } else { member.role };
            Member { role, ..member.clone() }
        };
        let members: Vec<Member> = self.members.iter().map(promote).collect();
        Self { members, ..self.clone() }
    }
}
