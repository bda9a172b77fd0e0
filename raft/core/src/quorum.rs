//! Majorities: of one configuration, or of both while a joint change is under way (thesis, 4.3).

use alloc::vec::Vec;

use crate::ids::NodeId;
use crate::members::Members;
use crate::message::Verdict;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A majority of each configuration said yes.
    Won,
    /// Some configuration can reach no majority any more.
    Lost,
    /// It depends on answers still to come.
    Open,
}

impl Members {
    /// Whether the nodes for which `of` holds are a majority of each configuration in force. Never
    /// so without voters.
    #[must_use]
    pub fn has_majority(&self, of: impl Fn(NodeId) -> bool) -> bool {
        let incoming: Vec<NodeId> = self.voters().collect();
        self.configurations(&incoming)
            .all(|voters| voters.iter().filter(|id| of(**id)).count() >= majority(voters.len()))
    }

    /// The highest number that a majority of each configuration has reached, where `of` says how
    /// far each voter is. Zero without voters.
    #[must_use]
    pub fn reached_by_majority(&self, of: impl Fn(NodeId) -> u64) -> u64 {
        let incoming: Vec<NodeId> = self.voters().collect();
        let reached = self.configurations(&incoming).map(|voters| {
            let mut numbers: Vec<u64> = voters.iter().map(|id| of(*id)).collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            numbers.get(majority(numbers.len()) - 1).copied().unwrap_or(0)
        });
        reached.min().unwrap_or(0)
    }

    /// How a vote stands, where `of` is each voter's answer, if it gave one.
    #[must_use]
    pub fn tally(&self, of: impl Fn(NodeId) -> Option<Verdict>) -> Tally {
        if self.has_majority(|id| of(id) == Some(Verdict::Granted)) {
            Tally::Won
        } else if self.has_majority(|id| of(id) != Some(Verdict::Refused)) {
            Tally::Open
        } else {
            Tally::Lost
        }
    }

    fn configurations<'a>(
        &'a self,
        incoming: &'a [NodeId],
    ) -> impl Iterator<Item = &'a [NodeId]> + 'a {
        let outgoing = Some(self.outgoing_voters.as_slice()).filter(|voters| !voters.is_empty());
        core::iter::once(incoming).chain(outgoing)
    }
}

/// More than half; one of nobody, which nobody reaches.
const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}
