//! Users of one simulated folder, and what may be expected of what they wrote.

mod deeds;
mod open;
mod saves;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pickbox_store::content_id::ContentId;
use pickbox_store::folder::Kind;
use pickbox_store::folder::simulated::FileSystem;
use pickbox_store::folder::simulated::user::Open;

use super::tally::Tally;
use crate::sim::Random;

pub(super) use deeds::KINDS;

/// Small enough a world that everything collides.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Descriptors that programs keep open.
const OPEN_MAX: usize = 3;
/// Of a thousand paths, so many are taken from what is there.
const TAKEN: u64 = 500;
/// Paths among which one is drawn.
const ALL_MAX: usize = 64;
/// A file that is open for longer may be taken as it is (`max_defer`, 30 s).
const HOT_US: u64 = 20_000_000;

/// A file that a program has open.
#[derive(Debug)]
struct Holding {
    file: Open,
    since_us: u64,
    wrote: bool,
}

/// What a program still has to do of something that takes it several calls: the daemon works in between.
#[derive(Debug)]
enum Step {
    Rename {
        from: String,
        to: String,
    },
    /// The same; what cannot be renamed is removed.
    RenameOrRemove {
        from: String,
        to: String,
    },
    Save(String),
    Unlink(String),
}

/// What is known of all contents, on whatever host.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// What programs finished: only such a thing may be committed.
    pub(super) finished: BTreeSet<ContentId>,
    /// What they passed through on the way, and since when they had the file open.
    pub(super) passed: BTreeMap<ContentId, u64>,
    /// What must not be lost: on which host it was written, and how it begins.
    pub(super) kept: BTreeMap<ContentId, (usize, String)>,
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
    steps: VecDeque<Step>,
    pub(super) tally: Tally,
    pub(super) now_us: u64,
    pub(super) deeds: u64,
    pub(super) story: Vec<String>,
}

impl People {
    pub(super) fn new(host: usize, fs: FileSystem, seed: u64, written: Shared<Written>) -> Self {
        Self {
            host,
            fs,
            random: Random::new(seed),
            written,
            holding: Vec::new(),
            steps: VecDeque::new(),
            tally: Tally::default(),
            now_us: 0,
            deeds: 0,
            story: Vec::new(),
        }
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.random.below(3);
        let names: Vec<_> = (0..depth).filter_map(|_| self.random.pick(&NAMES)).collect();
        format!("folder/{}", names.join("/"))
    }

    /// A path at which something stands, more often than not.
    fn taken(&mut self) -> String {
        let mut all = Vec::new();
        if self.random.per_mille(TAKEN) {
            self.all("folder", &mut all);
        }
        match self.random.below(all.len().max(1)) {
            at if at < all.len() => all.swap_remove(at),
            _ => self.path(),
        }
    }

    /// A path at which a thing of this kind stands, if there is one.
    fn taken_by(&mut self, kind: Kind) -> Option<String> {
        let mut all = Vec::new();
        self.all("folder", &mut all);
        all.retain(|path| self.kind(path) == Some(kind));
        let at = self.random.below(all.len().max(1));
        (at < all.len()).then(|| all.swap_remove(at))
    }

    /// All paths below a directory but passing names.
    fn all(&self, dir: &str, found: &mut Vec<String>) {
        for name in self.fs.names(dir).unwrap_or_default() {
            if found.len() >= ALL_MAX || name.starts_with('.') {
                continue;
            }
            let path = format!("{dir}/{name}");
            if self.kind(&path) == Some(Kind::Directory) {
                self.all(&path, found);
            }
            found.push(path);
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let mut written = lock(&self.written);
        written.count += 1;
        let count = written.count;
        drop(written);
        // No two large ones of one length: that size and time of one stay is an exception to P2.
        let length = 40_000 + usize::try_from(count).unwrap_or(0);
        let large = if self.random.per_mille(60) { "x".repeat(length) } else { String::new() };
        format!("{count} of host {} {large}", self.host).into_bytes()
    }

    /// A program finished a content; it must not be lost.
    fn finished(&mut self, bytes: &[u8]) {
        let content = ContentId::of(bytes);
        self.story.push(format!("  finished: {content}"));
        let mut written = lock(&self.written);
        written.finished.insert(content);
        let begin: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
        written.kept.insert(content, (self.host, begin));
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

    fn kind(&self, path: &str) -> Option<Kind> {
        self.fs.stat(path).ok().map(|stat| stat.kind)
    }

    /// One thing that a user does; failing is part of life.
    pub(super) fn act(&mut self) {
        self.deeds += 1;
        let done = if !self.steps.is_empty() && self.random.per_mille(300) {
            self.next_step().then_some(deeds::NEXT_STEP)
        } else {
            let (one, two) = (self.taken(), self.taken());
            let done = self.draw(&one, &two);
            if let Some(kind) = done {
                self.story.push(format!("host {} user: {kind} {one} {two}", self.host));
            }
            done
        };
        if let Some(kind) = done {
            self.tally.note(kind);
        }
    }

    /// All programs end, and what nobody can place anything over goes.
    pub(super) fn close_all(&mut self) {
        self.finish_steps();
        while self.close(0).is_some() {}
        self.remove_pipes("folder");
    }

    /// The power was cut: what is on the disk now is what there is.
    pub(super) fn after_cut(&mut self, committed: impl Fn(ContentId) -> bool) {
        self.holding.clear();
        self.steps.clear();
        let mut found = Vec::new();
        contents(&self.fs, "", &mut found);
        let mut written = lock(&self.written);
        // An empty file is what a cut leaves of many.
        written.finished.insert(ContentId::of(b""));
        written.finished.extend(found.iter().copied());
        let found: BTreeSet<_> = found.into_iter().collect();
        let host = self.host;
        written.kept.retain(|content, (by, _)| {
            *by != host || committed(*content) || found.contains(content)
        });
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
