//! Workers on real files, joined by channels instead of sockets, all turned by one thread.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};
use pickbox_raft::bulk::{BulkError, BulkEvent};
use pickbox_raft::clock;
use pickbox_raft::core::ids::{Incarnation, NodeId};
use tempfile::TempDir;

use super::{ContentParts, ContentWorker, Turn};
use crate::content_id::ContentId;
use crate::contents::history::{HistoryStore, Kept, Object};
use crate::contents::machine::PullKey;
use crate::contents::staging::{Partial, Verdict, recover, staged_name};
use crate::contents::wire::Wire;
use crate::contents::{
    ContentCommand, ContentEvent, FetchFailure, OfferRequest, PIECE_BYTES, Quorum, Ticket,
    WINDOW_PIECES,
};
use crate::folder::{Folder, Stat};
use crate::name::{Name, RelPath};

type Inboxes = Arc<Mutex<BTreeMap<NodeId, Sender<BulkEvent>>>>;

/// Sends into the inboxes of whoever is alive.
struct Channels {
    me: NodeId,
    inboxes: Inboxes,
}

impl Wire for Channels {
    fn room(&self, to: NodeId) -> Result<(), BulkError> {
        let inboxes = self.inboxes.lock().unwrap();
        inboxes.get(&to).map(|_| ()).ok_or(BulkError::Unreachable)
    }

    fn send(&self, to: NodeId, bytes: Vec<u8>) -> Result<(), BulkError> {
        let inboxes = self.inboxes.lock().unwrap();
        let inbox = inboxes.get(&to).ok_or(BulkError::Unreachable)?;
        let window = usize::try_from(WINDOW_PIECES).unwrap();
        assert!(inbox.len() < (window + 1) * 3 + 64, "memory: {} messages wait", inbox.len());
        inbox.send(BulkEvent::Message { from: self.me, bytes }).unwrap();
        Ok(())
    }
}

struct Node {
    worker: ContentWorker,
    commands: Sender<ContentCommand>,
    events: Receiver<ContentEvent>,
    seen: Vec<ContentEvent>,
}

struct Cluster {
    dir: TempDir,
    nodes: BTreeMap<u64, Node>,
    inboxes: Inboxes,
    runs: u64,
}

fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Bytes of which no two pieces are the same.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let blocks = (0_u64..).map(|block| {
        let mut bytes = [u8::try_from(block % 251).unwrap(); 1024];
        bytes[..8].copy_from_slice(&block.to_le_bytes());
        bytes[8..16].copy_from_slice(&seed.to_le_bytes());
        bytes
    });
    let mut all = Vec::with_capacity(len + 1024);
    blocks.take(len / 1024 + 1).for_each(|block| all.extend_from_slice(&block));
    all.truncate(len);
    all
}

