//! Handing over leadership: at a request, or because this leader's disk does not keep up.

use alloc::vec::Vec;
use core::time::Duration;

use crate::event::{Handover, HandoverReason, RoleReason, TransferFailure};
use crate::ids::NodeId;
use crate::machine::Core;
use crate::message::Body;
use crate::role::{Role, Transfer};
use crate::time::Time;

/// A leader whose disk is slow looks for a better one no more often than this many election
/// timeouts.
const SLOW_DISK_PAUSE: u32 = 20;

impl Core {
    /// Hands over to `target`, or to the voter that is furthest.
    pub(crate) fn on_transfer(&mut self, target: Option<NodeId>) {
        let failure = match (&self.role, self.best_voter(target)) {
            (Role::Leader(_), Some(to)) => return self.hand_over(to, HandoverReason::Asked),
            (Role::Leader(_), None) => TransferFailure::NoTarget,
            _ => TransferFailure::NotLeader,
        };
        self.out.transfer_failed = Some(failure);
    }

    /// The voter that is furthest, or `target` if it is one: of those that are heard, if any is.
    /// Among equals the one that was heard last.
    pub(crate) fn best_voter(&self, target: Option<NodeId>) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let members = self.log.members();
        // Both sets must want it: a voter on its way out does not lead any more.
        let may_lead = |id| members.get(id).is_some_and(|member| member.role.is_voter());
        let voters = leader
            .peers
            .iter()
            .filter(|peer| may_lead(peer.id) && target.is_none_or(|target| target == peer.id));
        let best = voters.max_by_key(|peer| (self.is_there(peer.id), peer.matched, peer.heard));
        best.map(|peer| peer.id)
    }

    fn hand_over(&mut self, to: NodeId, reason: HandoverReason) {
        let deadline = self.now.after(self.config.election_timeout);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.transfer = Some(Transfer { to, deadline, told: false });
        self.out.handover = Some(Handover { to, reason });
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

    /// Whether this node's disk takes nothing in: it must not lead then.
    pub(crate) fn is_disk_stalled(&self) -> bool {
        self.stalled_for() >= self.config.disk_stall_timeout / 2
    }

    /// Whether syncs take so long here that others should lead.
    pub(crate) fn is_disk_slow(&self) -> bool {
        self.journal.sync_time() >= self.config.heartbeat_interval
    }

    /// The age of the oldest sync that does not end.
    fn stalled_for(&self) -> Duration {
        self.journal.waits_since().map_or(Duration::ZERO, |since| self.now.since(since))
    }

    /// With a disk that hangs this leader hands over, and steps down if nobody takes over. With
    /// one that is slow it hands over to somebody whose disk is not. Says whether it stepped down.
    pub(crate) fn look_after_disk(&mut self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        if self.is_only_voter() {
            return false;
        }
        if self.stalled_for() >= self.config.disk_stall_timeout {
            self.become_follower(None, RoleReason::DiskStalled);
            return true;
        }
        if leader.transfer.is_some() {
            return false;
        }
        if self.is_disk_stalled() {
            if let Some(to) = self.best_voter(None) {
                self.hand_over(to, HandoverReason::DiskStalled);
            }
        } else if self.is_disk_slow() && self.now >= leader.slow_disk_pause_until {
            self.leave_to_faster_disk();
        }
        false
    }

    fn leave_to_faster_disk(&mut self) {
        let until = self.slow_disk_pause();
        let own = self.journal.sync_time();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.slow_disk_pause_until = until;
        let is_faster = |id| {
            let theirs = leader.peer(id).map(|peer| peer.sync_time);
            theirs.is_some_and(|theirs| !theirs.is_zero() && theirs * 2 < own)
        };
        let faster = self.log.members().voters().filter(|id| is_faster(*id));
        let faster: Vec<NodeId> = faster.collect();
        let mut there = faster.into_iter().filter(|id| self.is_there(*id));
        if let Some(to) = there.find_map(|id| self.best_voter(Some(id))) {
            self.hand_over(to, HandoverReason::DiskSlow);
        }
    }

    /// Until when a leader that begins, or looked, does not look for a faster disk.
    pub(crate) fn slow_disk_pause(&self) -> Time {
        self.now.after(self.config.election_timeout * SLOW_DISK_PAUSE)
    }
}
