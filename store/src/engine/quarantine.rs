//! What left the folder and is not done with: displaced inodes, and things whose name is not free.
//!
//! Two kinds of rows live in quarantine. An *evicted* one is a thing of the log that waits for its
//! own name (cycles of renames go this way): its base says that it stands in quarantine, so that
//! comparing brings it back. A *displaced* one came out of the folder when a newer version went
//! in, or when the log had it deleted: its base says where it stood. Only its content is looked
//! at. The version that was expected goes to history as soon as nobody can write to it any more;
//! anything else is an edit, and is proposed on the base that it was made from (traps T10 to T12).

use super::startup::names_in;
use super::{Engine, Fatal};
use crate::agreed::conflict::{CONFLICT_TRIES_MAX, conflict_name};
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::folder::{Dir, FolderError, Kind, Stat};
use crate::lease::Lease;
use crate::name::{NAME_BYTES_MAX, Name};
use crate::placed::{LocalId, Placed, Seen};
use crate::reconcile::{Base, Place};
use crate::record::Body;

/// How long a displaced file is watched where writers cannot be told.
const UNKNOWN_WRITER_MS: u64 = 60_000;
/// Things looked at in one go.
const SWEPT_MAX: usize = 64;

/// Whether a program may still write to a file that has left the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writers {
    None,
    Some,
    Unknown,
}

fn writers(dir: &Dir, name: &Name) -> Writers {
    match dir.open_read(name).map(|file| file.lease()) {
        Ok(Lease::Busy) => Writers::Some,
        Ok(Lease::Unknown) => Writers::Unknown,
        Ok(Lease::Idle) | Err(_) => Writers::None,
    }
}

impl Engine {
    /// Finds a home for what an exposing displaced, now in staging under `name`. `seen.body` is
    /// known if it is the version that was expected.
    pub(super) fn retire(
        &mut self,
        name: &Name,
        seen: &Seen,
        base: Option<Base>,
    ) -> Result<(), Fatal> {
        match (seen.stat.kind, &seen.body) {
            (Kind::Symlink, Some(_)) => {
                // The log has its target.
                if let Err(error) = self.staging.unlink(name) {
                    log::warn!("event=retire_failed error=\"{error}\"");
                }
                return Ok(());
            }
            (Kind::File, Some(Body::File { content, size }))
                if writers(&self.staging, name) == Writers::None
                    && self.verifies(name, *content, *size) =>
            {
                self.keep_in_history(name, *content);
                return Ok(());
            }
            _ => {}
        }
        self.quarantine_it(name, seen.clone(), base)
    }

    /// Whether a displaced small file holds what its stat made us believe. Two writes within a
    /// tick of the clock look alike (trap T18); small files are read, which costs no more than
    /// the probe for writers.
    fn verifies(&self, name: &Name, content: ContentId, size: u64) -> bool {
        if size > INLINE_BYTES_MAX {
            return true;
        }
        let read = self.staging.read_small(name, INLINE_BYTES_MAX);
        matches!(read, Ok((_, Some(data))) if ContentId::of(&data) == content)
    }

    pub(super) fn keep_in_history(&mut self, name: &Name, content: ContentId) {
        if let Err(error) = self.history.keep(&self.staging, name, content) {
            log::warn!("event=history_failed content={content} error=\"{error}\"");
        }
    }

    pub(super) fn quarantine_it(
        &mut self,
        name: &Name,
        seen: Seen,
        base: Option<Base>,
    ) -> Result<(), Fatal> {
        let local = self.new_local();
        let stood = base.as_ref().map(|base| &base.view.place.name);
        let kept = self.quarantine_name(local, stood);
        if let Err(error) = self.staging.rename_no_replace(name, &self.quarantine, &kept) {
            log::warn!("event=quarantine_failed error=\"{error}\"");
            return Ok(());
        }
        // What it holds is read once nobody writes to it any more.
        let seen = Some(Seen { body: None, ..seen });
        let row = Placed { parent: LocalId::QUARANTINE, name: kept, seen, base, hold: None };
        self.set_row(local, Some(&row))?;
        self.quarantined.insert(local, self.now_ms);
        self.sweep_one(local, row)
    }

    /// A name in quarantine for a row: with the name that its thing had, if that is known, so that it
    /// comes back under that one whatever becomes of the row.
    pub(super) fn quarantine_name(&self, local: LocalId, stood: Option<&Name>) -> Name {
        let kept = format!("q.{}.{}", self.incarnation, local.get());
        let Some(stood) = stood else { return Name::made(kept) };
        let bytes = [kept.as_bytes(), b".", stood.as_bytes()].concat();
        let room = bytes.get(..NAME_BYTES_MAX).unwrap_or(&bytes).to_vec();
        Name::new(room).unwrap_or_else(|_| Name::made(kept))
    }

