//! Putting the parts of the log together. Nothing runs yet afterwards: threads are born above.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicBool;

use crossbeam_channel::Receiver;
use mio::Poll;
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{ClusterId, Epoch, Incarnation, Index, LogPosition, NodeId};
use pickbox_raft_core::members::Members;
use pickbox_raft_core::time::Time;
use pickbox_raft_core::{Config, Core, Event, Restored};

use crate::api::Delivery;
use crate::bulk::{Bulk, BulkEvent, BulkHandle};
use crate::clock;
use crate::consensus::{Consensus, Handle, Pieces, port::LogPort};
use crate::disk::{Disk, DiskError};
use crate::identity::{self, Identity, IdentityError};
use crate::join::{self, JoinError, JoinOptions, Joined, Seed};
use crate::keys::{KeyError, KeyRing};
use crate::log_writer::LogWriter;
use crate::net::bell::Bell;
use crate::net::gate::Gate;
use crate::net::transport::{self, Transport};
use crate::net::trust::{Logged, Trust};
use crate::net::{LocalNode, Runs, Vouched};
use crate::token::Token;
use crate::trace::Tracer;
use crate::wal::{self, Wal, WalError};
use crate::{roster, runs};

/// What a node without state does first. With state it just goes on.
#[derive(Clone, Debug)]
pub enum Start {
    /// Nothing: state is expected.
    Existing,
    /// Begin a new cluster, as its only member.
    Bootstrap,
    /// Become a member of the cluster that has one of these members.
    Join {
        /// Whom to ask.
        seeds: Vec<Seed>,
        /// What lets it in, if it needs that.
        token: Option<Token>,
    },
    /// Begin as this member: it was taken in already, and holds nothing yet.
    Joined(Joined),
}

/// What [`open`] needs.
#[derive(Debug)]
pub struct Options<'a, D> {
    /// The state directory.
    pub disk: D,
    /// Where peers are listened to; see [`listen`].
    pub listener: TcpListener,
    /// The keys of this node: see [`KeyRing::load_or_create`].
    pub keys: KeyRing,
    /// The name that people chose for this node.
    pub name: String,
    /// Where peers reach it, `IP:PORT`.
    pub address: String,
    /// What to do without state.
    pub start: Start,
    /// Up to where the room above has applied the log, durably. Zero without state.
    pub applied: LogPosition,
    /// The members as of `applied`, when the room above got its state from a peer.
    pub installed: Option<Members>,
    /// The newest run of each member that the room above has seen in the log.
    pub runs: Runs,
    /// Where each step of the core is told, if anywhere.
    pub trace: Option<Tracer>,
    /// Set to give up waiting to join.
    pub cancelled: &'a AtomicBool,
}

