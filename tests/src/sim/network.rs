//! Which messages arrive, and when.

use std::collections::{BTreeMap, BTreeSet};

use pickbox_raft_core::ids::NodeId;

use super::faults::{Deed, Faults, Tally};
use super::random::Random;

/// A message that takes very long takes up to this.
const DELAY_US: u64 = 300_000;
/// The longest time that a link holds everything back.
const CLOG_US: u64 = 1_500_000;

/// One way from a node to another.
type Link = (NodeId, NodeId);

/// The links that do not do as they should.
#[derive(Debug, Default)]
pub(crate) struct Network {
    cut: BTreeSet<Link>,
    /// Held back until this moment.
    clogged: BTreeMap<Link, u64>,
}

impl Network {
    /// When copies of a message that is sent now arrive, as times from now: none, one, or two.
    pub(crate) fn ways(
        &self,
        link: Link,
        now: u64,
        faults: &Faults,
        random: &mut Random,
        tally: &mut Tally,
    ) -> impl Iterator<Item = u64> + use<> {
        let dropped = random.per_mille(faults.drop);
        let twice = random.per_mille(faults.duplicate);
        let lost = dropped || self.cut.contains(&link);
        let held = self.clogged.get(&link).map_or(0, |until| until.saturating_sub(now));
        if dropped {
            tally.count(Deed::Drop);
        }
        if held > 0 && !lost {
            tally.count(Deed::Clog);
        }
        let mut way = || {
            let mut way = faults.latency_us + random.between(0, faults.jitter_us);
            if random.per_mille(faults.delay) {
                tally.count(Deed::Delay);
                way += random.between(0, DELAY_US);
            }
            if random.per_mille(faults.reorder) {
                tally.count(Deed::Reorder);
                way += random.between(1, 3) * (faults.latency_us + faults.jitter_us);
            }
            way.max(held)
        };
        let first = (!lost).then(&mut way);
        let second = (!lost && twice).then(way);
        if second.is_some() {
            tally.count(Deed::Duplicate);
        }
        first.into_iter().chain(second)
    }

    /// Does one of the deeds that concern links.
    pub(crate) fn disturb(&mut self, deed: Deed, nodes: &[NodeId], now: u64, random: &mut Random) {
        let (Some(a), Some(b)) = (random.pick(nodes), random.pick(nodes)) else { return };
        match deed {
            Deed::Split => self.split(nodes, random),
            Deed::OneWay => {
                let mute = random.per_mille(500);
                for other in nodes.iter().filter(|node| **node != a) {
                    self.cut.insert(if mute { (a, *other) } else { (*other, a) });
                }
            }
            Deed::Clog => {
                let until = now + random.between(10_000, CLOG_US);
                self.clogged.insert((a, b), until);
                if random.per_mille(300) {
                    for other in nodes {
                        self.clogged.insert((a, *other), until);
                    }
                }
            }
            _ => {
                self.cut.insert((a, b));
                if random.per_mille(500) {
                    self.cut.insert((b, a));
                }
            }
        }
    }

    /// Two groups that do not hear each other.
    fn split(&mut self, nodes: &[NodeId], random: &mut Random) {
        let sides: Vec<(NodeId, bool)> =
            nodes.iter().map(|node| (*node, random.per_mille(500))).collect();
        for (a, left) in &sides {
            for (b, other) in &sides {
                if left != other {
                    self.cut.insert((*a, *b));
                }
            }
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Mends all links. What a clogged one holds still arrives late.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
    }
}
