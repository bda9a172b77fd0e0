//! The side that lacks the state.

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{Index as LogIndex, LogPosition, NodeId};

use super::super::startup::note_installed;
use super::PeerMessage;
use crate::engine::ports::Outgoing;
use crate::engine::{Engine, Fatal};
use crate::index::{Cursor, ImportError, Importer, Received};

/// A question that got no answer is asked again after this.
const ANSWER_MS: u64 = 2_000;
/// So many questions without an answer later the leader is asked instead of who went silent.
const SILENT_MAX: u32 = 3;
/// After a state that could not be taken the next is asked for later and later, up to this.
const REFUSED_MS_MAX: u64 = 64_000;

/// A state on its way here.
#[derive(Debug)]
pub(super) struct Taking {
    /// Who sends it.
    from: NodeId,
    /// Who leads, as far as is known: who is asked when `from` goes silent.
    leader: NodeId,
    /// A state before this does not connect to the log of the leader.
    at_least: LogPosition,
    /// Where the page begins that is missing; `None` before the first.
    cursor: Option<Cursor>,
    importer: Importer,
    /// When the next question is due.
    next_ms: u64,
    /// Questions since the last page.
    unanswered: u32,
    /// States that were refused, one after the other.
    refused: u32,
    /// Why the last one was.
    why: Option<String>,
}

impl Engine {
    /// The log cannot bring this node up to date by itself: `from` leads, and its log begins behind
    /// `at_least`.
    pub(in crate::engine) fn need_state(
        &mut self,
        from: NodeId,
        at_least: LogPosition,
    ) -> Result<(), Fatal> {
        if at_least.index <= self.index.position().index {
            // Said before the state that is in force now was known below.
            log::debug!("event=state_not_needed at_least={}", at_least.index);
            return Ok(());
        }
        if let Some(taking) = &mut self.catchup.taking {
            taking.leader = from;
            if at_least.index > taking.at_least.index {
                taking.at_least = at_least;
            }
            if taking.is_of_use() {
                // Whoever leads: a state is what the log made of it.
                return Ok(());
            }
        }
        log::info!("event=state_transfer from={from} at_least={}", at_least.index);
        let importer = self.index.import_start()?;
        let (next_ms, unanswered, refused, why) = (self.now_ms, 0, 0, None);
        let leader = from;
        self.catchup.taking = Some(Taking {
            from,
            leader,
            at_least,
            cursor: None,
            importer,
            next_ms,
            unanswered,
            refused,
            why,
        });
        self.ask_page()
    }

    /// What came is of no use: begins anew with the leader. Not at once, which would be as often as
    /// the wire can.
    fn start_over(&mut self, why: Option<String>) -> Result<(), Fatal> {
        let importer = self.index.import_start()?;
        let Some(taking) = &mut self.catchup.taking else { return Ok(()) };
        taking.refused += u32::from(why.is_some());
        let pause = ANSWER_MS.saturating_mul(1 << taking.refused.min(5)).min(REFUSED_MS_MAX);
        let pause = if why.is_some() { pause } else { ANSWER_MS };
        taking.next_ms = self.now_ms + pause;
        (taking.from, taking.cursor, taking.unanswered) = (taking.leader, None, 0);
        taking.importer = importer;
        taking.why = why.or(taking.why.take());
        Ok(())
    }

    /// Asks for the page that is missing.
    fn ask_page(&mut self) -> Result<(), Fatal> {
        let Some(taking) = &mut self.catchup.taking else { return Ok(()) };
        taking.next_ms = self.now_ms + ANSWER_MS;
        let (from, at_least) = (taking.from, taking.at_least);
        let message = match (taking.importer.position(), taking.cursor) {
            (Some(position), Some(cursor)) => PeerMessage::Continue { position, cursor },
            _ => PeerMessage::Begin { at_least },
        };
        self.say(from, &message)
    }

    pub(super) fn taking_tick(&mut self) -> Result<(), Fatal> {
        let now = self.now_ms;
        let Some(taking) = &mut self.catchup.taking else { return Ok(()) };
        if now < taking.next_ms {
            return Ok(());
        }
        taking.unanswered += 1;
        if taking.unanswered > SILENT_MAX && taking.from != taking.leader {
            log::info!("event=state_giver_silent from={} leader={}", taking.from, taking.leader);
            (taking.from, taking.unanswered) = (taking.leader, 0);
        }
        self.ask_page()
    }

