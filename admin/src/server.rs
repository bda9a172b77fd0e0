//! The loop: one thread, all clients.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use pickbox_raft::clock;

use crate::answer;
use crate::command::{self, Command, Form};
use crate::connection::{Connection, Line, LineEnd, Phase, Turn};
use crate::limits::{ACCEPTS_PER_TURN, CHUNK_BYTES, Limits};
use crate::node::{Answered, Code, Node, Refusal, Request, Ticket};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// Tokens of connections start here, grow, and are never used twice.
const CONNECTION_FIRST: usize = 2;
const EVENTS_PER_POLL: usize = 256;
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// Pause after an accept failed for want of descriptors: the listener gives no second event.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server cannot start or go on.
#[derive(Debug)]
pub enum AdminError {
    /// The address cannot be listened on.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel's event queue failed.
    Poll(io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, .. } => write!(f, "cannot listen on {address}"),
            Self::Poll(_) => f.write_str("the event queue failed"),
        }
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Poll(source) => Some(source),
        }
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
    listener: TcpListener,
    local: SocketAddr,
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
    /// Listens on `address` (port 0 = any free one).
    ///
    /// # Errors
    /// When the address is taken or not ours, or the event queue cannot be made.
    pub fn bind(address: SocketAddr, limits: Limits) -> Result<Self, AdminError> {
        let bind = |source| AdminError::Bind { address, source };
        let mut listener = TcpListener::bind(address).map_err(bind)?;
        // mio's own backlog of 128 makes a crowd of clients wait a second to connect.
        rustix::net::listen(&listener, BACKLOG).map_err(|error| bind(error.into()))?;
        let local = listener.local_addr().map_err(bind)?;
        let poll = Poll::new().map_err(AdminError::Poll)?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(AdminError::Poll)?;
        let waker = Arc::new(Waker::new(registry, WAKER).map_err(AdminError::Poll)?);
        Ok(Self {
            listener,
            local,
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

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
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
                LISTENER => self.accept_at = Some(now),
                WAKER => {}
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
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_at = None;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("admin=accept error={error}");
                    self.evict_idle(now);
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_at = Some(now);
    }

    fn admit(&mut self, mut stream: TcpStream, now: Instant) {
        if self.connections.len() >= self.limits.connections_max && !self.evict_idle(now) {
            let text = "too many connections; try again";
            let line = answer::refusal(&Refusal::new(Code::Busy, text));
            // Best effort: the buffer of a new socket takes one line.
            let _ = io::Write::write(&mut stream, &line);
            return;
        }
        let token = Token(self.next_token);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, token, interest);
        if let Err(error) = registered.and_then(|()| stream.set_nodelay(true)) {
            log::warn!("admin=register error={error}");
            return;
        }
        if self.connections.is_empty() {
            self.sweep_at = now + self.sweep_interval();
        }
        self.next_token += 1;
        self.connections.insert(token, Connection::new(stream, now));
        self.active.insert(token);
    }

    /// Closes the longest idle connection to make room, if it was idle for long enough.
    fn evict_idle(&mut self, now: Instant) -> bool {
        let idle = self.connections.iter().filter(|(_, connection)| connection.is_idle());
        let Some((&token, oldest)) = idle.min_by_key(|(_, connection)| connection.touched) else {
            return false;
        };
        if now.saturating_duration_since(oldest.touched) < self.limits.evict_after {
            return false;
        }
        self.close(token);
        true
    }

    fn take_answers(&mut self, now: Instant) {
        for Answered { connection: token, result } in self.answers.1.try_iter() {
            let bytes = self.in_flight.remove(&token).unwrap_or(0);
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            if let Phase::Node(form) = connection.phase {
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
                    respond(connection, &line, now)
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
        if self.in_flight.len() >= self.limits.requests_max {
            let text = "the node works on too many requests; try again";
            connection.refuse(Code::Busy, text, now);
            connection.charge(&mut self.held_bytes);
            return;
        }
        connection.phase = Phase::Node(form);
        connection.touched = now;
        let bytes = request.held_bytes();
        self.in_flight.insert(token, bytes);
        self.held_bytes += bytes;
        node.submit(request, Ticket::new(token, self.answers.0.clone(), Arc::clone(&self.waker)));
    }

    fn sweep_interval(&self) -> Duration {
        (self.limits.idle.min(self.limits.request).min(self.limits.linger) / 4)
            .max(Duration::from_millis(10))
    }

    /// Ends what has taken too long.
    fn sweep(&mut self, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + self.sweep_interval();
        let limits = self.limits;
        let overdue = |connection: &Connection| {
            now.saturating_duration_since(connection.touched)
                > match connection.phase {
                    Phase::Client | Phase::Closing => limits.idle,
                    Phase::Node(_) => limits.request,
                    Phase::Draining => limits.linger,
                }
        };
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
                connection.refuse(Code::Idle, "silent for too long", now);
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

/// Answers a line if that needs no node, else gives the request for it.
fn respond(connection: &mut Connection, line: &Line, now: Instant) -> Option<(Request, Form)> {
    let command = command::parse(&line.bytes);
    let answer = match command {
        Ok(Command::Ask(request, _)) if line.end == LineEnd::Input && request.is_change() => {
            let text = "the last line has no newline: it may be cut off, nothing was done";
            Err(Refusal::new(Code::BadRequest, text))
        }
        Ok(Command::Ask(request, form)) => {
            connection.settle_mode();
            return Some((request, form));
        }
        Ok(Command::Help) => Ok(answer::HELP),
        Ok(Command::Session) => connection.begin_session().map(|()| answer::SESSION),
        Err(refusal) => Err(refusal),
    };
    connection.settle_mode();
    match answer {
        Ok(text) => connection.answer(text.as_bytes(), now),
        Err(refusal) => connection.answer(&answer::refusal(&refusal), now),
    }
    None
}
