//! Random users on three hosts, with every step of the machinery taken in a random order: looks,
//! commits, deliveries, kills. In the end the folders are equal and no content is gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::fleet::{Fleet, Way, rel};
use crate::content_id::ContentId;
use crate::ignored::IGNORE_FILE;

/// Small enough a world that everything collides.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const STEPS: u64 = 120;

/// splitmix64 (Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.roll(u64::try_from(len).unwrap())).unwrap()
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.index(3);
        (0..depth).map(|_| NAMES[self.index(NAMES.len())]).collect::<Vec<_>>().join("/")
    }
}

/// What befalls the hosts beside kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// States are lost, and their nodes are admitted anew.
    Readmissions,
    /// Users change what is ignored.
    Rules,
}

struct World {
    fleet: Fleet,
    trouble: Trouble,
    dice: Dice,
    /// Contents that a user wrote and no user on the same host overwrote or deleted.
    kept: BTreeSet<ContentId>,
    written: u64,
    /// Files that a program has open for writing, on whatever host.
    open: Vec<fs::File>,
    story: Vec<String>,
}

impl World {
    /// A user is about to end what is at a path of a host.
    fn end(&mut self, path: &Path) {
        let Ok(meta) = path.symlink_metadata() else { return };
        if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.end(&entry.unwrap().path());
            }
        } else if meta.is_file() {
            self.kept.remove(&ContentId::of(&fs::read(path).unwrap()));
        }
    }

    fn text(&mut self, at: usize) -> String {
        self.written += 1;
        let large = if self.dice.roll(12) == 0 { "x".repeat(40_000) } else { String::new() };
        format!("host {at} text {} {large}", self.written)
    }

    /// One thing that a user does; failing is part of life.
    fn act(&mut self, at: usize) {
        let (one, two) = (self.dice.path(), self.dice.path());
        let (from, to) = (self.fleet.hosts[at].path(&one), self.fleet.hosts[at].path(&two));
        if self.trouble == Trouble::Rules && self.dice.roll(5) == 0 {
            return self.change_rules(at);
        }
        let what = self.dice.roll(13);
        let done = match what {
            0..=3 => self.save(at, &from),
            4 => {
                self.end(&to);
                let same = from == to || to.starts_with(&from);
                !same
                    && from.exists()
                    && {
                        self.forget_clobbered(&to);
                        true
                    }
                    && fs::rename(&from, &to).is_ok()
            }
            5 => {
                self.end(&from);
                if from.is_dir() && !from.is_symlink() {
                    fs::remove_dir_all(&from).is_ok()
                } else {
                    fs::remove_file(&from).is_ok()
                }
            }
            6 => fs::create_dir_all(&from).is_ok(),
            7 => symlink(&two, &from).is_ok(),
            8 => {
                let mode = if self.dice.roll(2) == 0 { 0o755 } else { 0o700 };
                !from.is_symlink()
                    && fs::set_permissions(&from, PermissionsExt::from_mode(mode)).is_ok()
            }
            9 => self.atomic_save(at, &from),
            10 => self.open(&from),
            11 => self.attach(&from),
            _ => self.late_write(at),
        };
        self.story.push(format!("host {at}: act {what} {one} {two}: {done}"));
    }

    /// Other rules, in the folder itself or further down, or none.
    fn change_rules(&mut self, at: usize) {
        let mut dir = String::new();
        for _ in 0..self.dice.index(3) {
            dir = format!("{dir}{}/", NAMES[self.dice.index(NAMES.len())]);
        }
        let path = self.fleet.hosts[at].path(&format!("{dir}{IGNORE_FILE}"));
        let lines = ["a\n", "/b\n", "c/\n", "d/a\n", "*\n!c\n", "a/**\n"];
        let count = self.dice.index(3);
        let text: String = (0..count).map(|_| lines[self.dice.index(lines.len())]).collect();
        let done = if count == 0 {
            fs::remove_file(&path).is_ok()
        } else {
            fs::write(&path, &text).is_ok()
        };
        self.story.push(format!("host {at}: rules {dir} {text:?}: {done}"));
    }

    /// What a host has where its rules ignore it.
    fn ignored_contents(&mut self, at: usize) -> BTreeSet<ContentId> {
        let mut found = BTreeSet::new();
        if !self.fleet.hosts[at].is_up() {
            return found;
        }
        for (path, what) in self.fleet.hosts[at].tree() {
            let is_dir = what.starts_with("dir");
            let engine = self.fleet.hosts[at].engine();
            let ignored = engine.ignored_here(&rel(&path), is_dir).unwrap().is_some();
            if ignored && what.starts_with("file") {
                let bytes = fs::read(self.fleet.hosts[at].path(&path)).unwrap();
                found.insert(ContentId::of(&bytes));
            }
        }
        found
    }

    /// What the machinery does takes nothing from a folder that is ignored there.
    fn machinery(&mut self, at: usize, what: u64) {
        let before = match self.trouble {
            Trouble::Rules => self.ignored_contents(at),
            _ => BTreeSet::new(),
        };
        match what {
            10..=14 => self.fleet.look(at),
            15..=17 => self.fleet.walk(at),
            18..=21 => self.fleet.commit(at),
            22..=33 => drop(self.fleet.deliver(at)),
            34..=35 => drop(self.fleet.answer_asks(at)),
            36..=37 => self.fleet.pass(at, 300),
            38 => self.fleet.checkpoint(at),
            _ => self.fleet.kill(at),
        }
        if before.is_empty() {
            return;
        }
        let folder = self.fleet.hosts[at].path("");
        let mut after = BTreeSet::new();
        contents(&folder, &mut after);
        assert!(before.is_subset(&after), "an ignored file was taken from host {at}");
    }

    fn forget_clobbered(&mut self, to: &Path) {
        self.end(to);
    }

    fn save(&mut self, at: usize, path: &Path) -> bool {
        let text = self.text(at);
        self.end(path);
        if path.is_symlink() || fs::write(path, &text).is_err() {
            return false;
        }
        self.kept.insert(ContentId::of(text.as_bytes()));
        true
    }

    fn atomic_save(&mut self, at: usize, path: &Path) -> bool {
        let text = self.text(at);
        let temporary = self.fleet.hosts[at].path(".tmp");
        fs::write(&temporary, &text).unwrap();
        if self.dice.roll(2) == 0 {
            self.fleet.look(at);
        }
        self.end(path);
        if path.is_dir() || fs::rename(&temporary, path).is_err() {
            fs::remove_file(&temporary).unwrap();
            return false;
        }
        self.kept.insert(ContentId::of(text.as_bytes()));
        true
    }

    /// Trap T14: something is attached to a file or directory, or taken from it.
    fn attach(&mut self, path: &Path) -> bool {
        let name = ["user.one", "user.two"][self.dice.index(2)];
        if path.is_symlink() {
            return false;
        }
        match self.dice.roll(3) {
            0 => rustix::fs::removexattr(path, name).is_ok(),
            value => {
                let value = [u8::try_from(value).unwrap()];
                rustix::fs::setxattr(path, name, &value, rustix::fs::XattrFlags::empty()).is_ok()
            }
        }
    }

    fn open(&mut self, path: &Path) -> bool {
        if path.is_symlink() || self.open.len() >= 4 {
            return false;
        }
        let file = fs::OpenOptions::new().read(true).append(true).open(path);
        self.open.extend(file.ok());
        true
    }

    /// Trap T11: a program goes on writing to what it opened, wherever that inode is by now.
    fn late_write(&mut self, at: usize) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let number = self.dice.index(self.open.len());
        let mut file = self.open.swap_remove(number);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        self.kept.remove(&ContentId::of(&bytes));
        let text = self.text(at);
        bytes.extend_from_slice(text.as_bytes());
        file.write_all(text.as_bytes()).unwrap();
        // Of a file that its user has deleted nothing is expected.
        if file.metadata().unwrap().nlink() > 0 {
            self.kept.insert(ContentId::of(&bytes));
        }
        true
    }

    fn step(&mut self) {
        let at = self.dice.index(3);
        if !self.fleet.hosts[at].is_up() {
            if self.dice.roll(2) == 0 {
                self.act(at);
            } else if self.trouble == Trouble::Readmissions && self.dice.roll(3) == 0 {
                let way = if self.dice.roll(2) == 0 { Way::Log } else { Way::State };
                self.story.push(format!("host {at}: admitted anew by {way:?}"));
                self.fleet.readmit(at, way);
            } else {
                self.story.push(format!("host {at}: start"));
                self.fleet.start(at);
            }
            return;
        }
        let what = self.dice.roll(40);
        if what >= 10 {
            self.story.push(format!("host {at}: machinery {what}"));
        }
        match what {
            0..=9 => self.act(at),
            what => self.machinery(at, what),
        }
    }

    /// Takes all rules away, those last that the folders have in common.
    fn end_rules(&mut self) {
        for _ in 0..8 {
            let mut any = false;
            for at in 0..3 {
                for (path, what) in self.fleet.hosts[at].tree() {
                    if path.ends_with(IGNORE_FILE) && what.starts_with("file") {
                        any = true;
                        let _ = fs::remove_file(self.fleet.hosts[at].path(&path));
                    }
                }
            }
            self.fleet.converge();
            if !any {
                return;
            }
        }
        panic!("the rules come back");
    }

    fn run(seed: u64, trouble: Trouble) {
        let mut world = Self {
            fleet: Fleet::new(3),
            trouble,
            dice: Dice(seed),
            kept: BTreeSet::new(),
            written: 0,
            open: Vec::new(),
            story: Vec::new(),
        };
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                world.step();
            }
            world.open.clear();
            for at in 0..3 {
                if !world.fleet.hosts[at].is_up() {
                    world.fleet.start(at);
                }
            }
            world.fleet.settle();
            world.fleet.converge();
            if trouble == Trouble::Rules {
                world.end_rules();
            }
            world.fleet.assert_same();
            let first = attached(&world.fleet, 0);
            for at in 1..3 {
                assert_eq!(attached(&world.fleet, at), first, "node{}", at + 1);
            }
            for content in &world.kept {
                assert!(world.fleet.find_bytes(*content).is_some(), "a content is gone: {content}");
            }
        }));
        if let Err(panic) = told {
            for line in &world.story {
                println!("{line}");
            }
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn contents(dir: &Path, found: &mut BTreeSet<ContentId>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            contents(&path, found);
        } else if meta.is_file() {
            found.insert(ContentId::of(&fs::read(&path).unwrap()));
        }
    }
}

