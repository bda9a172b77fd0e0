//! Random work in the folder, random steps of the watcher in between, by a seed: whatever the
//! order, a store that follows the sightings ends with what is on disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pickbox_store::content_id::ContentId;
use pickbox_store::folder::{Folder, Stat};
use pickbox_store::name::{Name, RelPath};
use pickbox_store::observation::{Observation, Seen, Sighting};
use pickbox_store::time::Time;

use crate::events::Drained;
use crate::watcher::{WatchOptions, Watcher};

/// A small generator: the same seed gives the same story.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

type DirKey = (u64, Time);

fn dir_key(stat: &Stat) -> DirKey {
    (stat.ino, stat.btime)
}

/// What a store keeps: directories by identity, files by the identity of their directory.
#[derive(Default)]
struct Store {
    root: Option<DirKey>,
    dirs: BTreeMap<DirKey, (DirKey, Name)>,
    files: BTreeMap<(DirKey, Name), ContentId>,
    questions: Vec<RelPath>,
}

impl Store {
    fn child(&self, parent: DirKey, name: &Name) -> Option<DirKey> {
        let at = |(key, place): (&DirKey, &(DirKey, Name))| {
            (*place == (parent, name.clone())).then_some(*key)
        };
        self.dirs.iter().find_map(at)
    }

    fn find(&self, path: &RelPath) -> Option<DirKey> {
        path.names().try_fold(self.root?, |dir, name| self.child(dir, &name))
    }

    /// What is known in a directory and was not listed is asked about.
    fn listed(&mut self, dir: &RelPath, names: &[Name]) {
        let Some(id) = self.find(dir) else { return };
        let dirs = self.dirs.values().filter(|(parent, _)| *parent == id).map(|(_, name)| name);
        let files = self.files.keys().filter(|(parent, _)| *parent == id).map(|(_, name)| name);
        let missing = dirs.chain(files).filter(|name| !names.contains(name));
        self.questions.extend(missing.map(|name| dir.join(name)));
    }

    fn take(&mut self, look: Observation) {
        let Some((parent, name)) = look.path.split() else { return };
        let Some(parent) = self.find(&parent) else {
            assert!(
                matches!(look.seen, Seen::Gone | Seen::ParentGone),
                "told of {} before its directory: {:?}",
                look.path,
                look.seen
            );
            return;
        };
        let place = (parent, name);
        if !matches!(look.seen, Seen::ParentGone | Seen::Unreadable(_)) {
            // A directory that lost its name may turn up elsewhere, with all that is in it.
            self.dirs.retain(|key, at| {
                *at != place || matches!(&look.seen, Seen::Directory(stat) if dir_key(stat) == *key)
            });
        }
        match look.seen {
            Seen::Directory(stat) => {
                self.files.remove(&place);
                self.dirs.insert(dir_key(&stat), place);
            }
            Seen::Small { content, .. } => drop(self.files.insert(place, content)),
            Seen::StatOnly(_) => self.questions.push(look.path),
            Seen::Gone => drop(self.files.remove(&place)),
            _ => {}
        }
    }
}

