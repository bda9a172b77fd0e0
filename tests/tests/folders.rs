//! The simulated folder over many seeds.
//!
//! `FOLDER_SEEDS` seeds (from `FOLDER_FIRST`) of `FOLDER_STEPS` steps each; or one `FOLDER_SEED`, told
//! step by step.

#[cfg(test)]
mod tests {
    use pickbox_tests::folders::{Options, Report, run};

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
        let first = number("FOLDER_FIRST", 0);
        let mut sum = Report::default();
        for seed in first..first + number("FOLDER_SEEDS", 20) {
            let report = check(seed);
            if seed.is_multiple_of(TWICE_EVERY) {
                assert_eq!(check(seed), report, "seed {seed} is not the same twice");
            }
            sum.calls += report.calls;
            sum.deeds += report.deeds;
            sum.in_between += report.in_between;
            sum.entries += report.entries;
            sum.kills += report.kills;
            sum.cuts += report.cuts;
            sum.overflows += report.overflows;
            sum.conflicts += report.conflicts;
        }
        println!("{sum:?}");
        assert!(sum.kills > 0 && sum.in_between > 0, "something never happened");
    }
}
