//! Who gets in from elsewhere, and with what: join tokens (faults 66, 81 and 93).
//!
//! A user of this host who runs the daemons, and root, need no token. So the nodes that need one here
//! run as another user, with directories of their own; only root can start those.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use pickbox_admin::join_tokens::TokenReport;
use pickbox_admin::status::MemberRole;
use pickbox_tests::cluster::{Cluster, Signal, tool_program};
use rustix::process::{Pid, kill_process};
use sha2::{Digest as _, Sha256};

use super::secrets::{Secret, hex, talkative, without_zeros};

/// Somebody with no rights (nobody, on most systems).
const NOBODY: u32 = 65534;

/// Whether these tests can run. Says why not.
fn can_run() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        // Past what catches the output of a test.
        let why_not = "only root can start daemons of another user";
        let _ = writeln!(std::io::stderr(), "skipped: {why_not}");
    }
    is_root
}

fn cluster_for_strangers(count: usize) -> Cluster {
    let cluster = Cluster::start(count);
    fs::set_permissions(cluster.root(), Permissions::from_mode(0o755)).unwrap();
    cluster
}

/// A node of another user, which has not been started yet.
fn stranger(cluster: &mut Cluster) -> usize {
    let number = cluster.prepare_node();
    move_in(cluster, number, "home");
    number
}

/// Gives a node of another user directories that do not exist yet.
fn move_in(cluster: &mut Cluster, number: usize, home: &str) {
    let home = cluster.root().join(format!("{home}{number}"));
    fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let daemon = cluster.daemon_mut(number);
    (daemon.folder, daemon.state) = (home.join("folder"), home.join("state"));
    let id = NOBODY.to_string();
    let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    daemon.launcher = words.map(str::to_owned).to_vec();
}

fn tool(cluster: &Cluster, node: usize, words: &[&str]) -> Output {
    let address = cluster.daemon(node).admin_address().to_string();
    let mut command = Command::new(tool_program());
    command.args(words).args(["--addr", &address]).stdin(Stdio::null()).output().unwrap()
}

fn tool_ok(cluster: &Cluster, node: usize, words: &[&str]) -> String {
    let output = tool(cluster, node, words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}\n{}", cluster.describe());
    String::from_utf8(output.stdout).unwrap()
}

/// A new join token in a file of the other user, and its line.
fn token(cluster: &Cluster, node: usize, more: &[&str]) -> (PathBuf, String) {
    let line = tool_ok(cluster, node, &[&["token", "create"], more].concat());
    assert_eq!(line.lines().count(), 1, "one line and nothing else: {line:?}");
    (token_file(cluster, &line), line)
}

fn token_file(cluster: &Cluster, line: &str) -> PathBuf {
    let name = format!("token-{}", &hex(&Sha256::digest(line))[..16]);
    let path = cluster.root().join(name);
    fs::write(&path, line).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    path
}

fn tokens(cluster: &Cluster, node: usize) -> Vec<TokenReport> {
    serde_json::from_str(&tool_ok(cluster, node, &["token", "list", "--json"])).unwrap()
}

fn use_token(cluster: &mut Cluster, node: usize, file: &Path) {
    let flag = format!("--token-file={}", file.display());
    let entry = &mut cluster.daemon_mut(node).entry;
    entry.retain(|word| !word.starts_with("--token-file"));
    entry.push(flag);
}

/// Starts the node, which is refused and ends; what it says.
fn refused(cluster: &Cluster, node: usize) -> String {
    let output = cluster.daemon(node).command().stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!words.contains("panicked"), "{words}");
    words
}

/// Starts the node, which gets in and votes, under a new number.
fn gets_in(cluster: &mut Cluster, node: usize) {
    let name = cluster.daemon(node).name.clone();
    let former = cluster.member(0, &name).map(|member| member.number);
    cluster.restart(node);
    cluster.await_that("it votes", |cluster| {
        cluster.member(0, &name).is_some_and(|member| {
            member.role == MemberRole::Voter && former.is_none_or(|former| member.number > former)
        })
    });
}