    /// Whether a row in quarantine came out of the folder, and does not wait to go back.
    pub(super) fn is_displaced(row: &Placed) -> bool {
        row.parent == LocalId::QUARANTINE
            && row.base.as_ref().is_none_or(|base| base.view.place.name != row.name)
    }

    /// Notes that a thing of the log is in quarantine until its own name is free.
    pub(super) fn set_aside(&mut self, id: LocalId, row: Placed, kept: Name) -> Result<(), Fatal> {
        self.set_row(id, Some(&evicted(row, kept)))
    }

    /// Looks at what waits in quarantine, some of it at a time.
    pub(super) fn sweep_quarantine(&mut self) -> Result<(), Fatal> {
        let after = std::mem::take(&mut self.swept);
        let rest =
            self.quarantined.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let waiting: Vec<_> = rest.map(|(id, _)| *id).take(SWEPT_MAX).collect();
        if waiting.len() == SWEPT_MAX {
            self.swept = waiting.last().copied().unwrap_or_default();
        }
        for id in waiting {
            match self.row(id)?.filter(|row| row.parent == LocalId::QUARANTINE) {
                Some(row) => self.sweep_one(id, row)?,
                None => drop(self.quarantined.remove(&id)),
            }
        }
        Ok(())
    }

    /// Whether a program is known to write to a displaced file.
    pub(super) fn is_written_to(&self, row: &Placed) -> bool {
        Self::is_displaced(row)
            && row.seen.as_ref().is_some_and(|seen| seen.stat.kind == Kind::File)
            && writers(&self.quarantine, &row.name) == Writers::Some
    }

    pub(super) fn sweep_one(&mut self, id: LocalId, row: Placed) -> Result<(), Fatal> {
        if self.is_in_flight(id) || self.refused_rows.contains(&id) {
            return Ok(());
        }
        if row.base.is_none() && !self.has_scanned() {
            // What the log knows of it is not known before.
            return Ok(());
        }
        let (Some(seen), Ok(stat)) = (&row.seen, self.quarantine.stat(&row.name)) else {
            if !self.tables()?.children(id, None, 1)?.is_empty() {
                // The log is about to hear what became of them.
                return Ok(());
            }
            self.quarantined.remove(&id);
            return self.set_row(id, None);
        };
        let waits = self.waits_for_its_name(id, &row)?;
        if waits
            && let Some(base) = &row.base
            && self.index.record(base.id)?.is_some()
        {
            // Whatever it holds by now is read where it belongs.
            if self.is_overdue(&row) {
                self.todo.insert(base.id);
            }
            return Ok(());
        }
        if stat.kind == Kind::Directory {
            if seen.body.is_none() && !Self::is_displaced(&row) {
                let seen = Some(self.seen(stat, Some(Body::Directory), row.seen.as_ref()));
                self.set_row(id, Some(&Placed { seen, ..row }))?;
                return self.settle(id);
            }
            if waits && self.is_overdue(&row) {
                return self.settle(id);
            }
            return self.sweep_directory(id, row);
        }
        if seen.body.is_none() || !seen.stat.same_content_hint(&stat) {
            return self.read_displaced(id, row, stat);
        }
        if waits {
            return if self.is_overdue(&row) { self.settle(id) } else { Ok(()) };
        }
        if row.base.is_none() && !self.is_seen_known(&row)? {
            return self.surface(id, row);
        }
        if self.is_edit(&row)? {
            self.outbox.insert(id);
            return Ok(());
        }
        self.finish_displaced(id, &row)
    }

    /// Whether a thing is here until its name is free. Not if another one stands in for it by now.
    fn waits_for_its_name(&mut self, id: LocalId, row: &Placed) -> Result<bool, Fatal> {
        let Some(base) = row.base.as_ref().filter(|_| !Self::is_displaced(row)) else {
            return Ok(false);
        };
        Ok(self.row_of(base.id)?.is_none_or(|stands_in| stands_in == id))
    }

    /// Whether a thing of the log waits here for its name, and nobody is about to place it: what became
    /// of its record is found out.
    fn is_overdue(&self, row: &Placed) -> bool {
        row.base.as_ref().is_some_and(|base| self.todo.since_of(base.id).is_none())
    }

    /// Whether what is nobody's any more holds bytes that can be had elsewhere.
    fn is_seen_known(&self, row: &Placed) -> Result<bool, Fatal> {
        match row.seen.as_ref().and_then(|seen| seen.body.as_ref()) {
            Some(body) => self.is_content_known(body),
            None => Ok(false),
        }
    }

