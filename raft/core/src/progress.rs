//! What a leader knows of one peer, and how much it may send to it.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::ids::{Index, LogPosition, NodeId};
use crate::limits::INFLIGHT_MESSAGES_MAX;
use crate::time::Time;

/// One peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    /// Its log is known to equal ours up to here, durably.
    pub(crate) matched: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    /// When it last answered anything in this term, or when this leader began to ask it.
    pub(crate) heard: Time,
    /// Whether it answered since then and since its connection was lost last.
    pub(crate) answered: bool,
    /// The newest heartbeat round that it answered.
    pub(crate) round: u64,
    /// What it last reported.
    pub(crate) applied: Index,
    pub(crate) placed: Index,
    pub(crate) sync_time: Duration,
    /// The commit index that it was told.
    pub(crate) told: Index,
    /// For a learner: the end of the log when this round of catching up began, and when that was
    /// (thesis, 4.2.1).
    pub(crate) goal: Option<(Index, Time)>,
    /// Old entries for it are being read back.
    pub(crate) reading: bool,
}

/// How entries flow to a peer.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Flow {
    /// Where the logs part is unknown: one append, then wait for its answer or for the next
    /// heartbeat's.
    Probe { paused: bool },
    /// Send as far as the window goes.
    Replicate(Window),
    /// It needs entries that are gone: no appends until it has a whole state.
    Snapshot { at_least: LogPosition },
}

/// Appends that are sent and not yet acknowledged.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Window {
    sent: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Window {
    fn is_full(&self, bytes_max: u64) -> bool {
        self.bytes >= bytes_max || self.sent.len() >= INFLIGHT_MESSAGES_MAX
    }

    fn push(&mut self, last: Index, bytes: u64) {
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn acknowledge(&mut self, matched: Index) {
        while let Some((_, bytes)) = self.sent.front().filter(|(last, _)| *last <= matched) {
            self.bytes -= *bytes;
            self.sent.pop_front();
        }
    }
}

impl Peer {
    /// A peer of which nothing is known; it is tried from `next`.
    pub(crate) fn new(id: NodeId, next: Index, now: Time) -> Self {
        Self {
            id,
            matched: Index::ZERO,
            next,
            flow: Flow::Probe { paused: false },
            heard: now,
            answered: false,
            round: 0,
            applied: Index::ZERO,
            placed: Index::ZERO,
            sync_time: Duration::ZERO,
            told: Index::ZERO,
            goal: None,
            reading: false,
        }
    }

    /// Whether an append may leave, within this many bytes on the way.
    pub(crate) fn may_send(&self, inflight_bytes_max: u64) -> bool {
        match &self.flow {
            Flow::Probe { paused } => !paused,
            Flow::Replicate(window) => !window.is_full(inflight_bytes_max),
            Flow::Snapshot { .. } => false,
        }
    }

    /// Entries up to `last` were sent.
    pub(crate) fn on_sent(&mut self, last: Index, bytes: u64) {
        match &mut self.flow {
            Flow::Probe { paused } => *paused = true,
            Flow::Replicate(window) => {
                window.push(last, bytes);
                self.next = last.next();
            }
            Flow::Snapshot { .. } => {}
        }
    }

    /// It has everything up to `matched`. `base` is where our own log begins.
    pub(crate) fn on_matched(&mut self, matched: Index, base: Index) {
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        match &mut self.flow {
            Flow::Probe { .. } => self.flow = Flow::Replicate(Window::default()),
            Flow::Replicate(window) => window.acknowledge(self.matched),
            Flow::Snapshot { .. } if self.matched >= base => self.probe(),
            Flow::Snapshot { .. } => {}
        }
    }

    /// Goes on with catching up to `last`; says how long the round took that ends now, if one does.
    pub(crate) fn round_of_catching_up(&mut self, last: Index, now: Time) -> Option<Duration> {
        let (goal, began) = *self.goal.get_or_insert((last, now));
        if self.matched < goal {
            return None;
        }
        self.goal = Some((last, now));
        Some(now.since(began))
    }

    /// Starts over from what is known for certain.
    pub(crate) fn probe(&mut self) {
        self.next = self.matched.next();
        self.flow = Flow::Probe { paused: false };
    }

    /// What was sent to it may be lost.
    pub(crate) fn on_unreachable(&mut self) {
        self.answered = false;
        if matches!(self.flow, Flow::Replicate(_)) {
            self.probe();
        }
    }

    /// Whether a rejection of `previous` says something new: an answer to an append that was
    /// overtaken by a success does not.
    pub(crate) fn is_news(&self, previous: Index) -> bool {
        match &self.flow {
            Flow::Probe { .. } => previous.next() == self.next,
            Flow::Replicate(_) => previous > self.matched,
            Flow::Snapshot { .. } => false,
        }
    }
}
