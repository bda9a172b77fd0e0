//! What clients, and other nodes, wait for; see [`super::flush`], [`super::waits`] and [`super::why`].

use super::flush::Flushes;
use super::waits::Waits;
use super::why::Whys;

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    pub(super) flushes: Flushes,
    pub(super) waits: Waits,
    pub(super) whys: Whys,
}

impl Barriers {
    /// Whether the passing of time may end a wait.
    pub(super) fn is_active(&self) -> bool {
        self.flushes.len() > 0 || self.waits.len() > 0 || self.whys.len() > 0
    }
}
