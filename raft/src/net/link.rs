//! One dialed connection to one peer: kept up, and what waits to go out on it.
//!
//! A pair of members has two connections for each purpose, each dialed by the one that speaks on
//! it. So a link only writes; all it reads is the answer to its greeting, and the end.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::Level;
use mio::{Registry, Token};
use pickbox_raft_core::ids::{Epoch, Fingerprint, Index, NodeId};

use super::backoff::{Backoff, Quiet};
use super::frame::{Frame, FrameError, Kind, Parser, Phase};
use super::hello::{self, Hello, LocalNode, Purpose, Refusal, Welcome};
use super::outbox::Outbox;
use super::stream::Stream;
use super::tls::{self, Pin};
use super::trust::Contact;
use crate::identity::check_name;
use crate::keys::KeyRing;

/// Connecting and the handshake together take no longer.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Data for the consensus of a peer waits no longer for its acknowledgement.
const PATIENCE_CONSENSUS_MS: u32 = 5_000;
/// A peer whose disk is slow may leave contents unread for so long.
const PATIENCE_BULK_MS: u32 = 60_000;
/// Bytes written in one go before others get their turn.
const FLUSH_BYTES: usize = 8 * 1024 * 1024;

/// Numbers for a poll, each used once.
#[derive(Debug)]
pub(crate) struct Tokens(usize);

impl Tokens {
    /// Numbers from `first` on.
    pub(crate) const fn from(first: usize) -> Self {
        Self(first)
    }

    pub(crate) fn next(&mut self) -> Token {
        self.0 += 1;
        Token(self.0)
    }
}

/// What a link needs of its owner.
pub(crate) struct Context<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) tokens: &'a mut Tokens,
    pub(crate) me: &'a LocalNode,
    pub(crate) keys: &'a KeyRing,
    pub(crate) now: Instant,
}

/// A change that the owner acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkChange {
    /// Frames can go out.
    Up(NodeId),
    /// They cannot any more; those that waited are lost.
    Down(NodeId),
    /// The peer refuses this node.
    Refused(NodeId, Outcast),
}

/// Why a peer refuses this node for what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcast {
    /// See [`Refusal::Removed`]; the entry, zero if that is not known.
    Removed(Index),
    /// See [`Refusal::UnknownKey`].
    UnknownKey,
    /// See [`Refusal::OtherEpoch`].
    OtherEpoch(Epoch),
    /// See [`Refusal::OldState`].
    OldState,
    /// See [`Refusal::Twin`].
    Twin,
}

impl Refusal {
    fn outcast(&self, me: &LocalNode) -> Option<Outcast> {
        match self {
            // In a later epoch there is nobody of an earlier one.
            Self::Removed { epoch, .. } if *epoch > me.epoch => Some(Outcast::OtherEpoch(*epoch)),
            Self::Removed { at, .. } => Some(Outcast::Removed(*at)),
            Self::UnknownKey => Some(Outcast::UnknownKey),
            Self::OtherEpoch { ours } => Some(Outcast::OtherEpoch(*ours)),
            Self::OldState => Some(Outcast::OldState),
            Self::Twin => Some(Outcast::Twin),
            _ => None,
        }
    }
}

/// Why a link is not up.
#[derive(Debug)]
enum Trouble {
    Io(io::Error),
    Frame(FrameError),
    Tls(rustls::Error),
    Refused(Refusal),
    Address,
    Closed,
    Slow,
    Moved,
    Untrusted,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&tls::in_words(error)),
            Self::Frame(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Address => write!(f, "not an address of the form IP:PORT"),
            Self::Closed => write!(f, "closed by the peer"),
            Self::Slow => write!(f, "no answer to the greeting in time"),
            Self::Moved => write!(f, "the address changed"),
            Self::Untrusted => write!(f, "the key is not that of a member any more"),
        }
    }
}

/// Where a link stands.
#[derive(Debug)]
enum State {
    /// Not connected; the next try is due then.
    Waiting(Instant),
    /// A connection, at some stage.
    Open(Conn),
}

#[derive(Debug)]
struct Conn {
    token: Token,
    stream: Stream,
    parser: Parser,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting { deadline: Instant },
    ShakingHands { deadline: Instant },
    Greeting { deadline: Instant },
    Up,
}

