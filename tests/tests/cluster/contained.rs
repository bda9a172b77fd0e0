//! What comes with files and must not arrive, and what users of a host get at beside the folder:
//! nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pickbox_tests::cluster::Cluster;
use rustix::fs::{
    CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags, renameat_with,
};

use crate::files::noise;

/// Somebody with no rights (nobody, on most systems).
const NOBODY: u32 = 65534;
/// What no daemon must ever read.
const SECRET: &str = "nobody-must-read-this-canary";
/// A capability of a file, `CAP_NET_BIND_SERVICE` (capabilities(7), `struct vfs_cap_data`).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything below a directory, itself included.
fn everything(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![top.to_owned()]);
    while let Some(path) = waiting.pop() {
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(path);
    }
    found
}

fn has_attribute(path: &Path, name: &str) -> bool {
    rustix::fs::lgetxattr(path, name, &mut [0; 64][..]).is_ok()
}

/// Fault 86 (`GlusterFS` CVE-2018-10923): set-id bits, devices, pipes, sockets and attributes with rights
/// in them, all made by root on one host, do not exist on the others; nor do they come back over a
/// new version.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn nothing_with_rights_of_its_own_arrives() {
    if !is_root() {
        println!("skipped: this is not root");
        return;
    }
    let cluster = Cluster::start_default();
    let at = |path: &str| cluster.path(0, path);
    fs::create_dir(at("d")).unwrap();
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o7777)).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("d/disk", FileType::BlockDevice, rustix::fs::makedev(7, 0)),
        ("d/pipe", FileType::Fifo, 0),
    ] {
        let mode = Mode::from_raw_mode(0o666);
        if let Err(errno) = rustix::fs::mknodat(CWD, at(name), kind, mode, device) {
            println!("{name} cannot be made here: {errno}");
        }
    }
    let _socket = UnixListener::bind(at("d/socket")).unwrap();
    for (name, mode) in
        [("suid", 0o4755), ("sgid", 0o2755), ("d/sticky", 0o1777), ("d/all", 0o7777)]
    {
        cluster.write(0, name, name);
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    cluster.write(0, "capable", "one");
    for (name, value) in [("security.capability", &CAPABILITY[..]), ("trusted.canary", b"x")] {
        if let Err(errno) = rustix::fs::lsetxattr(at("capable"), name, value, XattrFlags::empty()) {
            println!("{name} cannot be set here: {errno}");
        }
    }
    cluster.write(0, "last", "last");
    cluster.await_content("last", "last");
    cluster.await_content("capable", "one");
    cluster.await_content("d/all", "d/all");
    await_quiet(&cluster);
    for node in 1..cluster.count() {
        // Now another host's version meets a file that has such a thing here.
        let here = cluster.path(node, "capable");
        let _ =
            rustix::fs::lsetxattr(here, "security.capability", &CAPABILITY, XattrFlags::empty());
    }
    cluster.write(0, "capable", "two");
    cluster.await_content("capable", "two");
    await_quiet(&cluster);
    for node in 1..cluster.count() {
        for path in everything(cluster.folder(node)) {
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let shown = path.display();
            assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{shown}: {kind:?}");
            assert!(!kind.is_char_device() && !kind.is_fifo() && !kind.is_socket(), "{shown}");
            let beyond = if kind.is_dir() { 0o4000 } else { 0o7000 };
            assert_eq!(meta.mode() & beyond, 0, "{shown}: {:o}", meta.mode());
            for attribute in ["security.capability", "trusted.canary"] {
                assert!(!has_attribute(&path, attribute), "{shown} has {attribute}");
            }
        }
    }
    assert!(at("d/pipe").symlink_metadata().unwrap().file_type().is_fifo(), "left where it is");
}

/// Waits until nothing is on its way. (The folders differ in what is not replicated.)
fn await_quiet(cluster: &Cluster) {
    cluster.await_that("nothing is pending", |cluster| {
        let reports: Option<Vec<_>> =
            (0..cluster.count()).map(|node| cluster.status(node)).collect();
        let Some(reports) = reports else { return false };
        let Some(first) = reports.first() else { return false };
        reports.iter().all(|one| {
            one.pending == 0
                && one.applied_index == first.applied_index
                && one.root_digest == first.root_digest
        })
    });
}

/// Runs a program as nobody and tells whether it got anything.
fn nobody_gets(program: &str, arguments: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).uid(NOBODY).gid(NOBODY).env_clear();
    let output = command.output().unwrap();
    output.status.success()
}

