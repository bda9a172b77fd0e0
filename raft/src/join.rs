//! How a node becomes a member: it asks any member, follows the way to the leader, and waits.
//!
//! This blocks, before there is anything else to do. The node's own listener must be bound
//! before: as soon as the change is committed the leader dials it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pickbox_raft_core::ids::{ClusterId, Epoch, Fingerprint, LogPosition, NodeId, Term};
use pickbox_raft_core::members::Member;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::keys::KeyRing;
use crate::net::Vouched;
use crate::net::frame::{Frame, Kind, Parser, Phase};
use crate::net::hello::{self, Hello, JoinReply, PROTOCOL, Purpose, Refusal, Standing, Welcome};
use crate::net::join_request::JoinRequest;
use crate::net::link::{HANDSHAKE_MAX, resolve};
use crate::net::secured::Secured;
use crate::net::tls::{self, Pin};
use crate::runs::Lineage;
use crate::token::Token;
use crate::{clock, credentials};

/// Connecting takes no longer.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// An answer is waited for no longer: the change must be committed first.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The wish to stop is heard within this time.
const LISTEN: Duration = Duration::from_millis(100);
/// Waits between two tries.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Redirections followed without a wait.
const REDIRECTS_MAX: u32 = 3;
/// A member that does not know a token yet may learn of it soon: it is asked so often.
const REFUSALS_MAX: u32 = 5;

/// What a node says to become a member.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Members; they are asked in turn.
    pub seeds: Vec<Seed>,
    /// Of which cluster it was a member; zeros if of none. Only that one takes it in then.
    pub cluster: ClusterId,
    /// The key that it proves to have.
    pub keys: KeyRing,
    /// What lets it in, if it needs that.
    pub token: Option<Token>,
    /// The name that people chose for this node.
    pub name: String,
    /// Where peers will reach it.
    pub address: String,
}

/// A member that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Where it is, `IP:PORT`.
    pub address: String,
    /// The key that it must show. Without one it must show that of the join token, or be run by this
    /// user or by root on this host.
    pub key: Option<Fingerprint>,
}

/// What a node is told when it has become a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// In which epoch.
    pub epoch: Epoch,
    /// Its number there.
    pub node: NodeId,
    /// The members, itself among them.
    pub peers: Vouched,
}

/// Why a node cannot become a member.
#[derive(Debug, PartialEq, Eq)]
pub enum JoinError {
    /// Not an address of the form `IP:PORT`.
    Address(String),
    /// Nothing says whose key the node at this address has to show.
    Unverified(String),
    /// The name or the address belongs to another member, or is none: what was said.
    Taken(String),
    /// The member at this address does not talk to this program: why.
    Refused {
        /// Where.
        address: String,
        /// Its words.
        reason: String,
    },
    /// No member's address is known.
    NobodyToAsk,
    /// It was told to stop waiting.
    Cancelled,
}

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address:?} is no address of the form IP:PORT"),
            Self::Unverified(address) => write!(
                f,
                "the node at {address} is not run by this user on this host, so it has to be told by its key: \
                 run `pickbox token create` on a member, bring the line here, and start with --join \
                 {address} --token-file FILE"
            ),
            Self::Taken(text) => f.write_str(text),
            Self::Refused { address, reason } => write!(f, "{address} refuses: {reason}"),
            Self::NobodyToAsk => f.write_str("no member is known that could be asked"),
            Self::Cancelled => f.write_str("told to stop before the cluster took this node in"),
        }
    }
}

impl std::error::Error for JoinError {}

/// Why one attempt failed.
#[derive(Debug)]
enum Failure {
    /// It may go better next time.
    Passing(String),
    /// It does not let this node in, as far as it knows.
    Refused(String),
    /// It will not.
    Final(JoinError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Passing(error.to_string())
    }
}

