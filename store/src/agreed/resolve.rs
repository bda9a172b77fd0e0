//! The end of a conflict by the word of a person.

use super::namespace::Namespace;
use super::{Stop, refuse};
use crate::index::IndexError;
use crate::op::{Incoming, Known, Outcome, Refusal, Take};
use crate::record::{Body, FileId, Record};

impl Namespace<'_> {
    /// Ends the conflict of `file` and its `copy`, if both are still what the person saw.
    pub(super) fn resolve(
        &mut self,
        file: &Known,
        copy: &Known,
        take: Take,
    ) -> Result<Outcome, Stop> {
        let (Some(winner), Some(loser)) = (self.record(file.id)?, self.record(copy.id)?) else {
            return Ok(Outcome::Changed);
        };
        let as_seen = winner.version == file.version && loser.version == copy.version;
        if !as_seen || loser.conflict_of != Some(file.id) {
            return Ok(Outcome::Changed);
        }
        match take {
            Take::Ours => self.drop_whole(copy.id, loser)?,
            Take::Theirs if winner.body == Body::Directory || loser.body == Body::Directory => {
                self.take_place(file.id, winner, copy.id)?;
                return Ok(Outcome::Done(copy.id));
            }
            Take::Theirs => {
                self.take_content(file.id, &winner, &loser)?;
                self.drop_whole(copy.id, self.linked(copy.id)?)?;
            }
            Take::Both => {
                let mut after = loser.clone();
                self.end_line(copy.id, &mut after)?;
                self.update(copy.id, &loser, after)?;
            }
        }
        Ok(Outcome::Done(file.id))
    }

    /// The name keeps its file, so that it changes in one step on every disk.
    fn take_content(
        &mut self,
        id: FileId,
        winner: &Record,
        loser: &Record,
    ) -> Result<(), IndexError> {
        let seen = winner.version.joined(&loser.version);
        let version = seen.bumped(self.stamp.origin, self.stamp.index);
        let (body, attributes) = (loser.body.clone(), loser.attributes.clone());
        let new = Incoming { body, attributes, inline: None };
        self.set_content(id, winner, winner.clone(), &new, version.clone())?;
        // It may be a copy itself, of something else.
        match winner.conflict_of {
            Some(above) => self.move_line(above, id, &version),
            None => Ok(()),
        }
    }

    /// A directory comes with all below it, so it takes the name as the thing that it is. Other
    /// copies of what had the name are ordinary files from then on.
    fn take_place(&mut self, id: FileId, winner: Record, copy: FileId) -> Result<(), Stop> {
        if self.above(winner.parent)?.contains_file(copy) {
            return refuse(Refusal::Cycle);
        }
        let (parent, name) = (winner.parent, winner.name.clone());
        self.drop_whole(id, winner)?;
        let copy_now = self.linked(copy)?;
        Ok(self.move_to(copy, &copy_now, parent, name)?)
    }

    /// Takes away what is no directory, or an empty one: nobody saw what a directory holds.
    fn drop_whole(&mut self, id: FileId, record: Record) -> Result<(), Stop> {
        match self.delete_found(id, record)? {
            Outcome::Kept(_) => refuse(Refusal::NotEmpty),
            _ => Ok(()),
        }
    }
}
