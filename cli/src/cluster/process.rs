//! Daemons as processes: started detached, found again by pid file, ended by signal.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pickbox_raft::clock;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::layout::LocalNode;
use crate::exit::CliError;

/// How long a daemon may take to end after SIGTERM.
const END_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The end of a log file that is read for its last lines.
const LOG_TAIL_BYTES: u64 = 64 * 1024;

/// A daemon that this command started, or found running.
#[derive(Debug)]
pub(crate) struct Started(Option<Child>);

impl Started {
    /// It ran before.
    pub(crate) const fn before() -> Self {
        Self(None)
    }

    /// Whether it has ended since.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

/// What a node without state does; with state the daemon ignores it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// It founds a cluster.
    Found,
    /// It joins the cluster that has a member at this address.
    Join(SocketAddr),
}

/// Starts the node's daemon in the background.
pub(crate) fn spawn(node: &LocalNode, entry: Entry) -> Result<Started, CliError> {
    let program = program()?;
    let log = OpenOptions::new().create(true).append(true).open(&node.log_file);
    let log = log.and_then(|log| Ok((log.try_clone()?, log)));
    let (out, err) =
        log.map_err(CliError::local(format!("Cannot write the log {}", node.log_file.display())))?;
    let mut command = Command::new(&program);
    command.args(["--node-id", &node.name, "--host", &node.peer.ip().to_string()]);
    command.args(["--port", &node.peer.port().to_string()]);
    command.args(["--admin-port", &node.admin.port().to_string()]);
    command.arg("--data-dir").arg(&node.folder).arg("--state-dir").arg(&node.state);
    match entry {
        Entry::Found => command.arg("--bootstrap"),
        Entry::Join(member) => command.args(["--merge", "--join", &member.to_string()]),
    };
    // Its own process group: Ctrl-C in this terminal is not meant for it.
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let child =
        command.spawn().map_err(CliError::local(format!("Cannot start {}", program.display())))?;
    write_pid(node, &child)?;
    Ok(Started(Some(child)))
}

/// The daemon beside this program, else the one in the search path.
fn program() -> Result<PathBuf, CliError> {
    let own =
        std::env::current_exe().map_err(CliError::local("Cannot find this program's own file"))?;
    let beside = own.with_file_name("pickboxd");
    Ok(if beside.exists() { beside } else { PathBuf::from("pickboxd") })
}

fn write_pid(node: &LocalNode, child: &Child) -> Result<(), CliError> {
    let doing = CliError::local(format!("Cannot write {}", node.pid_file.display()));
    let pid = child.id();
    let text = stat(&pid.to_string()).map(|stat| format!("{pid} {}\n", stat.started));
    // It may have ended already: then there is nothing to find again.
    text.map_or(Ok(()), |text| fs::write(&node.pid_file, text)).map_err(doing)
}

/// The pid of the node's daemon, if that process runs and is the very one that was started: a
/// number in an old file may belong to somebody else's process by now.
pub(crate) fn running(node: &LocalNode) -> Result<Option<i32>, CliError> {
    let text = match fs::read_to_string(&node.pid_file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => {
            other.map_err(CliError::local(format!("Cannot read {}", node.pid_file.display())))?
        }
    };
    let Some((pid, started)) = text.trim().split_once(' ') else { return Ok(None) };
    let ours = stat(pid).is_some_and(|stat| stat.started == started && !stat.is_dead());
    Ok(if ours && runs_node(pid, &node.name) { pid.parse().ok() } else { None })
}

/// What `/proc/PID/stat` tells (`proc_pid_stat(5)`).
struct Stat {
    state: String,
    /// Clock ticks from boot to the start of the process: with the pid it names one process.
    started: String,
}

impl Stat {
    fn is_dead(&self) -> bool {
        ["Z", "X"].contains(&self.state.as_str())
    }
}

fn stat(pid: &str) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in brackets, may hold anything; the fields are counted from its end.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.to_owned();
    // Field 3 is the state, field 22 the start time.
    let started = fields.nth(22 - 3 - 1)?.to_owned();
    Some(Stat { state, started })
}

/// Whether the process was started for this node.
fn runs_node(pid: &str, name: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|&byte| byte == 0);
    let program = words.next().unwrap_or_default();
    program.ends_with(b"pickboxd") && words.any(|word| word == name.as_bytes())
}

/// Sends SIGTERM if the node runs; tells whether it did.
pub(crate) fn terminate(node: &LocalNode) -> Result<bool, CliError> {
    let Some(number) = running(node)? else { return Ok(false) };
    let doing = || CliError::local(format!("Cannot end {} (pid {number})", node.name));
    let Some(pid) = Pid::from_raw(number) else { return Ok(false) };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        other => other.map_err(|error| doing()(error.into()))?,
    };
    // The handle keeps naming this process: looked at again, it cannot change before the signal.
    if running(node)? != Some(number) {
        return Ok(false);
    }
    match pidfd_send_signal(handle, Signal::TERM) {
        Err(rustix::io::Errno::SRCH) => Ok(false),
        other => other.map(|()| true).map_err(|error| doing()(error.into())),
    }
}

/// Waits until the node has ended.
pub(crate) fn await_end(node: &LocalNode) -> Result<(), CliError> {
    let end = clock::now() + END_PATIENCE;
    while let Some(pid) = running(node)? {
        if clock::now() > end {
            return Err(CliError::Cluster(format!(
                "{} (pid {pid}) has not ended within {} s of SIGTERM; its log is {}. `kill -9 {pid}` \
                 ends it; nothing is lost by that.",
                node.name,
                END_PATIENCE.as_secs(),
                node.log_file.display()
            )));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// The last lines of the node's log, each with its newline.
pub(crate) fn last_log_lines(node: &LocalNode, count: usize) -> Vec<String> {
    let text = read_tail(&node.log_file).unwrap_or_default();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let start = lines.len().saturating_sub(count);
    lines.into_iter().skip(start).map(str::to_owned).collect()
}

fn read_tail(path: &PathBuf) -> io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(root: &std::path::Path) -> LocalNode {
        LocalNode {
            name: "node1".to_owned(),
            peer: "127.0.0.1:1".parse().unwrap(),
            admin: "127.0.0.1:2".parse().unwrap(),
            folder: root.join("node1"),
            state: root.join(".node1.pickbox"),
            pid_file: root.join("node1.pid"),
            log_file: root.join("node1.log"),
        }
    }

    /// A pid is reused sooner or later; killing by a stale file must not hit a stranger.
    #[test]
    fn a_pid_file_that_names_another_process_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let node = node(root.path());
        assert_eq!(running(&node).unwrap(), None);
        let own = std::process::id();
        let started = stat(&own.to_string()).unwrap().started;
        for text in
            [format!("{own} {started}\n"), format!("{own} 1\n"), "x".to_owned(), String::new()]
        {
            fs::write(&node.pid_file, text).unwrap();
            assert_eq!(running(&node).unwrap(), None);
            assert!(!terminate(&node).unwrap());
        }
    }

    #[test]
    fn the_last_lines_of_a_log_are_shown() {
        let root = tempfile::tempdir().unwrap();
        let node = node(root.path());
        assert!(last_log_lines(&node, 2).is_empty());
        fs::write(&node.log_file, "a\nb\nc\n").unwrap();
        assert_eq!(last_log_lines(&node, 2), ["b\n", "c\n"]);
    }
}
