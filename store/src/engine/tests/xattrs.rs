//! What users attach to their files goes where the files go. These need a file system with
//! attributes of users, as nearly all have.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

use super::fleet::{Fleet, rel, share};
use crate::engine::ports::{Answer, Query};

impl Fleet {
    fn attach(&mut self, at: usize, path: &str, name: &str, value: &[u8]) {
        let name = format!("user.{name}");
        setxattr(self.hosts[at].path(path), name, value, XattrFlags::empty()).unwrap();
        self.look(at);
        self.settle();
    }

    /// All attributes of users, by name without its prefix.
    fn attached(&self, at: usize, path: &str) -> BTreeMap<String, Vec<u8>> {
        let path = self.hosts[at].path(path);
        let mut names = vec![0; 4096];
        let count = listxattr(&path, &mut names[..]).unwrap();
        let text = String::from_utf8(names[..count].to_vec()).unwrap();
        let read = |name: &str| {
            let mut value = vec![0; 65536];
            let count = getxattr(&path, format!("user.{name}"), &mut value[..]).unwrap();
            value[..count].to_vec()
        };
        let names = text.split('\0').filter_map(|name| name.strip_prefix("user."));
        names.map(|name| (name.to_owned(), read(name))).collect()
    }

    fn assert_attached(&self, path: &str, expected: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        let expected: BTreeMap<_, _> = expected.iter().map(pair).collect();
        for at in 0..self.hosts.len() {
            assert_eq!(self.attached(at, path), expected, "node{}", at + 1);
        }
    }

    /// Nothing is left to say, however often everybody looks.
    fn assert_silent(&mut self) {
        self.converge();
        self.assert_same();
        let before = self.log_len();
        self.converge();
        assert_eq!(self.log_len(), before, "somebody goes on proposing");
    }
}

/// Traps T14, T10: what was attached a moment before the log renames a thing is told by a look that
/// comes too late, and by a change time that the rename moves as well.
#[test]
fn what_is_attached_to_a_thing_that_the_log_renames_is_not_overlooked() {
    let mut fleet = Fleet::new(2);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "f", "one");
    for (old, new) in [("f", "g"), ("d", "e")] {
        fs::rename(fleet.hosts[1].path(old), fleet.hosts[1].path(new)).unwrap();
    }
    fleet.look(1);
    for path in ["f", "d"] {
        setxattr(fleet.hosts[0].path(path), "user.note", b"mine", XattrFlags::empty()).unwrap();
    }
    fleet.settle();
    fleet.look(0);
    fleet.settle();
    fleet.assert_attached("g", &[("note", "mine")]);
    fleet.assert_attached("e", &[("note", "mine")]);
    fleet.assert_silent();
}

/// Trap T14, fault 49: attributes of users of files and directories are replicated, changed, taken
/// away, and outlive an edit of the content on another node and a program's write.
#[test]
fn attributes_of_users_go_along() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    fleet.attach(0, "f", "note", b"mine");
    fleet.attach(1, "f", "binary", b"\0\xff");
    fleet.attach(2, "d", "of a directory", b"");
    fleet.assert_attached("d", &[("of a directory", "")]);
    assert_eq!(fleet.attached(2, "f").len(), 2);
    fleet.attach(1, "f", "binary", b"text");
    fleet.assert_attached("f", &[("note", "mine"), ("binary", "text")]);
    share(&mut fleet, 2, "f", "two, in place");
    fleet.assert_attached("f", &[("note", "mine"), ("binary", "text")]);
    let put = Query::Put { path: rel("f"), data: b"by a program".to_vec() };
    assert!(matches!(fleet.ask(0, put), Answer::Committed(_)));
    fleet.assert_attached("f", &[("note", "mine"), ("binary", "text")]);
    removexattr(fleet.hosts[0].path("f"), "user.note").unwrap();
    fleet.look(0);
    fleet.settle();
    fleet.assert_attached("f", &[("binary", "text")]);
    let large = "large ".repeat(20_000);
    share(&mut fleet, 1, "f", &large);
    fleet.assert_attached("f", &[("binary", "text")]);
    // A save by rename is another file, and has what that has.
    fs::write(fleet.hosts[1].path("new"), "three").unwrap();
    setxattr(fleet.hosts[1].path("new"), "user.fresh", b"1", XattrFlags::empty()).unwrap();
    fs::rename(fleet.hosts[1].path("new"), fleet.hosts[1].path("f")).unwrap();
    fleet.look(1);
    fleet.settle();
    fleet.assert_attached("f", &[("fresh", "1")]);
    fleet.assert_silent();
}

