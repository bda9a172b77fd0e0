//! How long displaced versions stay in the list. The list is agreed state, so it grows shorter by
//! the log alone: the node that leads asks, with a wall time that the entry carries. The bytes are
//! each node's own affair (see `contents::history` and `syncer`).

use super::{Engine, Fatal};
use crate::history_rows::HISTORY_KEPT_MS;

/// The leader asks at most this often, and takes away at most `PRUNE_ROWS_MAX` rows each time.
pub(super) const PRUNE_EVERY_MS: u64 = 60_000;

/// When to look, and what was found.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) next_ms: u64,
    /// What was displaced before this is to be forgotten, with the next proposal.
    pub(super) before_ms: Option<u64>,
}

impl Engine {
    /// Has what was displaced too long before `wall_ms` forgotten, if this node leads and it is time.
    pub(super) fn retention_tick(&mut self, wall_ms: u64) -> Result<(), Fatal> {
        if !self.quorum.leads || !self.is_live() || self.now_ms < self.retention.next_ms {
            return Ok(());
        }
        self.retention.next_ms = self.now_ms + PRUNE_EVERY_MS;
        let before = wall_ms.saturating_sub(HISTORY_KEPT_MS);
        let oldest = self.index.oldest_history()?;
        self.retention.before_ms = oldest.is_some_and(|oldest| oldest < before).then_some(before);
        Ok(())
    }
}
