//! The listener, and accepted connections until it is known whose key they have: the thread `gate`.
//!
//! Whoever connects may be anyone. No byte of somebody unknown is looked at on another thread than
//! this one, and what is looked at is the handshake of TLS, by rustls, and one message of fixed size
//! (`JoinRequest`). Only whoever has shown a member's key may say more.
//!
//! A connection that is not through costs one descriptor and small buffers and lives no longer
//! than `HANDSHAKE_MAX`. There are few of them; when there are too many the oldest gives way,
//! since an honest dialer needs only two round trips. Those that come from where members are, or
//! belong to this host's user, are counted apart, so that strangers cannot crowd them out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use pickbox_raft_core::event::Warrant;
use pickbox_raft_core::ids::{ClusterId, Epoch, Fingerprint};
use rustls::{ServerConfig, ServerConnection};

use super::admission::{self, Applicant};
use super::backoff::{Quiet, QuietBy};
use super::bell::Bell;
use super::frame::{FrameError, Kind, Parser, Phase};
use super::hello::{self, Hello, Refusal};
use super::join_request::{JOIN_REQUEST_BYTES, JoinRequest};
use super::link::{HANDSHAKE_MAX, Tokens, say};
use super::stream::Stream;
use super::tls;
use super::trust::{SharedTrust, Trust};
use crate::clock;
use crate::credentials;
use crate::keys::KeyRing;

/// The waker's number.
const BELL: Token = Token(0);
/// The listener's number.
const LISTENER: Token = Token(1);
/// Connections of strangers that are not through.
const STRANGERS_MAX: usize = 32;
/// Of these, from one address.
const STRANGERS_PER_ADDRESS_MAX: usize = 4;
/// Connections from where members are, or of this host's user, that are not through: two purposes
/// of each of 64 members.
const FRIENDS_MAX: usize = 128;
/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Events taken from one poll.
const EVENTS_MAX: usize = 256;
/// Without descriptors to spare, the listener rests for so long.
const REST: Duration = Duration::from_millis(100);
/// Arrivals that wait for the consensus thread.
const ARRIVALS_MAX: usize = 64;

/// What has come through the gate.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Somebody with a member's key, still to be judged.
    Member(Box<Greeted>),
    /// Somebody who may join.
    Joiner(Box<Pleader>),
}

/// A connection that has introduced itself.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) stream: Stream,
    pub(crate) parser: Parser,
    pub(crate) peer: SocketAddr,
    pub(crate) key: Fingerprint,
    pub(crate) hello: Hello,
}

/// A connection of a node that wants to join, and has a right to.
#[derive(Debug)]
pub(crate) struct Pleader {
    pub(crate) stream: Stream,
    pub(crate) peer: SocketAddr,
    pub(crate) request: JoinRequest,
    pub(crate) key: Fingerprint,
    pub(crate) warrant: Warrant,
}

/// How far a connection has come.
#[derive(Debug)]
enum Stage {
    ShakingHands,
    /// It has a member's key, and is to introduce itself.
    Member {
        key: Fingerprint,
        parser: Parser,
    },
    /// It wants to join, and is to say so.
    Joiner {
        key: Fingerprint,
        request: Vec<u8>,
    },
}

#[derive(Debug)]
struct Pending {
    token: Token,
    stream: Stream,
    stage: Stage,
    peer: SocketAddr,
    deadline: Instant,
    /// It belongs to the user of this process, or to root, on this host.
    is_own: bool,
    is_friend: bool,
}

/// Why a connection does not get through.
#[derive(Debug)]
enum Reason {
    /// It is told why.
    Refused(Refusal),
    /// It gets no answer.
    Words(String),
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::Words(tls::in_words(&error))
    }
}

/// What the gate shares with the consensus thread.
#[derive(Debug, Default)]
struct Desk {
    trust: SharedTrust,
    stop: AtomicBool,
    refused: AtomicU64,
    /// Somebody was turned away whose key is not known here.
    met_unknown: AtomicBool,
}

/// The consensus thread's side. Dropping it ends the gate.
#[derive(Debug)]
pub(crate) struct GateDoor {
    arrivals: Receiver<Arrival>,
    desk: Arc<Desk>,
    bell: Bell,
}

impl GateDoor {
    /// The next that has come through.
    pub(crate) fn next(&self) -> Option<Arrival> {
        self.arrivals.try_recv().ok()
    }

