//! Where a thing is to go: finding its directory, or making it anew.

use super::conflict::CONFLICT_TRIES_MAX;
use super::namespace::Namespace;
use super::{Stop, refuse};
use crate::index::IndexError;
use crate::name::{Name, PATH_BYTES_MAX, RelPath};
use crate::op::{At, Outcome, Parent, Refusal};
use crate::record::{Attributes, Body, FileId, Record, VersionVector};

/// The mode of directories that are made because something is to go into them.
const REMADE_MODE: u16 = 0o755;

/// What to do when a file or symlink is where a directory is needed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blocked {
    /// Refuse: the caller is told, and still has its content.
    Refuse,
    /// Make the directory beside it under the conflict name: what is in the folder already must
    /// go somewhere.
    Beside,
}

/// A directory, perhaps with some below it still to be made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// One that is there.
    pub(super) top: FileId,
    /// To be made below it, from the top down.
    missing: Vec<Name>,
}

impl Plan {
    pub(super) fn there(top: FileId) -> Self {
        Self { top, missing: Vec::new() }
    }

    /// Whether the directory is there already.
    pub(super) fn is_there(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Namespace<'_> {
    /// The directory that an operation names, or, if it is gone, the one at the path it carries.
    pub(super) fn plan(&self, at: &At) -> Result<Plan, Stop> {
        let named = match at.parent {
            Parent::Id(id) => Some(id),
            Parent::Op(number) => self.made_by(number),
        };
        if let Some(id) = named
            && self.is_directory(id)?
        {
            return Ok(Plan::there(id));
        }
        let parent = at.path.split().map(|(parent, _)| parent).unwrap_or_default();
        self.plan_path(&parent, Blocked::Beside)
    }

    /// The file that operation `number` of this change came to.
    fn made_by(&self, number: u32) -> Option<FileId> {
        let number = usize::try_from(number).ok()?;
        match self.effects.outcomes.get(number)? {
            Outcome::Done(id) | Outcome::Merged(id) | Outcome::Conflict { copy: id } => Some(*id),
            _ => None,
        }
    }

    /// The directory at a path.
    pub(super) fn plan_path(&self, path: &RelPath, blocked: Blocked) -> Result<Plan, Stop> {
        let mut plan = Plan::there(FileId::ROOT);
        for name in path.names() {
            self.descend(&mut plan, name, blocked)?;
        }
        Ok(plan)
    }

    fn descend(&self, plan: &mut Plan, name: Name, blocked: Blocked) -> Result<(), Stop> {
        if !plan.is_there() {
            plan.missing.push(name);
            return Ok(());
        }
        let Some(id) = self.child(plan.top, &name)? else {
            plan.missing.push(name);
            return Ok(());
        };
        if self.is_directory(id)? {
            plan.top = id;
            return Ok(());
        }
        match blocked {
            Blocked::Refuse => refuse(Refusal::NotADirectory),
            Blocked::Beside => self.descend_beside(plan, &name),
        }
    }

    /// A file is in the way: the directory is, or will be, under the first conflict name that no
    /// file has.
    fn descend_beside(&self, plan: &mut Plan, name: &Name) -> Result<(), Stop> {
        for number in 1..=CONFLICT_TRIES_MAX {
            let candidate = self.conflict_name(name, number)?;
            match self.child(plan.top, &candidate)? {
                None => {
                    plan.missing.push(candidate);
                    return Ok(());
                }
                Some(id) if self.is_directory(id)? => {
                    plan.top = id;
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        refuse(Refusal::NameTooLong)
    }

    /// Refuses when `name` below the planned directory makes too long a path.
    pub(super) fn check_path(&mut self, plan: &Plan, name: &Name) -> Result<(), Stop> {
        let names = plan.missing.iter().chain([name]);
        let below: usize = names.map(|name| name.as_bytes().len() + 1).sum();
        // The folder's own path is empty, and no slash is before the first name.
        let above = match plan.top {
            FileId::ROOT => 0,
            top => self.above(top)?.path_bytes() + 1,
        };
        if above + below - 1 > PATH_BYTES_MAX { refuse(Refusal::NameTooLong) } else { Ok(()) }
    }

    /// Makes what is missing.
    pub(super) fn make(&mut self, plan: Plan) -> Result<FileId, IndexError> {
        let mut top = plan.top;
        for name in plan.missing {
            let attributes = Attributes { mode: REMADE_MODE, ..Attributes::default() };
            let directory = self.fresh(top, name, Body::Directory, attributes);
            top = self.insert(directory)?;
        }
        Ok(top)
    }

    /// A record that this change begins.
    pub(super) fn fresh(
        &self,
        parent: FileId,
        name: Name,
        body: Body,
        attributes: Attributes,
    ) -> Record {
        let (author, changed) = (self.stamp.origin, self.stamp.index);
        let version = VersionVector::default().bumped(author, changed);
        let (losing, conflict_of) = (Vec::new(), None);
        Record { parent, name, body, attributes, version, author, changed, losing, conflict_of }
    }
}
