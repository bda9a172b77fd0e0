//! What the daemon gives up once it knows its paths and ports, so that whoever takes it over gets
//! little: it sees the folder, its own state and what names of users and hosts are made of, opens
//! no other port, and is root in nothing but files.
//!
//! | what | how | source |
//! |---|---|---|
//! | privileges | all capabilities but those of [`KEPT`], for good | capabilities(7) |
//! | programs that grant some | `no_new_privs` | prctl(2) `PR_SET_NO_NEW_PRIVS` |
//! | files and ports | Landlock | landlock(7) |
//! | memory | not dumpable, no core file | prctl(2) `PR_SET_DUMPABLE`, core(5) |
//!
//! Capabilities and Landlock belong to a thread and go on to those that it starts, so [`enter`] comes
//! before the first other thread. All of it outlives the execve(2) by which a daemon begins anew, but
//! that its memory may be dumped: so it is entered again then.

mod capabilities;
mod rules;

use std::fmt;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};

pub use capabilities::KEPT;
pub(crate) use capabilities::keep_over_exec;
use rules::Pins;

/// How much of the sandbox there must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxMode {
    /// As much as the kernel has; what it lacks is told in one line.
    #[default]
    Auto,
    /// All of it, or the daemon does not start: Linux 6.7 or newer, with Landlock.
    Require,
    /// Nothing: for looking into the daemon with a debugger.
    Off,
}

impl std::str::FromStr for SandboxMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "require" => Ok(Self::Require),
            "off" => Ok(Self::Off),
            _ => Err(format!("'{}' is none of auto, require, off", text.escape_debug())),
        }
    }
}

/// What the daemon needs after its start. All paths are absolute, and are there.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The users' folder: anything but running what lies there.
    pub folder: PathBuf,
    /// The daemon's own files, likewise.
    pub state_dir: PathBuf,
    /// Other files that it writes, which are there already.
    pub written: Vec<PathBuf>,
    /// Other files that it may read later.
    pub read: Vec<PathBuf>,
    /// Directories in which it makes and removes unix sockets.
    pub sockets: Vec<PathBuf>,
    /// The TCP ports that it may listen on; it may connect to any.
    pub ports: Vec<u16>,
}

/// Why the daemon does not start: the sandbox was required.
#[derive(Debug)]
pub struct NotConfined {
    /// What is missing, a phrase each.
    pub missing: Vec<String>,
}

impl fmt::Display for NotConfined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--sandbox require is refused here: {}. All of it needs Linux 6.7 or newer with Landlock among \
             its security modules (the kernel's lsm= parameter); --sandbox auto takes what there is.",
            self.missing.join("; ")
        )
    }
}

impl std::error::Error for NotConfined {}

/// What came of it. To be kept as long as the process lives.
#[derive(Debug)]
pub struct Confined {
    /// What the kernel did not give, a phrase each.
    pub missing: Vec<String>,
    /// Names in /proc that the rules stand on.
    _pins: Option<Pins>,
}

/// Gives up everything that `policy` does not name. Files that are open stay so.
///
/// # Errors
/// When all of it was required, and the kernel does not give it.
pub fn enter(policy: &Policy, mode: SandboxMode) -> Result<Confined, NotConfined> {
    // Our own files name their modes; this is for those that a library makes.
    umask(Mode::RWXG | Mode::RWXO);
    if mode == SandboxMode::Off {
        log::warn!("event=sandbox_off");
        return Ok(Confined { missing: Vec::new(), _pins: None });
    }
    let mut missing = Vec::new();
    let mut lacks = |what: &str, why: &dyn fmt::Display| missing.push(format!("{what}: {why}"));
    if let Err(errno) = rustix::thread::set_no_new_privs(true) {
        lacks("programs may grant privileges", &errno);
    }
    if let Err(why) = capabilities::give_up() {
        lacks("capabilities are kept", &why);
    }
    if let Err(errno) = without_dumps() {
        lacks("memory may be dumped", &errno);
    }
    let rules = rules::restrict(policy);
    missing.extend(rules.gaps);
    if mode == SandboxMode::Require && !missing.is_empty() {
        return Err(NotConfined { missing });
    }
    let capabilities = capabilities::held();
    if missing.is_empty() {
        log::info!("event=sandbox capabilities={capabilities:x}");
    } else {
        let missing = missing.join("; ");
        log::warn!("event=sandbox capabilities={capabilities:x} missing=\"{missing}\"");
    }
    Ok(Confined { missing, _pins: Some(rules.pins) })
}

/// Neither a crash nor a debugger of the same user takes keys out of the memory.
fn without_dumps() -> rustix::io::Result<()> {
    // The limit alone would not do: it does not hold where a program receives the dumps (core(5)).
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_words() {
        assert_eq!("auto".parse(), Ok(SandboxMode::Auto));
        assert_eq!("require".parse(), Ok(SandboxMode::Require));
        assert_eq!("off".parse(), Ok(SandboxMode::Off));
        assert!("on".parse::<SandboxMode>().unwrap_err().contains("require"));
    }

    #[test]
    fn a_refusal_says_what_is_missing_and_what_to_do() {
        let text = NotConfined { missing: vec!["a: b".into(), "c: d".into()] }.to_string();
        assert!(text.contains("a: b; c: d") && text.contains("--sandbox auto"), "{text}");
    }
}
