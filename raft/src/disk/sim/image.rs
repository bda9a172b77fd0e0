//! One file's bytes: as seen, as durable, and the versions of sectors between the two.

use std::collections::BTreeMap;

use super::{Keep, Random};

/// What a power cut keeps or loses as a whole, unless it tears it.
pub const SECTOR_BYTES: usize = 512;

type Sector = Vec<u8>;

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// The versions of each sector since the last sync, oldest first.
    pending: BTreeMap<usize, Vec<Sector>>,
}

impl Image {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), durable: bytes, pending: BTreeMap::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn length(&self) -> u64 {
        u64::try_from(self.now.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(rest) = self.now.get(from..) else { return 0 };
        copy_what_fits(rest, buffer)
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = from.saturating_add(bytes.len());
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        if let Some(range) = self.now.get_mut(from..end) {
            range.copy_from_slice(bytes);
        }
        for sector in (from / SECTOR_BYTES)..end.div_ceil(SECTOR_BYTES) {
            let version = sector_of(&self.now, sector).to_vec();
            self.pending.entry(sector).or_default().push(version);
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.pending).into_keys() {
            put_sector(&mut self.durable, sector, sector_of(&self.now, sector));
        }
    }

    /// The kernel marked the pages clean without having written them.
    pub(super) fn drop_pending(&mut self) {
        self.pending.clear();
    }

    pub(super) fn restart(&mut self, keep: Keep, random: &mut Random) {
        match keep {
            Keep::Nothing => {}
            // The process alone ended: the page cache is as it was, and what was dropped from it
            // unwritten by a failed sync is still only there.
            Keep::Everything => return,
            Keep::Any(_) => self.keep_any(random),
        }
        self.pending.clear();
        self.now.clone_from(&self.durable);
    }

    fn keep_any(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            self.durable.resize(self.now.len(), 0);
        }
        for (sector, versions) in std::mem::take(&mut self.pending) {
            let choice = random.below(u64::try_from(versions.len()).unwrap_or(0) + 1);
            let chosen = usize::try_from(choice).ok().and_then(|choice| versions.get(choice));
            let Some(new) = chosen else { continue };
            let torn = if random.below(8) == 0 {
                tear(sector_of(&self.durable, sector), new, random)
            } else {
                new.clone()
            };
            put_sector(&mut self.durable, sector, &torn);
        }
    }
}

/// The new bytes up to some place, the old ones after it.
fn tear(old: &[u8], new: &[u8], random: &mut Random) -> Sector {
    let place = random.below(u64::try_from(SECTOR_BYTES).unwrap_or(1));
    let place = usize::try_from(place).unwrap_or(0);
    let rest = old.iter().copied().chain(std::iter::repeat(0)).skip(place);
    new.iter().copied().take(place).chain(rest).take(new.len()).collect()
}

fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
    let from = sector * SECTOR_BYTES;
    let end = (from + SECTOR_BYTES).min(bytes.len());
    bytes.get(from..end).unwrap_or_default()
}

/// Writes as much of a sector as lies within the file.
fn put_sector(bytes: &mut [u8], sector: usize, new: &[u8]) {
    let from = sector * SECTOR_BYTES;
    copy_what_fits(new, bytes.get_mut(from..).unwrap_or_default());
}

/// Copies as much as there is on one side and room on the other; says how much that was.
fn copy_what_fits(from: &[u8], to: &mut [u8]) -> usize {
    let length = from.len().min(to.len());
    if let Some((from, to)) = from.get(..length).zip(to.get_mut(..length)) {
        to.copy_from_slice(from);
    }
    length
}
