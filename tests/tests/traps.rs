//! Each trap of docs/guarantees.md, and each fault of a folder, is named by a test. Fast: read from
//! the checkout.
//!
//! A test names what it is about in its docstring: `trap T11`, `traps T17 and T27`, `fault 43`,
//! `faults 46, 47 and 48`. What stands before anything else than a test does not count.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::ops::RangeInclusive;
    use std::path::{Path, PathBuf};

    /// The faults of a folder: edits that meet (42 to 45), what is deleted by mistake (46, 47), names,
    /// kinds and rights (48 to 51), a kill while something is placed (52), and what the kernel tells
    /// late, wrongly or not at all (53 to 59).
    const FAULTS: RangeInclusive<u32> = 42..=59;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned()
    }

    /// The Rust sources of the checkout.
    fn sources() -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open: Vec<_> =
            ["admin", "cli", "raft", "store", "tests", "watch"].map(|dir| root().join(dir)).into();
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                    open.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// The numbers that follow a word or its plural, with `prefix` before each: `T1, T2 and T3`.
    fn numbers(text: &str, word: &str, prefix: &str) -> BTreeSet<u32> {
        let (mut found, mut is_list) = (BTreeSet::new(), false);
        for one in text.split_whitespace() {
            let bare = one.trim_start_matches(|sign: char| !sign.is_alphabetic()).to_lowercase();
            if bare.strip_suffix('s').unwrap_or(&bare) == word {
                is_list = true;
            } else if is_list && one != "and" {
                let number = one.strip_prefix(prefix).unwrap_or_default();
                let digits = number.trim_end_matches(|sign: char| !sign.is_ascii_digit());
                found.extend(digits.parse::<u32>());
                // `T3, T5 and T8` goes on; `T3: what` and `T3. What` do not.
                is_list =
                    !digits.is_empty() && number[digits.len()..].trim_end_matches(',').is_empty();
            }
        }
        found
    }

    /// The docstring of each test in a source.
    fn docs_of_tests(source: &str) -> Vec<String> {
        let (mut docs, mut doc, mut is_test) = (Vec::new(), String::new(), false);
        for line in source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                doc += text;
            } else if line == "#[test]" {
                is_test = true;
            } else if is_test && line.starts_with("fn ") {
                docs.push(std::mem::take(&mut doc));
                is_test = false;
            } else if !is_test && !line.starts_with("#[") {
                doc.clear();
            }
        }
        docs
    }

    /// The numbers that tests name, each with how many do.
    fn named(word: &str, prefix: &str) -> BTreeMap<u32, usize> {
        let mut named = BTreeMap::new();
        for path in sources() {
            let source = fs::read_to_string(path).expect("a source");
            for doc in docs_of_tests(&source) {
                for number in numbers(&doc, word, prefix) {
                    *named.entry(number).or_default() += 1;
                }
            }
        }
        named
    }

    /// The numbers of the traps in docs/guarantees.md, in its order.
    fn listed() -> Vec<u32> {
        let text = fs::read_to_string(root().join("docs/guarantees.md")).expect("the guarantees");
        let number = |line: &str| line.strip_prefix("- **T")?.split(' ').next()?.parse().ok();
        text.lines().filter_map(number).collect()
    }

    #[test]
    fn each_trap_is_named_by_a_test() {
        let listed = listed();
        assert_eq!(listed, (1..=31).collect::<Vec<_>>(), "docs/guarantees.md has each trap once");
        let named = named("trap", "T");
        let missing: Vec<_> = listed.iter().filter(|trap| !named.contains_key(*trap)).collect();
        assert!(missing.is_empty(), "no test says `trap T{missing:?}` in its docstring");
        let unknown: Vec<_> = named.keys().filter(|trap| !listed.contains(*trap)).collect();
        assert!(unknown.is_empty(), "traps that docs/guarantees.md does not have: {unknown:?}");
    }

    #[test]
    fn each_fault_of_a_folder_is_named_by_a_test() {
        let named = named("fault", "");
        let missing: Vec<_> = FAULTS.filter(|fault| !named.contains_key(fault)).collect();
        assert!(missing.is_empty(), "no test says `fault {missing:?}` in its docstring");
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let read = |text: &str| numbers(text, "trap", "T").into_iter().collect::<Vec<_>>();
        assert_eq!(read("Source: trap T11."), [11]);
        assert_eq!(read("Trap T3, fault 44: swaps"), [3]);
        assert_eq!(read("(traps T6, T8 and T20): that"), [6, 8, 20]);
        assert_eq!(read("a trap of T4 and a trap"), []);
        let faults = numbers("Trap T20, faults 46 and 47: 100 files", "fault", "");
        assert_eq!(faults.into_iter().collect::<Vec<_>>(), [46, 47]);
        let source = "/// trap T1\nstruct S;\n/// trap T2\n#[test]\n#[ignore]\nfn a() {}\n";
        assert_eq!(docs_of_tests(source), [" trap T2"]);
    }

    /// Source: trap T23: events come from inotify. No file of a daemon speaks of fanotify, and no
    /// unit gives it the capability that this takes (`fanotify_init(2)`).
    #[test]
    fn nothing_needs_the_rights_of_fanotify() {
        let root = root();
        let of_tests = root.join("tests");
        for path in sources().into_iter().filter(|path| !path.starts_with(&of_tests)) {
            let source = fs::read_to_string(&path).expect("a source").to_lowercase();
            assert!(!source.contains("fanotify"), "{}", path.display());
        }
        let mut units = 0;
        for entry in fs::read_dir(root.join("packaging")).expect("the units") {
            let path = entry.expect("an entry").path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for line in text.lines().filter(|line| line.contains("Capabilit")) {
                units += usize::from(line.starts_with("CapabilityBoundingSet="));
                assert!(!line.contains("CAP_SYS_ADMIN"), "{}: {line}", path.display());
            }
        }
        assert!(units > 0, "no unit bounds the capabilities");
    }
}
