//! What people do with files, and that it is everywhere afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use pickbox_tests::cluster::{Cluster, Entry, Kind};

/// Bytes that no compressor and no shortcut makes smaller, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_file_is_created_edited_appended_to_and_deleted() {
    let cluster = Cluster::start_default();
    cluster.write(0, "a.txt", "one\n");
    cluster.await_content("a.txt", "one\n");
    cluster.write(1, "a.txt", "two\n");
    cluster.await_content("a.txt", "two\n");
    let mut file = OpenOptions::new().append(true).open(cluster.path(2, "a.txt")).unwrap();
    file.write_all(b"three\n").unwrap();
    drop(file);
    cluster.await_content("a.txt", "two\nthree\n");
    fs::remove_file(cluster.path(0, "a.txt")).unwrap();
    cluster.await_gone("a.txt");
    assert!(cluster.await_converged().is_empty(), "nothing is left over");
}

/// trap T8: most programs save by writing beside and renaming over.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn an_atomic_save_is_one_new_version() {
    let cluster = Cluster::start_default();
    cluster.write(0, "config", "old");
    cluster.await_content("config", "old");
    for round in 0..20 {
        let writer = round % cluster.count();
        let content = format!("version {round}");
        cluster.write(writer, ".config.tmp~", &content);
        fs::rename(cluster.path(writer, ".config.tmp~"), cluster.path(writer, "config")).unwrap();
        cluster.await_content("config", &content);
    }
    let tree = cluster.await_converged();
    assert_eq!(tree.keys().collect::<Vec<_>>(), [b"config"], "no temporary name, no conflict copy");
}

/// trap T2: `mkdir -p` yields one event, for the first directory.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn nested_directories_come_whole_and_go_whole() {
    let cluster = Cluster::start_default();
    fs::create_dir_all(cluster.path(1, "a/b/c/d")).unwrap();
    cluster.write(1, "a/b/c/d/leaf", "leaf");
    fs::create_dir_all(cluster.path(1, "empty/inside")).unwrap();
    cluster.await_content("a/b/c/d/leaf", "leaf");
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), 7, "{tree:?}");
    assert_eq!(tree[&b"empty/inside"[..]].kind, Kind::Directory);
    fs::remove_dir_all(cluster.path(0, "a")).unwrap();
    fs::remove_dir_all(cluster.path(2, "empty")).unwrap();
    cluster.await_gone("a");
    cluster.await_gone("empty");
    assert!(cluster.await_converged().is_empty());
}

/// trap T3: a renamed directory is one change, and what is in it comes along.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn files_and_directories_are_renamed_and_moved() {
    let cluster = Cluster::start_default();
    fs::create_dir_all(cluster.path(0, "from/sub")).unwrap();
    for number in 0..200 {
        cluster.write(0, &format!("from/sub/{number}"), noise(number, 100));
    }
    cluster.await_converged();
    let before = cluster.status(0).unwrap().commit_index;
    fs::rename(cluster.path(1, "from"), cluster.path(1, "to")).unwrap();
    cluster.await_gone("from");
    cluster.await_that("the renamed directory is whole", |cluster| {
        (0..cluster.count()).all(|node| {
            fs::read_dir(cluster.path(node, "to/sub")).is_ok_and(|entries| entries.count() == 200)
        })
    });
    cluster.await_converged();
    let entries = cluster.status(0).unwrap().commit_index - before;
    assert!(entries < 50, "a rename of a directory took {entries} entries");
    fs::rename(cluster.path(2, "to/sub/7"), cluster.path(2, "seven")).unwrap();
    fs::rename(cluster.path(2, "seven"), cluster.path(2, "to/again")).unwrap();
    cluster.await_content("to/again", noise(7, 100));
    cluster.await_gone("seven");
    assert_eq!(cluster.await_converged().len(), 202);
}

