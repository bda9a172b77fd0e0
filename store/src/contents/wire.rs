//! What the worker needs of the content connections.

use pickbox_raft::bulk::{BulkError, BulkHandle};
use pickbox_raft::core::ids::NodeId;

/// Sends to peers: the bulk thread's handle, or a network in a test.
pub trait Wire {
    /// Whether a message would be taken now.
    ///
    /// # Errors
    /// As [`Wire::send`].
    fn room(&self, to: NodeId) -> Result<(), BulkError>;

    /// Queues a message. In order for each peer; lost if the connection breaks.
    ///
    /// # Errors
    /// `Busy`: come back after `Drained`. `Unreachable`: after `Up`.
    fn send(&self, to: NodeId, bytes: Vec<u8>) -> Result<(), BulkError>;
}

impl Wire for BulkHandle {
    fn room(&self, to: NodeId) -> Result<(), BulkError> {
        Self::room(self, to)
    }

    fn send(&self, to: NodeId, bytes: Vec<u8>) -> Result<(), BulkError> {
        Self::send(self, to, bytes)
    }
}
