//! What was done in the folders, and to which bytes: written down as it happens.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pickbox_raft::clock;

use super::content::{Hash, hex};

/// From here on a file that stays open may have been taken as it was. (The daemon waits for 30 s
/// after it has seen it; a program that has just been woken may measure a little less.)
const SNAPSHOT: Duration = Duration::from_secs(29);

/// A content that a program wrote and closed, or destroyed.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    /// Which of all deeds.
    pub order: u64,
    /// On which node.
    pub node: usize,
    /// What the program did.
    pub what: &'static str,
    /// Where, below the folder.
    pub path: String,
    /// Bytes of the content.
    pub size: usize,
    /// What it destroyed itself, if anything.
    pub overwrote: Option<Hash>,
}

/// Everything that is known when the writers have ended.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Contents that were closed.
    pub closed: HashMap<Hash, Vec<Deed>>,
    /// Contents that programs destroyed, by node.
    pub destroyed: HashMap<(usize, Hash), Vec<Deed>>,
    /// Contents that programs found, by node, and where.
    pub seen: HashMap<(usize, Hash), String>,
    /// States of files that were open for long: what may have been taken of them.
    pub snapshots: HashSet<Hash>,
    /// Names at which a program destroyed what it had not looked at, by node.
    pub blind: HashSet<(usize, String)>,
    /// What must not have happened.
    pub broken: Vec<String>,
    /// How often each thing was done.
    pub counts: BTreeMap<&'static str, u64>,
    /// How often it could not be done: another program, or the daemon, was first.
    pub missed: u64,
    /// Bytes of all closed contents.
    pub bytes: u64,
    deeds: u64,
}

/// The record of a run; all writers share it.
#[derive(Debug)]
pub(super) struct Book {
    began: Instant,
    pages: Mutex<Pages>,
    /// The same as lines, for people.
    lines: Mutex<BufWriter<File>>,
}

impl Book {
    pub(super) fn create(path: &Path) -> Self {
        let lines = Mutex::new(BufWriter::new(File::create(path).expect("the log of the hammer")));
        Self { began: clock::now(), pages: Mutex::default(), lines }
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no writer panicked")
    }

    /// A line in the log.
    pub(super) fn say(&self, line: impl Display) {
        let since = clock::now().duration_since(self.began).as_secs_f64();
        let wall = clock::wall().as_millis();
        let mut lines = self.lines.lock().expect("no writer panicked");
        // A full disk ends the run elsewhere.
        let _ = writeln!(lines, "{since:10.4} {wall} {line}");
    }

    /// Everything that was said is in the file.
    pub(super) fn flush(&self) {
        let _ = self.lines.lock().expect("no writer panicked").flush();
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.pages().counts.entry(what).or_default() += 1;
    }

    pub(super) fn missed(&self) {
        self.pages().missed += 1;
    }

    pub(super) fn broken(&self, what: String) {
        self.say(format!("BROKEN {what}"));
        self.pages().broken.push(what);
    }

    pub(super) fn closed(&self, hash: Hash, mut deed: Deed) {
        let old = deed.overwrote.as_ref().map_or_else(|| "-".to_owned(), hex);
        let Deed { node, what, ref path, size, .. } = deed;
        let hex = hex(&hash);
        self.say(format!("n{} closed {what} {path} {size} {hex} overwrote {old}", node + 1));
        let mut pages = self.pages();
        pages.deeds += 1;
        deed.order = pages.deeds;
        pages.bytes += u64::try_from(size).unwrap_or(0);
        pages.closed.entry(hash).or_default().push(deed);
    }

    pub(super) fn destroyed(&self, hash: Hash, mut deed: Deed) {
        let Deed { node, what, ref path, .. } = deed;
        self.say(format!("n{} destroyed {what} {path} {}", node + 1, hex(&hash)));
        let mut pages = self.pages();
        pages.deeds += 1;
        deed.order = pages.deeds;
        pages.destroyed.entry((node, hash)).or_default().push(deed);
    }

    pub(super) fn seen(&self, node: usize, hash: Hash, path: &str) {
        self.pages().seen.entry((node, hash)).or_insert_with(|| path.to_owned());
    }

    pub(super) fn blind(&self, node: usize, what: &'static str, path: &str) {
        self.say(format!("n{} blind {what} {path}", node + 1));
        self.pages().blind.insert((node, path.to_owned()));
    }

    /// A file that is open since `opened` held this until now.
    pub(super) fn was_open(&self, hash: Hash, opened: Instant) {
        if clock::now().duration_since(opened) >= SNAPSHOT {
            self.pages().snapshots.insert(hash);
        }
    }
}
