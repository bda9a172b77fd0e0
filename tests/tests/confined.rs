//! A daemon that was taken over, in its sandbox (fault 92): a small program enters it as the daemon
//! does and tries to get out (`tests/src/bin/confined.rs`), as root and as somebody else.
//!
//! What Landlock refuses is looked at only where the kernel has it; otherwise the test says so.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use pickbox_tests::cluster::free_pair;

/// Somebody with no rights (nobody, on most systems).
const NOBODY: u32 = 65534;
/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_FSETID`, `CAP_LEASE` (`linux/capability.h`).
const KEPT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 28;

/// What the daemon does all day.
const ALLOWED: [&str; 12] = [
    "write-folder",
    "make-dir",
    "make-link",
    "into-state",
    "into-folder",
    "list-folder",
    "write-trace",
    "read-passwd",
    "read-own-status",
    "read-boot-id",
    "read-socket-table",
    "ask-who-connects",
];
/// What Landlock refuses, whoever asks and whatever the modes say.
const REFUSED_BY_RULES: [&str; 15] = [
    "read-shadow",
    "read-through-link",
    "read-outside",
    "list-outside",
    "write-outside",
    "empty-outside",
    "make-outside",
    "remove-outside",
    "take-from-outside",
    "link-from-outside",
    "give-to-outside",
    "make-in-sockets",
    "run-shell",
    "run-from-folder",
    "memory-of-parent",
];
/// What no capability is left for.
const REFUSED_BY_PRIVILEGES: [&str; 4] =
    ["gain-sys-admin", "gain-setuid", "gain-read-search", "make-device"];

/// What the program printed: attempts with their outcome, and `who` it was in the end.
struct Told {
    lines: BTreeMap<String, String>,
    missing: Vec<String>,
}

impl Told {
    fn assert_ok(&self, name: &str) {
        assert_eq!(self.lines[name], "ok", "{name}");
    }

    fn assert_refused(&self, name: &str) {
        assert!(self.lines[name].starts_with("refused"), "{name}: {}", self.lines[name]);
    }

    fn lacks(&self, words: &str) -> bool {
        self.missing.iter().any(|missing| missing.contains(words))
    }
}

/// Modes and owners keep nobody out of this directory: only the sandbox does.
fn prepare(directory: &Path) {
    let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    open(directory, 0o777);
    for name in ["folder", "state", "outside", "sockets"] {
        fs::create_dir(directory.join(name)).unwrap();
        open(&directory.join(name), 0o777);
    }
    for name in ["trace", "outside/secret"] {
        fs::write(directory.join(name), "secret").unwrap();
        open(&directory.join(name), 0o666);
    }
    for name in ["confined", "folder/program"] {
        // By another process: a program that this one writes could be open in a child of another
        // test when it is to be run (ETXTBSY).
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_confined")).arg(directory.join(name));
        assert!(copy.status().unwrap().success());
        open(&directory.join(name), 0o755);
    }
}

fn run(uid: u32, mode: &str) -> Told {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path();
    prepare(directory);
    let program = directory.join("confined");
    let (port, other) = free_pair();
    let mut command = Command::new(&program);
    command.arg(directory).args([mode, &port.to_string(), &other.to_string()]);
    if rustix::process::geteuid().as_raw() != uid {
        command.uid(uid).gid(uid);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut told = Told { lines: BTreeMap::new(), missing: Vec::new() };
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {:?}", told.lines);
        match line.trim_end().split_once(' ') {
            None => break,
            Some(("missing", what)) => told.missing.push(what.to_owned()),
            Some((name, outcome)) => drop(told.lines.insert(name.to_owned(), outcome.to_owned())),
        }
    }
    // From now on its file is set-user-ID root: what does that give it?
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    told.lines.insert("who".to_owned(), rest.trim().to_owned());
    told
}

fn assert_confined(told: &Told, uid: u32) {
    for name in ALLOWED {
        told.assert_ok(name);
    }
    told.assert_ok("own-port");
    for name in REFUSED_BY_PRIVILEGES {
        told.assert_refused(name);
    }
    assert_eq!(
        told.lines["who"],
        format!("who uid={uid} capabilities=0"),
        "execve(2) gives nothing"
    );
    assert_eq!(told.lines["no-new-privs"], "true");
    assert_eq!(told.lines["dumpable"], "false");
    assert_eq!(told.lines["core-limit"], "Some(0) Some(0)");
    if told.lacks("not restricted") {
        println!("skipped: no landlock in this kernel: {:?}", told.missing);
        return;
    }
    for name in REFUSED_BY_RULES {
        told.assert_refused(name);
    }
    told.assert_refused("read-environment-of-parent");
    if told.lacks("ports") {
        println!("skipped: no landlock for ports in this kernel");
    } else {
        told.assert_refused("other-port");
        told.assert_refused("any-port");
    }
}

/// Source: fault 92: root has nothing but files, and of these its own.
#[test]
fn root_that_was_taken_over_gets_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: this is not root");
        return;
    }
    let told = run(0, "auto");
    assert_confined(&told, 0);
    let held = u64::from_str_radix(&told.lines["capabilities"], 16).unwrap();
    assert_eq!(held & !KEPT, 0, "{held:x}");
}

/// Source: fault 92, for a daemon that is not root. Programs that are set-user-ID give it nothing.
#[test]
fn a_user_that_was_taken_over_gets_nothing() {
    let own = rustix::process::geteuid();
    let uid = if own.is_root() { NOBODY } else { own.as_raw() };
    let told = run(uid, "auto");
    assert_confined(&told, uid);
    assert_eq!(told.lines["capabilities"], "0");
}

/// A test that cannot fail is a defect: without the sandbox the same attempts succeed.
#[test]
fn without_the_sandbox_the_attempts_succeed() {
    let own = rustix::process::geteuid();
    let told = run(own.as_raw(), "off");
    for name in ["read-outside", "write-outside", "make-outside", "run-shell", "other-port"] {
        told.assert_ok(name);
    }
    assert_eq!(told.lines["no-new-privs"], "false");
    assert_eq!(told.lines["dumpable"], "true");
    if own.is_root() {
        told.assert_ok("read-shadow");
        assert_ne!(told.lines["who"], "who uid=0 capabilities=0");
        assert!(
            run(NOBODY, "off").lines["who"].starts_with("who uid=0 "),
            "it is set-user-ID root"
        );
    }
}

/// Source: `--sandbox require`: a kernel with everything is taken, one without is refused.
#[test]
fn what_is_required_is_there_or_the_program_ends() {
    let own = rustix::process::geteuid().as_raw();
    let auto = run(own, "auto");
    let place = tempfile::tempdir().unwrap();
    prepare(place.path());
    let (port, other) = free_pair();
    let mut command = Command::new(place.path().join("confined"));
    command.arg(place.path()).args(["require", &port.to_string(), &other.to_string()]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), auto.missing.is_empty(), "{:?} {error}", auto.missing);
    for missing in &auto.missing {
        assert!(error.contains(missing), "{missing}: {error}");
    }
}
