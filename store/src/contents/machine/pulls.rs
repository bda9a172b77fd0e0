//! The receiver's side: asking for pieces, in order, within a window for each peer.
//!
//! A pull goes back to the last byte written whenever something may be lost (go-back-N): TCP keeps
//! the order, so only a broken connection loses anything, and a piece that is not the next one is
//! a duplicate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pickbox_raft::core::ids::{Incarnation, NodeId};

use super::{Action, Durability, Machine, PullFailure, PullKey};
use crate::content_id::ContentId;
use crate::contents::message::{CannotTake, Message, OfferId, Source};
use crate::contents::{
    ContentEvent, FetchFailure, OFFERS_PER_PEER_MAX, PIECE_BYTES_U64, PULLS_ACTIVE_MAX,
    WINDOW_PIECES,
};

/// How long a piece may take before it is asked for again.
const PIECE_STALL: Duration = Duration::from_secs(5);
/// Bytes asked of one peer and not yet here.
const WINDOW_BYTES: u64 = WINDOW_PIECES * PIECE_BYTES_U64;

/// All contents being received.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    pulls: BTreeMap<PullKey, Pull>,
    queue: VecDeque<PullKey>,
}

impl Pulls {
    pub(super) fn is_empty(&self) -> bool {
        self.pulls.is_empty()
    }

    /// How many hold a file open.
    fn active(&self) -> usize {
        self.pulls.len().saturating_sub(self.queue.len())
    }

    /// What is being received from this peer.
    fn of_peer(&mut self, peer: NodeId) -> impl Iterator<Item = &mut Pull> {
        self.pulls.values_mut().filter(move |pull| pull.from == peer)
    }

    fn unanswered(&self, peer: NodeId) -> u64 {
        let of_peer = self.pulls.values().filter(|pull| pull.from == peer);
        of_peer.map(|pull| pull.asked - pull.written).sum()
    }
}

/// One content being received.
#[derive(Debug)]
struct Pull {
    from: NodeId,
    source: Source,
    size: u64,
    /// Bytes on disk, from the start.
    written: u64,
    /// Bytes asked for, from the start.
    asked: u64,
    stage: Stage,
    /// What the origin says that it is.
    sealed: Option<ContentId>,
    /// When something last came.
    heard: Duration,
    /// Who sent bytes of it.
    senders: BTreeSet<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    Receiving,
    Finishing,
}

impl Pull {
    fn new(from: NodeId, source: Source, size: u64) -> Self {
        Self {
            from,
            source,
            size,
            written: 0,
            asked: 0,
            stage: Stage::Queued,
            sealed: None,
            heard: Duration::ZERO,
            senders: BTreeSet::new(),
        }
    }

    fn wants_more(&self) -> bool {
        self.stage == Stage::Receiving && self.asked < self.size
    }

    fn go_back(&mut self, now: Duration) {
        self.asked = self.written;
        self.heard = now;
    }

    /// The length of the piece that starts at `offset`.
    fn piece_at(&self, offset: u64) -> u64 {
        self.size.saturating_sub(offset).min(PIECE_BYTES_U64)
    }
}

impl Machine {
    /// A peer offers a content.
    pub(super) fn offered(
        &mut self,
        from: NodeId,
        id: OfferId,
        size: u64,
        content: Option<ContentId>,
    ) {
        let key = PullKey::Offer { origin: from, id };
        if let Some(content) = self.staged.content_of(key).or(content)
            && self.staged.has(content)
        {
            return self.have_already(key, content);
        }
        if let Some(pull) = self.pulls.pulls.get_mut(&key) {
            pull.sealed = pull.sealed.or(content);
            return;
        }
        if self.pulls.of_peer(from).count() >= OFFERS_PER_PEER_MAX {
            return self.send(from, Message::Failed { id, reason: CannotTake::Busy });
        }
        let mut pull = Pull::new(from, Source::Offer(id), size);
        pull.sealed = content;
        self.enqueue(key, pull);
    }

