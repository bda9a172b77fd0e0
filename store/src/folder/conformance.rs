//! The same operations on a real file system and on the simulated one: every answer must be equal.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{Seek, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt;

use super::simulated::{FileSystem, user};
use super::*;
use crate::time::Time;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const STEPS: u64 = 300;

/// splitmix64 (Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.roll(NAMES.len())]
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.roll(3);
        let path = (0..depth).map(|_| self.name()).collect::<Vec<_>>().join("/");
        if self.roll(3) == 0 { format!("staging/{path}") } else { format!("folder/{path}") }
    }
}

/// Two of a thing: of the real file system, and of the simulated one.
struct Pair<T>(T, T);

struct Both {
    dice: Dice,
    temp: tempfile::TempDir,
    fs: FileSystem,
    roots: [Pair<Folder>; 2],
    /// Directories that stay open, wherever they are by now.
    dirs: Vec<Pair<Dir>>,
    files: Vec<(std::fs::File, user::Open)>,
    reading: Vec<Pair<File>>,
    /// Which real inode is which simulated one, and how it was looked at last.
    known: HashMap<(u64, Time), (u64, Time)>,
    looked: HashMap<(u64, Time), Pair<Stat>>,
    story: String,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Both {
    fn new(seed: u64) -> Self {
        let (temp, fs) = (tempfile::tempdir().unwrap(), FileSystem::new());
        let roots = ["folder", "staging"].map(|name| {
            std::fs::create_dir(temp.path().join(name)).unwrap();
            fs.make_dir(name).unwrap();
            Pair(Folder::open(&temp.path().join(name)).unwrap(), fs.folder(name).unwrap())
        });
        let (known, looked) = (HashMap::new(), HashMap::new());
        let (dirs, files, reading) = (Vec::new(), Vec::new(), Vec::new());
        let story = format!("seed {seed}\n");
        Self { dice: Dice(seed), temp, fs, roots, dirs, files, reading, known, looked, story }
    }

    fn told(&mut self, what: &str) {
        writeln!(self.story, "{what}").unwrap();
    }

    #[track_caller]
    fn same<T: std::fmt::Debug + PartialEq>(&self, real: &T, simulated: &T) {
        assert!(real == simulated, "{}real {real:?}\nsimulated {simulated:?}", self.story);
    }

    /// Two looks at what should be one thing.
    #[track_caller]
    fn same_stat(&mut self, real: &Stat, simulated: &Stat) {
        let shown = |stat: &Stat| {
            let is_dir = stat.kind == Kind::Directory;
            let size = if is_dir { 0 } else { stat.size };
            // What a directory counts differs from file system to file system.
            let nlink = if is_dir { u32::from(stat.nlink > 0) } else { stat.nlink };
            (stat.kind, size, stat.mode, nlink)
        };
        self.same(&shown(real), &shown(simulated));
        let (own, other) = ((real.ino, real.btime), (simulated.ino, simulated.btime));
        let known = *self.known.entry(own).or_insert(other);
        self.same(&known, &other);
        if let Some(Pair(before, simulated_before)) = self.looked.get(&own) {
            // The real stamps may be coarse; where they moved, the simulated ones must have.
            let moved =
                |now: &Stat, before: &Stat| (now.mtime != before.mtime, now.ctime != before.ctime);
            let (real_moved, moved) = (moved(real, before), moved(simulated, simulated_before));
            let missed = (real_moved.0 && !moved.0) || (real_moved.1 && !moved.1);
            assert!(!missed, "{}real moved {real_moved:?}, simulated {moved:?}", self.story);
        }
        self.looked.insert(own, Pair(*real, *simulated));
    }

    #[track_caller]
    fn same_result<T>(&mut self, real: Result<T>, simulated: Result<T>) -> Option<Pair<T>> {
        match (real, simulated) {
            (Ok(real), Ok(simulated)) => Some(Pair(real, simulated)),
            (Err(real), Err(simulated)) => {
                self.same(&real, &simulated);
                None
            }
            (real, simulated) => panic!(
                "{}real {:?}\nsimulated {:?}",
                self.story,
                real.map(|_| "done"),
                simulated.map(|_| "done")
            ),
        }
    }

    /// A directory, by its path anew or an old descriptor of it.
    fn dir(&mut self) -> Option<Pair<Dir>> {
        if self.dice.roll(3) == 0 && !self.dirs.is_empty() {
            let at = self.dice.roll(self.dirs.len());
            let Pair(real, simulated) = &self.dirs[at];
            return Some(Pair(real.reopen().unwrap(), simulated.reopen().unwrap()));
        }
        let root = self.dice.roll(2);
        let depth = self.dice.roll(3);
        let path = (0..depth).map(|_| self.dice.name()).collect::<Vec<_>>().join("/");
        let path = RelPath::new(path.as_bytes()).unwrap();
        let Pair(real, simulated) = &self.roots[root];
        let (real, simulated) = (real.dir(&path), simulated.dir(&path));
        self.told(&format!("  dir {root} {path}"));
        let found = self.same_result(real, simulated)?;
        if self.dice.roll(4) == 0 && self.dirs.len() < 5 {
            self.dirs.push(Pair(found.0.reopen().unwrap(), found.1.reopen().unwrap()));
        }
        Some(found)
    }

    /// The daemon does something.
    fn door(&mut self) {
        let Some(Pair(real, simulated)) = self.dir() else { return };
        let (one, two) = (name(self.dice.name()), name(self.dice.name()));
        let what = self.dice.roll(16);
        self.told(&format!("door {what} {} {one} {two}", real.path()));
        let mtime = Time { secs: 1_000_000_000, nanos: 5 };
        let bits = [0o600, 0o644, 0o755, 0o7755][self.dice.roll(4)];
        let properties = Properties { mode: bits, mtime, owner: None };
        match what {
            0 | 1 => self.stat(&real, &simulated, &one),
            2 => {
                let text = format!("bytes {}", self.dice.roll(100));
                let xattrs = crate::xattr::Xattrs::NONE;
                let new = NewFile { bytes: text.as_bytes(), properties, xattrs };
                let (made, other) = (real.write_new(&one, new), simulated.write_new(&one, new));
                if let Some(Pair(made, other)) = self.same_result(made, other) {
                    self.same(&made.mtime, &other.mtime);
                    self.same_stat(&made, &other);
                }
            }
            3 => {
                let made = (real.mkdir(&one, bits), simulated.mkdir(&one, bits));
                self.same_result(made.0, made.1);
            }
            4 => {
                let made = (real.symlink(&one, b"no/where"), simulated.symlink(&one, b"no/where"));
                self.same_result(made.0, made.1);
            }
            5 | 6 => {
                let Some(Pair(to, to_simulated)) = self.dir() else { return };
                let (real, other) = if what == 5 {
                    let real = real.rename_no_replace(&one, &to, &two);
                    (real, simulated.rename_no_replace(&one, &to_simulated, &two))
                } else {
                    let real = real.exchange(&one, &to, &two);
                    (real, simulated.exchange(&one, &to_simulated, &two))
                };
                self.same_result(real, other);
            }
            _ => self.look(what, &Pair(real, simulated), &one, properties),
        }
    }

    /// What changes no name, and removals.
    fn look(&mut self, what: usize, dirs: &Pair<Dir>, one: &Name, properties: Properties) {
        let Pair(real, simulated) = dirs;
        match what {
            7 => {
                let gone = (real.unlink(one), simulated.unlink(one));
                self.same_result(gone.0, gone.1);
            }
            8 => {
                let gone = (real.rmdir(one), simulated.rmdir(one));
                self.same_result(gone.0, gone.1);
            }
            9 => {
                let found = (real.read_small(one, 12), simulated.read_small(one, 12));
                if let Some(Pair(real, other)) = self.same_result(found.0, found.1) {
                    self.same_stat(&real.0, &other.0);
                    self.same(&real.1, &other.1);
                }
            }
            10 => {
                let found = (real.read_link(one), simulated.read_link(one));
                if let Some(Pair(real, other)) = self.same_result(found.0, found.1) {
                    self.same(&real.1, &other.1);
                }
            }
            11 => {
                let listed = (listed(real), listed(simulated));
                if let Some(Pair(real, other)) = self.same_result(listed.0, listed.1) {
                    self.same(&real, &other);
                }
            }
            12 => {
                let seen = (real.stat(one), simulated.stat(one));
                let Some(Pair(seen, other)) = self.same_result(seen.0, seen.1) else { return };
                let attached = real.attach(one, &seen, properties);
                let attached = (attached, simulated.attach(one, &other, properties));
                if let Some(Pair(real, other)) = self.same_result(attached.0, attached.1) {
                    self.same_stat(&real, &other);
                }
            }
            13 => {
                let seen = (real.stat_self(), simulated.stat_self());
                if let Some(Pair(real, other)) = self.same_result(seen.0, seen.1) {
                    self.same_stat(&real, &other);
                }
            }
            14 => {
                let marked =
                    (real.set_mark(&one.to_string()), simulated.set_mark(&one.to_string()));
                self.same_result(marked.0, marked.1);
                self.same(&real.mark(), &simulated.mark());
            }
            _ => {
                let opened = (real.open_read(one), simulated.open_read(one));
                if let Some(files) = self.same_result(opened.0, opened.1) {
                    self.reading.push(files);
                }
            }
        }
    }

    fn stat(&mut self, real: &Dir, simulated: &Dir, at: &Name) {
        let seen = (real.stat(at), simulated.stat(at));
        if let Some(Pair(real, other)) = self.same_result(seen.0, seen.1) {
            self.same_stat(&real, &other);
        }
    }

    /// A user does something; why it failed is not compared.
    fn user(&mut self) {
        let (one, two) = (self.dice.path(), self.dice.path());
        let (from, to) = (self.temp.path().join(&one), self.temp.path().join(&two));
        let what = self.dice.roll(12);
        let text = format!("text {}", self.dice.roll(1000));
        let rights: u16 = [0o600, 0o700, 0o644][self.dice.roll(3)];
        self.told(&format!("user {what} {one} {two}"));
        let fs = self.fs.clone();
        // A program that opens a pipe waits for the other end.
        let is_pipe = fs.stat(&one).is_ok_and(|stat| stat.kind == Kind::Special);
        let done = match what {
            0 | 1 | 9 if is_pipe => return,
            0 | 1 => {
                (std::fs::write(&from, &text).is_ok(), fs.write(&one, text.as_bytes()).is_ok())
            }
            2 => (std::fs::create_dir(&from).is_ok(), fs.make_dir(&one).is_ok()),
            3 => (std::fs::remove_dir(&from).is_ok(), fs.remove_dir(&one).is_ok()),
            4 => (std::fs::remove_file(&from).is_ok(), fs.unlink(&one).is_ok()),
            5 => (std::fs::rename(&from, &to).is_ok(), fs.rename(&one, &two).is_ok()),
            6 => {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                let real = rustix::fs::renameat_with(cwd, &from, cwd, &to, exchange);
                (real.is_ok(), fs.exchange(&one, &two).is_ok())
            }
            7 => (std::fs::hard_link(&from, &to).is_ok(), fs.hard_link(&one, &two).is_ok()),
            8 => {
                let bits = u32::from(rights);
                let real = std::fs::set_permissions(&from, PermissionsExt::from_mode(bits));
                (real.is_ok(), fs.set_mode(&one, rights).is_ok())
            }
            9 => {
                let real = std::fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&from);
                let simulated = fs.open(&one);
                let done = (real.is_ok(), simulated.is_ok());
                if let (Ok(real), Ok(simulated)) = (real, simulated) {
                    self.files.push((real, simulated));
                }
                done
            }
            10 => {
                let (fifo, cwd) = (rustix::fs::FileType::Fifo, rustix::fs::CWD);
                let real = rustix::fs::mknodat(cwd, &from, fifo, rustix::fs::Mode::RWXU, 0);
                let made = fs.make_pipe(&one);
                if made.is_ok() {
                    fs.set_mode(&one, 0o700).unwrap();
                    std::fs::set_permissions(&from, PermissionsExt::from_mode(0o700)).unwrap();
                }
                (real.is_ok(), made.is_ok())
            }
            _ => {
                let target = "no/where";
                let real = std::os::unix::fs::symlink(target, &from);
                (real.is_ok(), fs.symlink(target, &one).is_ok())
            }
        };
        self.same(&done.0, &done.1);
        // Neither umask nor what is made by default is compared.
        if done.1 && what < 3 && fs.stat(&one).is_ok_and(|stat| stat.kind != Kind::Symlink) {
            std::fs::set_permissions(&from, PermissionsExt::from_mode(0o755)).unwrap();
            fs.set_mode(&one, 0o755).unwrap();
        }
        if done.1 && what == 9 {
            std::fs::set_permissions(&from, PermissionsExt::from_mode(0o644)).unwrap();
            fs.set_mode(&one, 0o644).unwrap();
        }
    }

