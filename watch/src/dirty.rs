//! What may have changed, and when to look: the decisions of the watcher, without a clock.
//!
//! Events gather into one [`Mark`] for each name until somebody looks. Closing a written file
//! and renaming one are looked at at once; a file that appeared waits for its close; names that
//! went away wait for each other, since a delete followed by a create of the same name is one
//! replacement, and since mass deletes are weighed as a whole (traps T6, T8, T20).

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use pickbox_store::folder::Stat;
use pickbox_store::ignored::is_ignore_file;
use pickbox_store::observation::Hint;

use crate::lane::{TRIES_MAX, retry_pause};
use crate::transient::is_transient;
use crate::tree::Key;

/// Marks kept at most; one more is as good as a queue overflow: everything is walked instead.
pub(crate) const MARKS_MAX: usize = 262_144;
/// Names that went wait for this much quiet...
pub(crate) const DELETE_QUIET: Duration = Duration::from_millis(250);
/// ...but no longer than this after the first.
pub(crate) const DELETE_WAIT_MAX: Duration = Duration::from_secs(10);
/// A passing file's name is looked at this late.
pub(crate) const TRANSIENT_WAIT: Duration = Duration::from_secs(2);
/// A file that just appeared, or was written without a close, is probed for writers after this.
pub(crate) const PROBE_WAIT: Duration = Duration::from_millis(10);
/// Probes of a file that stays open get rarer up to this.
pub(crate) const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);
/// A file that is still open after this is looked at as it is, marked hot.
pub(crate) const DEFER_MAX: Duration = Duration::from_secs(30);

/// Who has a file open for so long has it open. For less it may be a program that was started by another
/// thread of its writer, and has copies of all descriptors until it is executed: nobody who closed the file
/// and asks for a flush knows of that.
pub(crate) const OPEN_MOMENT: Duration = Duration::from_millis(100);

const _: () = assert!(DELETE_QUIET.as_millis() < DELETE_WAIT_MAX.as_millis());
const _: () = assert!(PROBE_WAIT_MAX.as_millis() < DEFER_MAX.as_millis());

/// What one event says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It appeared.
    Created,
    /// A writer closed it.
    Closed,
    /// Bytes were written.
    Modified,
    /// It was renamed to this name. With what was known of it under its former name, when that
    /// was in the folder.
    MovedHere(Option<Hint>),
    /// It was deleted, or renamed to elsewhere.
    Went,
    /// Mode, owner, times or link count changed.
    Attributes,
    /// Found by a walk, or asked for: the reasons.
    Found(Hint),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The first mark of this name: hold its directory.
    New,
    /// Joined the mark that was there.
    Merged,
    /// The name came and went unseen: its mark is gone, release its directory.
    Vanished,
    /// No room: walk instead.
    Full,
}

/// What is known of one name since the last look.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// Grows with each first event: what a flush waits for.
    pub(crate) id: u64,
    pub(crate) key: Key,
    pub(crate) hint: Hint,
    pub(crate) first: Instant,
    /// When it appeared, until a writer closes it.
    created: Option<Instant>,
    /// The last write that no close has followed.
    pub(crate) unclosed: Option<Instant>,
    /// The name did not exist before this mark, and nobody was told of it or knows it: if it goes,
    /// nobody needs to know.
    born: bool,
    /// Since when somebody is known to write.
    busy_since: Option<Instant>,
    /// Whether that is so for more than a moment: a flush names it and goes on.
    stays_open: bool,
    probe_count: u32,
    puzzle_count: u32,
    /// It was looked at and put back.
    deferred: bool,
    /// The look that was last handed on while it was still open.
    pub(crate) handed: Option<Stat>,
    wait: Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// For a time; the order decides among equals.
    Until(Instant, u64),
    /// For the deletes to calm down.
    Deletes(u64),
}

impl Mark {
    /// Whether it is looked at even if somebody writes.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.busy_since.is_some_and(|since| now >= since + DEFER_MAX)
    }

    /// Whether the name should be there: nothing said that it went, and nobody looked again yet.
    pub(crate) fn is_expected(&self) -> bool {
        !self.hint.has(Hint::WENT) && self.puzzle_count == 0
    }

    /// Whether so little time passed since it appeared that its writer may not even have opened
    /// it: the kernel reports a creation before the open is complete.
    pub(crate) fn is_newborn(&self, now: Instant) -> bool {
        self.created.is_some_and(|created| now < created + PROBE_WAIT)
    }
}

