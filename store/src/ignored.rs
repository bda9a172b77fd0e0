//! What is left out of replication: the rules in the files named `.pickboxignore`, in the words of
//! gitignore(5).
//!
//! A file of rules stands in any directory and speaks of what lies below. Of the lines that match
//! a path the last one counts, and a file further down before one further up. What lies below an
//! ignored directory is ignored with it, and no line can take it back. A file of rules itself is
//! ignored only where its directory is.
//!
//! Pure: rules come as bytes, answers as values. Which files of rules count (those that the log
//! has) and where their directories are is for the caller to say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::ignore::Match;
use ::ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::content_id::INLINE_BYTES_MAX;
use crate::name::{Name, RelPath};

/// The name of a file of rules.
pub const IGNORE_FILE: &str = ".pickboxignore";
/// Most bytes of a file of rules: it has to travel inside the log entry that changes it. A longer
/// one is not replicated, and the rules before it stay in force.
pub const IGNORE_BYTES_MAX: u64 = INLINE_BYTES_MAX;
/// Most files of rules in a folder; those that the log made later are not in force.
pub const IGNORE_FILES_MAX: usize = 1_024;
/// Most bytes of one line.
const LINE_BYTES_MAX: usize = 1_024;
/// Bad lines of one file that are told.
const BAD_LINES_MAX: usize = 16;

/// Whether this is the name of a file of rules.
#[must_use]
pub fn is_ignore_file(name: &Name) -> bool {
    name.as_bytes() == IGNORE_FILE.as_bytes()
}

/// The line that ignores this path and no other, for a file of rules at the top of the folder;
/// `None` if no line can say it: bytes that are no text, and control characters.
#[must_use]
pub fn line_for(path: &RelPath) -> Option<String> {
    let text = std::str::from_utf8(path.as_bytes()).ok()?;
    if text.is_empty() || text.contains(char::is_control) {
        return None;
    }
    let mut line = String::from("/");
    let ends_at = text.trim_end_matches(' ').len();
    for (at, char) in text.char_indices() {
        if matches!(char, '\\' | '*' | '?' | '[') || at >= ends_at {
            line.push('\\');
        }
        line.push(char);
    }
    Some(line)
}

/// The line that ignores a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// The file of rules.
    pub file: RelPath,
    /// The line in it, from 1; 0 if the rules are not known here yet, and all below is left alone.
    pub line: u32,
    /// What stands there.
    pub pattern: String,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}, whose content is on its way", self.file),
            line => write!(f, "{}:{line} '{}'", self.file, self.pattern),
        }
    }
}

/// A line that is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Which, from 1; 0 for the whole file.
    pub line: u32,
    /// Why not.
    pub why: String,
}

