//! The file API: operations that name a path, and mean whatever is there when they are applied.

use super::content::{check, kept};
use super::namespace::Namespace;
use super::place::Blocked;
use super::{Stop, refuse};
use crate::name::{Name, RelPath};
use crate::op::{Incoming, Keep, Outcome, PUT_BYTES_MAX, Refusal};
use crate::record::{Body, FileId};

impl Namespace<'_> {
    pub(super) fn put(&mut self, path: &RelPath, new: &Incoming) -> Result<Outcome, Stop> {
        check(new, PUT_BYTES_MAX)?;
        let (parent, name) = split(path)?;
        let plan = self.plan_path(&parent, Blocked::Refuse)?;
        self.check_path(&plan, &name)?;
        let there = if plan.is_there() { self.child(plan.top, &name)? } else { None };
        if let Some(id) = there {
            return self.put_over(id, new);
        }
        let parent = self.make(plan)?;
        let record = self.fresh_from(parent, name, new);
        Ok(Outcome::Done(self.insert(record)?))
    }

    /// A program's write is one of bytes: what users attached to the file stays.
    fn put_over(&mut self, id: FileId, new: &Incoming) -> Result<Outcome, Stop> {
        let record = self.linked(id)?;
        if record.body == new.body {
            let version = record.version.clone();
            return Ok(self.merge(
                id,
                &record,
                &kept(new, Keep::XATTRS, &record).attributes,
                version,
            )?);
        }
        match (&record.body, &new.body) {
            (Body::Directory, _) => refuse(Refusal::IsADirectory),
            (_, Body::Directory) => refuse(Refusal::NotADirectory),
            _ => {
                let version = record.version.bumped(self.stamp.origin, self.stamp.index);
                self.overwrite(id, &record, &kept(new, Keep::XATTRS, &record), version)?;
                Ok(Outcome::Done(id))
            }
        }
    }

    pub(super) fn remove(&mut self, path: &RelPath) -> Result<Outcome, Stop> {
        let (parent, name) = split(path)?;
        let plan = self.plan_path(&parent, Blocked::Refuse)?;
        let there = if plan.is_there() { self.child(plan.top, &name)? } else { None };
        let Some(id) = there else { return Ok(Outcome::Nothing) };
        let record = self.linked(id)?;
        Ok(self.delete_found(id, record)?)
    }
}

fn split(path: &RelPath) -> Result<(RelPath, Name), Stop> {
    path.split().ok_or(Stop::Refused(Refusal::Root))
}