    /// Whether somebody has come through.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty() || self.desk.met_unknown.load(Ordering::SeqCst)
    }

    /// Whether somebody was turned away, since this was asked last, whose key is not known here: it may
    /// be a member that this node has yet to learn of.
    pub(crate) fn has_met_unknown(&self) -> bool {
        self.desk.met_unknown.swap(false, Ordering::SeqCst)
    }

    /// From now on these are known.
    pub(crate) fn set_trust(&self, trust: Arc<Trust>) {
        self.desk.trust.set(trust);
    }

    /// Connections turned away, since start.
    pub(crate) fn refused(&self) -> u64 {
        self.desk.refused.load(Ordering::Relaxed)
    }
}

impl Drop for GateDoor {
    fn drop(&mut self) {
        self.desk.stop.store(true, Ordering::SeqCst);
        self.bell.ring();
    }
}

/// The listener and those who wait at it, for the thread `gate`.
#[derive(Debug)]
pub struct Gate {
    poll: Poll,
    events: Events,
    bell: Bell,
    tokens: Tokens,
    listener: TcpListener,
    /// It listens on loopback alone. Elsewhere a port that is forwarded to it may make anybody look like a
    /// user of this host.
    is_for_this_host: bool,
    config: Arc<ServerConfig>,
    cluster: ClusterId,
    epoch: Epoch,
    desk: Arc<Desk>,
    arrivals: Sender<Arrival>,
    /// Rings the consensus thread.
    consensus: Bell,
    /// Oldest first.
    pending: VecDeque<Pending>,
    /// More connections may wait to be accepted.
    more: bool,
    rest_until: Option<Instant>,
    quiet: Quiet,
    rest_quiet: Quiet,
    audit_quiet: QuietBy<(IpAddr, usize)>,
}

