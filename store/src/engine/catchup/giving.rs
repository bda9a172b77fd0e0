//! The side that has the state.

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{LogPosition, NodeId};

use super::PeerMessage;
use crate::engine::ports::Outgoing;
use crate::engine::{Engine, Fatal};
use crate::index::{Cursor, PAGE_BYTES_MAX, Snapshot};

/// Bytes of one page, about.
pub(super) const PAGE_BYTES: usize = 512 * 1024;
/// Pages given in one turn of the engine, between which it looks at all its other inputs: what an
/// entry waits for because of all transfers together is the reading of one page.
const PAGES_PER_TURN_MAX: usize = 1;
/// Pages given from one tick of 100 ms to the next: 20 MiB a second for all takers together.
pub(in crate::engine) const PAGES_PER_TICK_MAX: usize = 4;
/// Peers that may take the state from this node at a time.
const SERVED_MAX: usize = 4;
/// A snapshot that nobody asked about for so long is let go.
pub(in crate::engine) const SNAPSHOT_IDLE_MS: u64 = 30_000;
/// Bytes of entries behind a snapshot for which the log is kept while the state is given. A
/// transfer that takes longer may have to be followed by another.
pub(in crate::engine) const HELD_LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

const _: () = assert!(PAGES_PER_TURN_MAX <= PAGES_PER_TICK_MAX);
const _: () = assert!(PAGE_BYTES <= PAGE_BYTES_MAX);

/// What a peer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Begin { at_least: LogPosition },
    Continue { position: LogPosition, cursor: Cursor },
}

/// One peer that takes the state from here.
pub(super) struct Giving {
    /// What it is reading; there from its first page on.
    snapshot: Option<Snapshot>,
    /// How many bytes of entries had been applied when that was taken.
    begun_bytes: u64,
    used_ms: u64,
    /// What it asked for last and did not get yet: one page at a time.
    wish: Option<Wish>,
}

impl std::fmt::Debug for Giving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Giving")
            .field("position", &self.position())
            .field("used_ms", &self.used_ms)
            .field("wish", &self.wish)
            .finish_non_exhaustive()
    }
}

impl Giving {
    fn position(&self) -> Option<LogPosition> {
        self.snapshot.as_ref().map(Snapshot::position)
    }
}

impl super::State {
    /// Whether so little was applied since a snapshot was taken that the log is kept for it.
    fn holds_log_for(&self, begun_bytes: u64) -> bool {
        self.applied_bytes.saturating_sub(begun_bytes) <= HELD_LOG_BYTES_MAX
    }

    /// Of which position the state is that a peer reads here.
    #[cfg(test)]
    pub(in crate::engine) fn given_to(&self, peer: NodeId) -> Option<LogPosition> {
        self.giving.get(&peer)?.position()
    }
}

impl Engine {
    /// Notes what a peer asks for. It is given by [`Engine::give_pages`], when its turn comes.
    pub(super) fn wish(&mut self, from: NodeId, wish: Wish) {
        let served = self.catchup.giving.len();
        let used_ms = self.now_ms;
        if served >= SERVED_MAX && !self.catchup.giving.contains_key(&from) {
            // It asks again.
            return;
        }
        let new = || Giving { snapshot: None, begun_bytes: 0, used_ms, wish: None };
        let giving = self.catchup.giving.entry(from).or_insert_with(new);
        giving.used_ms = used_ms;
        giving.wish = Some(wish);
    }

    /// Whether a peer waits for a page that may be given before the next tick.
    pub(in crate::engine) fn has_pages_to_give(&self) -> bool {
        self.catchup.given_pages < PAGES_PER_TICK_MAX
            && self.catchup.giving.values().any(|giving| giving.wish.is_some())
    }