/// The dialed connection to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    to: NodeId,
    /// What the members say.
    listed: String,
    /// Keys that it may show; the first one is asked for next.
    keys: Vec<Fingerprint>,
    /// The key of this node that it was shown last.
    shown: Fingerprint,
    /// Those that it did not know.
    unknown: Vec<Fingerprint>,
    /// Where it is dialed: what it last said itself, else what the members say.
    address: String,
    purpose: Purpose,
    state: State,
    outbox: Outbox,
    writable: bool,
    backoff: Backoff,
    quiet: Quiet,
}

impl Link {
    pub(crate) fn new(me: &LocalNode, contact: Contact, plan: Plan) -> Self {
        let Contact { id: to, address, keys } = contact;
        let seed = me.incarnation.get() ^ to.get().rotate_left(32);
        Self {
            to,
            listed: address.clone(),
            keys,
            shown: Fingerprint::default(),
            unknown: Vec::new(),
            address,
            purpose: plan.purpose,
            state: State::Waiting(plan.now),
            outbox: Outbox::new(plan.queue_bytes_max),
            writable: false,
            backoff: Backoff::new(seed),
            quiet: Quiet::default(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(&self.state, State::Open(Conn { stage: Stage::Up, .. }))
    }

    pub(crate) fn owns(&self, token: Token) -> bool {
        matches!(&self.state, State::Open(conn) if conn.token == token)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// When to call [`Link::tick`] next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting(until) => Some(*until),
            State::Open(conn) => match conn.stage {
                Stage::Connecting { deadline }
                | Stage::ShakingHands { deadline }
                | Stage::Greeting { deadline } => Some(deadline),
                Stage::Up => None,
            },
        }
    }

    /// Dials when it is time, gives up what takes too long.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) -> Option<LinkChange> {
        if self.deadline().is_none_or(|deadline| deadline > cx.now) {
            return None;
        }
        let trouble = match &self.state {
            State::Open(_) => Some(Trouble::Slow),
            State::Waiting(_) => self.dial(cx).err(),
        };
        trouble.and_then(|trouble| self.fail(cx, &trouble))
    }

    /// The members say where the peer is, and which keys it may show. A connection to a key that is
    /// none of these any more ends.
    pub(crate) fn list(&mut self, cx: &mut Context<'_>, contact: Contact) -> Option<LinkChange> {
        self.keys = contact.keys;
        let shown = match &self.state {
            State::Open(conn) => conn.stream.peer_key(),
            State::Waiting(_) => None,
        };
        if shown.is_some_and(|shown| !self.keys.contains(&shown)) {
            return self.fail(cx, &Trouble::Untrusted);
        }
        if self.listed == contact.address {
            return None;
        }
        self.listed.clone_from(&contact.address);
        self.readdress(cx, &contact.address)
    }

    /// The peer was heard of, and says that it is there: it is worth dialing now. Its number is
    /// what names it, its address may change from run to run (checklist 138).
    pub(crate) fn heard(&mut self, cx: &mut Context<'_>, address: &str) -> Option<LinkChange> {
        let change = self.readdress(cx, address);
        if let State::Waiting(until) = &mut self.state {
            self.backoff.reset();
            *until = cx.now;
        }
        change
    }

    fn readdress(&mut self, cx: &mut Context<'_>, address: &str) -> Option<LinkChange> {
        if self.address == address {
            return None;
        }
        address.clone_into(&mut self.address);
        self.backoff.reset();
        self.fail(cx, &Trouble::Moved)
    }

