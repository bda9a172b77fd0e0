//! Contents that the engine wants: looked for on this node first, then asked of peers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pickbox_raft::core::ids::NodeId;

use super::{Action, Machine, PullKey, STALL};
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::contents::message::{Message, SmallItem};
use crate::contents::{
    ContentEvent, FETCHES_MAX, FetchFailure, PULLS_ACTIVE_MAX, SMALL_BATCH_BYTES, SMALL_BATCH_COUNT,
};

/// First pause after nobody had it; doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause between two rounds.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Large contents looked for at a time: offers of peers must not wait behind a catch-up.
const LARGE_ACTIVE_MAX: usize = PULLS_ACTIVE_MAX / 2;

/// All that the engine wants and does not have.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    wants: BTreeMap<ContentId, Want>,
    /// Wanted, and nothing was done for it yet.
    fresh: VecDeque<ContentId>,
    /// Small ones to be asked of peers.
    small: VecDeque<ContentId>,
    /// What each peer was asked.
    asked: BTreeMap<NodeId, Asked>,
    /// The last request's number.
    batch: u64,
    /// How many large ones are being looked for.
    large_active: BTreeSet<ContentId>,
}

impl Fetches {
    pub(super) fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }
}

/// A request for small contents.
#[derive(Debug)]
struct Asked {
    batch: u64,
    contents: Vec<ContentId>,
    at: Duration,
}

/// A wanted content.
#[derive(Debug)]
struct Want {
    size: u64,
    hints: Vec<NodeId>,
    /// Who said that it does not have it, or sent something else.
    gone: BTreeSet<NodeId>,
    phase: Phase,
    pause: Duration,
    told: Option<FetchFailure>,
    who: Who,
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Engine,
    /// Offers whose staged copy the engine renamed away.
    Offers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    /// Looked for on this node.
    Local,
    /// An offer of a peer is bringing it.
    Riding,
    /// Asked of a peer, or about to be.
    Asking,
    /// Nobody had it.
    Pausing {
        until: Duration,
    },
}

impl Want {
    fn is_small(&self) -> bool {
        self.size <= INLINE_BYTES_MAX
    }
}

impl Machine {
    /// The engine wants a content in staging.
    pub(super) fn fetch(&mut self, content: ContentId, size: u64, from: Vec<NodeId>) {
        if self.staged.has(content) {
            self.staged.claim(content);
            return self.tell(ContentEvent::Fetched(content));
        }
        if let Some(want) = self.fetches.wants.get_mut(&content) {
            want.hints = from;
            want.who = Who::Engine;
        } else if self.fetches.wants.len() >= FETCHES_MAX {
            self.tell(ContentEvent::FetchFailed { content, reason: FetchFailure::Busy });
        } else {
            self.want(content, size, from, Who::Engine);
        }
    }

    /// Offers of peers count on a content that was renamed away.
    pub(super) fn fetch_for_offers(&mut self, content: ContentId, size: u64) {
        if !self.fetches.wants.contains_key(&content) {
            self.want(content, size, Vec::new(), Who::Offers);
        }
    }

    fn want(&mut self, content: ContentId, size: u64, hints: Vec<NodeId>, who: Who) {
        let want = Want {
            size,
            hints,
            gone: BTreeSet::new(),
            phase: Phase::Fresh,
            pause: BACKOFF_MIN,
            told: None,
            who,
        };
        self.fetches.wants.insert(content, want);
        self.fetches.fresh.push_back(content);
        self.start_wanted();
    }

    /// Takes up what waits, as far as there is room.
    fn start_wanted(&mut self) {
        let mut held_back = VecDeque::new();
        while let Some(content) = self.fetches.fresh.pop_front() {
            let Some(want) = self.fetches.wants.get_mut(&content) else { continue };
            let size = want.size;
            if !want.is_small() {
                if self.fetches.large_active.len() >= LARGE_ACTIVE_MAX {
                    held_back.push_back(content);
                    break;
                }
                self.fetches.large_active.insert(content);
            }
            if self.is_coming(content) {
                self.set_phase(content, Phase::Riding);
            } else {
                self.set_phase(content, Phase::Local);
                self.act(Action::Local { content, size });
            }
        }
        held_back.append(&mut self.fetches.fresh);
        self.fetches.fresh = held_back;
    }

    fn set_phase(&mut self, content: ContentId, phase: Phase) {
        if let Some(want) = self.fetches.wants.get_mut(&content) {
            want.phase = phase;
        }
    }