impl Gate {
    /// Listens with these keys for a node of this cluster; rings `consensus` when somebody has come
    /// through.
    ///
    /// # Errors
    /// When the kernel refuses a poll, or the listener cannot be watched.
    pub(crate) fn open(
        listener: std::net::TcpListener,
        keys: &KeyRing,
        (cluster, epoch): (ClusterId, Epoch),
        consensus: Bell,
    ) -> io::Result<(Self, GateDoor)> {
        let poll = Poll::new()?;
        let bell = Bell::new(poll.registry(), BELL)?;
        listener.set_nonblocking(true)?;
        let is_for_this_host = is_loopback(listener.local_addr()?.ip());
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let desk = Arc::new(Desk::default());
        let (arrivals, arrived) = bounded(ARRIVALS_MAX);
        let door = GateDoor { arrivals: arrived, desk: Arc::clone(&desk), bell: bell.clone() };
        let gate = Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            bell,
            tokens: Tokens::from(LISTENER.0),
            listener,
            is_for_this_host,
            config: tls::acceptor(keys).map_err(io::Error::other)?,
            cluster,
            epoch,
            desk,
            arrivals,
            consensus,
            pending: VecDeque::new(),
            more: true,
            rest_until: None,
            quiet: Quiet::default(),
            rest_quiet: Quiet::default(),
            audit_quiet: QuietBy::default(),
        };
        Ok((gate, door))
    }

    /// Serves until the consensus thread ends.
    ///
    /// # Errors
    /// When the kernel refuses to poll, which nothing can mend.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            self.bell.may_sleep();
            if self.desk.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            let timeout = self.timeout(clock::now());
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => self.bell.awake(),
            }
            let ready: Vec<Token> = self.events.iter().map(mio::event::Event::token).collect();
            self.events.clear();
            self.turn(&ready, clock::now());
        }
    }

    /// Serves those that are `ready`, closes what took too long, accepts what waits.
    pub(crate) fn turn(&mut self, ready: &[Token], now: Instant) {
        for token in ready {
            match *token {
                BELL => {}
                LISTENER => self.more = true,
                token => self.ready(token, now),
            }
        }
        while self.pending.front().is_some_and(|pending| pending.deadline <= now) {
            self.turn_away(0, &Reason::Words("no greeting in time".to_owned()), now);
        }
        self.rest_until.take_if(|until| *until <= now);
        if self.wants_turn() {
            self.accept(now);
        }
    }

    /// How long to sleep.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.wants_turn() {
            return Some(Duration::ZERO);
        }
        self.deadline().map(|due| due.saturating_duration_since(now))
    }

    /// Whether there is more to accept at once.
    fn wants_turn(&self) -> bool {
        self.more && self.rest_until.is_none()
    }

    /// When something is due even if nobody says anything.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let oldest = self.pending.front().map(|pending| pending.deadline);
        oldest.into_iter().chain(self.rest_until).min()
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((socket, peer)) => self.admit(socket, peer, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.more = false;
                    return;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if let Some(held_back) = self.rest_quiet.speak(now) {
                        log::warn!("cannot accept: error=\"{error}\" held_back={held_back}");
                    }
                    self.rest_until = Some(now + REST);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, peer: SocketAddr, now: Instant) {
        // Before the first byte is read: afterwards the socket may be somebody else's.
        let is_own = self.is_for_this_host && is_own(&socket, peer.ip());
        let is_friend = is_own || (!is_loopback(peer.ip()) && self.is_of_member(peer.ip()));
        if !self.has_room(peer.ip(), is_friend, now) {
            self.desk.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let token = self.tokens.next();
        let connection = ServerConnection::new(Arc::clone(&self.config));
        let stream = connection.ok().and_then(|tls| Stream::accepted(socket, tls).ok());
        let Some(mut stream) = stream else { return };
        if stream.register(self.poll.registry(), token).is_ok() {
            let (stage, deadline) = (Stage::ShakingHands, now + HANDSHAKE_MAX);
            self.pending.push_back(Pending {
                token,
                stream,
                stage,
                peer,
                deadline,
                is_own,
                is_friend,
            });
        }
    }

    fn is_of_member(&self, ip: IpAddr) -> bool {
        self.desk.trust.get().is_address(ip)
    }

    /// Whether one more is let wait; the oldest of its kind may have to give way.
    fn has_room(&mut self, ip: IpAddr, is_friend: bool, now: Instant) -> bool {
        let alike = |pending: &&Pending| pending.is_friend == is_friend;
        // On loopback all users share one address.
        let near = |pending: &&Pending| origin(pending.peer.ip()) == origin(ip) && !is_loopback(ip);
        let count = self.pending.iter().filter(alike).count();
        let near = self.pending.iter().filter(alike).filter(near).count();
        if !is_friend && near >= STRANGERS_PER_ADDRESS_MAX {
            return false;
        }
        let most = if is_friend { FRIENDS_MAX } else { STRANGERS_MAX };
        let oldest = self.pending.iter().position(|pending| pending.is_friend == is_friend);
        if let Some(oldest) = oldest.filter(|_| count >= most) {
            let why = "too many connections without a greeting".to_owned();
            self.turn_away(oldest, &Reason::Words(why), now);
        }
        true
    }

    /// One of the connections has something to say.
    fn ready(&mut self, token: Token, now: Instant) {
        let at = self.pending.iter().position(|pending| pending.token == token);
        let Some(mut pending) = at.and_then(|at| self.pending.remove(at)) else { return };
        let trust = self.desk.trust.get();
        let arrival = match pending.advance(&trust, (self.cluster, self.epoch)) {
            Ok(None) => {
                // It keeps its place: the oldest is in front.
                self.pending.insert(at.unwrap_or_default(), pending);
                return;
            }
            Ok(Some(passport)) => {
                if pending.stream.deregister(self.poll.registry()).is_err() {
                    return;
                }
                pending.pass(passport)
            }
            Err(reason) => {
                self.pending.push_front(pending);
                self.turn_away(0, &reason, now);
                if matches!(reason, Reason::Refused(Refusal::UnknownKey)) {
                    let is_known = self.desk.met_unknown.swap(true, Ordering::SeqCst);
                    if !is_known {
                        self.consensus.ring();
                    }
                }
                return;
            }
        };
        // If so many wait, those who dial try again.
        if self.arrivals.try_send(arrival).is_ok() {
            self.consensus.ring();
        }
    }

    fn turn_away(&mut self, position: usize, reason: &Reason, now: Instant) {
        let Some(mut pending) = self.pending.remove(position) else { return };
        self.desk.refused.fetch_add(1, Ordering::Relaxed);
        let peer = pending.peer;
        match reason {
            Reason::Refused(refusal) => {
                say(&mut pending.stream, hello::encode(Kind::Refused, refusal));
                let key = pending.stream.peer_key().unwrap_or_default();
                let source = (origin(peer.ip()), refusal.kind());
                if let Some(held_back) = self.audit_quiet.speak(source, now) {
                    log::warn!(
                        target: "audit",
                        "event=peer_refused peer={peer} key={key} reason=\"{refusal}\" held_back={held_back}"
                    );
                }
            }
            Reason::Words(reason) => {
                if let Some(held_back) = self.quiet.speak(now) {
                    log::info!(
                        "connection turned away: peer={peer} reason=\"{reason}\" held_back={held_back}"
                    );
                }
            }
        }
    }
}

/// What lets a connection through.
#[derive(Debug)]
enum Passport {
    Member(Fingerprint, Hello),
    Joiner(Fingerprint, JoinRequest, Warrant),
}

