//! Users of one simulated folder, and what may be expected of what they wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pickbox_store::content_id::ContentId;
use pickbox_store::folder::Kind;
use pickbox_store::folder::simulated::FileSystem;
use pickbox_store::folder::simulated::user::Open;

use crate::sim::Random;

/// Small enough a world that everything collides.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Descriptors that programs keep open.
const OPEN_MAX: usize = 3;
/// A file that is open for longer may be taken as it is (`max_defer`, 30 s).
const HOT_US: u64 = 20_000_000;

/// A file that a program has open.
#[derive(Debug)]
struct Holding {
    file: Open,
    since_us: u64,
    wrote: bool,
}

/// What is known of all contents, on whatever host.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// What programs finished: only such a thing may be committed.
    pub(super) finished: BTreeSet<ContentId>,
    /// What they passed through on the way, and since when they had the file open.
    pub(super) passed: BTreeMap<ContentId, u64>,
    /// What must not be lost: who wrote it, and on which host.
    pub(super) kept: BTreeMap<ContentId, usize>,
    count: u64,
}

impl Written {
    /// Whether a content may be committed at this moment.
    pub(super) fn may_commit(&self, content: ContentId, now_us: u64) -> bool {
        let is_hot = |since_us: &u64| now_us > since_us + HOT_US;
        self.finished.contains(&content) || self.passed.get(&content).is_some_and(is_hot)
    }
}

/// What they share.
pub(super) type Shared<T> = Arc<Mutex<T>>;

pub(super) fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The users of one host.
#[derive(Debug)]
pub(super) struct People {
    host: usize,
    fs: FileSystem,
    random: Random,
    written: Shared<Written>,
    holding: Vec<Holding>,
    pub(super) now_us: u64,
    pub(super) deeds: u64,
    pub(super) story: Vec<String>,
}

impl People {
    pub(super) fn new(host: usize, fs: FileSystem, seed: u64, written: Shared<Written>) -> Self {
        let (random, holding, story) = (Random::new(seed), Vec::new(), Vec::new());
        Self { host, fs, random, written, holding, now_us: 0, deeds: 0, story }
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.random.below(3);
        let names: Vec<_> = (0..depth).filter_map(|_| self.random.pick(&NAMES)).collect();
        format!("folder/{}", names.join("/"))
    }

    fn text(&mut self) -> Vec<u8> {
        let mut written = lock(&self.written);
        written.count += 1;
        let count = written.count;
        drop(written);
        let large = if self.random.per_mille(60) { "x".repeat(40_000) } else { String::new() };
        let text = format!("{count} of host {} {large}", self.host);
        text.into_bytes()
    }

    /// A program finished a content; it must not be lost.
    fn finished(&self, bytes: &[u8]) {
        let mut written = lock(&self.written);
        let content = ContentId::of(bytes);
        written.finished.insert(content);
        written.kept.insert(content, self.host);
    }

    /// A user is about to end what he has before him.
    fn end(&self, path: &str) {
        let Ok(stat) = self.fs.stat(path) else { return };
        match stat.kind {
            Kind::Directory => {
                for name in self.fs.names(path).unwrap_or_default() {
                    self.end(&format!("{path}/{name}"));
                }
            }
            Kind::File => {
                if let Ok(bytes) = self.fs.read(path) {
                    lock(&self.written).kept.remove(&ContentId::of(&bytes));
                }
            }
            _ => {}
        }
    }

    fn remove(&self, path: &str) -> bool {
        if !self.fs.stat(path).is_ok_and(|stat| stat.kind == Kind::Directory) {
            return self.fs.unlink(path).is_ok();
        }
        for name in self.fs.names(path).unwrap_or_default() {
            self.remove(&format!("{path}/{name}"));
        }
        self.fs.remove_dir(path).is_ok()
    }

    /// One thing that a user does; failing is part of life.
    pub(super) fn act(&mut self) {
        let (one, two) = (self.path(), self.path());
        let what = self.random.below(22);
        let (name, done) = match what {
            0..=3 => ("save", self.save(&one)),
            4 | 5 => ("save beside and rename", self.save_beside(&one)),
            6 => ("save as vim does", self.save_as_vim(&one)),
            7 => ("rename", self.rename(&one, &two)),
            8 => ("exchange", self.fs.exchange(&one, &two).is_ok()),
            9 => {
                self.end(&one);
                ("delete", self.remove(&one))
            }
            10 | 11 => ("make a directory", self.fs.make_dir(&one).is_ok()),
            12 => ("link to", self.fs.symlink(&two, &one).is_ok()),
            13 => {
                let mode = self.random.pick(&[0o755, 0o700, 0o750]).unwrap_or(0o700);
                ("change the mode", self.fs.set_mode(&one, mode).is_ok())
            }
            14 => ("append", self.append(&one)),
            15 | 16 => ("open", self.open(&one)),
            17..=19 => ("go on writing", self.go_on()),
            20 => ("give another name", self.fs.hard_link(&one, &two).is_ok()),
            _ => ("close", self.close(0)),
        };
        self.deeds += 1;
        if done {
            self.story.push(format!("host {} user: {name} {one} {two}", self.host));
        }
    }

    fn save(&mut self, path: &str) -> bool {
        let text = self.text();
        if self.fs.open(path).is_err() {
            return false;
        }
        self.end(path);
        let done = self.fs.write(path, &text).is_ok();
        if done {
            self.finished(&text);
        }
        done
    }

