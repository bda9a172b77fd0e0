//! Clusters of real daemons on this machine, for tests from outside.
//!
//! A [`Cluster`] starts the built `pickboxd` (see [`daemon_program`]) several times, with folders
//! and state in a temporary directory and on free ports, and asks it by its admin port as any
//! program would. It fails by panicking: it belongs to tests. When a test fails the directory is
//! kept, and the ends of the logs are printed.

mod daemon;
mod door;
mod hosted;
pub mod hosts;
mod load;
mod ports;
mod tree;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_admin::StatusReport;
use pickbox_admin::status::{MemberReport, MemberRole, Role};
use pickbox_raft::clock;

pub use daemon::{Daemon, Signal, daemon_program, tool_program};
pub use door::Door;
pub use hosts::{Host, Network};
pub use load::{Acknowledged, Client, Load, Outcome};
pub use ports::free_pair;
pub use tree::{Entry, Kind, Tree, differences, read_tree};

/// How long a change may take to be everywhere before a test fails; generous, since two cores carry
/// three daemons and the test.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// Pause between two looks.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Port and admin port of a node that has its host to itself.
const HOST_PORTS: (u16, u16) = (8001, 9001);
/// How long a daemon may take to say how it is, which it does at once.
const STATUS_ANSWER: Duration = Duration::from_secs(5);
/// How long another answer of a daemon may take.
const ANSWER: Duration = Duration::from_secs(40);

/// Daemons of one cluster; `node1` has number 0 here.
#[derive(Debug)]
pub struct Cluster {
    place: Place,
    daemons: Vec<Daemon>,
    /// Where they are hosts; none when all run on this machine.
    network: Option<Network>,
}

/// Where and how the daemons of a cluster run.
#[derive(Clone, Debug)]
pub struct Place {
    /// Folders and state are below this.
    pub root: PathBuf,
    /// Logs are here: elsewhere, when the file system of `root` is to fail.
    pub logs: PathBuf,
    /// A program, with its arguments, that starts each daemon; empty for none.
    pub launcher: Vec<String>,
}

