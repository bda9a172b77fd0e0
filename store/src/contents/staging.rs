//! Our side of staging: contents on their way in, and contents whole under their hash.
//!
//! - `t.ORIGIN.INCARNATION.TICKET`, `t.own.TICKET`, `t.content.SHA256`: partial. They hold only
//!   bytes that somebody else has and that were never acknowledged, so a start removes them.
//! - `f.SHA256`: bytes found under another content's name, set aside.
//! - `c.SHA256`: whole. What lies there and hashes to its name is ours; anything else under such a
//!   name was swapped in from the folder and is a user's.

use rustix::io::Errno;

use super::PIECE_BYTES;
use super::hasher::Hasher;
use super::machine::{PullFailure, PullKey};
use crate::content_id::ContentId;
use crate::folder::{Dir, File, FolderError, free_bytes};
use crate::name::Name;

/// Written bytes after which the kernel is asked to start writing them to disk, so that the sync
/// at the end finds little left to do.
const WRITE_BEHIND_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes that a content on its way in leaves free: if it took the last ones, the node would rest
/// because of a file that it cannot place anyway.
pub(crate) const LEFT_BYTES: u64 = 64 * 1024 * 1024;

/// Whether a content may come in.
fn fits(size: u64, free_bytes: u64) -> bool {
    free_bytes.checked_sub(size).is_some_and(|left| left >= LEFT_BYTES)
}

/// The name of a whole content in staging. `None` never happens: the name is always short and
/// without slashes.
#[must_use]
pub fn staged_name(content: ContentId) -> Option<Name> {
    Name::new(format!("c.{content}")).ok()
}

/// What a start found in staging under a content's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What the name says.
    pub content: ContentId,
    /// Bytes.
    pub size: u64,
    /// What the bytes say.
    pub verdict: Verdict,
}

/// Whether bytes are what their name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They hash to it.
    Intact,
    /// They do not: torn by a power cut before any sync, or a user's file that was exchanged into
    /// this place. Set aside under the hash that it has, never removed.
    Foreign,
}

/// Brings staging into order before the worker starts: partial files go, whole ones are verified
/// and set aside (`f.SHA256`) if they are not what their name says, so that nobody places them.
/// Everything else is left as it is.
///
/// # Errors
/// When the directory cannot be read or changed.
pub fn recover(dir: &Dir) -> Result<Vec<Recovered>, FolderError> {
    let mut found = Vec::new();
    for listed in dir.list()? {
        let name = listed?.name;
        if name.as_bytes().starts_with(b"t.") {
            dir.unlink(&name)?;
        } else if let Some(content) = parse_staged(&name) {
            let file = dir.open_read(&name)?;
            let (actual, size) = hash_file(&file).map_err(|_| FolderError::Other {
                path: dir.path().join(&name),
                errno: Errno::IO,
            })?;
            let verdict = if actual == content {
                Verdict::Intact
            } else {
                log::warn!(
                    "a staged content is not what its name says: content={content} found={actual}"
                );
                set_aside(dir, &name, actual)?;
                Verdict::Foreign
            };
            found.push(Recovered { content, size, verdict });
        }
    }
    Ok(found)
}

/// Gives a file that is not what its name says the name of what it is.
fn set_aside(dir: &Dir, name: &Name, actual: ContentId) -> Result<(), FolderError> {
    let aside = Name::new(format!("f.{actual}"));
    let aside = aside.map_err(|_| FolderError::Absent(dir.path().clone()))?;
    match dir.rename_no_replace(name, dir, &aside) {
        // The same bytes lie there already.
        Err(FolderError::Exists(_)) => dir.unlink(name),
        other => other,
    }
}

fn parse_staged(name: &Name) -> Option<ContentId> {
    let hex = name.as_bytes().strip_prefix(b"c.")?;
    ContentId::parse_hex(std::str::from_utf8(hex).ok()?)
}

/// Hashes a file from its start, whatever its offset is.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(file: &File) -> std::io::Result<(ContentId, u64)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let read = match file.read_at(&mut buffer, offset)? {
            0 => return Ok((hasher.finish(), offset)),
            read => read,
        };
        hasher.update(buffer.get(..read).unwrap_or_default());
        offset += u64::try_from(read).unwrap_or_default();
    }
}

