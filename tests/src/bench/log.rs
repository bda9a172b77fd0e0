//! The replicated log alone: three nodes with real disks and real sockets, and above each of them a
//! room that does nothing but remember. What clients want while a proposal is under way gathers and
//! becomes the next one, as in the engine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use pickbox_raft::api::{Command, Delivery};
use pickbox_raft::core::ids::{LogPosition, Serial};
use pickbox_raft::core::log::{Content, Payload, Proposal};
use pickbox_raft::disk::RealDisk;
use pickbox_raft::join::Seed;
use pickbox_raft::keys::KeyRing;
use pickbox_raft::net::{LocalNode, Runs};
use pickbox_raft::{Handle, Options, Parts, Start, listen, open};

use super::puts::Put;

/// What one proposal carries at most.
const PROPOSAL_BYTES_MAX: usize = 1024 * 1024;
/// The log is compacted whenever so many entries were applied.
const CHECKPOINT_EVERY: u64 = 500;

/// A value and who waits for it.
type Wish = (Vec<u8>, Sender<()>);

/// One client of the leader.
pub(super) struct LogClient {
    wishes: Sender<Wish>,
    done: (Sender<()>, Receiver<()>),
}

impl LogClient {
    pub(super) fn new(wishes: Sender<Wish>) -> Self {
        Self { wishes, done: bounded(1) }
    }
}

impl Put for LogClient {
    fn put(&mut self, _key: &str, value: &[u8]) {
        self.wishes.send((value.to_vec(), self.done.0.clone())).expect("the node runs");
        self.done.1.recv().expect("it is committed");
    }
}

/// Three nodes of the log in this process.
pub(super) struct LogCluster {
    nodes: Vec<LogNode>,
}

struct LogNode {
    handle: Handle,
    wishes: Sender<Wish>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl LogCluster {
    pub(super) fn start(root: &Path) -> Self {
        let first = LogNode::start(&root.join("log1"), "log1", Start::Bootstrap);
        let seed = Seed { address: first.address.to_string(), key: None };
        let mut nodes = vec![first];
        for name in ["log2", "log3"] {
            let join = Start::Join { seeds: vec![seed.clone()], token: None };
            nodes.push(LogNode::start(&root.join(name), name, join));
        }
        let cluster = Self { nodes };
        while cluster.voters() < 3 {
            std::thread::yield_now();
        }
        cluster
    }

    fn voters(&self) -> usize {
        let (reply, answer) = bounded(1);
        self.nodes[0].handle.send(Command::Status(reply)).expect("it runs");
        let status = answer.recv().expect("a status");
        let voters = status.members.iter().filter(|known| known.member.role.is_voter());
        if status.changing { 0 } else { voters.count() }
    }

    /// Where the leader, which is the founder, takes values.
    pub(super) fn leader(&self) -> Sender<Wish> {
        self.nodes[0].wishes.clone()
    }

    /// Syncs of all logs so far.
    pub(super) fn wal_syncs(&self) -> u64 {
        let of = |node: &LogNode| {
            let (reply, answer) = bounded(1);
            node.handle.send(Command::Status(reply)).expect("it runs");
            answer.recv().expect("a status").counters.wal_syncs
        };
        self.nodes.iter().map(of).sum()
    }
}

impl Drop for LogCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended by itself.
            let _ = node.handle.send(Command::Shutdown);
        }
        for thread in self.nodes.iter_mut().flat_map(|node| node.threads.drain(..)) {
            thread.join().expect("it ends in order");
        }
    }
}

impl LogNode {
    fn start(directory: &Path, name: &str, start: Start) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let disk = RealDisk::open(directory).expect("a state directory");
        let parts = open(Options {
            keys: KeyRing::load_or_create(&disk).expect("a key"),
            disk,
            listener,
            name: name.to_owned(),
            address: address.to_string(),
            start,
            applied: LogPosition::default(),
            installed: None,
            runs: Runs::new(),
            trace: None,
            cancelled: &AtomicBool::new(false),
        });
        let Parts { consensus, log_writer, gate, bulk, handle, deliveries, me, .. } =
            parts.expect("it opens");
        let (wishes, wanted) = unbounded();
        let room = Room::new(me, handle.clone());
        let threads = vec![
            thread("consensus", move || drop(consensus.run())),
            thread("log-writer", move || log_writer.run()),
            thread("gate", move || gate.run().expect("the gate runs")),
            thread("bulk", move || bulk.run().expect("bulk runs")),
            thread("room", move || room.run(&deliveries, &wanted)),
        ];
        Self { handle, wishes, address, threads }
    }
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread")
}

/// What stands above the log.
struct Room {
    me: LocalNode,
    handle: Handle,
    serial: Serial,
    /// Who waits for the proposal that is under way, if one is.
    under_way: Option<Vec<Sender<()>>>,
    gathered: Vec<Wish>,
}

impl Room {
    fn new(me: LocalNode, handle: Handle) -> Self {
        let mut room =
            Self { me, handle, serial: Serial::ZERO, under_way: None, gathered: Vec::new() };
        let name = room.me.name.clone();
        room.propose(Payload::Open { name }, Vec::new());
        room
    }

    fn run(mut self, deliveries: &Receiver<Delivery>, wanted: &Receiver<Wish>) {
        loop {
            select! {
                recv(deliveries) -> delivery => match delivery {
                    Ok(Delivery::Entries(entries)) => {
                        for entry in &entries {
                            self.apply(&entry.content);
                        }
                        if let Some(last) = entries.last() {
                            self.progress(LogPosition { index: last.index, term: last.term });
                        }
                    }
                    Ok(Delivery::Stopped(_)) | Err(_) => return,
                    Ok(_) => {}
                },
                recv(wanted) -> wish => {
                    self.gathered.extend(wish);
                    self.gathered.extend(wanted.try_iter());
                }
            }
            self.propose_gathered();
        }
    }

    fn apply(&mut self, content: &Content) {
        let Content::Proposal(proposal) = content else { return };
        let ours = proposal.origin == self.me.node && proposal.incarnation == self.me.incarnation;
        if !ours || proposal.serial != self.serial {
            return;
        }
        let _ = self.handle.send(Command::Settled(self.serial));
        for waiting in self.under_way.take().into_iter().flatten() {
            let _ = waiting.send(());
        }
    }

    fn progress(&self, at: LogPosition) {
        let _ = self.handle.send(Command::Progress { applied: at.index, placed: at.index });
        if at.index.get().is_multiple_of(CHECKPOINT_EVERY) {
            let _ = self.handle.send(Command::Checkpoint(at));
        }
    }

    fn propose_gathered(&mut self) {
        if self.under_way.is_some() || self.gathered.is_empty() {
            return;
        }
        let (mut data, mut count) = (Vec::new(), 0);
        for (value, _) in &self.gathered {
            if count > 0 && data.len() + value.len() > PROPOSAL_BYTES_MAX {
                break;
            }
            data.extend_from_slice(value);
            count += 1;
        }
        let waiting = self.gathered.drain(..count).map(|(_, done)| done).collect();
        self.propose(Payload::Data(data), waiting);
    }

    fn propose(&mut self, payload: Payload, waiting: Vec<Sender<()>>) {
        self.serial = self.serial.next();
        self.under_way = Some(waiting);
        let proposal = Proposal {
            origin: self.me.node,
            incarnation: self.me.incarnation,
            serial: self.serial,
            holders: None,
            payload,
        };
        // The log ends before its rooms only when the measuring does.
        let _ = self.handle.send(Command::Propose(Arc::new(proposal)));
    }
}
