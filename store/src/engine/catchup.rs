//! A node that was away for longer than the log reaches takes over the whole namespace, page by
//! page; contents follow by hash, as the things are placed.
//!
//! A state is named by its position: what the log has made up to there is the same on every node.
//! So a page is known by position and number, whoever sends it, whatever came before or twice, and
//! a broken connection costs nothing but the page that was on it. The receiver asks for one page at
//! a time (`taking`); the giver (`giving`) bounds what it gives, so that its own entries do not
//! wait, and keeps the log from the position on, so that what is put in force connects to it.

mod giving;
mod taking;

use std::collections::BTreeMap;

use pickbox_raft::core::ids::{LogPosition, NodeId};
use serde::{Deserialize, Serialize};

use self::giving::Giving;
use self::taking::Taking;
use super::compare::Sum;
use super::ports::Outgoing;
use super::questions::{Question, Told};
use super::{Engine, Fatal};
use crate::index::Cursor;

#[cfg(test)]
pub(super) use self::giving::{HELD_LOG_BYTES_MAX, PAGES_PER_TICK_MAX, SNAPSHOT_IDLE_MS};

/// The first byte of what engines say to each other on the content connections: no content message
/// begins with it.
pub const ENGINE_TAG: u8 = 0xE0;

/// What engines say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PeerMessage {
    /// Send me the first page of a state at this position or a later one.
    Begin {
        /// At least this.
        at_least: LogPosition,
    },
    /// Send me the page of the state at this position that begins here.
    Continue {
        /// Of which state.
        position: LogPosition,
        /// Where.
        cursor: Cursor,
    },
    /// A page, which says itself of which state it is and which of its pages.
    Page {
        /// Where the next one begins; nothing after the last.
        next: Option<Cursor>,
        /// The page.
        bytes: Vec<u8>,
    },
    /// The state at this position is not kept here (any more).
    Gone {
        /// Which.
        position: LogPosition,
    },
    /// What the sender made of the log.
    Sum(Sum),
    /// A question; see [`super::questions`].
    Ask {
        /// How it is to be read.
        version: u8,
        /// What the answers bear.
        number: u64,
        /// What is asked.
        question: Question,
    },
    /// An answer.
    Tell {
        /// How it is to be read.
        version: u8,
        /// Of the question.
        number: u64,
        /// What is said.
        told: Told,
    },
}

/// Both sides of the transfer.
#[derive(Debug)]
pub(super) struct State {
    /// Bytes of one page, about.
    pub(super) page_bytes: usize,
    taking: Option<Taking>,
    giving: BTreeMap<NodeId, Giving>,
    /// Who was given a page last: the next one goes to another, if any waits.
    given_last: Option<NodeId>,
    /// Pages given since the last tick.
    given_pages: usize,
    /// Bytes of all entries that were applied since the start.
    applied_bytes: u64,
    /// The last position that the log was told it may drop.
    told: LogPosition,
    /// The position up to which this node would let it.
    durable: LogPosition,
}

impl Default for State {
    fn default() -> Self {
        Self {
            page_bytes: giving::PAGE_BYTES,
            taking: None,
            giving: BTreeMap::new(),
            given_last: None,
            given_pages: 0,
            applied_bytes: 0,
            told: LogPosition::default(),
            durable: LogPosition::default(),
        }
    }
}

impl State {
    pub(super) fn is_active(&self) -> bool {
        self.taking.is_some() || !self.giving.is_empty()
    }
}

impl Engine {
    pub(super) fn catchup_tick(&mut self) -> Result<(), Fatal> {
        self.giving_tick();
        self.taking_tick()
    }

    pub(super) fn peer_message(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), Fatal> {
        match postcard::from_bytes(bytes) {
            Ok(PeerMessage::Begin { at_least }) => {
                self.wish(from, giving::Wish::Begin { at_least });
            }
            Ok(PeerMessage::Continue { position, cursor }) => {
                self.wish(from, giving::Wish::Continue { position, cursor });
            }
            Ok(PeerMessage::Page { next, bytes }) => return self.take_page(from, next, &bytes),
            Ok(PeerMessage::Gone { position }) => return self.taken_is_gone(from, position),
            Ok(PeerMessage::Sum(sum)) => return self.take_sum(from, sum),
            Ok(PeerMessage::Ask { version, number, question }) => {
                return self.asked(from, version, number, &question);
            }
            Ok(PeerMessage::Tell { version, number, told }) => {
                self.told(from, version, number, told);
            }
            Err(_) => log::warn!("event=peer_garbage from={from}"),
        }
        Ok(())
    }

    /// While the disk is full, questions are answered; the rest is asked again by whoever asked.
    pub(super) fn peer_question(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), Fatal> {
        match postcard::from_bytes(bytes) {
            Ok(PeerMessage::Ask { .. }) => self.peer_message(from, bytes),
            _ => Ok(()),
        }
    }

    pub(super) fn say(&mut self, to: NodeId, message: &PeerMessage) -> Result<(), Fatal> {
        let bytes = postcard::to_allocvec(message).map_err(|_| Fatal::Encode)?;
        self.out.push_back(Outgoing::Peer(to, bytes));
        Ok(())
    }
}