    fn append(&mut self, path: &str) -> bool {
        let (text, Ok(before)) = (self.text(), self.fs.read(path)) else { return false };
        self.end(path);
        let done = self.fs.open(path).and_then(|file| file.append(&text)).is_ok();
        self.finished(&[before, text].concat());
        done
    }

    fn save_beside(&mut self, path: &str) -> bool {
        let (text, beside) = (self.text(), format!("folder/.tmp{}", self.host));
        // A cut may have left one there.
        self.end(&beside);
        if self.fs.write(&beside, &text).is_err() {
            return false;
        }
        self.finished(&text);
        // It may be seen before it has its name.
        self.end(path);
        let done = self.fs.rename(&beside, path).is_ok();
        if !done {
            self.end(&beside);
            let _ = self.fs.unlink(&beside);
        }
        done
    }

    /// The old file becomes a backup, the new one is written at the name, the backup goes.
    fn save_as_vim(&mut self, path: &str) -> bool {
        if !self.fs.stat(path).is_ok_and(|stat| stat.kind == Kind::File) {
            return false;
        }
        let (text, backup) = (self.text(), format!("{path}~"));
        self.end(&backup);
        if self.fs.rename(path, &backup).is_err() {
            return false;
        }
        if self.fs.write(path, &text).is_ok() {
            self.finished(&text);
            self.end(&backup);
            let _ = self.fs.unlink(&backup);
        }
        true
    }

    fn rename(&mut self, from: &str, to: &str) -> bool {
        let same = match (self.fs.stat(from), self.fs.stat(to)) {
            (Ok(one), Ok(other)) => one.same_inode(&other),
            (Err(_), _) => return false,
            _ => false,
        };
        // A rename that fails ends nothing: find out before.
        if same || self.fs.stat(to).is_ok_and(|stat| stat.kind == Kind::Directory) {
            return self.fs.rename(from, to).is_ok();
        }
        let ended = self.fs.read(to).ok();
        let done = self.fs.rename(from, to).is_ok();
        if let Some(bytes) = ended.filter(|_| done) {
            lock(&self.written).kept.remove(&ContentId::of(&bytes));
        }
        done
    }

    fn open(&mut self, path: &str) -> bool {
        if self.holding.len() >= OPEN_MAX {
            return false;
        }
        let Ok(file) = self.fs.open(path) else { return false };
        // It may have been made just now.
        if let Ok(bytes) = file.read() {
            lock(&self.written).finished.insert(ContentId::of(&bytes));
        }
        self.holding.push(Holding { file, since_us: self.now_us, wrote: false });
        true
    }

    /// Traps T7 and T11: programs go on with what they have open, through descriptors and mappings.
    fn go_on(&mut self) -> bool {
        if self.holding.is_empty() {
            return false;
        }
        let at = self.random.below(self.holding.len());
        let (text, what) = (self.text(), self.random.below(6));
        let written = self.written.clone();
        let Some(holding) = self.holding.get_mut(at) else { return false };
        let Ok(before) = holding.file.read() else { return false };
        let done = match what {
            0 => return self.close(at),
            1 if !before.is_empty() => holding.file.store(&text, 0),
            2 => holding.file.truncate(before.len() / 2),
            _ => holding.file.append(&text),
        };
        if done.is_ok() {
            holding.wrote = true;
            let mut written = lock(&written);
            written.kept.remove(&ContentId::of(&before));
            if let Ok(bytes) = holding.file.read() {
                written.passed.insert(ContentId::of(&bytes), holding.since_us);
            }
        }
        done.is_ok()
    }

    fn close(&mut self, at: usize) -> bool {
        if at >= self.holding.len() {
            return false;
        }
        let holding = self.holding.swap_remove(at);
        if holding.wrote
            && let (Ok(bytes), Ok(stat)) = (holding.file.read(), holding.file.stat())
        {
            lock(&self.written).finished.insert(ContentId::of(&bytes));
            // Of a file that its user has deleted nothing is expected.
            if stat.nlink > 0 {
                self.finished(&bytes);
            }
        }
        true
    }

    /// All programs end.
    pub(super) fn close_all(&mut self) {
        while self.close(0) {}
    }

    /// The power was cut: what is on the disk now is what there is.
    pub(super) fn after_cut(&mut self, committed: impl Fn(ContentId) -> bool) {
        self.holding.clear();
        let mut found = Vec::new();
        contents(&self.fs, "", &mut found);
        let mut written = lock(&self.written);
        // An empty file is what a cut leaves of many.
        written.finished.insert(ContentId::of(b""));
        written.finished.extend(found.iter().copied());
        let found: BTreeSet<_> = found.into_iter().collect();
        let host = self.host;
        written
            .kept
            .retain(|content, by| *by != host || committed(*content) || found.contains(content));
    }
}

/// What all files below a directory hold.
pub(super) fn contents(fs: &FileSystem, dir: &str, found: &mut Vec<ContentId>) {
    for name in fs.names(dir).unwrap_or_default() {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match fs.stat(&path).map(|stat| stat.kind) {
            Ok(Kind::Directory) => contents(fs, &path, found),
            Ok(Kind::File) if !path.ends_with("index.redb") => {
                found.extend(fs.read(&path).ok().map(|bytes| ContentId::of(&bytes)));
            }
            _ => {}
        }
    }
}
