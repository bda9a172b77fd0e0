//! How a node becomes a member: it asks any member, follows the way to the leader, and waits.
//!
//! This blocks, before there is anything else to do. The node's own listener must be bound
//! before: as soon as the change is committed the leader dials it.

use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pickbox_raft_core::ids::{ClusterId, Epoch, NodeId};
use pickbox_raft_core::members::Members;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::loopback_only;
use crate::net::frame::{Frame, Kind, Parser, Phase};
use crate::net::hello::{
    self, Hello, JoinReply, JoinRequest, PROTOCOL, Purpose, Refusal, Standing,
};
use crate::net::link::{HANDSHAKE_MAX, resolve};
use crate::runs::Lineage;

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

/// What a node says to become a member.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Addresses of members, `IP:PORT`; they are asked in turn.
    pub seeds: Vec<String>,
    /// Of which cluster it was a member; zeros if of none. Only that one takes it in then.
    pub cluster: ClusterId,
    /// The name that people chose for this node.
    pub name: String,
    /// Where peers will reach it.
    pub address: String,
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
    pub members: Members,
}

/// Why a node cannot become a member.
#[derive(Debug, PartialEq, Eq)]
pub enum JoinError {
    /// Not an address of the form `IP:PORT`.
    Address(String),
    /// Peers are not authenticated yet, so only nodes of this host are joined.
    NotLoopback(SocketAddr),
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
            Self::NotLoopback(address) => {
                write!(f, "{address} is not a loopback address: peers are not authenticated yet")
            }
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
        check(seed)?;
    }
    let (name, address) = (options.name.clone(), options.address.clone());
    let request = JoinRequest::Join { name, address };
    let mut seeds = options.seeds.iter().cycle();
    let mut target = seeds.next().cloned().ok_or(JoinError::NobodyToAsk)?;
    let mut wait = WAIT_MIN;
    let mut redirects = 0;
    let mut told = String::new();
    loop {
        let reason = match ask(&target, options, &request, cancelled) {
            Ok(JoinReply::Joined { cluster, epoch, node, members }) => {
                return Ok(Joined { cluster, epoch, node, members });
            }
            Ok(JoinReply::Taken(text)) | Err(Failure::Final(JoinError::Taken(text))) => {
                return Err(JoinError::Taken(text));
            }
            Ok(JoinReply::NotLeader(Some(leader))) if redirects < REDIRECTS_MAX => {
                redirects += 1;
                target = leader;
                continue;
            }
            Ok(JoinReply::NotLeader(_)) => "there is no leader".to_owned(),
            Ok(JoinReply::Standing(_)) => "an answer to another question".to_owned(),
            Ok(JoinReply::Later) => "another change of the members is under way".to_owned(),
            Err(Failure::Passing(reason)) => reason,
            // Somebody else may sit at this address; another seed may be of the cluster.
            Err(Failure::Final(JoinError::Refused { reason, .. })) if options.seeds.len() > 1 => {
                reason
            }
            Err(Failure::Final(error)) => return Err(error),
        };
        if told != reason {
            log::info!("waiting to join: address={target} reason=\"{reason}\"");
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

/// Asks the node at this address how far it is.
///
/// # Errors
/// When the address is none, or nobody answers there.
pub fn survey(address: &str) -> Result<Standing, SurveyError> {
    check(address)?;
    let nobody = JoinOptions {
        seeds: Vec::new(),
        cluster: ClusterId::default(),
        name: String::new(),
        address: String::new(),
    };
    match ask(address, &nobody, &JoinRequest::Survey, &AtomicBool::new(false)) {
        Ok(JoinReply::Standing(standing)) => Ok(standing),
        Ok(_) => Err(SurveyError::Silent("an answer to another question".to_owned())),
        Err(Failure::Passing(reason)) => Err(SurveyError::Silent(reason)),
        Err(Failure::Final(error)) => Err(error.into()),
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

/// Unauthenticated as it is, nothing leaves this host.
fn check(address: &str) -> Result<SocketAddr, JoinError> {
    let found = resolve(address).ok_or_else(|| JoinError::Address(address.to_owned()))?;
    loopback_only(found).map_err(|_| JoinError::NotLoopback(found))
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

/// One attempt at one address.
fn ask(
    address: &str,
    options: &JoinOptions,
    request: &JoinRequest,
    cancelled: &AtomicBool,
) -> Result<JoinReply, Failure> {
    let to =
        resolve(address).ok_or_else(|| Failure::Final(JoinError::Address(address.to_owned())))?;
    let mut socket = TcpStream::connect_timeout(&to, CONNECT_MAX)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(LISTEN))?;
    socket.set_write_timeout(Some(CONNECT_MAX))?;
    let (greeted_by, deadline) = (clock::now() + HANDSHAKE_MAX, clock::now() + ANSWER_MAX);
    let mut parser = Parser::new(Phase::AwaitWelcome);

    say(&mut socket, hello::encode(Kind::Hello, &greeting(options)))?;
    let (kind, payload) = hear(&socket, &mut parser, greeted_by, cancelled)?;
    if kind == Kind::Refused {
        let reason = hello::decode::<Refusal>(&payload).unwrap_or(Refusal::Malformed).to_string();
        return Err(Failure::Final(JoinError::Refused { address: address.to_owned(), reason }));
    }
    parser.enter(Phase::AwaitJoined);
    say(&mut socket, hello::encode(Kind::Join, request))?;
    let (_, payload) = hear(&socket, &mut parser, deadline, cancelled)?;
    hello::decode(&payload).ok_or_else(|| Failure::Passing("malformed answer".to_owned()))
}

/// The greeting of a node that is nobody yet.
fn greeting(options: &JoinOptions) -> Hello {
    Hello {
        protocol: PROTOCOL,
        cluster: options.cluster,
        epoch: Epoch::ZERO,
        from: NodeId::ZERO,
        name: options.name.clone(),
        address: options.address.clone(),
        to: NodeId::ZERO,
        lineage: Lineage::default(),
        purpose: Purpose::Join,
    }
}

fn say(socket: &mut TcpStream, frame: Option<Frame>) -> Result<(), Failure> {
    let frame = frame.ok_or_else(|| Failure::Passing("too long a name or address".to_owned()))?;
    Ok(socket.write_all(&[&frame.header[..], &frame.payload].concat())?)
}

/// Waits for one frame.
fn hear(
    socket: &TcpStream,
    parser: &mut Parser,
    deadline: Instant,
    cancelled: &AtomicBool,
) -> Result<(Kind, Vec<u8>), Failure> {
    loop {
        if let Some(frame) = parser.next_frame().map_err(|e| Failure::Passing(e.to_string()))? {
            return Ok(frame);
        }
        let read = |buffer: &mut Vec<u8>| {
            Ok(rustix::io::read(socket, rustix::buffer::spare_capacity(buffer))?)
        };
        match parser.fill(read) {
            Ok(0) => return Err(Failure::Passing("closed without an answer".to_owned())),
            Ok(_) => {}
            Err(error) if is_pause(&error) => {
                if cancelled.load(Ordering::SeqCst) {
                    return Err(Failure::Final(JoinError::Cancelled));
                }
                if clock::now() >= deadline {
                    return Err(Failure::Passing("no answer in time".to_owned()));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
