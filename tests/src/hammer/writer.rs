//! One program of many: does one thing after the other in a node's folder, as its seed says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::content::{Mark, made};
use super::site::Site;
use super::{edits, names, saves};
use crate::sim::Random;

/// Directories that all writers use; the first is the folder itself.
const DIRECTORIES: [&str; 8] = ["", "a", "b", "c", "a/x", "b/y", "c/z", "c/z/deep"];
/// Names of files in each of them.
const NAMES: u64 = 8;
/// From so many things in a directory on, writers rather delete.
const CROWDED: usize = 24;

/// One writer.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub site: &'a Site,
    pub random: Random,
    number: usize,
    count: u32,
    end: &'a AtomicBool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(site: &'a Site, number: usize, seed: u64, end: &'a AtomicBool) -> Self {
        let stream = u64::try_from(site.node * 1000 + number).expect("few");
        let random = Random::new(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        Self { site, random, number, count: 0, end }
    }

    /// Works until the end is called.
    pub(super) fn run(mut self, pause_ms: u64) {
        while !self.is_over() {
            let (what, done) = self.act();
            match done {
                Ok(()) => self.site.book.count(what),
                Err(error) if is_a_miss(&error) => self.site.book.missed(),
                Err(error) => {
                    self.site.book.broken(format!("n{} {what}: {error}", self.site.node + 1));
                }
            }
            self.pause(pause_ms);
        }
    }

    /// Holds files open for long, until the end is called.
    pub(super) fn hold(mut self) {
        while !self.is_over() {
            let path = self.file();
            match edits::hold(&mut self, &path) {
                Ok(()) => self.site.book.count("hold open"),
                Err(_) => self.pause(200),
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    fn act(&mut self) -> (&'static str, io::Result<()>) {
        let (path, other) = (self.file(), self.file());
        match self.random.between(0, 99) {
            0..10 => ("create", edits::create(self, &path)),
            10..18 => ("overwrite", edits::overwrite(self, &path)),
            18..26 => ("append", edits::append(self, &path)),
            26..31 => ("patch", edits::patch(self, &path)),
            31..35 => ("truncate", edits::truncate(self, &path)),
            35..38 => ("make sparse", edits::make_sparse(self, &path)),
            38..41 => ("store by mmap", edits::map(self, &path)),
            41..59 => saves::save(self, &path),
            59..66 => ("rename", names::rename(self, &path, &other)),
            66..69 => ("swap", names::swap(self, &path, &other)),
            69..80 => ("delete", names::delete(self, &path)),
            80..84 => names::directories(self),
            84..88 => ("chmod", names::change_mode(self, &path)),
            88..91 => ("symlink", names::symlink(self, &path)),
            91..94 => names::links(self, &path, &other),
            94..96 => names::change_kind(self, &path),
            _ => ("read", self.site.look(&path).map(drop)),
        }
    }

    pub(super) fn pause(&mut self, at_most_ms: u64) {
        let pause = self.random.between(0, at_most_ms);
        std::thread::sleep(Duration::from_millis(pause));
    }

    /// Bytes that nobody else writes.
    pub(super) fn fresh(&mut self, offset: usize, length: usize) -> Vec<u8> {
        self.count += 1;
        let mark = Mark { node: self.site.node, writer: self.number, count: self.count };
        made(mark, offset, length)
    }

    /// A size: most files are small, some do not fit into the log, a few need several pieces.
    pub(super) fn size(&mut self) -> usize {
        let size = match self.random.between(0, 99) {
            0..80 => self.random.between(100, 6_000),
            80..95 => self.random.between(6_000, 120_000),
            95..99 => self.random.between(120_000, 900_000),
            _ => self.random.between(1_000_000, 3_000_000),
        };
        usize::try_from(size).expect("a size")
    }

    /// A directory's path.
    pub(super) fn directory(&mut self) -> PathBuf {
        let name = self.random.pick(&DIRECTORIES).unwrap_or_default();
        self.site.folder.join(name)
    }

    /// A file's path: one that everybody uses, or whatever is there, conflict copies too.
    pub(super) fn file(&mut self) -> PathBuf {
        let directory = self.directory();
        if self.random.per_mille(450)
            && let Some(found) = self.any_of(&directory)
        {
            return found;
        }
        let number = self.random.between(0, NAMES - 1);
        directory.join(format!("f{number}"))
    }

    fn any_of(&mut self, directory: &Path) -> Option<PathBuf> {
        let entries = fs::read_dir(directory).ok()?.flatten();
        let mut files: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        files.sort();
        let at = self.random.below(files.len());
        let is_crowded = files.len() > CROWDED && self.random.per_mille(500);
        let found = files.get(at).cloned()?;
        if is_crowded {
            // As a person clears up; what it destroys is noted like any deletion.
            let done = names::delete(self, &found);
            self.site.book.count(if done.is_ok() { "clear up" } else { "read" });
            return None;
        }
        Some(found)
    }
}

/// Whether a call failed because a program or the daemon had been there first.
fn is_a_miss(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let misses = [
        Errno::NOENT,
        Errno::EXIST,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::NOTEMPTY,
        Errno::LOOP,
        Errno::INVAL,
        Errno::XDEV,
        Errno::MLINK,
        // A hard link to a directory.
        Errno::PERM,
    ];
    error.kind() == io::ErrorKind::ResourceBusy
        || error.raw_os_error().is_some_and(|code| misses.iter().any(|m| m.raw_os_error() == code))
}
