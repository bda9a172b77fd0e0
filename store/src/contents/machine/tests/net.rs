//! Machines joined by a network that loses, on disks that are maps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pickbox_raft::core::ids::{Incarnation, NodeId};

use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::contents::machine::{
    Action, Done, Durability, Input, Machine, PullFailure, PullKey, VOIDS_MAX,
};
use crate::contents::message::{Message, SmallItem, Source};
use crate::contents::{
    ContentCommand, ContentEvent, OfferRequest, PIECE_BYTES_U64, Quorum, Ticket, WINDOW_PIECES,
};
use crate::folder::{Kind, Stat};
use crate::name::RelPath;
use crate::time::Time;

pub(super) fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

pub(super) fn content(n: u64) -> ContentId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_le_bytes());
    ContentId(id)
}

pub(super) fn stat(size: u64) -> Stat {
    let time = Time::default();
    Stat {
        kind: Kind::File,
        ino: 1,
        btime: time,
        size,
        mtime: time,
        ctime: time,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        dev: 0,
    }
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

/// Small numbers that look random: repeatable.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// A message with what its bytes are of.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) message: Message,
    bytes: u64,
    of: Vec<ContentId>,
}

/// A live file: what it holds now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) content: ContentId,
    pub(super) size: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) machine: Machine,
    /// Files by path.
    pub(super) files: BTreeMap<RelPath, Live>,
    /// Open offers: path, and what the file held when it was opened.
    open: BTreeMap<Ticket, (RelPath, Live)>,
    /// Hashes under way.
    hashing: BTreeSet<Ticket>,
    /// Contents in staging, with whether they were synced.
    pub(super) staging: BTreeMap<ContentId, (u64, Durability)>,
    /// Contents that history holds.
    pub(super) history: BTreeMap<ContentId, u64>,
    partials: BTreeMap<PullKey, (u64, u64, BTreeSet<ContentId>)>,
    pub(super) events: Vec<ContentEvent>,
    pub(super) full: bool,
    finishing: Vec<Done>,
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) wires: BTreeMap<(NodeId, NodeId), VecDeque<Frame>>,
    pub(super) now: Duration,
    runs: u64,
    /// Bytes of pieces sent, for stories about waste.
    pub(super) piece_bytes: u64,
}

impl Node {
    fn act_on_offer(&mut self, action: Action) -> Option<Done> {
        let node = self;
        match action {
            Action::OpenOffer { ticket, path, .. } => {
                let live = *node.files.get(&path)?;
                node.open.insert(ticket, (path, live));
                node.hashing.insert(ticket);
                return Some(Done::Opened { ticket, size: live.size });
            }
            Action::CloseOffer(ticket) => {
                node.open.remove(&ticket);
                node.hashing.remove(&ticket);
            }
            Action::SyncLive(ticket) => return Some(Done::LiveSynced(ticket)),
            Action::CopyOwn(ticket) => {
                let (_, live) = node.open[&ticket].clone();
                let pull = PullKey::Own(ticket);
                node.finishing.push(Done::Stored { pull, content: live.content, size: live.size });
            }
            other => panic!("{other:?}"),
        }
        None
    }

    fn act_on_partial(&mut self, action: Action, of: &[ContentId]) -> Option<Done> {
        let node = self;
        match action {
            Action::Begin { pull, size } => {
                if node.full {
                    return Some(Done::PullFailed { pull, reason: PullFailure::NoSpace });
                }
                let former = node.partials.insert(pull, (0, size, BTreeSet::new()));
                assert!(former.is_none(), "a partial file is made once");
            }
            Action::Write(pull) => {
                let partial = node.partials.get_mut(&pull).unwrap();
                partial.0 += (partial.1 - partial.0).min(PIECE_BYTES_U64);
                partial.2.extend(of);
            }
            Action::Finish { pull, expect, .. } => {
                let (written, size, from) = node.partials.remove(&pull).unwrap();
                assert_eq!(written, size, "only whole contents are finished");
                let whole = from.len() <= 1;
                let content = from.first().copied().filter(|_| whole).unwrap_or(content(u64::MAX));
                node.finishing.push(if expect.is_some_and(|expect| expect != content) {
                    Done::PullFailed { pull, reason: PullFailure::Mismatch }
                } else {
                    Done::Stored { pull, content, size }
                });
            }
            Action::Abandon(pull) => {
                node.partials.remove(&pull);
                node.finishing.retain(|done| !matches!(done, Done::Stored { pull: p, .. } | Done::PullFailed { pull: p, .. } if *p == pull));
            }
            other => panic!("{other:?}"),
        }
        None
    }

