//! What goes wrong in a world, and what people do there meanwhile. Each seed draws its own few of
//! them and leaves the others out, so that none hides the rest (swarm testing: Groce et al., 2012).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::random::Random;

/// One kind of mishap, or of what people do on any day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A message is lost.
    Drop,
    /// A message arrives twice.
    Duplicate,
    /// A message takes very long.
    Delay,
    /// A message is overtaken by those behind it.
    Reorder,
    /// A node can only speak, or only listen.
    OneWay,
    /// Some pairs of nodes do not hear each other, or one does not hear the other.
    Partial,
    /// The nodes fall apart into two groups.
    Split,
    /// A link holds everything back for a while, then delivers it all at once.
    Clog,
    /// A connection is reported as broken.
    Unreachable,
    /// A node dies.
    Crash,
    /// All nodes die at once.
    CrashAll,
    /// A node stops for a while, as by SIGSTOP.
    Pause,
    /// A node's clock runs at another speed, between half and double.
    Skew,
    /// A node's clock jumps ahead.
    Jump,
    /// A disk is slow for a while.
    SlowDisk,
    /// A disk hangs for 10 seconds.
    HungDisk,
    /// A node dies while it syncs, and its disk keeps any part of that.
    TornBatch,
    /// A node dies while it syncs, and its disk keeps nothing of that.
    LostBatch,
    /// A disk fills up, and is emptied later.
    NoSpace,
    /// A disk operation of the log fails with EIO.
    DiskError,
    /// A bit of a log turns.
    BitFlip,
    /// A block of a log is written elsewhere too.
    Misdirected,
    /// A block of a log is what it was some time ago: a write was lost, or went elsewhere.
    StaleBlock,
    /// A node loses everything.
    Wipe,
    /// A node gets its disk back as it was some time ago.
    OldImage,
    /// A node begins that votes without asking first, in a cluster where others do.
    BluntVote,
    /// A new member is listed or joins.
    Join,
    /// A node that lost what it had comes back, with nothing, under its name.
    Rejoin,
    /// A member is taken out.
    Remove,
    /// A new node takes the place of a member.
    Replace,
    /// A learner is to become a voter.
    Promote,
    /// A voter becomes a learner.
    Demote,
    /// A member has another address.
    Readdress,
    /// Leadership is handed over.
    Transfer,
    /// A state is made durable, and the log is cut up to it.
    Compact,
    /// A node gets a whole state from another one.
    Install,
    /// Somebody reads.
    Read,
    /// Proposals as large as several others together.
    Large,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::Drop,
        Self::Duplicate,
        Self::Delay,
        Self::Reorder,
        Self::OneWay,
        Self::Partial,
        Self::Split,
        Self::Clog,
        Self::Unreachable,
        Self::Crash,
        Self::CrashAll,
        Self::Pause,
        Self::Skew,
        Self::Jump,
        Self::SlowDisk,
        Self::HungDisk,
        Self::TornBatch,
        Self::LostBatch,
        Self::NoSpace,
        Self::DiskError,
        Self::BitFlip,
        Self::Misdirected,
        Self::StaleBlock,
        Self::Wipe,
        Self::OldImage,
        Self::BluntVote,
        Self::Join,
        Self::Rejoin,
        Self::Remove,
        Self::Replace,
        Self::Promote,
        Self::Demote,
        Self::Readdress,
        Self::Transfer,
        Self::Compact,
        Self::Install,
        Self::Read,
        Self::Large,
    ];

    /// What the evil hand does by itself. The rest happens to messages, comes with a death, or is
    /// what people do.
    const EVIL: [Self; 19] = [
        Self::OneWay,
        Self::Partial,
        Self::Split,
        Self::Clog,
        Self::Unreachable,
        Self::Crash,
        Self::CrashAll,
        Self::Pause,
        Self::Skew,
        Self::Jump,
        Self::SlowDisk,
        Self::HungDisk,
        Self::NoSpace,
        Self::DiskError,
        Self::BitFlip,
        Self::Misdirected,
        Self::StaleBlock,
        Self::Wipe,
        Self::OldImage,
    ];
}

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Deed, u64>);