    /// Queues a frame, or gives it back: not up, or full.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.is_up() { self.outbox.push(frame) } else { Err(frame) }
    }

    /// Whether frames wait that the kernel would take now.
    pub(crate) fn wants_flush(&self) -> bool {
        self.is_up() && self.writable && self.has_waiting()
    }

    /// Whether frames wait, or what is left of one.
    fn has_waiting(&self) -> bool {
        !self.outbox.is_empty()
            || matches!(&self.state, State::Open(conn) if conn.stream.is_owing())
    }

    /// Whether the kernel would take more and nothing waits.
    pub(crate) fn is_hungry(&self) -> bool {
        self.is_up() && self.writable && !self.has_waiting()
    }

    /// Writes what waits, up to a bound; how many bytes.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> (usize, Option<LinkChange>) {
        match self.write() {
            Ok(bytes) => (bytes, None),
            Err(trouble) => (0, self.fail(cx, &trouble)),
        }
    }

    /// Its connection is readable or writable.
    pub(crate) fn ready(&mut self, cx: &mut Context<'_>) -> Option<LinkChange> {
        self.writable = true;
        let was_up = self.is_up();
        if let Err(trouble) = self.advance(cx) {
            return self.fail(cx, &trouble);
        }
        (self.is_up() && !was_up).then_some(LinkChange::Up(self.to))
    }

    fn dial(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        let address: SocketAddr = resolve(&self.address).ok_or(Trouble::Address)?;
        let pin = Pin::OneOf(self.keys.clone());
        let mine = cx.keys.other_than(&self.unknown).unwrap_or_else(|| cx.keys.current());
        self.shown = mine.fingerprint();
        let dialer = tls::dialer(&mine, pin, tls::MEMBER).map_err(Trouble::Tls)?;
        let mut stream = Stream::connect(address, dialer)?;
        let token = cx.tokens.next();
        stream.register(cx.registry, token)?;
        let parser = Parser::new(Phase::AwaitWelcome);
        let stage = Stage::Connecting { deadline: cx.now + HANDSHAKE_MAX };
        self.outbox.clear();
        self.writable = false;
        self.state = State::Open(Conn { token, stream, parser, stage });
        Ok(())
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        let State::Open(conn) = &mut self.state else { return Ok(()) };
        if let Stage::Connecting { deadline } = conn.stage {
            if conn.stream.connected()?.is_none() {
                return Ok(());
            }
            if conn.stream.is_own_echo() {
                return Err(Trouble::Refused(Refusal::Loop));
            }
            conn.stream.set_patience(patience_ms(self.purpose))?;
            conn.stage = Stage::ShakingHands { deadline };
        }
        if let Stage::ShakingHands { deadline } = conn.stage {
            if !conn.stream.shake_hands()? {
                return Ok(());
            }
            // The members may have changed meanwhile.
            if conn.stream.peer_key().is_none_or(|key| !self.keys.contains(&key)) {
                return Err(Trouble::Untrusted);
            }
            conn.stage = Stage::Greeting { deadline };
            let hello = Hello::of(cx.me, self.to, self.purpose);
            let frame = hello::encode(Kind::Hello, &hello).ok_or(Trouble::Address)?;
            self.outbox.push(frame).map_err(|_| Trouble::Slow)?;
        }
        self.write()?;
        self.read()
    }

    fn write(&mut self) -> Result<usize, Trouble> {
        let State::Open(conn) = &mut self.state else { return Ok(0) };
        let mut total = 0;
        while self.writable
            && (!self.outbox.is_empty() || conn.stream.is_owing())
            && total < FLUSH_BYTES
        {
            let written = self.outbox.write(&mut conn.stream)?;
            self.writable = !written.blocked;
            total += written.bytes;
        }
        Ok(total)
    }

    /// Takes the answer to the greeting; afterwards only the end can come.
    fn read(&mut self) -> Result<(), Trouble> {
        let State::Open(conn) = &mut self.state else { return Ok(()) };
        loop {
            match conn.parser.fill(|buffer| conn.stream.read_into(buffer)) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            while let Some((kind, payload)) = conn.parser.next_frame().map_err(Trouble::Frame)? {
                if conn.stage == Stage::Up {
                    return Err(Trouble::Frame(FrameError::Unexpected(kind)));
                }
                let welcome = welcome(kind, &payload).map_err(Trouble::Refused)?;
                if check_name(&welcome.name).is_err() {
                    return Err(Trouble::Refused(Refusal::Malformed));
                }
                if welcome.node != self.to {
                    let (ours, name) = (welcome.node, welcome.name);
                    return Err(Trouble::Refused(Refusal::WrongNode { ours, name }));
                }
                conn.stage = Stage::Up;
                self.backoff.reset();
                let level = if self.quiet.reset() { Level::Info } else { Level::Debug };
                log::log!(
                    level,
                    "link up: purpose={:?} peer={} name={} address={}",
                    self.purpose,
                    self.to,
                    welcome.name,
                    self.address
                );
            }
        }
    }

    /// The peer does not know the key that it was shown; whether there is one that it has yet to see.
    /// When it has seen them all, it is shown all of them again.
    fn turns_to_other_key(&mut self, keys: &KeyRing) -> bool {
        self.unknown.push(self.shown);
        let has_other = keys.other_than(&self.unknown).is_some();
        if !has_other {
            self.unknown.clear();
        }
        has_other
    }

    /// Closes what is open, says so once, and plans the next try.
    fn fail(&mut self, cx: &mut Context<'_>, trouble: &Trouble) -> Option<LinkChange> {
        let was_up = self.is_up();
        if !was_up && self.keys.len() > 1 {
            // A peer that has two keys shows the one that it is asked for: ask for each in turn.
            self.keys.rotate_left(1);
        }
        self.outbox.clear();
        self.writable = false;
        self.state = State::Waiting(cx.now + self.backoff.next_wait());
        if let Some(held_back) = self.quiet.speak(cx.now) {
            log::info!(
                "no link to a peer: purpose={:?} peer={} address={} reason={trouble:?} text=\"{trouble}\" \
                 held_back={held_back}",
                self.purpose,
                self.to,
                self.address,
            );
        }
        match trouble {
            Trouble::Refused(Refusal::UnknownKey) if self.turns_to_other_key(cx.keys) => None,
            Trouble::Refused(refusal) if !was_up => {
                refusal.outcast(cx.me).map(|why| LinkChange::Refused(self.to, why))
            }
            _ => was_up.then_some(LinkChange::Down(self.to)),
        }
    }
}

