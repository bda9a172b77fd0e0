//! The thread that moves contents: it joins the protocol to files, channels and connections.
//!
//! One turn takes some commands, some messages, makes finished contents durable, and does one
//! slice of reading and hashing; it sleeps when there is nothing of all this.

mod act;
mod jobs;
mod links;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError};
use pickbox_raft::bulk::BulkEvent;
use pickbox_raft::clock;
use pickbox_raft::core::ids::{Incarnation, NodeId};

use self::jobs::{Finishing, Job};
use self::links::Link;
use self::serve::Served;
use super::history::HistoryStore;
use super::live::LiveFile;
use super::machine::{Input, Machine, PullKey};
use super::message::decode;
use super::staging::{Partial, Recovered, Verdict};
use super::wire::Wire;
use super::{ContentCommand, ContentEvent, Ticket};
use crate::content_id::ContentId;
use crate::engine::ENGINE_TAG;
use crate::folder::{Dir, Folder, Stat};
use crate::name::RelPath;

/// Messages taken in one turn.
const MESSAGES_PER_TURN: usize = 4;
/// Commands taken in one turn.
const COMMANDS_PER_TURN: usize = 256;
/// Events that the engine has not taken yet before messages and files wait for it. Commands never
/// do: the engine may be waiting to hand one over.
const EVENTS_WAITING_MAX: usize = 1024;
/// Contents made durable together; fewer when nothing else is waiting.
const FINISH_BATCH_MAX: usize = 32;

/// Where the live files are that hold a content, as the engine knows: asked before a peer is
/// answered and before a content is fetched.
pub type Locate = Box<dyn FnMut(ContentId) -> Vec<(RelPath, Stat)> + Send>;

/// What a worker is made of.
pub struct ContentParts {
    /// This node.
    pub node: NodeId,
    /// This run of it.
    pub incarnation: Incarnation,
    /// The user's folder.
    pub folder: Arc<Folder>,
    /// The staging directory.
    pub staging: Dir,
    /// What [`super::staging::recover`] found there.
    pub recovered: Vec<Recovered>,
    /// Displaced versions.
    pub history: Arc<HistoryStore>,
    /// Where live files hold a content.
    pub locate: Locate,
    /// To the peers.
    pub wire: Box<dyn Wire + Send>,
    /// From the peers.
    pub messages: Receiver<BulkEvent>,
    /// From the engine.
    pub commands: Receiver<ContentCommand>,
    /// To the engine.
    pub events: Sender<ContentEvent>,
    /// To the engine: what engines of other nodes say to it (see [`ENGINE_TAG`]).
    pub engine: Sender<(NodeId, Vec<u8>)>,
}

impl fmt::Debug for ContentParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentParts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The content worker: build it, then give [`ContentWorker::run`] a thread.
#[derive(Debug)]
pub struct ContentWorker {
    parts: ContentParts,
    machine: Machine,
    epoch: Instant,
    /// Live files on offer.
    offers: BTreeMap<Ticket, LiveFile>,
    /// Contents being put together.
    partials: BTreeMap<PullKey, Partial>,
    /// Put together, not yet named and told.
    finishing: Vec<Finishing>,
    jobs: Vec<Job>,
    /// Counts slices, so that the oldest job and the shortest take turns.
    slices: u64,
    buffer: Vec<u8>,
    links: BTreeMap<NodeId, Link>,
    served: VecDeque<(ContentId, Served)>,
    waiting_events: VecDeque<ContentEvent>,
}

/// How a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Worked,
    Idle,
    Over,
}

impl ContentWorker {
    /// A worker that has done nothing yet.
    #[must_use]
    pub fn new(parts: ContentParts) -> Self {
        let intact = parts.recovered.iter().filter(|found| found.verdict == Verdict::Intact);
        let staged: Vec<(ContentId, u64)> =
            intact.map(|found| (found.content, found.size)).collect();
        let machine = Machine::new(parts.node, parts.incarnation, &staged);
        Self {
            parts,
            machine,
            epoch: clock::now(),
            offers: BTreeMap::new(),
            partials: BTreeMap::new(),
            finishing: Vec::new(),
            jobs: Vec::new(),
            slices: 0,
            buffer: Vec::new(),
            links: BTreeMap::new(),
            served: VecDeque::new(),
            waiting_events: VecDeque::new(),
        }
    }

    /// Works until [`ContentCommand::Stop`], or until the engine or the connections are gone.
    pub fn run(mut self) {
        loop {
            match self.turn() {
                Turn::Worked => {}
                Turn::Idle => self.sleep(),
                Turn::Over => return,
            }
        }
    }

