//! Power cuts on a real file system, for the write-ahead log alone (fault 21, 23).
//!
//! A writer process keeps a log on a loop-mounted ext4, says before each batch what it is about to
//! write and after it that it was acknowledged. The file system is cut off by `FS_IOC_SHUTDOWN`
//! without flushing its journal, the writer killed, the disk mounted again: what was acknowledged
//! must be there, and nothing else but a beginning of the batch under way.
//!
//! `cargo test -p pickbox-tests --test powercut -- --ignored`; needs root and loop devices.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use pickbox_raft::disk::RealDisk;
use pickbox_raft::disk::sim::Random;
use pickbox_raft::identity::random_u64;
use pickbox_raft::wal::{Options, Wal, WalError};
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Incarnation, Index, LogPosition, NodeId, Serial, Term};
use pickbox_raft_core::log::{Content, Entry, Payload, Proposal};
use pickbox_raft_core::members::Members;

/// Tells the writer where its state directory is.
const WRITER_DIRECTORY: &str = "PICKBOX_POWERCUT_WRITER";
/// Small segments, so that each round comes by several.
const SEGMENT_BYTES: u32 = 64 * 1024;

fn open(directory: &Path) -> Wal<RealDisk> {
    let disk = RealDisk::open(directory).unwrap();
    let options = Options { segment_bytes: SEGMENT_BYTES, nonce_seed: random_u64().unwrap() };
    match Wal::restore(disk.clone(), options) {
        Ok((wal, restored)) => {
            assert_eq!(restored.last(), wal.last());
            wal
        }
        Err(WalError::NotFound) => Wal::create(disk, options).unwrap(),
        Err(error) => panic!("{error}"),
    }
}

/// The entry that every process would write at this place in this term.
fn entry(index: u64, term: u64) -> Entry {
    let mut random = Random::new(index << 20 | term);
    let length = usize::try_from(random.below(3000)).unwrap();
    let bytes = std::iter::repeat_with(|| random.next_u64().to_le_bytes()).take(length / 8);
    let proposal = Proposal {
        origin: NodeId::new(1),
        incarnation: Incarnation::new(term),
        serial: Serial::new(index),
        holders: None,
        payload: Payload::Data(bytes.flatten().collect()),
    };
    let content = Content::Proposal(proposal);
    Entry { index: Index::new(index), term: Term::new(term), content }
}

/// A batch: entries up to `keep` stay, those up to `last` follow in `term`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    keep: u64,
    last: u64,
    term: u64,
}

