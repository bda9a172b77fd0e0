//! The origin's side: from a live file to a majority that holds its content.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pickbox_raft::core::ids::NodeId;

use super::{Action, Machine, PullFailure, PullKey, VOIDS_MAX};
use crate::content_id::ContentId;
use crate::contents::message::{CannotTake, Message, OfferId, Source};
use crate::contents::{
    ContentEvent, FailReason, OFFERS_ACTIVE_MAX, OFFERS_MAX, OfferRequest, Quorum, Ticket,
};
use crate::folder::Stat;

/// How long a peer that cannot take an offer is left alone, and a failed copy of one's own.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// How long a settled offer stays open for peers that no longer ask.
const SETTLED_IDLE: Duration = Duration::from_secs(10);

/// All offers of this run.
#[derive(Debug, Default)]
pub(super) struct Offers {
    active: BTreeMap<Ticket, Offer>,
    queue: VecDeque<OfferRequest>,
}

impl Offers {
    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.queue.is_empty()
    }
}

/// One file on its way out.
#[derive(Debug)]
struct Offer {
    request: OfferRequest,
    /// `None` until the file is open.
    size: Option<u64>,
    /// Known once the file was read to its end.
    hashed: Option<(ContentId, Stat)>,
    peers: BTreeMap<NodeId, Part>,
    own: Own,
    /// How many holders the engine was told.
    told: usize,
    life: Life,
    /// When it was opened.
    since: Duration,
    /// When it was last asked for.
    touched: Duration,
}

/// What a peer has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nothing,
    Whole(ContentId),
    Refused { until: Duration },
}

/// What this node holds besides the live file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Nothing,
    Making,
    Syncing,
    Copy(ContentId),
    Synced,
    Failed { until: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Wanted,
    Settled,
}

impl Offer {
    fn new(request: OfferRequest, now: Duration) -> Self {
        let peers = request.peers.iter().map(|peer| (*peer, Part::Nothing)).collect();
        Self {
            request,
            size: None,
            hashed: None,
            peers,
            own: Own::Nothing,
            told: 0,
            life: Life::Wanted,
            since: now,
            touched: now,
        }
    }

    fn holds(&self, node: NodeId, me: NodeId, content: ContentId) -> bool {
        if node == me {
            return self.own == Own::Synced || self.own == Own::Copy(content);
        }
        self.peers.get(&node) == Some(&Part::Whole(content))
    }

    fn holders(&self, me: NodeId, content: ContentId) -> Vec<NodeId> {
        let nodes = self.peers.keys().copied().chain([me]);
        let mut holders: Vec<NodeId> =
            nodes.filter(|node| self.holds(*node, me, content)).collect();
        holders.sort_unstable();
        holders
    }

    /// Whether somebody read other bytes than this node did.
    fn disagrees(&self, content: ContentId) -> bool {
        let other = |part: &Part| matches!(part, Part::Whole(theirs) if *theirs != content);
        self.peers.values().any(other) || matches!(self.own, Own::Copy(theirs) if theirs != content)
    }
}

impl Machine {
    /// The engine has a file to bring to a majority.
    pub(super) fn offer(&mut self, request: OfferRequest) {
        if self.offers.active.len() < OFFERS_ACTIVE_MAX {
            self.open_offer(request);
        } else if self.offers.queue.len() + OFFERS_ACTIVE_MAX < OFFERS_MAX {
            self.offers.queue.push_back(request);
        } else {
            let reason = FailReason::Busy;
            self.tell(ContentEvent::Failed { ticket: request.ticket, reason });
        }
    }

    fn open_offer(&mut self, request: OfferRequest) {
        let (ticket, path, expect) = (request.ticket, request.path.clone(), request.expect);
        self.offers.active.insert(ticket, Offer::new(request, self.now));
        self.act(Action::OpenOffer { ticket, path, expect });
    }

