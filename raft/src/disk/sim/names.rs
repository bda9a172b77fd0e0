//! The names of a simulated disk: as seen, as durable, and the changes between the two.

use std::collections::BTreeMap;
use std::io;

use super::{Keep, Random};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, Node),
    Remove(String),
    Rename { from: String, to: String, file: u64 },
}

impl Change {
    /// The directories whose sync makes it durable; a rename needs that of its target.
    fn directory(&self) -> &str {
        match self {
            Self::Add(path, _) | Self::Remove(path) | Self::Rename { to: path, .. } => parent(path),
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), Node::File(*file));
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    pending: Vec<Change>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<u64> {
        match self.now.get(path) {
            Some(Node::File(id)) => Some(*id),
            Some(Node::Directory) | None => None,
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.now.values().filter_map(|node| match node {
            Node::File(id) => Some(*id),
            Node::Directory => None,
        })
    }

    fn check_directory(&self, path: &str) -> io::Result<()> {
        if path.is_empty() || self.now.get(path) == Some(&Node::Directory) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    pub(super) fn create(&mut self, path: &str, id: u64) -> io::Result<()> {
        self.check_directory(parent(path))?;
        if self.now.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Add(path.to_owned(), Node::File(id)));
        Ok(())
    }

    pub(super) fn make_dir(&mut self, path: &str) -> io::Result<()> {
        self.check_directory(parent(path))?;
        if self.now.get(path) != Some(&Node::Directory) {
            self.change(Change::Add(path.to_owned(), Node::Directory));
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.check_directory(path)?;
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let names = self.now.keys().filter_map(|key| key.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.check_directory(parent(to))?;
        let file = self.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        self.get(path).ok_or(io::ErrorKind::NotFound)?;
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn sync(&mut self, directory: &str) -> io::Result<()> {
        self.check_directory(directory)?;
        for change in std::mem::take(&mut self.pending) {
            if change.directory() == directory {
                change.apply(&mut self.durable);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, keep: Keep, random: &mut Random) {
        for change in std::mem::take(&mut self.pending) {
            let kept = match keep {
                Keep::Nothing => false,
                Keep::Everything => {
                    self.pending.push(change);
                    continue;
                }
                Keep::Any(_) => random.below(2) == 0,
            };
            if kept {
                change.apply(&mut self.durable);
            }
        }
        if keep != Keep::Everything {
            self.now.clone_from(&self.durable);
            self.drop_orphans();
        }
    }

    /// Names in a directory that was lost are lost.
    fn drop_orphans(&mut self) {
        let names = self.now.clone();
        let lives = |path: &str| {
            let directory = parent(path);
            directory.is_empty() || names.get(directory) == Some(&Node::Directory)
        };
        self.now.retain(|path, _| lives(path));
        self.durable.clone_from(&self.now);
    }

    pub(super) fn plant(&mut self, path: &str, id: u64) {
        let change = Change::Add(path.to_owned(), Node::File(id));
        change.apply(&mut self.now);
        change.apply(&mut self.durable);
    }

    pub(super) fn lose(&mut self, path: &str) -> bool {
        self.durable.remove(path);
        self.now.remove(path).is_some()
    }
}
