//! Everything of the consensus thread that is a socket: the links out, and the connections in that
//! the gate has let through.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use pickbox_raft_core::event::Warrant;
use pickbox_raft_core::ids::{Fingerprint, Incarnation, NodeId, TokenId};

use super::backoff::QuietBy;
use super::bell::Bell;
use super::door::{Adoption, BulkDoor};
use super::frame::{Frame, Kind, Parser, Phase};
use super::gate::{Arrival, GateDoor, Greeted, Pleader, origin};
use super::hello::{self, Hello, JoinReply, LocalNode, Purpose, Refusal, Runs, Welcome};
use super::join_request::JoinRequest;
use super::link::{Context, LinkChange, Outcast, Tokens, say};
use super::links::Links;
use super::stream::Stream;
use super::trust::{Logged, Trust, Vouched};
use crate::clock;
use crate::keys::KeyRing;
use crate::runs::Lineage;

/// The waker's number.
pub(crate) const BELL: Token = Token(0);
/// Bytes that may wait for one peer. Beyond that messages are dropped: Raft tolerates loss, and
/// sends again.
pub(crate) const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes read from one connection before others get their turn.
const READ_BYTES: usize = 1024 * 1024;
/// Events taken from one poll.
const EVENTS_MAX: usize = 256;
/// Nodes that wait for an answer at the same time.
const JOINERS_MAX: usize = 8;
/// A node that asks to join waits no longer on one connection.
const JOIN_MAX: Duration = Duration::from_secs(30);

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A frame from a member.
    Frame { from: NodeId, kind: Kind, payload: Vec<u8> },
    /// A node asks to become a member, and has a right to; answer by [`Transport::answer`].
    Join { ticket: Ticket, request: JoinRequest, key: Fingerprint, warrant: Warrant },
    /// A member asks how far this node is; answer by [`Transport::answer`].
    Survey(Ticket),
    /// Somebody was turned away whom this node may have yet to learn of.
    Unknown,
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
    key: Fingerprint,
    lineage: Lineage,
    stream: Stream,
    parser: Parser,
}

/// A connection that waits for an answer and has nothing more to say.
#[derive(Debug)]
struct Joiner {
    stream: Stream,
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
    keys: KeyRing,
    trust: Arc<Trust>,
    runs: Runs,
    gate: GateDoor,
    links: Links,
    readers: BTreeMap<Token, Reader>,
    joiners: BTreeMap<Token, Joiner>,
    /// Readers that were left with bytes unread.
    unread: BTreeSet<Token>,
    bulk: BulkDoor,
    traffic: Traffic,
    complaints: QuietBy<(IpAddr, usize)>,
}

impl Transport {
    /// Dials for `me`, who has these keys and knows `trust`, and hears whom the gate lets through.
    /// The poll and the bell in it are the thread's own.
    pub(crate) fn new(
        (poll, bell): (Poll, Bell),
        (me, keys): (LocalNode, KeyRing),
        (trust, runs): (Trust, Runs),
        (gate, bulk): (GateDoor, BulkDoor),
    ) -> Self {
        let mut transport = Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            bell,
            tokens: Tokens::from(BELL.0),
            me,
            keys,
            trust: Arc::default(),
            runs,
            gate,
            links: Links::new(Purpose::Consensus, QUEUE_BYTES_MAX),
            readers: BTreeMap::new(),
            joiners: BTreeMap::new(),
            unread: BTreeSet::new(),
            bulk,
            traffic: Traffic::default(),
            complaints: QuietBy::default(),
        };
        transport.set_trust(trust, &mut Vec::new());
        transport
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

    /// Follows the members in the log. Who is none any more is cut off. Says who is committed now, if
    /// those are others than before.
    pub(crate) fn follow(
        &mut self,
        logged: Logged<'_>,
        incoming: &mut Vec<Incoming>,
    ) -> Option<Vouched> {
        if !self.trust.is_behind(logged) {
            return None;
        }
        let mut trust = Trust::clone(&self.trust);
        let is_news = trust.follow(logged);
        let newest = trust.newest().clone();
        if let Some(key) = newest.members.get(self.me.node).and_then(|me| me.key) {
            self.keys.is_listed(key);
            self.me.key = self.keys.current().fingerprint();
        }
        self.set_trust(trust, incoming);
        is_news.then_some(newest)
    }

    /// A member tells of the members.
    pub(crate) fn vouch(&mut self, by: NodeId, vouched: Vouched, incoming: &mut Vec<Incoming>) {
        let Some(reader) = self.readers.values().find(|reader| reader.from == by) else { return };
        let mut trust = Trust::clone(&self.trust);
        if trust.vouch(by, reader.key, vouched) {
            self.set_trust(trust, incoming);
        }
    }

    fn set_trust(&mut self, trust: Trust, incoming: &mut Vec<Incoming>) {
        let trust = Arc::new(trust);
        self.trust = Arc::clone(&trust);
        let (links, mut cx) = self.links_and_context();
        let changes = links.set_trust(&mut cx, &trust);
        self.readers.retain(|_, reader| trust.is_key_of(reader.key, reader.from));
        self.gate.set_trust(Arc::clone(&trust));
        self.bulk.set_trust(trust);
        Self::tell(&changes, incoming);
    }

    /// Whether what this member has said still counts: it may have been cut off since.
    pub(crate) fn hears(&self, from: NodeId) -> bool {
        self.trust.get(from).is_some()
    }

