//! One committed entry at a time: the door by which agreed state changes.

use pickbox_raft::core::ids::{Incarnation, LogPosition, NodeId, Serial};
use pickbox_raft::core::log::{Content, Entry, Payload, Proposal};
use pickbox_raft::core::members::Members;

use super::error::IndexError;
use super::tables::{LIVE, Tables};
use super::{CHANGES_PER_COMMIT, Index};
use crate::agreed::payload;
use crate::agreed::{Effects, Namespace, Stamp};
use crate::op::Change;
use crate::sessions::Verdict;

/// What came of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Which entry.
    pub position: LogPosition,
    /// What it was.
    pub what: What,
}

/// What an entry was, as far as the folder goes.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A new leader's first entry.
    Noop,
    /// The members are others now.
    Members,
    /// A node's new run began; its former one is closed for good.
    Opened {
        /// Which node.
        node: NodeId,
        /// Which run.
        incarnation: Incarnation,
    },
    /// Taken before: no effect.
    Duplicate {
        /// Whose.
        origin: NodeId,
        /// Which.
        serial: Serial,
    },
    /// Of a run that is not open, or ahead of the next serial: no effect.
    Stale {
        /// Whose.
        origin: NodeId,
        /// Of which run.
        incarnation: Incarnation,
        /// Which.
        serial: Serial,
    },
    /// Bytes that are no change: no effect, but the serial is used.
    Undecodable {
        /// Whose.
        origin: NodeId,
        /// Which.
        serial: Serial,
    },
    /// A change of the folder.
    Change {
        /// Whose.
        origin: NodeId,
        /// Which.
        serial: Serial,
        /// What was asked for.
        change: Change,
        /// What came of it.
        effects: Effects,
    },
}

impl Index {
    /// Applies the next entry.
    ///
    /// # Errors
    /// When the database fails, or the entry is not the next one: the node stops. Whatever an
    /// entry says is no error.
    pub fn apply(&mut self, entry: &Entry) -> Result<Applied, IndexError> {
        let due = self.state.position.index.next();
        if entry.index != due {
            return Err(IndexError::Gap { due, given: entry.index });
        }
        let position = LogPosition { index: entry.index, term: entry.term };
        let what = match &entry.content {
            Content::Noop => What::Noop,
            Content::Members(members) => self.set_members(members),
            Content::Proposal(proposal) => self.proposal(entry, proposal)?,
        };
        self.state.position = position;
        if self.changes >= CHANGES_PER_COMMIT {
            self.commit()?;
        }
        Ok(Applied { position, what })
    }

    fn set_members(&mut self, members: &Members) -> What {
        self.state.members = members.clone();
        self.state.sessions.retain(members);
        self.state.epoch = u32::try_from(members.epoch.get()).unwrap_or(u32::MAX);
        What::Members
    }

    fn proposal(&mut self, entry: &Entry, proposal: &Proposal) -> Result<What, IndexError> {
        let Proposal { origin, incarnation, serial, .. } = *proposal;
        match self.state.sessions.admit(proposal, &self.state.members) {
            Verdict::Opened => return Ok(What::Opened { node: origin, incarnation }),
            Verdict::Duplicate => return Ok(What::Duplicate { origin, serial }),
            Verdict::Stale => return Ok(What::Stale { origin, incarnation, serial }),
            Verdict::Next => {}
        }
        let Some(change) = read(&proposal.payload) else {
            return Ok(What::Undecodable { origin, serial });
        };
        let effects = self.change(entry, origin, &change)?;
        Ok(What::Change { origin, serial, change, effects })
    }

    fn change(
        &mut self,
        entry: &Entry,
        origin: NodeId,
        change: &Change,
    ) -> Result<Effects, IndexError> {
        let stamp = Stamp {
            origin,
            origin_name: self.state.sessions.name_of(origin, &self.state.members),
            index: entry.index,
            epoch: self.state.epoch,
            wall_ms: change.wall_ms,
        };
        let txn = self.txn.as_ref().ok_or(IndexError::Corrupt("used after a commit failed"))?;
        let tables = Tables::open(txn, &LIVE)?;
        let effects =
            Namespace::new(tables, &mut self.state, &mut self.memo, stamp).change(change)?;
        self.changes += effects.touched.len() + effects.displaced.len() + effects.pruned.len();
        Ok(effects)
    }
}

fn read(payload: &Payload) -> Option<Change> {
    match payload {
        Payload::Data(bytes) => payload::decode(bytes),
        Payload::Open { .. } => None,
    }
}
