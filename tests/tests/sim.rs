//! The simulator over many seeds.
//!
//! `SIM_SEEDS` seeds (from `SIM_FIRST`) of `SIM_STEPS` steps each; or one `SIM_SEED`, told in full.

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use pickbox_tests::sim::{Options, Report, Story, run};

    fn number(name: &str, usual: u64) -> u64 {
        std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
    }

    fn steps() -> u64 {
        number("SIM_STEPS", 4_000)
    }

    fn check(seed: u64, story: Story) -> Report {
        let options = Options { seed, steps: steps(), story };
        match run(options) {
            Ok(report) => report,
            Err(failure) if story == Story::Told => panic!("{failure}"),
            // Once more, with the story of how it came to that.
            Err(_) => check(seed, Story::Told),
        }
    }

    fn add(sum: &mut Report, one: Report) {
        sum.steps += one.steps;
        sum.committed += one.committed;
        sum.accepted += one.accepted;
        sum.elections += one.elections;
        sum.reads += one.reads;
        sum.crashes += one.crashes;
        sum.joins += one.joins;
        sum.installs += one.installs;
        sum.transfers += one.transfers;
        sum.log_reads += one.log_reads;
    }

    /// Every seed keeps all promises (checklist 12, 13, 18, 28-32, 36, 43, 49, 100, 108, 110, 116).
    #[test]
    fn no_seed_breaks_a_promise() {
        if let Ok(seed) = std::env::var("SIM_SEED") {
            println!("{:?}", check(seed.parse().expect("a seed"), Story::Told));
            return;
        }
        let (first, seeds) = (number("SIM_FIRST", 1), number("SIM_SEEDS", 40));
        let next = AtomicU64::new(first);
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let worker = || {
            let mut sum = Report::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + seeds {
                    return sum;
                }
                add(&mut sum, check(seed, Story::Untold));
            }
        };
        let sum = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            let mut sum = Report::default();
            for worker in workers {
                match worker.join() {
                    Ok(one) => add(&mut sum, one),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            sum
        });
        println!("{seeds} seeds: {sum:?}");
    }

    /// One seed is one run: the same hash twice, and another seed another one.
    #[test]
    fn a_seed_tells_the_same_story_twice() {
        let first = check(7, Story::Untold);
        assert_eq!(first, check(7, Story::Told));
        assert_ne!(first.hash, check(8, Story::Untold).hash);
    }
}
