//! The trace: one line of JSON for each step of the core that changed or said something.
//!
//! For finding out afterwards what a cluster did, by eye or by a checker. Described in
//! `docs/testing.md`. The consensus thread only queues lines; a thread of its own writes them, and
//! says how many were dropped when it did not keep up.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pickbox_raft_core::event::{Event, LogOp, RoleName};
use pickbox_raft_core::ids::NodeId;
use pickbox_raft_core::message::Body;
use pickbox_raft_core::{Core, Output};
use serde::Serialize;

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The node's time, in microseconds since it started.
    at_us: u64,
    /// Its number.
    node: u64,
    /// What happened: an event, or the kind of a message.
    event: &'static str,
    /// Who said it, if it is a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    /// The term of that message.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_term: Option<u64>,
    /// Afterwards: part, term, vote, leader.
    role: &'static str,
    term: u64,
    voted_for: Option<u64>,
    leader: Option<u64>,
    /// Afterwards: last entry, commit index, first index.
    last: u64,
    last_term: u64,
    commit: u64,
    first: u64,
    /// What was written, sent and handed out by this step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wrote: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sent: Vec<Sent>,
    handed_out: usize,
    /// Lines that were dropped before this one.
    #[serde(skip_serializing_if = "is_zero")]
    dropped: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Sent {
    to: u64,
    kind: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The consensus thread's end.
#[derive(Debug)]
pub struct Tracer {
    lines: Sender<Line>,
    dropped: u64,
}

/// The writing thread's body.
#[derive(Debug)]
pub struct TraceWriter {
    lines: Receiver<Line>,
    file: File,
}

/// Both ends of a trace into this file.
#[must_use]
pub fn trace(file: File) -> (Tracer, TraceWriter) {
    let (sender, lines) = bounded(LINES_MAX);
    (Tracer { lines: sender, dropped: 0 }, TraceWriter { lines, file })
}

impl TraceWriter {
    /// Writes until the consensus has ended. A trace that cannot be written is given up: it is no
    /// reason for a node to stop.
    pub fn run(mut self) {
        if let Err(error) = self.write() {
            log::error!("event=trace_ended error=\"{error}\"");
            self.lines.iter().for_each(drop);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut out = BufWriter::new(&mut self.file);
        while let Ok(line) = self.lines.recv() {
            write_line(&mut out, &line)?;
            for line in self.lines.try_iter() {
                write_line(&mut out, &line)?;
            }
            out.flush()?;
        }
        Ok(())
    }
}

fn write_line(out: &mut impl io::Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// What was known before a step.
#[derive(Debug)]
pub(crate) struct Before {
    event: &'static str,
    from: Option<u64>,
    message_term: Option<u64>,
    state: State,
    ops: usize,
    messages: usize,
    committed: usize,
}

type State = (RoleName, u64, Option<u64>, Option<u64>, u64, u64, u64, u64);

fn state(core: &Core) -> State {
    let (hard_state, last) = (core.hard_state(), core.last());
    (
        core.role(),
        hard_state.term.get(),
        hard_state.voted_for.map(NodeId::get),
        core.leader().map(NodeId::get),
        last.index.get(),
        last.term.get(),
        core.commit().get(),
        core.base().index.next().get(),
    )
}

impl Before {
    pub(crate) fn new(core: &Core, event: &Event, output: &Output) -> Self {
        let message = match event {
            Event::Message(message) => Some(message),
            _ => None,
        };
        Self {
            event: message.map_or_else(|| name(event), |message| kind(&message.body)),
            from: message.map(|message| message.from.get()),
            message_term: message.map(|message| message.term.get()),
            state: state(core),
            ops: output.log_ops.len(),
            messages: output.messages.len(),
            committed: output.committed.len(),
        }
    }
}

impl Tracer {
    /// Notes a step, unless nothing came of it.
    pub(crate) fn note(&mut self, at_us: u64, before: &Before, core: &Core, output: &Output) {
        let now = state(core);
        let wrote: Vec<_> = output.log_ops.iter().skip(before.ops).map(op).collect();
        let sent: Vec<_> = output.messages.iter().skip(before.messages).collect();
        let handed_out = output.committed.len().saturating_sub(before.committed);
        if now == before.state && wrote.is_empty() && sent.is_empty() && handed_out == 0 {
            return;
        }
        let (role, term, voted_for, leader, last, last_term, commit, first) = now;
        let line = Line {
            at_us,
            node: core.id().get(),
            event: before.event,
            from: before.from,
            message_term: before.message_term,
            role: role_name(role),
            term,
            voted_for,
            leader,
            last,
            last_term,
            commit,
            first,
            wrote,
            sent: sent.iter().map(|m| Sent { to: m.to.get(), kind: kind(&m.body) }).collect(),
            handed_out,
            dropped: self.dropped,
        };
        match self.lines.try_send(line) {
            Ok(()) => self.dropped = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped += 1,
        }
    }
}

const fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::Learner => "learner",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    }
}

const fn name(event: &Event) -> &'static str {
    match event {
        Event::Tick => "tick",
        Event::Message(_) => "message",
        Event::Propose(_) => "propose",
        Event::ReadIndex(_) => "read-index",
        Event::Durable(_) => "durable",
        Event::Applied { .. } => "applied",
        Event::LogRead { .. } => "log-read",
        Event::ChangeMembers { .. } => "change-members",
        Event::Transfer(_) => "transfer",
        Event::Compact { .. } => "compact",
        Event::StateInstalled { .. } => "state-installed",
        Event::Unreachable(_) => "unreachable",
    }
}

