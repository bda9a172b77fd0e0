//! The links of one purpose to all peers.

use std::collections::BTreeMap;
use std::time::Instant;

use mio::Token;
use pickbox_raft_core::ids::NodeId;
use pickbox_raft_core::members::Members;

use super::frame::Frame;
use super::hello::{Hello, Purpose};
use super::link::{Context, Link, LinkChange, Plan};

/// Peers beyond the members known here: they joined while this node was away (see
/// [`Hello::check`]).
const GUESTS_MAX: usize = 16;

/// One link to each peer.
#[derive(Debug)]
pub(crate) struct Links {
    purpose: Purpose,
    queue_bytes_max: usize,
    by_id: BTreeMap<NodeId, Link>,
}

impl Links {
    pub(crate) fn new(purpose: Purpose, queue_bytes_max: usize) -> Self {
        Self { purpose, queue_bytes_max, by_id: BTreeMap::new() }
    }

    /// Follows a change of the members: new ones are dialed, moved ones dialed anew, those that
    /// left are dropped.
    pub(crate) fn set_members(
        &mut self,
        cx: &mut Context<'_>,
        members: &Members,
    ) -> Vec<LinkChange> {
        let mut changes = Vec::new();
        self.by_id.retain(|id, link| {
            let stays = *id >= members.next_id || members.peers().any(|member| member.id == *id);
            if !stays && link.is_up() {
                changes.push(LinkChange::Down(*id));
            }
            stays
        });
        for member in members.peers() {
            changes.extend(self.meet(cx, member.id, &member.address));
        }
        changes
    }

    /// A peer dials us, so it can be dialed where it says.
    pub(crate) fn greeted(
        &mut self,
        cx: &mut Context<'_>,
        hello: &Hello,
        members: &Members,
    ) -> Option<LinkChange> {
        let (id, address) = (hello.from, &hello.address);
        if !self.by_id.contains_key(&id) && id >= members.next_id {
            let guests = self.by_id.keys().filter(|id| **id >= members.next_id).count();
            if guests >= GUESTS_MAX {
                return None;
            }
            self.meet(cx, id, address);
        }
        self.by_id.get_mut(&id)?.heard(cx, address)
    }

    fn meet(&mut self, cx: &mut Context<'_>, id: NodeId, address: &str) -> Option<LinkChange> {
        if id == cx.me.node {
            return None;
        }
        if let Some(link) = self.by_id.get_mut(&id) {
            return link.list(cx, address);
        }
        let plan =
            Plan { purpose: self.purpose, queue_bytes_max: self.queue_bytes_max, now: cx.now };
        self.by_id.insert(id, Link::new(cx.me, id, address.to_owned(), plan));
        None
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Link> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.by_id.get(&id).is_some_and(Link::is_up)
    }

    /// Whether the peer's connection would take a frame at once.
    pub(crate) fn is_hungry(&self, id: NodeId) -> bool {
        self.by_id.get(&id).is_some_and(Link::is_hungry)
    }

    /// Where the peer is dialed.
    pub(crate) fn address(&self, id: NodeId) -> Option<&str> {
        self.by_id.get(&id).map(Link::address)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.by_id.keys().copied()
    }

    /// When to call [`Links::tick`] next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by_id.values().filter_map(Link::deadline).min()
    }

    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) -> Vec<LinkChange> {
        self.by_id.values_mut().filter_map(|link| link.tick(cx)).collect()
    }

    /// Whether the token is of one of these.
    pub(crate) fn owns(&self, token: Token) -> bool {
        self.by_id.values().any(|link| link.owns(token))
    }

    /// One of them is readable or writable.
    pub(crate) fn ready(&mut self, cx: &mut Context<'_>, token: Token) -> Option<LinkChange> {
        self.by_id.values_mut().find(|link| link.owns(token))?.ready(cx)
    }

    /// Queues a frame, or gives it back.
    pub(crate) fn push(&mut self, to: NodeId, frame: Frame) -> Result<(), Frame> {
        match self.by_id.get_mut(&to) {
            Some(link) => link.push(frame),
            None => Err(frame),
        }
    }

    /// Writes what waits; how many bytes, and what changed.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> (usize, Vec<LinkChange>) {
        let mut total = 0;
        let mut changes = Vec::new();
        for link in self.by_id.values_mut().filter(|link| link.wants_flush()) {
            let (bytes, change) = link.flush(cx);
            total += bytes;
            changes.extend(change);
        }
        (total, changes)
    }

    /// Whether a flush was cut short for fairness.
    pub(crate) fn wants_flush(&self) -> bool {
        self.by_id.values().any(Link::wants_flush)
    }
}
