//! From what was seen on the disk to what has to be done about it.

use super::left_out::LeftOut;
use super::rows::{Actual, is_unchanged};
use super::{Engine, Fatal, GIVEN_UP_MAX, LIMBO_MS};
use crate::content_id::INLINE_BYTES_MAX;
use crate::engine::ports::WatchAsk;
use crate::folder::{FolderError, Kind, Stat};
use crate::ignored::is_ignore_file;
use crate::name::{DEPTH_MAX, Name, RelPath};
use crate::observation::{self, Hint, Observation};
use crate::placed::{LocalId, Placed, Seen, Tables};
use crate::reconcile::{Base, Decision, reconcile};
use crate::record::Body;
use crate::xattr::Xattrs;

/// What was found at a place.
#[derive(Debug)]
struct Found {
    stat: Stat,
    /// What it holds, when it was read.
    body: Option<Body>,
    /// Its bytes, when they are few.
    data: Option<Vec<u8>>,
    /// What users attached to it; `None`: as it was when it was looked at last.
    xattrs: Option<Xattrs>,
}

impl Found {
    fn of(stat: Stat, body: Option<Body>, data: Option<Vec<u8>>) -> Self {
        Self { stat, body, data, xattrs: None }
    }
}

/// Rows without a name that one walk puts in doubt; the next takes the rest.
const NAMELESS_MAX: usize = 65_536;

impl Engine {
    /// Takes in what the watcher saw at a path.
    pub(super) fn observe(&mut self, observation: Observation) -> Result<(), Fatal> {
        let Observation { place, path, seen, hint } = observation;
        let Some((directory, name)) = path.split() else { return Ok(()) };
        if place != observation::Place::Folder {
            return self.observe_quarantine(&name);
        }
        if self.is_to_be_ignored(&path, &seen)? {
            return self.saw_ignored(&path);
        }
        self.left_out.looked_at(&path);
        self.open_for_writing.remove(&path);
        self.saw_index(&path);
        let known = self.resolve_local(&directory)?;
        if let observation::Seen::Gone | observation::Seen::ParentGone = seen {
            return self.saw_nothing(known, &path, &seen);
        }
        let Some(parent) = self.directory_seen(known)? else { return self.look_above(&directory) };
        let found = match seen {
            observation::Seen::Gone | observation::Seen::ParentGone => return Ok(()),
            observation::Seen::Busy(_) => {
                self.open_for_writing.insert(path);
                return Ok(());
            }
            observation::Seen::Special(stat) => {
                if self.is_stale(parent, &name, &stat, None) {
                    return self.ask_examine(parent, &name);
                }
                self.left_out.insert(path, LeftOut::Special);
                return Ok(());
            }
            observation::Seen::Unreadable(errno) => {
                if !self.left_out.waits_for_list(&path) {
                    self.left_out.insert(path, LeftOut::of(errno));
                }
                return Ok(());
            }
            observation::Seen::Directory(stat) => {
                let found = Found::of(stat, Some(Body::Directory), None);
                let is_listed = hint.has(Hint::CREATED) || hint.has(Hint::SCANNED);
                if !is_listed || hint.has(Hint::MOVED_HERE) {
                    return self.directory_arrived(parent, &name, found, path, hint);
                }
                found
            }
            observation::Seen::Symlink { stat, target } => {
                Found::of(stat, Some(Body::Symlink { target }), None)
            }
            observation::Seen::Small { stat, content, data } => {
                let body = Body::File { size: stat.size, content };
                Found::of(stat, Some(body), Some(data))
            }
            observation::Seen::Large(stat) => {
                self.unwritten = Some(stat);
                let found = Found::of(stat, kind_body(&stat), None);
                let done = self.appeared(parent, &name, found, hint);
                self.unwritten = None;
                return done;
            }
            observation::Seen::StatOnly(stat) => Found::of(stat, kind_body(&stat), None),
        };
        self.appeared(parent, &name, found, hint)
    }

