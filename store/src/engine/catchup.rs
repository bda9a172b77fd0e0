//! A node that was away for longer than the log reaches takes over the whole namespace, page by
//! page; contents follow by hash, as the things are placed.

use std::collections::BTreeMap;

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{LogPosition, NodeId};
use serde::{Deserialize, Serialize};

use super::ports::Outgoing;
use super::{Engine, Fatal};
use crate::index::{Cursor, Importer, Received, Snapshot};

/// The first byte of what engines say to each other on the content connections: no content message
/// begins with it.
pub const ENGINE_TAG: u8 = 0xE0;
/// Bytes of one page, about.
const PAGE_BYTES: usize = 512 * 1024;
/// Peers that may take the state from this node at a time.
const SERVED_MAX: usize = 4;
/// A question that got no answer is asked again after this.
const ANSWER_MS: u64 = 2_000;
/// A snapshot that nobody asked about for so long is let go.
const SNAPSHOT_IDLE_MS: u64 = 30_000;

/// What engines say to each other.
#[derive(Debug, Serialize, Deserialize)]
enum PeerMessage {
    /// Send me the page that begins here; from a new snapshot if there is no cursor.
    Ask { cursor: Option<Cursor> },
    /// A page.
    Page { asked: Option<Cursor>, next: Option<Cursor>, bytes: Vec<u8> },
    /// What you are reading is not kept here any more: begin anew.
    Gone { asked: Option<Cursor> },
}

/// Both sides of the transfer.
#[derive(Debug, Default)]
pub(super) struct State {
    taking: Option<Taking>,
    giving: BTreeMap<NodeId, Giving>,
}

#[derive(Debug)]
struct Taking {
    from: NodeId,
    at_least: LogPosition,
    cursor: Option<Cursor>,
    importer: Importer,
    asked_ms: u64,
}

struct Giving {
    snapshot: Snapshot,
    used_ms: u64,
}

impl std::fmt::Debug for Giving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Giving")
            .field("position", &self.snapshot.position())
            .field("used_ms", &self.used_ms)
            .finish()
    }
}

impl State {
    pub(super) fn is_active(&self) -> bool {
        self.taking.is_some() || !self.giving.is_empty()
    }
}

impl Engine {
    /// The log cannot bring this node up to date by itself.
    pub(super) fn need_state(&mut self, from: NodeId, at_least: LogPosition) -> Result<(), Fatal> {
        if self.catchup.taking.as_ref().is_some_and(|taking| taking.from == from) {
            return Ok(());
        }
        log::info!("event=state_transfer from={from} at_least={}", at_least.index);
        let importer = self.index.import_start()?;
        self.catchup.taking =
            Some(Taking { from, at_least, cursor: None, importer, asked_ms: self.now_ms });
        self.ask_page(from, None)
    }

    /// What came is of no use. The next tick asks anew: at once would be as often as the wire can.
    fn start_over(&mut self, from: NodeId, at_least: LogPosition) -> Result<(), Fatal> {
        let importer = self.index.import_start()?;
        let asked_ms = self.now_ms;
        self.catchup.taking = Some(Taking { from, at_least, cursor: None, importer, asked_ms });
        Ok(())
    }

    fn ask_page(&mut self, from: NodeId, cursor: Option<Cursor>) -> Result<(), Fatal> {
        let bytes =
            postcard::to_allocvec(&PeerMessage::Ask { cursor }).map_err(|_| Fatal::Encode)?;
        self.out.push_back(Outgoing::Peer(from, bytes));
        Ok(())
    }

    pub(super) fn catchup_tick(&mut self) -> Result<(), Fatal> {
        let now = self.now_ms;
        self.catchup
            .giving
            .retain(|_, giving| now.saturating_sub(giving.used_ms) < SNAPSHOT_IDLE_MS);
        if let Some(taking) = &mut self.catchup.taking
            && now.saturating_sub(taking.asked_ms) >= ANSWER_MS
        {
            taking.asked_ms = now;
            let (from, cursor) = (taking.from, taking.cursor);
            return self.ask_page(from, cursor);
        }
        Ok(())
    }

