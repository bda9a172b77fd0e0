//! What kinds of things there are, by which names, and what stands in their way.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;

use super::fleet::{Fleet, rel, share};
use crate::observation::{Hint, Observation, Place, Seen, Sighting};

/// Everything below a directory, as bytes.
fn paths(top: &Path) -> BTreeSet<Vec<u8>> {
    let (mut found, mut waiting) = (BTreeSet::new(), vec![top.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
            if path.is_dir() && !path.is_symlink() {
                waiting.push(path);
            }
            found.insert(below);
        }
    }
    found
}

impl Fleet {
    /// What STATUS says of what waits or is left out.
    fn told(&mut self, at: usize) -> String {
        self.hosts[at].engine().store_status().unwrap().waiting.join("\n")
    }
}

/// Names that Linux takes and that something could stumble over.
fn a_name() -> impl Strategy<Value = Vec<u8>> {
    let sound = |name: &Vec<u8>| !matches!(name.as_slice(), b"." | b".." | b"");
    let any_byte = prop::collection::vec(
        any::<u8>().prop_filter("no slash, no zero", |byte| !matches!(byte, 0 | b'/')),
        1..24,
    );
    let odd: &[&[u8]] = &[
        b"...",
        b"..a",
        b" ",
        b"-rf",
        b"a\nb",
        b"\r",
        b"\\",
        b"caf\xe9",
        b"\xff\xfe",
        b"README",
        b"readme",
        b"Readme",
        b"*",
        b"~",
        b"%s",
        b"\xc3\xa9",
        b"e\xcc\x81",
        b"CON",
        b".git.",
        b"x.conflict-node9-1",
    ];
    prop_oneof![
        3 => any_byte,
        3 => prop::sample::select(odd).prop_map(<[u8]>::to_vec),
        1 => (any::<u8>(), 250..=255_usize).prop_map(|(byte, length)| {
            let byte = if matches!(byte, 0 | b'/' | b'.') { b'x' } else { byte };
            vec![byte; length]
        }),
    ]
    .prop_filter("a name", sound)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(12),
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    })]

    /// Trap T15, fault 48: names and links are bytes, from disk to disk; twins that differ in case
    /// or in their Unicode form are two things.
    #[test]
    fn names_go_round_byte_by_byte(
        tops in prop::collection::btree_set(a_name(), 1..8),
        below in prop::collection::btree_set(a_name(), 1..8),
        renamed in a_name(),
    ) {
        let mut fleet = Fleet::new(2);
        let home = fleet.hosts[0].path("");
        for (number, name) in tops.iter().enumerate() {
            let path = home.join(OsStr::from_bytes(name));
            match number % 3 {
                0 => fs::write(&path, name).unwrap(),
                1 => symlink(OsStr::from_bytes(name), &path).unwrap(),
                _ => {
                    fs::create_dir(&path).unwrap();
                    for name in &below {
                        fs::write(path.join(OsStr::from_bytes(name)), name).unwrap();
                    }
                }
            }
        }
        fleet.look(0);
        fleet.settle();
        let there = fleet.hosts[1].path("");
        prop_assert_eq!(paths(&home), paths(&there));
        let first = tops.iter().next().unwrap();
        let read = |top: &Path| fs::read(top.join(OsStr::from_bytes(first))).unwrap();
        prop_assert_eq!(read(&there), first.clone());
        for name in tops.iter().skip(1).step_by(3) {
            let link = fs::read_link(there.join(OsStr::from_bytes(name))).unwrap();
            prop_assert_eq!(link.into_os_string().into_vec(), name.clone());
        }
        if !tops.contains(&renamed) {
            let from = there.join(OsStr::from_bytes(first));
            fs::rename(from, there.join(OsStr::from_bytes(&renamed))).unwrap();
            fleet.look(1);
            fleet.settle();
            prop_assert_eq!(paths(&home), paths(&there));
        }
        fleet.converge();
        fleet.assert_same();
    }
}

/// Makes one of the kinds at a path.
fn make(path: &Path, kind: usize) {
    match kind {
        0 => fs::write(path, "a file").unwrap(),
        1 => symlink("elsewhere", path).unwrap(),
        2 => fs::create_dir(path).unwrap(),
        _ => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("in it"), "below").unwrap();
        }
    }
}

