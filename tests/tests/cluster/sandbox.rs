//! What running daemons have given up (fault 92), seen from outside; what tries to get out is in
//! `tests/tests/confined.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use pickbox_tests::cluster::{Cluster, Place, Signal, daemon_program};

use crate::hang::can_hang;

/// Somebody with no rights (nobody, on most systems).
const NOBODY: u32 = 65534;
/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_FSETID`, `CAP_LEASE` (`linux/capability.h`).
const KEPT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 28;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A line of `/proc/PID/status` of one daemon's thread.
fn status_of(cluster: &Cluster, node: usize, task: &str, key: &str) -> String {
    let pid = cluster.daemon(node).pid().unwrap();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

fn tasks(cluster: &Cluster, node: usize) -> Vec<String> {
    let pid = cluster.daemon(node).pid().unwrap();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks.map(|task| task.file_name().into_string().unwrap()).collect()
}

/// Every thread has given up what it must: the sandbox comes before the first of them.
fn assert_given_up(cluster: &Cluster, node: usize, held: u64) {
    let tasks = tasks(cluster, node);
    assert!(tasks.len() > 8, "{tasks:?}");
    for task in tasks {
        let read = |key| status_of(cluster, node, &task, key);
        let sets = |key| u64::from_str_radix(&read(key), 16).unwrap();
        assert_eq!((sets("CapPrm"), sets("CapEff")), (held, held));
        assert_eq!((sets("CapInh"), sets("CapAmb")), (0, 0));
        assert_eq!(sets("CapBnd") & !KEPT & if held == 0 { 0 } else { u64::MAX }, 0);
        assert_eq!(read("NoNewPrivs"), "1");
        assert_eq!(read("Umask"), "0077");
    }
    let pid = cluster.daemon(node).pid().unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_ascii_whitespace().skip(4).collect();
    assert_eq!(words, ["0", "0", "bytes"]);
}

/// fault 92: a daemon of root holds nothing but the capabilities on files, in all of its threads,
/// also after it has begun anew.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_daemon_of_root_keeps_what_files_need() {
    if !is_root() {
        println!("skipped: this is not root");
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    assert_given_up(&cluster, 0, KEPT & own_capabilities());
    // A part of its log is gone: it finds its state lost and runs itself again.
    cluster.kill(2);
    let wal = cluster.daemon(2).state.join("wal");
    for segment in fs::read_dir(&wal).unwrap().flatten() {
        fs::write(segment.path(), b"no log").unwrap();
    }
    cluster.restart(2);
    cluster.await_that("node3 has begun anew", |cluster| {
        cluster.daemon(2).log_text().contains("event=readmitted")
    });
    cluster.await_members();
    cluster.await_converged();
    assert_given_up(&cluster, 2, KEPT & own_capabilities());
}

/// What this test itself may do, and hands on.
fn own_capabilities() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// A cluster of one whose daemon is started by this line of sh, which ends in `exec`ing it.
fn started_by(prefix: &[&str], line: &str) -> Cluster {
    let root = tempfile::Builder::new().prefix("pickbox-test-").tempdir().unwrap().keep();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    // A copy that everybody may run, wherever the daemon was built.
    let copy = root.join("pickboxd");
    assert!(Command::new("cp").arg(daemon_program()).arg(&copy).status().unwrap().success());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!("shift; {line} exec '{}' \"$@\"", copy.display());
    let words = prefix.iter().copied().chain(["sh", "-c", &script, "sh"]);
    let launcher = words.map(str::to_owned).collect();
    Cluster::start_in(Place { logs: root.clone(), root, launcher }, 1)
}

/// fault 90, 92: another process of the daemon's own user neither reads its memory nor its
/// environment, and it holds no capability.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_daemon_of_a_user_is_closed_to_that_user() {
    let uid = if is_root() { NOBODY } else { rustix::process::geteuid().as_raw() };
    let id = uid.to_string();
    let become_user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let cluster = started_by(if is_root() { &become_user } else { &[] }, "");
    cluster.write(0, "a", "a");
    cluster.await_converged();
    assert_given_up(&cluster, 0, 0);
    let pid = cluster.daemon(0).pid().unwrap();
    for name in ["mem", "environ", "maps"] {
        let mut head = Command::new("head");
        head.args(["-c", "1", &format!("/proc/{pid}/{name}")]);
        if is_root() {
            head.uid(uid).gid(uid);
        }
        let output = head.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("Permission denied"), "{name}: {output:?}");
    }
}

/// fault 90: a daemon that dies leaves no core file, whatever the limit was; with the sandbox off
/// it does, so that this can fail.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_daemon_that_dies_leaves_no_core_file() {
    let mut cluster = started_by(&[], "ulimit -c unlimited; cd \"${TMPDIR:-/tmp}\";");
    cluster.daemon(0).signal(Signal::ABORT);
    let status = cluster.daemon_mut(0).await_exit().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    cluster.daemon_mut(0).entry.push("--sandbox=off".to_owned());
    cluster.restart(0);
    cluster.await_that("it serves", |cluster| cluster.status(0).is_some());
    let pid = cluster.daemon(0).pid().unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert!(limits.contains("Max core file size        unlimited"), "{limits}");
}

/// `--sandbox` takes three words; what the kernel has not is told when it is required.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_sandbox_that_is_required_is_there_or_the_daemon_says_why_not() {
    let mut cluster = Cluster::start(1);
    cluster.terminate(0);
    let log = cluster.daemon(0).log_text();
    let mut command = cluster.daemon(0).command();
    command.arg("--sandbox=perhaps").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    if log.contains("missing=") {
        let mut command = cluster.daemon(0).command();
        let output = command.arg("--sandbox=require").stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains("--sandbox require is refused"), "{words}");
    } else {
        cluster.daemon_mut(0).entry.push("--sandbox=require".to_owned());
        cluster.restart(0);
        cluster.write(0, "a", "a");
        cluster.await_converged();
    }
}

/// A table of accounts with one user, put in place of the one before as useradd(8) does.
fn set_accounts(etc: &std::path::Path, user: &str, number: u32) {
    for (name, line) in [
        ("passwd", format!("root:x:0:0::/:/bin/sh\n{user}:x:{number}:{number}::/:/bin/sh\n")),
        ("group", format!("root:x:0:\n{user}:x:{number}:\n")),
    ] {
        let new = etc.join(format!("{name}+"));
        fs::write(&new, line).unwrap();
        fs::rename(&new, etc.join(name)).unwrap();
    }
}

/// Daemons of root know users that came after their start, though programs put another file in the place of
/// /etc/passwd and the sandbox holds for the one that was there: the name counts on each host.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn users_that_come_later_are_known_by_name() {
    if !is_root() {
        println!("skipped: this is not root");
        return;
    }
    let mut cluster = Cluster::start(0);
    fs::set_permissions(cluster.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let etcs: Vec<_> = (0..2).map(|node| cluster.root().join(format!("etc{node}"))).collect();
    for (node, etc) in etcs.iter().enumerate() {
        fs::create_dir(etc).unwrap();
        fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\n").unwrap();
        set_accounts(etc, "early", 1000);
        let number = cluster.prepare_node();
        assert_eq!(number, node);
        // A host with accounts of its own.
        let script = format!("mount --bind '{}' /etc && exec \"$@\"", etc.display());
        cluster.daemon_mut(node).launcher =
            ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        cluster.restart(node);
        cluster.await_that("it serves", |cluster| {
            cluster.status(node).is_some_and(|report| report.leader_id.is_some())
        });
    }
    cluster.await_members();
    set_accounts(etcs.first().unwrap(), "late", 4242);
    set_accounts(etcs.last().unwrap(), "late", 5353);
    cluster.write(0, "file", "of late");
    std::os::unix::fs::chown(cluster.path(0, "file"), Some(4242), Some(4242)).unwrap();
    cluster.await_that("it is late's there too", |cluster| {
        let there = cluster.path(1, "file").metadata();
        there.is_ok_and(|stat| (stat.uid(), stat.gid()) == (5353, 5353))
    });
    for node in 0..2 {
        let log = cluster.daemon(node).log_text();
        assert!(
            !log.contains("account_unknown") && !log.contains("accounts_of_the_start"),
            "{log}"
        );
    }
}

/// A kernel without Landlock, played by strace: the daemon says in one line what is missing and serves, or
/// refuses to start where all of it is required.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_kernel_without_landlock_is_told_of() {
    if !can_hang() {
        println!("skipped: only root may trace a daemon");
        return;
    }
    let root = tempfile::Builder::new().prefix("pickbox-test-").tempdir().unwrap().keep();
    let call = "landlock_create_ruleset";
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error=ENOSYS"));
    let launcher = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let launcher = launcher.map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_in(Place { logs: root.clone(), root, launcher }, 1);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    assert_given_up(&cluster, 0, KEPT & own_capabilities());
    let log = cluster.daemon(0).log_text();
    assert_eq!(log.matches("event=sandbox ").count(), 1, "{log}");
    assert!(log.contains("missing=\"files and ports are not restricted: no Landlock"), "{log}");
    cluster.terminate(0);
    let mut command = cluster.daemon(0).command();
    let output = command.arg("--sandbox=require").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        words.contains("--sandbox require is refused") && words.contains("Linux 6.7"),
        "{words}"
    );
}
