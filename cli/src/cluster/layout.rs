//! Which nodes a local cluster has, and where their files are.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::CliError;
use crate::options::default_state_dir;

/// Most nodes of a local cluster.
const NODES_MAX: u16 = 30;
/// Numbers that are looked at for a free name and free ports.
const NUMBERS_TRIED: u16 = 200;
/// Pid files, logs and the record live here, beside the folders.
const RUN_DIR: &str = ".pickbox-cluster";

/// A cluster of nodes on this machine.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    record: Record,
    /// How many nodes were started before; `stop` must find them all, also after a start of fewer.
    nodes_before: u16,
    /// Whether those that came later are meant too: not when a number was said.
    scope: Scope,
}

/// Which nodes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// All that are remembered.
    All,
    /// The first ones, as many as were said.
    First,
}

/// What is remembered of a cluster, in `RUN_DIR/cluster.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    nodes: u16,
    port: u16,
    admin_port: u16,
    /// Entries of the root that did not exist before: the only ones that `clean` deletes.
    made: Vec<String>,
    /// Nodes that came later, with names and ports of their own.
    #[serde(default)]
    more: Vec<Further>,
}

/// A node that came later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Further {
    name: String,
    peer: SocketAddr,
    admin: SocketAddr,
}

/// One node of it.
#[derive(Clone, Debug)]
pub(crate) struct LocalNode {
    pub(crate) name: String,
    pub(crate) peer: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) folder: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) pid_file: PathBuf,
    pub(crate) log_file: PathBuf,
}

impl LocalNode {
    /// Whether it was started before: then it needs neither to found a cluster nor to join one.
    pub(crate) fn has_state(&self) -> bool {
        fs::read_dir(&self.state).is_ok_and(|mut entries| entries.next().is_some())
    }
}

impl Layout {
    /// The cluster below `root`: what is said now, else what it was before, else the defaults.
    pub(crate) fn choose(
        root: &str,
        nodes: Option<u16>,
        port: Option<u16>,
        admin_port: Option<u16>,
    ) -> Result<Self, CliError> {
        let root = std::path::absolute(root)
            .map_err(CliError::local(format!("Cannot make {root} an absolute path")))?;
        let before = read_record(&root)?;
        let defaults = Record { nodes: 3, port: 8001, admin_port: 9001, ..Record::default() };
        let nodes_before = before.as_ref().map_or(0, |before| before.nodes);
        let before = before.unwrap_or(defaults);
        let record = Record {
            nodes: nodes.unwrap_or(before.nodes),
            port: port.unwrap_or(before.port),
            admin_port: admin_port.unwrap_or(before.admin_port),
            made: before.made,
            more: before.more,
        };
        check_ports(&record)?;
        let scope = if nodes.is_some() { Scope::First } else { Scope::All };
        Ok(Self { root, record, nodes_before, scope })
    }

    /// All nodes, node1 first.
    pub(crate) fn nodes(&self) -> Vec<LocalNode> {
        let first: Vec<Further> =
            (0..self.record.nodes).filter_map(|offset| self.numbered(offset)).collect();
        let is_first = |one: &Further| first.iter().any(|other| other.name == one.name);
        let more = self.record.more.iter().filter(|one| self.scope == Scope::All && !is_first(one));
        first.iter().chain(more).filter_map(|one| self.place(one)).collect()
    }

    /// The node of this number, from 0; one that came later keeps the ports that it has.
    fn numbered(&self, offset: u16) -> Option<Further> {
        let name = format!("node{}", offset + 1);
        if let Some(known) = self.record.more.iter().find(|one| one.name == name) {
            return Some(known.clone());
        }
        let [peer, admin] = self.ports(offset)?;
        Some(Further { name, peer, admin })
    }