impl Mark {
    /// Whether it is a delete that waits for nothing but its turn.
    fn is_released_delete(&self) -> bool {
        self.hint.has(Hint::WENT) && self.puzzle_count == 0 && matches!(self.wait, Wait::Until(..))
    }

    /// Bytes were written and the writer has not closed: probe soon, once.
    fn after_modify(&self, now: Instant, order: u64) -> Wait {
        let seen_to = self.hint.has(Hint::WROTE.with(Hint::MOVED_HERE));
        match self.wait {
            // A plan to look after the write stands, be it the next probe of a busy file.
            Wait::Until(due, _) if due > now || seen_to => self.wait,
            _ => Wait::Until(now + PROBE_WAIT, order),
        }
    }

    /// Nobody is known to write any more.
    fn forget_writer(&mut self) {
        (self.busy_since, self.stays_open) = (None, false);
    }

    /// A passing file is not looked at before its time, unless somebody asked.
    fn delay_transient(&mut self) {
        if let Wait::Until(due, order) = self.wait
            && !self.hint.has(Hint::ASKED)
            && is_transient(self.key.name.as_bytes())
        {
            self.wait = Wait::Until(due.max(self.first + TRANSIENT_WAIT), order);
        }
    }
}

/// All marks.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    marks: HashMap<u64, Mark>,
    by_key: HashMap<Key, u64>,
    due: BTreeSet<(Instant, u64, u64)>,
    went: BTreeSet<(u64, u64)>,
    went_first: Option<Instant>,
    went_last: Option<Instant>,
    /// Deletes that were released together and are not all looked at yet.
    burst: BTreeSet<u64>,
    /// Marks that a flush waits for: all but those of files that stay open for writing.
    owed: BTreeSet<u64>,
    /// Ids and orders handed out.
    counter: u64,
}

impl Dirty {
    /// Marks in all.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Marks of files that somebody has open for writing.
    pub(crate) fn open_count(&self) -> usize {
        self.open_marks().count()
    }

    /// The same themselves.
    pub(crate) fn open_marks(&self) -> impl Iterator<Item = &Mark> {
        self.marks.values().filter(|mark| mark.busy_since.is_some())
    }

    /// Those of them that were handed on as they were.
    pub(crate) fn hot_count(&self) -> usize {
        self.open_marks().filter(|mark| mark.handed.is_some()).count()
    }

    /// What is noted of a name.
    pub(crate) fn hint(&self, key: &Key) -> Hint {
        let mark = self.by_key.get(key).and_then(|id| self.marks.get(id));
        mark.map_or(Hint::default(), |mark| mark.hint)
    }

