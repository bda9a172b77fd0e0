//! `.pickboxignore` with real daemons, and against git itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use pickbox_store::ignored::{IGNORE_FILE, Ignored, Rules};
use pickbox_store::name::RelPath;
use pickbox_tests::cluster::Cluster;

/// splitmix64 (Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }

    /// A pattern of a few parts, anchored or not, taken back or not, of directories or of all.
    fn pattern(&mut self) -> String {
        let parts =
            ["a", "b", "ab", "*", "a*", "?", "[ab]", "[!a]", "**", "*b", "\\a", "{a,b}", "a b"];
        let count = 1 + self.roll(3);
        let body: Vec<&str> = (0..count).map(|_| self.of(&parts)).collect();
        let (head, tail) = (self.of(&["", "", "", "!", "/", "!/"]), self.of(&["", "", "/", " "]));
        format!("{head}{}{tail}", body.join("/"))
    }
}

/// What git leaves out of a tree, by `git check-ignore`.
fn by_git(top: &std::path::Path, paths: &[String]) -> Vec<String> {
    let mut git = Command::new("git");
    git.current_dir(top).args(["check-ignore", "--no-index", "-z", "--stdin"]);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = git.spawn().expect("git; see `make setup`");
    let asked = paths.join("\0");
    child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    found.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// Random rules over one tree: the same files are left out as by git, which is the measure of what
/// gitignore(5) means.
#[test]
#[ignore = "needs git: make test-cluster"]
fn rules_mean_what_they_mean_to_git() {
    let temp = tempfile::tempdir().unwrap();
    let run = Command::new("git").arg("init").arg("-q").current_dir(temp.path()).status().unwrap();
    assert!(run.success());
    let names = ["a", "b", "ab", "ba", "a b", "{a,b}"];
    let mut paths = Vec::new();
    for one in names {
        for two in names {
            fs::create_dir_all(temp.path().join(one).join(two)).unwrap();
            for three in ["a", "b", "c"] {
                paths.push(format!("{one}/{two}/{three}"));
                fs::write(temp.path().join(one).join(two).join(three), "").unwrap();
            }
        }
    }
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut files = BTreeMap::new();
        for dir in ["", "a", "a/b"] {
            let lines: Vec<String> = (0..dice.roll(4)).map(|_| dice.pattern()).collect();
            let text = lines.join("\n");
            fs::write(temp.path().join(dir).join(".gitignore"), &text).unwrap();
            let dir = RelPath::new(dir.as_bytes()).unwrap();
            files.insert(dir, (text.clone(), Arc::new(Rules::parse(text.as_bytes()))));
        }
        let told: Vec<_> = files.values().map(|(text, _)| text.clone()).collect();
        let rules = files.into_iter().map(|(dir, (_, rules))| (dir, rules)).collect();
        let ignored = Ignored::new(rules);
        let ours: Vec<String> = paths
            .iter()
            .filter(|path| ignored.by(&RelPath::new(path.as_bytes()).unwrap(), false).is_some())
            .cloned()
            .collect();
        assert_eq!(ours, by_git(temp.path(), &paths), "seed {seed}: {told:?}");
    }
}

/// Three daemons: a rule comes, holds and goes, and no folder loses anything by it.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn what_is_ignored_stays_where_it_is() {
    let cluster = Cluster::start_default();
    cluster.write(0, "before.log", "replicated\n");
    cluster.await_content("before.log", "replicated\n");
    cluster.write(1, IGNORE_FILE, "*.log\nbuild/\n");
    cluster.await_content(IGNORE_FILE, "*.log\nbuild/\n");
    fs::create_dir(cluster.path(2, "build")).unwrap();
    cluster.write(2, "build/out", "mine");
    cluster.write(2, "before.log", "edited\n");
    cluster.write(2, "after", "counts");
    cluster.await_content("after", "counts");
    assert_eq!(cluster.read(0, "before.log").unwrap(), b"replicated\n");
    assert!(cluster.read(0, "build/out").is_none());
    let answer = cluster.forward_write(0, "x.log", b"x");
    assert!(answer.starts_with("ERROR ignored: by .pickboxignore:1 '*.log'"), "{answer}");
    fs::remove_file(cluster.path(0, IGNORE_FILE)).unwrap();
    cluster.await_content("before.log", "edited\n");
    cluster.await_content("build/out", "mine");
    cluster.await_converged();
}
