//! The watcher without its thread, over a simulated volume: the same steps in the same order, when the
//! simulator says.

use std::time::Instant;

use pickbox_store::engine::ports::WatchAsk;
use pickbox_store::folder::Folder;
use pickbox_store::observation::Sighting;

use crate::events::Drained;
use crate::watcher::{Counts, WatchError, WatchOptions, Watcher};

/// Directory entries listed in one step.
const LIST_ENTRIES: usize = 4;

/// A watcher that somebody else drives.
#[derive(Debug)]
pub struct Steps {
    watcher: Watcher,
}

impl Steps {
    /// As [`crate::Watch::new`].
    ///
    /// # Errors
    /// As [`crate::Watch::new`].
    pub fn new(folder: Folder, beside: Vec<Folder>, now: Instant) -> Result<Self, WatchError> {
        Ok(Self { watcher: Watcher::open(folder, beside, WatchOptions::default(), now)? })
    }

    /// Takes up what the engine asks.
    pub fn ask(&mut self, ask: WatchAsk, now: Instant) {
        match ask {
            WatchAsk::Examine(path) => self.watcher.answer(path, now),
            WatchAsk::Rescan(top) => self.watcher.walks.request(top),
            WatchAsk::Ignore(ignored) => self.watcher.ignore(ignored),
            // Of clients, and there are none here.
            WatchAsk::Flush(_) => {}
        }
    }

    /// One turn, as the thread takes it: the queue first, always. Nothing is looked at while
    /// something seen was not taken.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn turn(&mut self, now: Instant) -> Result<(), WatchError> {
        while self.watcher.drain(now)? == Drained::More {}
        self.watcher.expire_moves(now);
        self.watcher.retry_unreadable(now);
        self.watcher.check_root(now)?;
        if self.watcher.outbox.is_empty() {
            self.watcher.step_fresh(LIST_ENTRIES, now);
            self.watcher.hand_on(now);
            if self.watcher.outbox.is_empty() {
                self.watcher.step_linked(now);
                self.watcher.step_walk(LIST_ENTRIES, now);
            }
        }
        self.watcher.tell_calm();
        Ok(())
    }

    /// Takes the oldest thing seen.
    pub fn take(&mut self) -> Option<Sighting> {
        self.watcher.outbox.pop_front()
    }

    /// How it stands.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.watcher.counts()
    }
}