    /// Whether anything is noted of a name.
    pub(crate) fn is_marked(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// Marks that nobody holds up by writing: a measure of what is behind.
    pub(crate) fn owed_count(&self) -> usize {
        self.owed.len()
    }

    /// A number above all marks so far.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Files noted before `id` that somebody has open for writing.
    pub(crate) fn open_before(&self, id: u64) -> impl Iterator<Item = &Key> {
        let open = move |mark: &&Mark| mark.busy_since.is_some() && mark.id < id;
        self.marks.values().filter(open).map(|mark| &mark.key)
    }

    /// Makes due now what waits for its time: deletions, passing names, probes of open files. What
    /// waits for an explanation, or for its writer to open it, keeps its time: that comes by itself,
    /// within milliseconds. A file that was believed to be open is owed until it was probed once more.
    pub(crate) fn hurry_all(&mut self, now: Instant) {
        self.release_deletes(now);
        let late: Vec<u64> =
            self.due.range((now, u64::MAX, u64::MAX)..).map(|&(_, _, id)| id).collect();
        for id in late {
            let Some(mark) = self.marks.get_mut(&id) else { continue };
            let Wait::Until(due, order) = mark.wait else { continue };
            if mark.puzzle_count > 0 || mark.is_newborn(now) {
                continue;
            }
            mark.wait = Wait::Until(now, order);
            self.due.remove(&(due, order, id));
            self.due.insert((now, order, id));
            self.owed.insert(id);
        }
    }

    /// Whether all that was noted before `id` is handed on, but for files open for writing.
    pub(crate) fn is_settled_before(&self, id: u64) -> bool {
        self.owed.first().is_none_or(|&first| first > id)
    }

    /// Takes an event in.
    pub(crate) fn note(&mut self, key: &Key, what: What, now: Instant) -> Noted {
        let Some(&id) = self.by_key.get(key) else {
            return self.note_new(key, what, now);
        };
        let Some(mut mark) = self.remove(id) else { return Noted::Merged };
        if what == What::Went && mark.born {
            return Noted::Vanished;
        }
        self.merge(&mut mark, what, now);
        self.put(mark);
        Noted::Merged
    }

    fn note_new(&mut self, key: &Key, what: What, now: Instant) -> Noted {
        if self.marks.len() >= MARKS_MAX {
            return Noted::Full;
        }
        let id = self.next_id();
        let mut mark = Mark {
            id,
            key: key.clone(),
            hint: Hint::default(),
            first: now,
            created: None,
            unclosed: None,
            born: what == What::Created,
            busy_since: None,
            stays_open: false,
            probe_count: 0,
            puzzle_count: 0,
            deferred: false,
            handed: None,
            wait: Wait::Until(now, id),
        };
        self.merge(&mut mark, what, now);
        self.put(mark);
        Noted::New
    }

    /// The rules: what an event adds, and when the mark is looked at from now on.
    fn merge(&mut self, mark: &mut Mark, what: What, now: Instant) {
        let order = self.next_id();
        let at_once = Wait::Until(now, order);
        match what {
            What::Created => {
                mark.hint = mark.hint.with(Hint::CREATED);
                mark.created = Some(now);
                mark.wait = at_once;
            }
            What::Closed => {
                mark.hint = mark.hint.with(Hint::WROTE);
                (mark.created, mark.unclosed) = (None, None);
                mark.forget_writer();
                mark.wait = at_once;
            }
            What::Modified => {
                mark.unclosed = Some(now);
                mark.wait = mark.after_modify(now, order);
                mark.hint = mark.hint.with(Hint::WROTE);
            }
            What::MovedHere(before) => {
                let inherited = before
                    .map_or(Hint::default(), |hint| Hint::PAIRED.with(hint.only(Hint::WROTE)));
                mark.hint = mark.hint.with(Hint::MOVED_HERE).with(inherited);
                mark.born = false;
                mark.created = None;
                mark.forget_writer();
                mark.wait = at_once;
            }
            What::Went => {
                // What was written is remembered: in an exchange the name is back at once.
                mark.hint = Hint::WENT.with(mark.hint.only(Hint::ASKED.with(Hint::WROTE)));
                (mark.created, mark.handed) = (None, None);
                mark.forget_writer();
                mark.wait = Wait::Deletes(order);
                // A mark that is worked on is not among them: it may come back as it was.
                let first = self.went_first.filter(|_| !self.went.is_empty());
                self.went_first = first.or(Some(now));
                self.went_last = Some(now);
            }
            What::Attributes => mark.hint = mark.hint.with(Hint::ATTRIBUTES),
            What::Found(hint) => {
                mark.hint = mark.hint.with(hint);
                // The store asked for it, or it was in a list of names.
                mark.born = false;
                if hint.has(Hint::ASKED) || matches!(mark.wait, Wait::Deletes(_)) {
                    mark.wait = at_once;
                }
            }
        }
        mark.delay_transient();
        self.rules_first(mark, now);
    }

    /// Rules decide about what is told with them, so they are the first of all that is due.
    fn rules_first(&self, mark: &mut Mark, now: Instant) {
        if is_ignore_file(&mark.key.name)
            && let Wait::Until(due, _) = mark.wait
            && due <= now
        {
            let first = self.due.first().map_or(now, |(first, ..)| now.min(*first));
            mark.wait = Wait::Until(first, 0);
        }
    }

    /// Both halves of a rename are in the folder: the old name need not wait for other deletes,
    /// unless it went to a passing name: then a new file is about to take its place. It is looked
    /// at after the new name: whoever finds the known inode there understands what it now sees
    /// at the old one.
    pub(crate) fn pair(&mut self, from: &Key, to: &Key, now: Instant) {
        let Some(mut mark) = self.by_key.get(from).copied().and_then(|id| self.remove(id)) else {
            return;
        };
        mark.hint = mark.hint.with(Hint::PAIRED);
        if matches!(mark.wait, Wait::Deletes(_)) && !is_transient(to.name.as_bytes()) {
            mark.wait = Wait::Until(now, self.next_id());
        }
        self.put(mark);
    }

    /// A directory is never a passing one: its entries are told of only after it.
    pub(crate) fn hurry(&mut self, key: &Key, now: Instant) {
        if let Some(mut mark) = self.take_named(key, now) {
            mark.wait = Wait::Until(now, self.next_id());
            self.put(mark);
        }
    }

    /// Puts back a mark that was taken: somebody is writing, or it would not hold still.
    /// Looks get rarer; a close makes it due at once.
    pub(crate) fn defer(&mut self, mut mark: Mark, now: Instant) {
        let exponent = mark.probe_count.min(16);
        let pause = PROBE_WAIT.saturating_mul(1 << exponent).min(PROBE_WAIT_MAX);
        mark.probe_count += 1;
        let since = *mark.busy_since.get_or_insert(now);
        mark.stays_open |= now >= since + OPEN_MOMENT;
        let limit = if now < since + DEFER_MAX { since + DEFER_MAX } else { now + pause };
        let order = self.next_id();
        mark.wait = Wait::Until((now + pause).min(limit), order);
        mark.deferred = true;
        self.put(mark);
    }

    /// Puts back a mark that appeared a moment ago.
    pub(crate) fn defer_newborn(&mut self, mut mark: Mark) {
        let created = mark.created.unwrap_or(mark.first);
        mark.wait = Wait::Until(created + PROBE_WAIT, mark.id);
        mark.deferred = true;
        self.put(mark);
    }

    /// Puts back a mark whose file or directory is not where it should be. Returns it when that
    /// was tried enough.
    pub(crate) fn puzzle(&mut self, mut mark: Mark, now: Instant) -> Option<Mark> {
        if mark.puzzle_count >= TRIES_MAX {
            return Some(mark);
        }
        mark.wait = Wait::Until(now + retry_pause(mark.puzzle_count), mark.id);
        mark.puzzle_count += 1;
        mark.deferred = true;
        self.put(mark);
        None
    }

    /// Puts back a mark whose file was handed on hot: look again until it is closed.
    pub(crate) fn keep_hot(&mut self, mut mark: Mark, handed: Stat, now: Instant) {
        mark.handed = Some(handed);
        mark.born = false;
        mark.busy_since = Some(now);
        self.defer(mark, now);
    }

    /// When to look next; `None` when nothing is marked.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = self.due.first().map(|&(due, ..)| due);
        due.into_iter().chain(self.went_due()).min()
    }

