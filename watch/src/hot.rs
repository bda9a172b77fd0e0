//! What is done with files that stay open for writing, by the pattern of their names (trap T7).

use std::fmt;
use std::os::unix::ffi::OsStrExt;

use ::ignore::gitignore::{Gitignore, GitignoreBuilder};
use pickbox_store::name::RelPath;

/// What is done with a file that a program keeps open for writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HotPolicy {
    /// It is taken as it is after half a minute, and again whenever it changed.
    #[default]
    Snapshot,
    /// It is not taken before it is closed.
    Skip,
}

/// A rule that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHotRule {
    rule: String,
    why: String,
}

impl fmt::Display for BadHotRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}': {}", self.rule.escape_debug(), self.why)
    }
}

impl std::error::Error for BadHotRule {}

/// Patterns as in gitignore(5), each with a policy; the last that matches a path, or a directory
/// above it, decides.
#[derive(Clone, Debug, Default)]
pub struct HotRules {
    /// As they were given.
    text: Vec<String>,
    rules: Vec<(Gitignore, HotPolicy)>,
}

impl PartialEq for HotRules {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for HotRules {}

impl HotRules {
    /// Reads rules of the form `PATTERN=snapshot` or `PATTERN=skip`.
    ///
    /// # Errors
    /// With the first that is none.
    pub fn parse<'t>(rules: impl IntoIterator<Item = &'t str>) -> Result<Self, BadHotRule> {
        let mut text = Vec::new();
        let rules = rules.into_iter().map(|rule| {
            text.push(rule.to_owned());
            let bad = |why: String| BadHotRule { rule: rule.to_owned(), why };
            let form = || bad("it is not PATTERN=snapshot or PATTERN=skip".to_owned());
            let (pattern, policy) = rule.rsplit_once('=').ok_or_else(form)?;
            let policy = match policy {
                "snapshot" => HotPolicy::Snapshot,
                "skip" => HotPolicy::Skip,
                _ => return Err(form()),
            };
            if pattern.is_empty() || pattern.starts_with(['#', '!']) {
                return Err(bad("the pattern is empty, a comment or a negation".to_owned()));
            }
            let mut builder = GitignoreBuilder::new("");
            builder.add_line(None, pattern).map_err(|error| bad(error.to_string()))?;
            Ok((builder.build().map_err(|error| bad(error.to_string()))?, policy))
        });
        let rules = rules.collect::<Result<_, _>>()?;
        Ok(Self { text, rules })
    }

    /// What is to be done with the file at this path.
    #[must_use]
    pub fn policy(&self, path: &RelPath) -> HotPolicy {
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let matches = |rule: &&(Gitignore, HotPolicy)| {
            rule.0.matched_path_or_any_parents(path, false).is_ignore()
        };
        self.rules.iter().rev().find(matches).map_or(HotPolicy::default(), |(_, policy)| *policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: trap T7.
    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = ["*.db=skip", "/logs/=skip", "logs/keep.db=snapshot", "a=b=skip"];
        let rules = HotRules::parse(rules).unwrap();
        let policy = |path: &str| rules.policy(&RelPath::new(path).unwrap());
        assert_eq!(policy("x.db"), HotPolicy::Skip);
        assert_eq!(policy("deep/down/x.db"), HotPolicy::Skip);
        assert_eq!(policy("logs/today"), HotPolicy::Skip, "below a directory that matches");
        assert_eq!(policy("other/logs/today"), HotPolicy::Snapshot);
        assert_eq!(policy("logs/keep.db"), HotPolicy::Snapshot);
        assert_eq!(policy("a=b"), HotPolicy::Skip, "the last sign parts them");
        assert_eq!(policy("x"), HotPolicy::Snapshot);
        assert_eq!(HotRules::default().policy(&RelPath::new("x.db").unwrap()), HotPolicy::Snapshot);
    }

    #[test]
    fn a_bad_rule_is_told_with_its_reason() {
        for (rule, word) in [("*.db", "snapshot"), ("*.db=never", "skip"), ("=skip", "empty")] {
            let told = HotRules::parse([rule]).unwrap_err().to_string();
            assert!(told.contains(rule) && told.contains(word), "{told}");
        }
    }
}
