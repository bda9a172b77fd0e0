//! What git did to its own files and to its work tree: whether a deletion was git's, and git still
//! has what went (trap T20).
//!
//! By the thousand git takes away objects that a pack holds now, refs that `packed-refs` has now, and,
//! when another commit is checked out, files of the work tree. Of the last kind its index tells: git
//! removes a file and its name in the index together, and what the index names is among the objects.
//! So a file that the index named and names no more is one that git gave up and has; one that it still
//! names, or never named, was taken away by somebody else. All of it holds only while the repository
//! itself is there.
//!
//! The names are kept in memory, by their hashes: an index that is replaced is gone. A repository whose
//! index changed while the daemon was down is one of which nothing is known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Engine, Fatal};
use crate::breaker::WINDOW_MS;
use crate::content_id::ContentId;
use crate::git_index::checked_out;
use crate::name::{Name, RelPath};
use crate::placed::{LocalId, Placed};
use crate::record::Body;

/// The longest index, or list of refs, that is read; about 150,000 files.
const READ_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Names of all repositories that are remembered; one that would go beyond that is not known.
const NAMES_MAX: usize = 1024 * 1024;
/// Names in a directory of packs that are looked through for a pack.
const PACKS_MAX: usize = 64;

/// The repositories whose index was seen, by the paths of their work trees.
#[derive(Debug, Default)]
pub(super) struct Repositories(BTreeMap<RelPath, Repository>);

/// What is known of one.
#[derive(Debug, Default)]
struct Repository {
    /// What its index names, by hashes.
    named: HashSet<u64>,
    /// What it named before, and when it was seen not to any more.
    given_up: HashMap<u64, u64>,
}

impl Repository {
    /// Takes in what the index names now.
    fn names(&mut self, named: HashSet<u64>, now_ms: u64) {
        let former = std::mem::replace(&mut self.named, named);
        self.given_up.extend(former.into_iter().map(|path| (path, now_ms)));
        let named = &self.named;
        self.given_up.retain(|path, at_ms| {
            !named.contains(path) && at_ms.saturating_add(WINDOW_MS) >= now_ms
        });
    }

    fn len(&self) -> usize {
        self.named.len() + self.given_up.len()
    }
}

impl Repositories {
    /// The repository in whose work tree a path is, and what git calls it there.
    fn of<'r>(&'r self, path: &RelPath) -> Option<(&'r RelPath, &'r Repository, u64)> {
        let mut top = path.clone();
        while let Some((parent, _)) = top.split() {
            top = parent;
            if let Some((top, repository)) = self.0.get_key_value(&top) {
                return Some((top, repository, hash(below(path, top))));
            }
        }
        None
    }

    fn len(&self) -> usize {
        self.0.values().map(Repository::len).sum()
    }
}

/// The bytes of a path below another.
fn below<'p>(path: &'p RelPath, top: &RelPath) -> &'p [u8] {
    let start = if top.is_root() { 0 } else { top.as_bytes().len() + 1 };
    path.as_bytes().get(start..).unwrap_or_default()
}

/// With the same keys always: what is decided by it is decided again in the same way.
fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The work tree whose index this is, if its path says so.
fn work_tree_of(path: &RelPath) -> Option<RelPath> {
    let (directory, _) = path.split().filter(|_| path.as_bytes().ends_with(b".git/index"))?;
    directory.split().filter(|(_, name)| name.as_bytes() == b".git").map(|(top, _)| top)
}

impl Engine {
    /// Something was seen at a path: if that is the index of a repository, it is read.
    pub(super) fn saw_index(&mut self, path: &RelPath) {
        if let Some(top) = work_tree_of(path) {
            self.read_index(&top);
        }
    }

    /// A directory is as it was: if it is a repository that is not known yet, its index is read.
    pub(super) fn passed_by(&mut self, directory: &RelPath) {
        if let Some((top, _)) = directory.split().filter(|(_, name)| name.as_bytes() == b".git")
            && !self.repositories.0.contains_key(&top)
        {
            self.read_index(&top);
        }
    }

    fn read_index(&mut self, top: &RelPath) {
        let repository = top.join(&Name::made(".git".to_owned()));
        let Some(bytes) = self.read_of_git(&repository, "index") else { return };
        let Some(paths) = checked_out(&bytes, hash) else {
            self.repositories.0.remove(top);
            return;
        };
        let named: HashSet<u64> = paths.into_iter().collect();
        let now = self.now_ms;
        let others = self.repositories.len();
        let known = self.repositories.0.entry(top.clone()).or_default();
        let len = others - known.len();
        known.names(named, now);
        if len + known.len() > NAMES_MAX {
            self.repositories.0.remove(top);
        }
    }

    fn read_of_git(&self, repository: &RelPath, name: &str) -> Option<Vec<u8>> {
        let directory = self.folder.dir(repository).ok()?;
        directory.read_small(&Name::made(name.to_owned()), READ_BYTES_MAX).ok()?.1
    }

    /// Reads the indexes of these work trees: what git did to them last may not have been told yet.
    pub(super) fn read_indexes_again(&mut self, tops: &BTreeSet<RelPath>) {
        for top in tops {
            self.read_index(top);
        }
    }

    /// Whether git is in the middle of changing one of these work trees.
    pub(super) fn is_git_at_work(&self, tops: &BTreeSet<RelPath>) -> bool {
        let lock = Name::made("index.lock".to_owned());
        tops.iter().any(|top| {
            let repository = self.folder.dir(&top.join(&Name::made(".git".to_owned())));
            repository.is_ok_and(|directory| directory.stat(&lock).is_ok())
        })
    }

