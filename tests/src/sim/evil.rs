//! What the evil hand does: deaths, cuts, bad clocks and bad disks.

use pickbox_raft::disk::sim::{Fault, Keep};
use pickbox_raft_core::Event;
use pickbox_raft_core::ids::NodeId;
use pickbox_raft_core::members::Members;

use super::faults::Deed;
use super::node::Node;
use super::world::{Plan, World};

/// How long a disk hangs.
const HANG_US: u64 = 10_000_000;

impl World {
    /// One deed of the evil hand.
    pub(super) fn do_evil(&mut self) -> Result<(), String> {
        let evil_us = self.faults.evil_us;
        let after = self.random.between(evil_us / 2, evil_us * 2);
        self.plan(after, Plan::Evil);
        if self.network.is_cut() && self.random.per_mille(300) {
            self.tell(|| "--- all links are mended".into());
            self.network.heal();
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let Some(deed) = self.faults.pick_evil(&mut self.random) else { return Ok(()) };
        let Some(victim) = self.random.pick(&ids) else { return Ok(()) };
        self.tell(|| format!("--- {deed:?}, perhaps of {victim}"));
        match deed {
            Deed::OneWay | Deed::Partial | Deed::Split | Deed::Clog => {
                self.network.disturb(deed, &ids, self.now, &mut self.random);
                if deed != Deed::Clog {
                    self.report.tally.count(deed);
                }
                Ok(())
            }
            Deed::Unreachable => {
                self.report.tally.count(deed);
                let peer = self.random.pick(&ids).unwrap_or(victim);
                self.react(victim, Event::Unreachable(peer))
            }
            Deed::CrashAll => {
                self.report.tally.count(deed);
                for id in ids {
                    self.crash(id);
                }
                Ok(())
            }
            Deed::Crash => {
                self.report.tally.count(deed);
                self.crash(victim);
                Ok(())
            }
            Deed::BitFlip | Deed::Misdirected | Deed::StaleBlock | Deed::Wipe | Deed::OldImage => {
                self.spoil(victim, deed);
                Ok(())
            }
            _ => {
                self.burden(victim, deed);
                Ok(())
            }
        }
    }

    /// Makes a node slower, or its clock wrong, or its disk worse.
    fn burden(&mut self, victim: NodeId, deed: Deed) {
        let Self { nodes, random, now, .. } = self;
        let Some(node) = nodes.get_mut(&victim) else { return };
        let mut happens = true;
        match deed {
            Deed::Pause => node.paused_until = *now + random.between(50_000, 2_000_000),
            Deed::Skew => node.clock.run_at(*now, random.between(500, 2_000)),
            Deed::Jump => node.clock.jump(*now, random.between(10_000, 3_000_000)),
            Deed::SlowDisk => node.slow_until = *now + random.between(100_000, 10_000_000),
            Deed::HungDisk => node.hangs_until = *now + HANG_US,
            Deed::NoSpace => {
                node.disk.set_capacity(Some(0));
                let after = random.between(200_000, 5_000_000);
                self.plan(after, Plan::Space(victim));
            }
            _ => {
                let operation = node.disk.operations() + random.between(0, 6);
                node.disk.fail_at(operation, Fault::Broken);
            }
        }
        // The others are counted when they are felt.
        happens &= matches!(deed, Deed::Skew | Deed::Jump);
        if happens {
            self.report.tally.count(deed);
            if let Some(up) = self.up(victim) {
                up.tick_planned = u64::MAX;
            }
            self.plan_tick(victim);
        }
    }

    /// A node dies by itself, or its machine does.
    pub(super) fn crash(&mut self, id: NodeId) {
        let keep = match self.random.between(0, 2) {
            0 if self.faults.allows(Deed::LostBatch) => Keep::Nothing,
            1 if self.faults.allows(Deed::TornBatch) => Keep::Any(self.random.next()),
            _ => Keep::Everything,
        };
        self.end(id, keep);
    }

    /// A node ends, and starts again some time later.
    fn end(&mut self, id: NodeId, keep: Keep) {
        let rest = if self.random.per_mille(100) { 8_000_000 } else { 1_500_000 };
        let after = self.random.between(1_000, rest);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.up.is_some()) else { return };
        match keep {
            Keep::Nothing if node.is_syncing() => self.report.tally.count(Deed::LostBatch),
            Keep::Any(_) if node.is_syncing() => self.report.tally.count(Deed::TornBatch),
            _ => {}
        }
        node.crash(keep, now);
        self.report.crashes += 1;
        self.tell(|| format!("{id} dies, its disk keeps {keep:?}"));
        self.plan(after, Plan::Start(id));
    }

    /// The log stops at an error of the disk, and the node with it.
    pub(super) fn end_after_disk_error(&mut self, id: NodeId) {
        self.tell(|| format!("{id} ends, because its disk failed"));
        self.report.tally.count(Deed::DiskError);
        if let Some(node) = self.nodes.get(&id) {
            node.disk.clear_faults();
        }
        // The process alone ends; what the kernel holds is still there.
        self.end(id, Keep::Everything);
    }

    /// Something is done to a node's disk that the node cannot make good by itself.
    fn spoil(&mut self, victim: NodeId, deed: Deed) {
        if !self.may_lose(victim) {
            return;
        }
        self.crash(victim);
        let Self { nodes, random, report, .. } = self;
        let Some(node) = nodes.get_mut(&victim) else { return };
        if node.rot(deed, random) {
            report.tally.count(deed);
            self.tell(|| format!("{victim} has a disk with {deed:?}"));
        }
    }

    /// Whether the others are enough, now and after any change that is under way: of all whom any
    /// of the nodes goes by, learners included, so few are gone that no majority misses them.
    fn may_lose(&self, victim: NodeId) -> bool {
        let is_gone = |id: &NodeId| *id == victim || !self.is_sound(*id);
        let spares = |members: &Members| {
            let (incoming, outgoing) = (members.voters().count(), members.outgoing_voters.len());
            let voters = if outgoing == 0 { incoming } else { incoming.min(outgoing) };
            let gone = members.everyone().filter(is_gone).count();
            members.everyone().next().is_none() || gone <= voters.saturating_sub(1) / 2
        };
        let recent = |node: &&Node| node.counts(self.now);
        self.wish.is_none()
            && self.is_sound(victim)
            && self.nodes.values().filter(recent).map(Node::members).all(spares)
    }
}
