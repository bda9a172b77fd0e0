//! What must hold in every world, whatever goes wrong (Raft paper, figure 3, and more).
//!
//! | claim | where |
//! |---|---|
//! | election safety: one leader a term | [`Checker::on_leader`] |
//! | log matching: an index and a term name one entry and one predecessor | [`Checker::on_write`] |
//! | leader completeness: a leader has all that was committed in former terms | [`Checker::on_leader`] |
//! | state machine safety: one entry an index, no gap, none twice | [`Checker::on_apply`] |
//! | nothing is acknowledged before it is durable | [`Checker::on_send`] |
//! | the members in force are those that the log names | [`Checker::on_write`] |
//! | the state above never runs ahead of the log below it | [`Checker::on_hand_out`] |
//! | one vote a term, over crashes | [`Checker::on_send`] |
//! | what is committed is durable on a majority | [`Checker::on_commit`] |
//! | what is committed stays so | `World::react` |
//! | what is acknowledged took effect, once, at one place | [`Checker::on_effect`], [`Checker::on_acknowledged`] |
//! | reads see all that was committed before them, and nothing else | [`Checker::on_read`] |

use std::collections::BTreeMap;

use pickbox_raft_core::Core;
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Incarnation, Index, LogPosition, NodeId, Serial, Term};
use pickbox_raft_core::log::{Content, Entry, Proposal};
use pickbox_raft_core::members::Members;
use pickbox_raft_core::message::{Ballot, Body, Message, Verdict};

use super::machine::{Machine, fingerprint};
use super::shadow::Shadow;

type Check = Result<(), String>;

/// One entry of the one true log.
#[derive(Clone, Copy, Debug)]
struct Applied {
    term: Term,
    fingerprint: u64,
    /// The hash of the state after it.
    state: u64,
}

/// Where a node stood before a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) last: LogPosition,
    pub(crate) commit: Index,
}

/// Remembers what was once true.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Each entry ever written: what it says and the term of the one before it.
    written: BTreeMap<(Index, Term), (u64, Term)>,
    /// What each entry that changes the members puts in force.
    members: BTreeMap<(Index, Term), Members>,
    /// By index, from 1.
    applied: Vec<Applied>,
    /// Where each proposal took effect.
    effects: BTreeMap<(NodeId, Incarnation, Serial), Index>,
    /// The highest index that was ever committed, and its term.
    committed: LogPosition,
    /// The same of each term, by the leader that committed it.
    committed_in: BTreeMap<Term, Index>,
}

impl Checker {
    pub(crate) fn committed(&self) -> Index {
        self.committed.index
    }

    pub(crate) fn elections(&self) -> u64 {
        u64::try_from(self.leaders.len()).unwrap_or(u64::MAX)
    }

    fn applied(&self, index: Index) -> Option<Applied> {
        let place = usize::try_from(index.get().checked_sub(1)?).ok()?;
        self.applied.get(place).copied()
    }

    /// A node became leader.
    pub(crate) fn on_leader(&mut self, core: &Core) -> Check {
        let (id, term) = (core.id(), core.term());
        let first = *self.leaders.entry(term).or_insert(id);
        if first != id {
            return Err(format!("{first} and {id} both lead term {term}"));
        }
        if core.last().term != term {
            return Err(format!("leader {id} appends no entry of its term {term}"));
        }
        // A vote may come so late that a later term has a leader already, who commits what this
        // one never hears of: only what was committed in former terms must be here.
        let committed = self.committed_in.range(..term).map(|(_, index)| *index).max();
        let committed = committed.unwrap_or_default();
        if core.last().index < committed {
            return Err(format!("leader {id} lacks committed entry {committed}"));
        }
        let mut index = core.base().index;
        while index < committed {
            index = index.next();
            let Some(applied) = self.applied(index) else { break };
            if core.term_at(index) != Some(applied.term) {
                return Err(format!("leader {id} contradicts committed entry {index}"));
            }
        }
        Ok(())
    }

