//! The watch thread: empties the kernel's queue, looks, hands on, and answers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pickbox_raft::clock;
use pickbox_store::folder::Folder;
use pickbox_store::ignored::Ignored;
use pickbox_store::name::RelPath;
use pickbox_store::observation::Sighting;

use crate::events::Drained;
use crate::watcher::{Counts, WatchError, WatchOptions, Watcher};

/// Questions that may wait.
const ASKS_MAX: usize = 65_536;
/// Controlling requests that may wait.
const CONTROLS_MAX: usize = 256;
/// Looks are taken for this long before the kernel's queue is read again.
const LOOK_SLICE: Duration = Duration::from_millis(2);
/// Directory entries listed between two readings of the kernel's queue.
const LIST_ENTRIES: usize = 256;
/// Questions taken up in one turn.
const ASKS_PER_TURN: usize = 256;
/// How soon a full channel is tried again.
const FULL_RETRY: Duration = Duration::from_millis(5);

const QUEUE: Token = Token(0);
const WAKE: Token = Token(1);

/// What the watch thread is asked.
#[derive(Debug)]
pub enum Ask {
    /// Look at this path, content included. Comes back as an observation with `ASKED`.
    Examine(RelPath),
    /// Walk this subtree.
    Walk(RelPath),
    /// Answer when everything that was written before this call is handed on; files that are
    /// open for writing and walks of unwatched directories are not waited for.
    Sync(Sender<()>),
    /// As `Sync`, and nothing waits for what may still come: passing names and deletions are looked
    /// at now, and directories without a watch are listed. Answered among the sightings, by
    /// [`Sighting::Flushed`], behind all that was written before.
    Flush(u64),
    /// Tell how things are.
    Status(Sender<Counts>),
    /// From now on leave alone what these rules ignore: no watch, no look. What is not ignored any
    /// more is taken up by a [`Ask::Walk`] behind this.
    Ignore(Arc<Ignored>),
    /// End the thread.
    Stop,
}

/// A request that was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// Too many wait: try again after taking sightings.
    Full(Ask),
    /// The thread has ended.
    Ended(Ask),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the watcher has too many requests waiting",
            Self::Ended(_) => "the watcher has ended",
        })
    }
}

impl std::error::Error for NotTaken {}

/// Asks the watch thread; never waits.
#[derive(Clone, Debug)]
pub struct Handle {
    asks: Sender<Ask>,
    controls: Sender<Ask>,
    waker: Arc<Waker>,
    sightings: Sender<Sighting>,
}

impl Handle {
    /// Sightings handed on that nobody has taken yet. Whoever takes them counts everything that
    /// is open by asking for [`Counts`] first and for this number then, taking none meanwhile.
    #[must_use]
    pub fn untaken(&self) -> usize {
        self.sightings.len()
    }

    /// Sends a request and wakes the thread.
    ///
    /// # Errors
    /// When too many wait, or the thread has ended; the request comes back.
    pub fn ask(&self, ask: Ask) -> Result<(), NotTaken> {
        let queue = match &ask {
            Ask::Examine(_) | Ask::Walk(_) => &self.asks,
            Ask::Sync(_) | Ask::Flush(_) | Ask::Status(_) | Ask::Ignore(_) | Ask::Stop => {
                &self.controls
            }
        };
        queue.try_send(ask).map_err(|error| match error {
            TrySendError::Full(ask) => NotTaken::Full(ask),
            TrySendError::Disconnected(ask) => NotTaken::Ended(ask),
        })?;
        self.wake();
        Ok(())
    }

    /// Wakes the thread: worth a call when the channel of sightings was full and has room again.
    pub fn wake(&self) {
        // The thread also wakes by itself within milliseconds whenever it has something to do.
        let _ = self.waker.wake();
    }
}

/// A barrier: first everything that appeared must be walked, then everything noted handed on.
#[derive(Debug)]
struct Barrier {
    noted_up_to: Option<u64>,
    reply: Waiter,
}

/// Who waits at a barrier.
#[derive(Debug)]
enum Waiter {
    Caller(Sender<()>),
    Flush(u64),
}

/// The watch thread's whole state.
#[derive(Debug)]
pub struct Watch {
    watcher: Watcher,
    poll: Poll,
    asks: Receiver<Ask>,
    controls: Receiver<Ask>,
    sightings: Sender<Sighting>,
    barriers: Vec<Barrier>,
}

/// Whether the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Go,
    Stop,
}

