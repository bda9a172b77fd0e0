//! Whole nodes without a store: three threads of the log, and one that applies and notes.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use pickbox_raft_core::ids::{Incarnation, Index, LogPosition, NodeId, ReadId, Serial};
use pickbox_raft_core::log::{Content, Entry, Payload, Proposal};
use pickbox_raft_core::members::Member;

use crate::api::{
    Aim, Change, ChangeRefusal, Command, Delivery, Refusal, Role, Status, TransferFailure,
};
use crate::disk::RealDisk;
use crate::join::Seed;
use crate::keys::KeyRing;
use crate::net::LocalNode;
use crate::net::tests::rig::{PATIENCE, wait_until};
use crate::{Handle, Options, Parts, Start, open};

/// What a node's room above has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Data applied, once each, in order.
    pub(crate) data: Vec<Vec<u8>>,
    /// Entries that were duplicates.
    pub(crate) duplicates: usize,
    pub(crate) refused: Vec<(Serial, Refusal)>,
    pub(crate) reads: BTreeMap<ReadId, Option<Index>>,
    pub(crate) stopped: Option<String>,
    /// Runs that the log opened.
    pub(crate) opened: Vec<Incarnation>,
    applied: LogPosition,
    serials: BTreeMap<NodeId, (Incarnation, Serial)>,
}

impl Seen {
    /// Exactly once, as the room above decides it.
    fn apply(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.applied.index.next(), "entries come without gap");
        self.applied = entry.position();
        let Content::Proposal(proposal) = entry.content else { return };
        let Proposal { origin, incarnation, serial, payload, .. } = proposal;
        match payload {
            Payload::Open { .. } => {
                self.serials.insert(origin, (incarnation, serial));
                self.opened.push(incarnation);
            }
            Payload::Data(data) => {
                let last = self.serials.get(&origin).copied();
                if last == Some((incarnation, serial.previous())) {
                    self.serials.insert(origin, (incarnation, serial));
                    self.data.push(data);
                } else {
                    self.duplicates += 1;
                }
            }
        }
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) me: LocalNode,
    pub(crate) keys: KeyRing,
    pub(crate) handle: Handle,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) address: SocketAddr,
    next_serial: Mutex<Serial>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread")
}

/// What the thread `apply` does, without a store.
fn apply(deliveries: &Receiver<Delivery>, handle: &Handle, seen: &Mutex<Seen>) {
    for delivery in deliveries {
        let mut seen = seen.lock().expect("not poisoned");
        match delivery {
            Delivery::Entries(entries) => {
                for entry in entries {
                    seen.apply(entry);
                }
                let applied = seen.applied.index;
                let _ = handle.send(Command::Progress { applied, placed: applied });
            }
            Delivery::Refused { serial, reason } => seen.refused.push((serial, reason)),
            Delivery::Read { id, index } => drop(seen.reads.insert(id, index)),
            Delivery::Stopped(text) => seen.stopped = Some(text),
            Delivery::NeedState { .. } | Delivery::Role(_) => {}
        }
    }
}

/// To join by asking this node, as the same user of this host.
pub(crate) fn join_at(node: &Node) -> Start {
    let seed = Seed { address: node.address.to_string(), key: None };
    Start::Join { seeds: vec![seed], token: None }
}

impl Node {
    /// Starts a node on a directory; waits for the cluster when it joins one.
    pub(crate) fn start(directory: &Path, name: &str, start: Start, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let disk = RealDisk::open(directory).expect("a state directory");
        let keys = KeyRing::load_or_create(&disk).expect("a key");
        let parts = open(Options {
            disk,
            listener,
            keys: keys.clone(),
            name: name.to_owned(),
            address: address.to_string(),
            start,
            applied: LogPosition::default(),
            installed: None,
            runs: crate::net::Runs::new(),
            trace: None,
            cancelled: &AtomicBool::new(false),
        })
        .expect("it opens");
        Self::run(parts, keys, address)
    }

    fn run(parts: Parts<RealDisk>, keys: KeyRing, address: SocketAddr) -> Self {
        let Parts { consensus, log_writer, gate, bulk, handle, deliveries, me, .. } = parts;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (handle_, seen_) = (handle.clone(), Arc::clone(&seen));
        let threads = vec![
            thread("consensus", move || drop(consensus.run())),
            thread("log-writer", move || log_writer.run()),
            thread("gate", move || gate.run().expect("the gate runs")),
            thread("bulk", move || bulk.run().expect("bulk runs")),
            thread("apply", move || apply(&deliveries, &handle_, &seen_)),
        ];
        let next_serial = Mutex::new(Serial::new(1));
        let node = Self { me, keys, handle, seen, address, next_serial, threads };
        node.send(Payload::Open { name: node.me.name.clone() }, None);
        node
    }

