//! What a power cut leaves: a journaling file system as ext4 or xfs, with delayed allocation.
//!
//! Names, modes and times come back as they were at some moment between the last sync of anything
//! and the cut; they were made in order. The bytes of a file come back as of its last sync, or, page by
//! page, newer; a file that never was synced is whole, or empty (measured on ext4: a rename without
//! a sync leaves size 0).

use std::collections::BTreeMap;

use super::volume::{Body, Data, Id, Inodes, Volume};

/// States kept that a cut may lead back to.
pub(super) const TRAIL_MAX: usize = 48;
/// What is written to the disk at once.
const PAGE_BYTES: usize = 4096;

impl Volume {
    /// Takes the power away and gives it back. `dice(n)` is a number below n.
    pub(super) fn cut_power(&mut self, dice: &mut dyn FnMut(u64) -> u64) {
        let moments = u64::try_from(self.trail.len()).unwrap_or(1);
        let chosen = usize::try_from(dice(moments.max(1))).unwrap_or(0);
        if let Some(inodes) = self.trail.get(chosen).cloned() {
            self.inodes = inodes;
        }
        let mut data = std::mem::take(&mut self.data);
        self.keep_reachable();
        for (id, inode) in &self.inodes {
            if matches!(inode.body, Body::File) {
                let found = data.remove(id).unwrap_or_default();
                let now = left_of(found, dice);
                let synced = Some(now.clone());
                self.data.insert(*id, Data { now, synced });
            }
        }
        self.links.clear();
        for (id, inode) in &self.inodes {
            if let Body::Directory { entries, .. } = &inode.body {
                let of = |(name, entry): (&Vec<u8>, &super::volume::Entry)| {
                    (entry.link, (*id, name.clone()))
                };
                self.links.extend(entries.iter().map(of));
            }
        }
        self.opens.clear();
        self.queues.clear();
        self.boot += 1;
        self.life += 1;
        self.commit();
    }

    /// What has no name is gone: nobody has anything open.
    fn keep_reachable(&mut self) {
        let (mut kept, mut counts) = (Inodes::new(), BTreeMap::<Id, u32>::new());
        let mut waiting = vec![Self::ROOT];
        while let Some(id) = waiting.pop() {
            let Some(inode) = self.inodes.get(&id) else { continue };
            *counts.entry(id).or_default() += 1;
            if kept.insert(id, inode.clone()).is_some() {
                continue;
            }
            if let Body::Directory { entries, .. } = &inode.body {
                waiting.extend(entries.values().map(|entry| entry.id));
            }
        }
        self.inodes = kept;
    }
}

fn left_of(data: Data, dice: &mut dyn FnMut(u64) -> u64) -> Vec<u8> {
    let Data { now, synced } = data;
    let Some(mut bytes) = synced else {
        return if dice(2) == 0 { now } else { Vec::new() };
    };
    if bytes == now {
        return now;
    }
    if now.len() <= PAGE_BYTES || bytes.len() != now.len() {
        return if dice(2) == 0 { now } else { bytes };
    }
    for (old, new) in bytes.chunks_mut(PAGE_BYTES).zip(now.chunks(PAGE_BYTES)) {
        if old.len() == new.len() && dice(2) == 0 {
            old.copy_from_slice(new);
        }
    }
    bytes
}
