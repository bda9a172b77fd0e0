//! Linearizable reads without log entries: `ReadIndex` (thesis, 6.4).
//!
//! The leader notes its commit index, makes sure by one round of heartbeats that it still leads,
//! and answers. Reads that come while a round is under way share the next one.

use alloc::vec::Vec;

use crate::event::ReadAnswer;
use crate::ids::{Index, NodeId, ReadId};
use crate::limits::READS_MAX;
use crate::machine::Core;
use crate::message::Body;
use crate::role::{Reader, Role};
use crate::time::Time;

/// A read of this node's while it does not lead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingRead {
    pub(crate) id: ReadId,
    /// The leader that was asked; `None` while none is known.
    pub(crate) asked: Option<NodeId>,
    /// When to give up.
    pub(crate) deadline: Time,
}

impl Core {
    pub(crate) fn on_own_read(&mut self, id: ReadId) {
        if matches!(self.role, Role::Leader(_)) {
            return self.queue_read(Reader { node: self.config.id, id });
        }
        if self.pending_reads.len() >= READS_MAX {
            return self.out.reads.push(ReadAnswer { id, index: None });
        }
        let asked = self.leader();
        let deadline = self.now.after(self.config.election_timeout * 2);
        self.pending_reads.push(PendingRead { id, asked, deadline });
        if let Some(leader) = asked {
            self.send(leader, Body::ReadIndex { id });
        }
    }

    pub(crate) fn on_peer_read(&mut self, from: NodeId, id: ReadId) {
        if matches!(self.role, Role::Leader(_)) {
            self.queue_read(Reader { node: from, id });
        } else {
            self.send(from, Body::ReadIndexReply { id, index: None });
        }
    }

    pub(crate) fn on_read_answer(&mut self, from: NodeId, id: ReadId, index: Option<Index>) {
        let place = self.pending_reads.iter().position(|r| r.id == id && r.asked == Some(from));
        if let Some(place) = place {
            self.pending_reads.remove(place);
            self.out.reads.push(ReadAnswer { id, index });
        }
    }

    /// A leader is known now: ask it.
    pub(crate) fn send_pending_reads(&mut self, leader: NodeId) {
        let mut ids = Vec::new();
        for read in self.pending_reads.iter_mut().filter(|read| read.asked.is_none()) {
            read.asked = Some(leader);
            ids.push(read.id);
        }
        for id in ids {
            self.send(leader, Body::ReadIndex { id });
        }
    }

    /// This node leads now: its own reads become the leader's.
    pub(crate) fn adopt_pending_reads(&mut self) {
        for read in core::mem::take(&mut self.pending_reads) {
            self.queue_read(Reader { node: self.config.id, id: read.id });
        }
    }

    /// The leader that was asked is one no more: a later confirmation would be worth nothing.
    pub(crate) fn fail_sent_reads(&mut self) {
        let out = &mut self.out;
        self.pending_reads.retain(|read| {
            if read.asked.is_some() {
                out.reads.push(ReadAnswer { id: read.id, index: None });
            }
            read.asked.is_none()
        });
    }

    pub(crate) fn expire_reads(&mut self) {
        let (now, out) = (self.now, &mut self.out);
        self.pending_reads.retain(|read| {
            let expired = now >= read.deadline;
            if expired {
                out.reads.push(ReadAnswer { id: read.id, index: None });
            }
            !expired
        });
    }

    pub(crate) fn fail_leader_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let mut readers = core::mem::take(&mut leader.waiting_reads);
        readers.append(&mut leader.confirming_reads);
        for reader in readers {
            self.answer_read(reader, None);
        }
    }

    fn queue_read(&mut self, reader: Reader) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.waiting_reads.len() + leader.confirming_reads.len() >= READS_MAX {
            return self.answer_read(reader, None);
        }
        leader.waiting_reads.push(reader);
        self.start_reads();
    }

    /// Begins a round for the reads that wait, unless one is under way or nothing is committed in
    /// this term yet: before that the commit index may be older than what clients have seen.
    pub(crate) fn start_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let busy = !leader.confirming_reads.is_empty();
        if busy || leader.waiting_reads.is_empty() || self.commit < leader.start {
            return;
        }
        leader.round += 1;
        leader.read_index = self.commit;
        leader.confirming_reads = core::mem::take(&mut leader.waiting_reads);
        self.broadcast_heartbeat();
        self.release_reads();
    }

    /// Answers the reads of this round once a majority has answered it.
    pub(crate) fn release_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let confirmed =
            |id| leader.peer(id).map_or(id == self.config.id, |peer| peer.round >= leader.round);
        if leader.confirming_reads.is_empty() || !self.log.members().has_majority(confirmed) {
            return;
        }
        let index = leader.read_index;
        for reader in core::mem::take(&mut leader.confirming_reads) {
            self.answer_read(reader, Some(index));
        }
        self.start_reads();
    }

    fn answer_read(&mut self, reader: Reader, index: Option<Index>) {
        let Reader { node, id } = reader;
        if node == self.config.id {
            self.out.reads.push(ReadAnswer { id, index });
        } else {
            self.send(node, Body::ReadIndexReply { id, index });
        }
    }
}
