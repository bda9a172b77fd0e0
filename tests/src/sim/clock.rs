//! What a node's clock says: it may run too fast or too slow, and jump ahead, but never back.

/// The usual speed, in thousandths.
const USUAL: u64 = 1_000;

/// A monotonic clock, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// When it was set last, and what it said then.
    set_at: u64,
    said: u64,
    per_mille: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { set_at: 0, said: 0, per_mille: USUAL }
    }
}

impl Clock {
    /// What it says at this moment.
    pub(crate) fn read(&self, now: u64) -> u64 {
        self.said + now.saturating_sub(self.set_at) * self.per_mille / USUAL
    }

    /// The first moment at which it says `time`.
    pub(crate) fn when(&self, time: u64) -> u64 {
        self.set_at + (time.saturating_sub(self.said) * USUAL).div_ceil(self.per_mille)
    }

    pub(crate) fn run_at(&mut self, now: u64, per_mille: u64) {
        *self = Self { set_at: now, said: self.read(now), per_mille };
    }

    pub(crate) fn run_as_usual(&mut self, now: u64) {
        self.run_at(now, USUAL);
    }

    pub(crate) fn jump(&mut self, now: u64, by: u64) {
        *self = Self { set_at: now, said: self.read(now) + by, ..*self };
    }
}