    fn went_due(&self) -> Option<Instant> {
        if self.went.is_empty() {
            return None;
        }
        Some((self.went_last? + DELETE_QUIET).min(self.went_first? + DELETE_WAIT_MAX))
    }

    /// Takes the next mark that is due.
    pub(crate) fn take_ready(&mut self, now: Instant) -> Option<Mark> {
        if self.went_due().is_some_and(|due| due <= now) {
            self.release_deletes(now);
        }
        let &(due, _, id) = self.due.first()?;
        if due > now { None } else { self.remove(id) }
    }

    /// Takes the mark of this name before its time, unless it waits with other deletes, or was
    /// looked at and put back.
    pub(crate) fn take_named(&mut self, key: &Key, now: Instant) -> Option<Mark> {
        match self.named(key)? {
            (_, Wait::Deletes(_)) => None,
            (mark, Wait::Until(due, _)) if due > now && mark.deferred => None,
            (mark, _) => self.remove(mark.id),
        }
    }

    /// When the mark of this name is looked at again, if it waits for an explanation.
    pub(crate) fn puzzled_until(&self, key: &Key) -> Option<Instant> {
        match self.named(key)? {
            (mark, Wait::Until(due, _)) if mark.puzzle_count > 0 => Some(due),
            _ => None,
        }
    }

    fn named(&self, key: &Key) -> Option<(&Mark, Wait)> {
        let mark = self.marks.get(self.by_key.get(key)?)?;
        Some((mark, mark.wait))
    }

