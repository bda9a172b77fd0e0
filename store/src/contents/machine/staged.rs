//! Which contents lie whole in staging, and who counts on them.

use std::collections::{BTreeMap, BTreeSet};

use pickbox_raft::core::ids::{Incarnation, NodeId};

use super::{Action, Durability, Machine, PullKey};
use crate::content_id::ContentId;
use crate::contents::message::OfferId;

/// The contents in staging.
#[derive(Debug, Default)]
pub(super) struct StagedSet {
    contents: BTreeMap<ContentId, Staged>,
    /// Which content each offer turned out to be.
    offers: BTreeMap<PullKey, ContentId>,
    /// Offers that count on a content which the engine renamed away: a copy of it is under way.
    orphans: BTreeMap<ContentId, Vec<PullKey>>,
}

/// One of them.
#[derive(Debug)]
struct Staged {
    size: u64,
    durability: Durability,
    /// Whether the engine wants it there.
    claimed: Claim,
    /// The offers that count on it, oldest first.
    refs: Vec<PullKey>,
    /// Offers that are answered once it is synced.
    waiting: BTreeSet<(NodeId, OfferId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Engine,
    Nobody,
}

impl StagedSet {
    /// What a start found: wanted until the engine says otherwise, and not known to be synced.
    pub(super) fn recovered(contents: &[(ContentId, u64)]) -> Self {
        let mut set = Self::default();
        for (content, size) in contents {
            set.add(*content, *size, Durability::Cached);
            set.claim(*content);
        }
        set
    }

    pub(super) fn has(&self, content: ContentId) -> bool {
        self.contents.contains_key(&content)
    }

    pub(super) fn add(&mut self, content: ContentId, size: u64, durability: Durability) {
        let new = Staged {
            size,
            durability,
            claimed: Claim::Nobody,
            refs: Vec::new(),
            waiting: BTreeSet::new(),
        };
        let staged = self.contents.entry(content).or_insert(new);
        // A rename over an older copy leaves the newer one's durability.
        staged.durability = durability;
    }

    pub(super) fn add_ref(&mut self, content: ContentId, key: PullKey) {
        if let Some(staged) = self.contents.get_mut(&content)
            && !staged.refs.contains(&key)
        {
            staged.refs.push(key);
            self.offers.insert(key, content);
        }
    }

    /// What this offer turned out to be, if it is here.
    pub(super) fn content_of(&self, key: PullKey) -> Option<ContentId> {
        self.offers.get(&key).copied()
    }

    pub(super) fn claim(&mut self, content: ContentId) {
        if let Some(staged) = self.contents.get_mut(&content) {
            staged.claimed = Claim::Engine;
        }
    }

    /// It is not there any more; gives what was known of it.
    fn take(&mut self, content: ContentId) -> Option<Staged> {
        let staged = self.contents.remove(&content)?;
        for key in &staged.refs {
            self.offers.remove(key);
        }
        Some(staged)
    }

    pub(super) fn forget(&mut self, content: ContentId) {
        self.take(content);
    }

    pub(super) fn refs_of(&self, node: NodeId, run: Incarnation) -> Vec<(PullKey, ContentId)> {
        let of_run = |key: &PullKey| match key {
            PullKey::Offer { origin, id } => *origin == node && id.incarnation == run,
            PullKey::Content(_) | PullKey::Own(_) => false,
        };
        let all = self.offers.iter().filter(|(key, _)| of_run(key));
        all.map(|(key, content)| (*key, *content)).collect()
    }
}

impl Machine {
    /// What a peer offers lies here already: synced first, unless it is.
    pub(super) fn have_already(&mut self, key: PullKey, content: ContentId) {
        let PullKey::Offer { origin, id } = key else { return };
        let Some(staged) = self.staged.contents.get_mut(&content) else { return };
        if staged.durability == Durability::Synced {
            return self.have_now(origin, id, content);
        }
        staged.waiting.insert((origin, id));
        if staged.waiting.len() == 1 {
            self.act(Action::SyncStaged(content));
        }
    }

    /// It is durable now: the offers that waited for that are answered.
    pub(super) fn staged_synced(&mut self, content: ContentId) {
        let Some(staged) = self.staged.contents.get_mut(&content) else { return };
        staged.durability = Durability::Synced;
        for (origin, id) in std::mem::take(&mut staged.waiting) {
            self.have_now(origin, id, content);
        }
    }

    /// An offer no longer counts on it.
    pub(super) fn unref(&mut self, content: ContentId, key: PullKey) {
        if let Some(staged) = self.staged.contents.get_mut(&content) {
            staged.refs.retain(|other| *other != key);
            self.staged.offers.remove(&key);
            if let PullKey::Offer { origin, id } = key {
                staged.waiting.remove(&(origin, id));
            }
        }
        self.remove_if_idle(content);
    }

    /// The engine no longer wants it.
    pub(super) fn release(&mut self, content: ContentId) {
        self.unwant(content);
        if let Some(staged) = self.staged.contents.get_mut(&content) {
            staged.claimed = Claim::Nobody;
        }
        self.remove_if_idle(content);
    }

    pub(super) fn remove_if_idle(&mut self, content: ContentId) {
        let idle = self.staged.contents.get(&content).is_some_and(|staged| {
            staged.claimed == Claim::Nobody && staged.refs.is_empty() && staged.waiting.is_empty()
        });
        if idle {
            self.staged.forget(content);
            self.act(Action::Remove(content));
        }
    }

    /// The engine renamed it out of staging: one committed change for one offer. If more offers
    /// count on it, another copy is made at once.
    pub(super) fn adopted(&mut self, content: ContentId) {
        let Some(mut staged) = self.staged.take(content) else { return };
        let committed = staged.refs.iter().position(|key| matches!(key, PullKey::Offer { .. }));
        if let Some(at) = committed {
            staged.refs.remove(at);
        }
        let waiting = staged.waiting.iter().map(|(origin, id)| (*origin, *id));
        let waiting = waiting.map(|(origin, id)| PullKey::Offer { origin, id });
        let orphans: Vec<PullKey> = staged.refs.iter().copied().chain(waiting).collect();
        if !orphans.is_empty() {
            self.staged.orphans.entry(content).or_default().extend(orphans);
            self.fetch_for_offers(content, staged.size);
        }
    }

    /// A copy is there again for the offers that count on it.
    pub(super) fn adopt_orphans(&mut self, content: ContentId) {
        for key in self.staged.orphans.remove(&content).unwrap_or_default() {
            match key {
                PullKey::Offer { .. } => self.have_already(key, content),
                PullKey::Own(_) | PullKey::Content(_) => self.staged.add_ref(content, key),
            }
        }
    }
}