/// A content being put together.
#[derive(Debug)]
pub(crate) struct Partial {
    name: Name,
    file: File,
    size: u64,
    written: u64,
    flushed: u64,
    hasher: Hasher,
}

impl Partial {
    /// Makes the file and reserves its space, if [`LEFT_BYTES`] stay free beside it.
    pub(crate) fn create(dir: &Dir, key: PullKey, size: u64) -> Result<Self, PullFailure> {
        if size > 0 && !fits(size, free_bytes(dir).unwrap_or(u64::MAX)) {
            return Err(PullFailure::NoSpace);
        }
        let name = partial_name(key).ok_or(PullFailure::Disk)?;
        let file = match dir.create_new(&name) {
            // Left by an earlier try of this run whose removal failed.
            Err(FolderError::Exists(_)) => {
                dir.unlink(&name).map_err(failure)?;
                dir.create_new(&name)
            }
            other => other,
        };
        let file = file.map_err(failure)?;
        let partial = Self { name, file, size, written: 0, flushed: 0, hasher: Hasher::default() };
        if size == 0 {
            return Ok(partial);
        }
        match partial.file.reserve(size) {
            // A file system that cannot reserve space says so when it is full, later.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(partial),
            Err(errno) => {
                partial.remove(dir);
                Err(errno_failure(errno))
            }
        }
    }

    /// Bytes there, from the start.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes in all.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Makes it share the blocks of `source`, where the file system can.
    pub(crate) fn clone_from(&self, source: &File) -> bool {
        self.file.clone_from(source)
    }

    /// The file, to read back what was cloned.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Appends. What is only zeros gives its reserved space back: a sparse file stays one.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), PullFailure> {
        self.file.write_sparse_at(bytes, self.written).map_err(|error| io_failure(&error))?;
        self.count(bytes);
        if self.written - self.flushed >= WRITE_BEHIND_BYTES {
            self.write_behind();
        }
        Ok(())
    }

    /// Takes the next bytes as written already.
    pub(crate) fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.written += u64::try_from(bytes.len()).unwrap_or_default();
    }

    /// Has the kernel start to write what is dirty.
    pub(crate) fn write_behind(&mut self) {
        self.file.write_behind(self.flushed, self.written - self.flushed);
        self.flushed = self.written;
    }

    /// Waits until the bytes are on disk.
    pub(crate) fn sync(&self) -> Result<(), PullFailure> {
        self.file.sync_data().map_err(|error| io_failure(&error))
    }

    /// Gives it the name of its content.
    pub(crate) fn publish(self, dir: &Dir) -> Result<ContentId, PullFailure> {
        assert!(self.written == self.size, "only a whole content gets a name");
        let content = self.content();
        let name = staged_name(content).ok_or(PullFailure::Disk)?;
        match dir.rename_no_replace(&self.name, dir, &name) {
            Err(FolderError::Exists(_)) => self.replace(dir, &name, content)?,
            other => other.map_err(failure)?,
        }
        Ok(content)
    }

    /// Takes the place of an older file of the same name, of which nobody can say whether it was
    /// synced. One with other bytes is a user's: it is set aside for recovery to find.
    fn replace(&self, dir: &Dir, name: &Name, content: ContentId) -> Result<(), PullFailure> {
        let older = dir.open_read(name).map_err(failure)?;
        let (actual, _) = hash_file(&older).map_err(|error| io_failure(&error))?;
        dir.exchange(&self.name, dir, name).map_err(failure)?;
        if actual == content {
            self.remove(dir);
            return Ok(());
        }
        log::warn!("a staged name held other bytes: content={content} found={actual}");
        set_aside(dir, &self.name, actual).map_err(failure)
    }

    /// What its bytes so far hash to.
    pub(crate) fn content(&self) -> ContentId {
        self.hasher.clone().finish()
    }

    /// Removes it.
    pub(crate) fn remove(&self, dir: &Dir) {
        if let Err(error) = dir.unlink(&self.name) {
            log::warn!("cannot remove a partial content: {error}");
        }
    }
}