    /// Puts back a mark: as it was, or not to be looked at before a time.
    pub(crate) fn put_back(&mut self, mut mark: Mark, not_before: Option<Instant>) {
        if let (Wait::Until(due, order), Some(not_before)) = (mark.wait, not_before) {
            mark.wait = Wait::Until(due.max(not_before), order);
        }
        self.put(mark);
    }

    /// Whether all deletes that were released together were looked at, but for those that puzzle.
    pub(crate) fn is_burst_over(&mut self) -> bool {
        while let Some(id) = self.burst.first() {
            if self.marks.get(id).is_some_and(Mark::is_released_delete) {
                return false;
            }
            self.burst.pop_first();
        }
        true
    }

    /// All deletes at once, in their order: whoever weighs them sees the whole.
    fn release_deletes(&mut self, now: Instant) {
        while let Some((_, id)) = self.went.pop_first() {
            self.burst.insert(id);
            if let Some(mark) = self.marks.get_mut(&id)
                && let Wait::Deletes(order) = mark.wait
            {
                mark.wait = Wait::Until(now, order);
                self.due.insert((now, order, id));
            }
        }
        (self.went_first, self.went_last) = (None, None);
    }

    fn remove(&mut self, id: u64) -> Option<Mark> {
        let mark = self.marks.remove(&id)?;
        self.by_key.remove(&mark.key);
        self.owed.remove(&id);
        match mark.wait {
            Wait::Until(due, order) => self.due.remove(&(due, order, id)),
            Wait::Deletes(order) => self.went.remove(&(order, id)),
        };
        Some(mark)
    }

    fn put(&mut self, mark: Mark) {
        match mark.wait {
            Wait::Until(due, order) => self.due.insert((due, order, mark.id)),
            Wait::Deletes(order) => self.went.insert((order, mark.id)),
        };
        if mark.busy_since.is_none() || !mark.stays_open {
            self.owed.insert(mark.id);
        }
        self.by_key.insert(mark.key.clone(), mark.id);
        self.marks.insert(mark.id, mark);
    }
}

#[cfg(test)]
mod tests {
    use pickbox_store::name::Name;
    use pickbox_store::observation::Place;

    use super::*;
    use crate::tree::Tree;

    /// Marks in one directory, at moments given in milliseconds.
    struct Script {
        dirty: Dirty,
        dir: crate::tree::DirId,
        zero: Instant,
    }

    impl Script {
        fn new() -> Self {
            let dir = Tree::default().add_root(Place::Folder);
            Self { dirty: Dirty::default(), dir, zero: pickbox_raft::clock::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.zero + Duration::from_millis(ms)
        }

        fn key(&self, name: &str) -> Key {
            Key { dir: self.dir, name: Name::new(name).unwrap() }
        }

        fn note(&mut self, ms: u64, name: &str, what: What) -> Noted {
            let (key, now) = (self.key(name), self.at(ms));
            self.dirty.note(&key, what, now)
        }

        fn notes(&mut self, ms: u64, name: &str, whats: &[What]) {
            for what in whats {
                self.note(ms, name, *what);
            }
        }

        fn take(&mut self, ms: u64) -> Vec<(String, Hint)> {
            let now = self.at(ms);
            std::iter::from_fn(|| self.dirty.take_ready(now))
                .map(|mark| (mark.key.name.to_string(), mark.hint))
                .collect()
        }

        fn names(&mut self, ms: u64) -> Vec<String> {
            self.take(ms).into_iter().map(|(name, _)| name).collect()
        }
    }

    use What::{Attributes, Closed, Created, Found, Modified, MovedHere, Went};

    /// trap T6: no settle time after a close.
    #[test]
    fn a_closed_file_is_looked_at_at_once() {
        let mut script = Script::new();
        script.notes(0, "f", &[Created, Modified, Modified, Closed]);
        assert_eq!(script.take(0), [("f".into(), Hint::CREATED.with(Hint::WROTE))]);
        assert_eq!(script.dirty.next_due(), None);
    }