    /// A program goes on with what it has open; or the daemon reads what it has.
    fn go_on(&mut self) {
        if !self.reading.is_empty() {
            let at = self.dice.roll(self.reading.len());
            let Pair(real, simulated) = self.reading.swap_remove(at);
            let bytes = |file: &File| file.read_up_to(100).unwrap();
            self.same(&bytes(&real), &bytes(&simulated));
            self.same(&real.lease(), &simulated.lease());
            let (real, simulated) = (real.stat().unwrap(), simulated.stat().unwrap());
            self.same_stat(&real, &simulated);
        }
        if self.files.is_empty() {
            return;
        }
        let at = self.dice.roll(self.files.len());
        let what = self.dice.roll(4);
        self.told(&format!("open file {at} {what}"));
        let (real, simulated) = &mut self.files[at];
        match what {
            0 => {
                real.seek(SeekFrom::End(0)).unwrap();
                real.write_all(b"more").unwrap();
                simulated.append(b"more").unwrap();
            }
            1 => {
                real.set_len(3).unwrap();
                simulated.truncate(3).unwrap();
            }
            2 => {
                let stat = simulated.stat().unwrap();
                assert_eq!(real.metadata().unwrap().len(), stat.size);
            }
            _ => drop(self.files.swap_remove(at)),
        }
    }