/// The rules of one file.
#[derive(Clone)]
pub struct Rules {
    /// What the file holds; `None` while nobody here knows.
    text: Option<Vec<u8>>,
    matcher: Gitignore,
    bad: Vec<BadLine>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_ref().map(|text| String::from_utf8_lossy(text));
        f.debug_struct("Rules").field("text", &text).field("bad", &self.bad).finish_non_exhaustive()
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rules {}

impl Rules {
    /// Reads a file of rules. What is bad in it is told by [`Self::bad`]; the rest counts.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut builder = GitignoreBuilder::new("");
        let mut bad = Vec::new();
        let bom = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        for (line, number) in bom.split(|byte| *byte == b'\n').zip(1u32..) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Err(why) = add_line(&mut builder, line, number) {
                bad.push(BadLine { line: number, why });
            }
        }
        let matcher = builder.build().unwrap_or_else(|error| {
            bad.insert(0, BadLine { line: 0, why: error.to_string() });
            Gitignore::empty()
        });
        bad.truncate(BAD_LINES_MAX);
        Self { text: Some(text.to_vec()), matcher, bad }
    }

    /// The rules of a file whose bytes are not here: everything below it is left alone meanwhile.
    #[must_use]
    pub fn unknown() -> Self {
        Self { text: None, matcher: Gitignore::empty(), bad: Vec::new() }
    }

    /// Of a file that is longer than one may be: no line of it is in force.
    #[must_use]
    pub fn too_long() -> Self {
        let why = format!("longer than {IGNORE_BYTES_MAX} bytes");
        Self { bad: vec![BadLine { line: 0, why }], ..Self::parse(&[]) }
    }

    /// What the file holds, if that is known.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    /// The lines that are no rules.
    #[must_use]
    pub fn bad(&self) -> &[BadLine] {
        &self.bad
    }

    /// Whether everything that `former` ignores is ignored by these too: lines were only added,
    /// and none of them takes anything back.
    #[must_use]
    pub fn only_adds_to(&self, former: &Self) -> bool {
        let (Some(new), Some(old)) = (&self.text, &former.text) else { return false };
        let Some(added) = new.strip_prefix(old.as_slice()) else { return false };
        let whole = old.is_empty() || old.ends_with(b"\n") || added.starts_with(b"\n");
        (whole || added.is_empty())
            && !added.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"!"))
    }

    /// What the last line that matches says of a path relative to the directory of the file, and
    /// which line that is.
    fn of(&self, below: &Path, is_dir: bool) -> Match<u32> {
        if self.text.is_none() {
            return Match::Ignore(0);
        }
        self.matcher.matched(below, is_dir).map(|glob| {
            let line = glob.from().and_then(Path::to_str).and_then(|line| line.parse().ok());
            line.unwrap_or_default()
        })
    }

    /// A line as it stands in the file.
    fn line(&self, number: u32) -> Option<String> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        let line = self.text.as_ref()?.split(|byte| *byte == b'\n').nth(at)?;
        Some(String::from_utf8_lossy(line).trim_start_matches('\u{feff}').trim_end().to_owned())
    }
}

fn add_line(builder: &mut GitignoreBuilder, line: &[u8], number: u32) -> Result<(), String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    // The library carries where a rule is from as a path; the number of its line is all we need.
    let from = Some(PathBuf::from(number.to_string()));
    builder.add_line(from, &literal_braces(text)).map(drop).map_err(|error| error.to_string())
}

/// To git a brace is a character like any other, to the library it is an alternative.
fn literal_braces(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut escaped, mut in_class) = (false, false);
    for char in line.chars() {
        if !escaped && !in_class && matches!(char, '{' | '}') {
            out.push('\\');
        }
        in_class = !escaped && (in_class || char == '[') && !(in_class && char == ']');
        escaped = char == '\\' && !escaped;
        out.push(char);
    }
    out
}

/// All rules of a folder, each under the directory that it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    files: BTreeMap<RelPath, Arc<Rules>>,
}

impl Ignored {
    /// From the rules of each directory.
    #[must_use]
    pub fn new(files: BTreeMap<RelPath, Arc<Rules>>) -> Self {
        Self { files }
    }

    /// Whether there are no rules at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files of rules: the directory of each, and what it says.
    pub fn files(&self) -> impl Iterator<Item = (&RelPath, &Rules)> {
        self.files.iter().map(|(dir, rules)| (dir, rules.as_ref()))
    }

    /// Which line of which file ignores a path, or a directory above it; `None`: it is replicated.
    #[must_use]
    pub fn by(&self, path: &RelPath, is_dir: bool) -> Option<RuleRef> {
        if self.files.is_empty() {
            return None;
        }
        let mut above = vec![RelPath::root()];
        let mut names = path.names().peekable();
        while let Some(name) = names.next() {
            let at = above.last().map(|dir| dir.join(&name)).unwrap_or_default();
            let is_last = names.peek().is_none();
            if is_last && is_ignore_file(&name) {
                return None;
            }
            let rule = self.rule_of(&above, &at, is_dir || !is_last);
            if rule.is_some() {
                return rule;
            }
            above.push(at);
        }
        None
    }

