//! One node's folder as programs see it: every way to a file's bytes goes through here, so that it
//! is known which bytes were there before, and which calls destroyed them.
//!
//! The daemon moves files while programs work, so a name says nothing about what a call met. What
//! is destroyed is told by the inode: a program that overwrites one reads it first, through the
//! same descriptor; one that takes a name away holds what stood there open, and looks afterwards
//! whether it has lost its last name. Programs of one node do not write to one inode at a time:
//! what came of that would be theirs.

use std::collections::HashSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use pickbox_raft::clock;
use rustix::fs::OFlags;

use super::book::{Book, Deed};
use super::content::{Hash, describe, hash, hex};

/// Larger files are left alone.
const BYTES_MAX: u64 = 8 << 20;

/// Inodes that programs of this node write to.
#[derive(Debug, Default)]
pub(super) struct Busy {
    writing: HashSet<u64>,
    /// Those of them that have lost their last name meanwhile, to a program.
    unlinked: HashSet<u64>,
}

/// One node's folder.
#[derive(Debug)]
pub(super) struct Site {
    pub node: usize,
    pub folder: PathBuf,
    pub book: Arc<Book>,
    /// The program that stores through mappings, if there is a C compiler.
    pub mapper: Option<PathBuf>,
    busy: Mutex<Busy>,
}

/// A file that a program has open for writing.
#[derive(Debug)]
pub(super) struct Held<'a> {
    site: &'a Site,
    file: File,
    inode: u64,
    what: &'static str,
    path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
    opened: Instant,
    /// What it held when it was opened, if it was there.
    before: Option<Hash>,
    is_changed: bool,
}

impl Site {
    pub(super) fn new(
        node: usize,
        folder: PathBuf,
        book: Arc<Book>,
        mapper: Option<PathBuf>,
    ) -> Self {
        Self { node, folder, book, mapper, busy: Mutex::default() }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().expect("no writer panicked")
    }

    /// A path below the folder, in words.
    pub(super) fn told(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn deed(&self, what: &'static str, path: &Path, size: usize, overwrote: Option<Hash>) -> Deed {
        Deed { order: 0, node: self.node, what, path: self.told(path), size, overwrote }
    }

    /// A new file.
    pub(super) fn create(&self, path: &Path, what: &'static str) -> io::Result<Held<'_>> {
        let mut busy = self.busy();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        let inode = file.metadata()?.ino();
        busy.writing.insert(inode);
        Ok(self.held(file, inode, what, path, Vec::new(), None))
    }

    /// A file that is there, if nobody here writes to it.
    pub(super) fn open(&self, path: &Path, what: &'static str) -> io::Result<Held<'_>> {
        let mut busy = self.busy();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(no_follow()).open(path)?;
        let metadata = file.metadata()?;
        // What is written through one of several names is not seen under the others.
        if !is_usable(&metadata) || metadata.nlink() != 1 || !busy.writing.insert(metadata.ino()) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let bytes = read_all(&file)?;
        let before = hash(&bytes);
        self.book.seen(self.node, before, &self.told(path));
        Ok(self.held(file, metadata.ino(), what, path, bytes, Some(before)))
    }

    fn held(
        &self,
        file: File,
        inode: u64,
        what: &'static str,
        path: &Path,
        bytes: Vec<u8>,
        before: Option<Hash>,
    ) -> Held<'_> {
        let (path, opened) = (path.to_owned(), clock::now());
        Held { site: self, file, inode, what, path, bytes, opened, before, is_changed: false }
    }

    /// What a file holds, if nobody here writes to it.
    pub(super) fn look(&self, path: &Path) -> io::Result<Vec<u8>> {
        let busy = self.busy();
        let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
        let metadata = file.metadata()?;
        if !is_usable(&metadata) || busy.writing.contains(&metadata.ino()) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let bytes = read_all(&file)?;
        self.book.seen(self.node, hash(&bytes), &self.told(path));
        Ok(bytes)
    }

    /// Does what moves names and destroys nothing. Not while another program of this node takes a name
    /// away: that one looks before and after, and would not know what it hit.
    pub(super) fn moving<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _busy = self.busy();
        work()
    }

    /// Does what may take away the last name of the file at `path`, and finds out whether it did.
    pub(super) fn taking<T>(
        &self,
        path: &Path,
        what: &'static str,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut busy = self.busy();
        let before = OpenOptions::new().read(true).custom_flags(no_follow()).open(path);
        let before = before.and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let before = before.ok().filter(|(_, metadata)| metadata.is_file());
        let done = work()?;
        let Some((file, metadata)) = before else {
            // Something else stood there, or nothing; the daemon may have come between.
            self.book.blind(self.node, what, &self.told(path));
            return Ok(done);
        };
        let names = file.metadata()?.nlink();
        if names == 0 {
            if busy.writing.contains(&metadata.ino()) {
                busy.unlinked.insert(metadata.ino());
            }
            let bytes = read_all(&file)?;
            let deed = self.deed(what, path, bytes.len(), None);
            self.book.destroyed(hash(&bytes), deed);
        } else if names == metadata.nlink() {
            self.book.blind(self.node, what, &self.told(path));
        }
        Ok(done)
    }
}

impl Held<'_> {
    /// The bytes that were there are about to be destroyed.
    fn change(&mut self) {
        if !std::mem::replace(&mut self.is_changed, true)
            && let Some(before) = self.before
        {
            let deed = self.site.deed(self.what, &self.path, self.bytes.len(), None);
            self.site.book.destroyed(before, deed);
        }
        self.site.book.was_open(hash(&self.bytes), self.opened);
    }

