//! The protocol, pure: no I/O, no clock. Inputs come by [`Machine::step`], what is to be done is
//! collected by [`Machine::actions`], and [`Machine::deadline`] says when to call back.
//!
//! Time is a [`Duration`] since any fixed moment; it only has to grow.

mod fetches;
mod offers;
mod pulls;
mod staged;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use pickbox_raft::core::ids::{Incarnation, NodeId};

use self::fetches::Fetches;
use self::offers::Offers;
use self::pulls::Pulls;
use self::staged::StagedSet;
use super::message::{Message, OfferId, Source};
use super::{ContentCommand, ContentEvent, Ticket};
use crate::content_id::ContentId;
use crate::folder::Stat;
use crate::name::RelPath;

/// How often the machine looks for what stalls while anything is under way.
pub const TICK: Duration = Duration::from_millis(500);
/// A peer that says nothing for so long while it is waited for counts as away.
pub const STALL: Duration = Duration::from_secs(3);
/// Voided offers remembered for a peer that is away; beyond, its copies wait for
/// [`ContentCommand::Close`].
pub const VOIDS_MAX: usize = 1024;

/// A content being put together in staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PullKey {
    /// What a peer offers.
    Offer {
        /// Which peer.
        origin: NodeId,
        /// Which of its offers.
        id: OfferId,
    },
    /// What the engine wants.
    Content(ContentId),
    /// This node's own immutable copy of what it offers.
    Own(Ticket),
}

/// Whether a content must be on the disk before it is called stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced with its name: it counts towards a majority.
    Synced,
    /// In the page cache: it can be had again.
    Cached,
}

/// Why a content could not be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullFailure {
    /// The disk is full.
    NoSpace,
    /// The disk failed.
    Disk,
    /// No local file holds it.
    NotHere,
    /// The bytes hash to something else.
    Mismatch,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// [`Action::OpenOffer`]: the file is as expected.
    Opened {
        /// Which offer.
        ticket: Ticket,
        /// Bytes.
        size: u64,
    },
    /// The offered file is not as expected, or changed since.
    OfferChanged(Ticket),
    /// The offered file cannot be read: the system's words.
    OfferUnreadable(Ticket, String),
    /// The offered file was read from end to end.
    OfferHashed {
        /// Which offer.
        ticket: Ticket,
        /// What it holds.
        content: ContentId,
        /// How it looks after that.
        stat: Stat,
    },
    /// [`Action::SyncLive`].
    LiveSynced(Ticket),
    /// [`Action::Finish`], [`Action::Local`], [`Action::CopyOwn`], [`Action::StoreSmall`]: it is
    /// in staging under its hash.
    Stored {
        /// What was put together.
        pull: PullKey,
        /// What it hashed to.
        content: ContentId,
        /// Bytes.
        size: u64,
    },
    /// One of the same failed; nothing of it is left.
    PullFailed {
        /// What was put together.
        pull: PullKey,
        /// Why it is not.
        reason: PullFailure,
    },
    /// [`Action::SyncStaged`].
    Synced(ContentId),
    /// What is in staging under this hash is gone or bad, and removed.
    StagedLost(ContentId),
}

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The engine asks.
    Command(ContentCommand),
    /// Messages can be sent to the peer from now on.
    Up(NodeId),
    /// They cannot any more.
    Down(NodeId),
    /// A peer says something.
    Message {
        /// Which peer.
        from: NodeId,
        /// What.
        message: Message,
        /// How many bytes came behind the header.
        payload_bytes: u64,
    },
    /// An action ended.
    Done(Done),
    /// Time passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message without bytes.
    Send(NodeId, Message),
    /// Read and send a piece, or say that it is gone.
    Answer {
        /// To whom.
        to: NodeId,
        /// Of what.
        source: Source,
        /// From where on.
        offset: u64,
        /// How many bytes.
        len: u32,
    },
    /// Read and send small contents.
    AnswerSmall {
        /// To whom.
        to: NodeId,
        /// Which request.
        batch: u64,
        /// Which.
        contents: Vec<ContentId>,
    },
    /// Open a live file, keep it open, and hash it when there is nothing better to do.
    OpenOffer {
        /// Names it.
        ticket: Ticket,
        /// Where.
        path: RelPath,
        /// How it must look.
        expect: Stat,
    },
    /// Forget it.
    CloseOffer(Ticket),
    /// Sync the live file itself.
    SyncLive(Ticket),
    /// Make an immutable, synced copy of the offered file as [`PullKey::Own`].
    CopyOwn(Ticket),
    /// Make a partial file, with its space reserved.
    Begin {
        /// For what.
        pull: PullKey,
        /// How large.
        size: u64,
    },
    /// Append the bytes of the message at hand.
    Write(PullKey),
    /// Name it by its hash, if that is `expect` or nothing is expected.
    Finish {
        /// Which.
        pull: PullKey,
        /// What it must be.
        expect: Option<ContentId>,
        /// How safe.
        durability: Durability,
    },
    /// Remove a partial file.
    Abandon(PullKey),
    /// Put a content together from what lies on this node, if anything does.
    Local {
        /// Which.
        content: ContentId,
        /// Its size.
        size: u64,
    },
    /// Store a part of the bytes of the message at hand.
    StoreSmall {
        /// As which content.
        content: ContentId,
        /// Where it starts.
        offset: usize,
        /// How long it is.
        len: usize,
    },
    /// Sync what is in staging under this hash.
    SyncStaged(ContentId),
    /// Remove what is in staging under this hash.
    Remove(ContentId),
    /// A peer got bytes of it from here that were not it, or a client reads it: verify what is
    /// stored.
    Verify(ContentId),
    /// Tell the engine.
    Tell(ContentEvent),
}

