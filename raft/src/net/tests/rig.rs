//! Nodes in threads, without a core: enough to see who connects and what arrives.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Poll;
use pickbox_raft_core::ids::{ClusterId, Epoch, Fingerprint, Incarnation, Index, NodeId};
use pickbox_raft_core::members::{Member, MemberRole, Members};

use crate::bulk::{Bulk, BulkEvent, BulkHandle};
use crate::clock;
use crate::keys::KeyRing;
use crate::net::Vouched;
use crate::net::bell::Bell;
use crate::net::frame::Kind;
use crate::net::gate::Gate;
use crate::net::hello::{LocalNode, Runs};
use crate::net::probe::everywhere;
use crate::net::transport::{BELL, Incoming, Traffic, Transport};
use crate::net::trust::Logged;
use crate::runs::Lineage;

/// No test waits longer for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `done`, and says what did not come.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !done() {
        assert!(clock::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

pub(crate) fn node(number: u64) -> NodeId {
    NodeId::new(number)
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

pub(crate) fn identity(number: u64, address: SocketAddr) -> LocalNode {
    LocalNode {
        cluster: ClusterId([7; 16]),
        epoch: Epoch::ZERO,
        node: node(number),
        name: format!("node{number}"),
        address: address.to_string(),
        incarnation: Incarnation::new(1_000 + number),
        lineage: Lineage::of(Incarnation::new(1_000 + number)),
        key: key(number),
    }
}

/// Each node has a key of its own, the same in each run.
pub(crate) fn keys(number: u64) -> KeyRing {
    KeyRing::of_number(u8::try_from(number).expect("few"))
}

pub(crate) fn key(number: u64) -> Fingerprint {
    keys(number).current().fingerprint()
}

pub(crate) fn members(addresses: &[SocketAddr]) -> Members {
    let member = |(number, address): (u64, &SocketAddr)| Member {
        id: node(number),
        name: format!("node{number}"),
        address: address.to_string(),
        role: MemberRole::Voter,
        key: Some(key(number)),
    };
    let next_id = node(u64::try_from(addresses.len()).expect("few") + 1);
    let members = (1..).zip(addresses).map(member).collect();
    Members { members, next_id, ..Members::default() }
}

/// Orders for a node's consensus thread.
pub(crate) enum Order {
    Send(NodeId, Kind, Vec<u8>),
    /// These are committed.
    Members(Members),
    /// This member tells of these.
    Vouch(NodeId, Vouched),
    Traffic(Sender<Traffic>),
}

/// A node: its transport in one thread, its bulk in another.
pub(crate) struct Node {
    pub(crate) incoming: Receiver<Incoming>,
    orders: Sender<Order>,
    bell: Bell,
    stop: Arc<AtomicBool>,
    pub(crate) bulk: BulkHandle,
    pub(crate) events: Receiver<BulkEvent>,
    pub(crate) address: String,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread")
}

impl Node {
    pub(crate) fn start(me: LocalNode, listener: TcpListener, members: &Members) -> Self {
        let keys = keys(me.node.get());
        Self::with_keys((me, keys), listener, members)
    }

    /// A node that dials for consensus alone.
    pub(crate) fn without_bulk(me: LocalNode, listener: TcpListener, members: &Members) -> Self {
        let keys = keys(me.node.get());
        Self::begin((me, keys), listener, members, false)
    }

    pub(crate) fn with_keys(
        who: (LocalNode, KeyRing),
        listener: TcpListener,
        members: &Members,
    ) -> Self {
        Self::begin(who, listener, members, true)
    }

    fn begin(
        (me, keys): (LocalNode, KeyRing),
        listener: TcpListener,
        members: &Members,
        with_bulk: bool,
    ) -> Self {
        let address = me.address.clone();
        let parts = Bulk::open(me.clone(), keys.clone()).expect("a poll");
        let poll = Poll::new().expect("a poll");
        let bell = Bell::new(poll.registry(), BELL).expect("a bell");
        let of = (me.cluster, me.epoch);
        let (gate, door) = Gate::open(listener, &keys, of, bell.clone()).expect("a gate");
        let known = (everywhere(members), Runs::new());
        let mut transport =
            Transport::new((poll, bell.clone()), (me, keys), known, (door, parts.door));
        let stop = Arc::new(AtomicBool::new(false));
        let (orders, inbox) = unbounded();
        let (outbox, incoming) = unbounded();
        let stopped = Arc::clone(&stop);
        let consensus = thread("consensus", move || {
            while !stopped.load(Ordering::SeqCst) {
                turn(&mut transport, (&inbox, &stopped), &outbox);
            }
        });
        let gate = thread("gate", move || gate.run().expect("the gate runs"));
        let mut threads = vec![consensus, gate];
        if with_bulk {
            threads.push(thread("bulk", move || parts.bulk.run().expect("bulk runs")));
        }
        let (bulk, events) = (parts.handle, parts.events);
        Self { incoming, orders, bell, stop, bulk, events, address, threads }
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order).expect("the node runs");
        self.bell.ring();
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let (reply, answer) = unbounded();
        self.order(Order::Traffic(reply));
        answer.recv_timeout(PATIENCE).expect("an answer")
    }

    /// Waits for something particular; what comes before is dropped.
    pub(crate) fn expect(&self, wanted: impl Fn(&Incoming) -> bool) -> Incoming {
        let deadline = clock::now() + PATIENCE;
        loop {
            let incoming = self.incoming.recv_deadline(deadline).expect("it comes in time");
            if wanted(&incoming) {
                return incoming;
            }
        }
    }

    pub(crate) fn expect_event(&self, wanted: &BulkEvent) {
        let deadline = clock::now() + PATIENCE;
        while &self.events.recv_deadline(deadline).expect("it comes in time") != wanted {}
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.bell.ring();
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

fn turn(
    transport: &mut Transport,
    (inbox, stop): (&Receiver<Order>, &AtomicBool),
    outbox: &Sender<Incoming>,
) {
    let mut incoming = Vec::new();
    for order in inbox.try_iter() {
        match order {
            Order::Send(to, kind, payload) => transport.send(to, kind, payload),
            Order::Members(members) => {
                let at = Index::new(1);
                let logged = Logged { in_force: (&members, at), committed: (&members, at) };
                transport.follow(logged, &mut incoming);
            }
            Order::Vouch(by, vouched) => transport.vouch(by, vouched, &mut incoming),
            Order::Traffic(reply) => drop(reply.send(transport.traffic())),
        }
    }
    transport.flush(&mut incoming);
    transport.bell().clone().may_sleep();
    let now: Instant = clock::now();
    let due = transport.deadline().map(|due| due.saturating_duration_since(now));
    // Whatever ends the sleep is looked at after `may_sleep`: a ring before it wakes nobody.
    let asked = !inbox.is_empty() || stop.load(Ordering::SeqCst);
    let idle = !asked && !transport.wants_turn() && incoming.is_empty();
    let timeout = if idle { due } else { Some(Duration::ZERO) };
    transport.turn(timeout, &mut incoming).expect("the transport runs");
    for item in incoming {
        // A test that ends does not listen to the last words.
        let _ = outbox.send(item);
    }
}

/// A full mesh of this many nodes.
pub(crate) fn mesh(count: u64) -> Vec<Node> {
    let listeners: Vec<_> = (0..count).map(|_| listen()).collect();
    let addresses: Vec<_> = listeners.iter().map(|(_, address)| *address).collect();
    let members = members(&addresses);
    let start = |(number, (listener, address)): (u64, (TcpListener, SocketAddr))| {
        Node::start(identity(number, address), listener, &members)
    };
    (1..).zip(listeners).map(start).collect()
}
