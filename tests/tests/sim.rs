//! The simulator over many seeds.
//!
//! `SIM_SEEDS` seeds (from `SIM_FIRST`) of `SIM_STEPS` steps each; or one `SIM_SEED`, told in full.

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use pickbox_raft::clock::now;
    use pickbox_tests::sim::{Deed, Failure, Options, Report, Story, Tally, run};

    /// Of the seeds, one in so many is run twice, unless `SIM_TWICE` says all.
    const TWICE_EVERY: u64 = 20;
    /// With so many seeds and so many steps, everything that can happen must have happened.
    const ALL_SEEDS: u64 = 1_000;
    const ALL_STEPS: u64 = 10_000;

    fn number(name: &str, usual: u64) -> u64 {
        std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
    }

    fn steps() -> u64 {
        number("SIM_STEPS", 4_000)
    }

    /// Runs one seed; a failure comes with the story of how it came to that.
    fn try_seed(seed: u64, steps: u64) -> Result<Report, Failure> {
        run(Options { seed, steps, story: Story::Untold })
            .or_else(|_| run(Options { seed, steps, story: Story::Last }))
    }

    fn check(seed: u64, steps: u64) -> Report {
        try_seed(seed, steps).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// What many runs came to.
    #[derive(Default)]
    struct Sum {
        seeds: u64,
        twice: u64,
        steps: u64,
        busy: Duration,
        committed: u64,
        accepted: u64,
        elections: u64,
        crashes: u64,
        lost: u64,
        accept_us: u64,
        tally: Tally,
    }

    impl Sum {
        fn of(report: &Report, busy: Duration) -> Self {
            let Report { steps, committed, accepted, elections, crashes, lost, .. } = *report;
            let (accept_us, tally) = (report.accept_us, report.tally.clone());
            let (seeds, twice) = (1, 0);
            Self {
                seeds,
                twice,
                steps,
                busy,
                committed,
                accepted,
                elections,
                crashes,
                lost,
                accept_us,
                tally,
            }
        }

        fn add(&mut self, other: &Self) {
            self.seeds += other.seeds;
            self.twice += other.twice;
            self.steps += other.steps;
            self.busy += other.busy;
            self.committed += other.committed;
            self.accepted += other.accepted;
            self.elections += other.elections;
            self.crashes += other.crashes;
            self.lost += other.lost;
            self.accept_us = self.accept_us.max(other.accept_us);
            self.tally.add(&other.tally);
        }

        fn tell(&self) {
            let micros = self.busy.as_micros().max(1);
            let speed = u128::from(self.steps) * 1_000_000 / micros;
            println!(
                "{} seeds ({} of them twice), {} steps, {speed} steps per second and core",
                self.seeds, self.twice, self.steps
            );
            println!(
                "{} elections, {} entries committed, {} proposals in effect, {} deaths, {} nodes \
                 lost; after the faults something new took effect within {} ms",
                self.elections,
                self.committed,
                self.accepted,
                self.crashes,
                self.lost,
                self.accept_us / 1000
            );
            println!("{}", self.tally);
        }
    }

    /// Every seed keeps all promises (checklist 12, 13, 18, 28-32, 36, 43, 49, 84, 88-90, 92, 94,
    /// 95, 98, 100, 101, 108, 110, 116, 133).
    #[test]
    fn no_seed_breaks_a_promise() {
        if let Ok(seed) = std::env::var("SIM_SEED") {
            return tell(seed.parse().expect("a seed"));
        }
        let (first, seeds) = (number("SIM_FIRST", 1), number("SIM_SEEDS", 40));
        match try_seeds(first, seeds) {
            Ok(sum) => {
                sum.tell();
                let missing = sum.tally.missing();
                let many = seeds >= ALL_SEEDS && steps() >= ALL_STEPS;
                assert!(!many || missing.is_empty(), "these never happened: {missing:?}");
            }
            Err(failure) => panic!("after {} seeds: {failure}", failure.seed - first + 1),
        }
    }

    /// Tells one seed, every step of it.
    fn tell(seed: u64) {
        match run(Options { seed, steps: steps(), story: Story::All }) {
            Ok(report) => {
                report.story.iter().for_each(|line| println!("{line}"));
                println!("SIM_SEED={seed} keeps all promises, hash {:016x}", report.hash);
                Sum::of(&report, Duration::ZERO).tell();
            }
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Runs a seed, perhaps twice: the second time must be the same.
    fn run_seed(seed: u64, twice: bool) -> Result<Sum, Failure> {
        let begun = now();
        let report = try_seed(seed, steps())?;
        let mut sum = Sum::of(&report, now() - begun);
        if twice {
            assert_eq!(try_seed(seed, steps())?, report, "seed {seed} is two stories");
            sum.twice = 1;
        }
        Ok(sum)
    }

    /// Runs seeds on all cores; of those that fail, the lowest is told.
    fn try_seeds(first: u64, seeds: u64) -> Result<Sum, Failure> {
        let (next, end) = (AtomicU64::new(first), AtomicU64::new(first + seeds));
        let all_twice = std::env::var("SIM_TWICE").is_ok();
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let worker = || -> Result<Sum, Failure> {
            let mut sum = Sum::default();
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= end.load(Ordering::SeqCst) {
                    return Ok(sum);
                }
                let twice = all_twice || seed.is_multiple_of(TWICE_EVERY);
                let one = run_seed(seed, twice).inspect_err(|_| {
                    // Lower ones are under way already.
                    end.fetch_min(seed, Ordering::SeqCst);
                })?;
                sum.add(&one);
            }
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().expect("it does not panic")).collect()
        });
        let (mut sum, mut failures) = (Sum::default(), Vec::new());
        for result in results {
            match result {
                Ok(one) => sum.add(&one),
                Err(failure) => failures.push(failure),
            }
        }
        failures.into_iter().min_by_key(|failure| failure.seed).map_or(Ok(sum), Err)
    }

    /// checklist 128, 129: in some worlds a bit of some log turns while its node is down. The node
    /// stays away, and the others lose nothing and do not stall.
    #[test]
    fn a_node_whose_log_rots_stays_away_and_the_others_go_on() {
        let (mut lost, mut flipped) = (0, 0);
        for seed in 1..=60 {
            let report = check(seed, 4_000);
            lost += report.lost;
            flipped += report.tally.of(Deed::BitFlip);
        }
        assert!(lost > 0 && flipped > 0, "no log rotted");
    }

    /// Source: seeds 63 and 69: the only voter is replaced, and dies when it alone has the end of the
    /// change. It must campaign once more although its own log names it no more (thesis, 4.2.2).
    #[test]
    fn a_voter_on_its_way_out_is_elected_if_it_alone_has_the_change() {
        check(63, 20_000);
        check(69, 20_000);
    }

    /// One seed is one run: the same hash twice, and another seed another one.
    #[test]
    fn a_seed_tells_the_same_story_twice() {
        let first = check(7, steps());
        let again = run(Options { seed: 7, steps: steps(), story: Story::All }).expect("the same");
        assert_eq!((first.hash, first.steps), (again.hash, again.steps));
        assert_ne!(first.hash, check(8, steps()).hash);
    }
}
