//! Another name or parent: metadata, so the last in the log wins.

use super::namespace::{Namespace, Waiting, not_root};
use super::place::Plan;
use super::{Stop, refuse};
use crate::history_rows::Reason;
use crate::index::IndexError;
use crate::name::Name;
use crate::op::{At, Outcome, Refusal};
use crate::record::{Body, FileId, Record};

impl Namespace<'_> {
    pub(super) fn relocate(&mut self, id: FileId, to: &At) -> Result<Outcome, Stop> {
        not_root(id)?;
        let Some(record) = self.record(id)? else { return Ok(Outcome::Nothing) };
        let plan = self.plan(to)?;
        self.check_path(&plan, &to.name)?;
        if self.above(plan.top)?.contains_file(id) {
            return refuse(Refusal::Cycle);
        }
        let parent = if plan.is_there() { plan.top } else { self.make(plan)? };
        match self.child(parent, &to.name)? {
            Some(there) if there == id => Ok(Outcome::Merged(id)),
            Some(there) => self.move_beside(id, &record, there, parent, &to.name),
            None => {
                self.move_to(id, &record, parent, to.name.clone())?;
                Ok(Outcome::Done(id))
            }
        }
    }

    pub(super) fn move_to(
        &mut self,
        id: FileId,
        before: &Record,
        parent: FileId,
        name: Name,
    ) -> Result<(), IndexError> {
        let mut after = Record { parent, name, ..before.clone() };
        self.end_line(id, &mut after)?;
        self.update(id, before, after)
    }

    /// The name is taken: this gets the conflict name there, for now or for good.
    fn move_beside(
        &mut self,
        id: FileId,
        before: &Record,
        there: FileId,
        parent: FileId,
        name: &Name,
    ) -> Result<Outcome, Stop> {
        let beside = self.free_conflict_name(parent, name)?;
        self.check_path(&Plan::there(parent), &beside)?;
        let mut after = Record { parent, name: beside.clone(), ..before.clone() };
        self.end_line(id, &mut after)?;
        after.conflict_of = Some(there);
        let version = after.version.clone();
        self.update(id, before, after)?;
        self.add_line(there, id, version)?;
        self.waiting.push(Waiting { op: self.op, id, parent, name: name.clone(), beside });
        Ok(Outcome::Conflict { copy: id })
    }

    /// Looks again at the moves that found their name taken: a later operation of the same change
    /// may have freed it, as when two files swap their names.
    pub(super) fn settle_moves(&mut self) -> Result<(), IndexError> {
        for waiting in std::mem::take(&mut self.waiting) {
            self.op = waiting.op;
            if let Some(outcome) = self.settle(&waiting)?
                && let Some(slot) = self.effects.outcomes.get_mut(waiting.op)
            {
                *slot = outcome;
            }
        }
        Ok(())
    }

    fn settle(&mut self, waiting: &Waiting) -> Result<Option<Outcome>, IndexError> {
        let Waiting { id, parent, ref name, ref beside, .. } = *waiting;
        let Some(record) = self.record(id)? else { return Ok(None) };
        // A later operation moved it elsewhere: that is where it belongs.
        if (record.parent, &record.name) != (parent, beside) {
            return Ok(None);
        }
        let Some(winner) = self.child(parent, name)? else {
            self.move_to(id, &record, parent, name.clone())?;
            return Ok(Some(Outcome::Done(id)));
        };
        if record.body == Body::Directory || !self.above(parent)?.is_git() {
            return Ok(None);
        }
        let path = self.above(parent)?.path_below(name);
        self.displace_at(id, path, &record, Reason::Deleted)?;
        self.take_away(id, record)?;
        Ok(Some(Outcome::History { winner }))
    }
}
