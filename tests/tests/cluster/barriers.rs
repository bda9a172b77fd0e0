//! Write, flush, wait, read elsewhere: by nothing but plain files and the admin port.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pickbox_raft::clock;
use pickbox_tests::cluster::{Cluster, Door, PATIENCE, env_number, tool_program};

use super::files::noise;

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(40);
/// How soon a user tries again.
const AGAIN: Duration = Duration::from_millis(50);
/// Names that the rounds use again and again.
const NAMES: u64 = 40;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.below(u64::try_from(count).unwrap())).unwrap()
    }
}

/// What the rounds came to.
#[derive(Default)]
struct Tally {
    /// By command and code.
    errors: BTreeMap<String, u64>,
    flushes: Vec<Duration>,
    waits: Vec<Duration>,
    stale: Vec<String>,
}

/// What stands at a path, once it was asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Content(Vec<u8>),
    Nothing,
}

struct Rounds {
    doors: Vec<Door>,
    folders: Vec<PathBuf>,
    dice: Dice,
    tally: Tally,
}

impl Rounds {
    /// Asks until it is answered `OK`, as a user would; any error is counted.
    fn ask(&mut self, node: usize, line: &str) -> u64 {
        let word = line.split(' ').next().unwrap().to_owned();
        let end = clock::now() + PATIENCE;
        loop {
            let answer = self.doors[node].ask(line, ANSWER);
            let code = match &answer {
                Ok(text) => match text.strip_prefix("OK ") {
                    Some(index) => return index.parse().unwrap(),
                    None => text.split(':').next().unwrap().to_owned(),
                },
                Err(error) => format!("{:?}", error.kind()),
            };
            *self.tally.errors.entry(format!("{word} {code}")).or_default() += 1;
            assert!(clock::now() < end, "{line} at node{}: {answer:?}", node + 1);
            std::thread::sleep(AGAIN);
        }
    }

    /// Does something to a name in a node's folder; what stands at which names then.
    fn edit(&mut self, node: usize, round: u64) -> Vec<(String, Expected)> {
        let folder = self.folders[node].clone();
        let name = format!("f{}", self.dice.below(NAMES));
        let path = folder.join(&name);
        let length = if self.dice.below(8) == 0 { 90_000 } else { 300 };
        let content = noise(round + 1, length);
        match self.dice.below(10) {
            0 if path.exists() => {
                fs::remove_file(&path).unwrap();
                vec![(name, Expected::Nothing)]
            }
            1 if path.exists() => {
                let to = format!("renamed{round}");
                let content = fs::read(&path).unwrap();
                fs::rename(&path, folder.join(&to)).unwrap();
                vec![(name, Expected::Nothing), (to, Expected::Content(content))]
            }
            2 => {
                let dir = format!("d{round}/deep");
                fs::create_dir_all(folder.join(&dir)).unwrap();
                fs::write(folder.join(&dir).join("f.tmp"), &content).unwrap();
                vec![(format!("{dir}/f.tmp"), Expected::Content(content))]
            }
            3..6 => {
                let temporary = folder.join(".saving.tmp");
                fs::write(&temporary, &content).unwrap();
                fs::rename(&temporary, &path).unwrap();
                vec![(name, Expected::Content(content))]
            }
            _ => {
                fs::write(&path, &content).unwrap();
                vec![(name, Expected::Content(content))]
            }
        }
    }

    fn round(&mut self, round: u64) {
        let count = self.doors.len();
        let writer = self.dice.pick(count);
        let expected = self.edit(writer, round);
        let begun = clock::now();
        let index = self.ask(writer, "FLUSH timeout 20");
        self.tally.flushes.push(begun.elapsed());
        let begun = clock::now();
        let asked = self.dice.pick(count);
        let line = match self.dice.below(3) {
            0 => "WAIT all timeout 20".to_owned(),
            _ => format!("WAIT {index} all timeout 20"),
        };
        let placed = self.ask(asked, &line);
        self.tally.waits.push(begun.elapsed());
        assert!(placed >= index, "{line} at node{}: {placed} after {index}", asked + 1);
        for reader in 0..count {
            for (name, expected) in &expected {
                let found = read(&self.folders[reader], name);
                if found != *expected {
                    self.tally.stale.push(format!(
                        "round {round}: {name} of node{} on node{} after {line} at node{}",
                        writer + 1,
                        reader + 1,
                        asked + 1
                    ));
                }
            }
        }
    }
}

fn read(folder: &Path, name: &str) -> Expected {
    fs::read(folder.join(name)).map_or(Expected::Nothing, Expected::Content)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Trap T28, P4: what was flushed on one node and waited for on another (`ROUNDS` times) is read on every
/// node by plain files, while daemons are killed and started again. An error that says so is tried
/// again; a wrong `OK` is a failure.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn flush_wait_read_elsewhere_is_never_stale() {
    let mut cluster = Cluster::start(3);
    let folders = (0..3).map(|node| cluster.folder(node).to_owned()).collect();
    let seed = u64::try_from(env_number("SEED", 5)).unwrap();
    let rounds = u64::try_from(env_number("ROUNDS", 30)).unwrap();
    let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut all = Rounds { doors: cluster.doors(), folders, dice, tally: Tally::default() };
    let is_over = AtomicBool::new(false);
    let (done, kills) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = clock::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            kill_again_and_again(&mut cluster, seed, &is_over, &done, &kills);
        });
        let over = Over(&is_over);
        for round in 0..rounds {
            all.round(round);
            done.store(round + 1, Ordering::Release);
        }
        drop(over);
    });
    let Tally { errors, mut flushes, mut waits, stale } = all.tally;
    println!(
        "{rounds} rounds in {:?}, {} kills, flush p50 {:?}, wait p50 {:?}",
        begun.elapsed(),
        kills.load(Ordering::Acquire),
        median(&mut flushes),
        median(&mut waits)
    );
    println!("errors, tried again: {errors:?}");
    println!("{} stale", stale.len());
    assert!(stale.is_empty(), "{stale:#?}");
    let tree = cluster.await_converged();
    let copies = tree.keys().filter(|path| String::from_utf8_lossy(path).contains(".conflict-"));
    assert_eq!(copies.count(), 0, "each round began where the last one ended");
}

