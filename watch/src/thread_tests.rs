//! The whole thread, with real time: barriers, back-pressure, a storm of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use pickbox_store::content_id::ContentId;
use pickbox_store::folder::Folder;
use pickbox_store::observation::{Flushed, Hint, Observation, Seen, Sighting};

use crate::{Ask, Counts, Handle, Watch, WatchOptions};

/// Far longer than anything here takes: a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `story` beside a watch thread over an empty folder.
fn beside_a_watch(capacity: usize, story: impl FnOnce(&Path, &Handle, &Receiver<Sighting>)) {
    // ext4 searches long past inodes deleted a moment ago: a second run would take a minute.
    let fast = Path::new("/dev/shm");
    let temp = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() };
    let temp = temp.unwrap();
    let (sender, sightings) = bounded(capacity);
    let folder = Folder::open(temp.path()).unwrap();
    let (watch, handle) = Watch::new(folder, Vec::new(), WatchOptions::default(), sender).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || watch.run());
        let stop = StopAtEnd(&handle);
        story(temp.path(), &handle, &sightings);
        drop(stop);
        thread.join().unwrap().unwrap();
    });
}

/// Ends the thread also when the story fails, so that the test ends.
struct StopAtEnd<'a>(&'a Handle);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.ask(Ask::Stop).unwrap();
    }
}

fn sync(handle: &Handle) -> Receiver<()> {
    let (reply, answer) = bounded(1);
    handle.ask(Ask::Sync(reply)).unwrap();
    answer
}

fn status(handle: &Handle) -> Counts {
    let (reply, answer) = bounded(1);
    handle.ask(Ask::Status(reply)).unwrap();
    answer.recv_timeout(PATIENCE).unwrap()
}

/// Asks for a flush and takes sightings up to its answer: the names seen, and the answer.
fn flush(handle: &Handle, sightings: &Receiver<Sighting>, id: u64) -> (Vec<String>, Flushed) {
    handle.ask(Ask::Flush(id)).unwrap();
    let mut names = Vec::new();
    loop {
        match sightings.recv_timeout(PATIENCE).expect("an answer") {
            Sighting::Flushed(flushed) => {
                assert_eq!(flushed.id, id);
                return (names, flushed);
            }
            other => names.extend(other.into_looks().iter().map(|look| look.path.to_string())),
        }
    }
}

/// Trap T28: whatever was closed, deleted or made before a flush is told of before its answer, in
/// directories that appeared a moment ago too, and without waiting for more deletions or for a passing
/// name to pass. A file that is still open is named. Source: watchman's cookie files.
#[test]
fn a_flush_ends_behind_all_that_was_written_before_it() {
    beside_a_watch(16, |folder, handle, sightings| {
        fs::write(folder.join("gone"), "x").unwrap();
        let _ = flush(handle, sightings, 1);
        for round in 0..20 {
            let dir = folder.join(format!("a{round}/b"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(".f.swp"), "passing").unwrap();
            fs::write(dir.join("f"), "text").unwrap();
            fs::write(folder.join("again"), "x").unwrap();
            fs::remove_file(folder.join(if round == 0 { "gone" } else { "again" })).unwrap();
            let open = fs::File::create(folder.join(format!("open{round}"))).unwrap();
            let (names, flushed) = flush(handle, sightings, 2 + round);
            for name in [".f.swp", "f"] {
                let name = format!("a{round}/b/{name}");
                assert!(names.contains(&name), "{name} in {names:?}");
            }
            assert!(round > 0 || names.contains(&"gone".to_owned()), "{names:?}");
            assert_eq!((flushed.open_count, flushed.open.len()), (1, 1), "{flushed:?}");
            assert_eq!(flushed.open[0].to_string(), format!("open{round}"));
            drop(open);
        }
    });
}

/// What a store would know after these sightings: it asks about whatever it was not told.
#[derive(Default)]
struct Store {
    contents: BTreeMap<String, ContentId>,
    /// Where each directory was last seen: a renamed one takes what is below it along.
    dirs: BTreeMap<u64, String>,
    asked: usize,
}

impl Store {
    fn take(&mut self, sighting: Sighting, handle: &Handle) {
        for look in sighting.into_looks() {
            self.take_look(look, handle);
        }
    }

    fn take_look(&mut self, look: Observation, handle: &Handle) {
        let path = look.path.to_string();
        match look.seen {
            Seen::Small { content, .. } => drop(self.contents.insert(path, content)),
            Seen::Gone | Seen::ParentGone => drop(self.contents.remove(&path)),
            Seen::Directory(stat) => {
                // Under load the new directory may be told of before the one that left its name:
                // what was below belongs to that one, wherever it turns up.
                let left = self.dirs.iter().find(|(ino, at)| **ino != stat.ino && **at == path);
                if let Some(ino) = left.map(|(ino, _)| *ino) {
                    let aside = format!("left its name: {ino}");
                    self.mv(&path, &aside);
                    self.dirs.insert(ino, aside);
                }
                let before = self.dirs.insert(stat.ino, path.clone());
                before
                    .filter(|before| *before != path)
                    .into_iter()
                    .for_each(|b| self.mv(&b, &path));
            }
            Seen::StatOnly(_) => {
                assert!(!look.hint.has(Hint::ASKED), "a question is answered with the content");
                self.asked += 1;
                handle.ask(Ask::Examine(look.path)).unwrap();
            }
            _ => {}
        }
    }

    fn mv(&mut self, from: &str, to: &str) {
        let (from, to) = (format!("{from}/"), format!("{to}/"));
        let rename = |(path, content): (String, ContentId)| match path.strip_prefix(&from) {
            Some(rest) => (format!("{to}{rest}"), content),
            None => (path, content),
        };
        // What was seen under the new path already is newer.
        let (moved, mut stay): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.contents).into_iter().partition(|(p, _)| p.starts_with(&from));
        for (path, content) in moved.into_iter().map(rename) {
            stay.entry(path).or_insert(content);
        }
        self.contents = stay;
    }

    /// Takes sightings until everything written before is known.
    fn catch_up(&mut self, handle: &Handle, sightings: &Receiver<Sighting>) {
        loop {
            let (answer, asked) = (sync(handle), self.asked);
            loop {
                crossbeam_channel::select! {
                    recv(sightings) -> sighting => self.take(sighting.unwrap(), handle),
                    recv(answer) -> done => break done.unwrap(),
                    default(PATIENCE) => panic!("no answer"),
                }
            }
            sightings.try_iter().for_each(|sighting| self.take(sighting, handle));
            // Questions that came up meanwhile are answered before the next barrier.
            if self.asked == asked {
                return;
            }
        }
    }
}