    fn act_on_staging(&mut self, action: Action) -> Option<Done> {
        let node = self;
        match action {
            Action::Local { content, .. } => {
                let pull = PullKey::Content(content);
                let live = node.files.values().find(|live| live.content == content);
                let size = live.map(|live| live.size).or(node.history.get(&content).copied());
                return Some(match size {
                    Some(size) => {
                        node.staging.insert(content, (size, Durability::Cached));
                        Done::Stored { pull, content, size }
                    }
                    None => Done::PullFailed { pull, reason: PullFailure::NotHere },
                });
            }
            Action::StoreSmall { content, offset, .. } => {
                assert!(offset < 1 << 20, "inside of the message");
                let pull = PullKey::Content(content);
                node.staging.insert(content, (100, Durability::Cached));
                return Some(Done::Stored { pull, content, size: 100 });
            }
            Action::SyncStaged(content) => {
                let Some(staged) = node.staging.get_mut(&content) else {
                    return Some(Done::StagedLost(content));
                };
                staged.1 = Durability::Synced;
                return Some(Done::Synced(content));
            }
            Action::Remove(content) => {
                node.staging.remove(&content);
            }
            other => panic!("{other:?}"),
        }
        None
    }
}

impl Net {
    /// Nodes 1 to n, not connected.
    pub(super) fn new(n: u64) -> Self {
        let mut net = Self {
            nodes: BTreeMap::new(),
            wires: BTreeMap::new(),
            now: Duration::ZERO,
            runs: 100,
            piece_bytes: 0,
        };
        (1..=n).for_each(|id| net.start(node(id)));
        net
    }

    /// The same, all connected.
    pub(super) fn connected(n: u64) -> Self {
        let mut net = Self::new(n);
        net.connect_all();
        net
    }

