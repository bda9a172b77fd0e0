//! What waits to be told to the room above.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pickbox_raft_core::event::{RoleChange as CoreRoleChange, RoleName};
use pickbox_raft_core::log::Entry;

use crate::api::{Delivery, Role, RoleChange};

/// Deliveries in the channel.
const DELIVERIES_MAX: usize = 64;

/// Deliveries in order; those that the channel has no room for wait here. Bounded by the core,
/// which hands out no more entries than `APPLY_BYTES_MAX` before it hears of progress, no more
/// reads than `READS_MAX`, and by keeping only the newest role.
#[derive(Debug)]
pub(crate) struct Upward {
    out: Sender<Delivery>,
    backlog: VecDeque<Delivery>,
}

impl Upward {
    pub(crate) fn new() -> (Self, Receiver<Delivery>) {
        let (out, deliveries) = bounded(DELIVERIES_MAX);
        (Self { out, backlog: VecDeque::new() }, deliveries)
    }

    /// Queues a delivery.
    pub(crate) fn tell(&mut self, delivery: Delivery) {
        if let (Delivery::Role(newer), Some(Delivery::Role(last))) =
            (&delivery, self.backlog.back_mut())
        {
            *last = *newer;
            return;
        }
        self.backlog.push_back(delivery);
    }

    pub(crate) fn tell_entries(&mut self, entries: Vec<Arc<Entry>>) {
        if !entries.is_empty() {
            let entries = entries.into_iter().map(Arc::unwrap_or_clone).collect();
            self.tell(Delivery::Entries(entries));
        }
    }

    /// Hands over as much as there is room for. Nobody listening any more is no error: the room
    /// above may end before the log does.
    pub(crate) fn pump(&mut self) {
        while let Some(delivery) = self.backlog.pop_front() {
            match self.out.try_send(delivery) {
                Ok(()) => {}
                Err(TrySendError::Full(delivery)) => {
                    self.backlog.push_front(delivery);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => self.backlog.clear(),
            }
        }
    }

    /// Whether something waits for room.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The last word; waits for room, but not for long.
    pub(crate) fn last_word(&self, text: String, patience: std::time::Duration) {
        if self.out.send_timeout(Delivery::Stopped(text), patience).is_err() {
            log::debug!("nobody heard that the log stopped");
        }
    }
}

/// The room above does not tell pre-candidates from candidates.
pub(crate) fn role(name: RoleName) -> Role {
    match name {
        RoleName::Follower => Role::Follower,
        RoleName::Learner => Role::Learner,
        RoleName::PreCandidate | RoleName::Candidate => Role::Candidate,
        RoleName::Leader => Role::Leader,
    }
}

pub(crate) fn role_change(change: &CoreRoleChange) -> RoleChange {
    RoleChange { role: role(change.role), term: change.term, leader: change.leader }
}