fn unmake(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// Trap T13, fault 45: file, link, empty directory and full one each become each other, on a host
/// that was up and on one that was down.
#[test]
fn each_kind_becomes_each_other() {
    for before in 0..4 {
        for after in (0..4).filter(|after| *after != before) {
            for down in [false, true] {
                let mut fleet = Fleet::new(2);
                make(&fleet.hosts[0].path("x"), before);
                fleet.look(0);
                fleet.settle();
                if down {
                    fleet.kill(1);
                }
                unmake(&fleet.hosts[0].path("x"));
                make(&fleet.hosts[0].path("x"), after);
                fleet.look(0);
                if down {
                    fleet.settle_others(1);
                    fleet.start(1);
                }
                fleet.settle();
                fleet.converge();
                fleet.assert_same();
                let shown = paths(&fleet.hosts[1].path(""));
                assert_eq!(shown.len(), if after == 3 { 2 } else { 1 }, "{before} {after}");
            }
        }
    }
}

/// Fault 45: what cannot be done leaves the old one whole: a directory that holds what the log does
/// not know does not give way to a file.
#[test]
fn a_kind_that_cannot_change_yet_stays_as_it_was() {
    let mut fleet = Fleet::new(2);
    make(&fleet.hosts[0].path("x"), 3);
    fleet.look(0);
    fleet.settle();
    let socket = fleet.hosts[1].path("x/socket");
    let listener = UnixListener::bind(&socket).unwrap();
    unmake(&fleet.hosts[0].path("x"));
    make(&fleet.hosts[0].path("x"), 0);
    fleet.look(0);
    share(&mut fleet, 0, "another", "goes on");
    assert!(socket.exists(), "nobody touches it");
    assert_eq!(fleet.hosts[1].read("another"), "goes on");
    let told = fleet.told(1);
    assert!(told.contains("x/socket"), "{told}");
    drop(listener);
    fs::remove_file(&socket).unwrap();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("x"), "a file");
}

/// Fault 49: pipes, sockets and what may not be read are named in STATUS with the reason, never made
/// elsewhere, and the rest goes on; named no more when they are gone.
#[test]
fn what_is_not_replicated_is_named() {
    let mut fleet = Fleet::new(2);
    let pipe = fleet.hosts[0].path("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket = fleet.hosts[0].path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    share(&mut fleet, 0, "f", "goes on");
    let (place, path, hint) = (Place::Folder, rel("secret"), Hint::SCANNED);
    let seen = Seen::Unreadable(Errno::ACCESS);
    fleet.sight(0, Sighting::Saw(Observation { place, path, seen, hint }));
    fleet.settle();
    assert_eq!(fleet.hosts[1].tree().into_keys().collect::<Vec<_>>(), ["f"]);
    assert_eq!(fleet.hosts[0].engine().store_status().unwrap().left_out, 3);
    let told = fleet.told(0);
    for (name, why) in [("pipe", "no file"), ("socket", "no file"), ("secret", "denied")] {
        let line = told.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains(why)), "{told}");
    }
    fs::remove_file(&pipe).unwrap();
    fs::remove_file(&socket).unwrap();
    for name in ["pipe", "socket", "secret"] {
        let look = fleet.see(0, &rel(name)).unwrap();
        fleet.tell(0, look);
    }
    fleet.settle();
    assert_eq!(fleet.hosts[0].engine().store_status().unwrap().left_out, 0);
    fleet.assert_same();
}

fn chattr(flag: &str, path: &Path) -> bool {
    let done = Command::new("chattr").arg(flag).arg(path).status();
    done.is_ok_and(|status| status.success())
}

/// Takes the flag away also when a test fails: nothing could be removed otherwise.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn make(path: std::path::PathBuf) -> Option<Self> {
        chattr("+i", &path).then_some(Self(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

/// Fault 50 and trap T29: an immutable file, and what lies in an immutable directory, is blocked by name and
/// reason; what the log says is applied there like everywhere, the rest goes on, and it clears by
/// itself.
#[test]
fn what_may_not_be_changed_is_named_and_the_rest_goes_on() {
    let mut fleet = Fleet::new(2);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    for path in ["f", "mode", "gone", "d/in"] {
        share(&mut fleet, 0, path, "one");
    }
    let paths = ["f", "mode", "gone", "d"].map(|path| fleet.hosts[1].path(path));
    let flags: Option<Vec<Immutable>> = paths.into_iter().map(Immutable::make).collect();
    let Some(flags) = flags else {
        println!("immutable files need root, chattr and a file system that has them");
        return;
    };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(fleet.hosts[0].path("mode"), mode).unwrap();
    fs::remove_file(fleet.hosts[0].path("gone")).unwrap();
    fleet.hosts[0].write("d/new", "new");
    fleet.hosts[0].write("f", "two");
    fleet.look(0);
    fleet.settle();
    share(&mut fleet, 0, "another", "goes on");
    assert_eq!(fleet.hosts[1].read("another"), "goes on");
    assert_eq!(fleet.hosts[1].read("f"), "one");
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!(status.blocked, 4, "{:?}", status.waiting);
    let elsewhere = fleet.hosts[0].engine().store_status().unwrap();
    assert_eq!((status.digest, status.applied), (elsewhere.digest, elsewhere.applied));
    let told = fleet.told(1);
    for path in ["f", "mode", "gone", "d/new"] {
        let line = told.lines().find(|line| line.starts_with(path));
        assert!(line.is_some_and(|line| line.contains("immutable")), "{path}: {told}");
    }
    drop(flags);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("f"), "two");
}
