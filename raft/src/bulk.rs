//! Contents between members: opaque messages on connections of their own.
//!
//! The room above sends by a [`BulkHandle`] and receives [`BulkEvent`]s. Nothing here is kept over
//! a break: between [`BulkEvent::Down`] and [`BulkEvent::Up`] messages may have been lost in
//! either direction, and what was asked must be asked again.
//!
//! Bounds: what waits to go out ([`QUEUE_BYTES_MAX`] for each peer, and as much again in the hands
//! of the socket), what has arrived and was not taken yet ([`ARRIVED_BYTES_MAX`] in all), and one
//! message under way on each connection. Beyond that [`BulkHandle::send`] says `Busy`, and the
//! sockets are not read, so that the sender feels it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Events, Poll, Token};
use pickbox_raft_core::ids::{Fingerprint, NodeId};

use crate::clock;
use crate::keys::KeyRing;
use crate::net::bell::Bell;
use crate::net::door::{Adoption, BulkDoor, Lane, SharedDesk};
pub use crate::net::frame::CONTENT_BYTES_MAX;
use crate::net::frame::{Frame, Kind, Parser};
use crate::net::hello::{LocalNode, Purpose};
use crate::net::link::{Context, LinkChange, Tokens};
use crate::net::links::Links;
use crate::net::stream::Stream;
use crate::net::trust::Trust;

/// Bytes that may wait to go out to one peer. A message is always taken when nothing waits.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of messages that wait in the channel of [`BulkEvent`]s before reading stops.
pub const ARRIVED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events that wait in that channel.
const ARRIVED_MAX: usize = 64;
/// Bytes taken from a queue to the socket's hands at once.
const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes read from one connection before others get their turn.
const READ_BYTES: usize = 1024 * 1024;
/// Writes to one connection before others get their turn.
const WRITES_PER_TURN: usize = 8;
/// How often to look whether the channel has room again. Only while it is full.
const STALL_POLL: Duration = Duration::from_millis(1);
/// The waker's number.
const BELL: Token = Token(0);
/// Events taken from one poll.
const EVENTS_MAX: usize = 64;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkError {
    /// Too much waits already; [`BulkEvent::Drained`] will say when to go on.
    Busy,
    /// Not connected; [`BulkEvent::Up`] will say when it is.
    Unreachable,
    /// Over [`CONTENT_BYTES_MAX`].
    TooLarge,
}

impl std::fmt::Display for BulkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Busy => "too much waits to go out already",
            Self::Unreachable => "the peer is not connected",
            Self::TooLarge => "message is over its bound",
        })
    }
}

impl std::error::Error for BulkError {}

/// What the content connections tell the room above.
#[derive(Debug, PartialEq, Eq)]
pub enum BulkEvent {
    /// Both directions work: messages can be sent. Messages of the peer from before the break
    /// may still arrive after this.
    Up(NodeId),
    /// They cannot. Messages may have been lost in both directions.
    Down(NodeId),
    /// A member says this.
    Message {
        /// Which member.
        from: NodeId,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// After [`BulkError::Busy`]: there is room again.
    Drained(NodeId),
}

/// Sends messages. Clones send to the same thread.
#[derive(Clone, Debug)]
pub struct BulkHandle {
    desk: SharedDesk,
    bell: Bell,
}

impl BulkHandle {
    /// Whether a message would be taken now.
    ///
    /// # Errors
    /// `Unreachable` and `Busy`, as [`BulkHandle::send`].
    pub fn room(&self, to: NodeId) -> Result<(), BulkError> {
        let mut desk = self.desk.lock();
        let lane = desk.lanes.get_mut(&to).ok_or(BulkError::Unreachable)?;
        if lane.bytes >= QUEUE_BYTES_MAX {
            lane.starved = true;
            return Err(BulkError::Busy);
        }
        Ok(())
    }