    /// A node writes to its log; `before` tells where it stood.
    pub(crate) fn on_write(&mut self, core: &Core, before: Before, ops: &[LogOp]) -> Check {
        let mut last = before.last;
        for op in ops {
            match op {
                LogOp::Append(entries) => {
                    for entry in entries {
                        self.check_change(core, entry)?;
                        self.check_entry(entry, last)?;
                        last = entry.position();
                    }
                }
                LogOp::Truncate { from } => {
                    let index = from.previous();
                    // What is before the cut was not changed in this step.
                    last = LogPosition { index, term: core.term_at(index).unwrap_or_default() };
                    if *from <= before.commit {
                        return Err(format!("{} truncates a committed entry", core.id()));
                    }
                }
                LogOp::Reset { at, .. } => last = *at,
                LogOp::HardState(_) | LogOp::Compact { .. } => {}
            }
        }
        if ops.is_empty() { Ok(()) } else { self.check_members(core) }
    }

    /// A leader changes the members in one order: what was before is committed, and so is an entry
    /// of its own term; other voters come into force together with the old ones, and then alone
    /// (thesis, 4.1 and 4.3; Ongaro, raft-dev, July 2015).
    fn check_change(&self, core: &Core, entry: &Entry) -> Check {
        let Content::Members(next) = &entry.content else { return Ok(()) };
        let leader = core.id();
        if entry.term != core.term() || self.leaders.get(&entry.term) != Some(&leader) {
            return Ok(());
        }
        if core.term_at(core.commit()) != Some(entry.term) {
            return Err(format!("{leader} changes the members before it commits in its term"));
        }
        let before = entry.index.previous();
        let Some(previous) = self.members_at(core, before) else { return Ok(()) };
        let (at, previous) = previous;
        if at > core.commit() {
            return Err(format!("{leader} changes the members of {at}, which is not committed"));
        }
        let is_step = if previous.is_joint() {
            !next.is_joint() && next.voters().eq(previous.voters())
        } else if next.is_joint() {
            previous.voters().eq(next.outgoing_voters.iter().copied())
        } else {
            previous.voters().eq(next.voters())
        };
        if is_step { Ok(()) } else { Err(format!("{leader} jumps from {previous:?} to {next:?}")) }
    }

    /// The newest members that a log names at or before an index, and where.
    fn members_at(&self, core: &Core, index: Index) -> Option<(Index, &Members)> {
        let until = ..=(index, Term::new(u64::MAX));
        let mut known = self.members.range(until).rev();
        let found = known.find(|((at, term), _)| core.term_at(*at) == Some(*term));
        found.map(|((at, _), members)| (*at, members))
    }

    /// The members in force are those of the newest such entry that is in the log (thesis, 4.1).
    fn check_members(&self, core: &Core) -> Check {
        let in_log = |at: &&(Index, Term)| core.term_at(at.0) == Some(at.1);
        let Some(newest) = self.members.keys().rev().find(in_log) else { return Ok(()) };
        if self.members.get(newest) == Some(core.members()) {
            Ok(())
        } else {
            Err(format!("{} goes by other members than those of entry {}", core.id(), newest.0))
        }
    }

    fn check_entry(&mut self, entry: &Entry, previous: LogPosition) -> Check {
        let key = (entry.index, entry.term);
        if let Content::Members(members) = &entry.content {
            self.members.entry(key).or_insert_with(|| members.clone());
        }
        let value = (fingerprint(entry), previous.term);
        let known = *self.written.entry(key).or_insert(value);
        if known == value {
            Ok(())
        } else {
            Err(format!("two entries are {} of term {}", entry.index, entry.term))
        }
    }