impl Batch {
    fn ops(self, last_before: u64) -> Vec<LogOp> {
        let from = Index::new(self.keep + 1);
        let truncate = (self.keep < last_before).then_some(LogOp::Truncate { from });
        let entries = (self.keep + 1..=self.last).map(|index| Arc::new(entry(index, self.term)));
        truncate.into_iter().chain([LogOp::Append(entries.collect())]).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix("batch ")?.split(' ').map(|word| word.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Some(Self { keep: next(), last: next(), term: next() })
    }
}

/// The writer process: not a test by itself.
#[test]
#[ignore = "the writer of the power cuts"]
fn writes_until_the_power_fails() {
    let Some(directory) = std::env::var_os(WRITER_DIRECTORY) else { return };
    let mut wal = open(Path::new(&directory));
    let mut random = Random::new(random_u64().unwrap());
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nopened").unwrap();
    loop {
        let (base, last) = (wal.base().index.get(), wal.last().index.get());
        let is_conflict = last > base + 20 && random.below(8) == 0;
        let keep = last - if is_conflict { 1 + random.below(5) } else { 0 };
        let term = wal.last().term.get().max(1) + u64::from(is_conflict);
        let batch = Batch { keep, last: keep + 1 + random.below(12), term };
        writeln!(out, "batch {} {} {}", batch.keep, batch.last, batch.term).unwrap();
        out.flush().unwrap();
        wal.commit(batch.ops(last)).unwrap();
        writeln!(out, "done").unwrap();
        out.flush().unwrap();
        if last > base + 300 {
            // Too old to be under way: its loss would show as entries missing above it.
            let through = Index::new(last - 100);
            let term = wal.read(through, through).unwrap()[0].term;
            let through = LogPosition { index: through, term };
            wal.commit([LogOp::Compact { through, members: Members::default() }]).unwrap();
        }
        let _progress = wal.maintain().unwrap();
    }
}

/// A disk whose power can be cut.
struct Disk {
    root: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("pickbox-powercut-").tempdir().unwrap();
        let disk = Self { root };
        std::fs::create_dir(disk.mountpoint()).unwrap();
        std::fs::File::create(disk.image()).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), disk.image().as_path()]);
        disk
    }

    fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }

    fn mountpoint(&self) -> PathBuf {
        self.root.path().join("disk")
    }

    fn mount(&self) {
        let (image, mountpoint) = (self.image(), self.mountpoint());
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mountpoint]);
    }

    /// `FS_IOC_SHUTDOWN` with `FS_SHUTDOWN_FLAGS_NOLOGFLUSH`: nothing reaches the disk any more.
    fn cut(&self) {
        let script = r#"open F, "<", $ARGV[0] or die $!; $x = pack("L", 2);
            ioctl(F, 0x8004587d, $x) or die $!"#;
        run("perl", &["-e".as_ref(), script.as_ref(), self.mountpoint().as_path()]);
    }

    fn unmount(&self) {
        run("umount", &[self.mountpoint().as_path()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.mountpoint()).output();
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

fn writer(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_the_power_fails", "--ignored", "--nocapture"])
        .env(WRITER_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the log may say: the acknowledged terms by index, and the batch under way.
#[derive(Default)]
struct Promised {
    terms: Vec<u64>,
    under_way: Option<Batch>,
}

impl Promised {
    fn hear(&mut self, line: &str) {
        if let Some(batch) = Batch::parse(line) {
            self.under_way = Some(batch);
        } else if line == "done" {
            let batch = self.under_way.take().unwrap();
            self.terms = self.with(batch);
        }
    }

    fn with(&self, batch: Batch) -> Vec<u64> {
        let kept = self.terms.iter().take(usize::try_from(batch.keep).unwrap());
        let added =
            std::iter::repeat_n(batch.term, usize::try_from(batch.last - batch.keep).unwrap());
        kept.copied().chain(added).collect()
    }

    /// Checks the log after a cut; from now on it must stay as it is.
    fn check(&mut self, wal: &Wal<RealDisk>) {
        let (base, last) = (wal.base().index, wal.last().index);
        let entries = wal.read(base.next(), last).unwrap();
        assert_eq!(u64::try_from(entries.len()).unwrap(), base.distance_to(last));
        for found in &entries {
            assert_eq!(**found, entry(found.index.get(), found.term.get()));
        }
        let before = usize::try_from(base.get()).unwrap();
        let mut found = self.terms[..before].to_vec();
        found.extend(entries.iter().map(|entry| entry.term.get()));
        let is_acknowledged = found == self.terms;
        let is_beginning = self.under_way.is_some_and(|batch| {
            let keep = usize::try_from(batch.keep).unwrap();
            found.len() >= keep && self.with(batch).starts_with(&found)
        });
        assert!(
            is_acknowledged || is_beginning,
            "acknowledged {}, under way {:?}, found {base} to {last}",
            self.terms.len(),
            self.under_way,
        );
        *self = Self { terms: found, under_way: None };
    }
}

/// Source: fault 21, 23, checklist 133: after each of `CUTS` power cuts all that was acknowledged is
/// there.
#[test]
#[ignore = "needs root and loop devices: cargo test -p pickbox-tests --test powercut -- --ignored"]
fn an_acknowledged_batch_survives_every_power_cut() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let cuts = std::env::var("CUTS").map_or(30, |cuts| cuts.parse().unwrap());
    let disk = Disk::new();
    let state = disk.mountpoint().join("state");
    let mut promised = Promised::default();
    let mut random = Random::new(random_u64().unwrap());
    disk.mount();
    for _ in 0..cuts {
        let mut child = writer(&state);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let enough = usize::try_from(random.below(120)).unwrap();
        for line in lines.by_ref().take(enough) {
            promised.hear(&line);
        }
        disk.cut();
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            // Said before it knew, or while the power failed.
            promised.hear(&line);
        }
        disk.unmount();
        disk.mount();
        promised.check(&open(&state));
    }
    disk.unmount();
    println!("{cuts} cuts, {} entries are there", promised.terms.len());
}
