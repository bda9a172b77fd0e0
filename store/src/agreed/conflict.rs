//! Conflicts: the name of a copy, the copy itself, and the line that leads to it.

use super::namespace::Namespace;
use super::place::Plan;
use super::{Stamp, Stop, refuse};
use crate::history_rows::Reason;
use crate::index::IndexError;
use crate::name::{NAME_BYTES_MAX, Name};
use crate::op::{Outcome, Refusal};
use crate::record::{Body, FileId, LosingLine, Record, VersionVector};

/// How many conflict names are tried for one thing: `-2`, `-3`...
pub const CONFLICT_TRIES_MAX: u32 = 64;
/// Lines that one file remembers, and so the copies that it can have at a time. Whoever loses while
/// there are that many is in the history only, until somebody deals with one of them (trap T26). By
/// moves there can be one more: then the oldest is forgotten, and its copy is an ordinary file.
pub const LOSING_LINES_MAX: usize = 16;

/// `NAME.conflict-NODE-INDEX`, with `-2` and so on behind it from the second on; none if that is no
/// name. The mark comes last so that programs that load `*.conf` do not load it.
pub(crate) fn conflict_name(
    name: &Name,
    node: impl std::fmt::Display,
    index: impl std::fmt::Display,
    number: u32,
) -> Option<Name> {
    let again = if number > 1 { format!("-{number}") } else { String::new() };
    let mark = format!(".conflict-{node}-{index}{again}");
    let room = NAME_BYTES_MAX.saturating_sub(mark.len());
    Name::new([cut(name.as_bytes(), room), mark.as_bytes()].concat()).ok()
}

impl Namespace<'_> {
    pub(super) fn conflict_name(&self, name: &Name, number: u32) -> Result<Name, Stop> {
        let Stamp { origin_name, index, .. } = &self.stamp;
        conflict_name(name, origin_name, index, number).ok_or(Stop::Refused(Refusal::NameTooLong))
    }

    /// The first conflict name that is free in this directory.
    pub(super) fn free_conflict_name(&self, parent: FileId, name: &Name) -> Result<Name, Stop> {
        for number in 1..=CONFLICT_TRIES_MAX {
            let candidate = self.conflict_name(name, number)?;
            if self.child(parent, &candidate)?.is_none() {
                return Ok(candidate);
            }
        }
        refuse(Refusal::NameTooLong)
    }

    /// Puts `loser` beside `winner`, whose place it wanted (it carries that place), or below
    /// `.git` into the history.
    pub(super) fn lose(&mut self, winner: FileId, mut loser: Record) -> Result<Outcome, Stop> {
        let parent = self.above(loser.parent)?;
        let is_whole = loser.body != Body::Directory;
        if parent.is_git() && is_whole {
            let path = parent.path_below(&loser.name);
            self.displace_at(winner, path, &loser, Reason::Lost)?;
            return Ok(Outcome::History { winner });
        }
        if let Some(copy) = self.same_copy(winner, &loser)? {
            return Ok(Outcome::Conflict { copy });
        }
        if is_whole && self.linked(winner)?.losing.len() >= LOSING_LINES_MAX {
            let path = parent.path_below(&loser.name);
            self.displace_at(winner, path, &loser, Reason::Lost)?;
            return Ok(Outcome::History { winner });
        }
        loser.name = self.free_conflict_name(loser.parent, &loser.name)?;
        self.check_path(&Plan::there(loser.parent), &loser.name)?;
        loser.conflict_of = Some(winner);
        let version = loser.version.clone();
        let copy = self.insert(loser)?;
        self.add_line(winner, copy, version)?;
        Ok(Outcome::Conflict { copy })
    }

    /// The copy that holds what this loser holds, if there is one: the two lines become one.
    fn same_copy(&mut self, winner: FileId, loser: &Record) -> Result<Option<FileId>, IndexError> {
        for LosingLine { copy, .. } in self.linked(winner)?.losing {
            let record = self.linked(copy)?;
            if record.body == loser.body {
                let version = record.version.joined(&loser.version);
                self.merge(copy, &record, &loser.attributes, version)?;
                return Ok(Some(copy));
            }
        }
        Ok(None)
    }

    /// Notes at `winner` that a line lives on in a copy.
    pub(super) fn add_line(
        &mut self,
        winner: FileId,
        copy: FileId,
        version: VersionVector,
    ) -> Result<(), IndexError> {
        let Stamp { index: since, wall_ms, .. } = self.stamp;
        let before = self.linked(winner)?;
        let mut after = before.clone();
        after.losing.push(LosingLine { version, copy, since, wall_ms });
        let surplus = after.losing.len().saturating_sub(LOSING_LINES_MAX);
        let forgotten: Vec<LosingLine> = after.losing.drain(..surplus).collect();
        self.update(winner, &before, after)?;
        self.release(forgotten)
    }

    /// Notes at `winner` that the line of `copy` has moved on.
    pub(super) fn move_line(
        &mut self,
        winner: FileId,
        copy: FileId,
        version: &VersionVector,
    ) -> Result<(), IndexError> {
        let before = self.linked(winner)?;
        let mut after = before.clone();
        for line in after.losing.iter_mut().filter(|line| line.copy == copy) {
            line.version = version.clone();
        }
        self.update(winner, &before, after)
    }

    /// Ends the line of `copy`, of which `record` is still to be written.
    pub(super) fn end_line(&mut self, copy: FileId, record: &mut Record) -> Result<(), IndexError> {
        let Some(winner) = record.conflict_of.take() else { return Ok(()) };
        let before = self.linked(winner)?;
        let mut after = before.clone();
        after.losing.retain(|line| line.copy != copy);
        self.update(winner, &before, after)
    }

    /// Makes the copies of these lines ordinary files.
    pub(super) fn release(&mut self, lines: Vec<LosingLine>) -> Result<(), IndexError> {
        for line in lines {
            let before = self.linked(line.copy)?;
            let after = Record { conflict_of: None, ..before.clone() };
            self.update(line.copy, &before, after)?;
        }
        Ok(())
    }
}

/// The first bytes of a name, at most `room`, not ending inside a character of UTF-8.
fn cut(name: &[u8], room: usize) -> &[u8] {
    let Some((kept, [next, ..])) = name.split_at_checked(room) else { return name };
    let inside = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    if !inside(*next) {
        return kept;
    }
    // A character has at most three bytes behind its first; more of them are no UTF-8.
    let tail = kept.iter().rev().take_while(|byte| inside(**byte)).count();
    match kept.split_at_checked(kept.len().saturating_sub(tail + 1)) {
        Some((shorter, _)) if tail < 3 && !shorter.is_empty() => shorter,
        _ => kept,
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_cut_name_ends_between_characters_where_it_can() {
        assert_eq!(cut(b"short", 10), b"short");
        assert_eq!(cut(b"plain", 3), b"pla");
        assert_eq!(cut("aé".as_bytes(), 2), b"a");
        assert_eq!(cut("aéb".as_bytes(), 3), "aé".as_bytes());
        assert_eq!(cut("a€€".as_bytes(), 6), "a€".as_bytes());
        assert_eq!(cut("a𝄞".as_bytes(), 4), b"a");
        assert_eq!(cut(&[0x80; 9], 4), [0x80; 4], "no UTF-8: cut where it is");
        assert_eq!(cut("é".as_bytes(), 1), &"é".as_bytes()[..1], "something must remain");
    }
}
