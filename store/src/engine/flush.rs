//! A flush: whatever changed in the folder before it was asked for is in the log (trap T28).
//!
//! Three stations, one behind the other. The *watcher* reads the kernel's queue to its end, looks at
//! what it noted, and says so behind the last of those sightings (`Sighting::Flushed`). A look may
//! have led to questions about other paths, asked of the watcher in turn: then it is asked once more.
//! What is *undecided* then is what the flush waits for: each of these rows is decided by the first
//! proposal that was drafted afterwards, or is found equal to what the log has. The *log* has all of
//! it at the index of the answer. Edits that are made later join no flush that is behind the watcher.
//!
//! One question to the watcher stands for all that waited when it was asked, as with reads.

use std::collections::BTreeSet;

use pickbox_raft::core::ids::Serial;

use super::left_out::LeftOut;
use super::ports::{Answer, Named, Outgoing, Partial, Request, WatchAsk};
use super::{Engine, Fatal};
use crate::ignored::IGNORE_FILE;
use crate::name::RelPath;
use crate::observation::Flushed;
use crate::placed::LocalId;

/// Flushes that may wait; one more is answered `Busy`.
pub(super) const FLUSHES_MAX: usize = 256;
/// Paths that an answer names of one kind.
const NAMED_MAX: usize = 8;
/// So long without a leader, and those who wait for the log hear it. An election takes less.
pub(super) const NO_LEADER_MS: u64 = 3_000;

/// A client's flush, from its arrival to its answer.
#[derive(Debug)]
struct Waiting {
    request: Request,
    until_ms: u64,
}

/// Flushes that the watcher has answered.
#[derive(Debug)]
struct Landing {
    waiting: Vec<Waiting>,
    /// What was undecided then and is still.
    rows: BTreeSet<LocalId>,
    /// A proposal above this was drafted since.
    serial: Serial,
    /// What is open and so not in the log.
    open: Named,
}

/// Why a row is not in the log yet.
enum Hindrance {
    None,
    Undecided,
    /// A program has it open for writing.
    Open(RelPath),
}

/// Flushes on their way.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    /// Those that the next question to the watcher is for.
    waiting: Vec<Waiting>,
    /// The question that is out, how many looks had been asked for then, and those that it is for.
    asked: Option<(u64, u64, Vec<Waiting>)>,
    landing: Vec<Landing>,
    last_id: u64,
    /// Looks asked of the watcher, ever.
    looks_asked: u64,
}

impl Flushes {
    pub(super) fn len(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |(.., waiting)| waiting.len());
        let landing: usize = self.landing.iter().map(|landing| landing.waiting.len()).sum();
        self.waiting.len() + asked + landing
    }

    /// Takes out those for which `is_it` holds, wherever they wait.
    fn take(&mut self, is_it: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let asked = self.asked.iter_mut().map(|(.., waiting)| waiting);
        let landing = self.landing.iter_mut().map(|landing| &mut landing.waiting);
        let mut taken = Vec::new();
        for waiting in std::iter::once(&mut self.waiting).chain(asked).chain(landing) {
            taken.extend(waiting.extract_if(.., |flush| is_it(flush)));
        }
        self.landing.retain(|landing| !landing.waiting.is_empty());
        taken
    }

    /// These rows are in the log, by a proposal of this number.
    pub(super) fn landed(&mut self, rows: &[LocalId], serial: Serial) {
        for landing in self.landing.iter_mut().filter(|landing| serial > landing.serial) {
            for row in rows {
                landing.rows.remove(row);
            }
        }
    }
}

impl Engine {
    /// Asks the watcher for a look. Every such question goes this way: a flush counts them.
    pub(super) fn ask_watch(&mut self, ask: WatchAsk) {
        self.barriers.flushes.looks_asked += 1;
        self.out.push_back(Outgoing::Watch(ask));
    }

    /// Takes a flush in.
    pub(super) fn flush(&mut self, request: Request, timeout_ms: u64) {
        if self.is_short_of_space() {
            (request.reply)(Answer::NoSpace);
        } else if let Some(why) = self.standstill() {
            (request.reply)(Answer::Blocked(why));
        } else if self.barriers.flushes.len() >= FLUSHES_MAX {
            (request.reply)(Answer::Busy);
        } else {
            let until_ms = self.now_ms.saturating_add(timeout_ms);
            self.barriers.flushes.waiting.push(Waiting { request, until_ms });
        }
    }