    /// trap T6: a write without a close is probed, and again ever more rarely, until the close.
    #[test]
    fn an_open_file_is_probed_and_waits_for_its_close() {
        let mut script = Script::new();
        script.note(0, "f", Modified);
        assert!(script.take(9).is_empty());
        let mut probes = Vec::new();
        let mut ms = 0;
        while ms < DEFER_MAX.as_millis().try_into().unwrap() {
            let now = script.at(ms);
            if let Some(mark) = script.dirty.take_ready(now) {
                assert!(!mark.is_overdue(now));
                script.dirty.defer(mark, now);
                probes.push(ms);
            }
            ms += 10;
        }
        assert_eq!(probes[..6], [10, 20, 40, 80, 160, 320]);
        assert!(probes.windows(2).all(|pair| pair[1] - pair[0] <= 2000), "{probes:?}");
        assert_eq!(script.dirty.open_count(), 1);
        let now = script.at(30_010);
        let mark = script.dirty.take_ready(now).expect("a last look after 30 s");
        assert!(mark.is_overdue(now));
        script.dirty.defer(mark, now);
        script.note(30_011, "f", Closed);
        assert_eq!(script.names(30_011), ["f"]);
        assert_eq!(script.dirty.open_count(), 0);
    }

    /// Source: trap T28. What is open for a moment only (a child of its writer has copies of all descriptors
    /// until it is executed) is waited for by a flush; what stays open is not, however often it was
    /// handed on meanwhile.
    #[test]
    fn a_flush_waits_for_what_is_open_for_a_moment_only() {
        let mut script = Script::new();
        script.note(0, "f", Closed);
        let noted = script.dirty.next_id();
        let probe = |script: &mut Script, ms: u64| {
            let now = script.at(ms);
            let mark = script.dirty.take_ready(now).expect("a probe");
            script.dirty.defer(mark, now);
            script.dirty.is_settled_before(noted)
        };
        assert!(!probe(&mut script, 0) && !probe(&mut script, 99));
        assert_eq!(script.dirty.open_before(noted).count(), 1);
        script.note(99, "f", Closed);
        assert_eq!(script.names(99), ["f"]);
        assert!(script.dirty.is_settled_before(noted));
        assert_eq!(script.dirty.open_before(noted).count(), 0);

        script.note(1_000, "f", Modified);
        let noted = script.dirty.next_id();
        let mut is_settled = |ms: u64| {
            let now = script.at(ms);
            let mark = script.dirty.take_ready(now).expect("a probe");
            script.dirty.defer(mark, now);
            script.dirty.is_settled_before(noted)
        };
        assert!(!is_settled(1_010) && is_settled(1_110), "it stays open");
        script.dirty.hurry_all(script.at(1_120));
        assert!(!script.dirty.is_settled_before(noted), "the next flush looks again");
        let now = script.at(1_120);
        let mark = script.dirty.take_ready(now).expect("a probe");
        let stat = pickbox_store::folder::Folder::open(std::path::Path::new("/")).unwrap();
        script.dirty.keep_hot(mark, stat.root().stat_self().unwrap(), now);
        assert!(script.dirty.is_settled_before(noted), "and finds what it knows");
        assert_eq!(script.dirty.open_before(noted).count(), 1);
    }

    /// trap T8, T20: deletes wait for each other, but not for ever, and come together, in order.
    #[test]
    fn deletes_gather() {
        let mut script = Script::new();
        for ms in (0..2000).step_by(200) {
            script.note(ms, &format!("f{ms}"), Went);
            assert!(script.take(ms + 199).is_empty());
        }
        assert!(script.names(2049).is_empty());
        assert_eq!(script.names(2050).len(), 10);
        for ms in (3000..13_000).step_by(200) {
            script.note(ms, &format!("g{ms}"), Went);
            assert!(script.take(ms).is_empty());
        }
        let names = script.names(13_000);
        assert_eq!((names.len(), names[0].as_str()), (50, "g3000"));
        script.note(14_000, "h", Went);
        assert!(script.take(14_249).is_empty(), "the ten seconds begin anew");
    }

    /// Source: trap T1. A name that a walk listed does not vanish unseen, whatever was known of it.
    #[test]
    fn a_name_that_was_listed_is_told_when_it_goes() {
        let mut script = Script::new();
        script.notes(0, "f", &[Created, Found(Hint::SCANNED)]);
        assert_eq!(script.note(1, "f", Went), Noted::Merged);
        assert_eq!(script.names(300), ["f"]);
    }