impl Watch {
    /// Watches `folder` with all below it, and each directory of `beside` (quarantine) by
    /// itself: those are `Place::Beside(0)`, `Beside(1)`... Sightings go into `sightings`, which
    /// should be bounded. A first walk of the folder begins with [`Self::run`].
    ///
    /// # Errors
    /// When inotify's limits or the directories do not allow it.
    pub fn new(
        folder: Folder,
        beside: Vec<Folder>,
        options: WatchOptions,
        sightings: Sender<Sighting>,
    ) -> Result<(Self, Handle), WatchError> {
        pickbox_store::lease::ignore_sigio().map_err(WatchError::Io)?;
        let watcher = Watcher::open(folder, beside, options, clock::now())?;
        let poll = Poll::new().map_err(WatchError::Io)?;
        let fd = watcher.raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), QUEUE, Interest::READABLE)
            .map_err(WatchError::Io)?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(WatchError::Io)?;
        let (ask_sender, asks) = crossbeam_channel::bounded(ASKS_MAX);
        let (control_sender, controls) = crossbeam_channel::bounded(CONTROLS_MAX);
        let handle = Handle {
            asks: ask_sender,
            controls: control_sender,
            waker: Arc::new(waker),
            sightings: sightings.clone(),
        };
        let barriers = Vec::new();
        Ok((Self { watcher, poll, asks, controls, sightings, barriers }, handle))
    }

    /// Runs until it is stopped, the store is gone, or the folder is.
    ///
    /// # Errors
    /// When the kernel refuses to be polled or read.
    pub fn run(mut self) -> Result<(), WatchError> {
        let mut events = Events::with_capacity(8);
        loop {
            let timeout = self.timeout(clock::now());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(WatchError::Io(error));
                }
                _ => {}
            }
            if self.turn()? == Turn::Stop {
                return Ok(());
            }
        }
    }

    /// One turn: the kernel's queue first, always.
    fn turn(&mut self) -> Result<Turn, WatchError> {
        // Taken up before the queue is read: what was written before a request is then noted.
        let controls: Vec<Ask> = self.controls.try_iter().collect();
        while self.watcher.drain(clock::now())? == Drained::More {}
        self.watcher.expire_moves(clock::now());
        self.watcher.retry_unreadable(clock::now());
        self.watcher.check_root(clock::now())?;
        for ask in controls {
            if self.control(ask) == Turn::Stop {
                return Ok(Turn::Stop);
            }
        }
        if self.flush() == Turn::Stop {
            return Ok(Turn::Stop);
        }
        if self.watcher.outbox.is_empty() {
            self.take_asks();
            self.watcher.step_fresh(LIST_ENTRIES, clock::now());
            self.look_for(LOOK_SLICE);
            if self.watcher.outbox.is_empty() {
                self.watcher.step_linked(clock::now());
                self.watcher.step_walk(LIST_ENTRIES, clock::now());
            }
        }
        self.watcher.tell_calm();
        if self.flush() == Turn::Stop {
            return Ok(Turn::Stop);
        }
        self.pass_barriers();
        if self.flush() == Turn::Stop {
            return Ok(Turn::Stop);
        }
        Ok(Turn::Go)
    }

    fn control(&mut self, ask: Ask) -> Turn {
        match ask {
            Ask::Stop => return Turn::Stop,
            // Whoever asked and does not wait any more needs no answer.
            Ask::Status(reply) => {
                let asked = self.asks.len();
                let _ = reply.try_send(Counts { asked, ..self.watcher.counts() });
            }
            Ask::Sync(reply) => {
                self.barriers.push(Barrier { noted_up_to: None, reply: Waiter::Caller(reply) });
            }
            Ask::Flush(id) => {
                self.watcher.sweep_soon(clock::now());
                self.barriers.push(Barrier { noted_up_to: None, reply: Waiter::Flush(id) });
            }
            Ask::Examine(path) => self.watcher.answer(path, clock::now()),
            Ask::Walk(top) => self.watcher.walks.request(top),
            Ask::Ignore(ignored) => self.watcher.ignore(ignored),
        }
        Turn::Go
    }

    fn take_asks(&mut self) {
        for _ in 0..ASKS_PER_TURN {
            match self.asks.try_recv() {
                Ok(ask) => drop(self.control(ask)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
    }

    /// Looks at what is due until the slice is over or the channel is full.
    fn look_for(&mut self, slice: Duration) {
        let end = clock::now() + slice;
        loop {
            let now = clock::now();
            if now >= end || !self.watcher.hand_on(now) {
                return;
            }
            self.watcher.tell_calm();
            if self.flush() == Turn::Stop {
                return;
            }
            if !self.watcher.outbox.is_empty() {
                return;
            }
        }
    }

    /// Hands on what was seen, as far as there is room.
    fn flush(&mut self) -> Turn {
        while let Some(sighting) = self.watcher.outbox.pop_front() {
            match self.sightings.try_send(sighting) {
                Ok(()) => {}
                Err(TrySendError::Full(sighting)) => {
                    self.watcher.outbox.push_front(sighting);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return Turn::Stop,
            }
        }
        Turn::Go
    }

    fn pass_barriers(&mut self) {
        if self.barriers.is_empty() || !self.watcher.outbox.is_empty() {
            return;
        }
        // What the store asked to be looked at came before too.
        let walked = self.watcher.is_walked() && self.asks.is_empty();
        let mut waiting = Vec::new();
        for mut barrier in std::mem::take(&mut self.barriers) {
            if walked && barrier.noted_up_to.is_none() {
                if matches!(barrier.reply, Waiter::Flush(_)) {
                    self.watcher.dirty.hurry_all(clock::now());
                }
                barrier.noted_up_to = Some(self.watcher.dirty.next_id());
            }
            match (barrier.noted_up_to, &barrier.reply) {
                (Some(id), waiter) if self.watcher.dirty.is_settled_before(id) => match waiter {
                    Waiter::Caller(reply) => drop(reply.try_send(())),
                    Waiter::Flush(flush) => self.watcher.flushed(*flush, id),
                },
                _ => waiting.push(barrier),
            }
        }
        self.barriers = waiting;
    }

    /// How long to sleep at most: not at all while there is something to do.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.watcher.outbox.is_empty() {
            return Some(FULL_RETRY);
        }
        if self.watcher.has_work() || !self.asks.is_empty() || !self.controls.is_empty() {
            return Some(Duration::ZERO);
        }
        self.watcher.next_due().map(|due| due.saturating_duration_since(now))
    }
}

impl Watcher {
    /// Whether a turn would find something to do without an event.
    fn has_work(&self) -> bool {
        if self.root_gone {
            return false;
        }
        self.fresh.has_work()
            || self.walks.has_work() && self.dirty.owed_count() < crate::walk::WALK_MARKS_MAX
    }
}