    /// All names with what they stand for.
    fn trees(&mut self) {
        for root in ["folder", "staging"] {
            let (mut real, mut simulated) = (BTreeMap::new(), BTreeMap::new());
            real_tree(&self.temp.path().join(root), root, &mut real);
            simulated_tree(&self.fs, root, &mut simulated);
            self.same(&real, &simulated);
        }
    }

    fn run(seed: u64) {
        crate::lease::ignore_sigio().unwrap();
        let mut both = Self::new(seed);
        for _ in 0..STEPS {
            match both.dice.roll(5) {
                0 | 1 => both.door(),
                2 | 3 => both.user(),
                _ => both.go_on(),
            }
        }
        both.trees();
    }
}

fn listed(dir: &Dir) -> Result<BTreeMap<Name, Option<Kind>>> {
    dir.list()?.map(|entry| entry.map(|entry| (entry.name, entry.kind))).collect()
}

fn real_tree(dir: &Path, prefix: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            real_tree(&entry.path(), &path, found);
        }
        let bytes = kind.is_file().then(|| std::fs::read(entry.path()).unwrap());
        found.insert(path, bytes);
    }
}

fn simulated_tree(fs: &FileSystem, dir: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for name in fs.names(dir).unwrap() {
        let path = format!("{dir}/{name}");
        let kind = fs.stat(&path).unwrap().kind;
        if kind == Kind::Directory {
            simulated_tree(fs, &path, found);
        }
        let bytes = (kind == Kind::File).then(|| fs.read(&path).unwrap());
        found.insert(path, bytes);
    }
}

/// What the simulator believes of Linux is what Linux does.
#[test]
fn the_simulated_file_system_answers_as_the_real_one() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        return Both::run(seed);
    }
    for seed in 0..number("SEEDS").unwrap_or(100) {
        Both::run(seed);
    }
}