    /// Where the node of this number, from 0, is reached by peers and by clients.
    fn ports(&self, offset: u16) -> Option<[SocketAddr; 2]> {
        let address =
            |base: u16| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, base.checked_add(offset)?)));
        Some([address(self.record.port)?, address(self.record.admin_port)?])
    }

    fn place(&self, node: &Further) -> Option<LocalNode> {
        let Further { name, peer, admin } = node.clone();
        let run = self.root.join(RUN_DIR);
        let folder = self.root.join(&name);
        Some(LocalNode {
            peer,
            admin,
            state: default_state_dir(&folder).ok()?,
            pid_file: run.join(format!("{name}.pid")),
            log_file: run.join(format!("{name}.log")),
            folder,
            name,
        })
    }

    /// Takes a further node in, to be remembered by [`Layout::prepare`].
    pub(crate) fn add(
        &mut self,
        name: String,
        peer: SocketAddr,
        admin: SocketAddr,
    ) -> Option<LocalNode> {
        self.record.more.retain(|one| one.name != name);
        let node = Further { name, peer, admin };
        self.record.more.push(node.clone());
        self.place(&node)
    }

    /// The next name that nobody has, and of which nothing is left here, with the next ports that
    /// nobody uses.
    pub(crate) fn next(
        &self,
        is_member: impl Fn(&str) -> bool,
    ) -> Option<(String, [SocketAddr; 2])> {
        let known = self.nodes();
        let is_used = |address: SocketAddr| {
            known.iter().any(|node| [node.peer, node.admin].contains(&address))
                || TcpListener::bind(address).is_err()
        };
        let is_free = |node: &LocalNode| {
            let is_known = known.iter().any(|one| one.name == node.name);
            !(is_known || is_member(&node.name) || node.folder.exists() || node.state.exists())
        };
        let node = (0..NUMBERS_TRIED)
            .filter_map(|offset| self.numbered(offset).and_then(|node| self.place(&node)))
            .find(is_free)?;
        let ports = (0..NUMBERS_TRIED)
            .filter_map(|offset| self.ports(offset))
            .find(|pair| !pair.iter().any(|address| is_used(*address)))?;
        Some((node.name, ports))
    }

    /// Makes the directory for pid files and logs, and remembers what is about to be made.
    pub(crate) fn prepare(&mut self) -> Result<(), CliError> {
        let run = self.root.join(RUN_DIR);
        for path in self.nodes().into_iter().flat_map(|node| [node.folder, node.state]) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !path.exists() && !self.record.made.contains(&name) {
                self.record.made.push(name);
            }
        }
        let mut record = self.record.clone();
        record.nodes = record.nodes.max(self.nodes_before);
        fs::create_dir_all(&run)
            .map_err(CliError::local(format!("Cannot make the directory {}", run.display())))?;
        write_record(&run.join("cluster.json"), &record)
    }

    /// What [`Layout::prepare`] knows to be made by us, and still there.
    pub(crate) fn made(&self) -> Result<Vec<PathBuf>, CliError> {
        let run = self.root.join(RUN_DIR);
        if !run.exists() {
            return Err(CliError::Cluster(format!(
                "Nothing to clean: `pickbox cluster start` has made nothing in {}. Another place is \
                 named by --data-dir.",
                self.root.display()
            )));
        }
        let made = self.record.made.iter().filter(|name| is_plain(name));
        let paths = made.map(|name| self.root.join(name)).chain([run]);
        Ok(paths.filter(|path| path.exists()).collect())
    }

    /// Deletes these, and the root if nothing else is in it.
    pub(crate) fn remove(&self, paths: &[PathBuf]) -> Result<(), CliError> {
        for path in paths {
            fs::remove_dir_all(path)
                .map_err(CliError::local(format!("Cannot delete {}", path.display())))?;
        }
        match fs::remove_dir(&self.root) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                Err(CliError::local(format!("Cannot delete {}", self.root.display()))(error))
            }
            _ => Ok(()),
        }
    }
}

/// One name, leading nowhere else: the record may have been edited.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

fn check_ports(record: &Record) -> Result<(), CliError> {
    let usage = |text: String| Err(CliError::Usage(text));
    let Record { nodes, port, admin_port, .. } = *record;
    if !(1..=NODES_MAX).contains(&nodes) {
        return usage(format!("-n {nodes}: a local cluster has 1 to {NODES_MAX} nodes."));
    }
    for (flag, base) in [("-p", port), ("-a", admin_port)] {
        if base == 0 || base.checked_add(nodes - 1).is_none() {
            return usage(format!("{flag} {base}: there are no {nodes} ports from {base} on."));
        }
    }
    if port.abs_diff(admin_port) < nodes {
        return usage(format!(
            "-p {port} and -a {admin_port} are too near for {nodes} nodes each."
        ));
    }
    Ok(())
}

