//! A disk that is full, for one of three nodes. Mounting needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pickbox_tests::cluster::Cluster;

/// A small ext4 of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(root: &Path) -> Self {
        let (image, at) = (root.join("image"), root.join("small"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(192 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at)
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let block = vec![1; 1 << 20];
        let mut ballast = fs::File::create(self.0.join("ballast")).unwrap();
        while std::io::Write::write_all(&mut ballast, &block).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see `make setup`"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Moves a node that is stopped to another file system.
fn move_to(cluster: &mut Cluster, number: usize, disk: &SmallDisk) {
    let daemon = cluster.daemon_mut(number);
    for path in [&mut daemon.folder, &mut daemon.state] {
        run("cp", &["-a", path.to_str().unwrap(), disk.0.to_str().unwrap()]);
        *path = disk.0.join(path.file_name().unwrap());
    }
    daemon.entry.push("--accept-folder".to_owned());
}

/// trap T21: the node stays up, says why nothing moves, is quiet about it, and goes on by itself.
#[test]
#[ignore = "needs built daemons and root: make test-cluster"]
fn a_full_disk_stops_placing_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let mut cluster = Cluster::start(3);
    let disk = SmallDisk::mount(cluster.root());
    cluster.write(0, "before", "before");
    cluster.await_converged();
    cluster.terminate(2);
    move_to(&mut cluster, 2, &disk);
    cluster.restart(2);
    cluster.await_converged();
    let pid = cluster.daemon(2).pid();

    disk.fill();
    for number in 0..300 {
        cluster.write(0, &format!("f{number}"), format!("content {number}"));
    }
    cluster.write(1, "large", vec![7; 3 << 20]);
    cluster.await_that("the others have it and node3 says why not", |cluster| {
        let why = cluster.status(2).map(|report| report.waiting).unwrap_or_default();
        cluster.read(0, "large").is_some_and(|bytes| bytes.len() == 3 << 20)
            && why.iter().any(|why| why.contains("the disk is full"))
    });
    assert!(cluster.forward_write(2, "x", b"x").starts_with("ERROR no-space"));
    let lines = cluster.daemon(2).log_text().lines().count();
    std::thread::sleep(Duration::from_secs(5));
    let later = cluster.daemon(2).log_text().lines().count();
    assert!(later - lines < 50, "{} lines in 5 s", later - lines);

    disk.empty();
    cluster.await_converged();
    assert_eq!(cluster.daemon(2).pid(), pid);
    assert_eq!(cluster.read(2, "f299").unwrap(), b"content 299");
}

/// trap T21: what a majority has no room for is waited for, by name; nobody's disk is filled up
/// with it, and the rest goes on.
#[test]
#[ignore = "needs built daemons and root: make test-cluster"]
fn what_a_majority_cannot_hold_is_named() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let mut cluster = Cluster::start(3);
    let (one, two) = (cluster.root().join("one"), cluster.root().join("two"));
    let disks = [one, two].map(|at| {
        fs::create_dir(&at).unwrap();
        SmallDisk::mount(&at)
    });
    for (number, disk) in [1, 2].into_iter().zip(&disks) {
        cluster.terminate(number);
        move_to(&mut cluster, number, disk);
        cluster.restart(number);
    }
    cluster.await_converged();
    cluster.write(0, "large", vec![7; 300 << 20]);
    cluster.await_that("node1 names who lacks room", |cluster| {
        let why = cluster.status(0).map(|report| report.waiting).unwrap_or_default();
        let named = |name: &str| why.iter().any(|why| why.contains(name));
        named("large: waits for a majority") && named("node2 has no room") && named("node3 has")
    });
    cluster.write(1, "small", "small");
    cluster.await_that("the rest goes on", |cluster| {
        [0, 2].into_iter().all(|node| cluster.read(node, "small").is_some())
    });
    fs::remove_file(cluster.folder(0).join("large")).unwrap();
    cluster.await_converged();
    assert!(cluster.read(1, "large").is_none());
}
