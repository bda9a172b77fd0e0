//! A disk in memory that fails on command, the same way for the same seed.
//!
//! It keeps two pictures: what programs see, and what a power cut would leave. A write reaches the
//! second only by [`DiskFile::sync_data`] of its file, a name only by [`Disk::sync_dir`] of its
//! directory. After [`SimDisk::power_off`], [`SimDisk::restart`] decides what of the unsynced rest
//! survives: nothing, everything, or any subset of sectors and names, with torn sectors between
//! (harsher than any journalling file system; etcd#6378, ALICE).
//!
//! Every operation that changes something has a number ([`SimDisk::operations`]), so that a test
//! can put a [`Fault`] at each of them in turn.
//!
//! A clone of a `SimDisk` is the same disk; [`SimDisk::fork`] makes another one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskError, DiskFile, DiskResult, Operation};
use image::Image;
use names::Names;

mod image;
mod names;
mod random;

pub use image::SECTOR_BYTES;
pub use random::Random;

/// What goes wrong at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power fails: a write may have begun, nothing else of the operation happens. All later
    /// operations fail until [`SimDisk::restart`].
    PowerOff,
    /// The operation fails with EIO. A sync also drops what it could not write: it stays visible,
    /// a later sync succeeds, and yet it is not on the disk (Rebello et al., ATC 2020).
    Broken,
    /// The operation fails with ENOSPC.
    Full,
}

/// What survives of the unsynced rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Only what was synced.
    Nothing,
    /// All of it, as after the end of the process alone.
    Everything,
    /// Any subset of sectors and names, some sectors torn, drawn from this seed.
    Any(u64),
}

/// Counts of operations since the disk was made; forks go on from the same counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounters {
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of directories.
    pub dir_syncs: u64,
}