    fn send(&self, payload: Payload, holders: Option<Vec<NodeId>>) -> Arc<Proposal> {
        let mut serial = self.next_serial.lock().expect("not poisoned");
        let (origin, incarnation) = (self.me.node, self.me.incarnation);
        let proposal = Proposal { origin, incarnation, serial: *serial, holders, payload };
        *serial = serial.next();
        let proposal = Arc::new(proposal);
        // One that found its state lost has ended already.
        let _ = self.handle.send(Command::Propose(Arc::clone(&proposal)));
        proposal
    }

    /// Whether the proposal with this serial was seen here.
    pub(crate) fn has_settled(&self, serial: Serial) -> bool {
        let seen = self.seen.lock().unwrap();
        let last = seen.serials.get(&self.me.node).copied();
        last.is_some_and(|(run, last)| run == self.me.incarnation && last >= serial)
    }

    /// Waits until the proposal with this serial was seen here.
    pub(crate) fn settle(&self, serial: Serial) {
        wait_until("the proposal is applied at its origin", || self.has_settled(serial));
        self.handle.send(Command::Settled(serial)).expect("it runs");
    }

    /// Waits until the run is open.
    pub(crate) fn settle_open(&self) {
        self.settle(Serial::new(1));
    }

    /// Proposes data and waits until it is applied here.
    pub(crate) fn propose(&self, data: &[u8]) {
        let proposal = self.begin(data);
        self.settle(proposal.serial);
    }

    /// Proposes data.
    pub(crate) fn begin(&self, data: &[u8]) -> Arc<Proposal> {
        self.settle_open();
        self.send(Payload::Data(data.to_vec()), None)
    }

    /// Proposes data that these nodes are said to hold.
    pub(crate) fn begin_held(&self, data: &[u8], holders: &[NodeId]) -> Arc<Proposal> {
        self.settle_open();
        self.send(Payload::Data(data.to_vec()), Some(holders.to_vec()))
    }

    pub(crate) fn status(&self) -> Status {
        let (reply, answer) = bounded(1);
        self.handle.send(Command::Status(reply)).expect("it runs");
        answer.recv_timeout(PATIENCE).expect("answered at once")
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.status().role.role == Role::Leader
    }

    pub(crate) fn add(&self, name: &str, address: &str) -> Result<NodeId, ChangeRefusal> {
        let (name, address) = (name.to_owned(), address.to_owned());
        self.change(Change::Add { name, address, aim: Aim::Voter }).map(|member| member.id)
    }

    /// Changes the members, from here.
    pub(crate) fn change(&self, change: Change) -> Result<Member, ChangeRefusal> {
        let (reply, answer) = bounded(1);
        self.handle.send(Command::ChangeMembers { change, reply }).expect("it runs");
        answer.recv_timeout(PATIENCE).expect("answered")
    }

    /// Hands leadership over, from here.
    pub(crate) fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, TransferFailure> {
        let (reply, answer) = bounded(1);
        self.handle.send(Command::Transfer { to, reply }).expect("it runs");
        answer.recv_timeout(PATIENCE).expect("answered")
    }

    /// Why it stopped, once it has.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.seen.lock().unwrap().stopped.clone()
    }

    pub(crate) fn data(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().data.clone()
    }

    /// Stops it in good order.
    pub(crate) fn stop(mut self) -> Arc<Mutex<Seen>> {
        self.end();
        Arc::clone(&self.seen)
    }

    fn end(&mut self) {
        // One that has stopped by itself is asked in vain.
        let _ = self.handle.send(Command::Shutdown);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// Directories for nodes.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn of(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new cluster's first node.
    pub(crate) fn first(&self) -> Node {
        Node::start(&self.of("node1"), "node1", Start::Bootstrap, 0)
    }

    /// One more node of a cluster.
    pub(crate) fn join(&self, name: &str, at: &Node) -> Node {
        Node::start(&self.of(name), name, join_at(at), 0)
    }

    /// A node that was there before, at its address.
    pub(crate) fn again(&self, name: &str, address: SocketAddr) -> Node {
        Node::start(&self.of(name), name, Start::Existing, address.port())
    }

    /// Three voters.
    pub(crate) fn three(&self) -> Vec<Node> {
        let first = self.first();
        first.settle_open();
        let second = self.join("node2", &first);
        let third = self.join("node3", &first);
        let nodes = vec![first, second, third];
        wait_until("all three are voters", || voters(&nodes[0]) == 3);
        nodes.iter().for_each(Node::settle_open);
        nodes
    }
}

/// How many voters a node knows; none while that changes.
pub(crate) fn voters(node: &Node) -> usize {
    let status = node.status();
    let is_voter = |member: &&crate::api::MemberStatus| member.member.role.is_voter();
    if status.changing { 0 } else { status.members.iter().filter(is_voter).count() }
}

/// Splits off the leader.
pub(crate) fn leader(nodes: &mut Vec<Node>) -> Node {
    wait_until("somebody leads", || nodes.iter().any(Node::is_leader));
    let position = nodes.iter().position(Node::is_leader).expect("just seen");
    nodes.remove(position)
}
