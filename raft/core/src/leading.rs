//! The leader: appending, replicating, committing, heartbeats, stepping down.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::event::{LogRead, ReadPurpose, Refused, RoleReason};
use crate::ids::{Incarnation, Index, LogPosition, NodeId, Serial, Term};
use crate::limits::{ENTRY_BYTES_MAX, MESSAGE_ENTRIES_MAX};
use crate::log::{Content, Entry, Proposal};
use crate::machine::Core;
use crate::message::{Body, Refusal};
use crate::progress::{Flow, Peer};
use crate::role::{Leader, Role};
use crate::view::LogView;

impl Core {
    pub(crate) fn become_leader(&mut self) {
        self.leave_role();
        let start = self.log.last().index.next();
        self.role = Role::Leader(Leader {
            peers: Vec::new(),
            start,
            heartbeat_due: self.now.after(self.config.heartbeat_interval),
            round: 0,
            waiting_reads: Vec::new(),
            confirming_reads: Vec::new(),
            read_index: Index::ZERO,
            changes: Vec::new(),
            transfer: None,
            uncommitted_bytes: 0,
            slow_disk_pause_until: self.slow_disk_pause(),
        });
        self.announce(RoleReason::Elected);
        self.refresh_peers();
        // Entries of former terms are committed by one of this term only (Raft paper, 5.4.2).
        self.append_as_leader(Content::Noop);
        self.adopt_pending_reads();
    }

    /// Makes the list of peers fit the members in force.
    pub(crate) fn refresh_peers(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let members = self.log.members();
        leader.peers.retain(|peer| members.everyone().any(|id| id == peer.id));
        let next = self.log.last().index.next();
        for id in members.everyone().filter(|id| *id != self.config.id) {
            if leader.peer(id).is_none() {
                leader.peers.push(Peer::new(id, next, self.now));
            }
        }
    }