/// Trap T14: attributes are no content: the last in the log wins, different ones are put together,
/// and nobody gets a conflict copy.
#[test]
fn attributes_that_two_hosts_change_are_no_conflict() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.attach(0, "f", "both", b"0");
    for (at, name) in [(0, "left"), (1, "right")] {
        let path = fleet.hosts[at].path("f");
        setxattr(&path, format!("user.{name}"), b"x", XattrFlags::empty()).unwrap();
        setxattr(&path, "user.both", name.as_bytes(), XattrFlags::empty()).unwrap();
    }
    fleet.hosts[2].write("f", "edited meanwhile");
    for at in 0..3 {
        fleet.look(at);
    }
    fleet.settle();
    fleet.assert_silent();
    assert_eq!(fleet.hosts[0].tree().len(), 1);
    assert_eq!(fleet.hosts[1].read("f"), "edited meanwhile");
    let there = fleet.attached(0, "f");
    assert!((1..3).all(|at| fleet.attached(at, "f") == there), "{there:?}");
    let both = String::from_utf8(there["both"].clone()).unwrap();
    assert!(both == "left" || both == "right", "{both}");
}

/// Promise P8: what is too much stays where it is, also when a new version arrives; the mark is
/// each node's own.
#[test]
fn attributes_that_are_too_long_stay_on_their_host() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    let path = fleet.hosts[0].path("f");
    let set = |name: &str, value: &[u8]| setxattr(&path, name, value, XattrFlags::empty());
    if set("user.long", &vec![b'x'; 5000]).is_err() {
        println!("this file system holds less than the log does");
        return;
    }
    set("user.pickbox", b"not the folder's").unwrap();
    fleet.attach(0, "f", "short", b"1");
    assert_eq!(fleet.attached(1, "f").into_keys().collect::<Vec<_>>(), ["short"]);
    share(&mut fleet, 1, "f", "two");
    let left = fleet.attached(0, "f");
    assert_eq!(left.keys().map(String::as_str).collect::<Vec<_>>(), ["long", "pickbox", "short"]);
    fleet.assert_silent();
}

/// A directory without attributes, mounted over the home of a host.
struct Bare(std::path::PathBuf);

impl Bare {
    fn over(path: std::path::PathBuf) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "ramfs", "none"]).arg(&path).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Trap T14: a node whose file system cannot hold them leaves them as they are in the log: it never
/// proposes that they be gone, whatever else it changes.
#[test]
fn a_node_that_cannot_hold_attributes_takes_them_from_nobody() {
    let mut fleet = Fleet::new(3);
    fleet.kill(1);
    let home = fleet.hosts[1].state().parent().unwrap().to_owned();
    let Some(_bare) = Bare::over(home.clone()) else {
        println!("mounting a file system without attributes needs root");
        return;
    };
    for dir in ["folder", "state"] {
        fs::create_dir(home.join(dir)).unwrap();
    }
    fleet.start(1);
    fleet.settle();
    share(&mut fleet, 0, "f", "one");
    fleet.attach(0, "f", "note", b"mine");
    assert_eq!(fleet.attached(1, "f").len(), 0);
    fleet.assert_silent();
    let there = |fleet: &Fleet, at| fleet.attached(at, "f").contains_key("note");
    // Edits made there: of the content, of the mode, by a new file in its place.
    share(&mut fleet, 1, "f", "two");
    assert!(there(&fleet, 0) && there(&fleet, 2));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(fleet.hosts[1].path("f"), mode).unwrap();
    fleet.look(1);
    fleet.settle();
    assert!(there(&fleet, 0) && there(&fleet, 2));
    fs::write(fleet.hosts[1].path("new"), "three").unwrap();
    fs::rename(fleet.hosts[1].path("new"), fleet.hosts[1].path("f")).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("f"), "three");
    assert!(there(&fleet, 0) && there(&fleet, 2));
    // Also over its restart, and when the others change them.
    fleet.kill(1);
    fleet.start(1);
    fleet.attach(2, "f", "more", b"2");
    share(&mut fleet, 2, "another", "four");
    fleet.attach(2, "another", "x", b"3");
    fleet.assert_silent();
    assert_eq!(fleet.attached(0, "f").len(), 2);
}
