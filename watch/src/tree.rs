//! The directories that are known, as nodes with parent pointers: moving a directory with
//! everything below it is one pointer, and paths are computed when somebody needs one.

use std::collections::BTreeMap;

use pickbox_store::name::{Name, RelPath};
use pickbox_store::observation::Place;

/// A directory that is, or was, known. Valid as long as it is linked or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DirId(u32);

/// An entry of a directory, wherever that directory is moved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) dir: DirId,
    pub(crate) name: Name,
}

#[derive(Debug)]
enum Parent {
    /// The root of a watched tree.
    Root(Place),
    /// An entry of another directory: also when unlinked, it tells where it was last.
    Entry(Key),
}

#[derive(Debug)]
pub(crate) struct Node {
    parent: Parent,
    /// Whether the parent (or the tree, for a root) knows it by its name.
    linked: bool,
    children: BTreeMap<Name, DirId>,
    /// Who needs it although it may be unlinked: nodes below it, marks, jobs, moves.
    hold_count: u32,
    /// The kernel's watch on it.
    pub(crate) wd: Option<i32>,
    /// The directory's inode number, to tell a reused watch descriptor.
    pub(crate) ino: u64,
    /// The last walk of the whole folder that met it.
    pub(crate) seen: u64,
}

#[cfg(test)]
impl Node {
    pub(crate) fn hold_count(&self) -> u32 {
        self.hold_count
    }
}

/// All nodes. Slots are reused once nobody holds them.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    slots: Vec<Option<Node>>,
    free: Vec<u32>,
    linked_count: usize,
}

impl Tree {
    /// A new root.
    pub(crate) fn add_root(&mut self, place: Place) -> DirId {
        self.insert(Parent::Root(place))
    }

    fn insert(&mut self, parent: Parent) -> DirId {
        let node = Node {
            parent,
            linked: true,
            children: BTreeMap::new(),
            hold_count: 0,
            wd: None,
            ino: 0,
            seen: 0,
        };
        self.linked_count += 1;
        if let Some(at) = self.free.pop()
            && let Some(slot) = usize::try_from(at).ok().and_then(|at| self.slots.get_mut(at))
        {
            *slot = Some(node);
            return DirId(at);
        }
        let at = u32::try_from(self.slots.len());
        assert!(at.is_ok(), "more than 2^32 directories");
        self.slots.push(Some(node));
        DirId(at.unwrap_or(u32::MAX))
    }

    pub(crate) fn get(&self, id: DirId) -> Option<&Node> {
        self.slots.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: DirId) -> Option<&mut Node> {
        self.slots.get_mut(usize::try_from(id.0).ok()?)?.as_mut()
    }

    /// Directories that stand in a tree now.
    pub(crate) fn linked_count(&self) -> usize {
        self.linked_count
    }

    /// The directory known by this name.
    pub(crate) fn child(&self, dir: DirId, name: &Name) -> Option<DirId> {
        self.get(dir)?.children.get(name).copied()
    }

    /// Whether `id` is the directory known by this key.
    pub(crate) fn is_at(&self, id: DirId, key: &Key) -> bool {
        self.child(key.dir, &key.name) == Some(id)
    }

    pub(crate) fn is_linked(&self, id: DirId) -> bool {
        self.get(id).is_some_and(|node| node.linked)
    }

    /// The entry that a directory is known by; none for roots and unlinked ones.
    pub(crate) fn key(&self, id: DirId) -> Option<Key> {
        match self.get(id)? {
            Node { linked: true, parent: Parent::Entry(key), .. } => Some(key.clone()),
            _ => None,
        }
    }

    /// Where it is, or was when it was unlinked. `None` when the path is longer than Linux allows.
    pub(crate) fn path(&self, id: DirId) -> Option<(Place, RelPath)> {
        let mut names = Vec::new();
        let mut at = id;
        let place = loop {
            match &self.get(at)?.parent {
                Parent::Root(place) => break *place,
                Parent::Entry(key) => {
                    names.push(key.name.as_bytes());
                    at = key.dir;
                }
            }
        };
        names.reverse();
        Some((place, RelPath::new(names.join(&b'/')).ok()?))
    }

    /// The directory at `path` below `root`, if it is known.
    pub(crate) fn find(&self, root: DirId, path: &RelPath) -> Option<DirId> {
        path.names().try_fold(root, |dir, name| self.child(dir, &name))
    }

    /// Makes a node known by `key`, which must be free.
    pub(crate) fn link_new(&mut self, key: Key) -> DirId {
        self.hold(key.dir);
        let id = self.insert(Parent::Entry(key.clone()));
        self.enter(key, id);
        id
    }

    /// Makes an existing node known by `key`, which must be free, with everything below it.
    /// Refuses, and changes nothing, when `key` lies below it: what is known is then out of date.
    pub(crate) fn relink(&mut self, id: DirId, key: Key) -> bool {
        if self.is_within(key.dir, id) {
            return false;
        }
        // Nobody else may hold it at this moment.
        self.hold(id);
        self.unlink(id);
        self.hold(key.dir);
        let old = self.get_mut(id).map(|node| {
            node.linked = true;
            std::mem::replace(&mut node.parent, Parent::Entry(key.clone()))
        });
        self.linked_count += 1;
        if let Some(Parent::Entry(old)) = old {
            self.release(old.dir);
        }
        self.enter(key, id);
        self.release(id);
        true
    }