    /// All that messages can be sent to now.
    pub(crate) fn connected(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.ids().filter(|id| self.links.is_up(*id))
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

    /// Answers who waits for it, and hangs up.
    pub(crate) fn answer(&mut self, ticket: Ticket, reply: &JoinReply) {
        let Some(mut joiner) = self.joiners.remove(&Token(ticket.0)) else { return };
        say(&mut joiner.stream, hello::encode(Kind::Joined, reply));
    }

    /// When something is due here even if nothing arrives.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let joiners = self.joiners.values().map(|joiner| joiner.deadline).min();
        self.links.deadline().into_iter().chain(joiners).min()
    }

    /// Whether there is work that no event will announce.
    pub(crate) fn wants_turn(&self) -> bool {
        !self.unread.is_empty() || self.gate.has_arrivals() || self.links.wants_flush()
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
                token => self.ready(token, incoming),
            }
        }
        for token in std::mem::take(&mut self.unread) {
            self.read(token, incoming);
        }
        while let Some(arrival) = self.gate.next() {
            match arrival {
                Arrival::Member(greeted) => self.judge(*greeted, incoming),
                Arrival::Joiner(pleader) => self.take_joiner(*pleader, incoming),
            }
        }
        if self.gate.has_met_unknown() {
            incoming.push(Incoming::Unknown);
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
    }

    fn ready(&mut self, token: Token, incoming: &mut Vec<Incoming>) {
        if self.readers.contains_key(&token) {
            self.unread.insert(token);
            return;
        }
        let (links, mut cx) = self.links_and_context();
        Self::tell(links.ready(&mut cx, token).as_slice(), incoming);
    }

    /// Decides on a connection that has introduced itself.
    fn judge(&mut self, mut greeted: Greeted, incoming: &mut Vec<Incoming>) {
        // It may have been removed since the gate has let it through.
        let checked = greeted.hello.check(&self.me, (&self.trust, &self.runs), greeted.key);
        if let Err(refusal) = checked.and_then(|()| self.check_twin(&greeted.hello, incoming)) {
            self.complain(&greeted, &refusal);
            say(&mut greeted.stream, hello::encode(Kind::Refused, &refusal));
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
        if is_there && hello.purpose != Purpose::Survey { Err(Refusal::Twin) } else { Ok(()) }
    }

    fn admit(&mut self, greeted: Greeted, incoming: &mut Vec<Incoming>) {
        let Greeted { mut stream, mut parser, key, hello, .. } = greeted;
        match hello.purpose {
            Purpose::Consensus => {
                let token = self.tokens.next();
                if stream.register(self.poll.registry(), token).is_err() {
                    return;
                }
                parser.enter(Phase::Consensus);
                self.greet_back(&hello, incoming);
                // The newest connection of a member replaces its former one.
                self.readers.retain(|_, reader| reader.from != hello.from);
                let (from, lineage) = (hello.from, hello.lineage);
                self.readers.insert(token, Reader { from, key, lineage, stream, parser });
                self.unread.insert(token);
            }
            Purpose::Bulk => {
                parser.enter(Phase::Bulk);
                self.bulk.adopt(Adoption { hello, key, stream, parser });
            }
            Purpose::Survey => {
                if let Some(ticket) = self.await_answer(stream) {
                    incoming.push(Incoming::Survey(ticket));
                }
            }
        }
    }

    /// A node asks to join, and has a right to.
    fn take_joiner(&mut self, pleader: Pleader, incoming: &mut Vec<Incoming>) {
        let Pleader { stream, peer, request, key, warrant } = pleader;
        log::info!(
            target: "audit",
            "event=join_asked peer={peer} name={} address={} key={key} warrant={}",
            request.name,
            request.address,
            in_a_word(warrant)
        );
        if let Some(ticket) = self.await_answer(stream) {
            incoming.push(Incoming::Join { ticket, request, key, warrant });
        }
    }

    /// Keeps a connection until it is answered, unless there are too many.
    fn await_answer(&mut self, stream: Stream) -> Option<Ticket> {
        if self.joiners.len() >= JOINERS_MAX {
            return None;
        }
        let (token, deadline) = (self.tokens.next(), clock::now() + JOIN_MAX);
        self.joiners.insert(token, Joiner { stream, deadline });
        Some(Ticket(token.0))
    }

    /// A member that dials us can be dialed.
    fn greet_back(&mut self, hello: &Hello, incoming: &mut Vec<Incoming>) {
        let (links, mut cx) = self.links_and_context();
        let change = links.greeted(&mut cx, hello);
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

    fn complain(&mut self, greeted: &Greeted, refusal: &Refusal) {
        self.traffic.refused += 1;
        let source = (origin(greeted.peer.ip()), refusal.kind());
        if let Some(held_back) = self.complaints.speak(source, clock::now()) {
            let Hello { cluster, from, name, to, .. } = &greeted.hello;
            log::warn!(
                target: "audit",
                "event=peer_refused peer={} key={} from={from} name={name:?} to={to} cluster={cluster} \
                 reason=\"{refusal}\" held_back={held_back}",
                greeted.peer,
                greeted.key
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
        let (registry, tokens, keys) = (self.poll.registry(), &mut self.tokens, &self.keys);
        (&mut self.links, Context { registry, tokens, me: &self.me, keys, now: clock::now() })
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

fn in_a_word(warrant: Warrant) -> String {
    match warrant {
        Warrant::SameUser => "same-user".to_owned(),
        Warrant::Listed => "listed-key".to_owned(),
        Warrant::Token(public_key) => format!("token:{}", TokenId::of(&public_key)),
    }
}