struct Chaos {
    dice: Dice,
    temp: tempfile::TempDir,
    watcher: Watcher,
    store: Store,
    now: Instant,
    log: Vec<String>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        pickbox_store::lease::ignore_sigio().unwrap();
        let fast = Path::new("/dev/shm");
        let temp = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() };
        let temp = temp.unwrap();
        for dir in ["folder", "outside"] {
            fs::create_dir(temp.path().join(dir)).unwrap();
        }
        let folder = Folder::open(&temp.path().join("folder")).unwrap();
        let store = Store { root: Some(dir_key(folder.identity())), ..Store::default() };
        let now = pickbox_raft::clock::now();
        let watcher = Watcher::open(folder, Vec::new(), WatchOptions::default(), now).unwrap();
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut chaos = Self { dice, temp, watcher, store, now, log: Vec::new() };
        chaos.settle();
        chaos
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("folder")
    }

    /// A path of one to three short names; often one that exists.
    fn path(&mut self) -> PathBuf {
        let depth = 1 + self.dice.roll(3);
        (0..depth).fold(self.root(), |path, _| {
            path.join(["a", "b", "c"][usize::try_from(self.dice.roll(3)).unwrap()])
        })
    }

    /// Something that a user does; what is impossible now does nothing.
    fn work(&mut self, round: u64) {
        let (one, two) = (self.path(), self.path());
        let outside = self.temp.path().join(format!("outside/{}", self.dice.roll(2)));
        let what = self.dice.roll(12);
        let done = match what {
            0..3 => fs::create_dir_all(&one).is_ok(),
            3..5 => fs::write(one.join("f"), format!("{round}")).is_ok(),
            5 => fs::write(&one, format!("{round}")).is_ok(),
            6..9 => fs::rename(&one, &two).is_ok(),
            9 => fs::remove_dir_all(&one).is_ok() || fs::remove_file(&one).is_ok(),
            10 => fs::rename(&one, &outside).is_ok() || fs::rename(&outside, &one).is_ok(),
            _ => {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, &one, cwd, &two, exchange).is_ok()
            }
        };
        if done {
            self.log.push(format!("{round}: {what} {one:?} {two:?}"));
        }
    }

    /// A part of what the thread does in one turn, also out of turn.
    fn step(&mut self) {
        match self.dice.roll(6) {
            0 | 1 => while self.watcher.drain(self.now).unwrap() == Drained::More {},
            2 => drop(self.watcher.step_fresh(3, self.now)),
            3 => drop(self.watcher.hand_on(self.now)),
            // No turn of the thread begins to look without having read the queue.
            4 => {
                let pause = [1, 20, 300][usize::try_from(self.dice.roll(3)).unwrap()];
                self.now += Duration::from_millis(pause);
                while self.watcher.drain(self.now).unwrap() == Drained::More {}
            }
            _ => self.watcher.expire_moves(self.now),
        }
        self.follow();
    }

    fn follow(&mut self) {
        for sighting in self.watcher.outbox.drain(..) {
            if let Sighting::Listed { dir, names } = &sighting {
                self.store.listed(dir, names);
            }
            for look in sighting.into_looks() {
                self.log.push(format!(
                    "    {} {:?} {:?}",
                    look.path,
                    look.hint,
                    std::mem::discriminant(&look.seen)
                ));
                self.store.take(look);
            }
        }
        for question in std::mem::take(&mut self.store.questions) {
            self.watcher.answer(question, self.now);
        }
    }

    fn settle(&mut self) {
        for _ in 0..400 {
            while self.watcher.drain(self.now).unwrap() == Drained::More {}
            self.watcher.expire_moves(self.now);
            self.watcher.step_fresh(1000, self.now);
            while self.watcher.hand_on(self.now) {}
            self.watcher.step_walk(1000, self.now);
            self.follow();
            self.now += Duration::from_millis(10);
        }
        assert_eq!(self.watcher.dirty.len(), 0);
    }

    /// Every directory is known where it is and watched; every file as it is.
    fn check(&self, dir: &Path, path: &RelPath, counts: &mut (usize, usize)) {
        let stat = Folder::open(dir).map(|folder| *folder.identity()).unwrap();
        let root = self.watcher.root().unwrap();
        let id = self.watcher.tree.find(root, path).unwrap_or_else(|| panic!("{path} is unknown"));
        let node = self.watcher.tree.get(id).unwrap();
        assert_eq!(node.ino, stat.ino, "{path} is taken for another");
        assert_eq!(self.watcher.wds.owner(node.wd.unwrap()), Some(id), "{path} is not watched");
        assert_eq!(self.store.find(path), Some(dir_key(&stat)), "the store knows '{path}'");
        counts.0 += 1;
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = Name::new(entry.file_name().into_encoded_bytes()).unwrap();
            if entry.file_type().unwrap().is_dir() {
                self.check(&entry.path(), &path.join(&name), counts);
            } else {
                let content = ContentId::of(&fs::read(entry.path()).unwrap());
                let known = self.store.files.get(&(dir_key(&stat), name.clone()));
                assert_eq!(known, Some(&content), "{}", path.join(&name));
                counts.1 += 1;
            }
        }
    }

    /// Files of the store below directories that it can still reach.
    fn reachable_files(&self) -> usize {
        let is_reachable = |mut dir: DirKey| {
            for _ in 0..100 {
                if Some(dir) == self.store.root {
                    return true;
                }
                match self.store.dirs.get(&dir) {
                    Some((parent, _)) => dir = *parent,
                    None => return false,
                }
            }
            false
        };
        self.store.files.keys().filter(|(dir, _)| is_reachable(*dir)).count()
    }
}

fn tell(seed: u64, rounds: u64) {
    let mut chaos = Chaos::new(seed);
    let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for round in 0..rounds {
            chaos.work(round);
            for _ in 0..chaos.dice.roll(6) {
                chaos.step();
            }
        }
        chaos.settle();
        let mut counts = (0, 0);
        chaos.check(&chaos.root(), &RelPath::root(), &mut counts);
        assert_eq!(
            chaos.watcher.counts().watches.used,
            counts.0,
            "no watch outlives its directory"
        );
        assert_eq!(chaos.watcher.tree.linked_count(), counts.0);
        assert_eq!(chaos.reachable_files(), counts.1, "no file outlives its deletion");
    }));
    if story.is_err() {
        let tail = chaos.log.len().saturating_sub(60);
        panic!("seed {seed}:\n{}", chaos.log[tail..].join("\n"));
    }
}

/// trap T2, T3, T13, fault 44: renames of what is being renamed, exchanges, moves out and in,
/// files for directories, with the watcher behind by any amount.
#[test]
fn whatever_the_order_the_end_is_known() {
    for seed in 0..100 {
        tell(seed, 60);
    }
}
