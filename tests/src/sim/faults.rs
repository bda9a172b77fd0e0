//! How bad a world is.

use super::random::Random;

/// The faults of one run. All times in microseconds, all chances in a thousand.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Messages that are lost.
    pub drop: u64,
    /// Messages that arrive twice.
    pub duplicate: u64,
    /// Messages that take much longer than others, and so are overtaken.
    pub delay: u64,
    /// The shortest way between two nodes.
    pub latency_us: u64,
    /// What is added to that at random.
    pub jitter_us: u64,
    /// How long a sync takes, at most.
    pub sync_us: u64,
    /// Syncs that take very long.
    pub stall: u64,
    /// Time between two deeds of the evil hand.
    pub evil_us: u64,
    /// Deeds that kill a node.
    pub crash: u64,
    /// Deeds that cut or mend the network.
    pub partition: u64,
    /// Deeds that stop a node for a while (as SIGSTOP does).
    pub pause: u64,
    /// Deaths after which a bit of the log on disk is another one.
    pub rot: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub(crate) const NONE: Self = Self {
        drop: 0,
        duplicate: 0,
        delay: 0,
        latency_us: 100,
        jitter_us: 200,
        sync_us: 500,
        stall: 0,
        evil_us: 1_000_000,
        crash: 0,
        partition: 0,
        pause: 0,
        rot: 0,
    };

    /// A world between harmless and hopeless. Each evil is left out in some worlds, so that the
    /// others get their chance.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut some =
            |low, high| if random.per_mille(600) { random.between(low, high) } else { 0 };
        Self {
            drop: some(1, 100),
            duplicate: some(1, 50),
            delay: some(1, 50),
            latency_us: 50 + some(0, 2_000),
            jitter_us: 100 + some(0, 5_000),
            sync_us: 200 + some(0, 20_000),
            stall: some(1, 3),
            evil_us: 100_000 + some(0, 1_500_000),
            crash: some(50, 400),
            partition: some(50, 300),
            pause: some(20, 100),
            rot: 0,
        }
    }

    /// Disks forget in one world out of four.
    pub(crate) fn draw_rot(random: &mut Random) -> u64 {
        if random.per_mille(250) { random.between(100, 600) } else { 0 }
    }
}
