//! Everything of the consensus thread that is a socket: the listener, the links out, the
//! connections in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use pickbox_raft_core::ids::{Incarnation, NodeId};
use pickbox_raft_core::members::Members;

use super::backoff::Quiet;
use super::bell::Bell;
use super::door::BulkDoor;
use super::frame::{Frame, Kind, Parser, Phase};
use super::gate::{Arrival, Gate, Greeted};
use super::hello::{
    self, Hello, JoinReply, JoinRequest, LocalNode, Purpose, Refusal, Runs, Welcome,
};
use super::link::{Context, LinkChange, Outcast, Tokens};
use super::links::Links;
use super::outbox::Outbox;
use super::stream::Stream;
use crate::clock;
use crate::runs::Lineage;

/// The waker's number.
const BELL: Token = Token(0);
/// The listener's number.
const LISTENER: Token = Token(1);
/// Bytes that may wait for one peer. Beyond that messages are dropped: Raft tolerates loss, and
/// sends again.
pub(crate) const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes read from one connection before others get their turn.
const READ_BYTES: usize = 1024 * 1024;
/// Events taken from one poll.
const EVENTS_MAX: usize = 256;
/// Nodes that ask to join at the same time.
const JOINERS_MAX: usize = 8;
/// A node that asks to join waits no longer on one connection.
const JOIN_MAX: Duration = Duration::from_secs(30);

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A frame from a member.
    Frame { from: NodeId, kind: Kind, payload: Vec<u8> },
    /// A node asks to become a member; answer by [`Transport::answer_join`].
    Join { ticket: Ticket, request: JoinRequest },
    /// Messages can be sent to this member.
    Up(NodeId),
    /// They cannot any more; some may be lost.
    Down(NodeId),
    /// This member refuses this node.
    Refused(NodeId, Outcast),
}

/// Names a node that waits for the answer to its wish to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(usize);

/// A connection that a member dialed.
#[derive(Debug)]
struct Reader {
    from: NodeId,
    lineage: Lineage,
    stream: Stream,
    parser: Parser,
}

/// A connection of a node that wants to join.
#[derive(Debug)]
struct Joiner {
    stream: Stream,
    parser: Parser,
    deadline: Instant,
}

/// Counts since start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) messages_sent: u64,
    pub(crate) messages_dropped: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) refused: u64,
}

/// The sockets of the consensus thread.
#[derive(Debug)]
pub(crate) struct Transport {
    poll: Poll,
    events: Events,
    bell: Bell,
    tokens: Tokens,
    me: LocalNode,
    members: Members,
    /// Whether the members are not committed yet.
    is_changing: bool,
    runs: Runs,
    gate: Gate,
    links: Links,
    readers: BTreeMap<Token, Reader>,
    joiners: BTreeMap<Token, Joiner>,
    /// Readers that were left with bytes unread.
    unread: BTreeSet<Token>,
    bulk: BulkDoor,
    traffic: Traffic,
    complaints: [Quiet; Refusal::KINDS],
}