impl Place {
    /// A new directory for all.
    #[must_use]
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("pickbox-test-").tempdir().expect("a directory");
        let root = root.keep();
        Self { logs: root.clone(), root, launcher: Vec::new() }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// A cluster of `count` nodes, all voters, with empty folders.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::start_in(Place::new(), count)
    }

    /// The same, with more flags for each daemon.
    #[must_use]
    pub fn start_with(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Self { place: Place::new(), daemons: Vec::new(), network: None };
        for _ in 0..count {
            let number = cluster.prepare_node();
            let flags = flags.iter().map(ToString::to_string);
            cluster.daemons[number].entry.extend(flags);
            cluster.start_node(number);
        }
        cluster.await_members();
        cluster
    }

    /// The same in a directory that exists.
    #[must_use]
    pub fn start_in(place: Place, count: usize) -> Self {
        let mut cluster = Self { place, daemons: Vec::new(), network: None };
        for _ in 0..count {
            cluster.add_node();
        }
        cluster.await_members();
        cluster
    }

    /// As many nodes as `NODES` says; three if it says nothing.
    #[must_use]
    pub fn start_default() -> Self {
        Self::start(node_count())
    }

    /// Starts one more node, which joins (the first one founds the cluster). Returns its number.
    pub fn add_node(&mut self) -> usize {
        let number = self.prepare_node();
        self.start_node(number);
        number
    }

    fn start_node(&mut self, number: usize) {
        self.daemons[number].start();
        if number == 0 {
            self.await_that("node1 leads", |cluster| {
                cluster.status(0).is_some_and(|report| report.role == Role::Leader)
            });
        }
    }

    /// As [`Cluster::add_node`], but it does not run yet.
    pub fn prepare_node(&mut self) -> usize {
        let number = self.daemons.len();
        let host = self.network.as_mut().map(Network::add_host);
        // Whoever has a host to itself has all its ports.
        let (port, admin_port) = if host.is_some() { HOST_PORTS } else { ports::free_pair() };
        let mut daemon = Daemon::new(&self.place, number, port, admin_port);
        daemon.host = host;
        daemon.entry = match self.daemons.first() {
            None => vec!["--bootstrap".to_owned()],
            Some(first) => vec![format!("--join={}", first.peer_address())],
        };
        if number > 0 && daemon.host.is_some() {
            daemon.entry.push(format!("--token-file={}", self.create_token(0).display()));
        }
        self.daemons.push(daemon);
        number
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.daemons.len()
    }

    /// One node's process.
    #[must_use]
    pub fn daemon(&self, number: usize) -> &Daemon {
        &self.daemons[number]
    }

    /// One node's process, to change how it is started.
    pub fn daemon_mut(&mut self, number: usize) -> &mut Daemon {
        &mut self.daemons[number]
    }

    /// The directory that holds everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.place.root
    }

    /// A node's folder.
    #[must_use]
    pub fn folder(&self, number: usize) -> &Path {
        &self.daemons[number].folder
    }

    /// A path in a node's folder.
    #[must_use]
    pub fn path(&self, number: usize, path: &str) -> PathBuf {
        self.daemons[number].folder.join(path)
    }

    /// Writes a file in a node's folder, as any program would.
    pub fn write(&self, number: usize, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(number, path);
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    /// A file's content, if it is there.
    #[must_use]
    pub fn read(&self, number: usize, path: &str) -> Option<Vec<u8>> {
        fs::read(self.path(number, path)).ok()
    }

    /// The admin ports of all nodes.
    #[must_use]
    pub fn doors(&self) -> Vec<Door> {
        self.daemons.iter().map(Daemon::door).collect()
    }

    /// Waits until all running nodes have everything that was acknowledged, and agree.
    pub fn await_acknowledged(&self, writes: &[Acknowledged]) {
        assert!(!writes.is_empty(), "nothing was written");
        self.await_converged();
        for number in self.running() {
            for Acknowledged { path, .. } in writes {
                let content = self.read(number, path);
                assert!(
                    content.as_deref() == Some(path.as_bytes()),
                    "P4: node{} lost {path}: {content:?}\n{}",
                    number + 1,
                    self.describe()
                );
            }
        }
    }

    /// What one node says of a member, by name.
    #[must_use]
    pub fn member(&self, asked: usize, name: &str) -> Option<MemberReport> {
        let members = self.status(asked)?.members;
        members.into_iter().find(|member| member.node_id == name)
    }

    /// The numbers of the nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        (0..self.count()).filter(|&number| self.daemons[number].is_running()).collect()
    }

    /// Ends a node without warning.
    pub fn kill(&mut self, number: usize) {
        self.daemons[number].signal(Signal::KILL);
        self.daemons[number].await_exit();
    }

    /// Ends a node as a service manager does, and waits for it.
    pub fn terminate(&mut self, number: usize) {
        self.daemons[number].signal(Signal::TERM);
        self.daemons[number].await_exit();
    }

    /// Starts a node again with the command line that it had.
    pub fn restart(&mut self, number: usize) {
        self.daemons[number].start();
    }

    /// What a node says of itself; `None` if it does not answer.
    #[must_use]
    pub fn status(&self, number: usize) -> Option<StatusReport> {
        let answer = self.daemons[number].door().ask("STATUS json", STATUS_ANSWER).ok()?;
        Some(serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }

    /// One request to a node, and its answer.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, number: usize, line: &str) -> std::io::Result<String> {
        self.daemons[number].door().ask(line, ANSWER)
    }

    /// Commits a write through a node's admin port; the answer is `OK ...` or `ERROR ...`.
    #[must_use]
    pub fn forward_write(&self, number: usize, path: &str, content: &[u8]) -> String {
        let data = STANDARD.encode(content);
        let json = serde_json::json!({
            "op": "write", "path": path, "data": data, "node_id": "tests", "sequence": 1,
        });
        self.ask(number, &format!("FORWARD {json}")).unwrap_or_else(|error| error.to_string())
    }

    /// The number of the node that leads, once one does.
    #[must_use]
    pub fn leader(&self) -> usize {
        let mut leader = None;
        self.await_that("a leader", |cluster| {
            leader = cluster.running().into_iter().find(|&number| {
                cluster.status(number).is_some_and(|report| report.role == Role::Leader)
            });
            leader.is_some()
        });
        leader.expect("one leads")
    }

    /// Waits until all running nodes know all nodes as voters.
    pub fn await_members(&self) {
        let count = self.count();
        self.await_that("all nodes are voters", |cluster| {
            cluster.running().into_iter().all(|number| {
                cluster.status(number).is_some_and(|report| {
                    let voters = report.members.iter().filter(|one| one.role == MemberRole::Voter);
                    report.leader_id.is_some() && voters.count() == count
                })
            })
        });
    }

    /// Waits for something; panics with what is known when it takes longer than [`PATIENCE`].
    pub fn await_that(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = clock::now() + PATIENCE;
        while !is_so(self) {
            assert!(clock::now() < end, "not within {PATIENCE:?}: {what}\n{}", self.describe());
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the content of a file is this on all running nodes.
    pub fn await_content(&self, path: &str, content: impl AsRef<[u8]>) {
        self.await_that(&format!("{path} is everywhere"), |cluster| {
            let is_there = |number| cluster.read(number, path).as_deref() == Some(content.as_ref());
            cluster.running().into_iter().all(is_there)
        });
    }

    /// Waits until nothing is at a path on any running node.
    pub fn await_gone(&self, path: &str) {
        self.await_that(&format!("{path} is gone everywhere"), |cluster| {
            let is_gone = |number| cluster.path(number, path).symlink_metadata().is_err();
            cluster.running().into_iter().all(is_gone)
        });
    }

    /// Waits until all running nodes say that nothing is pending and that they agree, then compares
    /// their folders name by name, kind, mode, link target, content and mtime. Returns the tree.
    pub fn await_converged(&self) -> Tree {
        self.await_that("all nodes agree and nothing is pending", Self::agrees);
        let trees = self.trees();
        let mut trees = trees.into_iter();
        let (first, reference) = trees.next().expect("a node runs");
        for (number, tree) in trees {
            let found = differences(&reference, &tree);
            let (one, other) = (first + 1, number + 1);
            assert!(
                found.is_empty(),
                "node{one} and node{other} say that they are equal and are not:\n{}\n{}",
                found.join("\n"),
                self.describe()
            );
        }
        reference
    }

    fn agrees(&self) -> bool {
        let reports: Option<Vec<StatusReport>> =
            self.running().into_iter().map(|number| self.status(number)).collect();
        let Some(reports) = reports else { return false };
        let Some(first) = reports.first() else { return false };
        reports.iter().all(|report| {
            report.pending == 0
                && report.root_digest == first.root_digest
                && report.applied_index == first.applied_index
        })
    }

    /// The folders of all running nodes.
    #[must_use]
    pub fn trees(&self) -> BTreeMap<usize, Tree> {
        let tree = |number| (number, read_tree(self.folder(number)));
        self.running().into_iter().map(tree).collect()
    }

    /// What is known of every node, for a failed test.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("everything is in {}\n", self.place.root.display());
        for daemon in &self.daemons {
            let state = if daemon.is_running() { "running" } else { "not running" };
            let status = daemon
                .door()
                .ask("STATUS", STATUS_ANSWER)
                .unwrap_or_else(|error| error.to_string());
            let log = daemon.log_tail();
            // Writing to a String cannot fail.
            let _ = write!(text, "--- {} ({state})\n{status}\n{log}\n", daemon.name);
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for daemon in &mut self.daemons {
            daemon.signal(Signal::KILL);
            daemon.await_exit();
            assert!(
                failed || !daemon.has_panicked(),
                "{} printed a panic:\n{}",
                daemon.name,
                daemon.log_tail()
            );
        }
        if failed {
            return;
        }
        let _ = fs::remove_dir_all(&self.place.root);
    }
}

/// The number of nodes that the tests are asked to run with.
#[must_use]
pub fn node_count() -> usize {
    env_number("NODES", 3)
}

/// A number from the environment, such as how often to repeat.
#[must_use]
pub fn env_number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}