    /// trap T8: delete and create of one name are one replacement, at once.
    #[test]
    fn a_name_that_comes_back_does_not_wait() {
        let mut script = Script::new();
        script.notes(0, "f", &[Went, Created, Modified, Closed]);
        let expected = Hint::WENT.with(Hint::CREATED).with(Hint::WROTE);
        assert_eq!(script.take(0), [("f".into(), expected)]);
        script.note(1, "g", Went);
        script.note(2, "g", MovedHere(None));
        assert_eq!(script.take(2), [("g".into(), Hint::WENT.with(Hint::MOVED_HERE))]);
    }

    /// trap T8: what came and went between two looks is nobody's business...
    #[test]
    fn a_name_that_came_and_went_is_forgotten() {
        let mut script = Script::new();
        assert_eq!(script.note(0, "4913", Created), Noted::New);
        assert_eq!(script.note(0, "4913", Closed), Noted::Merged);
        assert_eq!(script.note(0, "4913", Went), Noted::Vanished);
        assert_eq!((script.dirty.len(), script.dirty.next_due()), (0, None));
        // ...unless it covered something, or was there before.
        script.notes(1, "f", &[MovedHere(None), Went]);
        script.notes(1, "g", &[Attributes, Created, Went]);
        script.notes(1, "h", &[Went, Created, Went]);
        assert_eq!(script.names(300), ["f", "g", "h"]);
    }

    /// trap T8: passing names are delayed, not excluded, and a rename ends the delay.
    #[test]
    fn passing_names_are_late() {
        let mut script = Script::new();
        script.notes(0, ".f.swp", &[Created, Closed]);
        script.notes(0, "f~", &[MovedHere(None)]);
        script.notes(1000, ".f.swp", &[Modified, Closed]);
        assert!(script.take(1999).is_empty());
        assert_eq!(script.names(2000), ["f~", ".f.swp"]);
        script.notes(3000, ".f.AbC123", &[Created, Closed]);
        let hint = script.dirty.hint(&script.key(".f.AbC123"));
        script.note(3001, ".f.AbC123", Went);
        script.note(3001, "f", MovedHere(Some(hint)));
        let expected = Hint::MOVED_HERE.with(Hint::PAIRED).with(Hint::WROTE);
        assert_eq!(script.take(3001), [("f".into(), expected)]);
    }

    /// trap T3: a rename within the folder is seen as one: the old name does not wait for other
    /// deletes, and comes after the new one. trap T8: but it does if it went to a passing name, as editors keep a backup.
    #[test]
    fn both_halves_of_a_rename_are_looked_at_together() {
        let mut script = Script::new();
        script.notes(0, "a", &[Went]);
        script.notes(0, "b", &[MovedHere(Some(Hint::default()))]);
        let (a, b, now) = (script.key("a"), script.key("b"), script.at(0));
        script.dirty.pair(&a, &b, now);
        let paired = |hint: Hint| hint.with(Hint::PAIRED);
        let expected = [("b".into(), paired(Hint::MOVED_HERE)), ("a".into(), paired(Hint::WENT))];
        assert_eq!(script.take(0), expected);
        script.notes(10, "f", &[Went]);
        script.notes(10, "f~", &[MovedHere(Some(Hint::default()))]);
        let (f, backup, now) = (script.key("f"), script.key("f~"), script.at(10));
        script.dirty.pair(&f, &backup, now);
        assert!(script.take(10).is_empty());
        script.notes(20, "f", &[Created, Closed]);
        assert_eq!(script.names(20), ["f"]);
    }

    /// Trap T10: an exchange tells that the new thing came before it tells that the old one went. A
    /// mode, an owner or a time that is set then, or a backup name, does not make the wait endless.
    #[test]
    fn a_name_that_went_is_looked_at_whatever_comes_after() {
        let mut script = Script::new();
        script.notes(0, "f", &[MovedHere(None), Went, Attributes]);
        assert!(script.take(249).is_empty());
        assert_eq!(script.names(250), ["f"]);
        script.notes(1000, "g", &[Went]);
        script.notes(1000, "g~", &[MovedHere(Some(Hint::default()))]);
        let (g, backup, now) = (script.key("g"), script.key("g~"), script.at(1000));
        script.dirty.pair(&g, &backup, now);
        assert_eq!(script.names(1250), ["g"]);
    }

