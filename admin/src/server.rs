//! The loop: one thread, all clients.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Events, Interest, Poll, Token, Waker};
use pickbox_raft::clock;

use crate::answer;
use crate::command::Form;
use crate::connection::{Connection, Phase, Turn, Visitor};
use crate::doors::{AdminError, DOOR_FIRST, DOORS_MAX, Doors};
use crate::gate::Gate;
use crate::limits::{ACCEPTS_PER_TURN, CHUNK_BYTES, Limits};
use crate::node::{Answered, Code, Node, Refusal, Reply, Request, Ticket};
use crate::room::{self, Room, Seat, Standing};
use crate::stream::Stream;
use crate::token::AdminToken;

const WAKER: Token = Token(0);
/// Tokens of connections start here, grow, and are never used twice.
const CONNECTION_FIRST: usize = DOOR_FIRST + DOORS_MAX;
const EVENTS_PER_POLL: usize = 256;
/// Pause after an accept failed for want of descriptors: the listener gives no second event.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where clients come in, and which of them are trusted besides the user that runs the node and root.
#[derive(Debug)]
pub struct Options {
    /// Addresses of TCP, at least one; port 0: any free one. Clients on this host are known by their
    /// user, all others need the token.
    pub addresses: Vec<SocketAddr>,
    /// Where a unix socket is made, if anywhere.
    pub socket: Option<PathBuf>,
    /// The group whose users are trusted; none, if it does not exist.
    pub group: Option<String>,
    /// What clients elsewhere must say. Without it no address but loopback is listened on.
    pub token: Option<AdminToken>,
    /// The bounds.
    pub limits: Limits,
}

impl Options {
    /// One address, no group, no token: for the user that runs the node, and root.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let limits = Limits::default();
        Self { addresses: vec![address], socket: None, group: None, token: None, limits }
    }
}

/// Stops a running [`Admin`], from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    stopping: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Ends [`Admin::run`] soon. Clients that still wait are told `ERROR stopping`.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            log::warn!("admin=wake error={error}");
        }
    }
}

/// The admin server: bound first, so that a taken port is found early, then run by its thread.
#[derive(Debug)]
pub struct Admin {
    poll: Poll,
    doors: Doors,
    gate: Gate,
    limits: Limits,
    waker: Arc<Waker>,
    stopping: Arc<AtomicBool>,
    answers: (Sender<Answered>, Receiver<Answered>),
    connections: BTreeMap<Token, Connection>,
    /// Connections that have work without a new event.
    active: BTreeSet<Token>,
    /// Bytes of each request that the node has, also when its client is gone.
    in_flight: BTreeMap<Token, usize>,
    /// Sum over connections and requests in flight.
    held_bytes: usize,
    next_token: usize,
    accept_at: Option<Instant>,
    sweep_at: Instant,
    chunk: Vec<u8>,
}