/// Two names change places, by way of a third: a cycle for whoever places it.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn two_files_change_places() {
    let cluster = Cluster::start_default();
    cluster.write(0, "a", "was a");
    cluster.write(0, "b", "was b");
    cluster.await_converged();
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        fs::rename(cluster.path(1, from), cluster.path(1, to)).unwrap();
    }
    cluster.await_content("a", "was b");
    cluster.await_content("b", "was a");
    assert_eq!(cluster.await_converged().len(), 2);
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn empty_and_binary_files_are_files() {
    let cluster = Cluster::start_default();
    cluster.write(0, "empty", "");
    let all_bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    cluster.write(1, "binary", &all_bytes);
    cluster.await_content("empty", "");
    cluster.await_content("binary", &all_bytes);
    File::create(cluster.path(2, "binary")).unwrap();
    cluster.await_content("binary", "");
    cluster.await_converged();
}

/// trap T17: links are text; where they lead does not matter.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn symlinks_are_kept_as_they_are() {
    let cluster = Cluster::start_default();
    for (target, name) in
        [("file", "good"), ("/nowhere/at/all", "dangling"), ("..", "up"), (".", "dir")]
    {
        symlink(target, cluster.path(0, name)).unwrap();
    }
    cluster.write(0, "file", "content");
    cluster.await_content("good", "content");
    let target = |tree: &std::collections::BTreeMap<Vec<u8>, Entry>, name: &str| {
        tree[name.as_bytes()].kind.clone()
    };
    let tree = cluster.await_converged();
    assert_eq!(target(&tree, "dangling"), Kind::Symlink(b"/nowhere/at/all".to_vec()));
    assert_eq!(target(&tree, "up"), Kind::Symlink(b"..".to_vec()));
    symlink("elsewhere", cluster.path(1, "new")).unwrap();
    fs::rename(cluster.path(1, "new"), cluster.path(1, "good")).unwrap();
    cluster.await_that("the link leads elsewhere", |cluster| {
        (0..cluster.count()).all(|node| {
            fs::read_link(cluster.path(node, "good"))
                .is_ok_and(|link| link.as_os_str() == "elsewhere")
        })
    });
    cluster.await_converged();
}

/// trap T14: modes are kept, but never setuid or setgid on files.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn modes_follow_and_setuid_does_not() {
    let cluster = Cluster::start_default();
    let set_mode = |node: usize, path: &str, mode: u32| {
        fs::set_permissions(cluster.path(node, path), fs::Permissions::from_mode(mode)).unwrap();
    };
    cluster.write(0, "script", "#!/bin/sh\n");
    fs::create_dir(cluster.path(0, "private")).unwrap();
    set_mode(0, "script", 0o755);
    set_mode(0, "private", 0o700);
    let await_mode = |path: &str, mode: u32| {
        cluster.await_that(&format!("{path} has mode {mode:o}"), |cluster| {
            (0..cluster.count()).all(|node| {
                let metadata = cluster.path(node, path).metadata();
                metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == mode)
            })
        });
    };
    await_mode("script", 0o755);
    await_mode("private", 0o700);
    set_mode(1, "script", 0o600);
    await_mode("script", 0o600);
    cluster.await_converged();
    set_mode(2, "script", 0o4755);
    await_mode("script", 0o755);
    for node in [0, 1] {
        let mode = cluster.path(node, "script").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7000, 0, "node {node} got a setuid file");
    }
}

/// trap T15, fault 48: names are bytes.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn any_name_that_linux_allows_goes_through() {
    let cluster = Cluster::start_default();
    let long = vec![b'x'; 255];
    let names: [&[u8]; 12] = [
        b"with space",
        b" ",
        b"new\nline",
        b"tab\t",
        b"-rf",
        b"back\\slash",
        b"quote'\"",
        b"*?[x]",
        "caf\u{e9}".as_bytes(),
        b"caf\xe9",
        b"\x01\x7f\xff",
        &long,
    ];
    for (number, name) in (0..).zip(names) {
        let path = cluster.folder(0).join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, noise(number, 10)).unwrap();
    }
    cluster.await_that("all names are everywhere", |cluster| {
        cluster.trees().values().all(|tree| tree.len() == names.len())
    });
    let tree = cluster.await_converged();
    assert!(names.iter().all(|name| tree.contains_key(*name)), "{tree:?}");
    let deep: Vec<&str> = vec!["deeper"; 100];
    fs::create_dir_all(cluster.path(1, &deep.join("/"))).unwrap();
    cluster.write(1, &format!("{}/end", deep.join("/")), "end");
    cluster.await_content(&format!("{}/end", deep.join("/")), "end");
    cluster.await_converged();
}