    fn turn(&mut self) -> Turn {
        self.hand_out_events();
        let commands = self.take_commands();
        let messages = self.take_messages();
        if commands == Turn::Over || messages == Turn::Over {
            return Turn::Over;
        }
        self.tick();
        let calm = messages == Turn::Idle;
        let mut worked = commands == Turn::Worked || messages == Turn::Worked;
        if !self.finishing.is_empty() && (calm || self.finishing.len() >= FINISH_BATCH_MAX) {
            self.finish_batch();
            worked = true;
        }
        if !self.is_backed_up() && !self.jobs.is_empty() {
            self.slice();
            worked = true;
        }
        if worked { Turn::Worked } else { Turn::Idle }
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.epoch)
    }

    fn is_backed_up(&self) -> bool {
        self.waiting_events.len() >= EVENTS_WAITING_MAX
    }

    fn take_commands(&mut self) -> Turn {
        for taken in 0..COMMANDS_PER_TURN {
            match self.parts.commands.try_recv() {
                Ok(ContentCommand::Stop) | Err(TryRecvError::Disconnected) => return Turn::Over,
                Ok(command) => self.input(Input::Command(command), &[]),
                Err(TryRecvError::Empty) if taken == 0 => return Turn::Idle,
                Err(TryRecvError::Empty) => break,
            }
        }
        Turn::Worked
    }

    fn take_messages(&mut self) -> Turn {
        if self.is_backed_up() {
            return Turn::Idle;
        }
        for taken in 0..MESSAGES_PER_TURN {
            match self.parts.messages.try_recv() {
                Ok(event) => self.bulk_event(event),
                Err(TryRecvError::Disconnected) => return Turn::Over,
                Err(TryRecvError::Empty) if taken == 0 => return Turn::Idle,
                Err(TryRecvError::Empty) => break,
            }
        }
        Turn::Worked
    }

    fn bulk_event(&mut self, event: BulkEvent) {
        match event {
            BulkEvent::Up(peer) => {
                self.links.insert(peer, Link::default());
                self.input(Input::Up(peer), &[]);
            }
            BulkEvent::Down(peer) => {
                self.links.remove(&peer);
                self.input(Input::Down(peer), &[]);
            }
            BulkEvent::Drained(peer) => self.drained(peer),
            BulkEvent::Message { from, bytes } if bytes.first() == Some(&ENGINE_TAG) => {
                self.pass_to_engine(from, &bytes);
            }
            BulkEvent::Message { from, bytes } => match decode(&bytes) {
                Ok((message, payload)) => {
                    let payload_bytes = u64::try_from(payload.len()).unwrap_or(u64::MAX);
                    self.input(Input::Message { from, message, payload_bytes }, payload);
                }
                Err(error) => log::warn!("bad content message: peer={from} error={error:?}"),
            },
        }
    }

    /// Pages of the namespace are between the engines. One that finds the engine busy is lost, and
    /// asked for again.
    fn pass_to_engine(&self, from: NodeId, bytes: &[u8]) {
        let bytes = bytes.get(1..).unwrap_or_default().to_vec();
        if self.parts.engine.try_send((from, bytes)).is_err() {
            log::debug!("event=page_dropped from={from}");
        }
    }

    /// Takes one input and does all that follows from it. `payload` are the bytes of the message.
    fn input(&mut self, input: Input, payload: &[u8]) {
        let now = self.now();
        self.machine.step(now, input);
        loop {
            let actions = self.machine.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                if let Some(done) = self.act(action, payload) {
                    self.machine.step(now, Input::Done(done));
                }
            }
        }
    }

    fn tick(&mut self) {
        if self.machine.deadline().is_some_and(|due| due <= self.now()) {
            self.input(Input::Tick, &[]);
        }
    }

    fn tell(&mut self, event: ContentEvent) {
        self.waiting_events.push_back(event);
    }

    fn hand_out_events(&mut self) {
        while let Some(event) = self.waiting_events.pop_front() {
            match self.parts.events.try_send(event) {
                Ok(()) => {}
                // The commands' channel tells the end.
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(event)) => return self.waiting_events.push_front(event),
            }
        }
    }

    /// Waits for a command, a message, room for an event, or the machine's deadline.
    fn sleep(&self) {
        let mut select = Select::new();
        select.recv(&self.parts.commands);
        if !self.is_backed_up() {
            select.recv(&self.parts.messages);
        }
        if !self.waiting_events.is_empty() {
            select.send(&self.parts.events);
        }
        match self.machine.deadline() {
            None => {
                select.ready();
            }
            // What woke it, if anything, shows in the next turn.
            Some(due) => {
                let _ = select.ready_timeout(due.saturating_sub(self.now()));
            }
        }
    }
}