/// Ends the killing also when a round fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Kills and starts one daemon after the other, each some rounds after the last one came back, in the
/// middle of what a round does.
fn kill_again_and_again(
    cluster: &mut Cluster,
    seed: u64,
    is_over: &AtomicBool,
    done: &AtomicU64,
    kills: &AtomicU64,
) {
    let mut dice = Dice(seed.wrapping_add(77).wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
    let goes_on = || !is_over.load(Ordering::Acquire);
    while goes_on() {
        let enough = done.load(Ordering::Acquire) + 1 + dice.below(8);
        while goes_on() && done.load(Ordering::Acquire) < enough {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(dice.below(4_000)));
        let victim = dice.pick(3);
        cluster.kill(victim);
        kills.fetch_add(1, Ordering::AcqRel);
        std::thread::sleep(Duration::from_millis(dice.below(300)));
        cluster.restart(victim);
    }
}

/// Trap T28: a flush says what it does not cover, and a wait what it cannot have.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn what_cannot_be_flushed_or_waited_for_is_named_at_once() {
    let mut cluster = Cluster::start(3);
    let open = fs::File::create(cluster.path(0, "open")).unwrap();
    let answer = cluster.ask(0, "FLUSH").unwrap();
    assert!(answer.starts_with("ERROR partial: 1 open, 0 held, 0 unreadable"), "{answer}");
    assert!(answer.contains("open: open"), "{answer}");
    drop(open);
    let answer = cluster.ask(0, "FLUSH").unwrap();
    let index = answer.strip_prefix("OK ").unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_eq!(cluster.ask(1, &format!("WAIT {index} all")).unwrap(), format!("OK {index}"));
    assert_eq!(fs::read(cluster.path(2, "open")).unwrap(), b"");
    cluster.kill(2);
    let begun = clock::now();
    let answer = cluster.ask(0, "WAIT all timeout 60").unwrap();
    assert_eq!(answer, "ERROR unreachable: node3");
    println!("node3 is called unreachable after {:?}", begun.elapsed());
    cluster.kill(1);
    cluster.write(0, "alone", "text");
    let answer = cluster.ask(0, "FLUSH timeout 60").unwrap();
    assert!(answer.starts_with("ERROR no-quorum: "), "{answer}");
}

/// What the tool prints, and its exit code.
fn tool(cluster: &Cluster, node: usize, words: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(tool_program())
        .args(words)
        .arg("--addr")
        .arg(cluster.daemon(node).admin_address().to_string())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

/// Trap T28, T6: the same by the tool, as scripts use it; `pickbox why` names the program that has a file
/// open, though the daemon may not see it, and how the file is everywhere.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_tool_flushes_waits_and_tells_why() {
    let mut cluster = Cluster::start(3);
    let open = fs::File::create(cluster.path(0, "f")).unwrap();
    let (text, code) = tool(&cluster, 0, &["flush"]);
    assert!(text.contains("open: f (partial)"), "{text}");
    assert_eq!(code, Some(1));
    let (text, _) = tool(&cluster, 0, &["why", "f"]);
    let own = format!("(pid {})", std::process::id());
    assert!(text.contains("open for writing by") && text.contains(&own), "{text}");
    drop(open);
    let (index, code) = tool(&cluster, 0, &["flush"]);
    assert_eq!(code, Some(0), "{index}");
    let index = index.trim();
    let (text, code) = tool(&cluster, 1, &["wait", index, "--all", "--json"]);
    assert_eq!((text, code), (format!("{{\"index\":{index}}}\n"), Some(0)));
    let (text, code) = tool(&cluster, 1, &["why", "f"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("node1 wrote it at index"), "{text}");
    assert_eq!(text.matches("it stands as the log has it").count(), 3, "{text}");
    cluster.kill(2);
    let (text, _) = tool(&cluster, 1, &["why", "f", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["others"][1], serde_json::json!(["node3", null]), "{text}");
    let (text, code) = tool(&cluster, 1, &["wait", "--all"]);
    assert!(text.contains("node3 (unreachable)"), "{text}");
    assert_eq!(code, Some(1));
    cluster.write(0, ".pickboxignore", "*.log\n");
    let (_, code) = tool(&cluster, 0, &["flush"]);
    assert_eq!(code, Some(0));
    cluster.write(0, "a.log", "text");
    let (text, _) = tool(&cluster, 0, &["why", "a.log"]);
    assert!(text.contains("It is ignored: line 1 of .pickboxignore"), "{text}");
    fs::remove_file(cluster.path(0, "f")).unwrap();
    let (_, code) = tool(&cluster, 0, &["flush"]);
    assert_eq!(code, Some(0));
    let (text, _) = tool(&cluster, 0, &["why", "f"]);
    assert!(text.contains("node1 deleted it at index"), "{text}");
}
