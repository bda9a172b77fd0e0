//! Which messages arrive, and when.

use std::collections::BTreeSet;

use pickbox_raft_core::ids::NodeId;

use super::faults::Faults;
use super::random::Random;

/// Twenty times the usual way, and more.
const DELAY_US: u64 = 300_000;

/// The cut links, one way each.
#[derive(Debug, Default)]
pub(crate) struct Network {
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl Network {
    /// When copies of a message arrive, as times from now: none, one, or two.
    pub(crate) fn ways(
        &self,
        from: NodeId,
        to: NodeId,
        faults: &Faults,
        random: &mut Random,
    ) -> impl Iterator<Item = u64> + use<> {
        let lost = self.cut.contains(&(from, to)) || random.per_mille(faults.drop);
        let twice = !lost && random.per_mille(faults.duplicate);
        let mut way = || {
            let late = if random.per_mille(faults.delay) { DELAY_US } else { 0 };
            faults.latency_us + random.between(0, faults.jitter_us) + random.between(0, late)
        };
        let first = (!lost).then(&mut way);
        let second = twice.then(way);
        first.into_iter().chain(second)
    }

    /// Cuts or mends something among these nodes.
    pub(crate) fn disturb(&mut self, nodes: &[NodeId], random: &mut Random) {
        if !self.cut.is_empty() && random.per_mille(500) {
            return self.heal();
        }
        match random.between(0, 2) {
            0 => self.split(nodes, random),
            1 => {
                // One node can only speak, or only listen.
                let Some(victim) = random.pick(nodes) else { return };
                let mute = random.per_mille(500);
                for other in nodes.iter().filter(|node| **node != victim) {
                    self.cut.insert(if mute { (victim, *other) } else { (*other, victim) });
                }
            }
            _ => {
                for _ in 0..random.between(1, 3) {
                    let (Some(a), Some(b)) = (random.pick(nodes), random.pick(nodes)) else {
                        return;
                    };
                    self.cut.insert((a, b));
                    if random.per_mille(500) {
                        self.cut.insert((b, a));
                    }
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

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }
}
