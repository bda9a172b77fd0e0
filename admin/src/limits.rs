//! The bounds of the admin server.

use std::time::Duration;

use crate::token::TOKEN_BYTES_MAX;

/// Longest request line in bytes, without its newline: room for [`FORWARD_DATA_BYTES_MAX`] in
/// base64 and the longest path in JSON escapes.
pub const LINE_BYTES_MAX: usize = 3 * 512 * 1024;
/// Most content of one `FORWARD`, decoded.
pub const FORWARD_DATA_BYTES_MAX: usize = 1024 * 1024;
/// Most content in one answer to `CAT`; the rest is asked for with an offset.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Longest answer; a longer one becomes `ERROR too-large`.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Longest `node_id` field of a `FORWARD`, which is only kept for the audit.
pub const ORIGIN_BYTES_MAX: usize = 64;
/// Longest request line of a client that the folder is not entrusted to, in bytes: what such a client may
/// ask is short, and a token fits.
pub const LINE_OF_STRANGER_BYTES_MAX: usize = 1024;
/// Connections from elsewhere that have not said the token yet.
pub const REMOTE_MAX: usize = 64;
/// How many of these from one address (of v6: from one network of 64 bits).
pub const REMOTE_OF_ADDRESS_MAX: usize = 8;
/// Bytes that one read takes from a connection before the next connection has its turn.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// Input that each connection may hold whatever the others hold.
pub(crate) const GUARANTEED_BYTES: usize = 4 * 1024;
/// Connections accepted in one turn of the loop.
pub(crate) const ACCEPTS_PER_TURN: usize = 64;

const _: () = assert!(FORWARD_DATA_BYTES_MAX / 3 * 4 + 64 * 1024 < LINE_BYTES_MAX);
const _: () = assert!(TOKEN_BYTES_MAX + 16 < LINE_OF_STRANGER_BYTES_MAX);
const _: () = assert!(LINE_OF_STRANGER_BYTES_MAX < GUARANTEED_BYTES);
const _: () = assert!(REMOTE_OF_ADDRESS_MAX < REMOTE_MAX);
const _: () = assert!(PIECE_BYTES_MAX / 3 * 4 + 1024 < ANSWER_BYTES_MAX);

/// The bounds that tests make smaller.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. At the bound the longest idle one is closed if it is idle for
    /// [`Limits::evict_after`]; otherwise the newcomer gets `ERROR busy`. A client that the folder is
    /// entrusted to takes the place of one that it is not, idle or not; one other user has a
    /// quarter at most.
    pub connections_max: usize,
    /// Requests that the node works on at a time; the next gets `ERROR busy`. Half of them are kept for
    /// those whom the folder is entrusted to.
    pub requests_max: usize,
    /// Bytes held in all buffers and unanswered requests together, beyond a small guaranteed share
    /// of each connection. A request that would go over gets `ERROR busy`.
    pub held_bytes_max: usize,
    /// How long a connection may be silent, or leave its answers untaken.
    pub idle: Duration,
    /// How long a client may take for one line, from its first byte on, and for taking one answer,
    /// however steadily bytes flow.
    pub line: Duration,
    /// How long a client elsewhere may take to say the token, and one that the folder is not entrusted to
    /// for a line.
    pub greeting: Duration,
    /// How long a connection must have been idle before it may be closed to make room.
    pub evict_after: Duration,
    /// How long a request may wait for the node; after that its outcome is unknown.
    pub request: Duration,
    /// How long bytes are still read and dropped after the server closed its side, so that the last
    /// answer is not lost to a reset (RFC 1122, 4.2.2.13).
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            requests_max: 1024,
            held_bytes_max: 16 * 1024 * 1024,
            idle: Duration::from_mins(1),
            line: Duration::from_secs(30),
            greeting: Duration::from_secs(5),
            evict_after: Duration::from_secs(2),
            request: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}
