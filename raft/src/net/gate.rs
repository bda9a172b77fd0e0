//! The listener, and accepted connections until they have said who they are.
//!
//! Whoever connects may be anyone. A connection that has not introduced itself costs one
//! descriptor and one small buffer, lives no longer than the handshake may take, and there are
//! few of them: when there are too many the oldest gives way, since an honest dialer needs only
//! one round trip.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Interest, Token};

use super::backoff::Quiet;
use super::frame::{FrameError, Kind, Parser, Phase};
use super::hello::{self, Hello};
use super::link::{Context, HANDSHAKE_MAX};
use super::stream::Stream;

/// Connections that have not introduced themselves.
const PENDING_MAX: usize = 32;
/// Of these, from one address; on loopback all nodes share one, so it does not count there.
const PENDING_PER_ADDRESS_MAX: usize = 4;
/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Without descriptors to spare, the listener rests for so long.
const REST: Duration = Duration::from_millis(100);

const _: () = assert!(PENDING_PER_ADDRESS_MAX < PENDING_MAX, "one address never fills the gate");

/// A connection that has introduced itself, still to be judged.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) token: Token,
    pub(crate) stream: Stream,
    pub(crate) parser: Parser,
    pub(crate) peer: SocketAddr,
    pub(crate) hello: Hello,
}

/// What became of an accepted connection that has something to say.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It is none of the gate's.
    Stranger,
    /// It has not said enough yet.
    Pending,
    /// It was closed: no greeting of ours.
    Rejected,
    /// It introduced itself.
    Greeted(Box<Greeted>),
}

#[derive(Debug)]
struct Pending {
    token: Token,
    stream: Stream,
    parser: Parser,
    peer: SocketAddr,
    deadline: Instant,
}

/// The listener and those who wait at it.
#[derive(Debug)]
pub(crate) struct Gate {
    listener: TcpListener,
    /// Oldest first.
    pending: VecDeque<Pending>,
    /// More connections may wait to be accepted.
    more: bool,
    rest_until: Option<Instant>,
    refused: u64,
    quiet: Quiet,
    rest_quiet: Quiet,
}

impl Gate {
    pub(crate) fn new(
        listener: std::net::TcpListener,
        registry: &mio::Registry,
        token: Token,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self {
            listener,
            pending: VecDeque::new(),
            more: true,
            rest_until: None,
            refused: 0,
            quiet: Quiet::default(),
            rest_quiet: Quiet::default(),
        })
    }

    /// Connections turned away without a greeting, since start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// The listener has connections to accept.
    pub(crate) fn knock(&mut self) {
        self.more = true;
    }

    /// Whether there is more to accept at once.
    pub(crate) fn wants_turn(&self) -> bool {
        self.more && self.rest_until.is_none()
    }

    /// When to call [`Gate::tick`] next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let oldest = self.pending.front().map(|pending| pending.deadline);
        oldest.into_iter().chain(self.rest_until).min()
    }

    /// Accepts what waits, closes what took too long.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        while self.pending.front().is_some_and(|pending| pending.deadline <= cx.now) {
            self.turn_away(cx.now, 0, "no greeting in time");
        }
        if self.rest_until.is_some_and(|until| until <= cx.now) {
            self.rest_until = None;
        }
        if self.wants_turn() {
            self.accept(cx);
        }
    }

    fn accept(&mut self, cx: &mut Context<'_>) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((socket, peer)) => self.admit(cx, socket, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.more = false;
                    return;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if let Some(held_back) = self.rest_quiet.speak(cx.now) {
                        log::warn!("cannot accept: error=\"{error}\" held_back={held_back}");
                    }
                    self.rest_until = Some(cx.now + REST);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, cx: &mut Context<'_>, socket: mio::net::TcpStream, peer: SocketAddr) {
        let same = |pending: &&Pending| pending.peer.ip() == peer.ip();
        if !is_loopback(peer.ip())
            && self.pending.iter().filter(same).count() >= PENDING_PER_ADDRESS_MAX
        {
            self.refused += 1;
            return;
        }
        if self.pending.len() >= PENDING_MAX {
            self.turn_away(cx.now, 0, "too many connections without a greeting");
        }
        let token = cx.tokens.next();
        let Ok(mut stream) = Stream::accepted(socket) else { return };
        if stream.register(cx.registry, token).is_ok() {
            let parser = Parser::new(Phase::AwaitHello);
            let deadline = cx.now + HANDSHAKE_MAX;
            self.pending.push_back(Pending { token, stream, parser, peer, deadline });
        }
    }

    /// One of the connections has something to say.
    pub(crate) fn ready(&mut self, cx: &Context<'_>, token: Token) -> Arrival {
        let Some(position) = self.pending.iter().position(|pending| pending.token == token) else {
            return Arrival::Stranger;
        };
        let Some(pending) = self.pending.get_mut(position) else { return Arrival::Stranger };
        let hello = match pending.read() {
            Ok(None) => return Arrival::Pending,
            Ok(Some(hello)) => hello,
            Err(reason) => {
                self.turn_away(cx.now, position, &reason);
                return Arrival::Rejected;
            }
        };
        match self.pending.remove(position) {
            Some(Pending { token, stream, parser, peer, .. }) => {
                Arrival::Greeted(Box::new(Greeted { token, stream, parser, peer, hello }))
            }
            None => Arrival::Stranger,
        }
    }

    fn turn_away(&mut self, now: Instant, position: usize, reason: &str) {
        let Some(pending) = self.pending.remove(position) else { return };
        self.refused += 1;
        if let Some(held_back) = self.quiet.speak(now) {
            log::info!(
                "connection turned away: peer={} reason=\"{reason}\" held_back={held_back}",
                pending.peer
            );
        }
    }
}

impl Pending {
    fn read(&mut self) -> Result<Option<Hello>, String> {
        loop {
            match self.parser.fill(|buffer| self.stream.read_into(buffer)) {
                Ok(0) => return Err("closed before a greeting".to_owned()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.to_string()),
            }
            if let Some((_, payload)) = self.parser.next_frame().map_err(|e| e.to_string())? {
                // The dialer waits for the answer before it says more.
                if !self.parser.is_clean() {
                    return Err(FrameError::Unexpected(Kind::Hello).to_string());
                }
                return hello::decode(&payload).map(Some).ok_or("malformed greeting".to_owned());
            }
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Errors of accept(2) that belong to the connection and say nothing of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}
