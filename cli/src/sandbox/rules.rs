//! Which files and ports are left: Landlock (landlock(7)).
//!
//! A rule holds for an inode and all that is beneath it, not for a name: what is moved into the
//! folder is covered, a file that was replaced by another one of its name is not. That matters for the files
//! of /etc, which programs replace by renaming: see [`ACCOUNTS`].

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
    make_bitflags,
};

use super::Policy;

/// The newest rights that were tried with the daemon: Linux 6.10 for files, 6.7 for ports, 6.12 for
/// the rest.
const FILES: ABI = ABI::V5;
const SCOPES: ABI = ABI::V6;

/// Reading files and directories.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// Running a program, for execve(2) looks at it too.
const RUN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | Execute});
/// Writing a file that is there.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate});
/// Everything but running programs and talking to devices. To *make* a device would need `CAP_MKNOD`;
/// the right to is that to move one aside that a user has put into the folder. Folder and state
/// directory have equal rights, since a file may not gain any by being renamed (`Refer`).
const OWN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | RemoveDir | RemoveFile | MakeChar | MakeDir
        | MakeReg | MakeSock | MakeFifo | MakeBlock | MakeSym | Refer
});
/// Making and removing a socket, for the directory that it is to be in.
const SOCKETS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeSock | RemoveFile});

/// The dynamic loaders that a program's file may name: the daemon runs itself when it begins anew.
const LOADERS: [&str; 5] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-riscv64-lp64d.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];
/// Where shared libraries are, those of the name service (nss(5)) among them.
const LIBRARIES: [&str; 8] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
];
/// What names of users, groups and hosts are looked up in. Root, whom no mode keeps from /etc/shadow, gets
/// these files and no others; who replaces one by renaming has to restart the daemon.
const ACCOUNTS: [&str; 7] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/resolv.conf",
];
/// For everybody else: that directory. What must not be read is protected by its mode.
const ACCOUNTS_OF_OTHERS: &str = "/etc";
/// What the services behind nsswitch.conf keep, and where resolv.conf leads.
const SERVICES: [&str; 6] = [
    "/run/systemd/userdb",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/var/lib/sss",
    "/dev/urandom",
];
/// Itself, limits of inotify, the number of this boot.
const PROC: [&str; 2] = ["/proc/self", "/proc/sys"];

/// What became of the rules.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// What is not enforced, a phrase each.
    pub(super) gaps: Vec<String>,
    /// Kept as long as the rules are to hold.
    pub(super) pins: Pins,
}

/// Descriptors that keep names of /proc in memory. The kernel makes an inode there anew once nobody has
/// used it for a while, and a rule would hold for the former one.
#[derive(Debug, Default)]
pub(super) struct Pins(#[expect(dead_code, reason = "held, not read")] Vec<PathFd>);

/// Leaves this thread what `policy` names, as far as the kernel can.
pub(super) fn restrict(policy: &Policy) -> Rules {
    let mut gaps = Vec::new();
    if strict().handle_access(AccessFs::Refer).is_err() {
        // Without that right nothing can be renamed from one directory to another.
        gaps.push("files and ports are not restricted: no Landlock of Linux 5.19 or newer".into());
        return Rules { gaps, ..Rules::default() };
    }
    if strict().handle_access(AccessFs::Truncate).is_err() {
        gaps.push("files elsewhere may be emptied: no Landlock of Linux 6.2 or newer".into());
    }
    if strict().handle_access(AccessNet::BindTcp).is_err() {
        gaps.push("other ports may be opened: no Landlock of Linux 6.7 or newer".into());
    }
    match enforce(policy) {
        Ok(pins) => Rules { gaps, pins },
        Err(error) => {
            gaps.push(format!("files and ports are not restricted: {error}"));
            Rules { gaps, ..Rules::default() }
        }
    }
}

/// Rules that are refused when the kernel does not know what they speak of.
fn strict() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

fn enforce(policy: &Policy) -> Result<Pins, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(FILES))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(SCOPES))?
        .create()?;
    let mut pins = Vec::new();
    let mut ruleset = ports(ruleset, &policy.ports)?;
    for (path, rights) in paths(policy) {
        // What is not there is not needed: each of these lists is for several systems.
        let Ok(fd) = PathFd::new(path) else { continue };
        ruleset = ruleset.add_rule(PathBeneath::new(&fd, rights))?;
        if path.starts_with("/proc") {
            pins.push(fd);
        }
    }
    ruleset.restrict_self()?;
    Ok(Pins(pins))
}

fn ports(mut ruleset: RulesetCreated, ports: &[u16]) -> Result<RulesetCreated, RulesetError> {
    for port in ports {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    Ok(ruleset)
}

/// All paths with what may be done there.
fn paths(policy: &Policy) -> Vec<(&Path, BitFlags<AccessFs>)> {
    let mut all: Vec<(&Path, _)> = vec![(&policy.folder, OWN), (&policy.state_dir, OWN)];
    let mut add = |paths: &[&'static str], rights| {
        all.extend(paths.iter().map(|path| (Path::new(*path), rights)));
    };
    add(&["/proc/self/exe"], RUN);
    add(&LOADERS, RUN);
    add(&LIBRARIES, READ);
    add(&ACCOUNTS, READ);
    if !rustix::process::geteuid().is_root() {
        add(&[ACCOUNTS_OF_OTHERS], READ);
    }
    add(&SERVICES, READ);
    add(&PROC, READ);
    add(&["/dev/null"], WRITE);
    all.extend(policy.written.iter().map(|path| (path.as_path(), WRITE)));
    all.extend(policy.read.iter().map(|path| (path.as_path(), AccessFs::ReadFile.into())));
    all.extend(policy.sockets.iter().map(|path| (path.as_path(), SOCKETS)));
    all
}