    /// The file is open: everybody connected hears of it.
    pub(super) fn opened(&mut self, ticket: Ticket, size: u64) {
        let Some(offer) = self.offers.active.get_mut(&ticket) else { return };
        offer.size = Some(size);
        let peers: Vec<NodeId> = offer.peers.keys().copied().collect();
        for peer in peers {
            self.send_offer(ticket, peer);
        }
        self.judge(ticket);
    }

    fn send_offer(&mut self, ticket: Ticket, peer: NodeId) {
        let id = self.offer_id(ticket);
        let Some(offer) = self.offers.active.get_mut(&ticket) else { return };
        let (Some(size), Some(Part::Nothing | Part::Refused { .. })) =
            (offer.size, offer.peers.get(&peer))
        else {
            return;
        };
        offer.peers.insert(peer, Part::Nothing);
        let content = offer.hashed.map(|(content, _)| content);
        self.send(peer, Message::Offer { id, size, content });
    }

    /// Tells a peer again what it may have missed.
    pub(super) fn offer_again(&mut self, peer: NodeId) {
        let tickets: Vec<Ticket> = self.offers.active.keys().copied().collect();
        for ticket in tickets {
            self.send_offer(ticket, peer);
        }
    }

    /// The file was read to its end and is still as expected.
    pub(super) fn hashed(&mut self, ticket: Ticket, content: ContentId, stat: Stat) {
        let id = self.offer_id(ticket);
        let Some(offer) = self.offers.active.get_mut(&ticket) else { return };
        offer.hashed = Some((content, stat));
        let waiting = offer.peers.iter().filter(|(_, part)| **part == Part::Nothing);
        let waiting: Vec<NodeId> = waiting.map(|(peer, _)| *peer).collect();
        for peer in waiting {
            self.send(peer, Message::Sealed { id, content });
        }
        self.judge(ticket);
    }

    /// A peer holds it.
    pub(super) fn has(&mut self, from: NodeId, id: OfferId, content: ContentId) {
        if id.incarnation != self.incarnation {
            return;
        }
        let Some(offer) = self.offers.active.get_mut(&id.ticket) else { return };
        let late = offer.told > 0 && offer.hashed.is_some_and(|(ours, _)| ours != content);
        let until = self.now + REFUSED_PAUSE;
        if let Some(part) = offer.peers.get_mut(&from) {
            *part = if late { Part::Refused { until } } else { Part::Whole(content) };
        }
        if late {
            // The file changed after a majority had it: these bytes are no version.
            self.send(from, Message::Drop(id));
        }
        self.judge(id.ticket);
    }

    /// A peer cannot take it.
    pub(super) fn refused(&mut self, from: NodeId, id: OfferId, reason: CannotTake) {
        if id.incarnation != self.incarnation {
            return;
        }
        let until = self.now + REFUSED_PAUSE;
        if let Some(offer) = self.offers.active.get_mut(&id.ticket)
            && let Some(part) = offer.peers.get_mut(&from)
        {
            *part = Part::Refused { until };
            self.tell(ContentEvent::Refused { ticket: id.ticket, peer: from, reason });
        }
        self.judge(id.ticket);
    }

    /// A peer asks for bytes; of an offer that is no more, it hears that they are gone.
    pub(super) fn asked(&mut self, from: NodeId, source: Source, offset: u64, len: u32) {
        if let Source::Offer(id) = source {
            let open = self.offers.active.get_mut(&id.ticket).filter(|offer| {
                id.incarnation == self.incarnation && offer.peers.contains_key(&from)
            });
            match open {
                Some(offer) => offer.touched = self.now,
                None => return self.send(from, Message::Gone(source)),
            }
        }
        self.act(Action::Answer { to: from, source, offset, len });
    }

    /// The live file itself is on disk: enough where this node is the only voter.
    pub(super) fn live_synced(&mut self, ticket: Ticket) {
        if let Some(offer) = self.offers.active.get_mut(&ticket) {
            offer.own = Own::Synced;
        }
        self.judge(ticket);
    }

