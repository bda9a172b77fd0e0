//! What raises no event: found by looking now and then. As in `tests`, the clock is moved by hand.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use pickbox_store::folder::Folder;
use pickbox_store::name::{Name, RelPath};
use pickbox_store::observation::{Hint, Sighting};

use crate::hot::{HotPolicy, HotRules};
use crate::linked::LINKED_EVERY;
use crate::tests::{Rig, brief};
use crate::watcher::{WatchOptions, Watcher};

fn options(scan_every: Option<u64>, hot: &[&str]) -> WatchOptions {
    let hot = HotRules::parse(hot.iter().copied()).unwrap();
    WatchOptions { scan_every: scan_every.map(Duration::from_secs), hot }
}

/// Writes to a file of the folder in a way of which inotify says nothing inside: through a descriptor
/// that was opened by a name outside, which is gone by now. A store through `mmap` is as silent, and
/// moves the times of the file as well.
fn write_silently(rig: &mut Rig, path: &str, text: &str) {
    let outside = rig.at("../outside/name");
    fs::hard_link(rig.at(path), &outside).unwrap();
    let mut file = OpenOptions::new().append(true).open(&outside).unwrap();
    fs::remove_file(outside).unwrap();
    rig.pass(1000);
    file.write_all(text.as_bytes()).unwrap();
}

/// Source: trap T7, fault 59. What no event told of is found by the full scan, within its interval.
#[test]
fn the_full_scan_finds_what_raised_no_event() {
    let mut rig = Rig::with_options(options(Some(3600), &[]), |_| {});
    rig.write("f", "one");
    rig.pass(0);
    write_silently(&mut rig, "f", " two");
    let size = |rig: &mut Rig, ms| {
        let mut looks = rig.looks(ms).into_iter().filter(|look| look.path.as_bytes() == b"f");
        looks.next_back().and_then(|look| look.seen.stat().map(|stat| stat.size))
    };
    assert_eq!(size(&mut rig, 2_000_000), None, "nobody says so");
    assert_eq!(size(&mut rig, 1_600_000), Some(7), "an hour after the start");
    let mut rig = Rig::with_options(options(None, &[]), |_| {});
    rig.write("f", "one");
    rig.pass(0);
    write_silently(&mut rig, "f", " two");
    assert_eq!(size(&mut rig, 100_000_000), None, "the scan is off");
}

/// Source: trap T22. Nobody waits for a scan that only looks for what nobody knows of; and it gives
/// way to a walk that is needed.
#[test]
fn a_scan_is_nothing_that_is_pending_and_gives_way() {
    let mut rig = Rig::with_options(options(Some(100), &[]), |folder| {
        for at in 0..50 {
            fs::create_dir_all(folder.join(format!("d{at}/in"))).unwrap();
        }
    });
    let started = |sightings: &[Sighting]| {
        sightings.iter().filter(|s| matches!(s, Sighting::WalkStarted(_))).count()
    };
    rig.now += Duration::from_secs(100);
    rig.watcher.step_walk(1, rig.now);
    rig.watcher.step_walk(20, rig.now);
    assert_eq!(started(rig.watcher.outbox.make_contiguous()), 1);
    assert_eq!(rig.watcher.counts().walks, 0, "nobody waits for it");
    rig.watcher.lost_events();
    let sightings = rig.pass(0);
    assert_eq!(started(&sightings), 2, "the needed walk did not wait for the scan");
    let done = sightings.iter().filter(|s| matches!(s, Sighting::WalkDone { .. })).count();
    assert_eq!(done, 1, "the scan was given up");
    let top = rig.watcher.root().unwrap();
    let held = rig.watcher.tree.get(top).unwrap().hold_count();
    assert_eq!(held, 50, "by what hangs on it alone");
}

/// Source: trap T16 (measured: a write through a name outside raises no event inside).
#[test]
fn a_write_through_a_name_outside_is_found_within_seconds() {
    let mut rig = Rig::new();
    rig.write("f", "one");
    fs::hard_link(rig.at("f"), rig.at("../outside/f")).unwrap();
    rig.pass(1000);
    assert_eq!(rig.watcher.counts().linked, 1);
    fs::write(rig.at("../outside/f"), "two").unwrap();
    let every = u64::try_from(LINKED_EVERY.as_millis()).unwrap();
    let looks = rig.looks(every);
    let last = looks.last().map(|look| (look.path.to_string(), brief(&look.seen)));
    assert_eq!(last, Some(("f".to_owned(), "two".to_owned())));
    assert!(rig.looks(every).is_empty(), "and once only");
    fs::remove_file(rig.at("../outside/f")).unwrap();
    rig.pass(every);
    assert_eq!(rig.watcher.counts().linked, 0, "one name needs no sweep");
}