impl Cluster {
    fn new(nodes: u64) -> Self {
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            nodes: BTreeMap::new(),
            inboxes: Inboxes::default(),
            runs: 0,
        };
        (1..=nodes).for_each(|id| cluster.start(id));
        cluster
    }

    fn path(&self, id: u64, place: &str) -> PathBuf {
        self.dir.path().join(format!("{place}{id}"))
    }

    fn open(&self, id: u64, place: &str) -> Folder {
        let path = self.path(id, place);
        fs::create_dir_all(&path).unwrap();
        Folder::open(&path).unwrap()
    }

    fn start(&mut self, id: u64) {
        self.runs += 1;
        let staging = self.open(id, "staging").dir(&RelPath::root()).unwrap();
        let recovered = recover(&staging).unwrap();
        let history = self.open(id, "history").dir(&RelPath::root()).unwrap();
        let folder = Arc::new(self.open(id, "folder"));
        let (inbox, messages) = unbounded();
        let (commands, command_end) = unbounded();
        let (event_end, events) = unbounded();
        let place = self.path(id, "folder");
        let engine = crossbeam_channel::bounded(1).0;
        let worker = ContentWorker::new(ContentParts {
            engine,
            node: node(id),
            incarnation: Incarnation::new(self.runs),
            folder: Arc::clone(&folder),
            staging,
            recovered,
            history: Arc::new(HistoryStore::open(history).unwrap()),
            locate: Box::new(move |content| locate(&place, content)),
            wire: Box::new(Channels { me: node(id), inboxes: Arc::clone(&self.inboxes) }),
            messages,
            commands: command_end,
            events: event_end,
        });
        let others: Vec<u64> = self.nodes.keys().copied().collect();
        for other in others {
            inbox.send(BulkEvent::Up(node(other))).unwrap();
            self.inboxes.lock().unwrap()[&node(other)].send(BulkEvent::Up(node(id))).unwrap();
        }
        self.inboxes.lock().unwrap().insert(node(id), inbox);
        self.nodes.insert(id, Node { worker, commands, events, seen: Vec::new() });
    }

    fn kill(&mut self, id: u64) {
        self.nodes.remove(&id);
        self.inboxes.lock().unwrap().remove(&node(id));
        for inbox in self.inboxes.lock().unwrap().values() {
            inbox.send(BulkEvent::Down(node(id))).unwrap();
        }
    }

    /// Turns every worker so often, or until none has anything to do.
    fn turns(&mut self, most: usize) {
        for _ in 0..most {
            let mut worked = false;
            for node in self.nodes.values_mut() {
                worked |= node.worker.turn() == Turn::Worked;
                node.seen.extend(node.events.try_iter());
            }
            if !worked {
                return;
            }
        }
    }

    fn settle(&mut self) {
        self.turns(usize::MAX);
    }

    fn command(&self, id: u64, command: ContentCommand) {
        self.nodes[&id].commands.send(command).unwrap();
    }

    fn write(&self, id: u64, file: &str, bytes: &[u8]) -> Stat {
        fs::write(self.path(id, "folder").join(file), bytes).unwrap();
        self.open(id, "folder").dir(&RelPath::root()).unwrap().stat(&name(file)).unwrap()
    }

    fn offer(&self, id: u64, ticket: u64, file: &str, expect: Stat, nodes: u64) {
        let peers = (1..=nodes).filter(|peer| *peer != id).map(node).collect();
        self.command(
            id,
            ContentCommand::Offer(OfferRequest {
                ticket: Ticket(ticket),
                path: RelPath::new(file).unwrap(),
                expect,
                peers,
                quorum: Quorum { sets: vec![(1..=nodes).map(node).collect()] },
            }),
        );
    }

    fn staged(&self, id: u64, content: ContentId) -> Option<Vec<u8>> {
        fs::read(self.path(id, "staging").join(format!("c.{content}"))).ok()
    }

    fn staging_names(&self, id: u64) -> Vec<String> {
        let entries = fs::read_dir(self.path(id, "staging")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn held(&self, id: u64) -> Option<(ContentId, Vec<NodeId>)> {
        self.nodes[&id].seen.iter().rev().find_map(|event| match event {
            ContentEvent::Held { content, holders, .. } => Some((*content, holders.clone())),
            _ => None,
        })
    }

    fn fetch(&self, id: u64, bytes: &[u8]) {
        let size = u64::try_from(bytes.len()).unwrap();
        let content = ContentId::of(bytes);
        self.command(id, ContentCommand::Fetch { content, size, from: vec![] });
    }
}

/// What the engine's index would say: every file of the folder that holds the content.
fn locate(folder: &Path, content: ContentId) -> Vec<(RelPath, Stat)> {
    let dir = Folder::open(folder).unwrap();
    let root = dir.dir(&RelPath::root()).unwrap();
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let holding = entries
        .filter(|entry| fs::read(entry.path()).is_ok_and(|bytes| ContentId::of(&bytes) == content));
    let names = holding.map(|entry| entry.file_name().into_string().unwrap());
    names
        .map(|file| (RelPath::new(file.as_str()).unwrap(), root.stat(&name(&file)).unwrap()))
        .collect()
}

#[test]
fn a_large_file_reaches_both_peers_byte_for_byte() {
    let mut cluster = Cluster::new(3);
    let data = bytes(1, 40 * PIECE_BYTES + 12_345);
    let stat = cluster.write(1, "big", &data);
    cluster.offer(1, 1, "big", stat, 3);
    cluster.settle();
    let content = ContentId::of(&data);
    assert_eq!(cluster.held(1), Some((content, vec![node(2), node(3)])));
    for id in [2, 3] {
        assert!(cluster.staged(id, content).as_deref() == Some(&data[..]), "on {id}");
        assert_eq!(cluster.staging_names(id).len(), 1, "nothing else is left");
    }
    assert!(cluster.staging_names(1).is_empty());
}

/// Trap T6.
#[test]
fn a_file_written_to_on_its_way_is_reported_and_leaves_nothing() {
    let mut cluster = Cluster::new(3);
    let stat = cluster.write(1, "big", &bytes(1, 20 * PIECE_BYTES));
    cluster.offer(1, 1, "big", stat, 3);
    cluster.turns(5);
    cluster.write(1, "big", &bytes(2, 20 * PIECE_BYTES));
    cluster.settle();
    assert_eq!(cluster.nodes[&1].seen, [ContentEvent::Changed(Ticket(1))]);
    for id in 1..=3 {
        assert!(cluster.staging_names(id).is_empty(), "on {id}");
    }
}

/// Fault 1 and the like: a peer dies in the middle; the origin's own copy makes the majority.
#[test]
fn a_peer_that_dies_in_the_middle_is_replaced() {
    let mut cluster = Cluster::new(3);
    let data = bytes(1, 20 * PIECE_BYTES);
    let stat = cluster.write(1, "big", &data);
    cluster.offer(1, 1, "big", stat, 3);
    cluster.turns(6);
    cluster.kill(3);
    cluster.settle();
    let content = ContentId::of(&data);
    assert_eq!(cluster.held(1), Some((content, vec![node(1), node(2)])));
    assert!(cluster.staged(1, content).as_deref() == Some(&data[..]));
    assert!(cluster.staging_names(3).iter().all(|name| name.starts_with("t.")));
    cluster.start(3);
    cluster.settle();
    assert_eq!(cluster.held(1), Some((content, vec![node(1), node(2), node(3)])));
    cluster.command(1, ContentCommand::Settle(Ticket(1)));
    cluster.settle();
    assert!(cluster.staging_names(1).is_empty(), "its own copy goes with the offer");
}

#[test]
fn a_lone_voter_holds_its_live_file() {
    let mut cluster = Cluster::new(1);
    let data = bytes(1, 3 * PIECE_BYTES);
    let stat = cluster.write(1, "big", &data);
    cluster.offer(1, 1, "big", stat, 1);
    cluster.settle();
    assert_eq!(cluster.held(1), Some((ContentId::of(&data), vec![node(1)])));
    assert!(cluster.staging_names(1).is_empty());
}

/// Source: trap T30: no store of contents beside the folder; the files themselves are read.
#[test]
fn a_fetch_finds_staging_history_and_live_files_of_peers() {
    let mut cluster = Cluster::new(3);
    let (staged, kept, live) = (bytes(1, 50_000), bytes(2, 3 * PIECE_BYTES), bytes(3, 90_000));
    let small = bytes(4, 700);
    fs::write(cluster.path(2, "staging").join(format!("c.{}", ContentId::of(&staged))), &staged)
        .unwrap();
    cluster.write(3, "live", &live);
    cluster.write(3, "small", &small);
    let stat = cluster.write(2, "kept", &kept);
    let history = cluster.open(2, "history").dir(&RelPath::root()).unwrap();
    let history = HistoryStore::open(history).unwrap();
    let folder = cluster.open(2, "folder").dir(&RelPath::root()).unwrap();
    history.keep(&folder, &name("kept"), ContentId::of(&kept)).unwrap();
    assert_eq!(stat.size, 3 * 1024 * 1024);
    for data in [&staged, &kept, &live, &small] {
        cluster.fetch(1, data);
    }
    cluster.settle();
    for data in [&staged, &kept, &live, &small] {
        let content = ContentId::of(data);
        assert!(cluster.nodes[&1].seen.contains(&ContentEvent::Fetched(content)));
        assert_eq!(cluster.staged(1, content).as_deref(), Some(&data[..]));
        cluster.command(1, ContentCommand::Release(content));
    }
    cluster.settle();
    assert!(cluster.staging_names(1).is_empty());
}

/// Source: trap T24: with reflinks or without, what is here already does not come over the network.
#[test]
fn a_fetch_copies_what_is_on_this_node() {
    let mut cluster = Cluster::new(1);
    let data = bytes(1, 2 * PIECE_BYTES + 1);
    cluster.write(1, "same", &data);
    cluster.fetch(1, &data);
    cluster.settle();
    let content = ContentId::of(&data);
    assert_eq!(cluster.nodes[&1].seen, [ContentEvent::Fetched(content)]);
    assert!(cluster.staged(1, content).as_deref() == Some(&data[..]));
}

/// Fault 61: rot on a peer's disk never becomes a file here, and the peer removes it.
#[test]
fn rotten_history_is_not_believed_and_is_removed() {
    let mut cluster = Cluster::new(2);
    let data = bytes(1, 2 * PIECE_BYTES);
    let content = ContentId::of(&data);
    let group = cluster.path(2, "history").join(&content.to_string()[..2]);
    fs::create_dir_all(&group).unwrap();
    let mut rotten = data.clone();
    rotten[PIECE_BYTES] ^= 1;
    fs::write(group.join(content.to_string()), rotten).unwrap();
    cluster.settle();
    cluster.fetch(1, &data);
    cluster.settle();
    let reason = FetchFailure::NobodyHasIt;
    assert_eq!(cluster.nodes[&1].seen, [ContentEvent::FetchFailed { content, reason }]);
    assert!(cluster.staging_names(1).is_empty());
    assert_eq!(cluster.nodes[&2].seen, [ContentEvent::Rotten(content)]);
    assert_eq!(fs::read_dir(group).unwrap().count(), 0);
}

/// A client reads an object that is too large to be hashed for each piece of it.
#[test]
fn an_object_is_verified_when_asked_for() {
    let mut cluster = Cluster::new(1);
    let (good, bad) = (bytes(1, 2 * PIECE_BYTES), bytes(2, 2 * PIECE_BYTES));
    let history = cluster.open(1, "history").dir(&RelPath::root()).unwrap();
    let history = HistoryStore::open(history).unwrap();
    let folder = cluster.open(1, "folder").dir(&RelPath::root()).unwrap();
    for content in [&good, &bad].map(|data| ContentId::of(data)) {
        cluster.write(1, "f", &good);
        history.keep(&folder, &name("f"), content).unwrap();
        cluster.command(1, ContentCommand::Verify(content));
    }
    cluster.settle();
    assert_eq!(cluster.nodes[&1].seen, [ContentEvent::Rotten(ContentId::of(&bad))]);
    assert!(history.open_object(ContentId::of(&good)).is_some());
    assert!(history.open_object(ContentId::of(&bad)).is_none());
}

/// A start removes what was never acknowledged, keeps what hashes to its name, touches nothing
/// else (a user's displaced edit may lie there).
#[test]
fn recovery_keeps_what_is_whole_and_what_is_not_ours() {
    let cluster = Cluster::new(1);
    let staging = cluster.open(1, "staging").dir(&RelPath::root()).unwrap();
    let mut partial = Partial::create(&staging, PullKey::Own(Ticket(1)), 100).unwrap();
    partial.write(b"half").unwrap();
    let (good, edit) = (ContentId::of(b"good"), ContentId::of(b"was here"));
    let place = cluster.path(1, "staging");
    fs::write(place.join(format!("c.{good}")), b"good").unwrap();
    fs::write(place.join(format!("c.{edit}")), b"a user's").unwrap();
    fs::write(place.join("0.5.1.abcdef"), b"the engine's").unwrap();
    let mut found = recover(&staging).unwrap();
    found.sort_by_key(|found| found.size);
    let verdicts: Vec<_> = found.iter().map(|found| (found.content, found.verdict)).collect();
    assert_eq!(verdicts, [(good, Verdict::Intact), (edit, Verdict::Foreign)]);
    let mut names = cluster.staging_names(1);
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(names[0], "0.5.1.abcdef");
    let aside = format!("f.{}", ContentId::of(b"a user's"));
    assert!(names.contains(&aside), "never placed as what it is not: {names:?}");
}

#[test]
fn the_same_content_twice_leaves_one_synced_copy() {
    let cluster = Cluster::new(1);
    let staging = cluster.open(1, "staging").dir(&RelPath::root()).unwrap();
    for ticket in [1, 2] {
        let mut partial = Partial::create(&staging, PullKey::Own(Ticket(ticket)), 4).unwrap();
        partial.write(b"same").unwrap();
        assert_eq!(partial.publish(&staging), Ok(ContentId::of(b"same")));
    }
    let expected = staged_name(ContentId::of(b"same")).unwrap();
    assert_eq!(cluster.staging_names(1), [expected.to_string()]);
}

#[test]
fn history_takes_the_inode_and_drops_the_oldest_first() {
    let cluster = Cluster::new(1);
    let dir = cluster.open(1, "history").dir(&RelPath::root()).unwrap();
    let history = HistoryStore::open(dir).unwrap();
    let folder = cluster.open(1, "folder").dir(&RelPath::root()).unwrap();
    let contents: Vec<ContentId> = (0..4_u64)
        .map(|n| {
            let data = bytes(n, 1000);
            cluster.write(1, "f", &data);
            let before = fs::metadata(cluster.path(1, "folder").join("f")).unwrap();
            let content = ContentId::of(&data);
            assert_eq!(history.keep(&folder, &name("f"), content).unwrap(), Kept::New);
            let after = history.open_object(content).unwrap().stat().unwrap();
            assert_eq!(
                (before.ino(), before.mtime_nsec()),
                (after.ino, i64::from(after.mtime.nanos))
            );
            content
        })
        .collect();
    assert_eq!(history.bytes(), 4000);
    cluster.write(1, "f", &bytes(3, 1000));
    assert_eq!(history.keep(&folder, &name("f"), contents[3]).unwrap(), Kept::Known);
    assert!(!cluster.path(1, "folder").join("f").exists());
    assert_eq!(history.evict(2500).unwrap().count, 2);
    assert_eq!(history.bytes(), 2000);
    assert!(matches!(history.open_verified(contents[1]).unwrap(), Object::Absent));
    assert!(matches!(history.open_verified(contents[2]).unwrap(), Object::Intact(_)));
    let dir = cluster.open(1, "history").dir(&RelPath::root()).unwrap();
    assert_eq!(HistoryStore::open(dir).unwrap().bytes(), 2000, "counted anew at a start");
    assert!(history.limit_bytes().unwrap() > 0);
}

/// What is displaced again stays as long as what is displaced for the first time.
#[test]
fn history_drops_by_age_and_counts_from_the_last_displacement() {
    let cluster = Cluster::new(1);
    let dir = cluster.open(1, "history").dir(&RelPath::root()).unwrap();
    let history = HistoryStore::open(dir).unwrap();
    let folder = cluster.open(1, "folder").dir(&RelPath::root()).unwrap();
    let keep = |data: &[u8]| {
        cluster.write(1, "f", data);
        history.keep(&folder, &name("f"), ContentId::of(data)).unwrap();
        let object = history.open_object(ContentId::of(data)).unwrap();
        object.stat().unwrap().ctime
    };
    let first = keep(b"again");
    let mut other = keep(b"other");
    while other == first {
        other = keep(b"other");
    }
    let mut again = keep(b"again");
    while again == other {
        again = keep(b"again");
    }
    let evicted = history.evict_older(again).unwrap();
    assert_eq!((evicted.count, history.bytes()), (1, 5));
    assert!(matches!(history.open_verified(ContentId::of(b"other")).unwrap(), Object::Absent));
    assert!(matches!(history.open_verified(ContentId::of(b"again")).unwrap(), Object::Intact(_)));
}

/// Fault 60: a peer that talks nonsense harms nobody.
#[test]
fn nonsense_from_a_peer_is_dropped() {
    let mut cluster = Cluster::new(2);
    cluster.settle();
    let inbox = cluster.inboxes.lock().unwrap()[&node(1)].clone();
    for bytes in [vec![], vec![0], vec![1, 255], vec![1; 2 * PIECE_BYTES]] {
        inbox.send(BulkEvent::Message { from: node(2), bytes }).unwrap();
    }
    cluster.settle();
    let data = bytes(1, 40_000);
    let stat = cluster.write(1, "big", &data);
    cluster.offer(1, 1, "big", stat, 2);
    cluster.settle();
    assert!(cluster.held(1).is_some());
}

/// A figure rather than a test: `cargo test --release -p pickbox-store -- --ignored --nocapture
/// measure_a_gibibyte`. Three workers in three threads on one disk, no sockets between them.
#[test]
#[ignore = "takes seconds and three gibibytes of disk"]
fn measure_a_gibibyte() {
    let mut cluster = Cluster::new(3);
    let data = bytes(1, 1024 * PIECE_BYTES);
    let content = ContentId::of(&data);
    let stat = cluster.write(1, "big", &data);
    rustix::fs::sync();
    cluster.settle();
    let begun = clock::now();
    cluster.offer(1, 1, "big", stat, 3);
    let nodes: Vec<Node> = std::mem::take(&mut cluster.nodes).into_values().collect();
    let ends: Vec<_> =
        nodes.iter().map(|node| (node.commands.clone(), node.events.clone())).collect();
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(|| node.worker.run());
        }
        let held = ends[0].1.iter().find(|event| matches!(event, ContentEvent::Held { .. }));
        let seconds = begun.elapsed().as_secs_f64();
        println!("1 GiB held by a majority after {seconds:.2} s, {:.0} MB/s", 1073.7 / seconds);
        assert!(matches!(held, Some(ContentEvent::Held { content: told, .. }) if told == content));
        for (commands, _) in &ends {
            commands.send(ContentCommand::Stop).unwrap();
        }
    });
}
