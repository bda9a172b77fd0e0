//! Orders to change the members, by the names that people use.

use std::fmt;

use crate::node::{Code, NodeName, PeerAddress, Refusal, Request};

/// A change of the members. Which one is meant is said by name; numbers are the cluster's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// List a node that is about to start, or to be started with `--join`.
    Add {
        /// Its name.
        id: NodeName,
        /// Where its peers reach it.
        address: PeerAddress,
        /// What it shall become.
        aim: Aim,
    },
    /// Take a member out.
    Remove(NodeName),
    /// Make a learner a voter.
    Promote(NodeName),
    /// Make a voter a learner.
    Demote(NodeName),
    /// Put another node in the place of a member, which goes once the other one votes.
    Replace {
        /// The one that goes.
        old: NodeName,
        /// The one that comes; the same name is a node that comes back without its state.
        id: NodeName,
        /// Where its peers reach that.
        address: PeerAddress,
    },
    /// Say where a member is now.
    Move {
        /// Which.
        id: NodeName,
        /// Where its peers reach it.
        address: PeerAddress,
    },
}

/// What a new member is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// A voter, once it has caught up.
    Voter,
    /// A learner for good.
    Learner,
}

impl MemberChange {
    /// The command that asks for this.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Add { aim: Aim::Voter, .. } => "ADD_VOTER",
            Self::Add { aim: Aim::Learner, .. } => "ADD_LEARNER",
            Self::Remove(_) => "REMOVE",
            Self::Promote(_) => "PROMOTE",
            Self::Demote(_) => "DEMOTE",
            Self::Replace { .. } => "REPLACE",
            Self::Move { .. } => "MOVE",
        }
    }
}

/// What came of a change, for people.
impl fmt::Display for MemberChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { aim: Aim::Voter, .. } | Self::Promote(_) => {
                f.write_str("it votes once it has caught up")
            }
            Self::Add { aim: Aim::Learner, .. } => f.write_str("it follows and does not vote"),
            Self::Remove(_) => f.write_str("it is no member any more; its daemon may be stopped"),
            Self::Demote(_) => f.write_str("it follows and votes no more"),
            Self::Replace { old, id, .. } if old == id => {
                f.write_str("it votes again once it has caught up")
            }
            Self::Replace { old, .. } => {
                write!(f, "it votes once it has caught up, and {old} goes then")
            }
            Self::Move { address, .. } => write!(f, "it is at {address}"),
        }
    }
}

/// Reads the arguments of a command that concerns members; `None`: `word` is no such command.
pub(crate) fn parse(word: &[u8], rest: &[u8]) -> Option<Result<Request, Refusal>> {
    let word = str::from_utf8(word).ok()?.to_ascii_uppercase();
    let text = str::from_utf8(rest).unwrap_or_default();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    Some(match word.as_str() {
        "TRANSFER" => transfer(&words),
        word => change(word, &words)?.map(Request::Change),
    })
}

fn transfer(words: &[&str]) -> Result<Request, Refusal> {
    match words {
        [] => Ok(Request::Transfer(None)),
        [id] => Ok(Request::Transfer(Some(name(id)?))),
        _ => Err(usage("TRANSFER [id]", "TRANSFER node2")),
    }
}

fn change(word: &str, words: &[&str]) -> Option<Result<MemberChange, Refusal>> {
    Some(match (word, words) {
        ("ADD_VOTER", [id, at]) => add(id, at, Aim::Voter),
        ("ADD_LEARNER", [id, at]) => add(id, at, Aim::Learner),
        ("REMOVE", [id]) => name(id).map(MemberChange::Remove),
        ("PROMOTE", [id]) => name(id).map(MemberChange::Promote),
        ("DEMOTE", [id]) => name(id).map(MemberChange::Demote),
        ("REPLACE", [old, id, at]) => replace(old, id, at),
        ("MOVE", [id, at]) => {
            name(id).and_then(|id| address(at).map(|address| MemberChange::Move { id, address }))
        }
        ("ADD_VOTER", _) => Err(usage("ADD_VOTER id address", "ADD_VOTER node4 127.0.0.1:8004")),
        ("ADD_LEARNER", _) => {
            Err(usage("ADD_LEARNER id address", "ADD_LEARNER node4 127.0.0.1:8004"))
        }
        ("REMOVE", _) => Err(usage("REMOVE id", "REMOVE node3")),
        ("PROMOTE", _) => Err(usage("PROMOTE id", "PROMOTE node4")),
        ("DEMOTE", _) => Err(usage("DEMOTE id", "DEMOTE node4")),
        ("REPLACE", _) => {
            Err(usage("REPLACE id new-id new-address", "REPLACE node3 node4 127.0.0.1:8004"))
        }
        ("MOVE", _) => Err(usage("MOVE id address", "MOVE node3 127.0.0.1:8013")),
        _ => return None,
    })
}

fn add(id: &str, at: &str, aim: Aim) -> Result<MemberChange, Refusal> {
    Ok(MemberChange::Add { id: name(id)?, address: address(at)?, aim })
}

fn replace(old: &str, id: &str, at: &str) -> Result<MemberChange, Refusal> {
    Ok(MemberChange::Replace { old: name(old)?, id: name(id)?, address: address(at)? })
}

fn name(text: &str) -> Result<NodeName, Refusal> {
    let rule = "id: 1-64 letters, digits, dots, underscores or dashes, no dot or dash first";
    NodeName::parse(text).ok_or_else(|| Refusal::new(Code::BadRequest, rule))
}

fn address(text: &str) -> Result<PeerAddress, Refusal> {
    PeerAddress::parse(text).ok_or_else(|| Refusal::new(Code::BadRequest, "address: not HOST:PORT"))
}

fn usage(command: &str, example: &str) -> Refusal {
    Refusal::new(Code::BadRequest, format!("say {command}, such as {example}"))
}