impl Transport {
    /// Listens and dials for `me`, who knows `members`.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        me: LocalNode,
        (members, runs): (&Members, Runs),
        bulk: BulkDoor,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Bell::new(poll.registry(), BELL)?;
        let gate = Gate::new(listener, poll.registry(), LISTENER)?;
        let mut transport = Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            bell,
            tokens: Tokens::from(LISTENER.0),
            me,
            members: Members::default(),
            is_changing: false,
            runs,
            gate,
            links: Links::new(Purpose::Consensus, QUEUE_BYTES_MAX),
            readers: BTreeMap::new(),
            joiners: BTreeMap::new(),
            unread: BTreeSet::new(),
            bulk,
            traffic: Traffic::default(),
            complaints: Default::default(),
        };
        transport.set_members(members, &mut Vec::new());
        Ok(transport)
    }

    /// Rings this thread.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Who this node is.
    pub(crate) fn me(&self) -> &LocalNode {
        &self.me
    }

    /// Counts since start.
    pub(crate) fn traffic(&self) -> Traffic {
        let refused = self.traffic.refused + self.gate.refused();
        let bytes_sent = self.traffic.bytes_sent + self.bulk.bytes_sent();
        Traffic { bytes_sent, refused, ..self.traffic }
    }

    /// Whether messages can be sent to it now.
    pub(crate) fn is_connected(&self, to: NodeId) -> bool {
        self.links.is_up(to)
    }

    /// Follows a change of the members.
    pub(crate) fn set_members(&mut self, members: &Members, incoming: &mut Vec<Incoming>) {
        self.members = members.clone();
        let (links, mut cx) = self.links_and_context();
        let changes = links.set_members(&mut cx, members);
        let is_member = |id| members.peers().any(|m| m.id == id) || id >= members.next_id;
        self.readers.retain(|_, reader| is_member(reader.from));
        self.bulk.set_members(members.clone());
        Self::tell(&changes, incoming);
    }

    /// Whether the members in force may be taken back.
    pub(crate) fn set_changing(&mut self, is_changing: bool) {
        self.is_changing = is_changing;
    }

    /// The log says that this member runs anew: from now on no former run of it is listened to.
    pub(crate) fn set_run(&mut self, node: NodeId, run: Incarnation) {
        self.runs.insert(node, run);
        self.readers.retain(|_, reader| reader.from != node || reader.lineage.descends_from(run));
    }

    /// Queues a message. Lost when the peer is not connected or its queue is full.
    pub(crate) fn send(&mut self, to: NodeId, kind: Kind, payload: Vec<u8>) {
        let taken = match Frame::new(kind, payload) {
            Some(frame) => self.links.push(to, frame).is_ok(),
            None => false,
        };
        if taken {
            self.traffic.messages_sent += 1;
        } else {
            self.traffic.messages_dropped += 1;
        }
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, incoming: &mut Vec<Incoming>) {
        let (links, mut cx) = self.links_and_context();
        let (bytes, changes) = links.flush(&mut cx);
        self.traffic.bytes_sent += u64::try_from(bytes).unwrap_or_default();
        Self::tell(&changes, incoming);
    }

    /// Answers a node that wants to join, and hangs up.
    pub(crate) fn answer_join(&mut self, ticket: Ticket, reply: &JoinReply) {
        let Some(mut joiner) = self.joiners.remove(&Token(ticket.0)) else { return };
        say(&mut joiner.stream, hello::encode(Kind::Joined, reply));
    }

    /// When something is due here even if nothing arrives.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let joiners = self.joiners.values().map(|joiner| joiner.deadline).min();
        self.links.deadline().into_iter().chain(self.gate.deadline()).chain(joiners).min()
    }

    /// Whether there is work that no event will announce.
    pub(crate) fn wants_turn(&self) -> bool {
        !self.unread.is_empty() || self.gate.wants_turn() || self.links.wants_flush()
    }

    /// Waits until something arrives, the bell rings or the time is over; tells what arrived.
    pub(crate) fn turn(
        &mut self,
        timeout: Option<Duration>,
        incoming: &mut Vec<Incoming>,
    ) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => self.bell.awake(),
        }
        let ready: Vec<Token> = self.events.iter().map(mio::event::Event::token).collect();
        self.events.clear();
        for token in ready {
            match token {
                BELL => {}
                LISTENER => self.gate.knock(),
                token => self.ready(token, incoming),
            }
        }
        for token in std::mem::take(&mut self.unread) {
            self.read(token, incoming);
        }
        self.tick(incoming);
        Ok(())
    }

    fn tick(&mut self, incoming: &mut Vec<Incoming>) {
        let (links, mut cx) = self.links_and_context();
        let now = cx.now;
        let changes = links.tick(&mut cx);
        Self::tell(&changes, incoming);
        self.joiners.retain(|_, joiner| joiner.deadline > now);
        let (gate, mut cx) = self.gate_and_context();
        gate.tick(&mut cx);
    }

    fn ready(&mut self, token: Token, incoming: &mut Vec<Incoming>) {
        if self.readers.contains_key(&token) {
            self.unread.insert(token);
            return;
        }
        if self.joiners.contains_key(&token) {
            return self.read_joiner(token, incoming);
        }
        let (links, mut cx) = self.links_and_context();
        if links.owns(token) {
            return Self::tell(links.ready(&mut cx, token).as_slice(), incoming);
        }
        let (gate, cx) = self.gate_and_context();
        if let Arrival::Greeted(greeted) = gate.ready(&cx, token) {
            self.judge(*greeted, incoming);
        }
    }

    /// Decides on a connection that has introduced itself.
    fn judge(&mut self, mut greeted: Greeted, incoming: &mut Vec<Incoming>) {
        let checked = match greeted.hello.check(&self.me, &self.members, &self.runs) {
            // What is not committed may be taken back: so nothing is said for good.
            Err(Refusal::Removed) if self.is_changing => Err(Refusal::UnknownNode),
            checked => checked,
        };
        if let Err(refusal) = checked.and_then(|()| self.check_twin(&greeted.hello, incoming)) {
            self.complain(&greeted, &refusal);
            say(&mut greeted.stream, hello::encode(Kind::Refused, &refusal));
            return;
        }
        if greeted.hello.purpose == Purpose::Join && self.joiners.len() >= JOINERS_MAX {
            return;
        }
        let (node, incarnation) = (self.me.node, self.me.incarnation);
        let welcome = Welcome { node, name: self.me.name.clone(), incarnation };
        if !say(&mut greeted.stream, hello::encode(Kind::Welcome, &welcome)) {
            return;
        }
        self.admit(greeted, incoming);
    }

    /// Two runs of one node at a time are two nodes with one state. The connection of a run that
    /// has ended is closed by its kernel, or found dead by ours.
    fn check_twin(&mut self, hello: &Hello, incoming: &mut Vec<Incoming>) -> Result<(), Refusal> {
        let other = |reader: &Reader| {
            reader.from == hello.from && reader.lineage.run() != hello.lineage.run()
        };
        let twins = self.readers.iter().filter(|(_, reader)| other(reader));
        let twins: Vec<Token> = twins.map(|(token, _)| *token).collect();
        for token in &twins {
            // It may have said already that it is the end.
            self.read(*token, incoming);
        }
        let is_there = twins.iter().any(|token| self.readers.contains_key(token));
        if is_there && hello.purpose != Purpose::Join { Err(Refusal::Twin) } else { Ok(()) }
    }

    fn admit(&mut self, greeted: Greeted, incoming: &mut Vec<Incoming>) {
        let Greeted { token, mut stream, mut parser, hello, .. } = greeted;
        match hello.purpose {
            Purpose::Consensus => {
                parser.enter(Phase::Consensus);
                self.greet_back(&hello, incoming);
                // The newest connection of a member replaces its former one.
                self.readers.retain(|_, reader| reader.from != hello.from);
                let (from, lineage) = (hello.from, hello.lineage);
                self.readers.insert(token, Reader { from, lineage, stream, parser });
                self.unread.insert(token);
            }
            Purpose::Bulk => {
                parser.enter(Phase::Bulk);
                if stream.deregister(self.poll.registry()).is_ok() {
                    self.bulk.adopt(hello, stream, parser);
                }
            }
            Purpose::Join => {
                parser.enter(Phase::AwaitJoin);
                let deadline = clock::now() + JOIN_MAX;
                self.joiners.insert(token, Joiner { stream, parser, deadline });
                self.read_joiner(token, incoming);
            }
        }
    }

    /// A member that dials us can be dialed.
    fn greet_back(&mut self, hello: &Hello, incoming: &mut Vec<Incoming>) {
        let members = std::mem::take(&mut self.members);
        let (links, mut cx) = self.links_and_context();
        let change = links.greeted(&mut cx, hello, &members);
        self.members = members;
        Self::tell(change.as_slice(), incoming);
    }

    fn read(&mut self, token: Token, incoming: &mut Vec<Incoming>) {
        let Some(reader) = self.readers.get_mut(&token) else { return };
        match reader.read(incoming) {
            Ok(Reading::Drained) => {}
            Ok(Reading::More) => {
                self.unread.insert(token);
            }
            Err(reason) => {
                log::debug!("connection ended: peer={} reason=\"{reason}\"", reader.from);
                self.readers.remove(&token);
            }
        }
    }

    fn read_joiner(&mut self, token: Token, incoming: &mut Vec<Incoming>) {
        let Some(joiner) = self.joiners.get_mut(&token) else { return };
        match read_frame(&mut joiner.parser, &joiner.stream) {
            Ok(None) => {}
            Ok(Some((_, payload))) => match hello::decode::<JoinRequest>(&payload) {
                Some(request) => {
                    // It has nothing more to say.
                    joiner.parser.enter(Phase::AwaitWelcome);
                    incoming.push(Incoming::Join { ticket: Ticket(token.0), request });
                }
                None => drop(self.joiners.remove(&token)),
            },
            Err(_) => drop(self.joiners.remove(&token)),
        }
    }

    fn complain(&mut self, greeted: &Greeted, refusal: &Refusal) {
        self.traffic.refused += 1;
        let quiet = self.complaints.get_mut(refusal.kind());
        if let Some(held_back) = quiet.and_then(|quiet| quiet.speak(clock::now())) {
            let Hello { cluster, from, name, to, .. } = &greeted.hello;
            log::warn!(
                "connection refused: peer={} from={from} name={name:?} to={to} cluster={cluster} \
                 reason=\"{refusal}\" held_back={held_back}",
                greeted.peer
            );
        }
    }

    fn tell(changes: &[LinkChange], incoming: &mut Vec<Incoming>) {
        incoming.extend(changes.iter().map(|change| match *change {
            LinkChange::Up(id) => Incoming::Up(id),
            LinkChange::Down(id) => Incoming::Down(id),
            LinkChange::Refused(id, why) => Incoming::Refused(id, why),
        }));
    }

    fn links_and_context(&mut self) -> (&mut Links, Context<'_>) {
        let (registry, tokens) = (self.poll.registry(), &mut self.tokens);
        (&mut self.links, Context { registry, tokens, me: &self.me, now: clock::now() })
    }

    fn gate_and_context(&mut self) -> (&mut Gate, Context<'_>) {
        let (registry, tokens) = (self.poll.registry(), &mut self.tokens);
        (&mut self.gate, Context { registry, tokens, me: &self.me, now: clock::now() })
    }
}

