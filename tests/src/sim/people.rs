//! What people and the rooms above do: propose, read, make states durable, hand over.

use std::sync::Arc;

use pickbox_raft_core::Event;
use pickbox_raft_core::event::RoleName;
use pickbox_raft_core::ids::{Index, NodeId, ReadId};
use pickbox_raft_core::log::Proposal;

use super::faults::Deed;
use super::world::{Plan, World};

/// Proposals are usually smaller than this, so that several fit into one message.
const SMALL_BYTES: u64 = 400;
/// A large one is no larger than this: more than a message, less than what may be uncommitted.
const LARGE_BYTES: u64 = 3_000;

impl World {
    /// What people do on any day.
    pub(super) fn do_daily(&mut self) -> Result<(), String> {
        let daily_us = self.faults.daily_us;
        let after = self.random.between(daily_us / 10, daily_us);
        self.plan(after, Plan::Daily);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let Some(id) = self.random.pick(&ids) else { return Ok(()) };
        if self.quiet {
            return self.ask_again();
        }
        let (dice, lot) = (self.random.between(0, 19), self.random.pick(&ids));
        match dice {
            0..=5 if self.faults.allows(Deed::Read) => self.begin_read(id),
            6..=10 if self.faults.allows(Deed::Compact) => self.checkpoint(id),
            11..=12 if self.faults.allows(Deed::Transfer) => {
                self.tell(|| format!("{id} is asked to hand over to {lot:?}"));
                self.report.tally.count(Deed::Transfer);
                let to = lot.filter(|_| dice == 11);
                self.react(id, Event::Transfer(to))
            }
            13..=18 if self.wish.is_some() => self.ask_again(),
            13..=18 => self.wish_for_change(),
            19 => {
                self.stop_removed();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Proposes something new, or once more what was not seen yet.
    pub(super) fn propose(&mut self, id: NodeId) -> Result<(), String> {
        let is_large = self.faults.allows(Deed::Large) && self.random.per_mille(30);
        let bytes = self.random.between(0, if is_large { LARGE_BYTES } else { SMALL_BYTES });
        let again = self.random.between(150_000, 400_000);
        let (run, quiet, now) = (self.run_of(id), self.quiet, self.now);
        let Some(up) = self.up(id) else { return Ok(()) };
        // In the end everybody has one last word.
        if quiet && up.client.outstanding.is_none() && std::mem::replace(&mut up.client.done, true)
        {
            return Ok(());
        }
        let proposal = match &up.client.outstanding {
            Some(proposal) => Arc::clone(proposal),
            None => up.client.next(id, usize::try_from(bytes).unwrap_or(0), now),
        };
        if is_large {
            self.report.tally.count(Deed::Large);
        }
        self.tell(|| format!("{id} proposes {}", proposal.serial));
        self.plan_client(id, run, again);
        self.send_proposal(id, proposal)
    }

    fn send_proposal(&mut self, id: NodeId, proposal: Arc<Proposal>) -> Result<(), String> {
        let Some(up) = self.up(id) else { return Ok(()) };
        match up.core.forward(Arc::clone(&proposal)) {
            Some(message) => {
                self.send(&message);
                Ok(())
            }
            None if up.core.role() == RoleName::Leader => self.react(id, Event::Propose(proposal)),
            None => Ok(()),
        }
    }

    /// Fetches a whole state from another node.
    pub(super) fn fetch(&mut self, id: NodeId) -> Result<(), String> {
        let run = self.run_of(id);
        let Some(need) = self.up(id).and_then(|up| up.need) else { return Ok(()) };
        let source = self.nodes.get(&need.from).and_then(|node| node.up.as_ref());
        let found = source.filter(|up| up.machine.at.index >= need.at_least.index).map(|up| {
            let members = up.core.members_at(up.machine.at.index).clone();
            (up.machine.clone(), members)
        });
        let Some((mut machine, members)) = found.filter(|_| self.random.per_mille(700)) else {
            self.plan(50_000, Plan::Fetch(id, run));
            return Ok(());
        };
        machine.members = Some(members.clone());
        let at = machine.at;
        self.tell(|| format!("{id} installs the state of {at:?} from {}", need.from));
        self.report.tally.count(Deed::Install);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.checkpoint = machine.clone();
        if let Some(up) = &mut node.up {
            up.need = None;
            up.machine = machine;
            up.applying.clear();
        }
        self.react(id, Event::StateInstalled { at, members })
    }

    fn begin_read(&mut self, id: NodeId) -> Result<(), String> {
        self.next_request += 1;
        let read = ReadId::new(self.next_request);
        let floor = self.checker.committed();
        let Some(up) = self.up(id) else { return Ok(()) };
        up.reads.push((read, floor));
        self.react(id, Event::ReadIndex(read))
    }

    pub(super) fn end_read(
        &mut self,
        id: NodeId,
        read: ReadId,
        index: Option<Index>,
    ) -> Result<(), String> {
        let Some(up) = self.up(id) else { return Ok(()) };
        let Some(place) = up.reads.iter().position(|(known, _)| *known == read) else {
            return Err(format!("{id} answers read {read} twice"));
        };
        let (_, floor) = up.reads.swap_remove(place);
        match index {
            Some(index) => {
                self.report.tally.count(Deed::Read);
                self.checker.on_read(id, floor, index)
            }
            None => Ok(()),
        }
    }

    /// Makes the state above durable, and lets the log go up to some entry before it.
    fn checkpoint(&mut self, id: NodeId) -> Result<(), String> {
        let kept = self.random.between(0, 10);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(up) = &node.up else { return Ok(()) };
        node.checkpoint = up.machine.clone();
        self.report.tally.count(Deed::Compact);
        let through = Index::new(up.machine.at.index.get().saturating_sub(kept));
        self.tell(|| format!("{id} makes its state durable and needs nothing up to {through}"));
        self.react(id, Event::Compact { through })?;
        self.remember(id);
        Ok(())
    }

    /// Sometimes a picture of a disk is kept, for an evil day.
    fn remember(&mut self, id: NodeId) {
        let wanted = self.faults.allows(Deed::OldImage) || self.faults.allows(Deed::StaleBlock);
        if wanted
            && self.random.per_mille(200)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.remember();
        }
    }
}