    /// Puts the question of this turn to the watcher, for all that came in it.
    fn ask_for_flushes(&mut self) {
        if self.misses_rules() {
            // What they may ignore is left alone meanwhile, so nobody can say that it is in the log.
            return;
        }
        if self.barriers.flushes.asked.is_none() && !self.barriers.flushes.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.barriers.flushes.waiting);
            self.ask_flush(waiting);
        }
    }

    fn ask_flush(&mut self, waiting: Vec<Waiting>) {
        self.barriers.flushes.last_id += 1;
        let id = self.barriers.flushes.last_id;
        self.barriers.flushes.asked = Some((id, self.barriers.flushes.looks_asked, waiting));
        self.out.push_back(Outgoing::Watch(WatchAsk::Flush(id)));
    }

    /// The watcher had too much to do for a question.
    pub(super) fn not_taken(&mut self, ask: &WatchAsk) {
        match ask {
            WatchAsk::Flush(id) => {
                if let Some((.., waiting)) =
                    self.barriers.flushes.asked.take_if(|(out, ..)| out == id)
                {
                    // Put again with the next turn that something brings about, or the next tick.
                    self.barriers.flushes.waiting.extend(waiting);
                }
            }
            WatchAsk::Ignore(_) => self.ignoring.not_told(),
            WatchAsk::Examine(_) | WatchAsk::Rescan(_) => {
                let at_ms = self.now_ms + super::LOOK_MS;
                self.looks.insert(LocalId::ROOT, super::Look { at_ms, is_away: false });
            }
        }
    }

    /// All that was written before the watcher was asked has been taken in.
    pub(super) fn flushed(&mut self, flushed: Flushed) -> Result<(), Fatal> {
        let is_it = |(id, ..): &mut (u64, u64, Vec<Waiting>)| *id == flushed.id;
        let Some((_, looks_asked, waiting)) = self.barriers.flushes.asked.take_if(is_it) else {
            return Ok(());
        };
        if self.misses_rules() {
            self.barriers.flushes.waiting.extend(waiting);
            return Ok(());
        }
        // What left its place and was not found by now was deleted.
        for id in self.limbo.keys().copied().collect::<Vec<_>>() {
            self.end_limbo(id)?;
        }
        let displaced: Vec<LocalId> = self.quarantined.keys().copied().collect();
        let mut open = Named { count: flushed.open_count, paths: flushed.open };
        for id in displaced {
            if let Some(path) = self.sweep_for_flush(id)? {
                open.add(path, NAMED_MAX);
            }
        }
        if self.looks.remove(&LocalId::ROOT).is_some() {
            self.ask_watch(WatchAsk::Rescan(RelPath::root()));
        }
        if self.barriers.flushes.looks_asked > looks_asked {
            self.ask_flush(waiting);
            return Ok(());
        }
        let serial = self.in_flight.as_ref().map_or(self.last_serial, |it| it.proposal.serial);
        let rows = self.undecided_rows();
        self.barriers.flushes.landing.push(Landing { waiting, rows, serial, open });
        Ok(())
    }

    /// Looks at a displaced thing; its path if a program still writes to it.
    fn sweep_for_flush(&mut self, id: LocalId) -> Result<Option<RelPath>, Fatal> {
        let Some(row) = self.row(id)?.filter(|row| row.parent == LocalId::QUARANTINE) else {
            return Ok(None);
        };
        let is_open = self.is_written_to(&row);
        self.sweep_one(id, row)?;
        if is_open { self.shown_path(id).map(Some) } else { Ok(None) }
    }

    fn undecided_rows(&self) -> BTreeSet<LocalId> {
        let waiting = self.outbox.iter().chain(self.flying.iter().copied());
        let known = self.again.iter().chain(self.offers.keys()).copied();
        let timed = self.looks.keys().chain(self.limbo.keys()).copied();
        waiting.chain(known).chain(timed).chain(self.guard.fresh()).collect()
    }

    /// Whether what was seen of a row is not in the log yet.
    fn is_undecided(&self, id: LocalId) -> bool {
        self.outbox.contains(id)
            || self.flying.contains(&id)
            || self.again.contains(&id)
            || self.offers.contains_key(&id)
            || self.looks.contains_key(&id)
            || self.limbo.contains_key(&id)
            || self.guard.is_fresh(id)
    }

    /// Answers what can be answered, and asks the watcher for what is new.
    pub(super) fn flushes_turn(&mut self) -> Result<(), Fatal> {
        for mut landing in std::mem::take(&mut self.barriers.flushes.landing) {
            while let Some(id) = landing.rows.first().copied() {
                match self.hindrance(id)? {
                    Hindrance::None => {}
                    Hindrance::Undecided => break,
                    Hindrance::Open(path) => landing.open.add(path, NAMED_MAX),
                }
                landing.rows.remove(&id);
            }
            if !landing.rows.is_empty() {
                self.barriers.flushes.landing.push(landing);
                continue;
            }
            let answer = self.flush_answer(landing.open)?;
            for flush in landing.waiting {
                (flush.request.reply)(answer.clone());
            }
        }
        self.ask_for_flushes();
        Ok(())
    }

    /// Why a row is not in the log. A look that cannot be taken while somebody writes is not waited for,
    /// nor one that is refused: the answer names it.
    fn hindrance(&mut self, id: LocalId) -> Result<Hindrance, Fatal> {
        if !self.is_undecided(id) {
            return Ok(Hindrance::None);
        }
        let more =
            self.outbox.contains(id) || self.flying.contains(&id) || self.offers.contains_key(&id);
        if more || !self.looks.contains_key(&id) {
            return Ok(Hindrance::Undecided);
        }
        Ok(match self.path_of_row(id)? {
            Some(path) if self.left_out.contains(&path) => Hindrance::None,
            Some(path) if self.open_for_writing.contains(&path) => Hindrance::Open(path),
            _ => Hindrance::Undecided,
        })
    }

    fn flush_answer(&mut self, mut open: Named) -> Result<Answer, Fatal> {
        let mut unreadable = Named::default();
        for (path, why) in self.left_out.iter() {
            if !matches!(why, LeftOut::Special | LeftOut::Mounted) {
                unreadable.add(path.clone(), NAMED_MAX);
            }
        }
        open.paths.truncate(NAMED_MAX);
        let (index, held) = (self.index.position().index, self.held_by_name(NAMED_MAX)?);
        if open.count + held.count + unreadable.count == 0 {
            return Ok(Answer::Flushed(index));
        }
        Ok(Answer::Partial(Box::new(Partial { index, open, held, unreadable })))
    }

    /// Those that have waited for too long hear why.
    pub(super) fn flushes_tick(&mut self) -> Result<(), Fatal> {
        let now = self.now_ms;
        if self.has_no_leader_for(NO_LEADER_MS) {
            let lost: Vec<Landing> = std::mem::take(&mut self.barriers.flushes.landing);
            for flush in lost.into_iter().flat_map(|landing| landing.waiting) {
                (flush.request.reply)(Answer::NoQuorum);
            }
        }
        let late = self.barriers.flushes.take(|flush| flush.until_ms <= now);
        if late.is_empty() {
            return Ok(());
        }
        // A question that nobody waits for must not keep the next one.
        self.barriers.flushes.asked.take_if(|(.., waiting)| waiting.is_empty());
        let rules = self.misses_rules().then(|| format!("rules ({IGNORE_FILE}) are on their way"));
        let waiting = rules.or(self.waiting()?.into_iter().next());
        let why = waiting.unwrap_or_else(|| "the folder is still being looked at".to_owned());
        for flush in late {
            (flush.request.reply)(Answer::TimedOut(why.clone()));
        }
        Ok(())
    }

    /// Refuses all that wait.
    pub(super) fn give_up_flushes(&mut self, answer: &Answer) {
        for flush in self.barriers.flushes.take(|_| true) {
            (flush.request.reply)(answer.clone());
        }
        self.barriers.flushes.asked = None;
    }
}
