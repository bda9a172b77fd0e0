//! A moment of a file system: data that is kept and compared, never an order.

use serde::{Deserialize, Serialize};

/// Seconds and nanoseconds since 1970-01-01 UTC, as `statx(2)` gives them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time {
    /// Whole seconds; negative before 1970.
    pub secs: i64,
    /// Nanoseconds within the second, 0..1e9.
    pub nanos: u32,
}
