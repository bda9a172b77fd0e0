//! Enters the daemon's sandbox and tries what a daemon that was taken over would try: for
//! `tests/confined.rs`.
//!
//! `confined DIRECTORY MODE PORT OTHER_PORT`: the sandbox is for `DIRECTORY/folder`, `DIRECTORY/state` and
//! `PORT`. Prints `NAME ok` or `NAME REASON` for each attempt, waits for a line, and runs itself as
//! `confined who`, which prints what it may do then.
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use pickbox_cli::sandbox::{self, Policy};
use pickbox_raft::credentials::{is_self_or_root, peer_of};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getppid, getrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["who"] => who(),
        [directory, mode, port, other] => {
            let directory = Path::new(directory);
            confine(directory, mode, port.parse()?)?;
            attempt_files(directory);
            attempt_ports(port.parse()?, other.parse()?);
            attempt_processes(directory);
            attempt_privileges(directory);
            println!("done");
            io::stdin().read_line(&mut String::new())?;
            Err(Command::new("/proc/self/exe").arg("who").exec().into())
        }
        _ => Err("usage: confined DIRECTORY MODE PORT OTHER_PORT, or: confined who".into()),
    }
}

fn who() -> Result<()> {
    let held = capabilities(None)?.permitted.bits();
    println!("who uid={} capabilities={held:x}", rustix::process::geteuid().as_raw());
    Ok(())
}

fn confine(directory: &Path, mode: &str, port: u16) -> Result<()> {
    let policy = Policy {
        folder: directory.join("folder"),
        state_dir: directory.join("state"),
        written: vec![directory.join("trace")],
        read: Vec::new(),
        sockets: vec![directory.join("sockets")],
        ports: vec![port],
    };
    let confined = sandbox::enter(&policy, mode.parse()?)?;
    for missing in &confined.missing {
        println!("missing {missing}");
    }
    // As long as the process lives.
    std::mem::forget(confined);
    Ok(())
}

fn tell<T, E: std::fmt::Display>(name: &str, outcome: std::result::Result<T, E>) {
    match outcome {
        Ok(_) => println!("{name} ok"),
        Err(error) => println!("{name} refused: {error}"),
    }
}

fn attempt_files(directory: &Path) {
    let (folder, state) = (directory.join("folder"), directory.join("state"));
    let outside = directory.join("outside");
    let secret = outside.join("secret");
    tell("write-folder", fs::write(folder.join("file"), "x"));
    tell("make-dir", fs::create_dir(folder.join("dir")));
    tell("make-link", symlink("/etc", folder.join("link")));
    tell("into-state", fs::rename(folder.join("file"), state.join("file")));
    tell("into-folder", fs::rename(state.join("file"), folder.join("dir/file")));
    tell("list-folder", fs::read_dir(&folder));
    tell("write-trace", fs::write(directory.join("trace"), "x"));
    tell("read-passwd", fs::read("/etc/passwd"));
    tell("read-own-status", fs::read("/proc/self/status"));
    tell("read-boot-id", fs::read("/proc/sys/kernel/random/boot_id"));
    tell("read-socket-table", fs::read("/proc/net/tcp"));

    tell("read-shadow", fs::read("/etc/shadow"));
    tell("read-through-link", fs::read(folder.join("link/shadow")));
    tell("read-outside", fs::read(&secret));
    tell("list-outside", fs::read_dir(&outside));
    tell("write-outside", File::options().write(true).open(&secret));
    tell("empty-outside", File::create(&secret));
    tell("make-outside", fs::write(outside.join("new"), "x"));
    tell("remove-outside", fs::remove_file(&secret));
    tell("take-from-outside", fs::rename(&secret, folder.join("taken")));
    tell("link-from-outside", fs::hard_link(&secret, folder.join("linked")));
    tell("give-to-outside", fs::rename(folder.join("dir/file"), outside.join("given")));
    tell("make-in-sockets", fs::write(directory.join("sockets/file"), "x"));
}

fn attempt_ports(port: u16, other: u16) {
    tell("own-port", TcpListener::bind(("127.0.0.1", port)));
    tell("ask-who-connects", who_connects(port));
    tell("other-port", TcpListener::bind(("127.0.0.1", other)));
    tell("any-port", TcpListener::bind(("127.0.0.1", 0)));
}

/// The user at the other end of a connection of our own.
fn who_connects(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let _client = TcpStream::connect(listener.local_addr()?)?;
    match peer_of(listener.accept()?.0)? {
        Some(uid) if is_self_or_root(uid) => Ok(()),
        other => Err(format!("it is {other:?}").into()),
    }
}

fn attempt_processes(directory: &Path) {
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    tell("run-shell", Command::new("/bin/sh").arg("-c").arg(":").status());
    tell("run-from-folder", Command::new(directory.join("folder/program")).arg("who").status());
    tell("read-environment-of-parent", fs::read(format!("/proc/{parent}/environ")));
    tell("memory-of-parent", File::options().write(true).open(format!("/proc/{parent}/mem")));
    let signal =
        getppid().ok_or(rustix::io::Errno::SRCH).and_then(rustix::process::test_kill_process);
    tell("signal-parent", signal);
    let is_dumpable = dumpable_behavior() != Ok(DumpableBehavior::NotDumpable);
    println!("dumpable {is_dumpable}");
    let limit = getrlimit(Resource::Core);
    println!("core-limit {:?} {:?}", limit.current, limit.maximum);
}

fn attempt_privileges(directory: &Path) {
    let more = |extra: CapabilitySet| {
        let mut sets = capabilities(None)?;
        sets.permitted |= extra;
        sets.effective |= extra;
        set_capabilities(None, sets)
    };
    tell("gain-sys-admin", more(CapabilitySet::SYS_ADMIN));
    tell("gain-setuid", more(CapabilitySet::SETUID));
    tell("gain-read-search", more(CapabilitySet::DAC_READ_SEARCH));
    let privileges = rustix::thread::no_new_privs();
    println!("no-new-privs {}", privileges == Ok(true));
    let device = rustix::fs::mknodat(
        rustix::fs::CWD,
        directory.join("folder/device"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RUSR,
        rustix::fs::makedev(1, 1),
    );
    tell("make-device", device);
    let held = capabilities(None).map_or(0, |sets| sets.permitted.bits());
    println!("capabilities {held:x}");
}
