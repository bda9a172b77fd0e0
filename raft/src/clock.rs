//! The one door to the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock: for deadlines and durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock as time since 1970-01-01 UTC: data for people, never an order.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
