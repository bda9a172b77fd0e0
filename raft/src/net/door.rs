//! What the consensus thread hands to the bulk thread, and what the room above puts there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pickbox_raft_core::ids::{Fingerprint, NodeId};

use super::bell::Bell;
use super::frame::{Frame, Parser};
use super::hello::Hello;
use super::stream::Stream;
use super::trust::Trust;

/// Connections waiting to be adopted.
const ADOPTIONS_MAX: usize = 32;

/// A content connection that a member dialed.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) hello: Hello,
    pub(crate) key: Fingerprint,
    pub(crate) stream: Stream,
    pub(crate) parser: Parser,
}

/// What waits for one peer.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) frames: VecDeque<Frame>,
    pub(crate) bytes: usize,
    /// Somebody was told that it is full.
    pub(crate) starved: bool,
}

/// What others leave for the bulk thread.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) adoptions: VecDeque<Adoption>,
    /// What is known of the members, until taken.
    pub(crate) trust: Option<Arc<Trust>>,
    /// One for each peer that can be sent to.
    pub(crate) lanes: BTreeMap<NodeId, Lane>,
    pub(crate) stop: bool,
}

impl Desk {
    /// Whether the bulk thread has something to do here.
    pub(crate) fn is_idle(&self) -> bool {
        self.adoptions.is_empty()
            && self.trust.is_none()
            && !self.stop
            && self.lanes.values().all(|lane| lane.frames.is_empty())
    }
}

/// The desk, shared by its users; each holds the lock for a few moves only.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedDesk {
    desk: Arc<Mutex<Desk>>,
    bytes_sent: Arc<AtomicU64>,
}

impl SharedDesk {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Desk> {
        // Nothing done under the lock can leave the desk half changed.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(u64::try_from(bytes).unwrap_or_default(), Ordering::Relaxed);
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }
}

/// The consensus thread's side: hands over connections and members. Dropping it ends the bulk
/// thread.
#[derive(Debug)]
pub(crate) struct BulkDoor {
    desk: SharedDesk,
    bell: Bell,
}

impl BulkDoor {
    pub(crate) fn new(desk: SharedDesk, bell: Bell) -> Self {
        Self { desk, bell }
    }

    /// Hands over an accepted connection; too many at once are dropped, the peer dials again.
    pub(crate) fn adopt(&self, adoption: Adoption) {
        let mut desk = self.desk.lock();
        if desk.adoptions.len() < ADOPTIONS_MAX {
            desk.adoptions.push_back(adoption);
        }
        drop(desk);
        self.bell.ring();
    }

    pub(crate) fn set_trust(&self, trust: Arc<Trust>) {
        self.desk.lock().trust = Some(trust);
        self.bell.ring();
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.desk.bytes_sent()
    }
}

impl Drop for BulkDoor {
    fn drop(&mut self) {
        self.desk.lock().stop = true;
        self.bell.ring();
    }
}
