//! Says in words what a core did.

use std::fmt::Write as _;

use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Index, LogPosition};
use pickbox_raft_core::log::{Content, Entry};
use pickbox_raft_core::members::{MemberRole, Members};
use pickbox_raft_core::message::{Body, Message};
use pickbox_raft_core::{Core, Output};

fn at(position: LogPosition) -> String {
    format!("{}@{}", position.index, position.term)
}

fn entry(entry: &Entry) -> String {
    let what = match &entry.content {
        Content::Noop => String::new(),
        Content::Members(list) => format!("[{}]", members(list)),
        Content::Proposal(proposal) => format!("(p{})", proposal.serial),
    };
    format!("{}{what}", at(entry.position()))
}

fn entries<'a>(list: impl IntoIterator<Item = &'a std::sync::Arc<Entry>>) -> String {
    let all: Vec<String> = list.into_iter().map(|one| entry(one)).collect();
    if all.is_empty() { "nothing".into() } else { all.join(" ") }
}

fn members(list: &Members) -> String {
    let word = |member: &pickbox_raft_core::members::Member| {
        let mark = match member.role {
            MemberRole::Voter => "",
            MemberRole::Learner => "?",
            MemberRole::Staging { .. } => "+",
        };
        format!("{}{mark}", member.id)
    };
    let mut told = list.members.iter().map(word).collect::<Vec<_>>();
    if list.is_joint() {
        told.push("|".into());
        told.extend(list.outgoing_voters.iter().map(ToString::to_string));
    }
    told.join(" ")
}

fn op(op: &LogOp) -> String {
    match op {
        LogOp::HardState(state) => match state.voted_for {
            Some(vote) => format!("term {} vote {vote}", state.term),
            None => format!("term {}", state.term),
        },
        LogOp::Truncate { from } => format!("truncate from {from}"),
        LogOp::Append(list) => format!("append {}", entries(list)),
        LogOp::Reset { at: position, members: list } => {
            format!("reset to {} members {}", at(*position), members(list))
        }
        LogOp::Compact { through, members: list } => {
            format!("compact through {} members {}", at(*through), members(list))
        }
    }
}

/// One message as one line.
pub(super) fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let body = match body {
        Body::Vote { ballot, last } => format!("Vote{ballot:?} last {}", at(*last)),
        Body::VoteReply { ballot, verdict } => format!("Vote{ballot:?} {verdict:?}"),
        Body::Append { previous, commit, entries: list } => {
            format!("Append after {}: {} commit {commit}", at(*previous), entries(list))
        }
        Body::AppendRejected { previous, hint } => {
            format!("AppendRejected {previous} hint {}", at(*hint))
        }
        Body::Heartbeat { commit, round, .. } => format!("Heartbeat commit {commit} round {round}"),
        Body::HeartbeatReply { round, applied, .. } => {
            format!("HeartbeatReply round {round} applied {applied}")
        }
        Body::CommittedTo { at: position } => format!("CommittedTo {}", at(*position)),
        Body::InstallState { at_least } => format!("InstallState {}", at(*at_least)),
        Body::Propose(proposal) => format!("Propose p{}", proposal.serial),
        other => format!("{other:?}"),
    };
    format!("  {from}->{to} t{term} {body}\n")
}

/// All that one step put out, a line each.
pub(super) fn output(id: u64, out: &Output) -> String {
    let mut told = String::new();
    for change in &out.roles {
        let leader = change.leader.map_or(String::new(), |leader| format!(" of {leader}"));
        let (role, term, reason) = (change.role, change.term, change.reason);
        writeln!(told, "{id} {role:?}{leader} in term {term}: {reason:?}").unwrap();
    }
    for one in &out.log_ops {
        writeln!(told, "{id} writes {}", op(one)).unwrap();
    }
    if let Some(list) = &out.members_changed {
        writeln!(told, "{id} members {}", members(list)).unwrap();
    }
    for one in &out.messages {
        told += &message(one);
    }
    if !out.committed.is_empty() {
        writeln!(told, "{id} applies {}", entries(&out.committed)).unwrap();
    }
    for read in &out.reads {
        let index = read.index.map_or("nothing".into(), |index| index.to_string());
        writeln!(told, "{id} answers read {} with {index}", read.id).unwrap();
    }
    for refused in &out.refused {
        writeln!(told, "{id} refused p{}: {:?}", refused.serial, refused.reason).unwrap();
    }
    for change in &out.changes {
        let result = match &change.result {
            Ok(member) => format!("{} is {} at {}", member.name, member.id, member.address),
            Err(refusal) => format!("{refusal:?}"),
        };
        writeln!(told, "{id} change {}: {result}", change.request.0).unwrap();
    }
    if let Some(handover) = out.handover {
        writeln!(told, "{id} hands over to {}: {:?}", handover.to, handover.reason).unwrap();
    }
    for read in &out.log_reads {
        writeln!(told, "{id} reads back {}-{} for {:?}", read.from, read.through, read.purpose)
            .unwrap();
    }
    if let Some(failure) = out.transfer_failed {
        writeln!(told, "{id} transfer failed: {failure:?}").unwrap();
    }
    if let Some(need) = out.need_state {
        writeln!(told, "{id} needs the state of {} from {}", at(need.at_least), need.from).unwrap();
    }
    if let Some(fatal) = out.fatal {
        writeln!(told, "{id} STOPS: {fatal:?}").unwrap();
    }
    told
}

/// The terms of a node's log, and how far it is committed.
pub(super) fn log(id: u64, core: &Core) -> String {
    let mut terms = String::new();
    let mut index = core.base().index;
    while index < core.last().index {
        index = index.next();
        let term = core.term_at(index).map_or("?".into(), |term| term.to_string());
        let mark = if index == core.commit() { "|" } else { "" };
        write!(terms, " {term}{mark}").unwrap();
    }
    let base = if core.base().index == Index::ZERO { String::new() } else { at(core.base()) };
    format!("{id}: {base}{terms}\n")
}

/// Where a node stands.
pub(super) fn status(id: u64, core: &Core) -> String {
    let leader = core.leader().map_or("-".into(), |leader| leader.to_string());
    format!(
        "{id}: {:?} term {} leader {leader} commit {} last {}\n",
        core.role(),
        core.term(),
        core.commit(),
        at(core.last())
    )
}
