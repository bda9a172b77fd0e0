//! First halves of renames that wait for their second (trap T3).
//!
//! The halves share a cookie, are neither adjacent nor atomic, and the second never comes when
//! the target is outside the folder. Cookies are hints: what is known of directories is checked
//! against their watches whenever one is entered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pickbox_store::observation::Hint;

use crate::tree::{DirId, Key};

/// How long a half waits.
pub(crate) const HOLD: Duration = Duration::from_millis(250);
/// Halves that wait at most; the oldest gives up first.
pub(crate) const HALVES_MAX: usize = 4096;

/// A name that something was renamed away from, or a directory that lost its name to another.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    /// Shared by both halves; none for a directory that was displaced.
    pub(crate) cookie: Option<u32>,
    /// Where it was.
    pub(crate) from: Key,
    /// What was noted of it there and not yet handed on.
    pub(crate) hint: Hint,
    /// The node, if it is a known directory; held while it is here.
    pub(crate) dir: Option<DirId>,
    until: Instant,
}

/// All halves, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    halves: VecDeque<Half>,
}

impl Moves {
    /// Keeps a half. Returns the oldest when there are too many.
    pub(crate) fn keep(
        &mut self,
        cookie: Option<u32>,
        from: Key,
        hint: Hint,
        dir: Option<DirId>,
        now: Instant,
    ) -> Option<Half> {
        self.halves.push_back(Half { cookie, from, hint, dir, until: now + HOLD });
        if self.halves.len() > HALVES_MAX { self.halves.pop_front() } else { None }
    }

    /// The first half of this rename, if it is known.
    pub(crate) fn pair(&mut self, cookie: u32) -> Option<Half> {
        let at = self.halves.iter().rposition(|half| half.cookie == Some(cookie))?;
        self.halves.remove(at)
    }

    /// A directory was found in its place by looking: what is known of its leaving is past.
    /// Returns how often it was held here.
    pub(crate) fn found(&mut self, id: DirId) -> usize {
        let halves = self.halves.iter_mut().filter(|half| half.dir == Some(id));
        halves.map(|half| half.dir = None).count()
    }

    /// Whether a directory may turn up elsewhere in a moment.
    pub(crate) fn is_waiting(&self, id: DirId) -> bool {
        self.halves.iter().any(|half| half.dir == Some(id))
    }

    /// The next half that waited long enough.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Half> {
        if self.next_due()? <= now { self.halves.pop_front() } else { None }
    }

    /// When the next half gives up.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.halves.front().map(|half| half.until)
    }
}