/// faults 66, 81, 93: another user gets in with a token and not without one; with one that was used not
/// again, nor with one that was revoked.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_token_lets_one_node_in_once() {
    if !can_run() {
        return;
    }
    let mut cluster = cluster_for_strangers(1);
    let (second, third) = (stranger(&mut cluster), stranger(&mut cluster));
    let words = refused(&cluster, second);
    assert!(words.contains("token"), "what to do is said: {words}");
    assert!(!cluster.daemon(second).state.join("identity").exists(), "it is nobody");

    let (file, line) = token(&cluster, 0, &["--ttl", "2m"]);
    let listed = tokens(&cluster, 0);
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].node_id.as_deref(), listed[0].issued_by.as_str()), (None, "node1"));
    assert!((1..=120).contains(&listed[0].seconds_left), "{listed:?}");
    use_token(&mut cluster, second, &file);
    gets_in(&mut cluster, second);
    assert_eq!(tokens(&cluster, 0), [], "it is used up");
    fs::remove_file(&file).unwrap();

    let again = token_file(&cluster, &line);
    use_token(&mut cluster, third, &again);
    let words = refused(&cluster, third);
    assert!(words.contains("token"), "{words}");

    let (file, _) = token(&cluster, 0, &[]);
    let id = tokens(&cluster, second)[0].token_id.clone();
    tool_ok(&cluster, second, &["token", "revoke", &id]);
    let twice = tool(&cluster, 0, &["token", "revoke", &id]);
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");
    use_token(&mut cluster, third, &file);
    refused(&cluster, third);
    assert!(cluster.member(0, "node3").is_none());

    // Who is in stays in, without the file.
    cluster.terminate(second);
    cluster.restart(second);
    cluster.write(second, "file", "from another user");
    cluster.await_content("file", "from another user");
    cluster.await_converged();
}

/// fault 81: a token for a name lets in nobody else, and is not used up by those who try; only with one
/// for its name a node takes a member's place, and only when that one is gone.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_member_s_place_is_taken_with_a_token_for_its_name_only() {
    if !can_run() {
        return;
    }
    let mut cluster = cluster_for_strangers(2);
    let third = stranger(&mut cluster);
    let (for_other, _) = token(&cluster, 0, &["--node", "node9"]);
    use_token(&mut cluster, third, &for_other);
    let words = refused(&cluster, third);
    assert!(words.contains("called node9"), "{words}");
    assert_eq!(tokens(&cluster, 0)[0].node_id.as_deref(), Some("node9"), "it can still be used");
    let (unbound, line) = token(&cluster, 1, &[]);
    use_token(&mut cluster, third, &unbound);
    gets_in(&mut cluster, third);
    let former = cluster.member(0, "node3").unwrap();
    cluster.write(third, "file", "of node3");
    cluster.await_content("file", "of node3");

    // Another one with its name, and nothing of its state.
    let (file, _) = token(&cluster, 0, &["--node", "node3"]);
    let fourth = stranger(&mut cluster);
    cluster.daemon_mut(fourth).name = "node3".to_owned();
    use_token(&mut cluster, fourth, &file);
    let words = refused(&cluster, fourth);
    assert!(words.contains("is connected"), "{words}");
    cluster.terminate(third);
    cluster.await_that("it is gone", |cluster| {
        (0..2).all(|node| !cluster.member(node, "node3").unwrap().connected)
    });
    let (unbound, other) = token(&cluster, 0, &[]);
    assert_ne!(line, other);
    use_token(&mut cluster, fourth, &unbound);
    let words = refused(&cluster, fourth);
    assert!(words.contains("is a member already"), "{words}");
    let still = cluster.member(0, "node3").unwrap();
    assert_eq!((still.number, &still.key), (former.number, &former.key));
    use_token(&mut cluster, fourth, &file);
    gets_in(&mut cluster, fourth);
    let new = cluster.member(0, "node3").unwrap();
    assert!(new.number > former.number && new.key != former.key, "{new:?}");
    cluster.await_content("file", "of node3");
    // The former one is out for good.
    cluster.restart(third);
    cluster.await_that("it knows", |cluster| {
        cluster.status(third).is_some_and(|report| report.is_removed)
    });
    assert_eq!(cluster.member(0, "node3").unwrap().number, new.number);
}

