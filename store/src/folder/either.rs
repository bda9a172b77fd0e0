//! A descriptor of the kernel's or of a simulated volume. Production has none of this: there
//! `Handle` is the kernel's.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::kernel::{self, For, Rename};
use super::list::Listed;
use super::simulated;
use super::space::Space;
use super::stat::Stat;
use crate::lease::Lease;
use crate::time::Time;

type Result<T> = std::result::Result<T, Errno>;

/// As `kernel::Handle`, which says what each call does.
#[derive(Debug)]
pub(super) enum Handle {
    Kernel(kernel::Handle),
    Simulated(simulated::Handle),
}

/// As `kernel::Entries`.
#[derive(Debug)]
pub(super) enum Entries {
    Kernel(kernel::Entries),
    Simulated(simulated::Entries),
}

macro_rules! either {
    ($self:ident, $handle:ident => $call:expr) => {
        match $self {
            Self::Kernel($handle) => $call,
            Self::Simulated($handle) => $call,
        }
    };
}

macro_rules! wrapped {
    ($self:ident, $handle:ident => $call:expr, $kind:ident) => {
        Ok(match $self {
            Self::Kernel($handle) => $kind::Kernel($call),
            Self::Simulated($handle) => $kind::Simulated($call),
        })
    };
}

impl Handle {
    pub(super) fn open(path: &Path) -> Result<Self> {
        kernel::Handle::open(path).map(Self::Kernel)
    }

    pub(super) fn look(path: &Path) -> Result<Self> {
        kernel::Handle::look(path).map(Self::Kernel)
    }

    pub(super) fn beneath(&self, path: &[u8], what: For) -> Result<Self> {
        wrapped!(self, handle => handle.beneath(path, what)?, Handle)
    }

    pub(super) fn above(&self) -> Result<Self> {
        wrapped!(self, handle => handle.above()?, Handle)
    }

    pub(super) fn duplicate(&self) -> Result<Self> {
        wrapped!(self, handle => handle.duplicate()?, Handle)
    }

    pub(super) fn entries(&self) -> Result<Entries> {
        wrapped!(self, handle => handle.entries()?, Entries)
    }

    pub(super) fn stat(&self) -> Result<Stat> {
        either!(self, handle => handle.stat())
    }

    pub(super) fn stat_at(&self, name: &[u8]) -> Result<Stat> {
        either!(self, handle => handle.stat_at(name))
    }

    pub(super) fn read_link_at(&self, name: &[u8]) -> Result<Vec<u8>> {
        either!(self, handle => handle.read_link_at(name))
    }

    pub(super) fn proc_path(&self) -> String {
        match self {
            Self::Kernel(handle) => handle.proc_path(),
            Self::Simulated(_) => String::new(),
        }
    }

    pub(super) fn medium(&self) -> String {
        either!(self, handle => handle.medium())
    }

    pub(super) fn file_system_magic(&self) -> Result<u32> {
        either!(self, handle => handle.file_system_magic())
    }

    pub(super) fn inode_flags(&self) -> Result<u32> {
        either!(self, handle => handle.inode_flags())
    }

    pub(super) fn wall(&self) -> Duration {
        either!(self, handle => handle.wall())
    }

    pub(super) fn space(&self) -> Result<Space> {
        either!(self, handle => handle.space())
    }

    pub(super) fn make_dir_at(&self, name: &[u8]) -> Result<()> {
        either!(self, handle => handle.make_dir_at(name))
    }

    pub(super) fn symlink_at(&self, target: &[u8], name: &[u8]) -> Result<()> {
        either!(self, handle => handle.symlink_at(target, name))
    }

    pub(super) fn rename_at(&self, from: &[u8], dir: &Self, to: &[u8], how: Rename) -> Result<()> {
        match (self, dir) {
            (Self::Kernel(handle), Self::Kernel(dir)) => handle.rename_at(from, dir, to, how),
            (Self::Simulated(handle), Self::Simulated(dir)) => handle.rename_at(from, dir, to, how),
            _ => Err(Errno::XDEV),
        }
    }

