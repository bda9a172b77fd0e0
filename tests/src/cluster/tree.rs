//! A folder as a value: what can be compared between nodes.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Everything below a folder, by path (raw bytes).
pub type Tree = BTreeMap<Vec<u8>, Entry>;

/// One thing in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is and holds.
    pub kind: Kind,
    /// Permission bits; zero for symlinks, which have none of their own.
    pub mode: u32,
    /// Modification time of files in seconds and nanoseconds; placing a child changes a
    /// directory's, so theirs is not compared.
    pub mtime: Option<(i64, i64)>,
}

/// What a thing is and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A symlink and its target.
    Symlink(Vec<u8>),
    /// A file.
    File {
        /// Its size.
        size: u64,
        /// SHA-256 of its content.
        sha256: [u8; 32],
    },
    /// Something else, which Pickbox does not make.
    Other,
}

/// Reads a folder; what vanishes meanwhile is left out.
#[must_use]
pub fn read_tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    read_below(folder, &mut Vec::new(), &mut tree);
    tree
}

fn read_below(directory: &Path, prefix: &mut Vec<u8>, tree: &mut Tree) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let length = prefix.len();
        prefix.extend_from_slice(entry.file_name().as_bytes());
        if let Ok(found) = read_entry(&entry.path()) {
            let is_directory = found.kind == Kind::Directory;
            tree.insert(prefix.clone(), found);
            if is_directory {
                prefix.push(b'/');
                read_below(&entry.path(), prefix, tree);
            }
        }
        prefix.truncate(length);
    }
}

fn read_entry(path: &Path) -> io::Result<Entry> {
    let metadata = path.symlink_metadata()?;
    let mode = metadata.mode() & 0o7777;
    let kind = metadata.file_type();
    Ok(if kind.is_dir() {
        Entry { kind: Kind::Directory, mode, mtime: None }
    } else if kind.is_symlink() {
        let target = fs::read_link(path)?.into_os_string();
        Entry { kind: Kind::Symlink(target.as_bytes().to_vec()), mode: 0, mtime: None }
    } else if kind.is_file() {
        let mtime = Some((metadata.mtime(), metadata.mtime_nsec()));
        Entry { kind: read_file(path, &metadata)?, mode, mtime }
    } else {
        Entry { kind: Kind::Other, mode, mtime: None }
    })
}

fn read_file(path: &Path, metadata: &Metadata) -> io::Result<Kind> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
    }
    Ok(Kind::File { size: metadata.len(), sha256: hash.finalize().into() })
}

/// The first differences of two trees, in words.
#[must_use]
pub fn differences(one: &Tree, other: &Tree) -> Vec<String> {
    let paths = one.keys().chain(other.keys().filter(|path| !one.contains_key(*path)));
    paths
        .filter(|path| one.get(*path) != other.get(*path))
        .take(20)
        .map(|path| format!("{}: {:?} / {:?}", path.escape_ascii(), one.get(path), other.get(path)))
        .collect()
}