    /// A content that the engine wants is to be received from this peer.
    pub(super) fn pull_content(&mut self, content: ContentId, size: u64, from: NodeId) {
        let key = PullKey::Content(content);
        if let Some(pull) = self.pulls.pulls.get_mut(&key) {
            let former = std::mem::replace(&mut pull.from, from);
            pull.go_back(self.now);
            self.pump(former);
            return self.pump(from);
        }
        let mut pull = Pull::new(from, Source::Content(content), size);
        pull.sealed = Some(content);
        self.enqueue(key, pull);
    }

    fn enqueue(&mut self, key: PullKey, pull: Pull) {
        self.pulls.pulls.insert(key, pull);
        self.pulls.queue.push_back(key);
        self.start_queued();
    }

    fn start_queued(&mut self) {
        while self.pulls.active() < PULLS_ACTIVE_MAX
            && let Some(key) = self.pulls.queue.pop_front()
        {
            self.start(key);
        }
    }

    fn start(&mut self, key: PullKey) {
        let now = self.now;
        let Some(pull) = self.pulls.pulls.get_mut(&key) else { return };
        pull.stage = Stage::Receiving;
        pull.heard = now;
        let (size, from) = (pull.size, pull.from);
        self.act(Action::Begin { pull: key, size });
        if size == 0 {
            self.finish(key);
        }
        self.pump(from);
    }

    /// Asks the peer for as much as the window has room for; the pull that waits for the fewest
    /// bytes first, so that a small file does not wait behind a large one.
    fn pump(&mut self, peer: NodeId) {
        if !self.is_up(peer) {
            return;
        }
        while self.pulls.unanswered(peer) < WINDOW_BYTES {
            let wanting = self.pulls.of_peer(peer).filter(|pull| pull.wants_more());
            let Some(pull) = wanting.min_by_key(|pull| pull.asked - pull.written) else { return };
            let (source, offset, len) = (pull.source, pull.asked, pull.piece_at(pull.asked));
            pull.asked += len;
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            self.send(peer, Message::Get { source, offset, len });
        }
    }

    /// Bytes came.
    pub(super) fn piece(&mut self, from: NodeId, source: Source, offset: u64, len: u64) {
        let key = key_of(from, source);
        let Some(pull) = self.pulls.pulls.get_mut(&key) else { return };
        let next = pull.stage == Stage::Receiving && pull.from == from && offset == pull.written;
        if !next || len != pull.piece_at(offset) {
            return;
        }
        pull.written += len;
        pull.asked = pull.asked.max(pull.written);
        pull.heard = self.now;
        pull.senders.insert(from);
        let whole = pull.written == pull.size;
        self.act(Action::Write(key));
        if whole {
            self.finish(key);
        }
        self.pump(from);
    }

    fn finish(&mut self, key: PullKey) {
        let Some(pull) = self.pulls.pulls.get_mut(&key) else { return };
        pull.stage = Stage::Finishing;
        let (expect, durability) = match key {
            PullKey::Content(content) => (Some(content), Durability::Cached),
            PullKey::Offer { .. } | PullKey::Own(_) => (None, Durability::Synced),
        };
        self.act(Action::Finish { pull: key, expect, durability });
    }

    /// The origin says what its offer is. If that lies in staging already, no more is needed.
    pub(super) fn sealed(&mut self, from: NodeId, id: OfferId, content: ContentId) {
        let key = PullKey::Offer { origin: from, id };
        let Some(pull) = self.pulls.pulls.get_mut(&key) else { return };
        pull.sealed = Some(content);
        if self.staged.has(content) && pull.stage != Stage::Finishing {
            self.abandon(key);
            self.have_already(key, content);
        }
    }

