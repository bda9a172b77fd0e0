//! Looking at one path: what stands there, and what a small file holds.

use pickbox_store::folder::File;

use pickbox_store::content_id::{ContentId, INLINE_BYTES_MAX};
use pickbox_store::folder::{Dir, Folder, FolderError, Kind, READ_TRIES_MAX, Stat};
use pickbox_store::lease::Lease;
use pickbox_store::name::{Name, RelPath};
use pickbox_store::observation::{Hint, Seen};

/// What to do about a file that somebody may be writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Call it busy.
    Wait,
    /// As `Wait`, and where writers cannot be told, believe that there is one: it was written a
    /// moment ago.
    WaitIfUnknown,
    /// Read it as it is: waited long enough.
    None,
}

/// Looks at `path`. Reads the content only if `hint` wants it.
pub(crate) fn examine(folder: &Folder, path: &RelPath, hint: Hint, patience: Patience) -> Seen {
    let Some((parent, name)) = path.split() else {
        return folder.root().stat_self().map_or_else(|error| absent_or(&error), Seen::Directory);
    };
    let dir = match folder.dir(&parent) {
        Ok(dir) => dir,
        Err(FolderError::Absent(_) | FolderError::NotDirectory(_)) => return Seen::ParentGone,
        Err(error) => return Seen::Unreadable(error.errno()),
    };
    examine_entry(&dir, &name, hint, patience)
}

/// Looks at an entry of an open directory.
pub(crate) fn examine_entry(dir: &Dir, name: &Name, hint: Hint, patience: Patience) -> Seen {
    let mut last = None;
    for _ in 0..READ_TRIES_MAX {
        let seen = dir.stat(name).and_then(|stat| {
            last = Some(stat);
            look(dir, name, stat, hint, patience)
        });
        match seen {
            Ok(seen) => return seen,
            // Replaced by another kind between two looks: look again.
            Err(FolderError::WrongKind(_)) => {}
            Err(FolderError::Unstable(_)) => break,
            Err(error) => return absent_or(&error),
        }
    }
    last.map_or(Seen::Gone, Seen::Busy)
}

fn absent_or(error: &FolderError) -> Seen {
    match error {
        FolderError::Absent(_) => Seen::Gone,
        error => Seen::Unreadable(error.errno()),
    }
}

fn look(
    dir: &Dir,
    name: &Name,
    stat: Stat,
    hint: Hint,
    patience: Patience,
) -> Result<Seen, FolderError> {
    match stat.kind {
        Kind::Directory => Ok(Seen::Directory(stat)),
        Kind::Special => Ok(Seen::Special(stat)),
        Kind::Symlink => {
            let (stat, target) = dir.read_link(name)?;
            Ok(Seen::Symlink { stat, target })
        }
        Kind::File if !hint.wants_content() && !hint.has(Hint::CREATED) => Ok(Seen::StatOnly(stat)),
        Kind::File => {
            let file = dir.open_read(name)?;
            if is_busy(&file, patience) {
                return Ok(Seen::Busy(stat));
            }
            if hint.wants_content() { read(dir, name, &file) } else { Ok(Seen::StatOnly(stat)) }
        }
    }
}

fn is_busy(file: &File, patience: Patience) -> bool {
    match (patience, file.lease()) {
        (Patience::None, _) | (_, Lease::Idle) | (Patience::Wait, Lease::Unknown) => false,
        (_, Lease::Busy) | (Patience::WaitIfUnknown, Lease::Unknown) => true,
    }
}

fn read(dir: &Dir, name: &Name, file: &File) -> Result<Seen, FolderError> {
    // A program that opens it for writing from here on closes it later: another hint comes.
    let (stat, bytes) = dir.read_small_from(name, file, INLINE_BYTES_MAX)?;
    Ok(match bytes {
        Some(data) => Seen::Small { stat, content: ContentId::of(&data), data },
        None => Seen::Large(stat),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_at(dir: &tempfile::TempDir, path: &str, hint: Hint) -> Seen {
        pickbox_store::lease::ignore_sigio().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        examine(&folder, &RelPath::new(path).unwrap(), hint, Patience::Wait)
    }

    #[test]
    fn each_kind_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("small"), b"abc").unwrap();
        std::fs::write(dir.path().join("large"), vec![0; 32 * 1024 + 1]).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink("x", dir.path().join("l")).unwrap();
        let wrote = Hint::WROTE;
        let Seen::Small { content, data, stat } = look_at(&dir, "small", wrote) else { panic!() };
        assert_eq!((data.as_slice(), stat.size), (&b"abc"[..], 3));
        assert_eq!(content, ContentId::of(b"abc"));
        assert!(matches!(look_at(&dir, "large", wrote), Seen::Large(stat) if stat.size == 32769));
        assert!(matches!(look_at(&dir, "small", Hint::MOVED_HERE), Seen::StatOnly(_)));
        assert!(matches!(look_at(&dir, "d", wrote), Seen::Directory(_)));
        let link = look_at(&dir, "l", Hint::SCANNED);
        assert!(matches!(link, Seen::Symlink { target, .. } if target == b"x"));
        assert_eq!(look_at(&dir, "none", wrote), Seen::Gone);
        assert_eq!(look_at(&dir, "none/x", wrote), Seen::ParentGone);
        assert_eq!(look_at(&dir, "small/x", wrote), Seen::ParentGone);
        assert_eq!(look_at(&dir, "l/x", wrote), Seen::ParentGone);
        assert!(matches!(look_at(&dir, "", wrote), Seen::Directory(_)));
    }

    /// trap T6: no half of a file is handed on while its writer has it open.
    #[test]
    fn a_file_in_the_middle_of_a_write_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let writer = std::fs::File::create(dir.path().join("f")).unwrap();
        assert!(matches!(look_at(&dir, "f", Hint::WROTE), Seen::Busy(_)));
        assert!(matches!(look_at(&dir, "f", Hint::CREATED), Seen::Busy(_)));
        assert!(matches!(look_at(&dir, "f", Hint::ATTRIBUTES), Seen::StatOnly(_)));
        drop(writer);
        assert!(matches!(look_at(&dir, "f", Hint::WROTE), Seen::Small { .. }));
        assert!(matches!(look_at(&dir, "f", Hint::CREATED), Seen::StatOnly(_)));
    }
}