    /// What ignores one entry whose directories `above` are not ignored.
    fn rule_of(&self, above: &[RelPath], at: &RelPath, is_dir: bool) -> Option<RuleRef> {
        for dir in above.iter().rev() {
            let Some(rules) = self.files.get(dir) else { continue };
            let cut = if dir.is_root() { 0 } else { dir.as_bytes().len() + 1 };
            let below = Path::new(OsStr::from_bytes(at.as_bytes().get(cut..).unwrap_or_default()));
            match rules.of(below, is_dir) {
                Match::None => {}
                // Taken back: as if no line had matched, and nothing further up is asked.
                Match::Whitelist(_) => return None,
                Match::Ignore(line) => {
                    let file = dir.join(&Name::made(IGNORE_FILE.to_owned()));
                    let pattern = rules.line(line).unwrap_or_default();
                    return Some(RuleRef { file, line, pattern });
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    fn ignored(files: &[(&str, &str)]) -> Ignored {
        let rules = |text: &str| Arc::new(Rules::parse(text.as_bytes()));
        Ignored::new(files.iter().map(|(dir, text)| (rel(dir), rules(text))).collect())
    }

    fn by(ignored: &Ignored, path: &str) -> Option<String> {
        let is_dir = path.ends_with('/');
        ignored.by(&rel(path.trim_end_matches('/')), is_dir).map(|rule| rule.to_string())
    }

    /// gitignore(5), its rules one by one.
    #[test]
    fn lines_mean_what_gitignore_says() {
        let all = ignored(&[(
            "",
            "# a comment\n\n*.o\n!keep.o\nbuild/\n/top\ndoc/*.txt\na/**/z\n\\#x\n\\!y\nsp\\ \ntrail   \n{b}",
        )]);
        let table = [
            ("x.o", Some(".pickboxignore:3 '*.o'")),
            ("d/x.o", Some(".pickboxignore:3 '*.o'")),
            ("keep.o", None),
            ("build/", Some(".pickboxignore:5 'build/'")),
            ("build", None),
            ("d/build/x/y", Some(".pickboxignore:5 'build/'")),
            ("top", Some(".pickboxignore:6 '/top'")),
            ("d/top", None),
            ("doc/a.txt", Some(".pickboxignore:7 'doc/*.txt'")),
            ("doc/d/a.txt", None),
            ("e/doc/a.txt", None),
            ("a/z", Some(".pickboxignore:8 'a/**/z'")),
            ("a/b/c/z", Some(".pickboxignore:8 'a/**/z'")),
            ("#x", Some(".pickboxignore:9 '\\#x'")),
            ("!y", Some(".pickboxignore:10 '\\!y'")),
            ("trail", Some(".pickboxignore:12 'trail'")),
            ("{b}", Some(".pickboxignore:13 '{b}'")),
            ("b", None),
            ("c", None),
        ];
        for (path, rule) in table {
            assert_eq!(by(&all, path).as_deref(), rule, "{path}");
        }
    }

    #[test]
    fn a_file_further_down_counts_before_one_further_up() {
        let all = ignored(&[("", "*.log\n/d/x\n"), ("d", "!a.log\n*.tmp\n"), ("d/e", "*.log")]);
        assert_eq!(by(&all, "d/a.log"), None);
        assert_eq!(by(&all, "d/b.log").unwrap(), ".pickboxignore:1 '*.log'");
        assert_eq!(by(&all, "d/e/a.log").unwrap(), "d/e/.pickboxignore:1 '*.log'");
        assert_eq!(by(&all, "d/y.tmp").unwrap(), "d/.pickboxignore:2 '*.tmp'");
        assert_eq!(by(&all, "y.tmp"), None);
        assert_eq!(by(&all, "d/x/y").unwrap(), ".pickboxignore:2 '/d/x'");
    }

    #[test]
    fn below_an_ignored_directory_nothing_is_taken_back() {
        let all = ignored(&[("", "out/\n!out/keep\n"), ("out", "!*\n")]);
        assert_eq!(by(&all, "out/keep").unwrap(), ".pickboxignore:1 'out/'");
    }

    #[test]
    fn a_file_of_rules_is_ignored_only_with_its_directory() {
        let all = ignored(&[("", "*\n!d/\nout/\n")]);
        assert_eq!(by(&all, ".pickboxignore"), None);
        assert_eq!(by(&all, "d/.pickboxignore"), None);
        assert_eq!(by(&all, "out/.pickboxignore").unwrap(), ".pickboxignore:3 'out/'");
        assert_eq!(by(&all, "x").unwrap(), ".pickboxignore:1 '*'");
    }

    #[test]
    fn bad_lines_are_told_by_number_and_the_rest_counts() {
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        let text = [b"*.o\n\xff\xfe\n[z-a]\n".as_slice(), long.as_bytes(), b"\n*.tmp"].concat();
        let rules = Rules::parse(&text);
        let numbers: Vec<_> = rules.bad().iter().map(|bad| bad.line).collect();
        assert_eq!(numbers, [2, 3, 4]);
        let all = Ignored::new([(RelPath::root(), Arc::new(rules))].into());
        assert_eq!(by(&all, "a.tmp").unwrap(), ".pickboxignore:5 '*.tmp'");
        assert_eq!(by(&all, "a.o").unwrap(), ".pickboxignore:1 '*.o'");
    }

    #[test]
    fn while_rules_are_unknown_all_below_but_their_file_is_left_alone() {
        let all = Ignored::new([(rel("d"), Arc::new(Rules::unknown()))].into());
        assert_eq!(by(&all, "d"), None);
        assert_eq!(by(&all, "d/.pickboxignore"), None);
        let rule = all.by(&rel("d/x"), false).unwrap();
        assert_eq!((rule.line, rule.file), (0, rel("d/.pickboxignore")));
    }

    #[test]
    fn adding_lines_is_told_from_taking_back() {
        let rules = |text: &str| Rules::parse(text.as_bytes());
        assert!(rules("*.o\n*.a\n").only_adds_to(&rules("*.o\n")));
        assert!(rules("*.o\n").only_adds_to(&rules("")));
        assert!(!rules("*.o\n!a.o\n").only_adds_to(&rules("*.o\n")));
        assert!(!rules("*.o2\n").only_adds_to(&rules("*.o")));
        assert!(!rules("*.a\n").only_adds_to(&rules("*.o\n")));
        assert!(!rules("*.o\n").only_adds_to(&Rules::unknown()));
    }

    /// Bytes that are no UTF-8 are names like any others.
    #[test]
    fn names_are_bytes() {
        let all = ignored(&[("", "*.o")]);
        assert!(all.by(&RelPath::new(b"\xff\xfe.o".to_vec()).unwrap(), false).is_some());
    }

    /// The line to paste ignores what it is for, and nothing else.
    #[test]
    fn the_line_for_a_path_ignores_just_that() {
        let paths = ["a", "d/a b", "d/*", "[x]", "a?", "b\\c", "#a", "!a", "{x,y}", "end  ", "ab"];
        for path in paths {
            let line = line_for(&rel(path)).unwrap();
            let all = ignored(&[("", &line)]);
            for other in paths {
                let hit = all.by(&rel(other), false).is_some();
                assert_eq!(hit, other == path, "{line} and {other}");
            }
            assert!(all.by(&rel(&format!("z/{path}")), false).is_none());
        }
        assert_eq!(line_for(&RelPath::new(b"\xff".to_vec()).unwrap()), None);
        assert_eq!(line_for(&rel("a\nb")), None);
    }

    /// The most that may be in one file can be used: thousands of lines of the dear kind.
    #[test]
    fn a_full_file_of_dear_patterns_compiles() {
        let lines: Vec<_> = (0..1_200).map(|n| format!("a*b{n}/**/c?[d-f]*{n}")).collect();
        let text = lines.join("\n");
        assert!(text.len() < usize::try_from(IGNORE_BYTES_MAX).unwrap());
        let rules = Rules::parse(text.as_bytes());
        assert_eq!(rules.bad(), []);
        let all = Ignored::new([(RelPath::root(), Arc::new(rules))].into());
        assert!(all.by(&rel("axxb7/y/cxd7"), false).is_some());
    }
}