    /// This node's own copy is in staging.
    pub(super) fn own_stored(&mut self, ticket: Ticket, content: ContentId) {
        match self.offers.active.get_mut(&ticket) {
            Some(offer) => offer.own = Own::Copy(content),
            None => self.unref(content, PullKey::Own(ticket)),
        }
        self.judge(ticket);
    }

    /// This node's own copy could not be made.
    pub(super) fn own_failed(&mut self, ticket: Ticket, reason: PullFailure) {
        log::warn!("cannot copy an offered file: ticket={} reason={reason:?}", ticket.0);
        let until = self.now + REFUSED_PAUSE;
        if let Some(offer) = self.offers.active.get_mut(&ticket) {
            offer.own = Own::Failed { until };
        }
    }

    /// The members changed: other peers, another majority.
    pub(super) fn regroup(&mut self, ticket: Ticket, peers: &[NodeId], quorum: Quorum) {
        if let Some(queued) = self.offers.queue.iter_mut().find(|queued| queued.ticket == ticket) {
            (queued.peers, queued.quorum) = (peers.to_vec(), quorum);
            return;
        }
        let Some(offer) = self.offers.active.get_mut(&ticket) else { return };
        let part = |peer: &NodeId| offer.peers.get(peer).copied().unwrap_or(Part::Nothing);
        let parts = peers.iter().map(|peer| (*peer, part(peer))).collect();
        offer.peers = parts;
        offer.request.quorum = quorum;
        offer.told = 0;
        for peer in peers {
            self.send_offer(ticket, *peer);
        }
        self.judge(ticket);
    }

    /// The engine has what it wanted; peers that still pull may finish.
    pub(super) fn settle(&mut self, ticket: Ticket) {
        self.offers.queue.retain(|request| request.ticket != ticket);
        let Some(offer) = self.offers.active.get_mut(&ticket) else { return };
        offer.life = Life::Settled;
        offer.touched = self.now;
        if let Own::Copy(content) = offer.own {
            offer.own = Own::Nothing;
            self.unref(content, PullKey::Own(ticket));
        }
        self.close_if_done(ticket);
    }

    fn close_if_done(&mut self, ticket: Ticket) {
        let Some(offer) = self.offers.active.get(&ticket) else { return };
        let idle = self.now.saturating_sub(offer.touched) > SETTLED_IDLE;
        let pulling = |(peer, part): (&NodeId, &Part)| *part == Part::Nothing && self.is_up(*peer);
        if offer.life == Life::Settled && (idle || !offer.peers.iter().any(pulling)) {
            self.close_offer(ticket);
        }
    }

    /// Takes an offer away without a word to the peers.
    fn close_offer(&mut self, ticket: Ticket) -> Option<Offer> {
        let offer = self.offers.active.remove(&ticket)?;
        match offer.own {
            Own::Making => self.abandon(PullKey::Own(ticket)),
            Own::Copy(content) => self.unref(content, PullKey::Own(ticket)),
            _ => {}
        }
        self.act(Action::CloseOffer(ticket));
        if let Some(next) = self.offers.queue.pop_front() {
            self.open_offer(next);
        }
        Some(offer)
    }

    /// The offer will never be proposed: everybody forgets it, and the engine hears why.
    pub(super) fn void(&mut self, ticket: Ticket, event: Option<ContentEvent>) {
        self.offers.queue.retain(|request| request.ticket != ticket);
        let id = self.offer_id(ticket);
        let Some(offer) = self.close_offer(ticket) else { return };
        for (peer, part) in offer.peers {
            if self.is_up(peer) {
                self.send(peer, Message::Drop(id));
            } else if part != Part::Nothing {
                self.remember_void(peer, id);
            }
        }
        if let Some(event) = event {
            self.tell(event);
        }
    }

    fn remember_void(&mut self, peer: NodeId, id: OfferId) {
        let voids = &mut self.peer(peer).voids;
        if voids.len() == VOIDS_MAX {
            voids.pop_front();
        }
        voids.push_back(id);
    }

    /// The file changed. After a majority held it that only ends the serving: what the log will
    /// name is safe, and peers that lack it fetch it elsewhere.
    pub(super) fn offer_changed(&mut self, ticket: Ticket) {
        self.offer_ended(ticket, ContentEvent::Changed(ticket));
    }

