//! What waits to go out to a peer whose connection is full. Only what is to be sent waits, not
//! its bytes: pieces are read when there is room for them.

use std::collections::VecDeque;

use pickbox_raft::bulk::BulkError;
use pickbox_raft::core::ids::NodeId;

use super::ContentWorker;
use crate::content_id::ContentId;
use crate::contents::machine::Input;
use crate::contents::message::{Message, Source, encode};

/// What may wait for one peer; beyond, everything is forgotten and the peer told to ask again.
const WAITING_MAX: usize = 1024;

/// The way out to one peer.
#[derive(Debug, Default)]
pub(super) struct Link {
    waiting: VecDeque<Outgoing>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Whole,
    /// Something was forgotten.
    Gap,
}

/// Something to be sent.
#[derive(Clone, Debug)]
pub(super) enum Outgoing {
    /// A message without bytes.
    Plain(Message),
    /// A piece.
    Piece { source: Source, offset: u64, len: u32 },
    /// Small contents.
    Small { batch: u64, contents: Vec<ContentId> },
}

impl ContentWorker {
    /// Sends, or lets wait.
    pub(super) fn send(&mut self, to: NodeId, outgoing: Outgoing) {
        let Some(link) = self.links.get_mut(&to) else { return };
        if link.waiting.is_empty() && link.state == State::Whole {
            if self.send_now(to, &outgoing) != Err(BulkError::Busy) {
                return;
            }
            let Some(link) = self.links.get_mut(&to) else { return };
            link.waiting.push_back(outgoing);
        } else if link.waiting.len() < WAITING_MAX {
            link.waiting.push_back(outgoing);
        } else {
            log::warn!("a peer asks for more than it takes: peer={to}");
            link.waiting.clear();
            link.state = State::Gap;
        }
    }

    fn send_now(&mut self, to: NodeId, outgoing: &Outgoing) -> Result<(), BulkError> {
        self.parts.wire.room(to)?;
        let frame = match outgoing {
            Outgoing::Plain(message) => encode(message, 0),
            Outgoing::Piece { source, offset, len } => self.piece(*source, *offset, *len),
            Outgoing::Small { batch, contents } => self.small(*batch, contents),
        };
        self.parts.wire.send(to, frame)
    }

    /// The connection takes more.
    pub(super) fn drained(&mut self, peer: NodeId) {
        while let Some(link) = self.links.get_mut(&peer)
            && let Some(next) = link.waiting.pop_front()
        {
            if self.send_now(peer, &next) == Err(BulkError::Busy) {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.waiting.push_front(next);
                }
                return;
            }
        }
        if let Some(link) = self.links.get_mut(&peer)
            && link.state == State::Gap
        {
            // As after a new connection: everything is said and asked again.
            link.state = State::Whole;
            self.input(Input::Up(peer), &[]);
        }
    }
}