    /// Whether a displaced thing holds what neither its base nor the log has.
    pub(super) fn is_edit(&mut self, row: &Placed) -> Result<bool, Fatal> {
        let (Some(base), Some(body)) = (&row.base, row.seen.as_ref().and_then(|s| s.body.as_ref()))
        else {
            return Ok(false);
        };
        if *body == base.view.body {
            return Ok(false);
        }
        let agreed = self.index.record(base.id)?;
        Ok(agreed.is_none_or(|agreed| agreed.body != *body))
    }

    /// The end of a displaced thing that is no edit: its bytes become history.
    fn finish_displaced(&mut self, id: LocalId, row: &Placed) -> Result<(), Fatal> {
        let since = self.quarantined.get(&id).copied().unwrap_or(self.now_ms);
        match writers(&self.quarantine, &row.name) {
            Writers::Some => return Ok(()),
            Writers::Unknown if self.now_ms < since + UNKNOWN_WRITER_MS => return Ok(()),
            Writers::Unknown | Writers::None => {}
        }
        let body = row.seen.as_ref().and_then(|seen| seen.body.as_ref());
        let done = match body {
            Some(Body::File { content, .. }) => {
                self.history.keep(&self.quarantine, &row.name, *content).map(drop)
            }
            _ => self.quarantine.unlink(&row.name),
        };
        if let Err(error) = done {
            log::warn!("event=history_failed name=\"{}\" error=\"{error}\"", row.name);
            return Ok(());
        }
        self.quarantined.remove(&id);
        self.set_row(id, None)
    }

    /// Reads a displaced thing whose bytes are not known. A large one is brought back into the
    /// folder under a name of its own, where it is found and replicated like any new file.
    fn read_displaced(&mut self, id: LocalId, mut row: Placed, stat: Stat) -> Result<(), Fatal> {
        let body = match stat.kind {
            Kind::File if writers(&self.quarantine, &row.name) == Writers::Some => return Ok(()),
            Kind::File if stat.size > INLINE_BYTES_MAX => {
                return self.read_large_displaced(id, row, stat);
            }
            Kind::File => match self.quarantine.read_small(&row.name, INLINE_BYTES_MAX) {
                Ok((stat, Some(data))) => {
                    let body = Body::File { size: stat.size, content: ContentId::of(&data) };
                    self.data.insert(id, data);
                    body
                }
                _ => return Ok(()),
            },
            Kind::Symlink => match self.quarantine.read_link(&row.name) {
                Ok((_, target)) => Body::Symlink { target },
                Err(_) => return Ok(()),
            },
            Kind::Directory | Kind::Special => return Ok(()),
        };
        row.seen = Some(self.seen(stat, Some(body), row.seen.as_ref()));
        self.set_row(id, Some(&row))?;
        self.settle(id)
    }

    /// A large one that looks as it did when it was part of the folder is the version that was
    /// expected; any other is an edit.
    fn read_large_displaced(
        &mut self,
        id: LocalId,
        mut row: Placed,
        stat: Stat,
    ) -> Result<(), Fatal> {
        let same = row.seen.as_ref().is_some_and(|seen| seen.stat.same_content_hint(&stat));
        let as_agreed = row.base.as_ref().is_some_and(|base| {
            let mtime = base.view.attributes.mtime;
            matches!(base.view.body, Body::File { size, .. } if size == stat.size)
                && mtime == stat.mtime
        });
        if let (true, true, Some(base)) = (same, as_agreed, &row.base) {
            let body = Some(base.view.body.clone());
            row.seen = Some(self.seen(stat, body, row.seen.as_ref()));
            self.set_row(id, Some(&row))?;
            return self.settle(id);
        }
        self.surface(id, row)
    }

    /// A directory out of its place waits for its name to become free; but if another one here
    /// became the same for the log meanwhile, what it holds goes there.
    fn sweep_directory(&mut self, id: LocalId, mut row: Placed) -> Result<(), Fatal> {
        let into = match &row.base {
            Some(base) => self.row_of(base.id)?,
            None => None,
        };
        if into == Some(id) && !Self::is_displaced(&row) {
            return Ok(());
        }
        let into = match into {
            Some(into) if into != id && self.is_directory(into)? => into,
            _ => return self.surface(id, row),
        };
        let (Ok(from), Ok(to)) = (self.quarantine.open_dir(&row.name), self.dir(into)) else {
            return Ok(());
        };
        for name in names_in(&from)? {
            self.hand_over(id, &name, &from, (into, &to))?;
        }
        if self.quarantine.rmdir(&row.name).is_err() {
            return Ok(());
        }
        self.children_vanish(id)?;
        row.seen = None;
        self.set_row(id, Some(&row))?;
        self.sweep_one(id, row)
    }