/// Becomes a member: asks until the change is committed, forever unless it is refused.
///
/// # Errors
/// When it is refused for good, or `cancelled` became true.
pub fn join(options: &JoinOptions, cancelled: &AtomicBool) -> Result<Joined, JoinError> {
    for seed in &options.seeds {
        check(&seed.address)?;
    }
    let mut seeds = options.seeds.iter().cycle();
    let mut target = seeds.next().cloned().ok_or(JoinError::NobodyToAsk)?;
    let mut wait = WAIT_MIN;
    let (mut redirects, mut refusals) = (0, 0);
    let mut told = String::new();
    loop {
        let reason = match ask(&target, options, cancelled) {
            Ok(JoinReply::Joined { cluster, epoch, node, peers }) => {
                return Ok(Joined { cluster, epoch, node, peers });
            }
            Ok(JoinReply::Taken(text)) | Err(Failure::Final(JoinError::Taken(text))) => {
                return Err(JoinError::Taken(text));
            }
            Ok(JoinReply::NotLeader(Some((address, key)))) if redirects < REDIRECTS_MAX => {
                redirects += 1;
                target = Seed { address, key: Some(key) };
                continue;
            }
            Ok(JoinReply::NotLeader(_)) => "there is no leader".to_owned(),
            Ok(JoinReply::Standing(_)) => "an answer to another question".to_owned(),
            Ok(JoinReply::Later) => "another change of the members is under way".to_owned(),
            Err(Failure::Passing(reason)) => reason,
            Err(Failure::Refused(reason)) if refusals < REFUSALS_MAX => {
                refusals += 1;
                reason
            }
            Err(Failure::Refused(reason)) => {
                return Err(JoinError::Refused { address: target.address, reason });
            }
            // Somebody else may sit at this address; another seed may be of the cluster.
            Err(Failure::Final(JoinError::Refused { reason, .. })) if options.seeds.len() > 1 => {
                reason
            }
            Err(Failure::Final(error)) => return Err(error),
        };
        if told != reason {
            log::info!("waiting to join: address={} reason=\"{reason}\"", target.address);
            told = reason;
        }
        pause(wait, cancelled)?;
        wait = wait.saturating_mul(2).min(WAIT_MAX);
        redirects = 0;
        if let Some(next) = seeds.next() {
            target.clone_from(next);
        }
    }
}

/// Asks a member how far it is, as the node `me` that does not run.
///
/// One that belongs to a cluster which was founded anew without `me` says no more than that: then all
/// but the epoch is what is known of it here.
///
/// # Errors
/// When the address is none, or nobody answers there, or it is another node.
pub fn survey(member: &Member, me: &Identity, keys: &KeyRing) -> Result<Standing, SurveyError> {
    check(&member.address)?;
    match ask_standing(member, me, keys) {
        Ok(standing) => Ok(standing),
        Err(Failure::Passing(reason) | Failure::Refused(reason)) => {
            Err(SurveyError::Silent(reason))
        }
        Err(Failure::Final(error)) => Err(error.into()),
    }
}

fn ask_standing(member: &Member, me: &Identity, keys: &KeyRing) -> Result<Standing, Failure> {
    let never = AtomicBool::new(false);
    let key = member.key.ok_or_else(|| Failure::Passing("it was never there".to_owned()))?;
    let pin = Pin::OneOf(vec![key]);
    let mut line = Line::dial(&member.address, (keys, pin, tls::MEMBER), &never)?;
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: me.cluster,
        epoch: me.epoch,
        from: me.node,
        name: me.name.clone(),
        address: String::new(),
        to: member.id,
        lineage: Lineage::default(),
        purpose: Purpose::Survey,
    };
    line.say(hello::encode(Kind::Hello, &hello))?;
    match line.hear(clock::now() + HANDSHAKE_MAX)? {
        (Kind::Welcome, payload) if hello::decode::<Welcome>(&payload).is_some() => {}
        (_, payload) => {
            return match hello::decode::<Refusal>(&payload) {
                Some(Refusal::Removed { epoch, .. }) => Ok(Standing {
                    cluster: me.cluster,
                    epoch,
                    node: member.id,
                    name: member.name.clone(),
                    term: Term::ZERO,
                    last: LogPosition::default(),
                    commit: LogPosition::default().index,
                    leader: None,
                }),
                refusal => {
                    let refusal = refusal.unwrap_or(Refusal::Malformed);
                    Err(Failure::Refused(format!("refused: {refusal}")))
                }
            };
        }
    }
    line.parser.enter(Phase::AwaitJoined);
    let (_, payload) = line.hear(clock::now() + HANDSHAKE_MAX)?;
    match hello::decode(&payload) {
        Some(JoinReply::Standing(standing)) => Ok(standing),
        _ => Err(Failure::Passing("an answer to another question".to_owned())),
    }
}

/// Why nothing is known of a node.
#[derive(Debug, PartialEq, Eq)]
pub enum SurveyError {
    /// It does not answer: why.
    Silent(String),
    /// It cannot be asked, or refuses to say.
    Refused(JoinError),
}

impl From<JoinError> for SurveyError {
    fn from(error: JoinError) -> Self {
        Self::Refused(error)
    }
}

impl std::fmt::Display for SurveyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(reason) => f.write_str(reason),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SurveyError {}

fn check(address: &str) -> Result<SocketAddr, JoinError> {
    resolve(address).ok_or_else(|| JoinError::Address(address.to_owned()))
}

fn pause(wait: Duration, cancelled: &AtomicBool) -> Result<(), JoinError> {
    let until = clock::now() + wait;
    loop {
        if cancelled.load(Ordering::SeqCst) {
            return Err(JoinError::Cancelled);
        }
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LISTEN));
    }
}

