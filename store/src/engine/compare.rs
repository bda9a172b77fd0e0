//! Whether the nodes made the same of the log: they tell each other their root digests, and compare
//! them at equal positions (promise P3).
//!
//! Each tells the newest position it has applied, once it rests there, and milestones on the way, so
//! that nodes under load have positions in common. Who hears of a difference tells its own digest at
//! that position to all; then everybody can count. A node that finds more than half of the members
//! to agree on something else is the one that is wrong: it touches its folder no more and proposes
//! nothing, until it is started anew without that state. Who finds a difference and no majority
//! against itself says so and goes on.

use std::collections::BTreeMap;

use pickbox_raft::core::ids::{Index as LogIndex, LogPosition, NodeId};
use serde::{Deserialize, Serialize};

use super::catchup::PeerMessage;
use super::{Engine, Fatal};
use crate::digest::Digest;
use crate::index::FEATURE_LEVEL;

/// How often a node tells where it is, if it moved.
const TELL_MS: u64 = 5_000;
/// The digest at each entry whose index is a multiple of this is remembered.
const MILESTONE: u64 = 256;
/// So many of them: the last 65,536 entries.
const MILESTONES_MAX: usize = 256;
/// The row of the engine's own table that says where this node was outvoted.
const OUTVOTED_ROW: &str = "outvoted";

/// What a node made of the log up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    /// What its apply and digest can do; compared at equal levels only.
    pub(super) level: u32,
    /// Up to where.
    pub(super) position: LogPosition,
    /// The root digest there.
    pub(super) digest: Digest,
}

/// How the digest of this node stands among those that were told of the same position.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// Those differ; this node is with the majority, or there is none.
    Differs(Vec<NodeId>),
    /// More than half of all members agree on another one.
    Outvoted,
}

/// Decides. `others` are digests at one position; `members` counts all of the cluster, this one too.
fn judge(mine: Digest, others: &BTreeMap<NodeId, Digest>, members: usize) -> Verdict {
    let different: Vec<_> = others.iter().filter(|(_, digest)| **digest != mine).collect();
    let count = |value: Digest| others.values().filter(|digest| **digest == value).count();
    if different.iter().any(|(_, digest)| count(**digest) * 2 > members) {
        return Verdict::Outvoted;
    }
    if different.is_empty() {
        return Verdict::Same;
    }
    Verdict::Differs(different.into_iter().map(|(id, _)| *id).collect())
}

/// What is known of the digests.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// This node's own, at milestones.
    milestones: BTreeMap<LogIndex, Sum>,
    /// The newest that each member told.
    heard: BTreeMap<NodeId, Sum>,
    told: LogPosition,
    next_tell_ms: u64,
    /// The last position of which a difference was answered.
    answered: LogPosition,
    differing: Vec<NodeId>,
    /// At which position this node was outvoted.
    outvoted: Option<LogPosition>,
}

impl Comparison {
    /// Whether what this node made of the log is wrong.
    pub(super) fn is_outvoted(&self) -> bool {
        self.outvoted.is_some()
    }
}

impl Engine {
    fn sum_now(&self) -> Sum {
        let (position, digest) = (self.index.position(), self.index.digest());
        Sum { level: FEATURE_LEVEL, position, digest }
    }

    /// An entry was applied.
    pub(super) fn note_sum(&mut self) {
        let sum = self.sum_now();
        if sum.position.index.get().is_multiple_of(MILESTONE) {
            let milestones = &mut self.comparison.milestones;
            milestones.insert(sum.position.index, sum);
            if milestones.len() > MILESTONES_MAX {
                milestones.pop_first();
            }
        }
    }

    /// A whole state was taken over: what was known of the former one says nothing.
    pub(super) fn forget_sums(&mut self) -> Result<(), Fatal> {
        self.comparison = Comparison::default();
        self.drop_meta(OUTVOTED_ROW)
    }

    /// A state that is wrong is so after a restart too.
    pub(super) fn load_verdict(&mut self) -> Result<(), Fatal> {
        let row = self.meta(OUTVOTED_ROW)?;
        self.comparison.outvoted = row.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        Ok(())
    }

    /// Durable with the state that is wrong, and not without it: the log may make another one of a
    /// state that was right.
    fn outvoted_at(&mut self, position: LogPosition) -> Result<(), Fatal> {
        if self.comparison.is_outvoted() {
            return Ok(());
        }
        self.comparison.outvoted = Some(position);
        let bytes = postcard::to_allocvec(&position).map_err(|_| Fatal::Encode)?;
        self.index_changed = true;
        self.set_meta(OUTVOTED_ROW, &bytes)
    }

    /// Whether the others have not been told where this node is.
    pub(super) fn has_sum_to_tell(&self) -> bool {
        self.is_live() && self.comparison.told != self.index.position()
    }