    pub(super) fn truncate(&mut self, length: usize) -> io::Result<()> {
        self.change();
        self.file.set_len(u64::try_from(length).unwrap_or(0))?;
        self.bytes.resize(length, 0);
        Ok(())
    }

    pub(super) fn write_at(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.change();
        self.file.write_all_at(bytes, u64::try_from(offset).unwrap_or(0))?;
        self.overlay(offset, bytes);
        Ok(())
    }

    fn overlay(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(self.bytes.len(), bytes)
    }

    /// Stores through a mapping, by a program of its own: this one has no descriptor that could
    /// write while the mapping is there.
    pub(super) fn store(mut self, offset: usize, bytes: &[u8], pause_ms: u64) -> io::Result<()> {
        let Some(mapper) = self.site.mapper.clone() else {
            return self.write_at(offset, bytes).and_then(|()| self.close());
        };
        self.change();
        let same = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        let writer = std::mem::replace(&mut self.file, File::open(same)?);
        super::mapped::store(&mapper, writer, (offset, bytes), pause_ms)?;
        self.overlay(offset, bytes);
        self.close()
    }

    pub(super) fn close(self) -> io::Result<()> {
        let mut busy = self.site.busy();
        let held = read_all(&self.file)?;
        let names = self.file.metadata()?.nlink();
        let (site, content) = (self.site, hash(&self.bytes));
        if held != self.bytes {
            let path = site.told(&self.path);
            let (ours, found) = (describe(&self.bytes), describe(&held));
            site.book.broken(format!(
                "n{} {path}: somebody else wrote to the file that {} had open: {ours} / {found}",
                site.node + 1,
                self.what
            ));
        }
        site.book.was_open(content, self.opened);
        drop(self.file);
        busy.writing.remove(&self.inode);
        let was_unlinked = busy.unlinked.remove(&self.inode);
        if !self.is_changed && self.before.is_some() {
            return Ok(());
        }
        let deed = site.deed(self.what, &self.path, self.bytes.len(), self.before);
        if names == 0 {
            site.book.destroyed(content, deed.clone());
            if !was_unlinked {
                let path = site.told(&self.path);
                let hex = hex(&content);
                site.book.broken(format!(
                    "n{} {path}: the file that {} had open was unlinked by no program: {hex}",
                    site.node + 1,
                    self.what
                ));
            }
        }
        site.book.closed(content, deed);
        Ok(())
    }
}

fn no_follow() -> i32 {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    i32::try_from(flags.bits()).expect("flags")
}

fn is_usable(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() <= BYTES_MAX
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
