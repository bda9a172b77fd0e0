//! The `apply` thread: one event after the other, then what follows from it.

use std::time::Duration;

use crossbeam_channel::{Receiver, Select, Sender};
use pickbox_raft::api::{Command, Delivery, Role};
use pickbox_raft::core::ids::NodeId;

use super::left_out::LeftOut;
use super::outbox::wall_ms;
use super::ports::{Answer, Outgoing, Request, WatchAsk};
use super::retention::PRUNE_EVERY_MS;
use super::{Engine, Fatal};
use crate::contents::{ContentCommand, ContentEvent};
use crate::name::Name;
use crate::observation::{Seen, Sighting};
use crate::syncer::{SyncDone, SyncJob};

/// The longest sleep: what waits for nothing but time is looked at this often when there is any.
const TICK_MS: u64 = 100;
/// Events of one kind taken before the others get their turn.
const EVENTS_PER_TURN: usize = 64;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// From the log.
    Log(Delivery),
    /// From the watcher.
    Sighting(Sighting),
    /// From the content worker.
    Content(ContentEvent),
    /// From the engine of another node.
    Peer(NodeId, Vec<u8>),
    /// From a client.
    Request(Request),
    /// From the syncer.
    Synced(SyncDone),
}

/// Whether the watcher took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It did.
    Yes,
    /// Too many wait: the engine asks for a walk of everything later.
    No,
}

/// Whether another node can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The message is on its way, or was dropped because too many are.
    Yes,
    /// There is no connection.
    No,
}

/// The channels to the neighbours. All are bounded; those that the engine receives from push back
/// on their senders, those that it sends to are drained by threads that never wait for the engine.
pub struct Channels {
    /// From the log.
    pub deliveries: Receiver<Delivery>,
    /// From the watcher; not read before the start is over, so that the watcher waits.
    pub sightings: Receiver<Sighting>,
    /// From the content worker.
    pub contents: Receiver<ContentEvent>,
    /// From the engines of other nodes.
    pub peers: Receiver<(NodeId, Vec<u8>)>,
    /// From clients.
    pub requests: Receiver<Request>,
    /// From the syncer.
    pub synced: Receiver<SyncDone>,
    /// Asks the engine to end after a last checkpoint.
    pub stop: Receiver<()>,
    /// To the log.
    pub log: Box<dyn Fn(Command) + Send>,
    /// To the watcher.
    pub watch: Box<dyn Fn(&WatchAsk) -> Taken + Send>,
    /// To the content worker.
    pub content: Box<dyn Fn(ContentCommand) + Send>,
    /// To the engine of another node; lost when that one cannot be reached.
    pub peer: Box<dyn Fn(NodeId, Vec<u8>) -> Reached + Send>,
    /// To the syncer.
    pub sync: Sender<SyncJob>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

impl Engine {
    /// Runs until the log stops or the engine is told to; then makes a last checkpoint.
    ///
    /// # Errors
    /// When the index, the journal or the state directory fails: the node must stop.
    pub fn run(mut self, channels: &Channels) -> Result<(), Fatal> {
        let start = pickbox_raft::clock::now();
        self.ask_to_open();
        loop {
            let now = start.elapsed().as_millis();
            self.tell_time(u64::try_from(now).unwrap_or(u64::MAX));
            let taken = self.take_events(channels)?;
            if channels.stop.try_recv().is_ok() {
                return self.stop();
            }
            self.turn()?;
            if self.is_noted() {
                // A proposal must not be out before the note about it.
                self.hand_out(channels);
            }
            if self.rests() {
                Self::rest(channels);
            } else if !(taken || self.has_pages_to_give() || self.has_to_place()) {
                self.wait(channels);
            }
        }
    }

    /// Whether the next turn places something, without an event.
    fn has_to_place(&self) -> bool {
        !self.todo.is_empty() && self.may_place()
    }

    /// Says what time it is, in milliseconds of this run.
    pub fn tell_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Takes in one event; see [`Self::turn`] for what follows.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn event(&mut self, event: Event) -> Result<(), Fatal> {
        match event {
            Event::Log(delivery) => self.delivery(delivery),
            Event::Sighting(sighting) => self.sighting(sighting),
            Event::Content(event) => self.content_event(event),
            Event::Peer(from, bytes) => self.peer_message(from, &bytes),
            Event::Request(request) => self.request(request),
            Event::Synced(done) => self.synced(&done),
        }
    }

