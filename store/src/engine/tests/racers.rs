//! A user of the host who swaps a directory for a symlink as fast as he can, while the engine works
//! below it (fault 85; syncthing#3801, CVE-2026-43619).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::fleet::Fleet;
use crate::folder::{Folder, NewFile, Properties};
use crate::name::{Name, RelPath};

/// Where a link leads, and what a daemon must never read.
const SECRET: &str = "nobody's business";
/// Names that are both in the directory and where the link leads.
const NAMES: usize = 8;

/// Stops the racer, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Swaps two names for as long as `work` takes; the first is then as it was. Returns how often.
fn racing(one: &Path, other: &Path, work: impl FnOnce(&AtomicU64)) -> u64 {
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let swap = || {
        // What it works on may be gone for a moment: the engine is at it, too.
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
        work(&swaps);
    });
    if one.is_symlink() && !other.is_symlink() {
        swap();
    }
    swaps.load(Ordering::Relaxed)
}

/// Everything about everything below a directory that a daemon could have changed.
fn facts(top: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let who = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), meta.nlink());
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, format!("{who:?} {times:?} {text}"));
    }
    found
}

/// Fills a directory outside of every folder with what the raced one has, too.
fn make_outside(outside: &Path) {
    fs::create_dir_all(outside.join("sub")).unwrap();
    for number in 0..NAMES {
        for path in [format!("{number}"), format!("sub/{number}")] {
            fs::write(outside.join(&path), format!("{SECRET}, {path}")).unwrap();
            fs::set_permissions(outside.join(&path), PermissionsExt::from_mode(0o600)).unwrap();
        }
    }
}

/// A link was met, the directory that was found had left the folder by the end of the walk, or the
/// kernel lost its way over all the renames (openat2(2)).
fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::AGAIN)
}

/// Fault 85, at the door: whatever is done below a directory that is swapped for a link outwards is
/// done in the directory, or refused.
#[test]
fn a_swapped_directory_leads_nowhere() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    fs::create_dir_all(at("folder/d/sub")).unwrap();
    fs::create_dir(at("staging")).unwrap();
    make_outside(&at("outside"));
    let before = facts(&at("outside"));
    symlink(at("outside"), at("link")).unwrap();
    let (folder, staging) =
        (Folder::open(&at("folder")).unwrap(), Folder::open(&at("staging")).unwrap());
    let staging = staging.root();
    let name = |text: String| Name::new(text).unwrap();
    let (mut inside, mut refused) = (0, 0);
    let swaps = racing(&at("folder/d"), &at("link"), |_| {
        while inside < 3000 || refused < 300 {
            let number = inside % NAMES;
            let path = ["d", "d/sub"][inside % 2];
            let dir = match folder.dir(&RelPath::new(path).unwrap()) {
                Ok(dir) => dir,
                Err(error) => {
                    refused += 1;
                    assert!(is_refusal(error.errno()), "{error}");
                    continue;
                }
            };
            inside += 1;
            let (f, s) = (name(number.to_string()), name(format!("s{number}")));
            let new = NewFile {
                bytes: b"ours",
                properties: Properties::OURS,
                xattrs: crate::xattr::Xattrs::NONE,
            };
            if let Ok((_, Some(bytes))) = dir.read_small(&f, 1000) {
                assert_eq!(bytes, b"ours", "something else was read");
            }
            let stat = staging.write_new(&s, new).unwrap();
            if staging.rename_no_replace(&s, &dir, &f).is_err() {
                let _ = staging.exchange(&s, &dir, &f);
                staging.unlink(&s).unwrap();
            }
            let _ = dir.attach(&f, &stat, Properties { mode: 0o644, ..Properties::OURS });
            if inside % 3 == 0 {
                let _ = dir.unlink(&f);
            }
            let _ = dir.list().map(Iterator::count);
        }
    });
    assert_eq!(facts(&at("outside")), before, "after {swaps} swaps");
}

impl Fleet {
    /// A change by hand on the first host, of one thing in `d`; never through a link.
    fn change(&self, round: usize) {
        let d = self.hosts[0].path("d");
        if !d.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let _ = fs::remove_file(&d);
            fs::create_dir(&d).unwrap();
        }
        if !d.join("sub").is_dir() {
            let _ = fs::remove_file(d.join("sub"));
            fs::create_dir(d.join("sub")).unwrap();
        }
        let (this, next) = (round % NAMES, (round + 3) % NAMES);
        let path = d.join(this.to_string());
        let _ = match round % 6 {
            0 | 1 => fs::write(&path, format!("edit {round}")),
            2 => fs::set_permissions(&path, PermissionsExt::from_mode(0o640)),
            3 => fs::remove_file(&path),
            4 => fs::rename(&path, d.join(format!("sub/{next}"))),
            _ => fs::write(d.join(format!("sub/{next}")), format!("new {round}")),
        };
    }
}

/// Fault 85, through the engine: versions are placed, exchanged, taken away, moved and given modes below
/// a directory that is swapped all the time, and the watcher looks. Nothing outside changes or is
/// read, and once the racer rests both hosts agree again.
#[test]
fn an_engine_works_below_a_directory_that_is_swapped_for_a_link() {
    let mut fleet = Fleet::new(2);
    let home = fleet.hosts[1].state().parent().unwrap().to_owned();
    make_outside(&home.join("outside"));
    symlink(home.join("outside"), home.join("link")).unwrap();
    let before = facts(&home.join("outside"));
    for round in 0..NAMES {
        fleet.change(round * 6);
    }
    fleet.look(0);
    fleet.settle();
    let d = fleet.hosts[1].path("d");
    let swaps = racing(&d, &home.join("link"), |swaps| {
        for round in 0..1500 {
            if round >= 150 && swaps.load(Ordering::Relaxed) > 400 {
                break;
            }
            fleet.change(round);
            fleet.look(0);
            fleet.commit(0);
            while fleet.deliver(0) {}
            fleet.answer_asks(0);
            // Each is opened anew by its path.
            fleet.hosts[1].engine().dirs.clear();
            while fleet.deliver(1) {}
            fleet.pass(1, 1_000);
            if round % 5 == 0 {
                fleet.answer_asks(1);
                fleet.commit(1);
            }
            if round % 40 == 39 {
                fleet.look(1);
            }
        }
    });
    assert!(swaps > 0, "it never raced");
    assert_eq!(facts(&home.join("outside")), before, "after {swaps} swaps");
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(facts(&home.join("outside")), before);
    fs::remove_dir_all(home.join("outside")).unwrap();
    for at in 0..2 {
        let home = fleet.hosts[at].state().parent().unwrap().to_owned();
        for (path, text) in facts(&home) {
            assert!(!text.contains(SECRET), "{} was read into", path.display());
        }
        let status = fleet.hosts[at].engine().store_status().unwrap();
        assert_eq!(status.blocked, 0, "{:?}", status.waiting);
    }
}
