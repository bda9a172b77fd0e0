//! Everything that users do, how often, and what it is called.

use pickbox_store::folder::Kind;
use pickbox_store::time::Time;

use super::People;

/// A program goes on with what it began.
pub(super) const NEXT_STEP: &str = "go on with a save or a rotation";

/// Something that users do, if two paths of the folder allow it.
type Deed = fn(&mut People, &str, &str) -> Option<&'static str>;

/// How often, of the sum of all, and what.
const DEEDS: &[(usize, Deed)] = &[
    (16, |people, one, _| people.save(one).then_some("save")),
    (8, |people, one, _| people.save_beside(one).then_some("save beside and rename")),
    (6, |people, one, _| people.save_as_vim(one).then_some("save as vim does")),
    (2, |people, one, _| people.rotate_log(one).then_some("rotate a log")),
    (4, |people, one, _| people.append(one).then_some("append")),
    (3, |people, one, _| people.truncate(one).then_some("truncate")),
    (4, |people, one, _| people.overwrite(one).then_some("overwrite and keep the length")),
    (14, People::rename),
    (4, |people, one, _| {
        let link = people.taken_by(Kind::Symlink)?;
        people.rename(one, &link)
    }),
    (3, People::rename_over_empty),
    (4, |people, _, _| {
        let kind = people.random.pick(&[Kind::Directory, Kind::Directory, Kind::Symlink])?;
        let (from, to) = (people.taken_by(kind)?, people.path());
        people.rename(&from, &to)
    }),
    (8, People::exchange),
    (3, |people, _, _| {
        let (one, two) = (people.taken_by(Kind::Directory)?, people.taken_by(Kind::Directory)?);
        people.exchange(&one, &two)
    }),
    (4, |people, one, two| {
        let three = people.taken();
        people.rotate_names(one, two, &three).then_some("rotate three names")
    }),
    (5, |people, one, _| people.delete(one)),
    (14, |people, _, _| {
        let path = people.path();
        people.fs.make_dir(&path).is_ok().then_some("make a directory")
    }),
    (6, |people, _, _| {
        let path = people.path();
        people.make_tree(&path).then_some("make a tree with a file")
    }),
    (8, |people, one, _| {
        let path = people.path();
        people.fs.symlink(one, &path).is_ok().then_some("make a link")
    }),
    (5, People::replace_kind),
    (4, |people, _, two| {
        let link = people.taken_by(Kind::Symlink)?;
        people.replace_kind(&link, two)
    }),
    (4, |people, one, _| people.change_mode(one)),
    (6, |people, one, _| people.attach(one)),
    (2, |people, one, _| people.touch(one).then_some("set the time")),
    (4, |people, _, two| {
        let file = people.taken_by(Kind::File)?;
        people.fs.hard_link(&file, two).is_ok().then_some("give another name")
    }),
    (2, |people, _, _| {
        let path = people.path();
        people.fs.make_pipe(&path).is_ok().then_some("make a pipe")
    }),
    (1, |people, one, _| people.burst(one).then_some("make many files at once")),
    (8, |people, one, _| people.open(one)),
    (12, |people, _, _| people.go_on()),
    (4, |people, _, _| people.close(0)),
    (2, |people, _, _| people.take_off()),
];

/// What all that is called. A run counts nothing else of what users do.
pub(in crate::folders) const KINDS: &[&str] = &[
    NEXT_STEP,
    "append",
    "attach something",
    "change the mode of a directory",
    "change the mode of a file",
    "close",
    "close what was long open",
    "cut what is open",
    "delete a directory and all in it",
    "delete a file",
    "delete a link",
    "exchange a file and a directory",
    "exchange two directories",
    "exchange two files",
    "exchange with a link",
    "give another name",
    "make a directory",
    "make a link",
    "make a pipe",
    "make a tree with a file",
    "make many files at once",
    "open",
    "overwrite and keep the length",
    "put a directory for a file",
    "put a directory for a link",
    "put a file for a directory",
    "put a file for a link",
    "put a link for a directory",
    "put a link for a file",
    "rename a directory",
    "rename a directory over an empty one",
    "rename a file",
    "rename a file over another",
    "rename a link",
    "rename over a link",
    "rotate a log",
    "rotate three names",
    "save",
    "save as vim does",
    "save beside and rename",
    "set the time",
    "store through a mapping",
    "take something off",
    "truncate",
    "write to what is open",
    "write to what was removed",
];

/// Files that are made at once: as many as some queues of events hold, or more.
const MANY: &[usize] = &[6, 20, 70];