    fn enter(&mut self, key: Key, id: DirId) {
        if let Some(parent) = self.get_mut(key.dir) {
            let before = parent.children.insert(key.name, id);
            assert!(before.is_none_or(|before| before == id), "a name has one directory");
        }
    }

    fn is_within(&self, mut at: DirId, top: DirId) -> bool {
        while at != top {
            match self.get(at).map(|node| &node.parent) {
                Some(Parent::Entry(key)) => at = key.dir,
                _ => return false,
            }
        }
        true
    }

    /// Takes the name away from a node; what is below stays below it. It is freed when nobody
    /// holds it, so hold it before if it is still needed.
    pub(crate) fn unlink(&mut self, id: DirId) {
        let Some(node) = self.get_mut(id).filter(|node| node.linked) else { return };
        node.linked = false;
        let key = match &node.parent {
            Parent::Entry(key) => Some(key.clone()),
            Parent::Root(_) => None,
        };
        self.linked_count -= 1;
        if let Some(key) = key
            && let Some(parent) = self.get_mut(key.dir)
            && parent.children.get(&key.name) == Some(&id)
        {
            parent.children.remove(&key.name);
        }
        self.free_unheld(id);
    }

    /// The node and everything below it, children before parents.
    pub(crate) fn subtree(&self, top: DirId) -> Vec<DirId> {
        let mut found = vec![top];
        let mut next = 0;
        while let Some(&id) = found.get(next) {
            found.extend(self.get(id).into_iter().flat_map(|node| node.children.values()));
            next += 1;
        }
        found.reverse();
        found
    }

    /// All linked nodes.
    pub(crate) fn linked(&self) -> impl Iterator<Item = (DirId, &Node)> {
        self.slots.iter().zip(0..).filter_map(|(slot, at)| {
            slot.as_ref().filter(|node| node.linked).map(|node| (DirId(at), node))
        })
    }

    /// Keeps a node's identity and path although it may be unlinked.
    pub(crate) fn hold(&mut self, id: DirId) {
        if let Some(node) = self.get_mut(id) {
            node.hold_count += 1;
        }
    }

    /// Ends a [`Self::hold`].
    pub(crate) fn release(&mut self, id: DirId) {
        if let Some(node) = self.get_mut(id) {
            assert!(node.hold_count > 0, "held before released");
            node.hold_count -= 1;
            self.free_unheld(id);
        }
    }

    /// Frees the slot of a node without name and holder, and then of its parent...
    fn free_unheld(&mut self, mut id: DirId) {
        while self.get(id).is_some_and(|node| !node.linked && node.hold_count == 0) {
            let slot = usize::try_from(id.0).ok().and_then(|at| self.slots.get_mut(at));
            let Some(node) = slot.and_then(Option::take) else { return };
            self.free.push(id.0);
            let Parent::Entry(key) = node.parent else { return };
            id = key.dir;
            if let Some(parent) = self.get_mut(id) {
                parent.hold_count -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dir: DirId, name: &str) -> Key {
        Key { dir, name: Name::new(name).unwrap() }
    }

    fn path(tree: &Tree, id: DirId) -> String {
        tree.path(id).unwrap().1.to_string()
    }

    /// trap T3: a rename of a directory is one pointer, and all paths follow.
    #[test]
    fn a_moved_directory_takes_everything_along() {
        let mut tree = Tree::default();
        let root = tree.add_root(Place::Folder);
        let a = tree.link_new(key(root, "a"));
        let b = tree.link_new(key(a, "b"));
        let c = tree.link_new(key(b, "c"));
        assert_eq!(path(&tree, c), "a/b/c");
        assert!(tree.relink(b, key(root, "x")));
        assert!(tree.relink(c, key(b, "c")), "also one that nobody holds");
        assert_eq!(path(&tree, c), "x/c");
        assert_eq!(tree.find(root, &RelPath::new("x/c").unwrap()), Some(c));
        assert_eq!(tree.child(a, &Name::new("b").unwrap()), None);
        assert!(!tree.relink(b, key(c, "below itself")));
        assert_eq!(path(&tree, c), "x/c");
    }

    /// A mark below a removed directory still knows its path; afterwards nothing is left.
    #[test]
    fn a_held_node_outlives_its_name() {
        let mut tree = Tree::default();
        let root = tree.add_root(Place::Folder);
        let a = tree.link_new(key(root, "a"));
        let b = tree.link_new(key(a, "b"));
        tree.hold(b);
        for id in tree.subtree(a) {
            tree.unlink(id);
        }
        assert_eq!((tree.linked_count(), path(&tree, b)), (1, "a/b".to_owned()));
        tree.release(b);
        assert!(tree.get(b).is_none() && tree.get(a).is_none());
        assert_eq!(tree.slots.len(), 3);
        tree.link_new(key(root, "c"));
        assert_eq!(tree.slots.len(), 3, "slots are reused");
    }
}
