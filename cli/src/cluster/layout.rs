//! Which nodes a local cluster has, and where their files are.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::CliError;
use crate::options::default_state_dir;

/// Most nodes of a local cluster.
const NODES_MAX: u16 = 30;
/// Pid files, logs and the record live here, beside the folders.
const RUN_DIR: &str = ".pickbox-cluster";

/// A cluster of nodes on this machine.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    record: Record,
    /// How many nodes were started before; `stop` must find them all, also after a start of fewer.
    nodes_before: u16,
}

/// What is remembered of a cluster, in `RUN_DIR/cluster.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    nodes: u16,
    port: u16,
    admin_port: u16,
    /// Entries of the root that did not exist before: the only ones that `clean` deletes.
    made: Vec<String>,
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
        let defaults = Record { nodes: 3, port: 8001, admin_port: 9001, made: Vec::new() };
        let nodes_before = before.as_ref().map_or(0, |before| before.nodes);
        let before = before.unwrap_or(defaults);
        let record = Record {
            nodes: nodes.unwrap_or(before.nodes),
            port: port.unwrap_or(before.port),
            admin_port: admin_port.unwrap_or(before.admin_port),
            made: before.made,
        };
        check_ports(&record)?;
        Ok(Self { root, record, nodes_before })
    }

    /// All nodes, node1 first.
    pub(crate) fn nodes(&self) -> Vec<LocalNode> {
        (0..self.record.nodes).filter_map(|offset| self.node(offset)).collect()
    }

    fn node(&self, offset: u16) -> Option<LocalNode> {
        let name = format!("node{}", offset + 1);
        let run = self.root.join(RUN_DIR);
        let folder = self.root.join(&name);
        let address =
            |base: u16| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, base.checked_add(offset)?)));
        Some(LocalNode {
            peer: address(self.record.port)?,
            admin: address(self.record.admin_port)?,
            state: default_state_dir(&folder).ok()?,
            pid_file: run.join(format!("{name}.pid")),
            log_file: run.join(format!("{name}.log")),
            folder,
            name,
        })
    }

    /// Makes the directory for pid files and logs, and remembers what is about to be made.
    pub(crate) fn prepare(&self) -> Result<(), CliError> {
        let run = self.root.join(RUN_DIR);
        let mut record = self.record.clone();
        record.nodes = record.nodes.max(self.nodes_before);
        for path in self.nodes().into_iter().flat_map(|node| [node.folder, node.state]) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !path.exists() && !record.made.contains(&name) {
                record.made.push(name);
            }
        }
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