impl People {
    /// Draws one thing, and does it; what it was, if it could be done.
    pub(super) fn draw(&mut self, one: &str, two: &str) -> Option<&'static str> {
        let sum = DEEDS.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.below(sum);
        for (weight, deed) in DEEDS {
            if drawn < *weight {
                return deed(self, one, two);
            }
            drawn -= weight;
        }
        None
    }

    fn rename(&mut self, from: &str, to: &str) -> Option<&'static str> {
        use Kind::{Directory, File, Symlink};
        let kinds = (self.kind(from)?, self.kind(to));
        self.rename_over(from, to).then_some(match kinds {
            (File, Some(File)) => "rename a file over another",
            (Directory, Some(Directory)) => "rename a directory over an empty one",
            (_, Some(Symlink)) => "rename over a link",
            (Directory, _) => "rename a directory",
            (Symlink, _) => "rename a link",
            _ => "rename a file",
        })
    }

    /// A directory takes the name of an empty one, which goes.
    fn rename_over_empty(&mut self, _: &str, _: &str) -> Option<&'static str> {
        let one = self.taken_by(Kind::Directory)?;
        let two = self.taken_by(Kind::Directory)?;
        let is_empty = self.fs.names(&two).is_ok_and(|names| names.is_empty());
        if !is_empty {
            return None;
        }
        self.rename(&one, &two)
    }

    fn exchange(&mut self, one: &str, two: &str) -> Option<&'static str> {
        use Kind::{Directory, File, Symlink};
        let kinds = (self.kind(one)?, self.kind(two)?);
        let done = one != two && self.fs.exchange(one, two).is_ok();
        done.then_some(match kinds {
            (Directory, Directory) => "exchange two directories",
            (Symlink, _) | (_, Symlink) => "exchange with a link",
            (File, Directory) | (Directory, File) => "exchange a file and a directory",
            _ => "exchange two files",
        })
    }

    fn delete(&mut self, path: &str) -> Option<&'static str> {
        let kind = self.kind(path)?;
        self.end(path);
        self.remove(path).then_some(match kind {
            Kind::Directory => "delete a directory and all in it",
            Kind::Symlink => "delete a link",
            _ => "delete a file",
        })
    }

    fn remove(&self, path: &str) -> bool {
        if self.kind(path) != Some(Kind::Directory) {
            return self.fs.unlink(path).is_ok();
        }
        for name in self.fs.names(path).unwrap_or_default() {
            self.remove(&format!("{path}/{name}"));
        }
        self.fs.remove_dir(path).is_ok()
    }

    /// Trap T13: another kind of thing at the same name.
    fn replace_kind(&mut self, path: &str, other: &str) -> Option<&'static str> {
        use Kind::{Directory, File, Symlink};
        let (was, what) = (self.kind(path)?, self.random.below(3));
        self.delete(path)?;
        let done = match what {
            0 => self.save(path),
            1 => self.fs.make_dir(path).is_ok() && self.save(&format!("{path}/a")),
            _ => self.fs.symlink(other, path).is_ok(),
        };
        let kind = match (was, what) {
            (Directory, 0) => "put a file for a directory",
            (Symlink, 0) => "put a file for a link",
            (File, 1) => "put a directory for a file",
            (Symlink, 1) => "put a directory for a link",
            (File, 2) => "put a link for a file",
            (Directory, 2) => "put a link for a directory",
            // The same kind: made anew.
            (Directory, _) => "make a directory",
            (Symlink, _) => "make a link",
            _ => "save",
        };
        done.then_some(kind)
    }

    fn change_mode(&mut self, path: &str) -> Option<&'static str> {
        let mode = self.random.pick(&[0o755, 0o700, 0o750])?;
        let kind = self.kind(path)?;
        self.fs.set_mode(path, mode).ok()?;
        Some(match kind {
            Kind::Directory => "change the mode of a directory",
            _ => "change the mode of a file",
        })
    }

    /// Trap T14: attributes of users come and go, and nothing else changes.
    fn attach(&mut self, path: &str) -> Option<&'static str> {
        if !matches!(self.kind(path)?, Kind::File | Kind::Directory) {
            return None;
        }
        let name = self.random.pick(&["user.one", "user.two"])?;
        let value = [u8::try_from(self.random.below(250)).ok()?];
        self.fs.set_attribute(path, name, &value).ok().map(|()| "attach something")
    }

    fn take_off(&mut self) -> Option<&'static str> {
        let mut all = Vec::new();
        self.all("folder", &mut all);
        let has_any = |path: &String| self.fs.attributes(path).is_ok_and(|all| !all.is_empty());
        let path = all.into_iter().find(has_any)?;
        let name = self.fs.attributes(&path).ok()?.into_iter().next()?.0;
        self.fs.remove_attribute(&path, &name).ok().map(|()| "take something off")
    }

    fn touch(&mut self, path: &str) -> bool {
        let secs = 1_600_000_000 + i64::try_from(self.random.below(1000)).unwrap_or(0);
        self.kind(path) == Some(Kind::File)
            && self.fs.set_mtime(path, Time { secs, nanos: 0 }).is_ok()
    }

    /// Trap T2: as `mkdir -p a/b/c && echo >a/b/c/d`.
    fn make_tree(&mut self, path: &str) -> bool {
        let (one, two) = (format!("{path}/a"), format!("{path}/a/b"));
        self.fs.make_dir(path).is_ok()
            && self.fs.make_dir(&one).is_ok()
            && self.fs.make_dir(&two).is_ok()
            && self.save(&format!("{two}/c"))
    }

    /// Trap T1: more events than a queue holds, if nobody reads it meanwhile.
    fn burst(&mut self, path: &str) -> bool {
        let count = self.random.pick(MANY).unwrap_or(0);
        if self.kind(path).is_some_and(|kind| kind != Kind::Directory) {
            return false;
        }
        let _ = self.fs.make_dir(path);
        let mut done = false;
        for number in 0..count {
            done |= self.save(&format!("{path}/m{number}"));
        }
        done
    }

    pub(super) fn remove_pipes(&self, dir: &str) {
        for name in self.fs.names(dir).unwrap_or_default() {
            let path = format!("{dir}/{name}");
            match self.kind(&path) {
                Some(Kind::Directory) => self.remove_pipes(&path),
                Some(Kind::Special) => drop(self.fs.unlink(&path)),
                _ => {}
            }
        }
    }
}
