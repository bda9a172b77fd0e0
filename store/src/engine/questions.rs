//! What engines ask each other: small questions, each with one answer or a few.
//!
//! They travel as the pages of a state do ([`super::ENGINE_TAG`]), in order for each peer and lost
//! where a connection breaks; who asked asks again. A question changes nothing at the node that is
//! asked. It is bounded by the connection's longest message, its parts by what is checked here, and
//! the texts of answers by [`crate::why`].

use pickbox_raft::core::ids::{Index as LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use super::catchup::PeerMessage;
use super::{Engine, Fatal};
use crate::name::RelPath;
use crate::why::{Disk, Kind, NodeFacts, Program, Reason, Stands, Thing, cut};

/// The version of questions and answers. One of another version is answered with
/// [`Told::Unknown`], an answer of another version is dropped.
pub(super) const QUESTIONS_VERSION: u8 = 1;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Does everything up to this entry stand in your folder?
    Placed {
        /// Which entry.
        index: LogIndex,
    },
    /// How is this path with you?
    Why {
        /// Which path.
        path: RelPath,
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
    /// How the path is.
    Why(Box<NodeFacts>),
    /// The question is of a version that is not spoken here.
    Unknown,
}

impl Told {
    /// With texts within their bound.
    fn bounded(mut self) -> Self {
        match &mut self {
            Self::Waits { why } | Self::Blocked { why } => cut(why),
            Self::Why(facts) => facts.bound(),
            Self::Placed { .. } | Self::Unknown => {}
        }
        self
    }
}

/// Reads bytes of a peer as a question or an answer, for who tries hostile ones: what was
/// understood, encoded again. None if it is neither.
#[must_use]
pub fn reread(bytes: &[u8]) -> Option<Vec<u8>> {
    let message = match postcard::from_bytes(bytes).ok()? {
        PeerMessage::Tell { version, number, told } => {
            PeerMessage::Tell { version, number, told: told.bounded() }
        }
        message @ PeerMessage::Ask { .. } => message,
        _ => return None,
    };
    postcard::to_allocvec(&message).ok()
}

/// Some of each, encoded, as peers send them.
#[must_use]
pub fn examples() -> Vec<Vec<u8>> {
    let (version, number) = (QUESTIONS_VERSION, 7);
    let index = LogIndex::new(300);
    let path = RelPath::new("docs/a").unwrap_or_default();
    let reasons = vec![
        Reason::NotSeen,
        Reason::Blocked("docs".to_owned(), 1),
        Reason::Open { by: vec![Program { pid: 7, name: "vim".to_owned() }], hidden: true },
        Reason::Copies(vec!["a.conflict-node2-9".to_owned()]),
    ];
    let stands = Stands { kind: Kind::File, size: 3, mtime: -1, ino: 5, dev: 6 };
    let thing = Thing { index: 3, kind: Kind::File, size: 3, sha256: Some("ab".repeat(32)) };
    let facts = NodeFacts {
        applied: 9,
        placed: 8,
        version: Some(thing),
        disk: Disk::AsAgreed(stands),
        reasons,
    };
    let asks = [Question::Placed { index }, Question::Why { path }];
    let tells = [
        Told::Placed { index },
        Told::Waits { why: "a on node2: its content is on its way".to_owned() },
        Told::Blocked { why: "a on node2: immutable".to_owned() },
        Told::Why(Box::new(facts)),
        Told::Unknown,
    ];
    let asks = asks.map(|question| PeerMessage::Ask { version, number, question });
    let tells = tells.map(|told| PeerMessage::Tell { version, number, told });
    asks.iter().chain(&tells).filter_map(|message| postcard::to_allocvec(message).ok()).collect()
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
            Question::Why { path } => Told::Why(Box::new(self.facts_of(path)?)),
        };
        self.tell_peer(from, number, told)
    }

    /// Another node answers.
    pub(super) fn told(&mut self, from: NodeId, version: u8, number: u64, told: Told) {
        if version != QUESTIONS_VERSION {
            log::debug!("event=answer_of_other_version from={from} version={version}");
            return;
        }
        match told.bounded() {
            Told::Why(facts) => self.why_told(from, number, *facts),
            told => self.wait_told(from, number, told),
        }
    }
}