    /// Takes in that nothing is at a path; `parent` is the row that the one above leads to.
    fn saw_nothing(
        &mut self,
        parent: Option<LocalId>,
        path: &RelPath,
        seen: &observation::Seen,
    ) -> Result<(), Fatal> {
        let (Some(parent), Some((directory, name))) = (parent, path.split()) else {
            self.left_out.remove(path);
            return Ok(());
        };
        if *seen == observation::Seen::Gone {
            if self.left_out.contains(path) && self.is_absent(parent, &name) {
                self.left_out.remove(path);
            }
            return self.gone_at(parent, &name);
        }
        if self.is_no_directory(parent)? {
            self.left_out.remove(path);
            return self.children_vanish(parent);
        }
        self.ask_watch(WatchAsk::Examine(directory));
        Ok(())
    }

    /// The row of a directory, unless it is known to be something else.
    fn directory_seen(&mut self, row: Option<LocalId>) -> Result<Option<LocalId>, Fatal> {
        let Some(row) = row else { return Ok(None) };
        Ok((!self.is_no_directory(row)?).then_some(row))
    }

    /// Something was seen in a directory that was not, or of which another thing has the name by now:
    /// it is looked for, and brings what is in it.
    fn look_above(&mut self, directory: &RelPath) -> Result<(), Fatal> {
        let mut at = directory.clone();
        while let Some((parent, _)) = at.split() {
            at = parent;
            let known = self.resolve_local(&at)?;
            if self.directory_seen(known)?.is_some() {
                break;
            }
        }
        self.ask_watch(WatchAsk::Rescan(at));
        Ok(())
    }

    /// Takes in what a walk looked at in one directory. Nearly all of it is as it was: that costs two
    /// look-ups each in tables that are opened once, and no path is made.
    pub(super) fn looked(
        &mut self,
        directory: &RelPath,
        looks: Vec<(Name, Stat)>,
    ) -> Result<(), Fatal> {
        if self.ignored_here(directory, true)?.is_some() {
            return Ok(());
        }
        self.passed_by(directory);
        let known = self.resolve_local(directory)?;
        let Some(parent) = self.directory_seen(known)? else { return self.look_above(directory) };
        let mut changed = Vec::new();
        {
            let tables = Tables::open(self.index.tables()?)?;
            for (name, stat) in looks {
                let known = match tables.at(parent, &name)? {
                    Some(id) => tables.get(id)?.map(|row| (id, row)),
                    None => None,
                };
                let is_even = known.is_some_and(|(id, row)| {
                    self.stands_as_agreed(id, &row, &stat)
                        && !self.is_known_trouble(directory, &name)
                });
                if !is_even {
                    changed.push((name, stat));
                }
            }
        }
        for (name, stat) in changed {
            self.observe(Observation::in_passing(directory, &name, stat))?;
        }
        Ok(())
    }

    /// Whether a look shows what the row says, and nothing is open about that.
    fn stands_as_agreed(&self, id: LocalId, row: &Placed, stat: &Stat) -> bool {
        let Some(seen) = &row.seen else { return false };
        row.base.is_some()
            && seen.body.is_some()
            && is_unchanged(seen, stat)
            && !self.racy.has(id, seen)
            && self.is_settled(id)
    }

    /// Whether a thing stands there as one that could not be read, or was open. What is left out for
    /// good is no reason to look at everything else more closely.
    fn is_known_trouble(&self, directory: &RelPath, name: &Name) -> bool {
        if self.left_out.is_empty() && self.open_for_writing.is_empty() {
            return false;
        }
        let path = directory.join(name);
        self.left_out.contains(&path) || self.open_for_writing.contains(&path)
    }