    /// git writes objects before the refs that name them: the last change of each counts (T9).
    #[test]
    fn looks_follow_the_order_of_the_last_changes() {
        let mut script = Script::new();
        script.note(0, "ref", Closed);
        script.note(0, "object", Closed);
        script.note(0, "ref", Closed);
        assert_eq!(script.names(0), ["object", "ref"]);
    }

    /// A file is created before its writer counts as one: an immediate probe would find nobody.
    #[test]
    fn a_newborn_file_is_given_a_moment() {
        let mut script = Script::new();
        script.notes(0, "f", &[Went, Created]);
        let now = script.at(0);
        let mark = script.dirty.take_ready(now).unwrap();
        assert!(mark.is_newborn(now) && mark.is_newborn(script.at(9)));
        script.dirty.defer_newborn(mark);
        assert!(script.take(9).is_empty());
        let now = script.at(10);
        assert!(!script.dirty.take_ready(now).unwrap().is_newborn(now));
    }

    /// trap T28: a flush waits for what was noted before it, not for what comes later, and not
    /// for files that stay open.
    #[test]
    fn a_flush_waits_for_what_was_before_it() {
        let mut script = Script::new();
        script.note(0, "open", Modified);
        let now = script.at(10);
        let mark = script.dirty.take_ready(now).unwrap();
        script.dirty.defer(mark, now);
        script.note(11, "f", Closed);
        script.note(11, "gone", Went);
        let flush = script.dirty.next_id();
        script.note(12, "later", Closed);
        script.note(12, "f", Closed);
        assert!(!script.dirty.is_settled_before(flush));
        assert_eq!(script.names(12), ["later", "f"]);
        assert!(!script.dirty.is_settled_before(flush), "the delete is still held");
        script.note(13, "later", Closed);
        let deletes = script.at(300);
        while script.dirty.take_ready(deletes).is_some() {}
        assert!(script.dirty.is_settled_before(flush));
    }

    /// trap T28: a flush does not wait for more deletions, or for a passing name to pass; a file that
    /// was believed to be open is looked at once more, and named if it still is.
    #[test]
    fn a_flush_makes_due_what_waits_for_its_time() {
        let mut script = Script::new();
        script.note(0, "open", Modified);
        for ms in [10, 20, 40, 80, 160] {
            let now = script.at(ms);
            let mark = script.dirty.take_ready(now).unwrap();
            script.dirty.defer(mark, now);
        }
        script.notes(170, "gone", &[Went]);
        script.notes(170, ".f.swp", &[Created, Closed]);
        assert!(script.take(171).is_empty());
        let now = script.at(171);
        script.dirty.hurry_all(now);
        let flush = script.dirty.next_id();
        assert!(!script.dirty.is_settled_before(flush));
        let mut names = Vec::new();
        while let Some(mark) = script.dirty.take_ready(now) {
            names.push(mark.key.name.to_string());
            if names.last().is_some_and(|name| name == "open") {
                script.dirty.defer(mark, now);
            }
        }
        names.sort();
        assert_eq!(names, [".f.swp", "gone", "open"]);
        assert!(script.dirty.is_settled_before(flush));
        let open: Vec<String> =
            script.dirty.open_before(flush).map(|key| key.name.to_string()).collect();
        assert_eq!(open, ["open"]);
    }

    /// Trap T20: deletes that calmed down together are over when the last was taken, whatever
    /// came meanwhile.
    #[test]
    fn deletes_that_go_together_are_over_together() {
        let mut script = Script::new();
        for name in ["a", "b", "c"] {
            script.note(0, name, Went);
        }
        assert!(script.dirty.is_burst_over(), "they still wait for more");
        let now = script.at(250);
        script.dirty.take_ready(now).unwrap();
        assert!(!script.dirty.is_burst_over());
        script.note(251, "later", Went);
        let back = script.dirty.take_ready(now).unwrap();
        script.dirty.put_back(back, None);
        assert!(!script.dirty.is_burst_over(), "put back is not looked at");
        while script.dirty.take_ready(now).is_some() {}
        assert!(script.dirty.is_burst_over(), "the later one is of another");
    }

    #[test]
    fn a_walk_that_finds_a_deleted_name_looks_at_it() {
        let mut script = Script::new();
        script.notes(0, "f", &[Went, Found(Hint::SCANNED)]);
        assert_eq!(script.take(0), [("f".into(), Hint::WENT.with(Hint::SCANNED))]);
    }
}
