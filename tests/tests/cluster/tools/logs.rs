//! logrotate: logs that are renamed away under their writer, and logs that are copied and cut.

use std::fs::{self, OpenOptions};
use std::io::Write;

use pickbox_tests::cluster::Cluster;

use super::super::editors::run;
use super::{assert_no_conflicts, bring_to_all, has};

/// trap T11: a log is rotated while its writer has it open: every line is in one of the files, in
/// order, on every node.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_rotated_log_has_every_line_everywhere() {
    if !has("logrotate") {
        return;
    }
    for way in ["create", "copytruncate"] {
        let cluster = Cluster::start_default();
        cluster.await_converged();
        let folder = cluster.path(1, "logs");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("app.log");
        let settings = cluster.root().join(format!("{way}.conf"));
        // A folder that others may write to is none for logrotate, unless it is told whose it is.
        let text =
            format!("{} {{\n rotate 9\n {way}\n size 1\n su root root\n}}\n", path.display());
        fs::write(&settings, text).unwrap();
        let state = cluster.root().join("rotated");
        let rotate = || {
            run(
                cluster.root(),
                "logrotate",
                &["-f", "-s", state.to_str().unwrap(), settings.to_str().unwrap()],
            )
        };
        let mut lines = Vec::new();
        let open = || OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut log = open();
        for round in 0..5 {
            let write = |log: &mut fs::File, lines: &mut Vec<String>| {
                for number in 0..60 {
                    lines.push(format!("{way} round {round} line {number} of {}", lines.len()));
                    writeln!(log, "{}", lines[lines.len() - 1]).unwrap();
                }
            };
            write(&mut log, &mut lines);
            rotate();
            // Until it is told, the writer goes on with the file that it has open.
            write(&mut log, &mut lines);
            if way == "create" {
                log = open();
            }
        }
        drop(log);
        bring_to_all(&cluster, 1);
        for node in 0..cluster.count() {
            let names =
                ["app.log.5", "app.log.4", "app.log.3", "app.log.2", "app.log.1", "app.log"];
            let all: Vec<u8> = names
                .iter()
                .flat_map(|name| cluster.read(node, &format!("logs/{name}")).unwrap())
                .collect();
            let found: Vec<String> =
                String::from_utf8(all).unwrap().lines().map(str::to_owned).collect();
            assert_eq!(found, lines, "{way}, node{}", node + 1);
        }
        cluster.await_converged();
        assert_no_conflicts(&cluster);
    }
}
