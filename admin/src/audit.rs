//! What was refused, for those who look after the node: a line of the target `audit` each, at most so
//! many a second. It names the command, never what follows it.

use std::time::{Duration, Instant};

use crate::authority::Caller;
use crate::stream::Origin;

/// Lines that may come at once.
const BURST: u32 = 10;
/// After which time one more may come.
const REFILL: Duration = Duration::from_secs(1);

/// Counts what is held back.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Lines that may come now.
    left: u32,
    filled: Option<Instant>,
    held_back: u64,
}

impl Audit {
    pub(crate) fn new() -> Self {
        Self { left: BURST, filled: None, held_back: 0 }
    }

    /// Somebody may not do that.
    pub(crate) fn denied(&mut self, command: &str, caller: Caller, origin: &Origin, now: Instant) {
        if let Some(held_back) = self.speak(now) {
            log::warn!(
                target: "audit",
                "event=denied command={command} uid={caller} address={origin} held_back={held_back}"
            );
        }
    }

    /// Somebody said a wrong token, or was not listened to any more; `count`: how often lately.
    pub(crate) fn wrong_token(&mut self, count: u32, origin: &Origin, now: Instant) {
        if let Some(held_back) = self.speak(now) {
            log::warn!(
                target: "audit",
                "event=wrong_token count={count} address={origin} held_back={held_back}"
            );
        }
    }

    /// Whether to say one more line; then how many were held back before.
    fn speak(&mut self, now: Instant) -> Option<u64> {
        let passed = self.filled.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if more > 0 || self.filled.is_none() {
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled = Some(now);
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        };
        self.left = left;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pickbox_raft::clock;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (mut audit, now) = (Audit::new(), clock::now());
        let said = (0..1000).filter(|_| audit.speak(now).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(audit.speak(now + REFILL), Some(990));
        assert_eq!(audit.speak(now + REFILL), None);
        assert_eq!(audit.speak(now + REFILL * 2), Some(1));
        let later = now + REFILL * 1000;
        assert_eq!((0..1000).filter(|_| audit.speak(later).is_some()).count(), 10);
    }
}