    /// Queues a message of at most [`CONTENT_BYTES_MAX`]. In order for each peer; lost if the
    /// connection breaks ([`BulkEvent::Down`]).
    ///
    /// # Errors
    /// `Busy`: come back after [`BulkEvent::Drained`]. `Unreachable`: after [`BulkEvent::Up`].
    pub fn send(&self, to: NodeId, bytes: Vec<u8>) -> Result<(), BulkError> {
        self.room(to)?;
        // The checksum is made outside of the lock; another sender may fill the last room
        // meanwhile, which overshoots the bound by one message for each sending thread.
        let frame = Frame::new(Kind::Content, bytes).ok_or(BulkError::TooLarge)?;
        let mut desk = self.desk.lock();
        let lane = desk.lanes.get_mut(&to).ok_or(BulkError::Unreachable)?;
        lane.bytes += frame.len();
        lane.frames.push_back(frame);
        drop(desk);
        self.bell.ring();
        Ok(())
    }
}

/// A content connection that a member dialed.
#[derive(Debug)]
struct Reader {
    from: NodeId,
    key: Fingerprint,
    stream: Stream,
    parser: Parser,
    /// The peer sends nothing more; what it sent before may wait to be read.
    is_ending: bool,
}

/// What is to be told of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Notice {
    told_up: bool,
    /// A connection ended since.
    broke: bool,
    drained: bool,
}

/// The content connections, for the thread `bulk`.
#[derive(Debug)]
pub struct Bulk {
    poll: Poll,
    events: Events,
    bell: Bell,
    tokens: Tokens,
    me: LocalNode,
    keys: KeyRing,
    trust: Arc<Trust>,
    desk: SharedDesk,
    links: Links,
    readers: BTreeMap<Token, Reader>,
    /// Readers that may have more to read; served in turn.
    unread: BTreeSet<Token>,
    /// The reader whose message was delivered last.
    served: Token,
    notices: BTreeMap<NodeId, Notice>,
    out: Sender<BulkEvent>,
    /// Sizes of the events in `out`, oldest first, so that what waits there is known exactly.
    waiting: VecDeque<usize>,
    waiting_bytes: usize,
}

/// The bulk thread's body and its users' ends.
pub(crate) struct BulkParts {
    pub(crate) bulk: Bulk,
    pub(crate) handle: BulkHandle,
    pub(crate) events: Receiver<BulkEvent>,
    pub(crate) door: BulkDoor,
}

/// What ends the bulk thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its owner is gone.
    Asked,
}