/// How a link is to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) purpose: Purpose,
    /// Bytes that may wait to go out.
    pub(crate) queue_bytes_max: usize,
    /// When it begins.
    pub(crate) now: Instant,
}

const fn patience_ms(purpose: Purpose) -> u32 {
    match purpose {
        Purpose::Consensus | Purpose::Survey => PATIENCE_CONSENSUS_MS,
        Purpose::Bulk => PATIENCE_BULK_MS,
    }
}

fn welcome(kind: Kind, payload: &[u8]) -> Result<Welcome, Refusal> {
    match kind {
        Kind::Welcome => hello::decode(payload).ok_or(Refusal::Malformed),
        _ => Err(hello::decode(payload).unwrap_or(Refusal::Malformed)),
    }
}

/// Says one small thing on a connection whose send buffer is empty, so that it goes out whole.
pub(crate) fn say(stream: &mut Stream, frame: Option<Frame>) -> bool {
    let Some(frame) = frame else { return false };
    let mut outbox = Outbox::new(frame.len());
    outbox.push(frame).is_ok() && outbox.write(stream).is_ok() && outbox.is_empty()
}

/// A socket address of `IP:PORT` or `localhost:PORT`.
///
/// Other names are not looked up: this runs on a thread that must never wait for a name server.
pub(crate) fn resolve(address: &str) -> Option<SocketAddr> {
    match address.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => address.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rig::{identity, key, keys, node};
    use super::*;
    use crate::clock;
    use crate::disk::sim::SimDisk;

    /// fault 69, rotation: a peer may know any of a node's keys, and is shown all of them in turn.
    #[test]
    fn a_peer_is_shown_each_of_the_keys_in_turn() {
        let (me, keys) = (identity(1, "127.0.0.1:1".parse().unwrap()), keys(1));
        let contact = Contact { id: node(2), address: "127.0.0.1:2".into(), keys: vec![key(2)] };
        let (purpose, now) = (Purpose::Consensus, clock::now());
        let mut link = Link::new(&me, contact, Plan { purpose, queue_bytes_max: 1, now });
        // As `dial` chooses; then it is refused.
        let mut refused = |keys: &KeyRing| {
            let shown = keys.other_than(&link.unknown).unwrap_or_else(|| keys.current());
            link.shown = shown.fingerprint();
            (link.shown, link.turns_to_other_key(keys))
        };
        assert_eq!(refused(&keys), (key(1), false), "there is no other");
        let disk = SimDisk::new();
        let next = keys.prepare_next(&disk).unwrap().fingerprint();
        assert_eq!(refused(&keys), (key(1), true));
        assert_eq!(refused(&keys), (next, false), "it knows neither");
        assert!(keys.is_listed(next));
        assert_eq!(refused(&keys), (next, true));
        assert_eq!(refused(&keys), (key(1), false), "nor the former one");
        assert_eq!(refused(&keys), (next, true), "from the beginning");
    }
}