/// A disk in memory. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    names: Names,
    files: BTreeMap<u64, Image>,
    next_file: u64,
    /// Handles of before the last restart are stale.
    run: u64,
    powered_off: bool,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    capacity: Option<u64>,
    counters: SimCounters,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another disk with the same content, faults and counts; files open on this one stay here.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// How many changing operations there were: the next one has this number.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Counts since the disk was made.
    #[must_use]
    pub fn counters(&self) -> SimCounters {
        self.lock().counters
    }

    /// Lets the operation with this number fail.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.lock().faults.insert(operation, fault);
    }

    /// Takes back all faults that have not happened.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Bounds the sum of all files' lengths; `None` is no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Cuts the power: everything fails from now on.
    pub fn power_off(&self) {
        self.lock().powered_off = true;
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().powered_off
    }

    /// Brings the power back, with what survived. All open files are stale; faults and the
    /// capacity stay.
    pub fn restart(&self, keep: Keep) {
        let mut state = self.lock();
        let state = &mut *state;
        let mut random = Random::new(if let Keep::Any(seed) = keep { seed } else { 0 });
        state.names.restart(keep, &mut random);
        for file in state.files.values_mut() {
            file.restart(keep, &mut random);
        }
        if keep != Keep::Everything {
            let linked: BTreeSet<u64> = state.names.files().collect();
            state.files.retain(|id, _| linked.contains(id));
        }
        state.run += 1;
        state.powered_off = false;
    }

    /// What a program would read of a file, for tests.
    #[must_use]
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let id = state.names.get(path)?;
        state.files.get(&id).map(|file| file.bytes().to_vec())
    }

    /// Rot: changes a file beneath everything, as if it had always been so. Creates it (durably)
    /// if it is missing; its directory must exist.
    pub fn poke(&self, path: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let id = state.names.get(path).unwrap_or(state.next_file);
        if id == state.next_file {
            state.next_file += 1;
            state.names.plant(path, id);
        }
        state.files.insert(id, Image::durable(bytes.to_vec()));
    }

    /// Rot: flips one bit of a file. Says whether there was such a byte.
    #[must_use]
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) -> bool {
        let Some(mut bytes) = self.peek(path) else { return false };
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(byte) = bytes.get_mut(at) else { return false };
        *byte ^= 1 << (bit % 8);
        self.poke(path, &bytes);
        true
    }

    /// Loses a file beneath everything. Says whether it was there.
    #[must_use]
    pub fn lose(&self, path: &str) -> bool {
        self.lock().names.lose(path)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that failed with the lock held must not hide its message behind this one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(
        &self,
        operation: Operation,
        path: &str,
        change: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> DiskResult<T> {
        let mut state = self.lock();
        state.change(change).map_err(|source| DiskError::new(operation, path, source))
    }

    fn handle(&self, state: &State, id: u64, path: &str) -> SimFile {
        SimFile { disk: self.clone(), id, run: state.run, path: path.to_owned() }
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        if self.powered_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Numbers one changing operation and lets the fault planned for it happen.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Self, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.powered()?;
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        match fault {
            None => change(self, None),
            Some(Fault::PowerOff) => {
                let _begun = change(self, fault);
                self.powered_off = true;
                Err(io::Error::other("the power failed"))
            }
            Some(Fault::Broken) => {
                let _begun = change(self, fault);
                Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()))
            }
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn file(&mut self, id: u64) -> io::Result<&mut Image> {
        self.files.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_room(&self, id: u64, end: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let length = |id: u64| self.files.get(&id).map_or(0, Image::length);
        let used: u64 = self.names.files().map(length).sum();
        let own = length(id);
        let more = end.saturating_sub(own);
        if more > 0 && used + more > capacity {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, path: &str) -> DiskResult<SimFile> {
        let state = self.lock();
        let found = state.powered().and_then(|()| {
            state.names.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        });
        match found {
            Ok(id) => Ok(self.handle(&state, id, path)),
            Err(source) => Err(DiskError::new(Operation::Open, path, source)),
        }
    }

    fn create(&self, path: &str) -> DiskResult<SimFile> {
        self.change(Operation::Create, path, |state, fault| {
            if fault == Some(Fault::Broken) {
                return Err(io::ErrorKind::Other.into());
            }
            let id = state.next_file;
            state.names.create(path, id)?;
            state.next_file += 1;
            state.files.insert(id, Image::default());
            Ok(self.handle(state, id, path))
        })
    }

    fn make_dir(&self, path: &str) -> DiskResult<()> {
        self.change(Operation::Create, path, |state, fault| match fault {
            Some(Fault::Broken) => Ok(()),
            _ => state.names.make_dir(path),
        })
    }

    fn list(&self, path: &str) -> DiskResult<Vec<String>> {
        let state = self.lock();
        state
            .powered()
            .and_then(|()| state.names.list(path))
            .map_err(|source| DiskError::new(Operation::List, path, source))
    }

    fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        self.change(Operation::Rename, from, |state, fault| match fault {
            Some(Fault::Broken) => Ok(()),
            _ => state.names.rename(from, to),
        })
    }

    fn remove(&self, path: &str) -> DiskResult<()> {
        self.change(Operation::Remove, path, |state, fault| match fault {
            Some(Fault::Broken) => Ok(()),
            _ => state.names.remove(path),
        })
    }

    fn sync_dir(&self, path: &str) -> DiskResult<()> {
        self.change(Operation::Sync, path, |state, fault| {
            state.counters.dir_syncs += 1;
            match fault {
                None => state.names.sync(path),
                // Half a sync is any part of it, which restart() covers by keeping any subset.
                Some(_) => Ok(()),
            }
        })
    }
}

/// A file of a [`SimDisk`].
#[derive(Clone, Debug)]
pub struct SimFile {
    disk: SimDisk,
    id: u64,
    run: u64,
    path: String,
}

impl SimFile {
    fn check(&self, state: &State) -> io::Result<()> {
        state.powered()?;
        if state.run == self.run {
            Ok(())
        } else {
            Err(io::Error::other("a file of before the restart"))
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<usize> {
        let mut state = self.disk.lock();
        self.check(&state)
            .and_then(|()| state.file(self.id).map(|file| file.read(buffer, offset)))
            .map_err(|source| DiskError::new(Operation::Read, &self.path, source))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> DiskResult<()> {
        self.disk.change(Operation::Write, &self.path, |state, _fault| {
            self.check(state)?;
            let mut bytes = Vec::new();
            for part in parts {
                bytes.extend_from_slice(part);
            }
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            state.check_room(self.id, offset.saturating_add(length))?;
            state.counters.writes += 1;
            // A write that failed or was cut by the power has begun: it is pending all the same.
            state.file(self.id)?.write(&bytes, offset);
            Ok(())
        })
    }

    fn sync_data(&self) -> DiskResult<()> {
        self.disk.change(Operation::Sync, &self.path, |state, fault| {
            self.check(state)?;
            state.counters.syncs += 1;
            let file = state.file(self.id)?;
            match fault {
                None => file.sync(),
                Some(Fault::Broken) => file.drop_pending(),
                Some(Fault::PowerOff | Fault::Full) => {}
            }
            Ok(())
        })
    }

    fn length(&self) -> DiskResult<u64> {
        let mut state = self.disk.lock();
        self.check(&state)
            .and_then(|()| state.file(self.id).map(|file| file.length()))
            .map_err(|source| DiskError::new(Operation::Length, &self.path, source))
    }
}

#[cfg(test)]
mod tests;
