//! What stands above the log in the simulation: a small state that shows every mistake.

use std::collections::BTreeMap;

use pickbox_raft_core::ids::{Incarnation, LogPosition, NodeId, Serial};
use pickbox_raft_core::log::{Content, Entry, Payload};
use pickbox_raft_core::members::{MemberRole, Members};

/// Folds a number into a hash (FNV-1a by words).
pub(crate) fn fold(hash: u64, number: u64) -> u64 {
    (hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

/// What an entry says, as a number.
pub(crate) fn fingerprint(entry: &Entry) -> u64 {
    let start = fold(fold(0xcbf2_9ce4_8422_2325, entry.index.get()), entry.term.get());
    match &entry.content {
        Content::Noop => fold(start, 1),
        Content::Members(members) => {
            let everyone = members.members.iter().chain(&members.leaving);
            let hash = everyone.fold(fold(start, 2), |hash, member| {
                let role = match member.role {
                    MemberRole::Voter => 0,
                    MemberRole::Learner => 1,
                    MemberRole::Staging { replaces: None } => 2,
                    MemberRole::Staging { replaces: Some(other) } => 3 + other.get(),
                };
                let hash = fold(fold(hash, member.id.get()), role);
                fold(fold(hash, of_text(&member.name)), of_text(&member.address))
            });
            members.outgoing_voters.iter().map(|id| id.get()).fold(hash, fold)
        }
        Content::Proposal(proposal) => {
            let hash = fold(fold(start, proposal.origin.get()), proposal.incarnation.get());
            fold(fold(hash, proposal.serial.get()), of_bytes(&proposal.payload))
        }
    }
}

/// What a payload says, as a number: one bit more or less must show.
fn of_bytes(payload: &Payload) -> u64 {
    match payload {
        Payload::Open { name } => of_text(name),
        Payload::Data(data) => of_words(data),
    }
}

fn of_text(text: &str) -> u64 {
    of_words(text.as_bytes())
}

fn of_words(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    });
    words.fold(u64::try_from(bytes.len()).unwrap_or(u64::MAX), fold)
}

/// One origin's run, as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    incarnation: Incarnation,
    serial: Serial,
}

/// The state: which proposals took effect, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) at: LogPosition,
    /// The members as of `at`, once an entry has named them.
    pub(crate) members: Option<Members>,
    /// Of all entries that took effect.
    pub(crate) hash: u64,
    /// How many proposals took effect.
    pub(crate) accepted: u64,
    sessions: BTreeMap<NodeId, Session>,
}

impl Machine {
    /// Applies the next entry. Says whether it was a proposal that took effect.
    ///
    /// # Errors
    /// When it is not the next one, or a serial is missing.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<bool, String> {
        if entry.index != self.at.index.next() {
            return Err(format!("entry {} is applied after {}", entry.index, self.at.index));
        }
        self.at = entry.position();
        self.hash = fold(self.hash, fingerprint(entry));
        let proposal = match &entry.content {
            Content::Noop => return Ok(false),
            Content::Members(members) => {
                self.members = Some(members.clone());
                return Ok(false);
            }
            Content::Proposal(proposal) => proposal,
        };
        let Self { sessions, accepted, .. } = self;
        let known = sessions.get_mut(&proposal.origin);
        if matches!(proposal.payload, Payload::Open { .. }) {
            let session = Session { incarnation: proposal.incarnation, serial: proposal.serial };
            // Incarnations grow in the simulation, so a late copy of an old one is seen.
            if known.is_some_and(|known| known.incarnation >= session.incarnation) {
                return Ok(false);
            }
            sessions.insert(proposal.origin, session);
        } else {
            let Some(session) = known.filter(|s| s.incarnation == proposal.incarnation) else {
                return Ok(false);
            };
            if proposal.serial <= session.serial {
                return Ok(false);
            }
            if proposal.serial != session.serial.next() {
                return Err(format!(
                    "serial {} of {} is missing",
                    session.serial.next(),
                    proposal.origin
                ));
            }
            session.serial = proposal.serial;
        }
        *accepted += 1;
        Ok(true)
    }
}