    /// The origin says that its offer is void.
    pub(super) fn dropped(&mut self, from: NodeId, id: OfferId) {
        let key = PullKey::Offer { origin: from, id };
        self.abandon(key);
        if let Some(content) = self.staged.content_of(key) {
            self.unref(content, key);
        }
    }

    /// The peer does not have it.
    pub(super) fn gone(&mut self, from: NodeId, source: Source) {
        let key = key_of(from, source);
        if self.pulls.pulls.get(&key).is_none_or(|pull| pull.from != from) {
            return;
        }
        match key {
            PullKey::Content(content) => self.source_gone(content, from),
            PullKey::Offer { .. } | PullKey::Own(_) => self.abandon(key),
        }
    }

    /// A pull ends without result: what waited for it looks elsewhere.
    pub(super) fn abandon(&mut self, key: PullKey) {
        let Some(pull) = self.pulls.pulls.remove(&key) else {
            if matches!(key, PullKey::Own(_)) {
                self.act(Action::Abandon(key));
            }
            return;
        };
        self.pulls.queue.retain(|queued| *queued != key);
        if pull.stage != Stage::Queued {
            self.act(Action::Abandon(key));
        }
        self.pull_over(&pull, key);
    }

    /// Room for others; whoever rode on it looks elsewhere.
    fn pull_over(&mut self, pull: &Pull, key: PullKey) {
        self.start_queued();
        self.pump(pull.from);
        if let (PullKey::Offer { .. }, Some(content)) = (key, pull.sealed) {
            self.ride_over(content);
        }
    }

    /// Whether an offer brings this content already.
    pub(super) fn is_coming(&self, content: ContentId) -> bool {
        let coming = |(key, pull): (&PullKey, &Pull)| {
            matches!(key, PullKey::Offer { .. })
                && pull.sealed == Some(content)
                && self.is_up(pull.from)
        };
        self.pulls.pulls.iter().any(coming)
    }

    /// It is in staging, under its hash.
    pub(super) fn stored(&mut self, key: PullKey, content: ContentId, size: u64) {
        let pull = self.pulls.pulls.remove(&key);
        match key {
            PullKey::Offer { origin, id } => {
                self.staged.add(content, size, Durability::Synced);
                if pull.is_some() {
                    self.have_now(origin, id, content);
                } else {
                    // Dropped while it was being finished.
                    self.remove_if_idle(content);
                }
            }
            PullKey::Content(_) => self.staged.add(content, size, Durability::Cached),
            PullKey::Own(ticket) => {
                self.staged.add(content, size, Durability::Synced);
                self.staged.add_ref(content, key);
                self.own_stored(ticket, content);
            }
        }
        self.adopt_orphans(content);
        self.fetched(content);
        if let Some(pull) = pull {
            self.pull_over(&pull, key);
        }
    }

    /// A synced copy of what a peer offers is here.
    pub(super) fn have_now(&mut self, origin: NodeId, id: OfferId, content: ContentId) {
        self.staged.add_ref(content, PullKey::Offer { origin, id });
        let incarnation = id.incarnation;
        self.tell(ContentEvent::Staged { content, origin, incarnation });
        self.send(origin, Message::Have { id, content });
    }

    /// It could not be put together.
    pub(super) fn pull_failed(&mut self, key: PullKey, reason: PullFailure) {
        let pull = self.pulls.pulls.remove(&key);
        self.pulls.queue.retain(|queued| *queued != key);
        match key {
            PullKey::Offer { origin, id } => {
                let reason = match reason {
                    PullFailure::NoSpace => CannotTake::NoSpace,
                    _ => CannotTake::Disk,
                };
                self.send(origin, Message::Failed { id, reason });
            }
            PullKey::Own(ticket) => self.own_failed(ticket, reason),
            PullKey::Content(content) => match reason {
                PullFailure::NoSpace => self.put_off(content, FetchFailure::NoSpace),
                PullFailure::Disk => self.put_off(content, FetchFailure::Disk),
                PullFailure::NotHere => self.not_local(content),
                PullFailure::Mismatch => {
                    let senders = pull.as_ref().map(|pull| pull.senders.clone());
                    self.mismatch(content, &senders.unwrap_or_default());
                }
            },
        }
        if let Some(pull) = pull {
            self.pull_over(&pull, key);
        }
    }

