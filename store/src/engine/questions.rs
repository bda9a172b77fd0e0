//! What engines ask each other: small questions, each with one answer or a few.
//!
//! They travel as the pages of a state do ([`super::ENGINE_TAG`]), in order for each peer and lost
//! where a connection breaks; who asked asks again. A question changes nothing at the node that is
//! asked. It is bounded by the connection's longest message, its parts by what is checked here, and
//! the answers by [`TEXT_BYTES_MAX`] and the bounds of a report.

use pickbox_raft::core::ids::{Index as LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use super::catchup::PeerMessage;
use super::{Engine, Fatal};

/// The version of questions and answers. One of another version is answered with
/// [`Told::Unknown`], an answer of another version is dropped.
pub(super) const QUESTIONS_VERSION: u8 = 1;
/// Longest text in an answer, in bytes; longer ones are cut.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Does everything up to this entry stand in your folder?
    Placed {
        /// Which entry.
        index: LogIndex,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It does.
    Placed {
        /// The entry that was asked for, or a later one.
        index: LogIndex,
    },
    /// Not yet; another answer follows when that changes.
    Waits {
        /// For what.
        why: String,
    },
    /// Not before something is done by hand.
    Blocked {
        /// What, where, and what to do.
        why: String,
    },
    /// The question is of a version that is not spoken here.
    Unknown,
}

impl Told {
    /// With texts within their bound.
    fn bounded(mut self) -> Self {
        match &mut self {
            Self::Waits { why } | Self::Blocked { why } => cut(why),
            Self::Placed { .. } | Self::Unknown => {}
        }
        self
    }
}

fn cut(text: &mut String) {
    let mut end = TEXT_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

impl Engine {
    /// Asks another node. `number` comes back with the answers.
    pub(super) fn ask_peer(
        &mut self,
        to: NodeId,
        number: u64,
        question: Question,
    ) -> Result<(), Fatal> {
        let version = QUESTIONS_VERSION;
        self.say(to, &PeerMessage::Ask { version, number, question })
    }

    pub(super) fn tell_peer(&mut self, to: NodeId, number: u64, told: Told) -> Result<(), Fatal> {
        let (version, told) = (QUESTIONS_VERSION, told.bounded());
        self.say(to, &PeerMessage::Tell { version, number, told })
    }

    /// Another node asks.
    pub(super) fn asked(
        &mut self,
        from: NodeId,
        version: u8,
        number: u64,
        question: &Question,
    ) -> Result<(), Fatal> {
        if version != QUESTIONS_VERSION {
            return self.tell_peer(from, number, Told::Unknown);
        }
        let told = match question {
            Question::Placed { index } => self.placed_for(from, number, *index)?,
        };
        self.tell_peer(from, number, told)
    }

    /// Another node answers.
    pub(super) fn told(&mut self, from: NodeId, version: u8, number: u64, told: Told) {
        if version != QUESTIONS_VERSION {
            log::debug!("event=answer_of_other_version from={from} version={version}");
            return;
        }
        self.wait_told(from, number, told.bounded());
    }
}