    /// Appends an entry of this term and sends it, in parallel with this node's own sync.
    pub(crate) fn append_as_leader(&mut self, content: Content) -> Index {
        let index = self.log.last().index.next();
        let changes_members = matches!(content, Content::Members(_));
        let entry = Arc::new(Entry { index, term: self.hard_state.term, content });
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes += entry.bytes();
        }
        self.append(vec![entry]);
        if changes_members {
            self.refresh_peers();
        }
        self.replicate_to_all();
        if changes_members {
            // A majority may be easier to reach now.
            self.advance_commit();
        }
        index
    }

    pub(crate) fn on_own_proposal(&mut self, proposal: Arc<Proposal>) {
        let (incarnation, serial) = (proposal.incarnation, proposal.serial);
        if let Err(reason) = self.propose(proposal) {
            self.out.refused.push(Refused { incarnation, serial, reason });
        }
    }

    pub(crate) fn on_forwarded_proposal(&mut self, from: NodeId, proposal: Arc<Proposal>) {
        let (incarnation, serial) = (proposal.incarnation, proposal.serial);
        if let Err(reason) = self.propose(proposal) {
            self.send(from, Body::ProposeRefused { incarnation, serial, reason });
        }
    }

    pub(crate) fn on_refused(&mut self, incarnation: Incarnation, serial: Serial, reason: Refusal) {
        self.out.refused.push(Refused { incarnation, serial, reason });
    }

    fn propose(&mut self, proposal: Arc<Proposal>) -> Result<(), Refusal> {
        let Role::Leader(leader) = &self.role else {
            return Err(Refusal::NotLeader(self.leader()));
        };
        let bytes = proposal.entry_bytes();
        let waiting = leader.uncommitted_bytes;
        let bytes_max = self.config.limits.uncommitted_bytes;
        if bytes > ENTRY_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        if leader.transfer.is_some() || (waiting > 0 && waiting + bytes > bytes_max) {
            return Err(Refusal::Busy);
        }
        let suffice =
            |holders: &Vec<_>| self.log.members().has_majority(|id| holders.contains(&id));
        if !proposal.holders.as_ref().is_none_or(suffice) {
            return Err(Refusal::NeedHolders);
        }
        self.append_as_leader(Content::Proposal(Arc::unwrap_or_clone(proposal)));
        Ok(())
    }

    /// Says that this leader is there, and looks after what is due.
    pub(crate) fn on_heartbeat_due(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let timeout = self.config.election_timeout;
        if self.now.since(leader.heartbeat_due) > timeout {
            // This process slept; so the answers may be waiting unread. Whether it still leads,
            // the next round tells. No read is answered and nothing is committed without it.
            leader.peers.iter_mut().for_each(|peer| peer.heard = self.now);
        }
        let heard = |id| {
            leader
                .peer(id)
                .map_or(id == self.config.id, |peer| self.now < peer.heard.after(timeout))
        };
        if !self.log.members().has_majority(heard) {
            return self.become_follower(None, RoleReason::QuorumLost);
        }
        self.expire_transfer();
        if self.look_after_disk() {
            return;
        }
        let due = self.now.after(self.config.heartbeat_interval);
        if let Role::Leader(leader) = &mut self.role {
            leader.heartbeat_due = due;
        }
        self.broadcast_heartbeat();
    }

    pub(crate) fn broadcast_heartbeat(&mut self) {
        let envelope = self.envelope();
        let Role::Leader(leader) = &self.role else { return };
        let round = leader.round;
        for peer in &leader.peers {
            // Never beyond what it is known to have: it could take other entries for committed.
            let commit = self.commit.min(peer.matched);
            let matched = peer.matched;
            let message = envelope.to(peer.id, Body::Heartbeat { commit, matched, round });
            self.journal.send(&mut self.out, message);
        }
    }

    /// Leaves the present role; whoever waits for it is told.
    pub(crate) fn leave_role(&mut self) {
        self.fail_sent_reads();
        if matches!(self.role, Role::Leader(_)) {
            self.fail_leader_reads();
            self.fail_changes();
        }
    }

    pub(crate) fn replicate_to_all(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let peers: Vec<NodeId> = leader.peers.iter().map(|peer| peer.id).collect();
        for peer in peers {
            self.replicate(peer);
        }
    }

    /// Sends to a peer what its window has room for.
    pub(crate) fn replicate(&mut self, to: NodeId) {
        let window = self.config.limits.inflight_bytes;
        loop {
            let Role::Leader(leader) = &mut self.role else { return };
            let Some(peer) = leader.peer_mut(to).filter(|peer| peer.may_send(window)) else {
                return;
            };
            let from = peer.next;
            if from <= self.log.base().index {
                let at_least = self.log.base();
                peer.flow = Flow::Snapshot { at_least };
                return self.send(to, Body::InstallState { at_least });
            }
            let last = self.log.last().index;
            let bytes_max = self.config.limits.message_bytes;
            let end = self.log.fit(from, last, bytes_max, MESSAGE_ENTRIES_MAX);
            let Some(end) = end else {
                // A probe asks even when there is nothing new.
                if matches!(peer.flow, Flow::Probe { .. }) {
                    self.send_append(to, Vec::new());
                }
                return;
            };
            let Some(entries) = self.log.recent(from, end) else {
                if !core::mem::replace(&mut peer.reading, true) {
                    let purpose = ReadPurpose::Peer(to);
                    self.out.log_reads.push(LogRead { purpose, from, through: end });
                }
                return;
            };
            self.send_append(to, entries);
        }
    }

    /// Sends these entries, which begin at the peer's next one.
    fn send_append(&mut self, to: NodeId, entries: Vec<Arc<Entry>>) {
        let envelope = self.envelope();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(to) else { return };
        let index = peer.next.previous();
        let Some(term) = self.log.term_at(index) else { return };
        let previous = LogPosition { index, term };
        let last = entries.last().map_or(index, |entry| entry.index);
        let bytes = entries.iter().map(|entry| entry.bytes()).sum();
        if !entries.is_empty() || matches!(peer.flow, Flow::Probe { .. }) {
            peer.on_sent(last, bytes);
        }
        peer.told = peer.told.max(self.commit.min(last));
        let body = Body::Append { previous, commit: self.commit, entries };
        self.journal.send(&mut self.out, envelope.to(to, body));
    }

    /// Old entries for a peer came back from the log.
    pub(crate) fn on_read_for_peer(&mut self, id: NodeId, entries: Vec<Arc<Entry>>, known: bool) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(id) else { return };
        peer.reading = false;
        let fits = entries.first().is_some_and(|entry| entry.index == peer.next);
        // Otherwise the peer's next heartbeat answer asks again.
        if known && fits && peer.may_send(self.config.limits.inflight_bytes) {
            self.send_append(id, entries);
            self.replicate(id);
        }
    }

    /// An answer of a peer in this leader's term.
    pub(crate) fn on_peer_answer(&mut self, from: NodeId, body: &Body) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(from) else { return };
        (peer.heard, peer.answered) = (now, true);
        match *body {
            Body::Appended { matched } => self.on_appended(from, matched),
            Body::AppendRejected { previous, hint } => self.on_rejected(from, previous, hint),
            Body::CommittedTo { at } => self.on_committed_to(from, at),
            Body::HeartbeatReply { round, applied, placed, sync_us } => {
                peer.round = peer.round.max(round);
                peer.applied = applied;
                peer.placed = placed;
                peer.sync_time = Duration::from_micros(u64::from(sync_us));
                self.release_reads();
                self.on_sign_of_life(from);
            }
            _ => {}
        }
    }

    fn on_appended(&mut self, from: NodeId, matched: Index) {
        let (base, last) = (self.log.base().index, self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(from) else { return };
        if matched > last {
            return;
        }
        peer.on_matched(matched, base);
        self.replicate(from);
        self.advance_commit();
        self.tell_commit(from);
        self.continue_transfer();
        self.promote_learner(from);
    }

    /// The hint never counts as matched: it only says where to try next.
    fn on_rejected(&mut self, from: NodeId, previous: Index, hint: LogPosition) {
        let base = self.log.base().index;
        let common = self.log.last_not_above(hint);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(from).filter(|peer| peer.is_news(previous)) else {
            return;
        };
        if matches!(peer.flow, Flow::Replicate(_)) {
            peer.probe();
        } else {
            peer.flow = Flow::Probe { paused: false };
            let next = if hint.index < base { base } else { common.index.next() };
            peer.next = next.min(previous).max(peer.matched.next());
        }
        self.replicate(from);
    }

    /// A peer installed a state, or has compacted what it was sent. If its position is not in this
    /// log, a later leader may have committed it: then this node will hear of that.
    fn on_committed_to(&mut self, from: NodeId, at: LogPosition) {
        let base = self.log.base().index;
        if self.log.contains(at) {
            return self.on_appended(from, at.index);
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(from).filter(|peer| peer.matched < base) else { return };
        if at.index < base {
            peer.next = base;
            peer.flow = Flow::Probe { paused: false };
            self.replicate(from);
        }
    }

    /// A peer answered a heartbeat: what it was sent and did not acknowledge may be lost.
    fn on_sign_of_life(&mut self, id: NodeId) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(id) else { return };
        match &mut peer.flow {
            Flow::Snapshot { at_least } => {
                let at_least = *at_least;
                self.send(id, Body::InstallState { at_least });
            }
            Flow::Probe { paused } => {
                *paused = false;
                self.replicate(id);
            }
            Flow::Replicate(_) if peer.matched < last => {
                let next = peer.next;
                self.replicate(id);
                self.ask_whether_lost(id, next);
            }
            Flow::Replicate(_) => {}
        }
        self.tell_commit(id);
        self.continue_transfer();
        self.promote_learner(id);
    }

    /// Without anything new to send, an empty append finds out whether something is missing.
    fn ask_whether_lost(&mut self, id: NodeId, next: Index) {
        let base = self.log.base().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(id) else { return };
        if peer.next != next || !matches!(peer.flow, Flow::Replicate(_)) {
            return;
        }
        if peer.next > base {
            self.send_append(id, Vec::new());
        } else {
            // What it was sent last is compacted already: the log cannot answer for it any more.
            peer.probe();
            self.replicate(id);
        }
    }

    /// Commits what a majority has, if it is of this term (Raft paper, 5.4.2).
    pub(crate) fn advance_commit(&mut self) {
        let own = self.journal.durable_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let reached = self.log.members().reached_by_majority(|id| {
            if id == self.config.id {
                return own.get();
            }
            leader.peer(id).map_or(0, |peer| peer.matched.get())
        });
        let reached = Index::new(reached);
        if reached <= self.commit || self.log.term_at(reached) != Some(self.hard_state.term) {
            return;
        }
        let first = self.commit.next().max(leader.start);
        leader.uncommitted_bytes -= self.log.weight(first, reached);
        self.commit = reached;
        let peers: Vec<NodeId> = leader.peers.iter().map(|peer| peer.id).collect();
        for peer in peers {
            self.tell_commit(peer);
        }
        self.start_reads();
        self.go_on_changing();
    }

    /// Tells a peer at once what of its log is committed, unless it knows.
    fn tell_commit(&mut self, to: NodeId) {
        let envelope = self.envelope();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peer_mut(to) else { return };
        let commit = self.commit.min(peer.matched);
        if commit > peer.told {
            peer.told = commit;
            self.journal.send(&mut self.out, envelope.to(to, Body::Commit { commit }));
        }
    }
}

impl Leader {
    pub(crate) fn check(&self, log: &LogView, term: Term) -> Result<(), &'static str> {
        let last = log.last().index;
        if log.term_at(self.start).is_some_and(|start| start != term) {
            return Err("a leader's first entry is not of its term");
        }
        for peer in &self.peers {
            if peer.matched > last || peer.next > last.next() {
                return Err("a peer is ahead of its leader");
            }
            if peer.next <= peer.matched {
                return Err("a peer is sent what it has");
            }
        }
        Ok(())
    }
}