impl Bulk {
    /// Prepares the content connections of `me`.
    pub(crate) fn open(me: LocalNode, keys: KeyRing) -> io::Result<BulkParts> {
        let poll = Poll::new()?;
        let bell = Bell::new(poll.registry(), BELL)?;
        let desk = SharedDesk::default();
        let (out, events) = bounded(ARRIVED_MAX);
        let bulk = Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            bell: bell.clone(),
            tokens: Tokens::from(BELL.0),
            me,
            keys,
            trust: Arc::default(),
            desk: desk.clone(),
            links: Links::new(Purpose::Bulk, OUTBOX_BYTES_MAX),
            readers: BTreeMap::new(),
            unread: BTreeSet::new(),
            served: BELL,
            notices: BTreeMap::new(),
            out,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        };
        let handle = BulkHandle { desk: desk.clone(), bell: bell.clone() };
        Ok(BulkParts { bulk, handle, events, door: BulkDoor::new(desk, bell) })
    }

    /// Serves until the consensus thread ends, or nobody takes events any more.
    ///
    /// # Errors
    /// When the kernel refuses to poll, which nothing can mend.
    pub fn run(mut self) -> io::Result<()> {
        while self.turn()? != Some(End::Asked) {}
        self.desk.lock().lanes.clear();
        Ok(())
    }

    fn turn(&mut self) -> io::Result<Option<End>> {
        self.bell.may_sleep();
        let timeout = self.timeout();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => self.bell.awake(),
        }
        let is_end = |event: &mio::event::Event| event.is_read_closed() || event.is_error();
        let ready: Vec<(Token, bool)> =
            self.events.iter().map(|event| (event.token(), is_end(event))).collect();
        self.events.clear();
        if self.take_desk() == Some(End::Asked) {
            return Ok(Some(End::Asked));
        }
        for (token, is_end) in ready {
            if let Some(reader) = self.readers.get_mut(&token) {
                reader.is_ending |= is_end;
            }
            self.ready(token);
        }
        let (links, mut cx) = self.links_and_context();
        let changes = links.tick(&mut cx);
        self.note(&changes);
        self.write();
        Ok(self.speak().or_else(|| self.read()))
    }

    fn timeout(&self) -> Option<Duration> {
        let wants_room =
            self.has_news() || self.unread.iter().any(|token| self.is_readable(*token));
        if !self.desk_is_idle() || (wants_room && self.has_room()) {
            return Some(Duration::ZERO);
        }
        let stall = wants_room.then_some(STALL_POLL);
        let now = clock::now();
        let due = self.links.deadline().map(|due| due.saturating_duration_since(now));
        // mio rounds up to whole milliseconds: a deadline is never met too early.
        stall.into_iter().chain(due).min()
    }

    /// Whether what lies on the desk must wait for something else anyway.
    fn desk_is_idle(&self) -> bool {
        let desk = self.desk.lock();
        if desk.is_idle() {
            return true;
        }
        let waits =
            |(id, lane): (&NodeId, &Lane)| lane.frames.is_empty() || !self.links.is_hungry(*id);
        desk.adoptions.is_empty()
            && desk.trust.is_none()
            && !desk.stop
            && desk.lanes.iter().all(waits)
            && !self.links.wants_flush()
    }

    fn take_desk(&mut self) -> Option<End> {
        let mut desk = self.desk.lock();
        let (trust, adoptions) = (desk.trust.take(), std::mem::take(&mut desk.adoptions));
        let stop = desk.stop;
        drop(desk);
        if stop {
            return Some(End::Asked);
        }
        if let Some(trust) = trust {
            self.set_trust(trust);
        }
        for adoption in adoptions {
            self.adopt(adoption);
        }
        None
    }

    fn set_trust(&mut self, trust: Arc<Trust>) {
        let (links, mut cx) = self.links_and_context();
        let changes = links.set_trust(&mut cx, &trust);
        self.note(&changes);
        let is_gone = |reader: &Reader| !trust.is_key_of(reader.key, reader.from);
        let gone = self.readers.iter().filter(|(_, reader)| is_gone(reader));
        let gone: Vec<Token> = gone.map(|(token, _)| *token).collect();
        for token in gone {
            self.hang_up(token, "not a member any more");
        }
        self.trust = trust;
        let links = &self.links;
        self.notices.retain(|id, notice| notice.told_up || links.address(*id).is_some());
    }

    fn adopt(&mut self, adoption: Adoption) {
        let Adoption { hello, key, mut stream, parser } = adoption;
        // It may have been cut off since the consensus thread took it.
        if !self.trust.is_key_of(key, hello.from) {
            return;
        }
        let (links, mut cx) = self.links_and_context();
        let change = links.greeted(&mut cx, &hello);
        self.note(change.as_slice());
        let former = self.readers.iter().find(|(_, reader)| reader.from == hello.from);
        if let Some(token) = former.map(|(token, _)| *token) {
            self.hang_up(token, "dialed anew");
        }
        let token = self.tokens.next();
        if stream.register(self.poll.registry(), token).is_ok() {
            self.readers
                .insert(token, Reader { from: hello.from, key, stream, parser, is_ending: false });
            self.unread.insert(token);
            self.refresh(hello.from);
        }
    }

    fn ready(&mut self, token: Token) {
        if self.readers.contains_key(&token) {
            self.unread.insert(token);
            return;
        }
        let (links, mut cx) = self.links_and_context();
        if let Some(change) = links.ready(&mut cx, token) {
            self.note(&[change]);
        }
    }

    fn note(&mut self, changes: &[LinkChange]) {
        for change in changes {
            match *change {
                LinkChange::Up(id) => self.refresh(id),
                LinkChange::Down(id) => self.broke(id),
                // The connections of the consensus tell what to do about it.
                LinkChange::Refused(..) => {}
            }
        }
    }

    fn hang_up(&mut self, token: Token, reason: &str) {
        self.unread.remove(&token);
        if let Some(reader) = self.readers.remove(&token) {
            log::debug!("content connection ended: peer={} reason=\"{reason}\"", reader.from);
            self.broke(reader.from);
        }
    }

    /// A connection with this peer ended: what waits for it is lost.
    fn broke(&mut self, id: NodeId) {
        self.notices.entry(id).or_default().broke = true;
        self.desk.lock().lanes.remove(&id);
        self.refresh(id);
    }

    /// A connection with this peer began or ended: there may be news.
    fn refresh(&mut self, id: NodeId) {
        self.notices.entry(id).or_default();
    }

    fn is_up(&self, id: NodeId) -> bool {
        self.links.is_up(id) && self.readers.values().any(|reader| reader.from == id)
    }

    /// Whether a peer that is down is up again. The connection that it dialed before it went may be there
    /// still, since nothing is read from who is down: that one is none.
    fn is_up_again(&self, id: NodeId) -> bool {
        let is_open = |reader: &Reader| reader.from == id && !reader.is_ending;
        self.links.is_up(id) && self.readers.values().any(is_open)
    }

    /// Whether something of a peer is to be told.
    fn has_news(&self) -> bool {
        self.notices.iter().any(|(id, notice)| self.news(*id, *notice).is_some())
    }

    fn news(&self, id: NodeId, notice: Notice) -> Option<BulkEvent> {
        match notice.told_up {
            true if notice.broke || !self.is_up(id) => Some(BulkEvent::Down(id)),
            false if self.is_up_again(id) => Some(BulkEvent::Up(id)),
            true if notice.drained => Some(BulkEvent::Drained(id)),
            _ => None,
        }
    }

    /// Tells the news, as far as there is room.
    fn speak(&mut self) -> Option<End> {
        let ids: Vec<NodeId> = self.notices.keys().copied().collect();
        for id in ids {
            while let Some(notice) = self.notices.get(&id).copied()
                && let Some(event) = self.news(id, notice)
                && self.has_room()
            {
                let next = match event {
                    BulkEvent::Down(_) => Notice::default(),
                    BulkEvent::Up(_) => Notice { told_up: true, ..Notice::default() },
                    _ => Notice { drained: false, ..notice },
                };
                self.notices.insert(id, next);
                if next.told_up && !notice.told_up {
                    self.desk.lock().lanes.insert(id, Lane::default());
                }
                if self.deliver(event, 0).is_some() {
                    return Some(End::Asked);
                }
            }
        }
        None
    }

    /// Whether an event can be handed out.
    fn has_room(&self) -> bool {
        // Only this thread sends, so room seen stays room.
        self.out.len() < ARRIVED_MAX && self.arrived_bytes() < ARRIVED_BYTES_MAX
    }

    /// Bytes of events that nobody has taken yet.
    fn arrived_bytes(&self) -> usize {
        let taken = self.waiting.len().saturating_sub(self.out.len());
        self.waiting_bytes.saturating_sub(self.waiting.iter().take(taken).sum())
    }

    fn deliver(&mut self, event: BulkEvent, bytes: usize) -> Option<End> {
        while self.waiting.len() > self.out.len() {
            self.waiting_bytes -= self.waiting.pop_front().unwrap_or_default();
        }
        self.waiting.push_back(bytes);
        self.waiting_bytes += bytes;
        // Room was seen before, so the only error left is that nobody listens.
        self.out.try_send(event).is_err().then_some(End::Asked)
    }

    /// Moves what waits to the sockets.
    fn write(&mut self) {
        let ids: Vec<NodeId> = self.links.ids().collect();
        for id in ids {
            for _ in 0..WRITES_PER_TURN {
                if !self.load(id) {
                    break;
                }
                let (links, mut cx) = self.links_and_context();
                let Some(link) = links.get_mut(id) else { break };
                let (bytes, change) = link.flush(&mut cx);
                self.desk.count_sent(bytes);
                self.note(change.as_slice());
            }
        }
    }

    /// Fills the hands of a link from its lane; whether it has something to write now.
    fn load(&mut self, id: NodeId) -> bool {
        let Some(link) = self.links.get_mut(id) else { return false };
        if !link.is_hungry() {
            return link.wants_flush();
        }
        let mut desk = self.desk.lock();
        let Some(lane) = desk.lanes.get_mut(&id) else { return false };
        while let Some(frame) = lane.frames.pop_front() {
            let bytes = frame.len();
            if let Err(frame) = link.push(frame) {
                lane.frames.push_front(frame);
                break;
            }
            lane.bytes -= bytes;
        }
        if lane.starved && lane.bytes <= QUEUE_BYTES_MAX / 2 {
            lane.starved = false;
            self.notices.entry(id).or_default().drained = true;
        }
        link.wants_flush()
    }

    /// Whether what arrives there can be handed out: not before [`BulkEvent::Up`].
    fn is_readable(&self, token: Token) -> bool {
        let from = self.readers.get(&token).map(|reader| reader.from);
        from.and_then(|from| self.notices.get(&from)).is_some_and(|notice| notice.told_up)
    }

    /// Reads a share of every connection that has something, while there is room.
    fn read(&mut self) -> Option<End> {
        for token in self.in_turn() {
            match self.read_one(token) {
                Ok(Reading::Drained) => {}
                Ok(Reading::More) => {
                    self.unread.insert(token);
                }
                Ok(Reading::Unheard) => return Some(End::Asked),
                Err(reason) => self.hang_up(token, &reason),
            }
        }
        None
    }

    /// All that have something, those first that come after the one that was served last: while
    /// there is room for one only, it is not always the same one's.
    fn in_turn(&mut self) -> Vec<Token> {
        let unread = std::mem::take(&mut self.unread);
        let later = unread.range((Bound::Excluded(self.served), Bound::Unbounded));
        later.chain(unread.range(..=self.served)).copied().collect()
    }

    fn read_one(&mut self, token: Token) -> Result<Reading, String> {
        let mut total = 0;
        while total < READ_BYTES {
            if !self.has_room() || !self.is_readable(token) {
                return Ok(Reading::More);
            }
            let Some(reader) = self.readers.get_mut(&token) else { return Ok(Reading::Drained) };
            let from = reader.from;
            if let Some((_, bytes)) = reader.parser.next_frame().map_err(|e| e.to_string())? {
                let size = bytes.len();
                self.served = token;
                if self.deliver(BulkEvent::Message { from, bytes }, size).is_some() {
                    return Ok(Reading::Unheard);
                }
                continue;
            }
            match reader.parser.fill(|buffer| reader.stream.read_into(buffer)) {
                Ok(0) => return Err("closed by the peer".to_owned()),
                Ok(bytes) => total += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Reading::Drained),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(Reading::More)
    }

    fn links_and_context(&mut self) -> (&mut Links, Context<'_>) {
        let (registry, tokens, keys) = (self.poll.registry(), &mut self.tokens, &self.keys);
        let now: Instant = clock::now();
        (&mut self.links, Context { registry, tokens, me: &self.me, keys, now })
    }
}

/// How reading a connection ended for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Drained,
    More,
    /// Nobody takes events any more.
    Unheard,
}