    pub(super) fn offer_unreadable(&mut self, ticket: Ticket, words: String) {
        let reason = FailReason::Unreadable(words);
        self.offer_ended(ticket, ContentEvent::Failed { ticket, reason });
    }

    fn offer_ended(&mut self, ticket: Ticket, event: ContentEvent) {
        let Some(offer) = self.offers.active.get_mut(&ticket) else { return };
        if offer.told == 0 && offer.life == Life::Wanted {
            return self.void(ticket, Some(event));
        }
        if offer.life == Life::Settled {
            self.close_offer(ticket);
        } else {
            // The engine may still cancel it: the peers' copies must then be voided.
            self.act(Action::CloseOffer(ticket));
        }
    }

    pub(super) fn judge_all(&mut self) {
        let tickets: Vec<Ticket> = self.offers.active.keys().copied().collect();
        for ticket in tickets {
            self.judge(ticket);
        }
    }

    /// Whether the offer has reached its majority, or needs a copy of this node's own.
    fn judge(&mut self, ticket: Ticket) {
        let Some(offer) = self.offers.active.get(&ticket) else { return };
        if offer.life == Life::Settled {
            return self.close_if_done(ticket);
        }
        if let Some((content, stat)) = offer.hashed {
            if offer.disagrees(content) {
                return self.offer_changed(ticket);
            }
            let holders = offer.holders(self.node, content);
            if offer.request.quorum.satisfied(|node| holders.contains(&node)) {
                return self.tell_held(ticket, content, stat, holders);
            }
        }
        self.judge_own(ticket);
    }

    fn tell_held(&mut self, ticket: Ticket, content: ContentId, stat: Stat, holders: Vec<NodeId>) {
        let Some(offer) = self.offers.active.get_mut(&ticket) else { return };
        if holders.len() > offer.told {
            offer.told = holders.len();
            let size = offer.size.unwrap_or(stat.size);
            self.tell(ContentEvent::Held { ticket, content, size, stat, holders });
        }
    }

    /// Makes a copy of this node's own when the peers that can be reached are no majority and
    /// would be one with it.
    fn judge_own(&mut self, ticket: Ticket) {
        let Some(offer) = self.offers.active.get(&ticket) else { return };
        match offer.own {
            Own::Nothing => {}
            Own::Failed { until } if until <= self.now => {}
            _ => return,
        }
        let quorum = &offer.request.quorum;
        let reachable = |node: NodeId| match offer.peers.get(&node) {
            Some(Part::Whole(_)) => true,
            Some(Part::Nothing) => self.is_awake(node, offer.since),
            Some(Part::Refused { .. }) | None => false,
        };
        if offer.size.is_none()
            || quorum.satisfied(reachable)
            || !quorum.satisfied(|node| node == self.node || reachable(node))
        {
            return;
        }
        let alone = quorum.satisfied(|node| node == self.node);
        let (own, action) = if alone {
            if offer.hashed.is_none() {
                return;
            }
            (Own::Syncing, Action::SyncLive(ticket))
        } else {
            (Own::Making, Action::CopyOwn(ticket))
        };
        if let Some(offer) = self.offers.active.get_mut(&ticket) {
            offer.own = own;
        }
        self.act(action);
    }

    pub(super) fn tick_offers(&mut self) {
        let now = self.now;
        let mut again = Vec::new();
        for (ticket, offer) in &self.offers.active {
            let due = |part: &Part| matches!(part, Part::Refused { until } if *until <= now);
            let peers = offer.peers.iter().filter(|(_, part)| due(part));
            again.extend(peers.map(|(peer, _)| (*ticket, *peer)));
        }
        for (ticket, peer) in again {
            self.send_offer(ticket, peer);
        }
        self.judge_all();
    }

    fn offer_id(&self, ticket: Ticket) -> OfferId {
        OfferId { incarnation: self.incarnation, ticket }
    }
}