/// Source: trap T16. Those that are there at the start are found by the walk; those that go are let go.
#[test]
fn files_with_several_names_are_known_from_the_start() {
    let mut rig = Rig::with(|folder| {
        for at in 0..200 {
            fs::create_dir_all(folder.join(format!("d{}", at % 7))).unwrap();
            let path = folder.join(format!("d{}/f{at}", at % 7));
            fs::write(&path, "x").unwrap();
            fs::hard_link(path, folder.join(format!("../outside/f{at}"))).unwrap();
        }
    });
    assert_eq!(rig.watcher.counts().linked, 200);
    for at in [0, 63, 64, 65, 199] {
        fs::write(rig.at(&format!("../outside/f{at}")), "changed").unwrap();
    }
    let changed = rig.looks(3000).into_iter().filter(|look| brief(&look.seen) == "changed");
    assert_eq!(changed.count(), 5, "over all slices");
    for at in 0..7 {
        fs::remove_dir_all(rig.at(&format!("d{at}"))).unwrap();
    }
    rig.pass(1000);
    rig.pass(3000);
    assert_eq!(rig.watcher.counts().linked, 0);
    // The directories are looked for a few times more.
    for _ in 0..10 {
        rig.pass(1000);
    }
    let root = rig.watcher.root().unwrap();
    assert_eq!(rig.watcher.tree.get(root).unwrap().hold_count(), 0);
}

/// Source: trap T7.
#[test]
fn a_file_that_stays_open_is_left_alone_where_a_rule_says_so() {
    let mut rig = Rig::with_options(options(None, &["*.db=skip"]), |_| {});
    let mut append = ["x.db", "x.log"].map(|name| {
        let mut file = OpenOptions::new().create(true).append(true).open(rig.at(name)).unwrap();
        file.write_all(b"1").unwrap();
        file
    });
    let mut hot = Vec::new();
    for _ in 0..60 {
        hot.extend(rig.looks(1000).into_iter().map(|look| look.path.to_string()));
    }
    assert_eq!(hot, ["x.log"]);
    let counts = rig.watcher.counts();
    let open = |at: usize| (counts.open_files[at].path.to_string(), counts.open_files[at].policy);
    assert_eq!(open(0), ("x.log".to_owned(), HotPolicy::Snapshot), "hot ones come first");
    assert_eq!(open(1), ("x.db".to_owned(), HotPolicy::Skip));
    assert_eq!((counts.hot, counts.open_for_writing), (1, 2));
    append[0].write_all(b"2").unwrap();
    drop(append);
    let looks = rig.looks(0);
    let seen = looks.iter().find(|look| look.path.as_bytes() == b"x.db").unwrap();
    assert_eq!((brief(&seen.seen), seen.hint.has(Hint::HOT)), ("12".to_owned(), false));
    assert!(rig.watcher.counts().open_files.is_empty());
}

/// Source: trap T27, fault 51. `/` has mounts below it on any Linux.
#[test]
fn mounts_below_the_folder_are_named_and_not_entered() {
    let now = pickbox_raft::clock::now();
    let folder = Folder::open(std::path::Path::new("/")).unwrap();
    let mut watcher = Watcher::open(folder, Vec::new(), options(None, &[]), now).unwrap();
    let dir = watcher.root().unwrap();
    let key = crate::tree::Key { dir, name: Name::new("proc").unwrap() };
    watcher.push_fresh(key.clone(), crate::lane::Why::Appeared);
    watcher.step_fresh(10, now);
    let notices = watcher.counts().notices;
    assert!(notices.contains(&"proc: another file system is mounted there; left alone".to_owned()));
    assert!(watcher.tree.child(key.dir, &key.name).is_none(), "it is not entered");
    assert_eq!(watcher.counts().alarms, Vec::<String>::new());
}

/// Source: trap T4, fault 54: what is missing, and the line that helps, in STATUS as long as it lasts.
#[test]
fn missing_watches_are_an_alarm() {
    let mut rig = Rig::with(|folder| fs::create_dir_all(folder.join("a")).unwrap());
    assert_eq!(rig.watcher.counts().alarms, Vec::<String>::new());
    let root = rig.watcher.root().unwrap();
    let a = rig.watcher.tree.find(root, &RelPath::new("a").unwrap()).unwrap();
    let wd = rig.watcher.tree.get_mut(a).unwrap().wd.take().unwrap();
    rig.watcher.source.remove(wd);
    rig.watcher.wds.remove(wd);
    rig.watcher.unwatched.insert(a);
    let alarms = rig.watcher.counts().alarms;
    let words = ["needs 3 inotify watches", "run: sysctl -w fs.inotify.max_user_watches="];
    assert!(alarms.len() == 1 && words.iter().all(|word| alarms[0].contains(word)), "{alarms:?}");
    rig.pass(30_000);
    assert_eq!(rig.watcher.counts().alarms, Vec::<String>::new(), "there was room again");
}
