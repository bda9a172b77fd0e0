//! The links of one purpose to all peers.

use std::collections::BTreeMap;
use std::time::Instant;

use mio::Token;
use pickbox_raft_core::ids::NodeId;

use super::frame::Frame;
use super::hello::{Hello, Purpose};
use super::link::{Context, Link, LinkChange, Plan};
use super::trust::{Contact, Trust};

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
    pub(crate) fn set_trust(&mut self, cx: &mut Context<'_>, trust: &Trust) -> Vec<LinkChange> {
        let mut changes = Vec::new();
        let contacts = trust.contacts(cx.me.node);
        self.by_id.retain(|id, link| {
            let stays = contacts.iter().any(|contact| contact.id == *id);
            if !stays && link.is_up() {
                changes.push(LinkChange::Down(*id));
            }
            stays
        });
        for contact in contacts {
            changes.extend(self.meet(cx, contact));
        }
        changes
    }

    /// A peer dials us, so it can be dialed where it says.
    pub(crate) fn greeted(&mut self, cx: &mut Context<'_>, hello: &Hello) -> Option<LinkChange> {
        self.by_id.get_mut(&hello.from)?.heard(cx, &hello.address)
    }

    fn meet(&mut self, cx: &mut Context<'_>, contact: Contact) -> Option<LinkChange> {
        if let Some(link) = self.by_id.get_mut(&contact.id) {
            return link.list(cx, contact);
        }
        let plan =
            Plan { purpose: self.purpose, queue_bytes_max: self.queue_bytes_max, now: cx.now };
        self.by_id.insert(contact.id, Link::new(cx.me, contact, plan));
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