    /// Nothing on this node holds it.
    pub(super) fn not_local(&mut self, content: ContentId) {
        self.other_source(content);
    }

    /// The offer that was bringing it is over without having brought it.
    pub(super) fn ride_over(&mut self, content: ContentId) {
        let riding = |want: &Want| want.phase == Phase::Riding;
        if self.fetches.wants.get(&content).is_some_and(riding) && !self.is_coming(content) {
            self.other_source(content);
        }
    }

    /// Asks the next peer that may have it.
    pub(super) fn other_source(&mut self, content: ContentId) {
        let Some(want) = self.fetches.wants.get(&content) else { return };
        let small = want.is_small();
        let Some(peer) = self.source_for(want) else { return self.nobody(content) };
        let size = want.size;
        self.set_phase(content, Phase::Asking);
        if small {
            self.fetches.small.push_back(content);
            self.pump_small();
        } else {
            self.pull_content(content, size, peer);
        }
    }

    fn source_for(&self, want: &Want) -> Option<NodeId> {
        let connected = self.peers.iter().filter(|(_, peer)| peer.up).map(|(id, _)| *id);
        let mut candidates = want.hints.iter().copied().chain(connected);
        candidates.find(|peer| self.is_up(*peer) && !want.gone.contains(peer))
    }

    /// Every connected peer was asked: a pause, then all over again. What arrived so far is kept
    /// when it is only the connections that are missing.
    fn nobody(&mut self, content: ContentId) {
        let asked = self.fetches.wants.get(&content).is_some_and(|want| !want.gone.is_empty());
        let reason = if asked { FetchFailure::NobodyHasIt } else { FetchFailure::NobodyReachable };
        if asked {
            self.stop_pulling(content);
        }
        self.put_off(content, reason);
    }

    /// It cannot be had now.
    pub(super) fn put_off(&mut self, content: ContentId, reason: FetchFailure) {
        let now = self.now;
        self.fetches.large_active.remove(&content);
        let Some(want) = self.fetches.wants.get_mut(&content) else { return };
        want.phase = Phase::Pausing { until: now + want.pause };
        want.pause = (want.pause * 2).min(BACKOFF_MAX);
        if want.told.replace(reason) != Some(reason) && want.who == Who::Engine {
            self.tell(ContentEvent::FetchFailed { content, reason });
        }
        self.start_wanted();
    }

    /// The peer does not have it.
    pub(super) fn source_gone(&mut self, content: ContentId, from: NodeId) {
        if let Some(want) = self.fetches.wants.get_mut(&content) {
            want.gone.insert(from);
        }
        self.other_source(content);
    }

    /// The peer does not answer: another one is asked, if there is any.
    pub(super) fn source_silent(&mut self, content: ContentId, from: NodeId) {
        let Some(want) = self.fetches.wants.get_mut(&content) else { return };
        want.gone.insert(from);
        let other = self.fetches.wants.get(&content).and_then(|want| self.source_for(want));
        if other.is_none()
            && let Some(want) = self.fetches.wants.get_mut(&content)
        {
            want.gone.remove(&from);
        }
        self.other_source(content);
    }

    /// What the peers sent was not it. If one peer sent all of it, that one should know.
    pub(super) fn mismatch(&mut self, content: ContentId, senders: &BTreeSet<NodeId>) {
        if let (1, Some(sender)) = (senders.len(), senders.first()) {
            log::warn!(
                "bytes of a peer do not hash to their content: peer={sender} content={content}"
            );
            self.send(*sender, Message::Bad(content));
        }
        if let Some(want) = self.fetches.wants.get_mut(&content) {
            want.gone.extend(senders);
        }
        self.other_source(content);
    }

    /// It is in staging.
    pub(super) fn fetched(&mut self, content: ContentId) {
        let Some(want) = self.fetches.wants.remove(&content) else { return };
        self.fetches.large_active.remove(&content);
        self.stop_pulling(content);
        if want.who == Who::Engine {
            self.staged.claim(content);
            self.tell(ContentEvent::Fetched(content));
        }
        self.start_wanted();
    }

    /// Nobody wants it any more.
    pub(super) fn unwant(&mut self, content: ContentId) {
        if self.fetches.wants.remove(&content).is_some() {
            self.fetches.large_active.remove(&content);
            self.stop_pulling(content);
            self.act(Action::Abandon(PullKey::Content(content)));
            self.start_wanted();
        }
    }