impl Pending {
    /// Goes on as far as what has arrived allows; `None`: more must come.
    fn advance(
        &mut self,
        trust: &Trust,
        (cluster, epoch): (ClusterId, Epoch),
    ) -> Result<Option<Passport>, Reason> {
        if matches!(self.stage, Stage::ShakingHands) {
            if !self.stream.shake_hands()? {
                return Ok(None);
            }
            self.stage = self.met(trust, epoch)?;
        }
        match &mut self.stage {
            Stage::ShakingHands => Ok(None),
            Stage::Member { key, parser } => {
                let (key, hello) = (*key, read_hello(&mut self.stream, parser)?);
                Ok(hello.map(|hello| Passport::Member(key, hello)))
            }
            Stage::Joiner { key, request } => {
                let Some(wish) = read_request(&mut self.stream, request)? else { return Ok(None) };
                let applicant = Applicant {
                    request: &wish,
                    key: *key,
                    is_own: self.is_own,
                    exporter: self.stream.exporter().unwrap_or_default(),
                };
                let warrant = admission::warrant(trust, cluster, &applicant, clock::wall());
                let warrant = warrant.map_err(Reason::Refused)?;
                Ok(Some(Passport::Joiner(*key, wish, warrant)))
            }
        }
    }

    /// Hands are shaken: whose key it is decides what may be said.
    fn met(&self, trust: &Trust, epoch: Epoch) -> Result<Stage, Reason> {
        let key = self.stream.peer_key().ok_or_else(|| Reason::Words("no key".to_owned()))?;
        if self.stream.protocol() == Some(tls::JOIN) {
            return Ok(Stage::Joiner { key, request: Vec::with_capacity(JOIN_REQUEST_BYTES) });
        }
        if self.stream.protocol() != Some(tls::MEMBER) {
            return Err(Reason::Words("it speaks no protocol of ours".to_owned()));
        }
        if trust.member_with(key).is_some() {
            return Ok(Stage::Member { key, parser: Parser::new(Phase::AwaitHello) });
        }
        let departed = trust.departed(key).map(|gone| Refusal::Removed { at: gone.at, epoch });
        Err(Reason::Refused(departed.unwrap_or(Refusal::UnknownKey)))
    }

    fn pass(self, passport: Passport) -> Arrival {
        let Self { stream, peer, stage, .. } = self;
        let parser = match stage {
            Stage::Member { parser, .. } => parser,
            Stage::ShakingHands | Stage::Joiner { .. } => Parser::new(Phase::AwaitHello),
        };
        match passport {
            Passport::Member(key, hello) => {
                Arrival::Member(Box::new(Greeted { stream, parser, peer, key, hello }))
            }
            Passport::Joiner(key, request, warrant) => {
                Arrival::Joiner(Box::new(Pleader { stream, peer, request, key, warrant }))
            }
        }
    }
}

fn read_hello(stream: &mut Stream, parser: &mut Parser) -> Result<Option<Hello>, Reason> {
    loop {
        match parser.fill(|buffer| stream.read_into(buffer)) {
            Ok(0) => return Err(Reason::Words("closed before a greeting".to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let frame = parser.next_frame().map_err(|error| Reason::Words(error.to_string()))?;
        if let Some((_, payload)) = frame {
            // The dialer waits for the answer before it says more.
            if !parser.is_clean() {
                return Err(Reason::Words(FrameError::Unexpected(Kind::Hello).to_string()));
            }
            let hello = hello::decode(&payload);
            return hello.map(Some).ok_or(Reason::Refused(Refusal::Malformed));
        }
    }
}

/// Reads the one message that somebody unknown may say, in as many bytes as it has.
fn read_request(stream: &mut Stream, read: &mut Vec<u8>) -> Result<Option<JoinRequest>, Reason> {
    while read.len() < JOIN_REQUEST_BYTES {
        match stream.read_into(read) {
            Ok(0) => return Err(Reason::Words("closed before a request".to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    let request = read.as_slice().try_into().ok().and_then(JoinRequest::decode);
    request.map(Some).ok_or(Reason::Refused(Refusal::Malformed))
}

/// Whether the other end belongs to the user of this process or to root, on this host: who could
/// read the key and the state of this node anyway.
fn is_own(socket: &TcpStream, ip: IpAddr) -> bool {
    is_loopback(ip)
        && matches!(credentials::peer_of(socket), Ok(Some(uid)) if credentials::is_self_or_root(uid))
}

/// What one host, or one owner of hosts, has for itself: an IPv6 address up to its interface identifier
/// (RFC 4291, 2.5.4).
pub(crate) fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Errors of accept(2) that belong to the connection and say nothing of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}