const fn kind(body: &Body) -> &'static str {
    match body {
        Body::Vote { .. } => "vote",
        Body::VoteReply { .. } => "vote-reply",
        Body::Append { .. } => "append",
        Body::Appended { .. } => "appended",
        Body::AppendRejected { .. } => "append-rejected",
        Body::Commit { .. } => "commit",
        Body::CommittedTo { .. } => "committed-to",
        Body::Heartbeat { .. } => "heartbeat",
        Body::HeartbeatReply { .. } => "heartbeat-reply",
        Body::InstallState { .. } => "install-state",
        Body::TimeoutNow => "timeout-now",
        Body::ReadIndex { .. } => "read-index",
        Body::ReadIndexReply { .. } => "read-index-reply",
        Body::Propose(_) => "propose",
        Body::ProposeRefused { .. } => "propose-refused",
    }
}

const fn op(op: &LogOp) -> &'static str {
    match op {
        LogOp::HardState(_) => "hard-state",
        LogOp::Truncate { .. } => "truncate",
        LogOp::Append(_) => "append",
        LogOp::Reset { .. } => "reset",
        LogOp::Compact { .. } => "compact",
    }
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::{Fingerprint, Index, IoSeq, LogPosition};
    use pickbox_raft_core::members::Members;
    use pickbox_raft_core::time::Time;
    use pickbox_raft_core::{Config, Restored};

    use super::*;

    /// A lone voter's first steps, a line each; a step without consequence has none.
    #[test]
    fn each_step_with_a_consequence_is_one_line_of_json() {
        let members = Members::bootstrap("node1".into(), "host:1".into(), Fingerprint::default());
        let mut restored = Restored::default();
        restored.replay(&LogOp::Reset { at: LogPosition::default(), members }).unwrap();
        let config = Config::new(NodeId::new(1), 1);
        let mut core = Core::new(config, restored, Index::ZERO, Time::default());
        let file = tempfile::tempfile().unwrap();
        let (mut tracer, writer) = trace(file.try_clone().unwrap());
        for event in [Event::Tick, Event::Durable(IoSeq::new(1)), Event::Durable(IoSeq::new(2))] {
            let mut output = Output::default();
            let before = Before::new(&core, &event, &output);
            core.step(Time::default(), event, &mut output);
            tracer.note(7, &before, &core, &output);
        }
        let mut output = Output::default();
        let before = Before::new(&core, &Event::Tick, &output);
        core.step(Time::default(), Event::Tick, &mut output);
        tracer.note(8, &before, &core, &output);
        drop(tracer);
        writer.run();
        let mut text = String::new();
        io::Seek::rewind(&mut &file).unwrap();
        io::Read::read_to_string(&mut &file, &mut text).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!((&lines[0]["event"], &lines[0]["role"]), (&"tick".into(), &"candidate".into()));
        assert_eq!(
            (&lines[1]["role"], &lines[1]["wrote"][0]),
            (&"leader".into(), &"append".into())
        );
        assert_eq!((&lines[2]["commit"], &lines[2]["handed_out"]), (&1.into(), &1.into()));
    }
}
