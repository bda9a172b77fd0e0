//! The follower: taking entries, learning what is committed, installing a whole state.

use alloc::sync::Arc;

use crate::event::{Fatal, LogOp, NeedState, RoleReason};
use crate::ids::{Index, LogPosition, NodeId};
use crate::log::{Entry, HardState};
use crate::machine::Core;
use crate::members::Members;
use crate::message::Body;
use crate::role::Role;

impl Core {
    /// Entries of the leader of this term.
    pub(crate) fn on_append(
        &mut self,
        from: NodeId,
        previous: LogPosition,
        commit: Index,
        entries: &[Arc<Entry>],
    ) {
        if !self.is_well_formed(previous, entries) {
            return;
        }
        if previous.index < self.log.base().index {
            return self.vouch_for_commit(from);
        }
        if !self.log.contains(previous) {
            return self.reject(from, previous);
        }
        if !self.take(entries) {
            return;
        }
        let matched = entries.last().map_or(previous.index, |entry| entry.index);
        // Entries beyond these may be left from a former leader: they are not vouched for.
        self.commit = self.commit.max(commit.min(matched));
        self.vouch(from, matched, Body::Appended { matched });
    }

    /// What no honest leader sends is not even looked at.
    fn is_well_formed(&self, previous: LogPosition, entries: &[Arc<Entry>]) -> bool {
        let mut before = previous;
        entries.iter().all(|entry| {
            let follows = entry.index == before.index.next()
                && entry.term >= before.term
                && entry.term <= self.hard_state.term;
            before = entry.position();
            follows
        })
    }

    /// Puts into the log what it has not; says whether that was possible. Entries that are there
    /// already stay, and so does what follows them (a message may be old).
    fn take(&mut self, entries: &[Arc<Entry>]) -> bool {
        let known = entries.iter().take_while(|entry| self.log.contains(entry.position())).count();
        let Some(new) = entries.get(known..).filter(|new| !new.is_empty()) else { return true };
        let Some(at) = new.first().map(|entry| entry.position()) else { return true };
        if let Some(ours) = self.log.term_at(at.index) {
            if at.index <= self.commit {
                self.on_contradiction(Fatal::CommittedConflict {
                    at: at.index,
                    ours,
                    theirs: at.term,
                });
                return false;
            }
            self.truncate(at.index);
        }
        self.append(new.to_vec());
        true
    }

    fn reject(&mut self, to: NodeId, previous: LogPosition) {
        if previous.index <= self.commit {
            let ours = self.log.term_at(previous.index).unwrap_or_default();
            return self.on_contradiction(Fatal::CommittedConflict {
                at: previous.index,
                ours,
                theirs: previous.term,
            });
        }
        let hint = self.log.last_not_above(previous);
        self.send(to, Body::AppendRejected { previous: previous.index, hint });
    }

    /// The leader contradicts what is committed here. An installed state may come from a later
    /// leader than the sender; then the sender is merely outdated, and its message void.
    fn on_contradiction(&mut self, fatal: Fatal) {
        match fatal {
            Fatal::CommittedConflict { at, .. } if at <= self.supply.installed => {}
            fatal => self.halt(fatal),
        }
    }

    /// Sends what says that the log up to `index` is durable here, once it is.
    fn vouch(&mut self, to: NodeId, index: Index, body: Body) {
        let message = self.envelope().to(to, body);
        self.journal.send_acknowledgement(&mut self.out, index, message);
    }

    /// Tells a leader that thinks too little of this log where to go on.
    fn vouch_for_commit(&mut self, to: NodeId) {
        let Some(term) = self.log.term_at(self.commit) else { return };
        let at = LogPosition { index: self.commit, term };
        self.vouch(to, self.commit, Body::CommittedTo { at });
    }

    /// The leader says what of this log is committed; it knows that all of that is here.
    pub(crate) fn learn_commit(&mut self, commit: Index) {
        let last = self.log.last().index;
        if commit > last {
            return self.halt(Fatal::LogLost { acknowledged: commit, last });
        }
        self.commit = self.commit.max(commit);
    }

    pub(crate) fn on_heartbeat(&mut self, from: NodeId, matched: Index, commit: Index, round: u64) {
        // What was acknowledged counts at the leader: a disk that has lost it must be told.
        let last = self.log.last().index;
        if matched > last {
            return self.halt(Fatal::LogLost { acknowledged: matched, last });
        }
        self.learn_commit(commit);
        let answer = self.heartbeat_reply(round);
        self.send(from, answer);
        self.need_state_below_base(from);
    }

    pub(crate) fn heartbeat_reply(&self, round: u64) -> Body {
        let (applied, placed) = (self.supply.applied(), self.supply.placed());
        let sync_us = u32::try_from(self.journal.sync_time().as_micros()).unwrap_or(u32::MAX);
        Body::HeartbeatReply { round, applied, placed, sync_us }
    }

    /// The leader has no more the entries that come next here.
    pub(crate) fn on_install_state(&mut self, from: NodeId, at_least: LogPosition) {
        if self.commit >= at_least.index {
            // It is behind the times. Let it find out what is here.
            return self.vouch_for_commit(from);
        }
        self.need_state(NeedState { from, at_least });
    }

    fn need_state(&mut self, need: NeedState) {
        if self.supply.awaiting != Some(need) {
            self.supply.awaiting = Some(need);
            self.out.need_state = Some(need);
        }
    }

    /// The state above may be older than the log begins: its disk lost something.
    fn need_state_below_base(&mut self, leader: NodeId) {
        let at_least = self.log.base();
        if self.supply.handed() < at_least.index && self.supply.awaiting.is_none() {
            self.need_state(NeedState { from: leader, at_least });
        }
    }

    /// A leader was heard for the first time in its term.
    pub(crate) fn on_new_leader(&mut self, leader: NodeId) {
        if let Some(need) = self.supply.awaiting {
            self.need_state(NeedState { from: leader, ..need });
        }
        self.send_pending_reads(leader);
    }

    /// The room above has a whole state now.
    pub(crate) fn on_state_installed(&mut self, at: LogPosition, members: Members) {
        let known = self.log.contains(at);
        if at.index < self.log.base().index || (!known && matches!(self.role, Role::Leader(_))) {
            return;
        }
        if at.term > self.hard_state.term {
            // Somebody led that term; whoever this node followed does not lead any more.
            self.write_hard_state(HardState { term: at.term, voted_for: None });
            self.become_follower(None, RoleReason::HigherTerm);
        }
        if !known {
            self.log.reset(at, members.clone());
            self.members_changed = true;
            self.journal.write(&mut self.out, self.now, LogOp::Reset { at, members });
            self.commit = at.index;
        }
        self.commit = self.commit.max(at.index);
        self.supply.on_installed(at.index);
        if let Some(leader) = self.leader().filter(|leader| *leader != self.config.id) {
            self.vouch_for_commit(leader);
        }
    }
}