    /// Moves one thing from a displaced directory into the one that stands in for it; beside it if
    /// its name is taken there.
    fn hand_over(
        &mut self,
        directory: LocalId,
        name: &Name,
        from: &Dir,
        (into, to): (LocalId, &Dir),
    ) -> Result<(), Fatal> {
        let known = self.row_at(directory, name)?;
        if let Some((id, _)) = &known
            && self.is_in_flight(*id)
        {
            return Ok(());
        }
        match from.rename_no_replace(name, to, name) {
            Ok(()) => return self.handed_over(known, into, name),
            Err(FolderError::Exists(_)) => {}
            Err(error) => {
                log::warn!("event=hand_over_failed error=\"{error}\"");
                return Ok(());
            }
        }
        if let Some((id, row)) = &known
            && row.base.is_some()
        {
            let kept = self.quarantine_name(*id, Some(name));
            if from.rename_no_replace(name, &self.quarantine, &kept).is_ok() {
                self.set_aside(*id, row.clone(), kept)?;
                self.settle(*id)?;
            }
            return Ok(());
        }
        match self.move_beside((from, name), to, name) {
            Some(beside) => self.handed_over(known, into, &beside),
            None => Ok(()),
        }
    }

    fn handed_over(
        &mut self,
        known: Option<(LocalId, Placed)>,
        into: LocalId,
        name: &Name,
    ) -> Result<(), Fatal> {
        let Some((id, mut row)) = known else { return self.ask_examine(into, name) };
        (row.parent, row.name) = (into, name.clone());
        self.set_row(id, Some(&row))?;
        if row.seen.is_some_and(|seen| seen.stat.kind == Kind::Directory) {
            // What is in it nobody has told of, or it was forgotten.
            self.ask_rescan(id)?;
        }
        self.look_again(id)
    }

    /// Brings a displaced thing back into the folder under a name of its own, as a new one.
    pub(super) fn surface(&mut self, id: LocalId, mut row: Placed) -> Result<(), Fatal> {
        let place = row.base.take().map(|base| base.view.place);
        let (parent, name) = match place {
            Some(Place { parent: Some(parent), name }) => {
                (self.row_of(parent)?.unwrap_or(LocalId::ROOT), name)
            }
            // It was set aside, or nobody knows of it: only its name here tells what it was.
            _ => (LocalId::ROOT, former_name(&row.name)),
        };
        let (parent, dir) = match self.dir(parent) {
            Ok(dir) => (parent, dir),
            // It is no more, or not here.
            Err(_) => match self.dir(LocalId::ROOT) {
                Ok(dir) => (LocalId::ROOT, dir),
                Err(_) => return Ok(()),
            },
        };
        if let Some(name) = self.move_beside((&self.quarantine, &row.name), &dir, &name) {
            self.quarantined.remove(&id);
            self.handed_over(Some((id, row)), parent, &name)?;
        }
        Ok(())
    }

    /// Moves a thing to a name beside `stood`, which another one has; gives that name.
    fn move_beside(&self, (from, name): (&Dir, &Name), to: &Dir, stood: &Name) -> Option<Name> {
        let index = self.index.position().index;
        for number in 1..=CONFLICT_TRIES_MAX {
            let beside = conflict_name(stood, &self.name, index, number)?;
            match from.rename_no_replace(name, to, &beside) {
                Ok(()) => return Some(beside),
                Err(FolderError::Exists(_)) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn is_directory(&mut self, id: LocalId) -> Result<bool, Fatal> {
        let seen = self.row(id)?.and_then(|row| row.seen);
        Ok(id == LocalId::ROOT || seen.is_some_and(|seen| seen.stat.kind == Kind::Directory))
    }
}

/// What a thing was called before it went to quarantine; its name there if that does not say it.
fn former_name(kept: &Name) -> Name {
    let stood = kept.as_bytes().splitn(4, |byte| *byte == b'.').nth(3);
    stood.and_then(|bytes| Name::new(bytes.to_vec()).ok()).unwrap_or_else(|| kept.clone())
}

/// The row of a thing of the log that goes to quarantine until its own name is free.
pub(super) fn evicted(mut row: Placed, kept: Name) -> Placed {
    row.parent = LocalId::QUARANTINE;
    row.name = kept.clone();
    if let Some(base) = &mut row.base {
        base.view.place = Place { parent: None, name: kept };
    }
    row
}

#[cfg(test)]
mod tests {
    use super::former_name;
    use crate::name::Name;

    /// What comes back out of quarantine does so under the name that it had, not under its name there.
    #[test]
    fn a_name_in_quarantine_tells_the_former_one() {
        let name = |text: &str| Name::new(text).unwrap();
        for (kept, former) in [
            ("q.17.23.report", "report"),
            ("q.17.23.report.2.txt", "report.2.txt"),
            ("q.17.23..hidden", ".hidden"),
            ("q.17.23", "q.17.23"),
        ] {
            assert_eq!(former_name(&name(kept)), name(former));
        }
    }
}
