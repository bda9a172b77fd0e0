//! What a daemon tells its service manager (`sd_notify(3)`), with this test in its place.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use pickbox_tests::cluster::{Cluster, PATIENCE, Place};

use crate::hang::{Hang, can_hang};

/// Time for a sign of life: `WatchdogSec=` of the unit, shortened.
const WATCHDOG: Duration = Duration::from_secs(1);
/// How long a thread hangs.
const STALL: Duration = Duration::from_secs(5);

/// Signs of life that may have been on their way when a thread began to hang; far fewer than a
/// daemon gives in [`STALL`] that gives them anyway.
const SIGNS_MAX: usize = 4;

/// A daemon and the socket that it tells how it is.
struct Managed {
    cluster: Cluster,
    socket: UnixDatagram,
}

impl Managed {
    fn start() -> Self {
        let root = tempfile::Builder::new().prefix("pickbox-test-").tempdir().unwrap().keep();
        let path = root.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let notify = format!("NOTIFY_SOCKET={}", path.display());
        let watchdog = format!("WATCHDOG_USEC={}", WATCHDOG.as_micros());
        let launcher = vec!["env".to_owned(), notify, watchdog];
        let cluster = Cluster::start_in(Place { logs: root.clone(), root, launcher }, 1);
        Self { cluster, socket }
    }

    /// The next thing that it tells.
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(bytes.get(..count).unwrap()).into_owned()
    }

    /// Waits until it tells this.
    fn await_told(&self, words: &str) {
        while !self.next().contains(words) {}
    }

    /// Takes what it has told until now.
    fn drain(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }

    fn count_in_log(&self, words: &str) -> usize {
        self.cluster.daemon(0).log_text().matches(words).count()
    }
}

/// Source: `sd_notify(3)`: `READY=1` when it serves, `WATCHDOG=1` while it is at work, `STOPPING=1`.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_daemon_tells_when_it_serves_works_and_ends() {
    let mut managed = Managed::start();
    assert_eq!(managed.next(), "STATUS=opening the state");
    let ready = managed.next();
    let folder = managed.cluster.folder(0).display().to_string();
    assert_eq!(ready, format!("READY=1\nSTATUS=node1 serves {folder}"));
    for _ in 0..3 {
        assert_eq!(managed.next(), "WATCHDOG=1");
    }
    managed.cluster.terminate(0);
    managed.await_told("STOPPING=1");
    managed.drain();
    fs::remove_file(managed.cluster.root().join("notify")).unwrap();
    // Nobody listens any more: that is no reason not to serve.
    managed.cluster.restart(0);
    managed.cluster.write(0, "a", "a");
    managed.cluster.await_converged();
}

/// A sign of life is one of all that do the work: while one of them hangs none comes, and the log
/// says which.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_thread_that_hangs_gives_no_sign_of_life() {
    if !can_hang() {
        println!("skipped: only root may trace a daemon");
        return;
    }
    let managed = Managed::start();
    managed.await_told("WATCHDOG=1");
    let threads = [
        ("log-writer", "fdatasync", "thread=\"consensus or log-writer\""),
        ("consensus", "epoll_wait", "thread=\"consensus or log-writer\""),
        ("apply", "futex", "thread=\"apply\""),
    ];
    for (number, (thread, call, named)) in threads.into_iter().enumerate() {
        let returns = "event=threads_at_work_again";
        let named_before = managed.count_in_log(named);
        let hang = Hang::of(managed.cluster.daemon(0), thread, call, STALL);
        managed.cluster.write(0, &format!("file{number}"), thread);
        managed.cluster.await_that("somebody notices", |cluster| {
            let is_named = cluster.daemon(0).log_text().matches(named).count() > named_before;
            is_named && hang.is_on()
        });
        let before = managed.count_in_log(returns);
        managed.drain();
        // The daemon says that all is well before it gives the next sign of life, not after it. One
        // that was due may come late.
        let early = (0..SIGNS_MAX).take_while(|_| {
            managed.await_told("WATCHDOG=1");
            managed.count_in_log(returns) == before
        });
        assert!(early.count() < SIGNS_MAX, "{thread} hangs, and there are signs of life");
        drop(hang);
        managed.cluster.await_converged();
        managed.await_told("WATCHDOG=1");
    }
}
