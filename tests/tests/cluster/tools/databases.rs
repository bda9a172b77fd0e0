//! sqlite: a database that is copied cold, and one that is in use.

use std::path::Path;

use pickbox_tests::cluster::Cluster;

use super::super::editors::run;
use super::{bring_to_all, has};

fn sql(directory: &Path, script: &str) -> String {
    run(directory, "sqlite3", &["-batch", "data.db", script])
}

/// trap T9: after its writer has closed it, a database is on every node what it is on its own.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_database_that_was_closed_is_whole_everywhere() {
    if !has("sqlite3") {
        return;
    }
    let cluster = Cluster::start_default();
    sql(cluster.folder(0), "create table t(n integer primary key, text);");
    let mut rows = 0;
    for round in 0..6 {
        let node = round % cluster.count();
        let more = "with recursive c(x) as (select 1 union all select x+1 from c where x < 500) \
                    insert into t(text) select hex(randomblob(60)) from c; delete from t where n % 7 = 0;";
        sql(cluster.folder(node), more);
        bring_to_all(&cluster, node);
        let count = sql(cluster.folder(node), "select count(*) from t;");
        for other in 0..cluster.count() {
            let folder = cluster.folder(other);
            assert_eq!(sql(folder, "pragma integrity_check;").trim(), "ok", "node{}", other + 1);
            assert_eq!(sql(folder, "select count(*) from t;"), count, "node{}", other + 1);
        }
        rows = count.trim().parse().unwrap();
    }
    assert!(rows > 2_000, "{rows}");
    assert_eq!(cluster.await_converged().len(), 1, "no journal stays, no conflict copy");
}

/// trap T7: a database that is written to for a while, transaction by transaction, may be seen
/// elsewhere at a bad moment; when its writer has closed it, it is whole, and what the
/// writer has, everywhere.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_database_in_use_is_whole_once_its_writer_has_closed_it() {
    if !has("sqlite3") {
        return;
    }
    for mode in ["delete", "wal"] {
        let cluster = Cluster::start_default();
        let begin =
            format!("pragma journal_mode={mode}; create table t(n integer primary key, text);");
        let insert = "begin; insert into t(text) values(hex(randomblob(2000))); commit;\n";
        // One program with many transactions: it has the file open all the time.
        let script = [begin.as_str(), "\n", &insert.repeat(400)].concat();
        run(cluster.folder(1), "sqlite3", &["-batch", "data.db", &script]);
        bring_to_all(&cluster, 1);
        for node in 0..cluster.count() {
            let folder = cluster.folder(node);
            assert_eq!(sql(folder, "pragma integrity_check;").trim(), "ok", "node{}", node + 1);
            assert_eq!(sql(folder, "select count(*) from t;").trim(), "400", "node{}", node + 1);
        }
        let tree = cluster.await_converged();
        let copy = tree.keys().find(|path| path.windows(10).any(|part| part == b".conflict-"));
        assert_eq!(copy, None, "{mode}");
    }
}