fn partial_name(key: PullKey) -> Option<Name> {
    let text = match key {
        PullKey::Offer { origin, id } => {
            format!("t.{origin}.{}.{}", id.incarnation, id.ticket.0)
        }
        PullKey::Content(content) => format!("t.content.{content}"),
        PullKey::Own(ticket) => format!("t.own.{}", ticket.0),
    };
    Name::new(text).ok()
}

/// Opens a whole content.
pub(crate) fn open_staged(dir: &Dir, content: ContentId) -> Option<File> {
    dir.open_read(&staged_name(content)?).ok()
}

/// Stores a small content whole.
pub(crate) fn store_small(dir: &Dir, content: ContentId, bytes: &[u8]) -> Result<(), PullFailure> {
    let size = u64::try_from(bytes.len()).unwrap_or_default();
    if ContentId::of(bytes) != content {
        return Err(PullFailure::Mismatch);
    }
    let mut partial = Partial::create(dir, PullKey::Content(content), size)?;
    match partial.write(bytes) {
        Ok(()) => partial.publish(dir).map(|_| ()),
        Err(error) => {
            partial.remove(dir);
            Err(error)
        }
    }
}

/// Makes a whole content durable, with its name.
pub(crate) fn sync_staged(dir: &Dir, content: ContentId) -> Result<(), PullFailure> {
    let file = open_staged(dir, content).ok_or(PullFailure::NotHere)?;
    file.sync_data().map_err(|error| io_failure(&error))?;
    dir.sync().map_err(failure)
}

/// Removes a whole content. What does not look like ours any more stays.
pub(crate) fn remove_staged(dir: &Dir, content: ContentId) {
    if let Some(name) = staged_name(content)
        && let Err(error) = dir.unlink(&name)
        && !matches!(error, FolderError::Absent(_))
    {
        log::warn!("cannot remove a released content: {error}");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(crate) fn failure(error: FolderError) -> PullFailure {
    match error {
        FolderError::NoSpace(_) => PullFailure::NoSpace,
        _ => PullFailure::Disk,
    }
}

fn errno_failure(errno: Errno) -> PullFailure {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => PullFailure::NoSpace,
        _ => PullFailure::Disk,
    }
}

fn io_failure(error: &std::io::Error) -> PullFailure {
    Errno::from_io_error(error).map_or(PullFailure::Disk, errno_failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault 49: a sparse file does not fill the disk of a peer, and is the same to whoever reads it.
    #[test]
    fn a_sparse_content_takes_the_room_of_its_bytes() {
        use std::os::unix::fs::MetadataExt;

        let home = tempfile::tempdir().unwrap();
        let folder = crate::folder::Folder::open(home.path()).unwrap();
        let dir = folder.root();
        let pieces = 64;
        let size = u64::try_from(pieces * PIECE_BYTES).unwrap() + 5;
        let mut partial =
            Partial::create(dir, PullKey::Own(super::super::Ticket(1)), size).unwrap();
        let mut whole = Hasher::default();
        for number in 0..pieces {
            let mut piece = vec![0; PIECE_BYTES];
            if number % 16 == 3 {
                piece[70_000..70_010].copy_from_slice(b"0123456789");
            }
            whole.update(&piece);
            partial.write(&piece).unwrap();
        }
        whole.update(&[0; 5]);
        partial.write(&[0; 5]).unwrap();
        partial.sync().unwrap();
        let content = partial.publish(dir).unwrap();
        assert_eq!(content, whole.finish());
        let file = open_staged(dir, content).unwrap();
        assert_eq!(hash_file(&file).unwrap(), (content, size));
        let held = home.path().join(format!("c.{content}")).metadata().unwrap().blocks() * 512;
        assert!(held <= 1024 * 1024, "{held} bytes for {size}");
    }

    /// Source: trap T21.
    #[test]
    fn what_comes_in_leaves_the_node_room_to_work() {
        assert!(fits(1, LEFT_BYTES + 1));
        assert!(!fits(1, LEFT_BYTES));
        assert!(!fits(u64::MAX, LEFT_BYTES));
    }
}
