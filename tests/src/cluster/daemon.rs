//! One daemon as a process.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pickbox_raft::clock;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use super::{Door, Host, Place};

/// How long a daemon may take to end.
const END: Duration = Duration::from_secs(30);
/// The end of the log that is shown.
const LOG_LINES: usize = 60;

/// One node's process, and how to start it.
#[derive(Debug)]
pub struct Daemon {
    /// `node1` and so on.
    pub name: String,
    /// Where its peers reach it.
    pub port: u16,
    /// Where it is asked.
    pub admin_port: u16,
    /// The users' files.
    pub folder: PathBuf,
    /// The daemon's own files.
    pub state: PathBuf,
    /// What it says.
    pub log: PathBuf,
    /// `--bootstrap` or `--join=...`.
    pub entry: Vec<String>,
    /// A program, with its arguments, that starts the daemon; empty for none.
    pub launcher: Vec<String>,
    /// The host that it runs on; this machine, if none.
    pub host: Option<Host>,
    child: Option<Child>,
}

impl Daemon {
    /// A node that does not run yet.
    #[must_use]
    pub fn new(place: &Place, number: usize, port: u16, admin_port: u16) -> Self {
        let name = format!("node{}", number + 1);
        Self {
            folder: place.root.join(&name),
            state: place.root.join(format!(".{name}.pickbox")),
            log: place.logs.join(format!("{name}.log")),
            entry: Vec::new(),
            launcher: place.launcher.clone(),
            host: None,
            child: None,
            name,
            port,
            admin_port,
        }
    }

    /// Where it is asked.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.admin_port))
    }

    /// Where its peers reach it.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        let address = self.host.as_ref().map_or(Ipv4Addr::LOCALHOST, |host| host.address);
        SocketAddr::from((address, self.port))
    }

    /// How one gets there.
    #[must_use]
    pub fn door(&self) -> Door {
        Door { host: self.host.clone(), address: self.admin_address() }
    }

    /// Starts it.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("the log");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.child = Some(child);
    }

    /// The command line that starts it, for tests that want its output.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut words = self.host.as_ref().map(Host::launcher).unwrap_or_default();
        words.extend_from_slice(&self.launcher);
        words.push(daemon_program().to_string_lossy().into_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.arg(format!("--node-id={}", self.name));
        if let Some(host) = &self.host {
            command.arg(format!("--host={}", host.address));
        }
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--admin-port={}", self.admin_port));
        command.arg("--data-dir").arg(&self.folder).arg("--state-dir").arg(&self.state);
        command.args(&self.entry);
        if let Ok(level) = std::env::var("LOG_LEVEL") {
            command.args(["--log-level", &level]);
        }
        command
    }

    /// Whether it was started and not ended since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Stops it as a debugger would; when this returns none of its threads runs any more. (kill(2)
    /// returns before all have seen the signal.)
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = self.pid().expect("it runs");
        let is_stopped = |task: &fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status"));
            // A thread that has ended meanwhile does not run either.
            status.is_ok_and(|status| status.contains("State:\tT")) || !task.path().exists()
        };
        let tasks = || fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        while !tasks().flatten().all(|task| is_stopped(&task)) {
            std::thread::yield_now();
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself: its exit status is looked at elsewhere.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended.
    pub fn await_exit(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let end = clock::now() + END;
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return Some(status);
            }
            if clock::now() > end {
                child.kill().expect("a child");
                child.wait().expect("a child");
                panic!("{} has not ended within {END:?}\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(super::LOOK_AGAIN);
        }
    }

    /// How it ended, if it has ended by itself; then it can be started again.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child")?;
        self.child = None;
        Some(status)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Everything that it said.
    #[must_use]
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it printed a panic (no fault may lead to one).
    #[must_use]
    pub fn has_panicked(&self) -> bool {
        self.log_text()
            .lines()
            .any(|line| line.starts_with("thread '") && line.contains("panicked"))
    }

    /// A figure in kB from `/proc/PID/status`, such as `VmHWM` or `VmRSS`.
    #[must_use]
    pub fn memory_kb(&self, key: &str) -> u64 {
        let pid = self.pid().expect("it runs");
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = value.and_then(|value| value.split_ascii_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("a number")
    }

    /// CPU time used since its start, in clock ticks of 10 ms (fields 14 and 15 of
    /// `proc_pid_stat(5)`).
    #[must_use]
    pub fn cpu_ticks(&self) -> u64 {
        let pid = self.pid().expect("it runs");
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
        let (_, fields) = text.rsplit_once(')').expect("a name in brackets");
        let fields = fields.split_ascii_whitespace().skip(14 - 3).take(2);
        fields.map(|field| field.parse::<u64>().expect("a number")).sum()
    }
}

/// The daemon that is tested: `PICKBOXD`, else the one built with the test, else the release build.
#[must_use]
pub fn daemon_program() -> PathBuf {
    program("PICKBOXD", "pickboxd")
}

/// The tool that belongs to it.
#[must_use]
pub fn tool_program() -> PathBuf {
    program("PICKBOX", "pickbox")
}

fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    // This program is target/PROFILE/deps/NAME or target/PROFILE/NAME.
    let own = std::env::current_exe().expect("this program's file");
    let profiles = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let release = own
        .ancestors()
        .find(|path| path.ends_with("target"))
        .map(|target| target.join("release").join(name));
    profiles
        .chain(release)
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not built: run `make build`, or set {variable}"))
}
