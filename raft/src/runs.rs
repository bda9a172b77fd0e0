//! Which runs of this node there were: the state directory's `run` file.
//!
//! Each start draws a new [`Incarnation`] and adds it there before anything of it leaves the process.
//! A greeting names them all. The log knows the newest run that it has opened; whoever does not
//! descend from that one is a copy of a state directory, or an old image, however often it was
//! started since.

use std::io::IoSlice;

use pickbox_raft_core::ids::Incarnation;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskError, DiskFile, DiskResult};

const PATH: &str = "run";
const UNFINISHED: &str = "run.tmp";
const MAGIC: [u8; 8] = *b"PBOXRUN\n";
/// Runs that are remembered: the newest ones, and the newest one that the log is known to name.
pub(crate) const RUNS_MAX: usize = 256;
/// Magic, number of runs, CRC.
const FIXED_BYTES: usize = 8 + 4 + 4;
const BYTES_MAX: usize = FIXED_BYTES + 8 * RUNS_MAX;

/// A run and those that it descends from, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage(Vec<Incarnation>);

impl Lineage {
    /// A run without ancestors.
    #[must_use]
    pub fn of(run: Incarnation) -> Self {
        Self(vec![run])
    }

    /// The run itself.
    #[must_use]
    pub fn run(&self) -> Incarnation {
        self.0.last().copied().unwrap_or_default()
    }

    /// Whether it is `run`, or descends from it.
    #[must_use]
    pub fn descends_from(&self, run: Incarnation) -> bool {
        self.0.contains(&run)
    }

    /// Whether a peer may name so many.
    pub(crate) fn is_plausible(&self) -> bool {
        self.0.len() <= RUNS_MAX
    }

    /// A run that descends from all of these. If they are too many, the oldest is forgotten: a member
    /// that was away knows the log up to some earlier run only, and must find that one here. But
    /// never `opened`, the newest one that the log is known to have opened (or the oldest, if that
    /// is not known): whoever is up to date looks for that.
    pub(crate) fn followed_by(mut self, run: Incarnation, opened: Option<Incarnation>) -> Self {
        self.0.push(run);
        if self.0.len() > RUNS_MAX {
            let opened = opened.and_then(|opened| self.0.iter().position(|known| *known == opened));
            self.0.remove(usize::from(opened.unwrap_or(0) == 0));
        }
        self
    }
}

/// Begins the next run, durably. A damaged file counts as none: the run then descends from nobody,
/// and the cluster takes the node for what it may be, one that lost its state.
///
/// # Errors
/// When the disk is full or failed.
pub(crate) fn begin<D: Disk>(
    disk: &D,
    run: Incarnation,
    opened: Option<Incarnation>,
) -> DiskResult<Lineage> {
    let next = former(disk)?.followed_by(run, opened);
    match disk.remove(UNFINISHED) {
        Err(error) if !error.is_not_found() => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(UNFINISHED)?;
    file.write_at(&[IoSlice::new(&encode(&next))], 0)?;
    file.sync_data()?;
    disk.rename(UNFINISHED, PATH)?;
    disk.sync_dir("")?;
    Ok(next)
}

/// The runs that were begun here.
fn former<D: Disk>(disk: &D) -> Result<Lineage, DiskError> {
    let file = match disk.open(PATH) {
        Err(error) if error.is_not_found() => return Ok(Lineage::default()),
        file => file?,
    };
    let mut bytes = vec![0; BYTES_MAX + 1];
    let length = file.read_at(&mut bytes, 0)?;
    let found = bytes.get(..length).and_then(decode);
    if found.is_none() {
        log::error!("event=run_damaged file={PATH:?}");
    }
    Ok(found.unwrap_or_default())
}

fn encode(runs: &Lineage) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&u32::try_from(runs.0.len()).unwrap_or(0).to_le_bytes());
    for run in &runs.0 {
        bytes.extend_from_slice(&run.get().to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Lineage> {
    let (body, crc) = bytes.split_last_chunk()?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return None;
    }
    let (count, runs) = body.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let (runs, rest) = runs.as_chunks();
    let sound = rest.is_empty() && u32::try_from(runs.len()) == Ok(u32::from_le_bytes(*count));
    let run = |bytes: &[u8; 8]| Incarnation::new(u64::from_le_bytes(*bytes));
    sound.then(|| Lineage(runs.iter().map(run).collect()))
}

/// For fuzzing: takes bytes for the file. What it is can be written in one way only.
///
/// # Panics
/// When it can be written in another.
#[doc(hidden)]
pub fn probe(bytes: &[u8]) {
    if let Some(runs) = decode(bytes) {
        assert_eq!(encode(&runs), bytes, "there is one way to write it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, Keep, SimDisk};

    fn run(number: u64) -> Incarnation {
        Incarnation::new(number)
    }

    /// checklist 102: each run descends from those before it; a copy's does not descend from what
    /// the original did since, however often it is started.
    #[test]
    fn runs_descend_from_each_other_and_copies_do_not() {
        let disk = SimDisk::new();
        begin(&disk, run(1), None).unwrap();
        let image = disk.peek(PATH).unwrap();
        let newest = begin(&disk, run(2), None).unwrap();
        assert!(newest.descends_from(run(1)) && newest.descends_from(run(2)));
        let copy = SimDisk::new();
        copy.poke(PATH, &image);
        for number in 10..20 {
            let runs = begin(&copy, run(number), Some(run(1))).unwrap();
            assert!(runs.descends_from(run(1)) && !runs.descends_from(newest.run()));
        }
    }

    /// However often a node starts without being heard of, it descends from what the log has.
    #[test]
    fn the_run_that_the_log_opened_is_never_forgotten() {
        let disk = SimDisk::new();
        begin(&disk, run(7), None).unwrap();
        for number in 1000..1000 + 2 * u64::try_from(RUNS_MAX).unwrap() {
            let runs = begin(&disk, run(number), Some(run(7))).unwrap();
            assert!(runs.descends_from(run(7)) && runs.is_plausible());
        }
        let opened = run(1500);
        for number in 5000..5000 + u64::try_from(RUNS_MAX).unwrap() {
            let runs = begin(&disk, run(number), Some(opened)).unwrap();
            assert!(runs.descends_from(opened) && runs.is_plausible());
        }
        let runs = begin(&disk, run(3000), Some(opened)).unwrap();
        assert!(!runs.descends_from(run(7)), "the oldest goes first");
    }

    /// A member that was away knows the log up to an earlier run only. It must not take for a copy
    /// whoever went on without it, however often that one was started and opened since.
    #[test]
    fn a_member_that_was_away_finds_the_run_that_it_knows() {
        let disk = SimDisk::new();
        let known = begin(&disk, run(1), None).unwrap().run();
        for number in 2..100 {
            let runs = begin(&disk, run(number), Some(run(number - 1))).unwrap();
            assert!(runs.descends_from(known), "{number}");
        }
    }

    /// A power cut at any operation leaves the former runs or the new ones; damage leaves none.
    #[test]
    fn a_run_is_begun_or_it_is_not() {
        for operation in 0..6 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                let first = begin(&disk, run(1), None).unwrap();
                disk.fail_at(disk.operations() + operation, Fault::PowerOff);
                let began = begin(&disk, run(2), None);
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let found = former(&disk).unwrap();
                assert!(found == first || found.run() == run(2));
                assert!(began.is_err() || found != first, "what was begun is durable");
            }
        }
        let whole = encode(&Lineage::of(run(9)));
        for offset in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[offset] ^= 1;
            assert_eq!(decode(&damaged), None);
            assert_eq!(decode(&whole[..offset]), None);
        }
    }
}