fn on_disk(dir: &Path, prefix: &str, found: &mut BTreeMap<String, ContentId>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            on_disk(&entry.path(), &format!("{path}/"), found);
        } else {
            found.insert(path, ContentId::of(&fs::read(entry.path()).unwrap()));
        }
    }
}

fn assert_same(dir: &Path, store: &Store) {
    let mut found = BTreeMap::new();
    on_disk(dir, "", &mut found);
    let differing =
        |(path, content): &(&String, &ContentId)| store.contents.get(*path) != Some(content);
    let wrong: Vec<_> = found.iter().filter(differing).take(5).collect();
    assert!(wrong.is_empty(), "not seen as they are: {wrong:?}");
    let extra: Vec<_> = store.contents.keys().filter(|path| !found.contains_key(*path)).collect();
    assert!(extra.is_empty(), "seen and not there: {extra:?}");
}

/// trap T28: once the barrier is passed, what was written before it has been handed on.
#[test]
fn a_barrier_covers_every_write_before_it() {
    beside_a_watch(1024, |dir, handle, sightings| {
        let mut store = Store::default();
        for round in 0..200 {
            fs::create_dir_all(dir.join(format!("d{}", round / 10))).unwrap();
            fs::write(dir.join(format!("d{}/f{round}", round / 10)), format!("{round}")).unwrap();
            let answer = sync(handle);
            answer.recv_timeout(PATIENCE).unwrap();
            sightings.try_iter().for_each(|sighting| store.take(sighting, handle));
            let seen = store.contents.get(&format!("d{}/f{round}", round / 10));
            assert_eq!(seen, Some(&ContentId::of(format!("{round}").as_bytes())));
        }
    });
}

/// A store that is slow makes the watcher gather, not forget, and not stop reading the kernel.
#[test]
fn a_full_channel_loses_nothing() {
    beside_a_watch(1, |dir, handle, sightings| {
        for round in 0..500 {
            fs::write(dir.join(format!("f{}", round % 50)), format!("{round}")).unwrap();
        }
        let mut counts = status(handle);
        while counts.unread_bytes > 0 {
            counts = status(handle);
        }
        assert!(counts.dirty >= 40 && counts.dirty <= 51, "one mark a name: {counts:?}");
        assert_eq!(counts.overflows, 0);
        let mut store = Store::default();
        store.catch_up(handle, sightings);
        assert_same(dir, &store);
    });
}

/// Stress: 10,000 files made while others are renamed, rewritten, moved with their directories
/// and removed; each is seen with its final content, and nothing else is left.
#[test]
fn ten_thousand_files_are_all_seen_as_they_end() {
    beside_a_watch(256, |dir, handle, sightings| {
        let mut store = Store::default();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| storm(dir));
            while !writer.is_finished() {
                if let Ok(sighting) = sightings.recv_timeout(Duration::from_millis(1)) {
                    store.take(sighting, handle);
                }
            }
        });
        store.catch_up(handle, sightings);
        assert_same(dir, &store);
        assert!(store.contents.len() > 9_000, "{}", store.contents.len());
        let counts = status(handle);
        println!("{counts:?}, asked {}", store.asked);
        assert_eq!((counts.dirty, counts.open_for_writing, counts.unwatched), (0, 0, 0));
    });
}

fn storm(dir: &Path) {
    for at in 0..10_000 {
        let (below, text) =
            (dir.join(format!("d{}/e{}", at / 500, at / 50)), format!("content {at}"));
        fs::create_dir_all(&below).unwrap();
        let path = below.join(format!("f{at}"));
        match at % 10 {
            0..5 => fs::write(&path, &text).unwrap(),
            5 | 6 => {
                fs::write(below.join(format!("part{at}")), &text).unwrap();
                fs::rename(below.join(format!("part{at}")), &path).unwrap();
            }
            7 => {
                fs::write(&path, "first").unwrap();
                fs::write(&path, &text).unwrap();
            }
            8 => {
                fs::write(&path, &text).unwrap();
                let _ = fs::rename(below, dir.join(format!("d{}/moved{}", at / 500, at / 50)));
            }
            _ => {
                fs::write(&path, &text).unwrap();
                if at % 100 == 99 {
                    fs::remove_file(&path).unwrap();
                }
            }
        }
    }
}
