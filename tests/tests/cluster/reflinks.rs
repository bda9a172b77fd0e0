//! A file system whose files can share blocks (`ioctl_ficlone(2)`). Mounting needs root.

use pickbox_tests::cluster::Cluster;

use super::files::noise;
use super::full::{SmallDisk, move_to};

const FILE_BYTES: usize = 32 << 20;

/// Source: trap T24: a content that a node has already takes no space a second time there, and an
/// edit of one of the files is none of the other.
#[test]
#[ignore = "needs built daemons and root: make test-cluster"]
fn what_is_there_already_shares_its_blocks() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let mut cluster = Cluster::start(3);
    let disk =
        SmallDisk::mount_as(cluster.root(), "mkfs.xfs", &["-q", "-m", "reflink=1"], 512 << 20);
    cluster.await_converged();
    cluster.terminate(2);
    move_to(&mut cluster, 2, &disk);
    cluster.restart(2);
    let bytes = noise(1, FILE_BYTES);
    cluster.write(0, "one", &bytes);
    cluster.await_content("one", &bytes);
    cluster.await_converged();
    let before = disk.used_bytes();
    // Away meanwhile: what is offered to a node that does not know yet what it will be is sent.
    cluster.terminate(2);
    cluster.write(0, "two", &bytes);
    cluster.await_that("the majority has it", |cluster| {
        std::fs::read(cluster.daemon(1).folder.join("two")).is_ok_and(|found| found == bytes)
    });
    cluster.restart(2);
    cluster.await_content("two", &bytes);
    cluster.await_converged();
    let more = disk.used_bytes().saturating_sub(before);
    assert!(
        more < u64::try_from(FILE_BYTES / 2).unwrap(),
        "{more} bytes for a file that shares all"
    );

    let edited = noise(2, FILE_BYTES);
    cluster.write(2, "two", &edited);
    cluster.await_content("two", &edited);
    cluster.await_content("one", &bytes);
    cluster.await_converged();
}