    /// The work trees that something vanished from.
    pub(super) fn work_trees_of_fresh(&mut self) -> Result<BTreeSet<RelPath>, Fatal> {
        let mut tops = BTreeSet::new();
        if self.repositories.0.is_empty() {
            return Ok(tops);
        }
        for id in self.guard.fresh().collect::<Vec<_>>() {
            let Some(path) = self.path_of_row(id)? else { continue };
            tops.extend(self.repositories.of(&path).map(|(top, ..)| top.clone()));
        }
        Ok(tops)
    }

    /// Rows among these that vanished and whose content a repository still has.
    pub(super) fn kept_by_git(
        &mut self,
        rows: &BTreeSet<LocalId>,
    ) -> Result<BTreeSet<LocalId>, Fatal> {
        let mut kept = BTreeSet::new();
        let (mut sound, mut refs) = (BTreeMap::new(), BTreeMap::new());
        for id in rows {
            let Some(row) = self.row(*id)? else { continue };
            if self.is_packed_away(&row)? || self.is_packed_ref(&row, &mut refs)? {
                kept.insert(*id);
                continue;
            }
            if self.repositories.0.is_empty() {
                continue;
            }
            let Some(path) = self.path_of_row(*id)? else { continue };
            let Some((top, known, name)) = self.repositories.of(&path) else { continue };
            let (top, is_given_up) = (top.clone(), known.given_up.contains_key(&name));
            if !is_given_up {
                continue;
            }
            let is_sound = match sound.get(&top) {
                Some(is_sound) => *is_sound,
                None => self.is_sound(&top)?,
            };
            sound.insert(top, is_sound);
            if is_sound {
                kept.insert(*id);
            }
        }
        Ok(kept)
    }

    /// Whether the repository of a work tree is there: what makes it one (gitrepository-layout(5)).
    fn is_sound(&mut self, top: &RelPath) -> Result<bool, Fatal> {
        let repository = top.join(&Name::made(".git".to_owned()));
        for name in ["index", "HEAD", "objects", "refs"] {
            let path = repository.join(&Name::made(name.to_owned()));
            let Some(id) = self.resolve_local(&path)? else { return Ok(false) };
            if self.row(id)?.is_none_or(|row| row.seen.is_none()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it was an object of a repository that has a pack: `git gc` moves objects into packs by
    /// the thousand, and takes away what it moved. Who removes the repository removes the packs too.
    fn is_packed_away(&mut self, row: &Placed) -> Result<bool, Fatal> {
        let Some(fan_out) = self.row(row.parent)? else { return Ok(false) };
        if !is_loose_object(&fan_out.name, &row.name) {
            return Ok(false);
        }
        let packs = Name::made("pack".to_owned());
        let Some((packs, _)) = self.row_at(fan_out.parent, &packs)? else { return Ok(false) };
        let names = self.tables()?.children(packs, None, PACKS_MAX)?;
        for (name, id) in names {
            if name.as_bytes().ends_with(b".pack")
                && self.row(id)?.is_some_and(|pack| pack.seen.is_some())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it was a ref that `packed-refs` of its repository has now, with the same value. `read`
    /// keeps what was read of each repository.
    fn is_packed_ref(
        &mut self,
        row: &Placed,
        read: &mut BTreeMap<RelPath, BTreeSet<ContentId>>,
    ) -> Result<bool, Fatal> {
        let Some(Body::File { size: 41 | 65, content }) =
            row.base.as_ref().map(|base| &base.view.body)
        else {
            return Ok(false);
        };
        let Some(path) = self.path_of_row(row.parent)? else { return Ok(false) };
        let Some(repository) = repository_of_refs(&path) else { return Ok(false) };
        if !read.contains_key(&repository) {
            let bytes = self.read_of_git(&repository, "packed-refs").unwrap_or_default();
            read.insert(repository.clone(), values_of_refs(&bytes));
        }
        Ok(read.get(&repository).is_some_and(|values| values.contains(content)))
    }
}

/// The repository below whose `refs` a directory is.
fn repository_of_refs(directory: &RelPath) -> Option<RelPath> {
    let mut at = directory.clone();
    while let Some((parent, name)) = at.split() {
        if name.as_bytes() == b"refs" {
            return Some(parent);
        }
        at = parent;
    }
    None
}

/// What the files would hold whose refs these are: lines of an object id and a name.
fn values_of_refs(packed: &[u8]) -> BTreeSet<ContentId> {
    let lines = packed.split(|byte| *byte == b'\n');
    let ids = lines.filter_map(|line| line.split(|byte| *byte == b' ').next());
    let ids = ids.filter(|id| matches!(id.len(), 40 | 64) && id.iter().all(u8::is_ascii_hexdigit));
    ids.map(|id| ContentId::of(&[id, b"\n"].concat())).collect()
}

/// Whether names are those of an object of git and its directory: `ab/cdef...`, by SHA-1 or SHA-256
/// (gitrepository-layout(5)).
fn is_loose_object(directory: &Name, name: &Name) -> bool {
    let is_hex = |name: &Name| name.as_bytes().iter().all(u8::is_ascii_hexdigit);
    directory.as_bytes().len() == 2
        && matches!(name.as_bytes().len(), 38 | 62)
        && is_hex(directory)
        && is_hex(name)
}