/// What is known of a peer.
#[derive(Debug, Default)]
struct Peer {
    /// Whether messages can be sent.
    up: bool,
    /// Which run of it, once it said so.
    incarnation: Option<Incarnation>,
    /// When it last said anything.
    heard: Duration,
    /// Whether it has greeted since the connections are there.
    greeted: Greeted,
    /// Offers voided while it was away.
    voids: VecDeque<OfferId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Greeted {
    #[default]
    No,
    Yes,
}

/// The protocol of one node.
#[derive(Debug)]
pub struct Machine {
    incarnation: Incarnation,
    node: NodeId,
    now: Duration,
    ticked: Duration,
    peers: BTreeMap<NodeId, Peer>,
    offers: Offers,
    pulls: Pulls,
    fetches: Fetches,
    staged: StagedSet,
    actions: Vec<Action>,
}

impl Machine {
    /// A machine that knows of these contents (with their sizes) in staging, all wanted until the engine says
    /// otherwise.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, staged: &[(ContentId, u64)]) -> Self {
        Self {
            incarnation,
            node,
            now: Duration::ZERO,
            ticked: Duration::ZERO,
            peers: BTreeMap::new(),
            offers: Offers::default(),
            pulls: Pulls::default(),
            fetches: Fetches::default(),
            staged: StagedSet::recovered(staged),
            actions: Vec::new(),
        }
    }