/// fault 93: what one member has given out the next leader knows, whoever was asked for it.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_token_outlives_the_leader_that_made_it_valid() {
    if !can_run() {
        return;
    }
    let mut cluster = cluster_for_strangers(3);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let (file, line) = token(&cluster, follower, &[]);
    let port = cluster.daemon(follower).port;
    assert!(
        line.contains(&format!("/127.0.0.1:{port}/")),
        "it names the one that was asked: {line}"
    );
    cluster.kill(leader);
    let fourth = stranger(&mut cluster);
    // No other address: the one of the token is asked.
    cluster.daemon_mut(fourth).entry.clear();
    use_token(&mut cluster, fourth, &file);
    cluster.restart(fourth);
    cluster.await_that("it is a member", |cluster| cluster.member(follower, "node4").is_some());
    cluster.restart(leader);
    cluster.await_members();
    cluster.await_converged();
}

/// fault 93: two nodes with the same token: one gets in.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn of_two_with_one_token_one_gets_in() {
    if !can_run() {
        return;
    }
    let mut cluster = cluster_for_strangers(3);
    let rivals = [stranger(&mut cluster), stranger(&mut cluster)];
    let (file, _) = token(&cluster, 0, &[]);
    for rival in rivals {
        use_token(&mut cluster, rival, &file);
    }
    let start = |rival: usize| {
        let log = File::create(&cluster.daemon(rival).log).unwrap();
        let mut command = cluster.daemon(rival).command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    };
    let mut children = rivals.map(start);
    let mut loser = None;
    cluster.await_that("one is refused", |_| {
        loser = children.iter_mut().position(|child| child.try_wait().unwrap().is_some());
        loser.is_some()
    });
    let loser = loser.unwrap();
    let status = children[loser].wait().unwrap();
    assert_eq!(status.code(), Some(1), "{}", cluster.daemon(rivals[loser]).log_text());
    let [lost, won] =
        [rivals[loser], rivals[1 - loser]].map(|node| cluster.daemon(node).name.clone());
    cluster.await_that("the other one votes", |cluster| {
        cluster.member(0, &won).is_some_and(|member| member.role == MemberRole::Voter)
    });
    assert!(cluster.member(0, &lost).is_none());
    assert_eq!(tokens(&cluster, 0), []);
    end(&mut children[1 - loser]);
}

fn end(child: &mut Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    child.wait().unwrap();
}

/// fault 90: a token can be given without any file.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_token_is_read_from_standard_input() {
    if !can_run() {
        return;
    }
    let mut cluster = cluster_for_strangers(1);
    let second = stranger(&mut cluster);
    let (_, line) = token(&cluster, 0, &["--node", "node2"]);
    cluster.daemon_mut(second).entry = vec!["--token-file=-".to_owned()];
    let mut command = cluster.daemon(second).command();
    let log = File::create(&cluster.daemon(second).log).unwrap();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    cluster.await_that("it votes", |cluster| {
        cluster.member(0, "node2").is_some_and(|member| member.role == MemberRole::Voter)
    });
    end(&mut child);
    // With state it reads none.
    cluster.restart(second);
    cluster.write(0, "file", "content");
    cluster.await_content("file", "content");
}

