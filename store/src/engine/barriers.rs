//! What clients, and other nodes, wait for; see [`super::flush`] and [`super::waits`].

use super::flush::Flushes;
use super::waits::Waits;

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    pub(super) flushes: Flushes,
    pub(super) waits: Waits,
}

impl Barriers {
    /// Whether the passing of time may end a wait.
    pub(super) fn is_active(&self) -> bool {
        self.flushes.len() > 0 || self.waits.len() > 0
    }
}