impl Tally {
    /// Counts one more.
    pub(crate) fn count(&mut self, deed: Deed) {
        *self.0.entry(deed).or_default() += 1;
    }

    /// How often this happened.
    #[must_use]
    pub fn of(&self, deed: Deed) -> u64 {
        self.0.get(&deed).copied().unwrap_or_default()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (deed, count) in &other.0 {
            *self.0.entry(*deed).or_default() += count;
        }
    }

    /// What never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<Deed> {
        Deed::ALL.into_iter().filter(|deed| self.of(*deed) == 0).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Deed::ALL.map(|deed| format!("{deed:?} {}", self.of(deed)));
        f.write_str(&parts.join(", "))
    }
}

/// The faults of one run. All times in microseconds, all chances in a thousand.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// What may happen at all.
    on: BTreeSet<Deed>,
    /// Messages that are lost.
    pub(crate) drop: u64,
    /// Messages that arrive twice.
    pub(crate) duplicate: u64,
    /// Messages that take much longer than others.
    pub(crate) delay: u64,
    /// Messages that take a little longer than those behind them.
    pub(crate) reorder: u64,
    /// The shortest way between two nodes.
    pub(crate) latency_us: u64,
    /// What is added to that at random.
    pub(crate) jitter_us: u64,
    /// How long a sync takes, at most.
    pub(crate) sync_us: u64,
    /// Time between two deeds of the evil hand, about.
    pub(crate) evil_us: u64,
    /// Time between two things that people do, at most.
    pub(crate) daily_us: u64,
}

impl Faults {
    /// Nothing goes wrong, and nobody does anything.
    pub(crate) fn none() -> Self {
        Self {
            on: BTreeSet::new(),
            drop: 0,
            duplicate: 0,
            delay: 0,
            reorder: 0,
            latency_us: 100,
            jitter_us: 200,
            sync_us: 500,
            evil_us: 1_000_000,
            daily_us: 200_000,
        }
    }

    /// A world between harmless and hopeless.
    pub(crate) fn draw(random: &mut Random) -> Self {
        // Some worlds have nearly everything in them, some nearly nothing.
        let share = random.pick(&[100, 250, 250, 400, 600]).unwrap_or(250);
        let mut on = BTreeSet::new();
        for deed in Deed::ALL.into_iter().filter(|deed| *deed != Deed::BluntVote) {
            // What people do is no fault: it is there more often than not.
            let share = if deed < Deed::Join { share } else { 700 };
            if random.per_mille(share) {
                on.insert(deed);
            }
        }
        let mut if_on = |deed, low, high| {
            let chance = random.between(low, high);
            if on.contains(&deed) { chance } else { 0 }
        };
        let (drop, duplicate) = (if_on(Deed::Drop, 1, 100), if_on(Deed::Duplicate, 1, 50));
        let (delay, reorder) = (if_on(Deed::Delay, 1, 50), if_on(Deed::Reorder, 10, 300));
        Self {
            drop,
            duplicate,
            delay,
            reorder,
            latency_us: random.pick(&[50, 500, 2_000]).unwrap_or(50),
            jitter_us: random.pick(&[100, 1_000, 5_000]).unwrap_or(100),
            sync_us: random.pick(&[200, 2_000, 20_000]).unwrap_or(200),
            evil_us: random.pick(&[60_000, 300_000, 1_000_000]).unwrap_or(300_000),
            daily_us: random.pick(&[40_000, 200_000]).unwrap_or(200_000),
            on,
        }
    }

    /// In some worlds half of the nodes are not upgraded yet.
    pub(crate) fn with_blunt_votes(mut self, random: &mut Random) -> Self {
        if random.per_mille(200) {
            self.on.insert(Deed::BluntVote);
        }
        self
    }

    pub(crate) fn allows(&self, deed: Deed) -> bool {
        self.on.contains(&deed)
    }

    /// The next deed of the evil hand, if this world has any.
    pub(crate) fn pick_evil(&self, random: &mut Random) -> Option<Deed> {
        let possible: Vec<Deed> =
            Deed::EVIL.into_iter().filter(|deed| self.allows(*deed)).collect();
        random.pick(&possible)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.on)
    }
}