    /// Asks each idle peer for as many small contents as fit.
    fn pump_small(&mut self) {
        let idle = |(id, peer): (&NodeId, &super::Peer)| {
            (peer.up && !self.fetches.asked.contains_key(id)).then_some(*id)
        };
        let idle: Vec<NodeId> = self.peers.iter().filter_map(idle).collect();
        for peer in idle {
            let contents = self.take_small(peer);
            if !contents.is_empty() {
                self.fetches.batch += 1;
                let batch = self.fetches.batch;
                let asked = Asked { batch, contents: contents.clone(), at: self.now };
                self.fetches.asked.insert(peer, asked);
                self.send(peer, Message::GetSmall { batch, contents });
            }
        }
    }

    /// What to ask this peer: contents whose best source it is.
    fn take_small(&mut self, peer: NodeId) -> Vec<ContentId> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut others: Vec<ContentId> = Vec::new();
        while batch.len() < SMALL_BATCH_COUNT
            && others.len() < SMALL_BATCH_COUNT
            && bytes < SMALL_BATCH_BYTES
            && let Some(content) = self.fetches.small.pop_front()
        {
            let Some(want) = self.fetches.wants.get(&content) else { continue };
            if want.phase != Phase::Asking {
                continue;
            }
            if self.source_for(want) == Some(peer) {
                bytes += usize::try_from(want.size).unwrap_or(usize::MAX);
                batch.push(content);
            } else {
                others.push(content);
            }
        }
        self.fetches.small.extend(others);
        batch
    }

    /// Small contents came.
    pub(super) fn small(
        &mut self,
        from: NodeId,
        batch: u64,
        items: &[SmallItem],
        gone: &[ContentId],
    ) {
        let answers = |asked: &Asked| asked.batch == batch;
        if !self.fetches.asked.get(&from).is_some_and(answers) {
            return;
        }
        let asked = self.fetches.asked.remove(&from).map(|asked| asked.contents);
        let asked = asked.unwrap_or_default();
        let mut offset = 0;
        let mut answered = BTreeSet::new();
        for item in items {
            let len = usize::try_from(item.len).unwrap_or(usize::MAX);
            if asked.contains(&item.content) && self.fetches.wants.contains_key(&item.content) {
                answered.insert(item.content);
                self.act(Action::StoreSmall { content: item.content, offset, len });
            }
            offset += len;
        }
        for content in asked {
            if gone.contains(&content) {
                self.source_gone(content, from);
            } else if !answered.contains(&content) {
                self.fetches.small.push_back(content);
            } else if let Some(want) = self.fetches.wants.get_mut(&content) {
                // If the bytes turn out to be others, this peer is not asked again.
                want.gone.insert(from);
            }
        }
        self.pump_small();
    }

    /// What the peer was asked may be lost.
    pub(super) fn ask_small_again(&mut self, peer: NodeId) {
        let asked = self.fetches.asked.remove(&peer);
        for content in asked.into_iter().flat_map(|asked| asked.contents) {
            self.other_source(content);
        }
        self.pump_small();
    }

    /// A peer is there (again): what nobody had may be there.
    pub(super) fn retry_fetches(&mut self, peer: NodeId) {
        let waits = |want: &Want| matches!(want.phase, Phase::Pausing { .. });
        let waiting = self.fetches.wants.iter_mut().filter(|(_, want)| waits(want));
        let mut again = Vec::new();
        for (content, want) in waiting {
            want.gone.remove(&peer);
            want.pause = BACKOFF_MIN;
            again.push(*content);
        }
        self.try_again(again);
    }

    fn try_again(&mut self, contents: Vec<ContentId>) {
        for content in contents {
            if self.is_pulling(content) {
                self.other_source(content);
            } else {
                self.set_phase(content, Phase::Fresh);
                self.fetches.fresh.push_back(content);
            }
        }
        self.start_wanted();
    }

    pub(super) fn tick_fetches(&mut self) {
        let now = self.now;
        let due = |want: &Want| matches!(want.phase, Phase::Pausing { until } if until <= now);
        let mut again = Vec::new();
        for (content, want) in self.fetches.wants.iter_mut().filter(|(_, want)| due(want)) {
            want.gone.clear();
            again.push(*content);
        }
        self.try_again(again);
        let silent = |asked: &Asked| now.saturating_sub(asked.at) > STALL * 2;
        let silent = self.fetches.asked.iter().filter(|(_, asked)| silent(asked));
        let silent: Vec<NodeId> = silent.map(|(peer, _)| *peer).collect();
        for peer in silent {
            let asked = self.fetches.asked.remove(&peer);
            for content in asked.into_iter().flat_map(|asked| asked.contents) {
                self.source_gone(content, peer);
            }
        }
    }
}