/// The parts of a log that is ready to run.
#[derive(Debug)]
pub struct Parts<D: Disk> {
    /// The body of the thread `consensus`.
    pub consensus: Consensus,
    /// The body of the thread `log-writer`. Ends by itself after `consensus` did.
    pub log_writer: LogWriter<D>,
    /// The body of the thread `gate`. Ends by itself after `consensus` did.
    pub gate: Gate,
    /// The body of the thread `bulk`. Ends by itself after `consensus` did.
    pub bulk: Bulk,
    /// Commands to the log.
    pub handle: Handle,
    /// What the log tells.
    pub deliveries: Receiver<Delivery>,
    /// Contents to peers.
    pub bulk_handle: BulkHandle,
    /// Contents from peers.
    pub bulk_events: Receiver<BulkEvent>,
    /// Who this node is.
    pub me: LocalNode,
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub enum Error {
    /// The address cannot be listened at.
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no state, and nothing was said about how to get one.
    NoState,
    /// The state is of another node.
    OtherName {
        /// The name it has.
        found: String,
        /// The name that was asked for.
        wanted: String,
    },
    /// The identity cannot be read or stored.
    Identity(IdentityError),
    /// There is no key, or it cannot be read.
    Key(KeyError),
    /// The log cannot be read or made.
    Wal(WalError),
    /// The log has changed since it was durable. This node may not count as the member that it
    /// was, and has to be taken in anew.
    Rot {
        /// What was found.
        source: WalError,
        /// The members, as far as the log could be read.
        members: Box<Members>,
    },
    /// The state above stands beyond the end of the log, though entries are handed up only when
    /// they are durable: the log has lost some, or is an older one.
    LogBehind {
        /// Up to where the state above has applied.
        applied: Index,
        /// The last entry of the log.
        last: Index,
    },
    /// The cluster did not take this node in.
    Join(JoinError),
    /// The state directory fails.
    Disk(DiskError),
    /// The kernel refuses a poll, a socket or random bytes.
    Kernel(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, .. } => write!(f, "cannot listen at {address}"),
            Self::NoState => write!(f, "there is no state: bootstrap a cluster or join one"),
            Self::OtherName { found, wanted } => {
                write!(f, "the state is of the node {found:?}, not {wanted:?}")
            }
            Self::Identity(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
            Self::Wal(error) | Self::Rot { source: error, .. } => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
            Self::LogBehind { applied, last } => {
                write!(
                    f,
                    "the log ends at entry {last}, and entry {applied} was applied: it has lost some"
                )
            }
            Self::Join(error) => write!(f, "cannot join: {error}"),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::Kernel(source) => Some(source),
            Self::Identity(error) => error.source(),
            Self::Key(error) => error.source(),
            Self::Wal(error) | Self::Rot { source: error, .. } => error.source(),
            Self::Disk(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<IdentityError> for Error {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<DiskError> for Error {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}

/// Listens to peers.
///
/// # Errors
/// When the address is taken, or is none of this host's.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).map_err(|source| Error::Listen { address, source })
}

/// Reads what the disk holds, or begins a new log, and makes the threads' bodies. Waits for the
/// cluster when it joins one.
///
/// # Errors
/// See [`Error`].
pub fn open<D: Disk + Clone>(options: Options<'_, D>) -> Result<Parts<D>, Error> {
    let (identity, wal, restored) = recall_or_begin(&options)?;
    let incarnation = Incarnation::new(identity::random_u64()?.max(1));
    let opened = options.runs.get(&identity.node).copied();
    let lineage = runs::begin(&options.disk, incarnation, opened).map_err(Error::Disk)?;
    let (last, applied) = (restored.last().index, options.applied);
    if applied.index > last && options.installed.is_none() {
        return Err(Error::LogBehind { applied: applied.index, last });
    }
    let config = Config::new(identity.node, identity::random_u64()?);
    let core = Core::new(config, restored, applied.index, Time::default());
    let logged = Logged {
        in_force: (core.members(), core.members_index()),
        committed: (core.committed_members(), core.commit()),
    };
    let trust = Trust::new(logged, roster::load(&options.disk)?);
    // A change of the key may have been cut short: the members say which one is in force.
    if let Some(key) = trust.newest().members.get(identity.node).and_then(|me| me.key)
        && options.keys.is_listed(key)
    {
        options.keys.settle(&options.disk)?;
    }
    let me = LocalNode {
        cluster: identity.cluster,
        epoch: identity.epoch,
        node: identity.node,
        name: identity.name,
        address: options.address,
        incarnation,
        lineage,
        key: options.keys.current().fingerprint(),
    };
    let bulk = Bulk::open(me.clone(), options.keys.clone())?;
    let poll = Poll::new()?;
    let bell = Bell::new(poll.registry(), transport::BELL)?;
    let of = (me.cluster, me.epoch);
    let (gate, door) = Gate::open(options.listener, &options.keys, of, bell.clone())?;
    let transport = Transport::new(
        (poll, bell.clone()),
        (me.clone(), options.keys.clone()),
        (trust, options.runs),
        (door, bulk.door),
    );
    let (handle, commands) = Handle::new(bell.clone());
    let (log, jobs, events) = LogPort::new();
    let log_writer = LogWriter::new(wal, jobs, events, Box::new(move || bell.ring()));
    let pieces = Pieces {
        core,
        origin: clock::now(),
        transport,
        commands,
        log,
        applied: applied.index,
        tracer: options.trace,
    };
    let (mut consensus, deliveries) = Consensus::new(pieces);
    if let Some(members) = options.installed.filter(|_| applied.index > last) {
        consensus.step(Event::StateInstalled { at: applied, members });
    }
    Ok(Parts {
        consensus,
        log_writer,
        gate,
        bulk: bulk.bulk,
        handle,
        deliveries,
        bulk_handle: bulk.handle,
        bulk_events: bulk.events,
        me,
    })
}

fn recall_or_begin<D: Disk + Clone>(
    options: &Options<'_, D>,
) -> Result<(Identity, Wal<D>, Restored), Error> {
    identity::check_name(&options.name)?;
    let wal_options = wal::Options::new(identity::random_u64()?);
    let Some(identity) = Identity::load(&options.disk)? else {
        return begin(options, wal_options);
    };
    if identity.name != options.name {
        let (found, wanted) = (identity.name, options.name.clone());
        return Err(Error::OtherName { found, wanted });
    }
    if !matches!(options.start, Start::Existing) {
        log::info!("there is state: --bootstrap and --join are ignored");
    }
    let mut restored = Restored::default();
    match Wal::open(options.disk.clone(), wal_options, &mut |op| restored.replay(op)) {
        Ok(wal) => Ok((identity, wal, restored)),
        Err(source) if source.is_rot() => {
            Err(Error::Rot { source, members: Box::new(restored.members().clone()) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a node without state its first one: the log, and then, last, the identity.
fn begin<D: Disk + Clone>(
    options: &Options<'_, D>,
    wal_options: wal::Options,
) -> Result<(Identity, Wal<D>, Restored), Error> {
    let (name, address) = (options.name.clone(), options.address.clone());
    let (identity, members) = match &options.start {
        Start::Existing => return Err(Error::NoState),
        Start::Bootstrap => {
            let cluster = identity::random_cluster_id()?;
            let key = options.keys.current().fingerprint();
            let members = Members::bootstrap(name.clone(), address, key);
            // What a join that was broken off has left is of another cluster.
            roster::store(&options.disk, &Vouched { at: Index::ZERO, members: members.clone() })?;
            let (epoch, node) = (Epoch::ZERO, NodeId::new(1));
            (Identity { cluster, epoch, node, name }, members)
        }
        Start::Join { seeds, token } => {
            let asked = JoinOptions {
                seeds: seeds.clone(),
                cluster: ClusterId::default(),
                keys: options.keys.clone(),
                token: token.clone(),
                name: name.clone(),
                address,
            };
            let joined = join::join(&asked, options.cancelled).map_err(Error::Join)?;
            roster::store(&options.disk, &joined.peers)?;
            as_joined(&joined, name)
        }
        Start::Joined(joined) => {
            roster::store(&options.disk, &joined.peers)?;
            as_joined(joined, name)
        }
    };
    let first = LogOp::Reset { at: LogPosition::default(), members };
    let mut restored = Restored::default();
    restored.replay(&first).map_err(io::Error::other)?;
    let mut wal = Wal::create(options.disk.clone(), wal_options)?;
    wal.commit([first])?;
    identity.store(&options.disk)?;
    log::info!("new state: cluster={} node={}", identity.cluster, identity.node);
    Ok((identity, wal, restored))
}

/// The members come with the log; until then those that were told are listened to.
fn as_joined(joined: &Joined, name: String) -> (Identity, Members) {
    let Joined { cluster, epoch, node, .. } = *joined;
    (Identity { cluster, epoch, node, name }, Members::default())
}
