//! `pickbox cluster`: several nodes on this machine, for trying things out.

mod grow;
mod layout;
mod process;
mod ready;

use std::io::{self, BufRead};

use argh::{FromArgValue, FromArgs};
use serde::Serialize;

use crate::ask::{self, exit_of};
use crate::exit::{CliError, Exit};
use crate::output::{say, show, table};
use layout::{Layout, LocalNode};
use pickbox_admin::{StatusReport, Verdict};
use process::Entry;

/// Lines of each log that `logs` shows.
const LOG_LINES: usize = 40;

/// Manage a cluster of nodes on this machine: start, stop, restart, status, logs, clean; add more
/// nodes, or let one join any cluster that runs.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "cluster")]
pub(crate) struct ClusterArguments {
    /// start, stop, restart, status, logs, clean, add or join
    #[argh(positional)]
    action: Action,

    /// how many nodes (default: as before, else 3); for add: how many more (default 1)
    #[argh(option, short = 'n')]
    nodes: Option<u16>,

    /// peer port of node1; node2 has the next, and so on (default: as before, else 8001)
    #[argh(option, short = 'p')]
    port: Option<u16>,

    /// admin port of node1 (default: as before, else 9001); for join: of the node (default: its
    /// peer port + 1000)
    #[argh(option, short = 'a')]
    admin_port: Option<u16>,

    /// admin address of node1: another way to say -a
    #[argh(option)]
    addr: Option<String>,

    /// where the folders are: DIR/node1, DIR/node2... (default data)
    #[argh(option, default = "String::from(\"data\")")]
    data_dir: String,

    /// for join: a member of the cluster, HOST:PORT as its peers reach it (an admin address will do)
    #[argh(option)]
    leader: Option<String>,

    /// for join: the name of the node, such as node4; its folder is DIR/NAME
    #[argh(option)]
    node_id: Option<String>,

    /// for join: where its peers will reach it, HOST:PORT
    #[argh(option)]
    node_addr: Option<String>,

    /// print JSON
    #[argh(switch)]
    json: bool,

    /// for clean: do not ask
    #[argh(switch)]
    yes: bool,
}

/// What to do with the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Start,
    Stop,
    Restart,
    Status,
    Logs,
    Clean,
    Add,
    Join,
}

impl FromArgValue for Action {
    fn from_arg_value(word: &str) -> Result<Self, String> {
        match word {
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop),
            "restart" => Ok(Self::Restart),
            "status" => Ok(Self::Status),
            "logs" => Ok(Self::Logs),
            "clean" => Ok(Self::Clean),
            "add" => Ok(Self::Add),
            "join" => Ok(Self::Join),
            _ => Err("say start, stop, restart, status, logs, clean, add or join".to_owned()),
        }
    }
}

pub(crate) fn run(arguments: &ClusterArguments) -> Result<Exit, CliError> {
    let admin_port = match &arguments.addr {
        Some(text) => Some(ask::resolve(text)?.port()),
        None => arguments.admin_port,
    };
    let form = Form::from(arguments.json);
    let chosen =
        || Layout::choose(&arguments.data_dir, arguments.nodes, arguments.port, admin_port);
    // For nodes that come later, those that are there keep what they have.
    let as_before = || Layout::choose(&arguments.data_dir, None, None, None);
    match arguments.action {
        Action::Start => start(&mut chosen()?, form),
        Action::Stop => stop(&chosen()?),
        Action::Restart => chosen().and_then(|mut layout| {
            stop(&layout)?;
            start(&mut layout, form)
        }),
        Action::Status => status(&chosen()?, form),
        Action::Logs => logs(&chosen()?),
        Action::Clean => clean(&chosen()?, Consent::from(arguments.yes)),
        Action::Add => grow::add(as_before()?, arguments.nodes.unwrap_or(1), form),
        Action::Join => grow::join(as_before()?, &grow::Newcomer::parse(arguments)?, form),
    }
}

/// For whom a status is printed.
#[derive(Clone, Copy)]
enum Form {
    People,
    Json,
}

impl From<bool> for Form {
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::People }
    }
}

fn start(layout: &mut Layout, form: Form) -> Result<Exit, CliError> {
    layout.prepare()?;
    let nodes = layout.nodes();
    let founder = nodes.iter().find(|node| node.has_state()).or_else(|| nodes.first());
    let founder =
        founder.ok_or_else(|| CliError::Cluster("A cluster has at least one node.".to_owned()))?;
    let mut started = vec![start_node(founder, Entry::Found)?];
    ready::await_leader(founder, &mut started)?;
    let old: Vec<&LocalNode> = nodes.iter().filter(|node| node.has_state()).collect();
    for node in nodes.iter().filter(|node| node.name != founder.name) {
        started.push(start_node(node, Entry::Join(founder.peer))?);
    }
    let members = ready::await_member_list(&old, &mut started)?;
    let is_gone = |node: &LocalNode| {
        old.iter().any(|old| old.name == node.name) && !members.contains(&node.name)
    };
    let (gone, there): (Vec<LocalNode>, Vec<LocalNode>) = nodes.iter().cloned().partition(is_gone);
    for node in gone {
        say(format_args!(
            "{0} was removed from the cluster and is left as it is. To let it take part again stop \
             it, and start it once with `pickboxd --node-id {0} --join HOST:PORT --rejoin ...`.",
            node.name
        ));
    }
    ready::await_members(&there, &mut started)?;
    status(layout, form)
}