    /// The giver does not have the state any more that this node has a part of.
    pub(super) fn taken_is_gone(
        &mut self,
        from: NodeId,
        position: LogPosition,
    ) -> Result<(), Fatal> {
        let Some(taking) = &self.catchup.taking else { return Ok(()) };
        if taking.from != from || taking.importer.position() != Some(position) {
            return Ok(());
        }
        log::info!("event=state_gone from={from} index={}", position.index);
        self.start_over(None)?;
        self.ask_page()
    }

    pub(super) fn take_page(
        &mut self,
        from: NodeId,
        next: Option<Cursor>,
        bytes: &[u8],
    ) -> Result<(), Fatal> {
        let Some(mut taking) = self.catchup.taking.take_if(|taking| taking.from == from) else {
            return Ok(());
        };
        let received = self.index.import_page(&mut taking.importer, bytes);
        let taking = self.catchup.taking.insert(taking);
        match received {
            Ok(Received::More) => {
                (taking.cursor, taking.unanswered) = (next, 0);
                if taking.is_of_use() { self.ask_page() } else { self.start_over(None) }
            }
            Ok(Received::All) => self.install(),
            // Late, twice, of another state, or damaged on its way: nothing was taken of it. The
            // page that is missing is asked for again when its time comes.
            Err(ImportError::OutOfOrder | ImportError::Garbled(_)) => {
                log::debug!("event=state_page_dropped from={from}");
                Ok(())
            }
            Err(ImportError::Index(error)) => Err(error.into()),
            Err(error) => self.refuse_state(&error),
        }
    }

    fn refuse_state(&mut self, error: &ImportError) -> Result<(), Fatal> {
        let from = self.catchup.taking.as_ref().map(|taking| taking.from).unwrap_or_default();
        log::error!("event=state_refused from={from} error=\"{error}\"");
        self.start_over(Some(format!("the state that node {from} sends is refused: {error}")))
    }

    fn install(&mut self) -> Result<(), Fatal> {
        let Some(taking) = &mut self.catchup.taking else { return Ok(()) };
        let importer = std::mem::take(&mut taking.importer);
        let position = importer.position();
        if !taking.is_enough(position) {
            return self.start_over(None);
        }
        if let Some(position) = position {
            note_installed(&self.index, position)?;
        }
        match self.index.import_install(importer) {
            Ok(()) => {}
            Err(ImportError::Index(error)) => return Err(error.into()),
            Err(error) => return self.refuse_state(&error),
        }
        self.catchup.taking = None;
        self.installed()
    }

    fn installed(&mut self) -> Result<(), Fatal> {
        self.find_rules()?;
        let (at, members) = (self.index.position(), self.index.members().clone());
        // What the state brought may be as old as what was placed last.
        self.todo.begin(LogIndex::ZERO);
        log::info!("event=state_installed index={}", at.index);
        let runs = self.index.sessions().runs().collect();
        self.forget_sums()?;
        self.out.push_back(Outgoing::Log(Command::StateInstalled { at, members, runs }));
        if let Some(in_flight) = self.in_flight.take() {
            // Whether it is part of the state is not known row by row: each is compared again.
            // The log goes on asking for it until it is seen or settled; a duplicate of it is
            // told by its serial.
            let known = self.index.sessions().get(self.me).map(|session| session.last);
            if known.is_some_and(|last| last >= in_flight.proposal.serial) {
                self.last_serial = in_flight.proposal.serial;
                self.out.push_back(Outgoing::Log(Command::Settled(self.last_serial)));
                self.give_back(in_flight)?;
            } else {
                self.in_flight = Some(in_flight);
            }
        }
        if self.is_live() {
            return self.compare_all();
        }
        // The entry that opens this run may lie within the state: then no other will follow.
        let open = self.index.sessions().get(self.me).map(|session| session.incarnation);
        if open == Some(self.incarnation) { self.open_run() } else { Ok(()) }
    }

    /// For STATUS: why this node does not catch up.
    pub(in crate::engine) fn state_trouble(&self) -> Option<String> {
        self.catchup.taking.as_ref()?.why.clone()
    }
}

impl Taking {
    fn is_enough(&self, position: Option<LogPosition>) -> bool {
        position.is_some_and(|position| position.index >= self.at_least.index)
    }

    /// Whether what is here, or on its way, will connect to the log of the leader.
    fn is_of_use(&self) -> bool {
        match self.importer.position() {
            Some(position) => self.is_enough(Some(position)),
            None => self.from == self.leader,
        }
    }
}