/// Sizes around the bounds between inline content, pieces and large files.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn files_of_every_size_arrive_whole() {
    let cluster = Cluster::start_default();
    let inline = 32 * 1024;
    let piece = 1024 * 1024;
    let sizes = [inline - 1, inline, inline + 1, piece - 1, piece, piece + 1, 5 * piece + 12_345];
    for (number, size) in (0..).zip(sizes) {
        let node = usize::try_from(number).unwrap() % cluster.count();
        cluster.write(node, &format!("size-{size}"), noise(number, size));
    }
    for (number, size) in (0..).zip(sizes) {
        cluster.await_content(&format!("size-{size}"), noise(number, size));
    }
    cluster.write(1, &format!("size-{}", piece + 1), noise(99, piece + 1));
    cluster.await_content(&format!("size-{}", piece + 1), noise(99, piece + 1));
    assert_eq!(cluster.await_converged().len(), sizes.len());
}

/// The daemons' memory stays bounded whatever the size of a file.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_file_of_100_mib_arrives_whole() {
    let cluster = Cluster::start_default();
    let content = noise(1, 100 * 1024 * 1024);
    cluster.write(1, "large", &content);
    cluster.await_that("the large file is everywhere", |cluster| {
        (0..cluster.count()).all(|node| {
            let metadata = cluster.path(node, "large").metadata();
            metadata.is_ok_and(|metadata| metadata.len() == 100 * 1024 * 1024)
        })
    });
    cluster.await_converged();
    for node in 0..cluster.count() {
        assert!(cluster.read(node, "large").unwrap() == content, "node {node} has other bytes");
        let peak = cluster.daemon(node).memory_kb("VmHWM");
        assert!(peak < 64 * 1024, "node {node} used {peak} kB");
    }
}

/// trap T13
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_name_becomes_another_kind_of_thing() {
    let cluster = Cluster::start_default();
    cluster.write(0, "thing", "a file");
    cluster.await_content("thing", "a file");
    fs::remove_file(cluster.path(1, "thing")).unwrap();
    fs::create_dir(cluster.path(1, "thing")).unwrap();
    cluster.write(1, "thing/inside", "inside");
    cluster.await_content("thing/inside", "inside");
    cluster.await_converged();
    fs::remove_dir_all(cluster.path(2, "thing")).unwrap();
    symlink("target", cluster.path(2, "thing")).unwrap();
    cluster.await_that("it is a link everywhere", |cluster| {
        (0..cluster.count()).all(|node| fs::read_link(cluster.path(node, "thing")).is_ok())
    });
    let tree = cluster.await_converged();
    assert_eq!(
        tree.len(),
        1,
        "{:?}",
        tree.keys().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>()
    );
}

/// mtimes are data: `make` and `rsync` rely on them.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn modification_times_follow() {
    let cluster = Cluster::start_default();
    cluster.write(0, "dated", "dated");
    let file = File::options().write(true).open(cluster.path(0, "dated")).unwrap();
    let when = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_000_000_123_456_789);
    file.set_modified(when).unwrap();
    drop(file);
    cluster.await_that("the time is everywhere", |cluster| {
        (0..cluster.count()).all(|node| {
            let metadata = cluster.path(node, "dated").metadata();
            metadata.and_then(|metadata| metadata.modified()).is_ok_and(|found| found == when)
        })
    });
    cluster.await_converged();
}