    /// Gives what may be given in this turn, one peer after the other.
    pub(in crate::engine) fn give_pages(&mut self) -> Result<(), Fatal> {
        for _ in 0..PAGES_PER_TURN_MAX {
            if !self.has_pages_to_give() {
                return Ok(());
            }
            let waiting =
                |(peer, giving): (&NodeId, &Giving)| giving.wish.is_some().then_some(*peer);
            let peers: Vec<_> = self.catchup.giving.iter().filter_map(waiting).collect();
            let next = peers.iter().find(|peer| Some(**peer) > self.catchup.given_last);
            let Some(to) = next.or(peers.first()).copied() else { return Ok(()) };
            self.catchup.given_last = Some(to);
            self.catchup.given_pages += 1;
            self.give(to)?;
        }
        Ok(())
    }

    fn give(&mut self, to: NodeId) -> Result<(), Fatal> {
        let Some(mut giving) = self.catchup.giving.remove(&to) else { return Ok(()) };
        match giving.wish.take() {
            Some(Wish::Begin { at_least }) => {
                // One for which the log is not kept any more would not connect to it.
                giving.snapshot.take_if(|_| !self.catchup.holds_log_for(giving.begun_bytes));
                self.snapshot_for(&mut giving, |has| has.index >= at_least.index)?;
                let enough = giving.position().is_some_and(|has| has.index >= at_least.index);
                if enough {
                    self.give_page(to, &giving, Cursor::default())?;
                }
            }
            Some(Wish::Continue { position, cursor }) => {
                // One that was let go while nothing happened is the same if it is taken again.
                self.snapshot_for(&mut giving, |has| has == position)?;
                if giving.position() == Some(position) {
                    self.give_page(to, &giving, cursor)?;
                } else {
                    self.say(to, &PeerMessage::Gone { position })?;
                }
            }
            None => {}
        }
        if giving.snapshot.is_some() {
            self.catchup.giving.insert(to, giving);
        }
        Ok(())
    }

    /// Takes a snapshot if the one that a peer reads will not do and a new one would.
    fn snapshot_for(
        &mut self,
        giving: &mut Giving,
        will_do: impl Fn(LogPosition) -> bool,
    ) -> Result<(), Fatal> {
        if !giving.position().is_some_and(&will_do) && will_do(self.index.position()) {
            giving.snapshot = Some(self.index.snapshot()?);
            giving.begun_bytes = self.catchup.applied_bytes;
        }
        Ok(())
    }

    fn give_page(&mut self, to: NodeId, giving: &Giving, cursor: Cursor) -> Result<(), Fatal> {
        let Some(snapshot) = &giving.snapshot else { return Ok(()) };
        let page = snapshot.page(&cursor, self.catchup.page_bytes)?;
        self.say(to, &PeerMessage::Page { next: page.next, bytes: page.bytes })
    }

    pub(super) fn giving_tick(&mut self) {
        let now = self.now_ms;
        self.catchup.given_pages = 0;
        self.catchup
            .giving
            .retain(|_, giving| now.saturating_sub(giving.used_ms) < SNAPSHOT_IDLE_MS);
        self.let_go_of_log(self.catchup.durable);
    }

    /// Entries were applied: what is held for takers is counted in their bytes.
    pub(in crate::engine) fn count_applied(&mut self, bytes: u64) {
        self.catchup.applied_bytes = self.catchup.applied_bytes.saturating_add(bytes);
    }

    /// All up to `durable` is in force on the disk: the log may drop it, but for what those need
    /// who take the state from here. Otherwise what they put in force would not connect to the log
    /// again, and a cluster that writes faster than it gives would give for ever.
    pub(in crate::engine) fn let_go_of_log(&mut self, durable: LogPosition) {
        self.catchup.durable = durable;
        let held = self.catchup.giving.values().filter_map(|giving| {
            giving.position().filter(|_| self.catchup.holds_log_for(giving.begun_bytes))
        });
        let least = held.min_by_key(|position| position.index);
        let until = match least {
            Some(least) if least.index < durable.index => least,
            _ => durable,
        };
        if until.index > self.catchup.told.index {
            self.catchup.told = until;
            self.out.push_back(Outgoing::Log(Command::Checkpoint(until)));
        }
    }
}