    pub(super) fn compare_tick(&mut self) -> Result<(), Fatal> {
        self.compare_heard()?;
        if !self.has_sum_to_tell() || self.now_ms < self.comparison.next_tell_ms {
            return Ok(());
        }
        self.comparison.next_tell_ms = self.now_ms + TELL_MS;
        let now = self.sum_now();
        self.comparison.told = now.position;
        if let Some((_, milestone)) = self.comparison.milestones.last_key_value() {
            self.tell_all(*milestone)?;
        }
        self.tell_all(now)
    }

    fn tell_all(&mut self, sum: Sum) -> Result<(), Fatal> {
        for peer in self.peers() {
            self.say(peer, &PeerMessage::Sum(sum))?;
        }
        Ok(())
    }

    /// A member told where it is.
    pub(super) fn take_sum(&mut self, from: NodeId, sum: Sum) -> Result<(), Fatal> {
        if sum.level != FEATURE_LEVEL || !self.peers().contains(&from) {
            return Ok(());
        }
        if let Some(mine) = self.sum_at(sum.position.index) {
            self.comparison.heard.insert(from, sum);
            return self.compare_at(mine);
        }
        if sum.position.index > self.index.position().index {
            // Compared when this node has come so far.
            self.comparison.heard.insert(from, sum);
        }
        Ok(())
    }

    fn sum_at(&self, index: LogIndex) -> Option<Sum> {
        let now = self.sum_now();
        if now.position.index == index {
            return Some(now);
        }
        self.comparison.milestones.get(&index).copied()
    }

    /// Compares what was told of positions that this node had not reached then.
    fn compare_heard(&mut self) -> Result<(), Fatal> {
        let heard = self.comparison.heard.values();
        let mut indices: Vec<_> = heard.map(|sum| sum.position.index).collect();
        indices.dedup();
        for index in indices {
            if let Some(mine) = self.sum_at(index) {
                self.compare_at(mine)?;
            }
        }
        Ok(())
    }

    fn compare_at(&mut self, mine: Sum) -> Result<(), Fatal> {
        let members = self.peers().len() + 1;
        let heard = self.comparison.heard.iter();
        let there = heard.filter(|(_, sum)| sum.position.index == mine.position.index);
        let others: BTreeMap<_, _> = there.map(|(id, sum)| (*id, sum.digest)).collect();
        match judge(mine.digest, &others, members) {
            Verdict::Same => self.comparison.differing.retain(|id| !others.contains_key(id)),
            Verdict::Differs(differing) => {
                self.comparison.differing.retain(|id| !others.contains_key(id));
                self.comparison.differing.extend(differing);
                self.answer_difference(mine)?;
            }
            Verdict::Outvoted => {
                self.answer_difference(mine)?;
                self.outvoted_at(mine.position)?;
            }
        }
        Ok(())
    }

    /// Tells all what this node has where another one has something else, once a position.
    fn answer_difference(&mut self, mine: Sum) -> Result<(), Fatal> {
        if self.comparison.answered == mine.position {
            return Ok(());
        }
        self.comparison.answered = mine.position;
        log::error!(
            "event=digests_differ index={} digest={} nodes={:?}",
            mine.position.index,
            mine.digest,
            self.comparison.differing,
        );
        self.tell_all(mine)
    }

    /// For STATUS.
    pub(super) fn digest_trouble(&self) -> Option<String> {
        if let Some(at) = self.comparison.outvoted {
            return Some(format!(
                "this node made something else of the log than the majority, up to index {}: nothing \
                 is placed or proposed here; stop it and start it once with --rejoin",
                at.index
            ));
        }
        let peers = self.peers();
        let there = self.comparison.differing.iter().filter(|id| peers.contains(id));
        let names: Vec<_> = there.map(|id| self.member_name(*id)).collect();
        (!names.is_empty()).then(|| {
            format!(
                "another root digest than this node at the same index: {}; a node that is outvoted \
                 says so itself",
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(value: u16) -> Digest {
        let mut digest = Digest::default();
        digest.add(b"", &value.to_be_bytes());
        digest
    }

    proptest! {
        /// Source: promise P3. Never more than one side is outvoted, and never the majority.
        #[test]
        fn a_majority_is_never_outvoted(values in prop::collection::vec(0u16..3, 1..8)) {
            let outvoted = |me: usize| {
                let others = values.iter().enumerate().filter(|(other, _)| *other != me);
                let others = others.map(|(id, value)| {
                    (NodeId::new(u64::try_from(id).unwrap()), digest(*value))
                });
                judge(digest(values[me]), &others.collect(), values.len()) == Verdict::Outvoted
            };
            let count = |value: u16| values.iter().filter(|other| **other == value).count() * 2;
            let has_majority = (0u16..3).any(|value| count(value) > values.len());
            for (me, value) in values.iter().enumerate() {
                let is_minority = count(*value) <= values.len();
                prop_assert_eq!(outvoted(me), has_majority && is_minority);
            }
        }
    }
}