/// Fault 91 (etcd CVE-2020-15113): the state directory is the daemon's alone, with all that comes into
/// it: staged and displaced files, history, the log, the key. Whatever umask the daemon was started
/// with.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn nobody_reads_the_state_directory() {
    if !is_root() {
        println!("skipped: this is not root");
        return;
    }
    let mut cluster = Cluster::start_default();
    fs::set_permissions(cluster.root(), fs::Permissions::from_mode(0o755)).unwrap();
    cluster.terminate(1);
    let open = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
    cluster.daemon_mut(1).launcher = open.map(str::to_owned).to_vec();
    cluster.restart(1);
    cluster.await_members();
    // Something for staging, for history, and for quarantine as long as it is held open.
    cluster.write(0, "f", "one");
    cluster.write(0, "large", noise(1, 300_000));
    cluster.await_content("large", noise(1, 300_000));
    cluster.await_content("f", "one");
    let held = OpenOptions::new().append(true).open(cluster.path(1, "f")).unwrap();
    for round in 0..5 {
        cluster.write(0, "f", format!("round {round}"));
        cluster.write(0, "large", noise(round, 300_000));
        cluster.await_content("f", format!("round {round}"));
        cluster.await_content("large", noise(round, 300_000));
    }
    let state = cluster.daemon(1).state.clone();
    let (mut kinds, mut files) = (BTreeMap::<String, usize>::new(), 0);
    for path in everything(&state) {
        let meta = path.symlink_metadata().unwrap();
        let place = path.strip_prefix(&state).unwrap().iter().next().map(ToOwned::to_owned);
        let place = place.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        *kinds.entry(place.clone()).or_default() += 1;
        let mode = meta.mode() & 0o7777;
        let shown = path.display();
        if meta.is_dir() {
            assert_eq!((mode, meta.uid()), (0o700, 0), "{shown}");
        } else if place == "quarantine" {
            // The user's own inode, with its mode: it may go back. Nobody gets to it.
            assert!(meta.is_file(), "{shown}");
        } else if !meta.file_type().is_socket() {
            assert_eq!((mode, meta.uid()), (0o600, 0), "{shown}");
            files += 1;
        }
        assert!(!nobody_gets("cat", &[&path]), "{shown} was read");
        assert!(!nobody_gets("ls", &[&path]), "{shown} was seen");
    }
    assert!(files > 5 && kinds["history"] > 2, "{kinds:?}");
    assert!(kinds["quarantine"] > 1, "{kinds:?}");
    assert!(nobody_gets("cat", &[&cluster.path(1, "f")]), "the folder itself is open");
    drop(held);
    cluster.await_converged();
}

/// Stops the racer, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Swaps two names for as long as `work` takes; the first is then as it was. Returns how often.
fn racing(one: &Path, other: &Path, work: impl FnOnce()) -> u64 {
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let swap = || {
        // What it works on may be gone for a moment: the daemon is at it, too.
        let swapped = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
        swaps.fetch_add(u64::from(swapped.is_ok()), Ordering::Relaxed);
        // That one needs a core, too.
        std::thread::yield_now();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                swap();
            }
        });
        let _stop = Stop(&stop);
        work();
    });
    if one.is_symlink() && !other.is_symlink() {
        swap();
    }
    swaps.load(Ordering::Relaxed)
}

/// What a daemon could have changed of everything below a directory.
fn facts(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for path in everything(top) {
        let meta = path.symlink_metadata().unwrap();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let who = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), meta.nlink());
        found.insert(path, format!("{who:?} {times:?} {text}"));
    }
    found
}

/// Changes something in `d` of a folder, never through a link: the daemon may put one there.
fn change(folder: &Path, round: usize) {
    let name = |number: usize| format!("d/{}", number % 8);
    let top = File::open(folder).unwrap();
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let Ok(file) = rustix::fs::openat2(&top, name(round), flags, mode, resolve) else {
        let d = folder.join("d");
        if d.is_symlink() {
            let _ = fs::remove_file(&d);
        }
        let _ = fs::create_dir(&d);
        return;
    };
    let _ = File::from(file).write_all(format!("round {round}").as_bytes());
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(d) = rustix::fs::openat2(&top, "d", flags, Mode::empty(), resolve) else { return };
    let (this, next) = ((round + 3) % 8, (round + 5) % 8);
    let _ = match round % 3 {
        0 => rustix::fs::unlinkat(&d, this.to_string(), rustix::fs::AtFlags::empty()),
        1 => rustix::fs::renameat(&d, this.to_string(), &d, next.to_string()),
        _ => rustix::fs::chmodat(&d, this.to_string(), Mode::RWXU, rustix::fs::AtFlags::empty()),
    };
}

/// Fault 85 (syncthing#3801, CVE-2026-43619): a user of a host swaps a directory of the folder for a
/// link to a directory of root's, as fast as he can, while versions arrive in it and the watcher looks.
/// Nothing there changes, none of it gets into the cluster, and when he rests all goes on.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_user_who_swaps_a_directory_for_a_link_gains_nothing() {
    let cluster = Cluster::start_default();
    let outside = tempfile::Builder::new().prefix("pickbox-outside-").tempdir().unwrap();
    let outside = outside.path();
    for number in 0..8 {
        fs::write(outside.join(number.to_string()), format!("{SECRET} {number}")).unwrap();
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(outside.join(number.to_string()), private).unwrap();
    }
    let before = facts(outside);
    fs::create_dir(cluster.path(0, "d")).unwrap();
    for number in 0..8 {
        cluster.write(0, &format!("d/{number}"), "before");
    }
    cluster.await_converged();
    if is_root() {
        chown(cluster.path(1, "d"), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let aside = cluster.root().join("aside");
    fs::create_dir(&aside).unwrap();
    symlink(outside, aside.join("link")).unwrap();
    let swaps = racing(&cluster.path(1, "d"), &aside.join("link"), || {
        for round in 0..600 {
            change(cluster.folder(0), round);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    assert!(swaps > 0, "it never raced");
    cluster.write(0, "after", "after");
    cluster.await_content("after", "after");
    cluster.await_converged();
    assert_eq!(facts(outside), before, "after {swaps} swaps");
    for path in everything(cluster.root()) {
        let Ok(bytes) = fs::read(&path) else { continue };
        let found = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(path.is_symlink() || !found, "{} was read into", path.display());
    }
}