/// One attempt at one member.
fn ask(seed: &Seed, options: &JoinOptions, cancelled: &AtomicBool) -> Result<JoinReply, Failure> {
    let token = options.token.as_ref();
    let key = seed.key.or(token.map(|token| token.key));
    let pin = key.map_or(Pin::Any, |key| Pin::OneOf(vec![key]));
    let mut line = Line::dial(&seed.address, (&options.keys, pin, tls::JOIN), cancelled)?;
    if key.is_none() && !line.is_of_this_user() {
        return Err(Failure::Final(JoinError::Unverified(seed.address.clone())));
    }
    let mine = options.keys.current().fingerprint();
    let exporter = line.secured.exporter().ok_or_else(malformed)?;
    let request = JoinRequest {
        cluster: token.map_or(options.cluster, |token| token.cluster),
        token: token.map_or([0; 32], Token::public_key),
        proof: token.map_or([0; 64], |token| token.prove(&exporter, mine)),
        name: options.name.clone(),
        address: options.address.clone(),
    };
    let request = request
        .encode()
        .ok_or_else(|| Failure::Final(JoinError::Taken("too long a name or address".to_owned())))?;
    line.write(&[&request])?;
    let (kind, payload) = line.hear(clock::now() + ANSWER_MAX)?;
    if kind == Kind::Joined {
        return hello::decode(&payload).ok_or_else(malformed);
    }
    match hello::decode::<Refusal>(&payload).ok_or_else(malformed)? {
        Refusal::NotAdmitted => Err(Failure::Refused(Refusal::NotAdmitted.to_string())),
        refusal => {
            let (address, reason) = (seed.address.clone(), refusal.to_string());
            Err(Failure::Final(JoinError::Refused { address, reason }))
        }
    }
}

fn malformed() -> Failure {
    Failure::Passing("malformed answer".to_owned())
}

/// A connection that is waited for.
struct Line<'a> {
    secured: Secured<TcpStream>,
    parser: Parser,
    cancelled: &'a AtomicBool,
}

impl<'a> Line<'a> {
    /// Connects and shakes hands.
    fn dial(
        address: &str,
        (keys, pin, alpn): (&KeyRing, Pin, &[u8]),
        cancelled: &'a AtomicBool,
    ) -> Result<Self, Failure> {
        let to = check(address).map_err(Failure::Final)?;
        let socket = TcpStream::connect_timeout(&to, CONNECT_MAX)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LISTEN))?;
        socket.set_write_timeout(Some(CONNECT_MAX))?;
        let dialer = tls::dialer(&keys.current(), pin, alpn).map_err(io::Error::other)?;
        let awaited = if alpn == tls::JOIN { Phase::AwaitJoined } else { Phase::AwaitWelcome };
        let parser = Parser::new(awaited);
        let mut line = Self { secured: Secured::new(socket, dialer), parser, cancelled };
        let deadline = clock::now() + HANDSHAKE_MAX;
        while !line
            .secured
            .shake_hands()
            .map_err(|error| Failure::Passing(tls::in_words(&error)))?
        {
            line.go_on_until(deadline)?;
        }
        Ok(line)
    }

    /// Whether the other end belongs to the user of this process or to root, on this host: who could
    /// read this node's key and folder anyway.
    fn is_of_this_user(&self) -> bool {
        let peer = credentials::peer_of(&self.secured.socket);
        matches!(peer, Ok(Some(uid)) if credentials::is_self_or_root(uid))
    }

    fn go_on_until(&self, deadline: Instant) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(Failure::Final(JoinError::Cancelled));
        }
        if clock::now() >= deadline {
            return Err(Failure::Passing("no answer in time".to_owned()));
        }
        Ok(())
    }

    fn say(&mut self, frame: Option<Frame>) -> Result<(), Failure> {
        let frame = frame.ok_or_else(malformed)?;
        self.write(&[&frame.header, &frame.payload])
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        let bytes = parts.concat();
        let taken = self.secured.write_vectored(&[io::IoSlice::new(&bytes)])?;
        if taken < bytes.len() {
            return Err(Failure::Passing("too long a message".to_owned()));
        }
        Ok(())
    }

    /// Waits for one frame.
    fn hear(&mut self, deadline: Instant) -> Result<(Kind, Vec<u8>), Failure> {
        loop {
            let frame = self.parser.next_frame().map_err(|e| Failure::Passing(e.to_string()))?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            match self.parser.fill(|buffer| self.secured.read_into(buffer)) {
                Ok(0) => return Err(Failure::Passing("closed without an answer".to_owned())),
                Ok(_) => {}
                Err(error) if is_pause(&error) => self.go_on_until(deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
