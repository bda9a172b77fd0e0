//! The gates of `pickbox_tests::fuzz` without any other toolchain: inputs, changed at random.
//!
//! `FUZZ_SECONDS` for each, or `FUZZ_RUNS`; `FUZZ_TARGET` alone; from `FUZZ_SEED`; `FUZZ_JOBS` at a
//! time. A failure names the bytes.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use pickbox_raft::clock::now;
    use pickbox_tests::fuzz::{Changer, TARGETS, Target};

    /// Files that a corpus has at most, and bytes of them all: what is checked out with the rest.
    const CORPUS_FILES_MAX: usize = 200;
    const CORPUS_BYTES_MAX: u64 = 300 * 1024;

    fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok().map(|text| text.parse().expect("a number"))
    }

    /// Those asked for.
    fn targets() -> impl Iterator<Item = Target> {
        let only = std::env::var("FUZZ_TARGET").ok();
        if let Some(only) = &only {
            assert!(TARGETS.iter().any(|target| target.name == only), "no target is called {only}");
        }
        TARGETS
            .into_iter()
            .filter(move |target| only.as_ref().is_none_or(|only| only == target.name))
    }

    fn try_bytes(target: Target, bytes: &[u8]) {
        let run = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
        assert!(run.is_ok(), "{} fails with these bytes: {bytes:?}", target.name);
    }

    fn corpus_dir(target: Target) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
    }

    /// The inputs in the repository, by name.
    fn corpus(target: Target) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(corpus_dir(target)).expect("a corpus");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a name").path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).expect("a file")).collect()
    }

    /// Writes the examples where the other driver finds them, if it says where.
    #[test]
    fn the_examples_are_written_down() {
        let Ok(to) = std::env::var("FUZZ_EXAMPLES") else { return };
        let wanted = to.rsplit('/').next();
        for target in TARGETS.iter().filter(|target| wanted == Some(target.name)) {
            for (number, bytes) in (target.examples)().iter().enumerate() {
                fs::write(format!("{to}/example{number}"), bytes).expect("a directory");
            }
        }
    }

    /// faults 60-62: what once got somewhere is tried again and again; each target has a corpus,
    /// small enough to be in the repository, and there is none without a target.
    #[test]
    fn the_corpus_is_lived_with() {
        for target in TARGETS {
            let corpus = corpus(target);
            assert!((1..=CORPUS_FILES_MAX).contains(&corpus.len()), "{}", target.name);
            let bytes: usize = corpus.iter().map(Vec::len).sum();
            assert!(u64::try_from(bytes).is_ok_and(|sum| sum <= CORPUS_BYTES_MAX));
            for bytes in &corpus {
                try_bytes(target, bytes);
            }
        }
        let all = fs::read_dir(corpus_dir(TARGETS[0]).parent().expect("the directory above"));
        assert_eq!(all.expect("corpora").count(), TARGETS.len(), "a corpus of no target");
    }

    /// faults 60-62; checklist 119-122: no bytes make a gate panic, hold too much, or believe what
    /// is not so.
    #[test]
    fn no_bytes_get_through_that_should_not() {
        let waiting = Mutex::new(targets().collect::<Vec<_>>());
        let next = || waiting.lock().expect("nobody panics with it").pop();
        std::thread::scope(|scope| {
            for _ in 0..number("FUZZ_JOBS").unwrap_or(2) {
                scope.spawn(|| {
                    while let Some(target) = next() {
                        fuzz(target);
                    }
                });
            }
        });
    }

    fn fuzz(target: Target) {
        let mut inputs = (target.examples)();
        assert!(!inputs.is_empty(), "{} has no examples", target.name);
        inputs.extend(corpus(target));
        for bytes in &inputs {
            try_bytes(target, bytes);
        }
        let mut changer = Changer::new(number("FUZZ_SEED").unwrap_or(1));
        let (begun, mut count) = (now(), 0_u64);
        while !is_enough(begun, count) {
            try_bytes(target, &changer.change(&inputs));
            count += 1;
        }
        println!("{}: {count} inputs in {} s", target.name, (now() - begun).as_secs());
    }

    /// The other driver has the same targets, each under its name.
    #[test]
    fn both_drivers_have_all_targets() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = fs::read_to_string(own.join("Cargo.toml")).expect("a manifest");
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        assert!(TARGETS.is_sorted_by_key(|target| target.name), "they are found by name");
        for Target { name, .. } in TARGETS {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
            let source = fs::read_to_string(own.join(format!("fuzz_targets/{name}.rs")));
            assert!(source.expect("a source").contains(&format!("run(\"{name}\", bytes)")));
        }
    }

    fn is_enough(begun: Instant, count: u64) -> bool {
        match number("FUZZ_RUNS") {
            Some(runs) => count >= runs,
            None => now() - begun >= Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1)),
        }
    }
}