    /// What the peer sent, or was asked, may be lost.
    pub(super) fn ask_again(&mut self, peer: NodeId) {
        let now = self.now;
        self.pulls.of_peer(peer).for_each(|pull| pull.go_back(now));
        self.pump(peer);
    }

    /// The peer is away: contents that others may have are asked of them; offers wait for it.
    pub(super) fn leave_source(&mut self, peer: NodeId) {
        let now = self.now;
        self.pulls.of_peer(peer).for_each(|pull| pull.go_back(now));
        let keys = self.pulls.pulls.iter().filter(|(_, pull)| pull.from == peer);
        let contents: Vec<(PullKey, Option<ContentId>)> =
            keys.map(|(key, pull)| (*key, pull.sealed)).collect();
        for (key, sealed) in contents {
            match (key, sealed) {
                (PullKey::Content(content), _) => self.other_source(content),
                (PullKey::Offer { .. }, Some(content)) => self.ride_over(content),
                _ => {}
            }
        }
    }

    /// Another run of the peer is up: the offers of the former one are void, what arrived whole
    /// waits for the log.
    pub(super) fn forget_other_runs(&mut self, peer: NodeId, incarnation: Incarnation) {
        self.abandon_where(|origin, id| origin == peer && id.incarnation != incarnation);
    }

    /// The log closed a run of a node.
    pub(super) fn close(&mut self, origin: NodeId, incarnation: Incarnation) {
        self.abandon_where(|node, id| node == origin && id.incarnation == incarnation);
        for (key, content) in self.staged.refs_of(origin, incarnation) {
            self.unref(content, key);
        }
    }

    fn abandon_where(&mut self, which: impl Fn(NodeId, OfferId) -> bool) {
        let hit =
            |key: &PullKey| matches!(key, PullKey::Offer { origin, id } if which(*origin, *id));
        let keys: Vec<PullKey> = self.pulls.pulls.keys().copied().filter(|key| hit(key)).collect();
        for key in keys {
            self.abandon(key);
        }
    }

    /// Whether a part of a wanted content is here.
    pub(super) fn is_pulling(&self, content: ContentId) -> bool {
        self.pulls.pulls.contains_key(&PullKey::Content(content))
    }

    /// Forgets the pull of a content that nobody wants any more.
    pub(super) fn stop_pulling(&mut self, content: ContentId) {
        self.abandon(PullKey::Content(content));
    }

    /// Bytes asked of the peer and not yet here.
    #[must_use]
    pub fn unanswered_bytes(&self, peer: NodeId) -> u64 {
        self.pulls.unanswered(peer)
    }

    pub(super) fn tick_pulls(&mut self) {
        let now = self.now;
        let stalled = |pull: &Pull| {
            pull.stage == Stage::Receiving
                && pull.asked > pull.written
                && now.saturating_sub(pull.heard) > PIECE_STALL
        };
        let late = self.pulls.pulls.iter().filter(|(_, pull)| stalled(pull));
        let late: Vec<(PullKey, NodeId)> = late.map(|(key, pull)| (*key, pull.from)).collect();
        for (key, from) in late {
            if let Some(pull) = self.pulls.pulls.get_mut(&key) {
                pull.go_back(now);
            }
            match key {
                PullKey::Content(content) => self.source_silent(content, from),
                PullKey::Offer { .. } | PullKey::Own(_) => self.pump(from),
            }
        }
    }
}

fn key_of(from: NodeId, source: Source) -> PullKey {
    match source {
        Source::Offer(id) => PullKey::Offer { origin: from, id },
        Source::Content(content) => PullKey::Content(content),
    }
}
