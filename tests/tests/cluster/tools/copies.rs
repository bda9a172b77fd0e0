//! Tools that copy whole trees: rsync, tar, cp, npm.

use std::fs;

use pickbox_tests::cluster::Cluster;

use super::super::editors::run;
use super::super::files::noise;
use super::{
    assert_copied, assert_no_conflicts, below, bring_to_all, files_of, has, make_tree, under_load,
};

/// trap T8: rsync into the folder, by temporary files and in place, again after changes of the
/// original, and deleting what it has no more.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn rsync_copies_into_the_folder_and_out_of_it() {
    if !has("rsync") {
        return;
    }
    let cluster = Cluster::start_default();
    let original = cluster.root().join("original");
    make_tree(&original, 300);
    under_load(&cluster, || {
        for (round, way) in
            [&["-a"][..], &["-a", "--inplace"], &["-a", "--delete"]].iter().enumerate()
        {
            let node = round % cluster.count();
            let arguments = [way, &["../original/", "copy/"][..]].concat();
            run(cluster.folder(node), "rsync", &arguments);
            bring_to_all(&cluster, node);
            if round != 1 {
                assert_copied(&cluster, &original, "copy");
            }
            // For the next round: some change, one gets shorter, some go.
            for number in [0_u64, 5, 97, 194] {
                let path = format!("crate{}/src/part{}/file{number}.rs", number % 23, number % 7);
                fs::write(original.join(path), noise(number + 1_000, 70_000 / (round + 1)))
                    .unwrap();
            }
            fs::remove_dir_all(original.join(format!("crate{}", round + 3))).unwrap();
        }
        // Out of the folder of another node: what arrived there is what was sent.
        let out = cluster.root().join("out");
        run(cluster.folder(1), "rsync", &["-a", "copy/", out.to_str().unwrap()]);
        assert_copied(&cluster, &out, "copy");
    });
    cluster.await_converged();
    assert_no_conflicts(&cluster);
}

/// trap T22: thousands of files are unpacked on one node (as by cargo or npm), and deleted on another.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn tar_unpacks_thousands_of_files() {
    let cluster = Cluster::start_default();
    let original = cluster.root().join("original");
    make_tree(&original, 3_000);
    run(cluster.root(), "tar", &["cf", "vendored.tar", "original"]);
    under_load(&cluster, || {
        run(cluster.folder(0), "tar", &["xf", "../vendored.tar"]);
        bring_to_all(&cluster, 0);
        assert_copied(&cluster, &original, "original");
        assert!(files_of(&below(&cluster, 1, "original")) >= 3_000);
        fs::rename(cluster.path(1, "original"), cluster.path(1, "vendor")).unwrap();
        bring_to_all(&cluster, 1);
        assert_copied(&cluster, &original, "vendor");
    });
    cluster.await_converged();
    assert_no_conflicts(&cluster);
}

/// `cp -a` of a tree within the folder, links and times and all, and over itself.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn cp_copies_a_tree_within_the_folder() {
    let cluster = Cluster::start_default();
    let original = cluster.root().join("original");
    make_tree(&original, 200);
    under_load(&cluster, || {
        run(cluster.folder(0), "cp", &["-a", "../original", "one"]);
        bring_to_all(&cluster, 0);
        run(cluster.folder(1), "cp", &["-a", "one", "two"]);
        bring_to_all(&cluster, 1);
        fs::write(original.join("crate1/src/part1/file1.rs"), "changed").unwrap();
        run(cluster.folder(0), "cp", &["-a", "../original/.", "two"]);
        bring_to_all(&cluster, 0);
        assert_copied(&cluster, &original, "two");
    });
    let tree = cluster.await_converged();
    assert!(tree.len() > 400);
    assert_no_conflicts(&cluster);
}

/// npm packs a directory on one node and unpacks it on another, without a network.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn npm_packs_and_installs() {
    if !has("npm") {
        return;
    }
    let cluster = Cluster::start_default();
    let package = cluster.path(0, "package");
    fs::create_dir(&package).unwrap();
    fs::write(package.join("package.json"), r#"{"name": "parts", "version": "1.0.0"}"#).unwrap();
    make_tree(&package.join("lib"), 400);
    let offline = ["--offline", "--no-audit", "--no-fund", "--silent"];
    run(&package, "npm", &[&["pack", "--ignore-scripts"][..], &offline].concat());
    bring_to_all(&cluster, 0);
    let user = cluster.path(1, "user");
    fs::create_dir(&user).unwrap();
    fs::write(user.join("package.json"), r#"{"name": "user", "version": "1.0.0"}"#).unwrap();
    let install = ["install", "--ignore-scripts", "../package/parts-1.0.0.tgz"];
    run(&user, "npm", &[&install[..], &offline].concat());
    bring_to_all(&cluster, 1);
    assert_copied(&cluster, &cluster.path(1, "user"), "user");
    assert!(files_of(&below(&cluster, 2, "user/node_modules/parts")) > 300);
    cluster.await_converged();
    assert_no_conflicts(&cluster);
}