/// Whether a connection may have more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Drained,
    More,
}

impl Reader {
    fn read(&mut self, incoming: &mut Vec<Incoming>) -> Result<Reading, String> {
        let mut total = 0;
        while total < READ_BYTES {
            match self.parser.fill(|buffer| self.stream.read_into(buffer)) {
                Ok(0) => return Err("closed by the peer".to_owned()),
                Ok(bytes) => total += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Reading::Drained),
                Err(error) => return Err(error.to_string()),
            }
            while let Some((kind, payload)) = self.parser.next_frame().map_err(|e| e.to_string())? {
                incoming.push(Incoming::Frame { from: self.from, kind, payload });
            }
        }
        Ok(Reading::More)
    }
}

/// Reads until a frame is whole or the kernel has no more.
fn read_frame(parser: &mut Parser, stream: &Stream) -> Result<Option<(Kind, Vec<u8>)>, String> {
    loop {
        match parser.fill(|buffer| stream.read_into(buffer)) {
            Ok(0) => return Err("closed by the peer".to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
        if let Some(frame) = parser.next_frame().map_err(|e| e.to_string())? {
            return Ok(Some(frame));
        }
    }
}

/// Says one small thing on a connection whose send buffer is empty, so that it goes out whole.
fn say(stream: &mut Stream, frame: Option<Frame>) -> bool {
    let Some(frame) = frame else { return false };
    let mut outbox = Outbox::new(frame.len());
    outbox.push(frame).is_ok() && outbox.write(stream).is_ok() && outbox.is_empty()
}