    /// A displaced thing was written to by somebody who still had it open (trap T11).
    fn observe_quarantine(&mut self, name: &Name) -> Result<(), Fatal> {
        if let Some((id, row)) = self.row_at(LocalId::QUARANTINE, name)? {
            self.quarantined.entry(id).or_insert(self.now_ms);
            return self.sweep_one(id, row);
        }
        Ok(())
    }

    /// All that a directory held when it was listed, in order: what placed has beside it is gone, and
    /// what is known to be left out.
    pub(super) fn listed(&mut self, path: &RelPath, names: &[Name]) -> Result<(), Fatal> {
        let known = self.resolve_local(path)?;
        let Some(parent) = self.directory_seen(known)? else {
            // It can be listed, and a look at it failed or told of something else. Or it went since.
            if self.ignored_here(path, true)?.is_none() {
                self.ask_watch(WatchAsk::Examine(path.clone()));
            }
            return Ok(());
        };
        self.left_out.remove(path);
        if !self.given_up.is_empty()
            && let Some(seen) = self.row(parent)?.and_then(|row| row.seen)
        {
            self.given_up.remove(&(seen.stat.ino, seen.stat.btime));
        }
        for name in self.left_out.names_in(path) {
            if names.binary_search(&name).is_err() && self.is_absent(parent, &name) {
                self.left_out.remove(&path.join(&name));
            }
        }
        let mut after = None;
        loop {
            let page = self.tables()?.children(parent, after.as_ref(), 1024)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, _) in page {
                if names.binary_search(&name).is_err() {
                    self.gone_at(parent, &name)?;
                }
            }
        }
    }

    fn is_absent(&mut self, parent: LocalId, name: &Name) -> bool {
        let found = self.dir(parent).and_then(|dir| dir.stat(name));
        matches!(found, Err(FolderError::Absent(_)))
    }

    /// Whether what stands at a row is known to be something else than a directory.
    pub(super) fn is_no_directory(&mut self, id: LocalId) -> Result<bool, Fatal> {
        let seen = self.row(id)?.and_then(|row| row.seen);
        Ok(seen.is_some_and(|seen| seen.stat.kind != Kind::Directory))
    }

    fn appeared(
        &mut self,
        parent: LocalId,
        name: &Name,
        mut found: Found,
        hint: Hint,
    ) -> Result<(), Fatal> {
        let occupant = self.row_at(parent, name)?;
        let known = occupant.as_ref().and_then(|(_, row)| row.seen.as_ref());
        if self.is_stale(parent, name, &found.stat, known.map(|seen| seen.stat)) {
            return self.ask_examine(parent, name);
        }
        if found.stat.kind != Kind::Directory {
            self.needs_no_list(parent, name)?;
        }
        let is_as_known = known.is_some_and(|known| is_unchanged(known, &found.stat));
        if !is_as_known || hint.has(Hint::ATTRIBUTES) {
            found.xattrs = self.look_at_xattrs(parent, name);
        }
        if let Some((id, row)) = &occupant
            && row.seen.as_ref().is_some_and(|seen| seen.stat.same_inode(&found.stat))
        {
            return self.looked_again(*id, row.clone(), found);
        }
        let mover = self.mover(&found.stat, parent, name)?;
        match (occupant, mover) {
            (None, None) => self.new_thing(parent, name, found),
            (None, Some((id, row))) => self.moved(id, row, parent, name, found),
            (Some((other, _)), Some((id, row))) if found.stat.kind == Kind::Directory => {
                self.limbo.insert(other, self.now_ms + LIMBO_MS);
                self.moved(id, row, parent, name, found)
            }
            (Some((id, row)), mover) => {
                if let Some((from, from_row)) = mover {
                    let from_row_base = from_row.base.clone();
                    let known = from_row.seen.filter(|seen| is_moved_only(seen, &found.stat));
                    let body = found.body.clone().or(known.and_then(|seen| seen.body));
                    self.left(from, from_row_base.as_ref())?;
                    return self.replaced(id, row, Found { body, ..found });
                }
                self.replaced(id, row, found)
            }
        }
    }

    /// A directory that came from elsewhere: the watcher knows it as one that was moved, and does
    /// not list it again. But what it holds may have been told and forgotten here, when something
    /// else was seen at its former place before it was seen at this one (trap T3).
    fn directory_arrived(
        &mut self,
        parent: LocalId,
        name: &Name,
        found: Found,
        path: RelPath,
        hint: Hint,
    ) -> Result<(), Fatal> {
        let id = self.tables()?.of_inode(found.stat.ino)?;
        let row = id.map_or(Ok(None), |id| self.row(id))?;
        let seen = row.and_then(|row| row.seen);
        let stat = found.stat;
        if !seen.is_some_and(|seen| seen.stat.same_inode(&stat)) {
            self.owe_list(&stat);
        }
        self.appeared(parent, name, found, hint)?;
        if self.owes_list_below(parent, name)? {
            self.ask_watch(WatchAsk::Rescan(path));
        }
        Ok(())
    }

    /// Nobody here knows what a directory holds.
    pub(super) fn owe_list(&mut self, stat: &Stat) {
        self.given_up.insert((stat.ino, stat.btime));
        if self.given_up.len() > GIVEN_UP_MAX {
            self.given_up.clear();
            self.ask_watch(WatchAsk::Rescan(RelPath::root()));
        }
    }

    /// Whether that is so of the directory at a name, or of one below: a walk that was asked for by the
    /// former path does not find it.
    fn owes_list_below(&mut self, parent: LocalId, name: &Name) -> Result<bool, Fatal> {
        let tables = Tables::open(self.index.tables()?)?;
        let Some(top) = tables.at(parent, name)? else { return Ok(false) };
        for (ino, _) in &self.given_up {
            let mut at = tables.of_inode(*ino)?;
            for _ in 0..DEPTH_MAX {
                match at {
                    Some(id) if id == top => return Ok(true),
                    Some(id) => at = tables.get(id)?.map(|row| row.parent),
                    None => break,
                }
            }
        }
        Ok(false)
    }

    /// No directory stands at a name.
    fn needs_no_list(&mut self, parent: LocalId, name: &Name) -> Result<(), Fatal> {
        if !self.left_out.is_empty()
            && let Some(directory) = self.path_of_row(parent)?
        {
            let path = directory.join(name);
            self.left_out.remove(&path);
            self.left_out.moved(&path, None);
        }
        Ok(())
    }

    /// Whether a look is older than what this thread did at the name since: it would tell of our
    /// own former version as of an edit. One of the same inode is told by its change time.
    fn is_stale(
        &mut self,
        parent: LocalId,
        name: &Name,
        found: &Stat,
        known: Option<Stat>,
    ) -> bool {
        let known = known.filter(|known| known.same_inode(found));
        if known.is_some_and(|known| known.ctime <= found.ctime) {
            return false;
        }
        match self.dir(parent).and_then(|dir| dir.stat(name)) {
            Ok(now) => !now.same_inode(found) || known.is_some() && now.ctime > found.ctime,
            Err(FolderError::Absent(_)) => true,
            Err(_) => false,
        }
    }

    /// The row whose thing stands here now, if it left its old place.
    fn mover(
        &mut self,
        stat: &Stat,
        parent: LocalId,
        name: &Name,
    ) -> Result<Option<(LocalId, Placed)>, Fatal> {
        let known = self.tables()?.of_inode(stat.ino)?;
        let Some(id) = known else {
            let gone = self.gone_as(stat)?;
            return Ok(gone.filter(|(_, row)| (row.parent, &row.name) != (parent, name)));
        };
        let Some(row) = self.row(id)? else { return Ok(None) };
        let same = row.seen.as_ref().is_some_and(|seen| seen.stat.same_inode(stat));
        if !same || row.parent == LocalId::QUARANTINE {
            return Ok(None);
        }
        if (row.parent, &row.name) == (parent, name) {
            // It is back where another thing took its name (two directories exchanged twice).
            let has_lost_it = self.tables()?.is_nameless(id)?;
            return Ok(has_lost_it.then_some((id, row)));
        }
        if self.is_ignored_row(id, &row)? {
            // What comes out of where it is ignored is new.
            return Ok(None);
        }
        let still_there = match self.dir(row.parent) {
            Ok(dir) => dir.stat(&row.name).is_ok_and(|old| old.same_inode(stat)),
            Err(_) => false,
        };
        if still_there {
            // A second name of one inode is a file of its own here (trap T16). No event says to the first
            // that there is another: the watcher must see that it has to be looked at now and then.
            self.ask_examine(row.parent, &row.name)?;
            return Ok(None);
        }
        Ok(Some((id, row)))
    }

    fn looked_again(&mut self, id: LocalId, mut row: Placed, found: Found) -> Result<(), Fatal> {
        let Some(old) = row.seen.clone() else { return Ok(()) };
        let unchanged = is_unchanged(&old, &found.stat);
        let was_read = found.body.is_some();
        let body = found.body.or_else(|| old.body.clone().filter(|_| unchanged));
        let same_xattrs = found.xattrs.as_ref().is_none_or(|found| *found == old.xattrs);
        if unchanged && same_xattrs && body == old.body {
            if !was_read && self.racy.has(id, &old) {
                return self.read_racy(id, row);
            }
            // What was not read when a former run ended is read now.
            let is_known = row.base.is_some() && old.body.is_some();
            let settled = is_known && self.is_settled(id);
            return if settled { Ok(()) } else { self.settle(id) };
        }
        row.seen = Some(self.seen(found.stat, body, Some(&old)).with(found.xattrs));
        self.remember_data(id, found.data);
        self.set_row(id, Some(&row))?;
        self.settle(id)
    }

    /// What users attached to a thing: one call for what has nothing. If another thing is there by
    /// now, a hint is on its way.
    pub(super) fn look_at_xattrs(&mut self, parent: LocalId, name: &Name) -> Option<Xattrs> {
        let dir = self.dir(parent).ok()?;
        let found = dir.user_attributes(name).ok()?;
        if let Some(first) = found.left_out.first()
            && let Ok(Some(path)) = self.path_of_row(parent)
        {
            let (path, count) = (path.join(name), found.left_out.len());
            let name = first.escape_ascii();
            log::warn!("event=attributes_left_out path=\"{path}\" count={count} first={name}");
        }
        Some(found.kept)
    }

    fn new_thing(&mut self, parent: LocalId, name: &Name, found: Found) -> Result<(), Fatal> {
        let id = self.new_local();
        let seen = Some(self.seen(found.stat, found.body, None).with(found.xattrs));
        self.remember_data(id, found.data);
        let row = Placed { parent, name: name.clone(), seen, base: None, hold: None };
        self.set_row(id, Some(&row))?;
        self.found_again(id, &found.stat)?;
        self.settle(id)
    }

    /// A directory that was given up is somewhere else: to the watcher it was only renamed, so
    /// nobody would tell of what is in it.
    fn found_again(&mut self, id: LocalId, stat: &Stat) -> Result<(), Fatal> {
        let is_given_up = self.given_up.contains(&(stat.ino, stat.btime));
        if is_given_up { self.ask_rescan(id) } else { Ok(()) }
    }

    /// Remembers a directory, and those below it, before their rows are given up: the watcher did not
    /// say that they are gone, and may tell of them elsewhere.
    fn give_up(&mut self, top: LocalId) -> Result<(), Fatal> {
        let mut stack = vec![top];
        while let Some(id) = stack.pop() {
            let seen = self.row(id)?.and_then(|row| row.seen);
            let Some(stat) = seen.map(|seen| seen.stat) else { continue };
            if stat.kind != Kind::Directory {
                continue;
            }
            self.owe_list(&stat);
            if self.given_up.is_empty() {
                return Ok(());
            }
            let mut after = None;
            loop {
                let page = self.tables()?.children(id, after.as_ref(), 1024)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                stack.extend(page.into_iter().map(|(_, child)| child));
            }
        }
        Ok(())
    }

    fn moved(
        &mut self,
        id: LocalId,
        mut row: Placed,
        parent: LocalId,
        name: &Name,
        found: Found,
    ) -> Result<(), Fatal> {
        let before = row.seen.take();
        let known = before.as_ref().filter(|seen| is_moved_only(seen, &found.stat));
        let body = found.body.or_else(|| known.and_then(|seen| seen.body.clone()));
        row.parent = parent;
        row.name = name.clone();
        row.seen = Some(self.seen(found.stat, body, before.as_ref()).with(found.xattrs));
        self.limbo.remove(&id);
        self.remember_data(id, found.data);
        self.tables()?.claim(id)?;
        self.set_row(id, Some(&row))?;
        self.rules_moved(&row);
        self.settle(id)
    }

    /// Another inode stands at the name of a row: a name keeps its file when that is replaced
    /// (trap T8: an editor's save is one replace of one file).
    fn replaced(&mut self, id: LocalId, mut row: Placed, found: Found) -> Result<(), Fatal> {
        let was_directory = row.seen.as_ref().is_some_and(|seen| seen.stat.kind == Kind::Directory);
        if was_directory {
            self.give_up(id)?;
        }
        let seen = self.seen(found.stat, found.body, row.seen.as_ref());
        row.seen = Some(seen.with(found.xattrs));
        self.limbo.remove(&id);
        self.remember_data(id, found.data);
        self.set_row(id, Some(&row))?;
        if was_directory {
            // What the old directory held went with it, unless the new one holds it too.
            self.children_vanish(id)?;
        }
        self.found_again(id, &found.stat)?;
        self.settle(id)
    }

    fn gone_at(&mut self, parent: LocalId, name: &Name) -> Result<(), Fatal> {
        self.try_kept(parent)?;
        let Some((id, row)) = self.row_at(parent, name)? else { return Ok(()) };
        if self.is_ignored_row(id, &row)? {
            return Ok(());
        }
        if self.dir(parent).and_then(|dir| dir.stat(name)).is_ok() {
            // The look is older than what was placed there since.
            return self.look_again(id);
        }
        self.vanished(id)
    }

    /// A file left its place for that of another. Its own place may hold something else by now
    /// (two files that swapped names): it is looked at before it is called deleted.
    fn left(&mut self, id: LocalId, base: Option<&Base>) -> Result<(), Fatal> {
        if base.is_none() && !self.is_in_flight(id) {
            return self.vanished(id);
        }
        self.outbox.remove(id);
        self.guard.forget(id);
        self.limbo.insert(id, self.now_ms + LIMBO_MS);
        Ok(())
    }

    /// What lost its name to another thing before this run, and was not found by its walk, is nowhere:
    /// which things were in limbo nobody remembers over a kill.
    pub(super) fn doubt_the_nameless(&mut self) -> Result<(), Fatal> {
        let nameless = self.tables()?.nameless(NAMELESS_MAX)?;
        for id in nameless {
            self.limbo.entry(id).or_insert(self.now_ms + LIMBO_MS);
        }
        Ok(())
    }

    /// Nothing took the place of a thing in limbo, or everything did.
    pub(super) fn end_limbo(&mut self, id: LocalId) -> Result<(), Fatal> {
        self.limbo.remove(&id);
        let Some(row) = self.row(id)? else { return Ok(()) };
        let is_at_its_name = self.row_at(row.parent, &row.name)?.is_some_and(|(at, _)| at == id);
        match self.lost_on_the_way(row.parent)? {
            None if is_at_its_name => return self.look_again(id),
            Some(lost) if self.limbo.contains_key(&lost) => {
                // It goes, or is found again, with that one.
                self.limbo.insert(id, self.now_ms + LIMBO_MS);
                return Ok(());
            }
            _ => {}
        }
        self.give_up(id)?;
        self.vanished(id)
    }

    /// Whether a directory is on this disk, as far as is known, and its path leads to it.
    pub(super) fn is_standing(&mut self, directory: LocalId) -> Result<bool, Fatal> {
        Ok(self.lost_on_the_way(directory)?.is_none())
    }

    /// The first on the way up from a directory that does not stand where its row says: what is asked
    /// of a name below would be answered for whatever has that path by now.
    fn lost_on_the_way(&mut self, directory: LocalId) -> Result<Option<LocalId>, Fatal> {
        let mut at = directory;
        for _ in 0..DEPTH_MAX {
            if matches!(at, LocalId::ROOT | LocalId::QUARANTINE) {
                return Ok(None);
            }
            let Some(row) = self.row(at)? else { break };
            let is_directory = row.seen.is_some_and(|seen| seen.stat.kind == Kind::Directory);
            if !is_directory || self.tables()?.at(row.parent, &row.name)? != Some(at) {
                break;
            }
            at = row.parent;
        }
        Ok(Some(at))
    }

    /// A thing is no more, with all that it held.
    pub(super) fn vanished(&mut self, id: LocalId) -> Result<(), Fatal> {
        let Some(row) = self.row(id)? else { return Ok(()) };
        let was_directory = row.seen.as_ref().is_none_or(|seen| seen.stat.kind == Kind::Directory);
        if was_directory {
            self.children_vanish(id)?;
        }
        self.limbo.remove(&id);
        self.data.remove(id);
        if row.base.is_none() && !self.is_in_flight(id) {
            return self.set_row(id, None);
        }
        self.lost_from_view(id, row)
    }

    /// What the log knows of vanished; where its inode is may be told yet.
    fn lost_from_view(&mut self, id: LocalId, mut row: Placed) -> Result<(), Fatal> {
        if let Some(seen) = row.seen.take() {
            self.remember_gone(id, &seen.stat);
        }
        self.set_row(id, Some(&row))?;
        self.settle(id)
    }

    pub(super) fn children_vanish(&mut self, id: LocalId) -> Result<(), Fatal> {
        // Depth first by an explicit stack of pages: no recursion over what a user made.
        let mut stack = vec![id];
        let mut found = Vec::new();
        while let Some(directory) = stack.pop() {
            let mut after = None;
            loop {
                let page = self.tables()?.children(directory, after.as_ref(), 1024)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (_, child) in page {
                    stack.push(child);
                    found.push(child);
                }
            }
        }
        for child in found.into_iter().rev() {
            let Some(row) = self.row(child)? else { continue };
            if row.base.is_none() && !self.is_in_flight(child) {
                self.set_row(child, None)?;
                continue;
            }
            self.lost_from_view(child, row)?;
        }
        Ok(())
    }

    /// Compares the three pictures of one row and puts it where it belongs: nowhere, among what
    /// waits for a proposal, or among what waits to be placed.
    pub(super) fn settle(&mut self, id: LocalId) -> Result<(), Fatal> {
        self.looks.remove(&id);
        self.strangers.remove(&id);
        if self.is_in_flight(id) {
            self.again.insert(id);
            return Ok(());
        }
        let Some(mut row) = self.row(id)? else { return Ok(()) };
        if Self::is_displaced(&row) {
            self.outbox.remove(id);
            self.quarantined.entry(id).or_insert(self.now_ms);
            return self.sweep_one(id, row);
        }
        if self.settle_ignored(id, &row)? {
            return Ok(());
        }
        if let Some(base) = self.recognise(id, &row)? {
            row.base = Some(base);
            self.set_row(id, Some(&row))?;
        }
        let actual = match self.actual(&row)? {
            Actual::Unread => {
                self.outbox.remove(id);
                return self.read_first(id, &row);
            }
            other => other.known(),
        };
        let agreed = match &row.base {
            Some(base) => self.agreed(base.id)?,
            None => None,
        };
        let decision = reconcile(agreed.as_ref(), row.base.as_ref(), actual.as_ref());
        self.outbox.remove(id);
        if decision != Decision::Delete {
            self.guard.forget(id);
        }
        if let (Decision::Nothing | Decision::Adopt, Some(base)) = (&decision, &row.base) {
            self.is_as_agreed(base.id, actual.as_ref().map(|actual| &actual.body));
        }
        let is_ahead = matches!(decision, Decision::Create | Decision::Propose(_));
        self.end_idle_offer(id, &row, is_ahead);
        self.rules_edited(id, &row, is_ahead);
        if decision == Decision::Create && self.is_strange(id, &row)? {
            return Ok(());
        }
        match decision {
            Decision::Nothing => self.data.remove(id),
            Decision::Forget => self.set_row(id, None)?,
            Decision::Adopt => self.adopt(id, row)?,
            Decision::Create | Decision::Propose(_) | Decision::Delete => {
                if let Some(file) = self.suspect(&row)? {
                    return self.recover(id, row, file);
                }
                if decision == Decision::Delete {
                    self.vanished_for_good(id, &row);
                } else {
                    self.outbox.insert(id);
                    self.place_first(&row);
                }
            }
            Decision::Place(_) | Decision::Remove => {
                if let Some(base) = &row.base {
                    self.todo.insert(base.id);
                }
            }
        }
        Ok(())
    }

    /// What was set aside goes back into the folder before what changed in it goes anywhere: a large
    /// file is read and offered there.
    fn place_first(&mut self, row: &Placed) {
        if row.parent == LocalId::QUARANTINE
            && let Some(base) = &row.base
        {
            self.todo.insert(base.id);
        }
    }

    fn adopt(&mut self, id: LocalId, mut row: Placed) -> Result<(), Fatal> {
        let Some(base) = &mut row.base else { return Ok(()) };
        if let Some(agreed) = self.agreed(base.id)? {
            base.view = agreed.view;
            base.version = agreed.version;
        }
        self.data.remove(id);
        self.set_row(id, Some(&row))
    }

    /// The bytes of a thing have to be read before anything can be decided.
    fn read_first(&mut self, id: LocalId, row: &Placed) -> Result<(), Fatal> {
        let Some(seen) = &row.seen else { return Ok(()) };
        if row.parent == LocalId::QUARANTINE {
            // The sweep reads it.
            self.quarantined.entry(id).or_insert(self.now_ms);
            return Ok(());
        }
        if seen.stat.size > INLINE_BYTES_MAX {
            if is_ignore_file(&row.name) {
                // Rules travel inside an entry, or they could not be in force where it is applied.
                return self.leave_out(id, LeftOut::LongRules);
            }
            if self.may_be_known(row)? {
                return self.read_alone(id, row);
            }
            if row.base.is_none() && self.is_strange(id, row)? {
                return Ok(());
            }
            if self.unwritten.is_some_and(|stat| stat.same_to_ctime(&seen.stat)) {
                return self.offer(id, row);
            }
            // Nobody has looked yet whether a program still writes to it (trap T6).
        }
        self.look_again(id)?;
        self.rules_edited(id, row, true);
        Ok(())
    }
}

/// What a kind holds when nothing has to be read for it.
fn kind_body(stat: &Stat) -> Option<Body> {
    match stat.kind {
        Kind::Directory => Some(Body::Directory),
        _ => None,
    }
}

/// Whether a stat differs from what was seen only by what a rename changes.
fn is_moved_only(seen: &Seen, stat: &Stat) -> bool {
    let old = &seen.stat;
    old.same_inode(stat) && (old.kind, old.size, old.mtime) == (stat.kind, stat.size, stat.mtime)
}
