//! Waiting until a cluster is ready, and saying what is waited for.

use std::fmt::Write;
use std::time::Duration;

use pickbox_admin::status::Role;
use pickbox_raft::clock;

use super::layout::LocalNode;
use super::process::{Started, last_log_lines};
use crate::ask;
use crate::exit::CliError;
use crate::output::say;

/// How long a cluster may take to become ready.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(30);
/// Lines of the log that are shown when a daemon ended.
const LOG_LINES: usize = 8;

/// Waits until the founder answers: with a leader, or, when others are needed for one, at all.
pub(crate) fn await_leader(founder: &LocalNode, started: &mut [Started]) -> Result<(), CliError> {
    let founder = [founder];
    wait(&founder, started, |node| {
        let report = ask::fetch_status(node.admin).ok()?;
        let alone = report.members.len() <= 1;
        (report.leader_id.is_some() || !alone).then_some(())
    })
}

/// Waits until every node answers at all: a node that joins does once the cluster has taken it in.
pub(crate) fn await_answers(nodes: &[LocalNode], started: &mut [Started]) -> Result<(), CliError> {
    let all: Vec<&LocalNode> = nodes.iter().collect();
    wait(&all, started, |node| ask::fetch_status(node.admin).ok().map(drop))
}

/// Waits until every node answers as a voter of a cluster that has a leader and all of them.
pub(crate) fn await_members(nodes: &[LocalNode], started: &mut [Started]) -> Result<(), CliError> {
    let all: Vec<&LocalNode> = nodes.iter().collect();
    wait(&all, started, |node| {
        let report = ask::fetch_status(node.admin).ok()?;
        let member = |node: &LocalNode| report.members.iter().any(|one| one.node_id == node.name);
        let complete = report.leader_id.is_some() && nodes.iter().all(member);
        (complete && report.role != Role::Learner).then_some(())
    })
}

/// Waits until one of these nodes leads; the members as it knows them, by name.
pub(crate) fn await_member_list(
    nodes: &[&LocalNode],
    started: &mut [Started],
) -> Result<Vec<String>, CliError> {
    let end = clock::now() + PATIENCE;
    loop {
        let mut reports = nodes.iter().filter_map(|node| ask::fetch_status(node.admin).ok());
        if let Some(leader) = reports.find(|report| report.role == Role::Leader) {
            return Ok(leader.members.into_iter().map(|member| member.node_id).collect());
        }
        if started.iter_mut().any(Started::has_ended) || clock::now() > end {
            return Err(not_ready(nodes));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn wait(
    nodes: &[&LocalNode],
    started: &mut [Started],
    is_ready: impl Fn(&LocalNode) -> Option<()>,
) -> Result<(), CliError> {
    let end = clock::now() + PATIENCE;
    let mut said = String::new();
    loop {
        let late: Vec<&LocalNode> =
            nodes.iter().copied().filter(|node| is_ready(node).is_none()).collect();
        if late.is_empty() {
            return Ok(());
        }
        let ended = started.iter_mut().any(Started::has_ended);
        if ended || clock::now() > end {
            return Err(not_ready(&late));
        }
        let names: Vec<&str> = late.iter().map(|node| node.name.as_str()).collect();
        let line = format!("waiting for {}", names.join(", "));
        if line != said {
            say(&line);
            said = line;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn not_ready(late: &[&LocalNode]) -> CliError {
    let mut text = String::from("The cluster is not ready. The last lines of the logs tell why:");
    for node in late {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{} ({}):\n", node.name, node.log_file.display());
        for line in last_log_lines(node, LOG_LINES) {
            text.push_str("  ");
            text.push_str(&line);
        }
    }
    text.push_str("\n`pickbox cluster stop` ends what still runs.");
    CliError::Cluster(text)
}