    pub(super) fn peer_message(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), Fatal> {
        match postcard::from_bytes(bytes) {
            Ok(PeerMessage::Ask { cursor }) => self.give_page(from, cursor),
            Ok(PeerMessage::Page { asked, next, bytes }) => {
                self.take_page(from, asked, next, &bytes)
            }
            Ok(PeerMessage::Gone { asked }) => match &self.catchup.taking {
                Some(taking) if taking.from == from && taking.cursor == asked => {
                    let at_least = taking.at_least;
                    self.start_over(from, at_least)
                }
                _ => Ok(()),
            },
            Err(_) => {
                log::warn!("event=peer_garbage from={from}");
                Ok(())
            }
        }
    }

    fn give_page(&mut self, to: NodeId, cursor: Option<Cursor>) -> Result<(), Fatal> {
        if cursor.is_none() {
            if self.catchup.giving.len() >= SERVED_MAX && !self.catchup.giving.contains_key(&to) {
                return Ok(());
            }
            let snapshot = self.index.snapshot()?;
            self.catchup.giving.insert(to, Giving { snapshot, used_ms: self.now_ms });
        }
        let Some(giving) = self.catchup.giving.get_mut(&to) else {
            let bytes = postcard::to_allocvec(&PeerMessage::Gone { asked: cursor })
                .map_err(|_| Fatal::Encode)?;
            self.out.push_back(Outgoing::Peer(to, bytes));
            return Ok(());
        };
        giving.used_ms = self.now_ms;
        let page = giving.snapshot.page(&cursor.unwrap_or_default(), PAGE_BYTES)?;
        let message = PeerMessage::Page { asked: cursor, next: page.next, bytes: page.bytes };
        let bytes = postcard::to_allocvec(&message).map_err(|_| Fatal::Encode)?;
        self.out.push_back(Outgoing::Peer(to, bytes));
        Ok(())
    }

    fn take_page(
        &mut self,
        from: NodeId,
        asked: Option<Cursor>,
        next: Option<Cursor>,
        bytes: &[u8],
    ) -> Result<(), Fatal> {
        let Some(mut taking) = self.catchup.taking.take() else { return Ok(()) };
        if taking.from != from || taking.cursor != asked {
            self.catchup.taking = Some(taking);
            return Ok(());
        }
        match self.index.import_page(&mut taking.importer, bytes) {
            Ok(Received::More) => {
                taking.cursor = next;
                taking.asked_ms = self.now_ms;
                self.catchup.taking = Some(taking);
                self.ask_page(from, next)
            }
            Ok(Received::All) => self.install(taking),
            Err(error) => {
                log::warn!("event=state_page_refused from={from} error=\"{error}\"");
                let at_least = taking.at_least;
                self.start_over(from, at_least)
            }
        }
    }

    fn install(&mut self, taking: Taking) -> Result<(), Fatal> {
        let reached = taking.importer.position().unwrap_or_default();
        if reached.index < taking.at_least.index {
            return self.start_over(taking.from, taking.at_least);
        }
        if let Err(error) = self.index.import_install(taking.importer) {
            log::warn!("event=state_refused from={} error=\"{error}\"", taking.from);
            return self.start_over(taking.from, taking.at_least);
        }
        let (at, members) = (self.index.position(), self.index.members().clone());
        log::info!("event=state_installed index={}", at.index);
        self.out.push_back(Outgoing::Log(Command::StateInstalled { at, members }));
        if let Some(in_flight) = self.in_flight.take() {
            // Whether it is part of the state is not known row by row: each is compared again.
            // The log goes on asking for it until it is seen or settled; a duplicate of it is
            // told by its serial.
            let known = self.index.sessions().get(self.me).map(|session| session.last);
            if known.is_some_and(|last| last >= in_flight.proposal.serial) {
                self.last_serial = in_flight.proposal.serial;
                self.out.push_back(Outgoing::Log(Command::Settled(self.last_serial)));
                self.give_back(in_flight)?;
            } else {
                self.in_flight = Some(in_flight);
            }
        }
        if self.is_live() {
            return self.compare_all();
        }
        // The entry that opens this run may lie within the state: then no other will follow.
        let open = self.index.sessions().get(self.me).map(|session| session.incarnation);
        if open == Some(self.incarnation) { self.open_run() } else { Ok(()) }
    }
}