fn read_record(root: &Path) -> Result<Option<Record>, CliError> {
    let path = root.join(RUN_DIR).join("cluster.json");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(CliError::local(format!("Cannot read {}", path.display())))?,
    };
    let broken = |error: serde_json::Error| CliError::Local {
        doing: format!("Cannot understand {}", path.display()),
        source: io::Error::other(error),
    };
    serde_json::from_str(&text).map(Some).map_err(broken)
}

fn write_record(path: &Path, record: &Record) -> Result<(), CliError> {
    let doing = format!("Cannot write {}", path.display());
    let text = serde_json::to_string_pretty(record).map_err(io::Error::other);
    text.and_then(|text| fs::write(path, text)).map_err(CliError::local(doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(root: &Path, nodes: Option<u16>) -> Layout {
        Layout::choose(root.to_str().unwrap(), nodes, None, None).unwrap()
    }

    #[test]
    fn a_cluster_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        layout(root.path(), Some(5)).prepare().unwrap();
        let again = layout(root.path(), None).nodes();
        assert_eq!(again.len(), 5);
        assert_eq!(again[4].peer.port(), 8005);
        assert_eq!(again[4].admin.port(), 9005);
        assert_eq!(again[4].state, root.path().join(".node5.pickbox"));
    }

    /// A node that came later keeps its ports, counts when no number is said, and is not started
    /// twice when one is.
    #[test]
    fn a_further_node_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let mut three = layout(root.path(), Some(3));
        three.prepare().unwrap();
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        three = layout(root.path(), None);
        three.add("node5".to_owned(), at(8105), at(9105)).unwrap();
        three.prepare().unwrap();
        let names = |count| -> Vec<(String, u16)> {
            let nodes = layout(root.path(), count).nodes();
            nodes.into_iter().map(|node| (node.name, node.peer.port())).collect()
        };
        assert_eq!(names(None).last().unwrap(), &("node5".to_owned(), 8105));
        assert_eq!((names(None).len(), names(Some(3)).len()), (4, 3));
        assert_eq!(names(Some(5))[4], ("node5".to_owned(), 8105));
        assert_eq!(names(Some(5)).len(), 5);
    }

    #[test]
    fn the_next_node_takes_what_nobody_has() {
        let root = tempfile::tempdir().unwrap();
        layout(root.path(), Some(1)).prepare().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        fs::create_dir(root.path().join("node2")).unwrap();
        let text = root.path().to_str().unwrap();
        // Its first pair is node1's, its second has a port that another program uses.
        let layout = Layout::choose(text, None, Some(port - 1), Some(port - 1 + 300)).unwrap();
        let (name, [peer, admin]) = layout.next(|name| name == "node3").unwrap();
        assert_eq!(name, "node4", "node2 has a folder, node3 is a member");
        assert!(peer.port() > port && admin.port() == peer.port() + 300, "{peer} {admin}");
    }

    #[test]
    fn clean_deletes_only_what_was_made() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("node1")).unwrap();
        fs::write(root.path().join("node1/mine"), "mine").unwrap();
        layout(root.path(), Some(2)).prepare().unwrap();
        fs::create_dir(root.path().join("node2")).unwrap();
        let again = layout(root.path(), None);
        again.remove(&again.made().unwrap()).unwrap();
        assert!(root.path().join("node1/mine").exists());
        assert!(!root.path().join("node2").exists());
        assert!(again.made().is_err(), "nothing is left to clean");
    }

    #[test]
    fn ports_that_do_not_fit_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().to_str().unwrap();
        assert!(Layout::choose(root, Some(0), None, None).is_err());
        assert!(Layout::choose(root, Some(3), Some(65534), None).is_err());
        assert!(Layout::choose(root, Some(3), Some(9000), Some(9001)).is_err());
        assert!(Layout::choose(root, Some(3), Some(0), None).is_err());
    }
}
