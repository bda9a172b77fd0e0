//! Threads of a daemon that hang in a system call, as on a disk that does not answer.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pickbox_raft::clock;
use pickbox_tests::cluster::{Daemon, PATIENCE};

/// A program that delays the next call of one thread. Ends the delay when it is dropped.
pub(crate) struct Hang {
    strace: Child,
    status: PathBuf,
}

impl Hang {
    /// Delays the next `call` of the thread of that name.
    pub(crate) fn of(daemon: &Daemon, thread: &str, call: &str, delay: Duration) -> Self {
        let task = task_of(daemon, thread);
        let micros = delay.as_micros();
        let strace = Command::new("strace")
            .args(["-qq", "-e", &format!("trace={call}"), "-p", &task])
            .args(["-e", &format!("inject={call}:delay_enter={micros}:when=1")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("strace: {error}; see `make setup`"));
        let task = format!("/proc/{}/task/{task}/status", daemon.pid().unwrap());
        let hang = Self { strace, status: PathBuf::from(task) };
        let end = clock::now() + PATIENCE;
        while hang.field("TracerPid").is_none_or(|tracer| tracer == "0") {
            assert!(clock::now() < end, "strace does not attach");
            std::thread::yield_now();
        }
        hang
    }

    /// Whether the thread stands still now.
    pub(crate) fn is_on(&self) -> bool {
        self.field("State").is_some_and(|state| state.starts_with('t'))
    }

    fn field(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(&self.status).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Some(value?.trim().to_owned())
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Whether this user may trace daemons, which are not dumpable: root may.
pub(crate) fn can_hang() -> bool {
    rustix::process::geteuid().is_root()
}

/// The id of one of a daemon's threads, by its name.
fn task_of(daemon: &Daemon, name: &str) -> String {
    let tasks = format!("/proc/{}/task", daemon.pid().unwrap());
    let is_it = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let found = std::fs::read_dir(tasks).unwrap().flatten().find(is_it);
    found.unwrap().file_name().into_string().unwrap()
}