/// What users attached to what stands in a folder.
fn attached(fleet: &Fleet, at: usize) -> Vec<(String, Vec<Option<u8>>)> {
    let read = |path: &str| {
        let path = fleet.hosts[at].path(path);
        let value = |name: &str| {
            let mut value = [0; 1];
            rustix::fs::lgetxattr(&path, name, &mut value[..]).ok().map(|_| value[0])
        };
        ["user.one", "user.two"].map(value).to_vec()
    };
    fleet.hosts[at].tree().into_keys().map(|path| (path.clone(), read(&path))).collect()
}

fn run_seeds(trouble: Trouble) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        return World::run(seed, trouble);
    }
    let first = number("FIRST").unwrap_or(0);
    for seed in first..first + number("SEEDS").unwrap_or(40) {
        World::run(seed, trouble);
    }
}

/// Faults 42-45, 52, 57 and 58, traps T3, T5, T8, T10, T11, T12, T13 and T19, in every mixture.
#[test]
fn random_users_lose_nothing_and_end_equal() {
    run_seeds(Trouble::None);
}

/// The same with states that are lost in the middle of it, and nodes admitted anew.
#[test]
fn random_readmissions_lose_nothing_and_end_equal() {
    run_seeds(Trouble::Readmissions);
}

/// The same with rules that come, change and go on every host, trap T12 among it: nothing ignored
/// is taken from any folder, and without rules all are equal.
#[test]
fn random_rules_lose_nothing_and_end_equal() {
    run_seeds(Trouble::Rules);
}