    /// Does what the events of this turn led to: places, proposes, reports.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn turn(&mut self) -> Result<(), Fatal> {
        if self.is_short_of_space() {
            self.refuse_writes_without_space();
            self.give_up_reads(&Answer::NoSpace);
            self.give_up_flushes(&Answer::NoSpace);
            self.waits_turn()?;
            self.whys_turn();
            // A disk that fails otherwise than by being full ends the node.
            return self.flush_journal();
        }
        self.answer_applied_reads()?;
        self.ask_for_reads();
        self.place_all()?;
        self.propose()?;
        self.tick()?;
        self.give_pages()?;
        self.flush_journal()?;
        self.report_progress();
        self.flushes_turn()?;
        self.whys_turn();
        self.waits_turn()
    }

    /// What left the engine since the last call. It must not go out while a note about it is not
    /// in the journal: see [`Self::is_noted`].
    pub fn take_outgoing(&mut self) -> impl Iterator<Item = Outgoing> + '_ {
        self.out.drain(..)
    }

    fn take_events(&mut self, channels: &Channels) -> Result<bool, Fatal> {
        let mut taken = false;
        // While the disk is full all but clients wait: the log above all, which keeps its entries.
        for _ in 0..EVENTS_PER_TURN {
            if self.is_short_of_space() {
                break;
            }
            let Ok(delivery) = channels.deliveries.try_recv() else { break };
            taken = true;
            self.event(Event::Log(delivery))?;
        }
        macro_rules! take {
            ($receiver:expr, $wrap:expr) => {
                for item in $receiver.try_iter().take(EVENTS_PER_TURN) {
                    taken = true;
                    self.event($wrap(item))?;
                }
            };
        }
        take!(channels.requests, Event::Request);
        if self.rests() {
            for (from, bytes) in channels.peers.try_iter().take(EVENTS_PER_TURN) {
                self.peer_question(from, &bytes)?;
            }
            return Ok(taken);
        }
        take!(channels.contents, Event::Content);
        take!(channels.synced, Event::Synced);
        take!(channels.peers, |(from, bytes)| Event::Peer(from, bytes));
        if self.takes_sightings() {
            take!(channels.sightings, Event::Sighting);
        }
        Ok(taken)
    }

    /// Sightings wait with the watcher while the start is not over or too much is undecided.
    #[must_use]
    pub fn takes_sightings(&self) -> bool {
        self.is_live() && self.outbox.len() < super::status::OUTBOX_MAX
    }

    /// Waits for clients, the end, and space.
    fn rest(channels: &Channels) {
        let mut select = Select::new();
        select.recv(&channels.requests);
        select.recv(&channels.stop);
        let _ = select.ready_timeout(Duration::from_millis(TICK_MS));
    }

    fn wait(&mut self, channels: &Channels) {
        let mut select = Select::new();
        select.recv(&channels.deliveries);
        select.recv(&channels.contents);
        select.recv(&channels.synced);
        select.recv(&channels.peers);
        select.recv(&channels.requests);
        select.recv(&channels.stop);
        if self.takes_sightings() {
            select.recv(&channels.sightings);
        }
        if self.waits_for_time() {
            let _ = select.ready_timeout(Duration::from_millis(TICK_MS));
        } else if self.quorum.leads {
            let _ = select.ready_timeout(Duration::from_millis(PRUNE_EVERY_MS));
        } else {
            let _ = select.ready();
        }
    }

    fn hand_out(&mut self, channels: &Channels) {
        let (mut refused, mut unreached) = (Vec::new(), Vec::new());
        for outgoing in self.out.drain(..) {
            match outgoing {
                Outgoing::Log(command) => (channels.log)(command),
                Outgoing::Watch(ask) => {
                    if (channels.watch)(&ask) == Taken::No {
                        refused.push(ask);
                    }
                }
                Outgoing::Content(command) => (channels.content)(command),
                Outgoing::Peer(to, bytes) => {
                    if (channels.peer)(to, bytes) == Reached::No {
                        unreached.push(to);
                    }
                }
                Outgoing::Sync(job) => {
                    // The syncer takes one job at a time and the engine asks for no second one.
                    let _ = channels.sync.try_send(job);
                }
            }
        }
        for ask in refused {
            self.not_taken(&ask);
        }
        for peer in unreached {
            self.peer_unreachable(peer);
        }
    }

    fn delivery(&mut self, delivery: Delivery) -> Result<(), Fatal> {
        match delivery {
            Delivery::Entries(entries) => self.apply_entries(&entries),
            Delivery::Refused { serial, reason } => {
                log::debug!("event=refused serial={serial} reason={reason:?}");
                self.refused(serial)
            }
            Delivery::NeedState { from, at_least } => self.need_state(from, at_least),
            Delivery::Role(change) => {
                self.quorum.leads = change.role == Role::Leader;
                self.leader_is(change.leader);
                Ok(())
            }
            Delivery::Read { id, index } => self.read_at(id, index),
            Delivery::Stopped(why) => Err(Fatal::Worker(why)),
        }
    }

    fn sighting(&mut self, sighting: Sighting) -> Result<(), Fatal> {
        match sighting {
            Sighting::Saw(observation) => {
                if matches!(observation.seen, Seen::Gone | Seen::ParentGone) {
                    self.guard.gather();
                }
                self.observe(observation)
            }
            Sighting::Calm => {
                self.guard.calm();
                Ok(())
            }
            Sighting::Looked { dir, looks } => self.looked(&dir, looks),
            Sighting::Listed { dir, names } => {
                self.guard.gather();
                let mut names: Vec<Name> = names;
                names.sort_unstable();
                self.listed(&dir, &names)
            }
            Sighting::Unlisted { dir, errno } => {
                log::warn!("event=unlisted path=\"{dir}\" error=\"{errno}\"");
                self.left_out.insert(dir, LeftOut::of_list(errno));
                Ok(())
            }
            Sighting::WalkStarted(top) => {
                if top.is_root() {
                    self.ignoring.walk_started();
                }
                self.guard.walk_started();
                Ok(())
            }
            Sighting::WalkDone { top, complete } => {
                if top.is_root() {
                    self.ignoring.walk_done();
                }
                self.guard.walk_done();
                self.walk_done(&top, complete);
                if !self.has_scanned() {
                    return Ok(());
                }
                self.doubt_the_nameless()?;
                self.end_racy()
            }
            Sighting::RootGone => {
                self.lose_root();
                Ok(())
            }
            Sighting::RootBack => {
                self.find_root();
                Ok(())
            }
            Sighting::Flushed(flushed) => self.flushed(flushed),
        }
    }

    fn tick(&mut self) -> Result<(), Fatal> {
        if self.now_ms < self.next_tick_ms {
            return Ok(());
        }
        self.next_tick_ms = self.now_ms + TICK_MS;
        let late: Vec<_> =
            self.limbo.iter().filter(|(_, at)| **at <= self.now_ms).map(|(id, _)| *id).collect();
        for id in late {
            self.end_limbo(id)?;
        }
        self.brought_tick();
        self.accounts_tick();
        self.rules_tick()?;
        self.quorum_tick();
        self.retry_looks()?;
        self.retry_stuck()?;
        self.sweep_quarantine()?;
        self.catchup_tick()?;
        self.compare_tick()?;
        self.checkpoint_tick()?;
        self.retention_tick(wall_ms(&self.folder))?;
        self.cats_tick();
        self.reads_tick();
        self.flushes_tick()?;
        self.waits_tick()?;
        if std::mem::take(&mut self.index_changed) {
            self.index.commit()?;
        }
        self.propose()
    }

    /// Whether anything is open that only the passing of time brings forward.
    fn waits_for_time(&self) -> bool {
        !self.limbo.is_empty()
            || self.has_sum_to_tell()
            || self.guard.fresh_count() > 0
            || !self.looks.is_empty()
            || !self.stuck.is_empty()
            || !self.quarantined.is_empty()
            || self.catchup.is_active()
            || self.cats.is_active()
            || self.reads.len() > 0
            || self.barriers.is_active()
            || self.wants_checkpoint()
            || self.index_changed
            || self.ignoring.waits_for_time()
            || self.traffic.pace.has_waiting()
            || self.transfers.together.waits_for_time(self.now_ms)
            || self.awaits_quorum()
    }
}
