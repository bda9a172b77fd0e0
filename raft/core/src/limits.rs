//! Every bound of the core, in one place. None of them is a promise of the protocol: nodes with
//! other values work together, except that no node may send what [`ENTRY_BYTES_MAX`] forbids.

/// The bounds on bytes, which a simulation makes smaller to reach them sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// See [`MESSAGE_BYTES_MAX`].
    pub message_bytes: u64,
    /// See [`INFLIGHT_BYTES_MAX`].
    pub inflight_bytes: u64,
    /// See [`RECENT_BYTES_MAX`].
    pub recent_bytes: u64,
    /// See [`UNCOMMITTED_BYTES_MAX`].
    pub uncommitted_bytes: u64,
    /// See [`APPLY_BYTES_MAX`].
    pub apply_bytes: u64,
}

impl Limits {
    /// The bounds of this module.
    pub const USUAL: Self = Self {
        message_bytes: MESSAGE_BYTES_MAX,
        inflight_bytes: INFLIGHT_BYTES_MAX,
        recent_bytes: RECENT_BYTES_MAX,
        uncommitted_bytes: UNCOMMITTED_BYTES_MAX,
        apply_bytes: APPLY_BYTES_MAX,
    };
}

/// Largest entry, as [`crate::log::Entry::bytes`] counts it: 1 MiB of changes, one more record
/// and the frame around them.
pub const ENTRY_BYTES_MAX: u64 = 1024 * 1024 + 64 * 1024 + 4096;

/// Entries in one append message stay below this, unless a single one is larger.
pub const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Entries in one append message, whatever their size.
pub const MESSAGE_ENTRIES_MAX: usize = 4096;

/// Entries sent to one peer and not yet acknowledged, in bytes (at least one message).
pub const INFLIGHT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Append messages sent to one peer and not yet acknowledged.
pub const INFLIGHT_MESSAGES_MAX: usize = 256;

/// Payloads of the newest entries that are kept in memory; older ones are read back from the log.
pub const RECENT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Proposals appended by this leader and not yet committed; above it they are refused as busy.
pub const UNCOMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Committed entries handed out and not yet reported as applied (at least one entry).
pub const APPLY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads that wait for confirmation, on one node; more are answered with no index.
pub const READS_MAX: usize = 1024;

/// Requests to change the members that wait for their commit.
pub const CHANGES_MAX: usize = 64;

/// Members, voters and learners together.
pub const MEMBERS_MAX: usize = 64;

/// Join tokens that are neither used nor revoked nor found to be over.
pub const TOKENS_MAX: usize = 64;

/// Keys of removed members that are remembered, so that who comes back can be told why it is not
/// let in. The oldest is forgotten first; forgotten or not, none of them is a member.
pub const DEPARTED_MAX: usize = 64;

/// Length of a member's name and of its address, in bytes each.
pub const NAME_BYTES_MAX: usize = 255;

const _: () = assert!(MESSAGE_BYTES_MAX <= INFLIGHT_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX <= APPLY_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX <= UNCOMMITTED_BYTES_MAX);
const _: () = assert!(INFLIGHT_BYTES_MAX <= RECENT_BYTES_MAX);