impl Admin {
    /// Listens.
    ///
    /// # Errors
    /// When an address is taken or not ours or open to others without a token, the socket cannot be
    /// made, or the event queue cannot.
    pub fn bind(options: Options) -> Result<Self, AdminError> {
        let Options { addresses, socket, group, token, limits } = options;
        let open = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
        if let (Some(&address), None) = (open, &token) {
            return Err(AdminError::Open { address });
        }
        let mut doors = Doors::open(&addresses, socket, group.as_deref())?;
        let poll = Poll::new().map_err(AdminError::Poll)?;
        doors.register(poll.registry()).map_err(AdminError::Poll)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(AdminError::Poll)?);
        Ok(Self {
            doors,
            gate: Gate::new(group, token),
            limits,
            waker,
            stopping: Arc::default(),
            answers: bounded(limits.requests_max),
            connections: BTreeMap::new(),
            active: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            held_bytes: 0,
            next_token: CONNECTION_FIRST,
            accept_at: None,
            sweep_at: clock::now(),
            chunk: vec![0; CHUNK_BYTES],
            poll,
        })
    }

    /// Where it listens, the addresses of TCP.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        self.doors.addresses()
    }

    /// A handle that ends [`Admin::run`].
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { stopping: Arc::clone(&self.stopping), waker: Arc::clone(&self.waker) }
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// When the event queue fails.
    pub fn run(mut self, node: &dyn Node) -> Result<(), AdminError> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        while !self.stopping.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, self.patience(clock::now())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(AdminError::Poll)?,
            }
            let now = clock::now();
            self.note_events(&events, now);
            self.take_answers(now);
            self.accept(now);
            self.serve(node, now);
            self.sweep(now);
        }
        self.farewell();
        Ok(())
    }

    /// How long to sleep.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.active.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep_at = (!self.connections.is_empty()).then_some(self.sweep_at);
        let wake_at = [self.accept_at, sweep_at].into_iter().flatten().min()?;
        Some(wake_at.saturating_duration_since(now))
    }

    fn note_events(&mut self, events: &Events, now: Instant) {
        for event in events {
            match event.token() {
                WAKER => {}
                token if token.0 < CONNECTION_FIRST => self.accept_at = Some(now),
                token => {
                    if let Some(connection) = self.connections.get_mut(&token) {
                        connection.readable |= event.is_readable() || event.is_read_closed();
                        self.active.insert(token);
                    }
                }
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        if self.accept_at.is_none_or(|at| at > now) {
            return;
        }
        self.accept_at = None;
        for door in 0..self.doors.count() {
            self.accept_at = self.accept_at.max(self.accept_at_door(door, now));
        }
    }

    /// Takes in who waits at one door; when to look there again, if not at the next event.
    fn accept_at_door(&mut self, door: usize, now: Instant) -> Option<Instant> {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.doors.accept(door, &mut self.gate.people, now) {
                Ok((stream, visitor)) => self.admit(stream, visitor, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("admin=accept error={error}");
                    if let Some(token) = room::longest_idle(&self.seats()) {
                        self.close(token);
                    }
                    return Some(now + ACCEPT_PAUSE);
                }
            }
        }
        Some(now)
    }

    fn admit(&mut self, mut stream: Stream, visitor: Visitor, now: Instant) {
        let standing = Standing::of(visitor.caller, visitor.origin);
        match room::find(&self.seats(), standing, &self.limits, now) {
            Room::Free => {}
            Room::InPlaceOf(token) => self.close(token),
            Room::None => {
                let text = "too many connections; try again";
                let line = answer::refusal(&Refusal::new(Code::Busy, text));
                // Best effort: the buffer of a new socket takes one line.
                let _ = io::Write::write(&mut stream, &line);
                return;
            }
        }
        let token = Token(self.next_token);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, token, interest);
        if let Err(error) = registered.and_then(|()| stream.set_nodelay()) {
            log::warn!("admin=register error={error}");
            return;
        }
        if self.connections.is_empty() {
            self.sweep_at = now + self.sweep_interval();
        }
        self.next_token += 1;
        self.connections.insert(token, Connection::new(stream, visitor, now));
        self.active.insert(token);
    }

    fn seats(&self) -> Vec<Seat> {
        let seat = |(&token, connection): (&Token, &Connection)| Seat {
            token,
            standing: Standing::of(connection.visitor.caller, connection.visitor.origin),
            touched: connection.touched,
            is_idle: connection.is_idle(),
        };
        self.connections.iter().map(seat).collect()
    }

    fn take_answers(&mut self, now: Instant) {
        for Answered { connection: token, result } in self.answers.1.try_iter() {
            let bytes = self.in_flight.remove(&token).unwrap_or(0);
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            if let Phase::Node(form) = connection.phase {
                let result = result.map(|reply| match reply {
                    Reply::Status(report) if !connection.visitor.caller.is_trusted() => {
                        Reply::Status(Box::new(report.without_names()))
                    }
                    other => other,
                });
                connection.answer(&answer::render(result, form), now);
                connection.charge(&mut self.held_bytes);
                self.active.insert(token);
            }
        }
    }

    /// One turn for each connection that has work.
    fn serve(&mut self, node: &dyn Node, now: Instant) {
        for token in std::mem::take(&mut self.active) {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            let room = self.limits.held_bytes_max.saturating_sub(self.held_bytes);
            let turn = connection.turn(&mut self.chunk, room, now);
            let request = match turn {
                Turn::Line(line) => {
                    self.active.insert(token);
                    self.gate.respond(connection, &line, now)
                }
                Turn::TooLong => {
                    self.active.insert(token);
                    self.gate.too_long(connection, now);
                    None
                }
                Turn::Again => {
                    self.active.insert(token);
                    None
                }
                Turn::Wait => None,
                Turn::Close => {
                    self.close(token);
                    continue;
                }
            };
            connection.charge(&mut self.held_bytes);
            if let Some((request, form)) = request {
                self.submit(node, token, request, form, now);
            }
        }
    }

    fn submit(
        &mut self,
        node: &dyn Node,
        token: Token,
        request: Request,
        form: Form,
        now: Instant,
    ) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let is_trusted = connection.visitor.caller.is_trusted();
        let most = self.limits.requests_max / if is_trusted { 1 } else { 2 };
        if self.in_flight.len() >= most {
            let text = "the node works on too many requests; try again";
            connection.refuse(Code::Busy, text, now);
            connection.charge(&mut self.held_bytes);
            return;
        }
        connection.phase = Phase::Node(form);
        connection.touched = now;
        // The node is the first to say that it took too long: it knows what for.
        connection.patience = request.timeout().map(|timeout| timeout + self.limits.request);
        let bytes = request.held_bytes();
        self.in_flight.insert(token, bytes);
        self.held_bytes += bytes;
        node.submit(request, Ticket::new(token, self.answers.0.clone(), Arc::clone(&self.waker)));
    }

    fn sweep_interval(&self) -> Duration {
        let Limits { idle, line, greeting, request, linger, .. } = self.limits;
        let shortest = [idle, line, greeting, request, linger].into_iter().min();
        (shortest.unwrap_or_default() / 4).max(Duration::from_millis(10))
    }

    /// Ends what has taken too long.
    fn sweep(&mut self, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + self.sweep_interval();
        let overdue = |connection: &Connection| connection.is_overdue(&self.limits, now);
        let late: Vec<Token> = self
            .connections
            .iter()
            .filter_map(|(&token, connection)| overdue(connection).then_some(token))
            .collect();
        for token in late {
            self.expire(token, now);
        }
    }

    fn expire(&mut self, token: Token, now: Instant) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.phase {
            Phase::Node(_) => {
                let text = "no answer in time; the change may still be committed: look before asking again";
                connection.refuse(Code::Unknown, text, now);
            }
            Phase::Client if connection.owes_nothing() => {
                connection.refuse(Code::Idle, "silent or slow for too long", now);
            }
            _ => return self.close(token),
        }
        connection.charge(&mut self.held_bytes);
        self.active.insert(token);
    }

    fn close(&mut self, token: Token) {
        if let Some(connection) = self.connections.remove(&token) {
            connection.discharge(&mut self.held_bytes);
        }
        self.active.remove(&token);
    }

    /// Tells those who wait that the node stops.
    fn farewell(&mut self) {
        let now = clock::now();
        for connection in self.connections.values_mut() {
            if matches!(connection.phase, Phase::Node(_)) {
                connection.refuse(
                    Code::Stopping,
                    "the node is stopping; look before asking again",
                    now,
                );
                connection.turn(&mut self.chunk, 0, now);
            }
        }
    }
}
