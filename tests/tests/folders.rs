//! The simulated folder over many seeds.
//!
//! `FOLDER_SEEDS` seeds (from `FOLDER_FIRST`) of `FOLDER_STEPS` steps each; or one `FOLDER_SEED`, told
//! step by step.

#[cfg(test)]
mod tests {
    use pickbox_tests::folders::{Options, Report, kinds, run};

    /// In so many seeds everything that can be drawn happens.
    const SEEDS: u64 = 100;
    /// Of the seeds, one in so many is run twice.
    const TWICE_EVERY: u64 = 20;

    fn number(name: &str, usual: u64) -> u64 {
        std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
    }

    fn check(seed: u64) -> Report {
        let steps = number("FOLDER_STEPS", 400);
        run(Options { seed, steps }).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Promises P1, P2 and P3, in every mixture of users, kills, power cuts and delays: see the
    /// module `folders`.
    #[test]
    fn no_seed_loses_or_tears_a_content_or_ends_unequal() {
        if let Ok(seed) = std::env::var("FOLDER_SEED") {
            let mut report = check(seed.parse().expect("a number"));
            for line in std::mem::take(&mut report.story) {
                println!("{line}");
            }
            println!("{report:?}");
            return;
        }
        let (first, seeds) = (number("FOLDER_FIRST", 0), number("FOLDER_SEEDS", SEEDS));
        let mut sum = Report::default();
        for seed in first..first + seeds {
            let report = check(seed);
            if seed.is_multiple_of(TWICE_EVERY) {
                assert_eq!(check(seed), report, "seed {seed} is not the same twice");
            }
            sum.calls += report.calls;
            sum.deeds += report.deeds;
            sum.in_between += report.in_between;
            sum.entries += report.entries;
            sum.tally.add(&report.tally);
            sum.conflicts += report.conflicts;
        }
        println!("{sum:#?}");
        assert!(sum.in_between > 0, "no user ever acted in the middle of a step");
        let never: Vec<_> = kinds().filter(|kind| sum.tally.of(kind) == 0).collect();
        assert!(never.is_empty() || seeds < SEEDS, "never drawn: {never:?}");
    }
}