    /// Takes one input. Time never goes back.
    pub fn step(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Command(command) => self.command(command),
            Input::Up(peer) => self.up(peer),
            Input::Down(peer) => self.down(peer),
            Input::Message { from, message, payload_bytes } => {
                self.peer(from).heard = now;
                self.message(from, message, payload_bytes);
            }
            Input::Done(done) => self.done(done),
            Input::Tick => self.tick(),
        }
    }

    /// What is to be done, in order.
    pub fn actions(&mut self) -> Vec<Action> {
        mem::take(&mut self.actions)
    }

    /// When to call back with [`Input::Tick`]; `None` while nothing is under way.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let idle = self.offers.is_empty() && self.pulls.is_empty() && self.fetches.is_empty();
        (!idle).then_some(self.ticked + TICK)
    }

    fn command(&mut self, command: ContentCommand) {
        match command {
            ContentCommand::Offer(request) => self.offer(request),
            ContentCommand::Regroup { ticket, peers, quorum } => {
                self.regroup(ticket, &peers, quorum);
            }
            ContentCommand::Settle(ticket) => self.settle(ticket),
            ContentCommand::Cancel(ticket) => self.void(ticket, None),
            ContentCommand::Fetch { content, size, from } => self.fetch(content, size, from),
            ContentCommand::Release(content) => self.release(content),
            ContentCommand::Adopted(content) => self.adopted(content),
            ContentCommand::Close { origin, incarnation } => self.close(origin, incarnation),
            ContentCommand::Verify(content) => self.act(Action::Verify(content)),
            // The worker's own.
            ContentCommand::Stop => {}
        }
    }

    fn message(&mut self, from: NodeId, message: Message, payload_bytes: u64) {
        match message {
            Message::Hello(incarnation) => self.hello(from, incarnation),
            Message::Offer { id, size, content } => self.offered(from, id, size, content),
            Message::Sealed { id, content } => self.sealed(from, id, content),
            Message::Drop(id) => self.dropped(from, id),
            Message::Get { source, offset, len } => self.asked(from, source, offset, len),
            Message::Piece { source, offset } => self.piece(from, source, offset, payload_bytes),
            Message::Gone(source) => self.gone(from, source),
            Message::Have { id, content } => self.has(from, id, content),
            Message::Failed { id, reason } => self.refused(from, id, reason),
            Message::GetSmall { batch, contents } => {
                self.act(Action::AnswerSmall { to: from, batch, contents });
            }
            Message::Small { batch, items, gone } => self.small(from, batch, &items, &gone),
            Message::Bad(content) => self.act(Action::Verify(content)),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Opened { ticket, size } => self.opened(ticket, size),
            Done::OfferChanged(ticket) => self.offer_changed(ticket),
            Done::OfferUnreadable(ticket, words) => self.offer_unreadable(ticket, words),
            Done::OfferHashed { ticket, content, stat } => self.hashed(ticket, content, stat),
            Done::LiveSynced(ticket) => self.live_synced(ticket),
            Done::Stored { pull, content, size } => self.stored(pull, content, size),
            Done::PullFailed { pull, reason } => self.pull_failed(pull, reason),
            Done::Synced(content) => self.staged_synced(content),
            Done::StagedLost(content) => self.staged.forget(content),
        }
    }

    fn tick(&mut self) {
        self.ticked = self.now;
        self.tick_offers();
        self.tick_pulls();
        self.tick_fetches();
    }

    /// The peer is connected, in both directions: what was sent before, by either, may be lost.
    fn up(&mut self, peer: NodeId) {
        let now = self.now;
        let state = self.peer(peer);
        state.up = true;
        state.heard = now;
        state.greeted = Greeted::No;
        self.send(peer, Message::Hello(self.incarnation));
        self.resync(peer);
        self.retry_fetches(peer);
    }

    /// The peer says which run of it this is. A second greeting on the same connections means
    /// that it had to forget what it was going to send.
    fn hello(&mut self, from: NodeId, incarnation: Incarnation) {
        self.forget_other_runs(from, incarnation);
        let peer = self.peer(from);
        peer.incarnation = Some(incarnation);
        if mem::replace(&mut peer.greeted, Greeted::Yes) == Greeted::Yes {
            self.resync(from);
        }
    }

    fn resync(&mut self, peer: NodeId) {
        let voids = mem::take(&mut self.peer(peer).voids);
        for id in voids {
            self.send(peer, Message::Drop(id));
        }
        self.offer_again(peer);
        self.ask_again(peer);
        self.ask_small_again(peer);
    }

    fn down(&mut self, peer: NodeId) {
        self.peer(peer).up = false;
        self.ask_small_again(peer);
        self.leave_source(peer);
        self.judge_all();
    }

    fn peer(&mut self, id: NodeId) -> &mut Peer {
        self.peers.entry(id).or_default()
    }

    fn is_up(&self, id: NodeId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.up)
    }

    /// Whether the peer can be sent to and has said something since `since` or lately.
    fn is_awake(&self, id: NodeId, since: Duration) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| peer.up && self.now.saturating_sub(peer.heard.max(since)) <= STALL)
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if self.is_up(to) {
            self.actions.push(Action::Send(to, message));
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn tell(&mut self, event: ContentEvent) {
        self.actions.push(Action::Tell(event));
    }
}