    /// Starts a node (again): what was in memory is gone, staging and files stay.
    pub(super) fn start(&mut self, id: NodeId) {
        self.runs += 1;
        let old = self.nodes.remove(&id);
        let (files, staging, history) =
            old.map(|old| (old.files, old.staging, old.history)).unwrap_or_default();
        let found: Vec<_> = staging.iter().map(|(content, (size, _))| (*content, *size)).collect();
        let node = Node {
            machine: Machine::new(id, Incarnation::new(self.runs), &found),
            files,
            open: BTreeMap::new(),
            hashing: BTreeSet::new(),
            staging,
            history,
            partials: BTreeMap::new(),
            events: Vec::new(),
            full: false,
            finishing: Vec::new(),
        };
        self.nodes.insert(id, node);
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&node(id)).unwrap()
    }

    pub(super) fn is_connected(&self, a: NodeId, b: NodeId) -> bool {
        self.wires.contains_key(&(a, b))
    }

    pub(super) fn connect(&mut self, a: NodeId, b: NodeId) {
        if a != b && !self.is_connected(a, b) {
            self.wires.insert((a, b), VecDeque::new());
            self.wires.insert((b, a), VecDeque::new());
            self.input(a, Input::Up(b));
            self.input(b, Input::Up(a));
        }
    }

    pub(super) fn connect_all(&mut self) {
        for a in self.ids() {
            for b in self.ids() {
                self.connect(a, b);
            }
        }
    }

    /// Breaks both connections; what was on them is lost.
    pub(super) fn cut(&mut self, a: NodeId, b: NodeId) {
        if self.wires.remove(&(a, b)).is_some() {
            self.wires.remove(&(b, a));
            self.input(a, Input::Down(b));
            self.input(b, Input::Down(a));
        }
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        for other in self.ids() {
            self.cut(id, other);
        }
        self.start(id);
    }

    pub(super) fn offer_request(&self, origin: u64, ticket: u64, at: &str) -> OfferRequest {
        let live = self.nodes[&node(origin)].files[&path(at)];
        let peers = self.ids().into_iter().filter(|id| *id != node(origin)).collect();
        OfferRequest {
            ticket: Ticket(ticket),
            path: path(at),
            expect: stat(live.size),
            peers,
            quorum: Quorum { sets: vec![self.ids()] },
        }
    }

    /// Node `origin` has a new file and offers it to all.
    pub(super) fn offer(&mut self, origin: u64, ticket: u64, live: Live) {
        let at = format!("f{ticket}");
        self.node(origin).files.insert(path(&at), live);
        let request = self.offer_request(origin, ticket, &at);
        self.command(origin, ContentCommand::Offer(request));
    }

    pub(super) fn command(&mut self, id: u64, command: ContentCommand) {
        self.input(node(id), Input::Command(command));
    }

    pub(super) fn input(&mut self, id: NodeId, input: Input) {
        self.input_with(id, input, &[]);
    }

    fn input_with(&mut self, id: NodeId, input: Input, of: &[ContentId]) {
        let now = self.now;
        self.nodes.get_mut(&id).unwrap().machine.step(now, input);
        loop {
            let actions = self.nodes.get_mut(&id).unwrap().machine.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                if let Some(done) = self.act(id, action, of) {
                    self.nodes.get_mut(&id).unwrap().machine.step(now, Input::Done(done));
                }
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message, bytes: u64, of: Vec<ContentId>) {
        if let Some(wire) = self.wires.get_mut(&(from, to)) {
            wire.push_back(Frame { message, bytes, of });
        }
    }

    fn act(&mut self, id: NodeId, action: Action, of: &[ContentId]) -> Option<Done> {
        let node = self.nodes.get_mut(&id).unwrap();
        match action {
            Action::Send(to, message) => self.send(id, to, message, 0, vec![]),
            Action::Answer { to, source, offset, len } => {
                self.answer(id, to, source, offset, u64::from(len));
            }
            Action::AnswerSmall { to, batch, contents } => {
                self.answer_small(id, to, batch, &contents);
            }
            Action::OpenOffer { .. }
            | Action::CloseOffer(_)
            | Action::SyncLive(_)
            | Action::CopyOwn(_) => return node.act_on_offer(action),
            Action::Begin { .. }
            | Action::Write(_)
            | Action::Finish { .. }
            | Action::Abandon(_) => return node.act_on_partial(action, of),
            Action::Local { .. }
            | Action::StoreSmall { .. }
            | Action::SyncStaged(_)
            | Action::Remove(_) => return node.act_on_staging(action),
            Action::Verify(_) => {}
            Action::Tell(event) => {
                if let ContentEvent::Held { content, holders, .. } = &event {
                    self.check_held(id, *content, holders);
                }
                self.nodes.get_mut(&id).unwrap().events.push(event);
            }
        }
        None
    }

    /// What is told as held is on a majority of disks, immutable and synced.
    fn check_held(&self, origin: NodeId, content: ContentId, holders: &[NodeId]) {
        for holder in holders {
            let synced = self.nodes[holder].staging.get(&content).map(|staged| staged.1);
            let alone = *holder == origin && self.nodes.len() == 1;
            assert!(alone || synced == Some(Durability::Synced), "{holder} of {holders:?}");
        }
        assert!(holders.len() * 2 > self.nodes.len(), "a majority: {holders:?}");
    }

    fn answer(&mut self, id: NodeId, to: NodeId, source: Source, offset: u64, len: u64) {
        let node = &self.nodes[&id];
        let have = match source {
            Source::Offer(offer) => node.open.get(&offer.ticket).map(|(path, live)| {
                let now = node.files.get(path).map(|file| file.content);
                (live.content, live.size, now == Some(live.content))
            }),
            Source::Content(content) => node
                .staging
                .get(&content)
                .map(|(size, _)| *size)
                .or(node.history.get(&content).copied())
                .or(node.files.values().find(|f| f.content == content).map(|f| f.size))
                .map(|size| (content, size, true)),
        };
        match have {
            Some((content, size, true)) => {
                assert!(offset + len <= size, "only what is there is asked for");
                self.piece_bytes += len;
                self.send(id, to, Message::Piece { source, offset }, len, vec![content]);
            }
            Some((_, _, false)) => {
                let Source::Offer(offer) = source else { unreachable!() };
                self.send(id, to, Message::Gone(source), 0, vec![]);
                self.input(id, Input::Done(Done::OfferChanged(offer.ticket)));
            }
            None => self.send(id, to, Message::Gone(source), 0, vec![]),
        }
    }

    fn answer_small(&mut self, id: NodeId, to: NodeId, batch: u64, contents: &[ContentId]) {
        let node = &self.nodes[&id];
        let has = |content: &&ContentId| {
            node.history.contains_key(content) || node.staging.contains_key(content)
        };
        let items = contents.iter().filter(has);
        let items: Vec<SmallItem> =
            items.map(|content| SmallItem { content: *content, len: 100 }).collect();
        let gone = contents.iter().filter(|content| !has(content)).copied().collect();
        let of = items.iter().map(|item| item.content).collect();
        let bytes = 100 * u64::try_from(items.len()).unwrap();
        self.send(id, to, Message::Small { batch, items, gone }, bytes, of);
    }

    /// Delivers the oldest message of a wire, or a copy of it.
    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId, twice: bool) -> bool {
        let Some(wire) = self.wires.get_mut(&(from, to)) else { return false };
        let Some(frame) = wire.pop_front() else { return false };
        if twice {
            wire.push_front(frame.clone());
        }
        let Frame { message, bytes, of } = frame;
        self.input_with(to, Input::Message { from, message, payload_bytes: bytes }, &of);
        true
    }

    /// The disk of a node finishes what it was given: syncs and hashes.
    pub(super) fn work(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(done) = node.finishing.pop() {
            if let Done::Stored { pull, content, size } = &done {
                let durability = match pull {
                    PullKey::Content(_) => Durability::Cached,
                    _ => Durability::Synced,
                };
                node.staging.insert(*content, (*size, durability));
            }
            self.input(id, Input::Done(done));
            return true;
        }
        let Some(ticket) = node.hashing.pop_first() else { return false };
        let (path, live) = node.open[&ticket].clone();
        let unchanged = node.files.get(&path).map(|file| file.content) == Some(live.content);
        self.input(
            id,
            Input::Done(if unchanged {
                Done::OfferHashed { ticket, content: live.content, stat: stat(live.size) }
            } else {
                Done::OfferChanged(ticket)
            }),
        );
        true
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        for id in self.ids() {
            if self.nodes[&id].machine.deadline().is_some_and(|due| due <= self.now) {
                self.input(id, Input::Tick);
            }
        }
    }

    /// Everything that can happen without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            let wires: Vec<_> = self.wires.keys().copied().collect();
            for (from, to) in wires {
                moved |= self.deliver(from, to, false);
            }
            for id in self.ids() {
                moved |= self.work(id);
            }
            self.check_bounds();
            if !moved {
                return;
            }
        }
        panic!("messages without end");
    }

    /// Settles again and again while time passes.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.settle();
            self.pass(Duration::from_millis(500));
        }
        self.settle();
    }

    /// Nobody has more on its way to it than its window, and few messages wait.
    pub(super) fn check_bounds(&self) {
        for ((from, to), wire) in &self.wires {
            let unanswered = self.nodes[to].machine.unanswered_bytes(*from);
            assert!(unanswered < (WINDOW_PIECES + 1) * PIECE_BYTES_U64, "window of {to}");
            assert!(wire.len() < 2 * VOIDS_MAX, "messages from {from} to {to}");
        }
    }

    pub(super) fn held(&self, id: u64, ticket: u64) -> Option<(ContentId, Vec<NodeId>)> {
        self.nodes[&node(id)].events.iter().rev().find_map(|event| match event {
            ContentEvent::Held { ticket: t, content, holders, .. } if *t == Ticket(ticket) => {
                Some((*content, holders.clone()))
            }
            _ => None,
        })
    }

    pub(super) fn saw(&self, id: u64, event: &ContentEvent) -> bool {
        self.nodes[&node(id)].events.contains(event)
    }
}

/// A large file.
pub(super) fn large(n: u64, pieces: u64) -> Live {
    Live { content: content(n), size: pieces * PIECE_BYTES_U64 + 17 }
}

/// The size of everything that counts as small here.
pub(super) const SMALL: u64 = 100;
const _: () = assert!(SMALL <= INLINE_BYTES_MAX);
