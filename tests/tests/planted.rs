//! The planted bugs, read from the checkout: a patch that nobody can plant any more tests nothing.
//! `tests/planted/run` plants them and finds them; this needs no compiler.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned()
    }

    /// Name, path and text of each patch, in order.
    fn patches() -> Vec<(String, PathBuf, String)> {
        let mut patches: Vec<_> = fs::read_dir(root().join("tests/planted"))
            .expect("the patches")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
            .map(|path| {
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).expect("a patch");
                (name, path, text)
            })
            .collect();
        patches.sort();
        assert!(!patches.is_empty(), "no patch was found");
        patches
    }

    /// What the head of a patch, everything before its first file, says under `word`.
    fn said<'a>(patch: &'a str, word: &str) -> Option<&'a str> {
        let head = patch.lines().take_while(|line| !line.starts_with("diff "));
        head.filter_map(|line| line.strip_prefix(word)).map(str::trim).find(|said| !said.is_empty())
    }

    /// The code around a planted bug moves on: the bug is made anew then, or its patch goes.
    #[test]
    fn every_planted_bug_fits_the_code_as_it_is() {
        let root = root();
        let mut failures = Vec::new();
        for (name, path, text) in patches() {
            for word in ["Bug: ", "Tests: "] {
                if said(&text, word).is_none() {
                    failures.push(format!("{name}: no line `{word}` before the first file"));
                }
            }
            let tried = Command::new("git")
                .args(["apply", "--check"])
                .arg(&path)
                .current_dir(&root)
                // The paths are those of this checkout, not of a repository around it.
                .env("GIT_CEILING_DIRECTORIES", root.parent().expect("a parent"))
                .output()
                .expect("git");
            if !tried.status.success() {
                let why = String::from_utf8_lossy(&tried.stderr);
                failures.push(format!("{name} does not fit:\n{}", why.trim()));
            }
        }
        assert!(
            failures.is_empty(),
            "make them anew (docs/testing.md, \"Planted bugs\"):\n{}",
            failures.join("\n")
        );
    }

    /// The table of docs/testing.md is what `tests/planted/run --write` found: each bug, and nothing
    /// of those that are gone.
    #[test]
    fn every_planted_bug_was_found_and_is_in_the_table() {
        let doc = fs::read_to_string(root().join("docs/testing.md")).expect("the document");
        let (_, table) = doc.split_once("<!-- planted -->").expect("the table");
        let (table, _) = table.split_once("<!-- end of planted -->").expect("its end");
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
            .map(|line| line.split(" | ").collect())
            .skip(1)
            .collect();
        let patches = patches();
        for (name, _, text) in &patches {
            let of_it: Vec<_> = rows.iter().filter(|row| row.get(1) == Some(&&**name)).collect();
            let [row] = of_it.as_slice() else {
                panic!("{name} has {} lines: run tests/planted/run --write {name}", of_it.len())
            };
            assert_eq!(row.first().copied(), said(text, "Bug: "), "{name}: what the bug is");
            let found = row.get(2).copied().unwrap_or("-");
            assert!(!["-", "broken"].contains(&found), "{name} is not found by any test");
        }
        assert_eq!(rows.len(), patches.len(), "lines of patches that are gone");
    }
}
