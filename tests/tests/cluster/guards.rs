//! The guards with real daemons: mass deletions are held, a root that is not the one is no mass
//! deletion (trap T20). Mounting needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pickbox_tests::cluster::Cluster;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see `make setup`"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Something mounted at a path, until the end of the test.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], at: &Path) -> Self {
        run("mount", &[arguments, &[at.to_str().unwrap()]].concat());
        Self(at.to_owned())
    }

    fn lazily_end(&self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn fill(cluster: &Cluster, count: usize) {
    fs::create_dir_all(cluster.path(0, "d/e")).unwrap();
    for number in 0..count {
        cluster.write(0, &format!("d/e/{number}"), format!("content {number}"));
    }
    cluster.write(0, "top", "top");
}

fn has_alarm(cluster: &Cluster, node: usize, words: &str) -> bool {
    let report = cluster.status(node);
    report.is_some_and(|report| report.alarms.iter().any(|alarm| alarm.contains(words)))
}

/// `rm -rf FOLDER/*`
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
}

/// trap T20, faults 46 and 47: an emptied folder deletes nothing elsewhere until somebody says so, also
/// over a kill; rejected it is filled again, approved it is empty everywhere.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn an_emptied_folder_is_held_until_somebody_decides() {
    let mut cluster = Cluster::start(3);
    fill(&cluster, 600);
    let before = cluster.await_converged();
    empty(cluster.folder(1));
    cluster.await_that("the deletions are held", |cluster| has_alarm(cluster, 1, "601 files"));
    let status = cluster.status(1).unwrap();
    assert!(status.pending_parts.held > 600, "{status:?}");
    assert!(!cluster.ask(1, "STATUS").unwrap().starts_with("OK"), "the verdict tells");
    let held = cluster.ask(1, "HELD json").unwrap();
    assert!(held.contains("\"hold_id\":\"node2-1\"") && held.contains("601"), "{held}");
    let elsewhere = cluster.ask(0, "APPROVE node2-1").unwrap();
    assert!(elsewhere.starts_with("ERROR not-found") && elsewhere.contains("node2"), "{elsewhere}");
    cluster.kill(1);
    cluster.restart(1);
    cluster.await_that("they are still held", |cluster| has_alarm(cluster, 1, "node2-1"));
    for node in [0, 2] {
        assert_eq!(cluster.trees()[&node], before, "nothing is deleted elsewhere");
    }
    let answer = cluster.ask(1, "REJECT all").unwrap();
    assert!(answer.starts_with("OK 603 deletions rejected"), "{answer}");
    assert_eq!(cluster.await_converged(), before);
    empty(cluster.folder(1));
    cluster.await_that("the deletions are held", |cluster| has_alarm(cluster, 1, "601 files"));
    let answer = cluster.ask(1, "APPROVE node2-1").unwrap();
    assert!(answer.starts_with("OK 603 deletions approved"), "{answer}");
    cluster.await_that("it is empty", |cluster| {
        cluster.trees().values().all(std::collections::BTreeMap::is_empty)
    });
    cluster.await_converged();
}

/// trap T20, fault 46: a file system is mounted over the folder, and taken away again.
#[test]
#[ignore = "needs built daemons and root: make test-cluster"]
fn what_is_mounted_over_the_folder_is_not_the_folder() {
    if !is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let cluster = Cluster::start(3);
    fill(&cluster, 20);
    cluster.await_converged();
    let over = Mount::new(&["-t", "tmpfs", "none"], cluster.folder(1));
    cluster.await_that("it is noticed", |cluster| has_alarm(cluster, 1, "not where it was"));
    cluster.write(0, "top", "edited meanwhile");
    cluster.write(2, "new", "new");
    fs::write(cluster.path(1, "stray"), "of nobody").unwrap();
    cluster.await_that("the others have it", |cluster| {
        cluster.read(2, "top").is_some_and(|content| content == b"edited meanwhile")
    });
    assert_eq!(fs::read_dir(cluster.folder(1)).unwrap().count(), 1, "nothing is placed there");
    over.lazily_end();
    cluster.await_content("top", "edited meanwhile");
    cluster.await_content("new", "new");
    let after = cluster.await_converged();
    assert!(!after.contains_key(&b"stray"[..]) && after.len() == 24, "{:?}", after.keys());
    assert!(cluster.status(1).unwrap().alarms.is_empty());
}

/// trap T20, fault 46: the file system with folder and state is unmounted under the daemon (lazily, since
/// it is in use), and mounted again.
#[test]
#[ignore = "needs built daemons and root: make test-cluster"]
fn a_folder_that_is_unmounted_is_gone_on_with_when_it_is_back() {
    if !is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let mut cluster = Cluster::start(3);
    fill(&cluster, 20);
    cluster.await_converged();
    cluster.terminate(1);
    let (real, at) = (cluster.root().join("real"), cluster.root().join("at"));
    for dir in [&real, &at] {
        fs::create_dir(dir).unwrap();
    }
    let mount = Mount::new(&["--bind", real.to_str().unwrap()], &at);
    let daemon = cluster.daemon_mut(1);
    for path in [&mut daemon.folder, &mut daemon.state] {
        let name = path.file_name().unwrap().to_owned();
        fs::rename(&*path, real.join(&name)).unwrap();
        *path = at.join(name);
    }
    cluster.restart(1);
    let before = cluster.await_converged();
    mount.lazily_end();
    cluster.await_that("it is noticed", |cluster| has_alarm(cluster, 1, "not where it was"));
    cluster.write(0, "top", "edited meanwhile");
    let again = Mount::new(&["--bind", real.to_str().unwrap()], &at);
    cluster.await_content("top", "edited meanwhile");
    assert_eq!(cluster.await_converged().len(), before.len());
    cluster.terminate(1);
    drop(again);
}

/// trap T20, fault 46: the folder is moved away and another directory made in its place.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_folder_that_is_replaced_under_the_daemon_deletes_nothing() {
    let cluster = Cluster::start(3);
    fill(&cluster, 20);
    let before = cluster.await_converged();
    let away = cluster.root().join("away");
    fs::rename(cluster.folder(1), &away).unwrap();
    fs::create_dir(cluster.folder(1)).unwrap();
    cluster.await_that("it is noticed", |cluster| has_alarm(cluster, 1, "not where it was"));
    fs::write(away.join("made"), "made meanwhile").unwrap();
    cluster.write(0, "top", "edited meanwhile");
    cluster.await_that("the others have it", |cluster| {
        cluster.read(2, "top").is_some_and(|content| content == b"edited meanwhile")
    });
    assert_eq!(cluster.trees()[&2].len(), before.len());
    assert_eq!(fs::read_dir(cluster.folder(1)).unwrap().count(), 0, "nothing is placed there");
    fs::remove_dir(cluster.folder(1)).unwrap();
    fs::rename(&away, cluster.folder(1)).unwrap();
    cluster.await_content("made", "made meanwhile");
    cluster.await_content("top", "edited meanwhile");
    assert_eq!(cluster.await_converged().len(), before.len() + 1);
}