    /// A node sends a message; `disk` is what it has stored.
    pub(crate) fn on_send(&mut self, disk: &Shadow, message: &Message) -> Check {
        let Message { from, to, term, body } = message;
        if disk.hard_state.term < *term {
            return Err(format!("{from} speaks in term {term}, of which its disk knows nothing"));
        }
        match body {
            Body::VoteReply {
                ballot: Ballot::Real | Ballot::Handover,
                verdict: Verdict::Granted,
            } => {
                return self.check_vote(disk, *from, *to, *term);
            }
            Body::Vote { ballot: Ballot::Real | Ballot::Handover, .. } => {
                return self.check_vote(disk, *from, *from, *term);
            }
            Body::Appended { matched } if disk.last() < *matched => {
                return Err(format!(
                    "{from} acknowledges {matched}, but its disk ends at {}",
                    disk.last()
                ));
            }
            Body::CommittedTo { at } if !disk.holds(*at) => {
                return Err(format!("{from} acknowledges {}, which its disk lacks", at.index));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_vote(&mut self, disk: &Shadow, voter: NodeId, choice: NodeId, term: Term) -> Check {
        let state = disk.hard_state;
        if state.term == term && state.voted_for != Some(choice) {
            return Err(format!("{voter} votes for {choice}, but its disk says otherwise"));
        }
        let first = *self.votes.entry((voter, term)).or_insert(choice);
        if first == choice {
            Ok(())
        } else {
            Err(format!("{voter} votes for {first} and for {choice} in term {term}"))
        }
    }

    /// The commit index of a node may have advanced in a step that began with `before` in force.
    pub(crate) fn on_commit<'a>(
        &mut self,
        core: &Core,
        before: &Members,
        disk: impl Fn(NodeId) -> Option<&'a Shadow>,
    ) -> Check {
        let index = core.commit();
        if index <= self.committed.index {
            return Ok(());
        }
        // It may have led until this very step, which took it out.
        if self.leaders.get(&core.term()) != Some(&core.id()) {
            return Err(format!("{} commits {index} before a leader did", core.id()));
        }
        let at = LogPosition { index, term: core.term_at(index).unwrap_or_default() };
        if at.term != core.term() {
            return Err(format!("entry {index} of term {} is committed by counting", at.term));
        }
        let holds = |id| disk(id).is_some_and(|shadow| shadow.holds(at));
        if !before.has_majority(holds) && !core.members().has_majority(holds) {
            return Err(format!("entry {index} is committed, but no majority has it on disk"));
        }
        if before.is_joint() && !core.members().is_joint() {
            // Both sets had to agree before one of them went.
            let joint = core.last().index.previous().min(index);
            let joint = self.members_at(core, joint).map(|(at, _)| at).unwrap_or_default();
            let at = LogPosition { index: joint, term: core.term_at(joint).unwrap_or_default() };
            let holds = |id| disk(id).is_some_and(|shadow| shadow.holds(at));
            if !before.has_majority(holds) {
                return Err(format!("entry {joint} ends in one set of voters alone"));
            }
        }
        self.committed = at;
        self.committed_in.insert(at.term, index);
        Ok(())
    }

    /// A node has applied an entry.
    pub(crate) fn on_apply(&mut self, id: NodeId, entry: &Entry, machine: &Machine) -> Check {
        let applied =
            Applied { term: entry.term, fingerprint: fingerprint(entry), state: machine.hash };
        if entry.index > self.committed.index {
            return Err(format!("{id} applies {}, which nobody committed", entry.index));
        }
        match self.applied(entry.index) {
            None => self.applied.push(applied),
            Some(first) if first.fingerprint != applied.fingerprint => {
                return Err(format!("{id} applies another entry {} than others", entry.index));
            }
            Some(first) if first.state != applied.state => {
                return Err(format!("{id} has another state after {} than others", entry.index));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// A proposal took effect on some node: on all nodes at the same place, and there alone.
    pub(crate) fn on_effect(&mut self, entry: &Entry) -> Check {
        let Content::Proposal(proposal) = &entry.content else { return Ok(()) };
        let key = (proposal.origin, proposal.incarnation, proposal.serial);
        let first = *self.effects.entry(key).or_insert(entry.index);
        if first == entry.index {
            Ok(())
        } else {
            Err(format!("proposal {key:?} takes effect at {first} and at {}", entry.index))
        }
    }

    /// A client was told that its proposal is in the log.
    pub(crate) fn on_acknowledged(&self, proposal: &Proposal) -> Check {
        let key = (proposal.origin, proposal.incarnation, proposal.serial);
        if self.effects.contains_key(&key) {
            Ok(())
        } else {
            Err(format!("proposal {key:?} is acknowledged and took no effect"))
        }
    }

    /// A node hands an entry to the room above; `disk` is what it has stored.
    pub(crate) fn on_hand_out(id: NodeId, disk: &Shadow, entry: &Entry) -> Check {
        if disk.holds(entry.position()) {
            Ok(())
        } else {
            Err(format!("{id} hands out {}, which its own disk lacks", entry.index))
        }
    }

    /// A read that was asked for when `floor` was committed was answered with `index`.
    pub(crate) fn on_read(&self, id: NodeId, floor: Index, index: Index) -> Check {
        if index < floor {
            return Err(format!("{id} reads at {index} when {floor} had been committed"));
        }
        if index > self.committed.index {
            return Err(format!("{id} reads at {index}, which nobody committed"));
        }
        Ok(())
    }
}