fn start_node(node: &LocalNode, entry: Entry) -> Result<process::Started, CliError> {
    if let Some(pid) = process::running(node)? {
        say(format_args!("{} runs already (pid {pid})", node.name));
        return Ok(process::Started::before());
    }
    let started = process::spawn(node, entry)?;
    say(format_args!("{} started, log in {}", node.name, node.log_file.display()));
    Ok(started)
}

fn stop(layout: &Layout) -> Result<Exit, CliError> {
    let mut stopping = Vec::new();
    for node in layout.nodes() {
        if process::terminate(&node)? {
            stopping.push(node);
        }
    }
    if stopping.is_empty() {
        say("nothing runs");
    }
    for node in stopping {
        process::await_end(&node)?;
        say(format_args!("{} stopped", node.name));
    }
    Ok(Exit::Ok)
}

/// One node as `cluster status --json` shows it.
#[derive(Serialize)]
struct NodeView {
    node_id: String,
    pid: Option<i32>,
    folder: String,
    admin: String,
    /// `null` when it does not answer.
    status: Option<StatusReport>,
}

fn status(layout: &Layout, form: Form) -> Result<Exit, CliError> {
    let views = layout.nodes().iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let text = match form {
        Form::Json => serde_json::to_string(&views)
            .map(|json| format!("{json}\n"))
            .map_err(|error| CliError::Answer(error.to_string()))?,
        Form::People => people_text(&views),
    };
    show(text.as_bytes())?;
    Ok(overall(&views))
}

fn view(node: &LocalNode) -> Result<NodeView, CliError> {
    let pid = process::running(node)?;
    Ok(NodeView {
        node_id: node.name.clone(),
        pid,
        folder: node.folder.display().to_string(),
        admin: node.admin.to_string(),
        status: pid.and_then(|_| ask::fetch_status(node.admin).ok()),
    })
}

fn people_text(views: &[NodeView]) -> String {
    let head = ["NODE", "PID", "ROLE", "ADMIN", "INDEX", "PENDING", "CONFLICTS", "ROOT", "FOLDER"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for view in views {
        let mut row = vec![view.node_id.clone()];
        row.push(view.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()));
        let report = view.status.as_ref();
        let cell = |of: &dyn Fn(&StatusReport) -> String| report.map_or_else(|| "-".to_owned(), of);
        let role = if view.pid.is_some() { "no answer" } else { "stopped" };
        row.push(match report {
            None => role.to_owned(),
            Some(report) if report.is_removed => "removed".to_owned(),
            Some(report) => report.role.to_string(),
        });
        row.push(view.admin.clone());
        row.push(cell(&|report| report.placed_index.to_string()));
        row.push(cell(&|report| report.pending.to_string()));
        row.push(cell(&|report| report.conflicts.to_string()));
        row.push(cell(&|report| report.root_digest.chars().take(8).collect()));
        row.push(view.folder.clone());
        rows.push(row);
    }
    table(&rows)
}

/// The best verdict that a node gives, at most degraded when one does not answer.
fn overall(views: &[NodeView]) -> Exit {
    let verdicts: Vec<Verdict> =
        views.iter().filter_map(|view| view.status.as_ref().map(StatusReport::verdict)).collect();
    if verdicts.is_empty() {
        Exit::Unreachable
    } else if verdicts.iter().all(|&verdict| verdict == Verdict::NoQuorum) {
        Exit::NoQuorum
    } else if verdicts.len() < views.len() || verdicts.iter().any(|&verdict| verdict != Verdict::Ok)
    {
        exit_of(Verdict::Degraded)
    } else {
        Exit::Ok
    }
}

fn logs(layout: &Layout) -> Result<Exit, CliError> {
    for node in layout.nodes() {
        let lines = process::last_log_lines(&node, LOG_LINES);
        let heading = format!("==> {} <==\n", node.log_file.display());
        show(format!("{heading}{}", lines.join("")).as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Whether the user agreed on the command line.
#[derive(Clone, Copy)]
enum Consent {
    Given,
    Ask,
}

impl From<bool> for Consent {
    fn from(given: bool) -> Self {
        if given { Self::Given } else { Self::Ask }
    }
}

fn clean(layout: &Layout, consent: Consent) -> Result<Exit, CliError> {
    for node in layout.nodes() {
        if let Some(pid) = process::running(&node)? {
            return Err(CliError::Cluster(format!(
                "{} still runs (pid {pid}): `pickbox cluster stop` first. Nothing was deleted.",
                node.name
            )));
        }
    }
    let doomed = layout.made()?;
    say("This deletes, with everything in them:");
    for path in &doomed {
        say(format_args!("  {}", path.display()));
    }
    if matches!(consent, Consent::Ask) && !ask_yes()? {
        say("nothing was deleted");
        return Ok(Exit::Failed);
    }
    layout.remove(&doomed)?;
    say("deleted");
    Ok(Exit::Ok)
}

fn ask_yes() -> Result<bool, CliError> {
    say("Delete? (y/N)");
    let mut answer = String::new();
    let doing = CliError::local("Cannot read the answer from standard input");
    io::stdin().lock().read_line(&mut answer).map_err(doing)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}