/// faults 90, 91: what lets a node in stands in the one line that was asked for and nowhere else: not in
/// a log, a trace, the replicated log or a file of the state, and the file that holds it is for its user.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_secret_of_a_token_is_in_its_line_only() {
    if !can_run() {
        return;
    }
    let mut cluster = talkative("canary-Admin+Token/77aa55");
    fs::set_permissions(cluster.root(), Permissions::from_mode(0o755)).unwrap();
    let path = cluster.root().join("made");
    let made = path.to_str().unwrap();
    assert_eq!(tool_ok(&cluster, 1, &["token", "create", "-o", made]), "");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = tool(&cluster, 1, &["token", "create", "-o", made]);
    assert_eq!(again.status.code(), Some(1), "it is not written over: {again:?}");
    assert_eq!(tokens(&cluster, 1).len(), 1, "and none is made that nobody has");
    let lines = [fs::read_to_string(&path).unwrap(), token(&cluster, 2, &[]).1];
    let fourth = stranger(&mut cluster);
    cluster.daemon_mut(fourth).entry.push("--log-level=trace".to_owned());
    let file = token_file(&cluster, &lines[0]);
    use_token(&mut cluster, fourth, &file);
    gets_in(&mut cluster, fourth);
    let id = tokens(&cluster, 0)[0].token_id.clone();
    tool_ok(&cluster, 0, &["token", "revoke", &id]);
    cluster.await_converged();

    let secrets: Vec<Secret> = lines.iter().flat_map(|line| secrets_of(line)).collect();
    for node in 0..4 {
        let daemon = cluster.daemon(node);
        let proc = format!("/proc/{}", daemon.pid().unwrap());
        let mut places = vec![daemon.log.clone(), format!("{proc}/cmdline").into()];
        if node < 3 {
            places.push(cluster.root().join(format!("trace{node}")));
        }
        for directory in [daemon.state.clone(), daemon.state.join("wal")] {
            let files = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
            places.extend(files.filter(|path| path.is_file()));
        }
        assert!(places.len() > 5, "{places:?}");
        for place in places {
            let text = without_zeros(&fs::read(&place).unwrap());
            for secret in &secrets {
                secret.assert_absent(&place.display().to_string(), &text);
            }
        }
        let log = daemon.log_text();
        assert!(log.contains("TRACE"), "it talks");
    }
    let told = (0..3).any(|node| {
        let log = cluster.daemon(node).log_text();
        log.contains("token_issued") && log.contains("token_gone")
    });
    assert!(told, "that there was one is told");
}

/// The secret of a line, and the private key that is made of it.
fn secrets_of(line: &str) -> [Secret; 3] {
    let digits = line.trim_end().rsplit('/').next().unwrap();
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(bytes.len(), 16);
    let seed = Sha256::digest([&b"pickbox join token seed 1"[..], &bytes].concat());
    [
        Secret::new("the secret", &bytes),
        Secret::new("the digits of the secret", digits),
        Secret::new("the private key of the token", seed),
    ]
}

/// faults 69, 93: a node of another user that lost its key, and one that was removed, come back over the
/// folders that they have.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_lost_node_comes_back_with_a_token() {
    if !can_run() {
        return;
    }
    let mut cluster = cluster_for_strangers(2);
    let third = stranger(&mut cluster);
    let (file, _) = token(&cluster, 0, &[]);
    use_token(&mut cluster, third, &file);
    gets_in(&mut cluster, third);
    cluster.write(third, "file", "content");
    cluster.await_converged();
    let first = cluster.member(0, "node3").unwrap();

    cluster.terminate(third);
    fs::remove_file(cluster.daemon(third).state.join("node.key")).unwrap();
    let words = refused(&cluster, third);
    assert!(words.contains("--rejoin") && words.contains("--token-file"), "{words}");
    cluster.daemon_mut(third).entry.push("--rejoin".to_owned());
    let (file, _) = token(&cluster, 1, &["--node", "node3"]);
    use_token(&mut cluster, third, &file);
    gets_in(&mut cluster, third);
    let second = cluster.member(0, "node3").unwrap();
    assert!(second.number > first.number && second.key != first.key, "{second:?}");
    cluster.await_converged();

    tool_ok(&cluster, 0, &["member", "remove", "node3"]);
    cluster.terminate(third);
    let (file, _) = token(&cluster, 1, &[]);
    use_token(&mut cluster, third, &file);
    gets_in(&mut cluster, third);
    assert!(cluster.member(0, "node3").unwrap().number > second.number);
    cluster.daemon_mut(third).entry.retain(|word| word != "--rejoin");
    cluster.terminate(third);
    cluster.write(0, "later", "content");
    cluster.restart(third);
    cluster.await_content("later", "content");
    cluster.await_converged();
}
