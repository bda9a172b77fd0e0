//! More nodes for a cluster that runs: `pickbox cluster add` and `pickbox cluster join`.

use std::net::SocketAddr;
use std::time::Duration;

use pickbox_admin::client;
use pickbox_admin::node::NodeName;
use pickbox_admin::status::StatusReport;

use super::layout::{Layout, LocalNode};
use super::process::{self, Entry};
use super::{ClusterArguments, Form, ready, start_node, status};
use crate::ask;
use crate::exit::{CliError, Exit};
use crate::member;
use crate::output::say;

/// The admin port lies so far above the peer port, unless given (as for `pickboxd`).
const ADMIN_PORT_ABOVE: u16 = 1000;
/// How long an address may take to say which of the two kinds it is.
const GREETING: Duration = Duration::from_secs(2);

/// Adds nodes to the local cluster that runs, one after the other.
pub(super) fn add(mut layout: Layout, count: u16, form: Form) -> Result<Exit, CliError> {
    for _ in 0..count {
        let (member, report) = running_member(&layout)?;
        let is_member = |name: &str| report.members.iter().any(|member| member.node_id == name);
        let (name, [peer, admin]) = layout.next(is_member).ok_or_else(|| {
            CliError::Cluster("There are no free names and ports for another node.".to_owned())
        })?;
        let node = layout.add(name, peer, admin);
        enter(&mut layout, node, member.peer)?;
    }
    status(&layout, form)
}

/// A node of the local cluster that runs and knows a leader.
fn running_member(layout: &Layout) -> Result<(LocalNode, StatusReport), CliError> {
    let mut nodes = layout.nodes().into_iter();
    let found = nodes.find_map(|node| {
        process::running(&node).ok()??;
        let report = ask::fetch_status(node.admin).ok()?;
        report.leader_id.is_some().then_some((node, report))
    });
    found.ok_or_else(|| {
        CliError::Cluster(
            "No node of the local cluster runs and knows a leader: `pickbox cluster start` first. To \
             join another cluster, say `pickbox cluster join`."
                .to_owned(),
        )
    })
}

/// A node that joins, as the command line has it.
pub(super) struct Newcomer {
    name: NodeName,
    peer: SocketAddr,
    admin: SocketAddr,
    member: SocketAddr,
}

impl Newcomer {
    pub(super) fn parse(arguments: &ClusterArguments) -> Result<Self, CliError> {
        let text = needed(arguments.node_id.as_deref(), "--node-id", "node4")?;
        let name = NodeName::parse(text).ok_or_else(|| {
            usage(format!(
                "--node-id '{}' cannot be used: take 1-64 letters, digits, dots, underscores or \
                 dashes, and no dot or dash first.",
                text.escape_debug()
            ))
        })?;
        let peer = needed(arguments.node_addr.as_deref(), "--node-addr", "127.0.0.1:8004")?;
        let peer = address("--node-addr", peer)?;
        let port = arguments.admin_port.or_else(|| peer.port().checked_add(ADMIN_PORT_ABOVE));
        let port = port.ok_or_else(|| {
            usage(format!("-a PORT is needed: {} + {ADMIN_PORT_ABOVE} is no port.", peer.port()))
        })?;
        let member = needed(arguments.leader.as_deref(), "--leader", "127.0.0.1:8001")?;
        let member = peer_address(address("--leader", member)?);
        Ok(Self { name, peer, admin: SocketAddr::new(peer.ip(), port), member })
    }
}

fn needed<'a>(value: Option<&'a str>, flag: &str, example: &str) -> Result<&'a str, CliError> {
    value.ok_or_else(|| {
        usage(format!(
            "{flag} is missing, such as {flag} {example}. `pickbox cluster join --leader \
             127.0.0.1:8001 --node-id node4 --node-addr 127.0.0.1:8004` starts a node here that joins."
        ))
    })
}

fn usage(text: String) -> CliError {
    CliError::Usage(text)
}

fn address(flag: &str, text: &str) -> Result<SocketAddr, CliError> {
    let found = ask::resolve(text).ok().filter(|address| address.port() != 0);
    found.ok_or_else(|| {
        usage(format!("{flag} '{}' is not HOST:PORT, such as 127.0.0.1:8001.", text.escape_debug()))
    })
}

/// Where peers reach the member at this address. People mix up the two ports of a node; one that
/// speaks the admin protocol tells where its leader's other one is.
fn peer_address(given: SocketAddr) -> SocketAddr {
    let report = client::ask(given, "STATUS json", GREETING)
        .ok()
        .and_then(|answer| serde_json::from_str::<StatusReport>(&answer).ok());
    let leader = report.as_ref().and_then(|report| {
        let known = |name: &String| report.members.iter().find(|member| member.node_id == *name);
        known(report.leader_id.as_ref().unwrap_or(&report.node_id))
    });
    let Some(peer) = leader.and_then(|leader| leader.address.parse().ok()) else { return given };
    say(format_args!("{given} is an admin address; peers reach the leader at {peer}"));
    peer
}

/// Starts a node of this machine that joins the cluster, and waits until it takes part.
pub(super) fn join(mut layout: Layout, newcomer: &Newcomer, form: Form) -> Result<Exit, CliError> {
    let Newcomer { name, peer, admin, member } = newcomer;
    let node = layout.add(name.to_string(), *peer, *admin);
    enter(&mut layout, node, *member)?;
    status(&layout, form)
}

fn enter(layout: &mut Layout, node: Option<LocalNode>, member: SocketAddr) -> Result<(), CliError> {
    let node = node.ok_or_else(|| CliError::Cluster("The folder has no name.".to_owned()))?;
    if let Some(pid) = process::running(&node)? {
        return Err(CliError::Cluster(format!(
            "{} runs already (pid {pid}): choose another --node-id.",
            node.name
        )));
    }
    if node.has_state() {
        return Err(CliError::Cluster(format!(
            "{} belongs to a cluster already, its state is in {}: `pickbox cluster start` starts it \
             again; choose another --node-id for a new node.",
            node.name,
            node.state.display()
        )));
    }
    layout.prepare()?;
    let nodes = [node];
    let [node] = &nodes;
    let mut started = [start_node(node, Entry::Join(member))?];
    ready::await_answers(&nodes, &mut started)?;
    member::await_settled(&node.admin.into(), &node.name).map(drop)
}
