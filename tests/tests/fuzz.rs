//! The gates of `pickbox_tests::fuzz` without any other toolchain: examples, changed at random.
//!
//! `FUZZ_SECONDS` for each; a failure names the bytes.

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use pickbox_raft::clock::now;
    use pickbox_tests::fuzz::{Changer, TARGETS, Target};

    fn seconds() -> u64 {
        std::env::var("FUZZ_SECONDS").ok().map_or(1, |text| text.parse().expect("seconds"))
    }

    fn try_bytes(target: Target, bytes: &[u8]) {
        let run = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
        assert!(run.is_ok(), "{} fails with these bytes: {bytes:?}", target.name);
    }

    /// Writes the examples where the other driver finds them, if it says where.
    #[test]
    fn the_examples_are_written_down() {
        let Ok(corpus) = std::env::var("FUZZ_EXAMPLES") else { return };
        let wanted = corpus.rsplit('/').next();
        for target in TARGETS.iter().filter(|target| wanted == Some(target.name)) {
            for (number, bytes) in (target.examples)().iter().enumerate() {
                std::fs::write(format!("{corpus}/example{number}"), bytes).expect("a directory");
            }
        }
    }

    /// faults 60-62; checklist 119-122: no bytes make a gate panic, hold too much, or believe what
    /// is not so.
    #[test]
    fn no_bytes_get_through_that_should_not() {
        for target in TARGETS {
            let examples = (target.examples)();
            assert!(!examples.is_empty(), "{} has no examples", target.name);
            for bytes in &examples {
                try_bytes(target, bytes);
            }
            let mut changer = Changer::new(1);
            let (begun, mut count) = (now(), 0_u64);
            while now() - begun < Duration::from_secs(seconds()) {
                try_bytes(target, &changer.change(&examples));
                count += 1;
            }
            println!("{}: {count} inputs", target.name);
        }
    }
}
