//! New things at names that may be taken.

use super::Stop;
use super::content::check;
use super::namespace::Namespace;
use crate::content_id::INLINE_BYTES_MAX;
use crate::op::{At, Incoming, Outcome};
use crate::record::{Record, VersionVector};

impl Namespace<'_> {
    pub(super) fn create(&mut self, at: &At, new: &Incoming) -> Result<Outcome, Stop> {
        check(new, INLINE_BYTES_MAX)?;
        let version = VersionVector::default().bumped(self.stamp.origin, self.stamp.index);
        self.create_version(at, new, version)
    }

    /// Creates it, or joins what is there, or becomes a copy beside it.
    pub(super) fn create_version(
        &mut self,
        at: &At,
        new: &Incoming,
        version: VersionVector,
    ) -> Result<Outcome, Stop> {
        let plan = self.plan(at)?;
        self.check_path(&plan, &at.name)?;
        let taken = if plan.is_there() { self.child(plan.top, &at.name)? } else { None };
        let Some(id) = taken else {
            let parent = self.make(plan)?;
            let record = Record { version, ..self.fresh_from(parent, at.name.clone(), new) };
            return Ok(Outcome::Done(self.insert(record)?));
        };
        let existing = self.linked(id)?;
        if existing.body == new.body {
            let version = existing.version.clone();
            return Ok(self.merge(id, &existing, &new.attributes, version)?);
        }
        let loser = Record { version, ..self.fresh_from(plan.top, at.name.clone(), new) };
        self.lose(id, loser)
    }
}