    pub(super) fn unlink_at(&self, name: &[u8]) -> Result<()> {
        either!(self, handle => handle.unlink_at(name))
    }

    pub(super) fn remove_dir_at(&self, name: &[u8]) -> Result<()> {
        either!(self, handle => handle.remove_dir_at(name))
    }

    pub(super) fn sync(&self) -> Result<()> {
        either!(self, handle => handle.sync())
    }

    pub(super) fn sync_data(&self) -> Result<()> {
        either!(self, handle => handle.sync_data())
    }

    pub(super) fn sync_file_system(&self) -> Result<()> {
        either!(self, handle => handle.sync_file_system())
    }

    pub(super) fn set_mode(&self, mode: u16) -> Result<()> {
        either!(self, handle => handle.set_mode(mode))
    }

    pub(super) fn set_mtime(&self, mtime: Time) -> Result<()> {
        either!(self, handle => handle.set_mtime(mtime))
    }

    pub(super) fn set_mode_pinned(&self, mode: u16) -> Result<()> {
        match self {
            Self::Kernel(handle) => handle.set_mode_pinned(mode),
            Self::Simulated(handle) => handle.set_mode(mode),
        }
    }

    pub(super) fn set_mtime_pinned(&self, mtime: Time) -> Result<()> {
        match self {
            Self::Kernel(handle) => handle.set_mtime_pinned(mtime),
            Self::Simulated(handle) => handle.set_mtime(mtime),
        }
    }

    pub(super) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        either!(self, handle => handle.set_owner(uid, gid))
    }

    pub(super) fn attributes(&self) -> Result<Vec<u8>> {
        either!(self, handle => handle.attributes())
    }

    pub(super) fn attributes_at(&self, name: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Kernel(handle) => handle.attributes_at(name),
            Self::Simulated(handle) => handle.beneath(name, For::Looking)?.attributes(),
        }
    }

    pub(super) fn attribute(&self, name: &[u8]) -> Result<Vec<u8>> {
        either!(self, handle => handle.attribute(name))
    }

    pub(super) fn remove_attribute(&self, name: &[u8]) -> Result<()> {
        either!(self, handle => handle.remove_attribute(name))
    }

    pub(super) fn set_attribute(&self, name: &[u8], value: &[u8]) -> Result<()> {
        either!(self, handle => handle.set_attribute(name, value))
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        either!(self, handle => handle.read_at(buffer, offset))
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        either!(self, handle => handle.write_at(bytes, offset))
    }

    pub(super) fn reserve(&self, bytes: u64) -> Result<()> {
        either!(self, handle => handle.reserve(bytes))
    }

    pub(super) fn punch_hole(&self, offset: u64, bytes: u64) -> Result<()> {
        match self {
            Self::Kernel(handle) => handle.punch_hole(offset, bytes),
            // It counts no blocks: who cannot make a hole writes zeros.
            Self::Simulated(_) => Err(Errno::OPNOTSUPP),
        }
    }

    pub(super) fn write_behind(&self, offset: u64, bytes: u64) {
        if let Self::Kernel(handle) = self {
            handle.write_behind(offset, bytes);
        }
    }

    pub(super) fn clone_from(&self, source: &Self) -> Result<()> {
        match (self, source) {
            (Self::Kernel(handle), Self::Kernel(source)) => handle.clone_from(source),
            (Self::Simulated(handle), Self::Simulated(source)) => handle.clone_from(source),
            _ => Err(Errno::XDEV),
        }
    }

    pub(super) fn lease(&self) -> Lease {
        either!(self, handle => handle.lease())
    }
}

impl Entries {
    pub(super) fn fill(&mut self, page: &mut VecDeque<Listed>) -> Result<u64> {
        either!(self, entries => entries.fill(page))
    }
}
