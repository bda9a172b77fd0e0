//! Small writes by programs that wait for each: `FORWARD`, beside etcd where it is installed.
//!
//! The two take turns, a round each, and the best round of each counts: others use this machine too.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use pickbox_raft::clock;

use super::etcd::{Etcd, EtcdClient};
use super::figures::{Row, Sample, number};
use super::floor;
use super::log::{LogClient, LogCluster};
use super::work::file_content;
use crate::cluster::{Client, Cluster, Outcome};

const VALUE_BYTES: usize = 1024;
const CLIENTS: usize = 64;
const ROUNDS: usize = 3;
/// Names in one directory.
const NAMES: usize = 100;

/// Something that takes a value under a key and says when it is safe.
pub(super) trait Put {
    /// Returns when it is committed.
    fn put(&mut self, key: &str, value: &[u8]);
}

impl Put for Client {
    fn put(&mut self, key: &str, value: &[u8]) {
        let outcome = self.write(key, value);
        assert_eq!(outcome, Outcome::Done, "{key}");
    }
}

/// What a round of one side came to, or all of them.
pub(super) struct Side {
    alone: Sample,
    per_second: f64,
}

impl Side {
    /// The best of each.
    fn best(rounds: Vec<Self>) -> Self {
        let per_second = rounds.iter().map(|round| round.per_second).fold(0.0, f64::max);
        let alone = rounds.into_iter().map(|round| round.alone);
        let alone = alone.min_by_key(|sample| sample.percentile(50)).expect("a round");
        Self { alone, per_second }
    }
}

/// Writes of one client after the other, then of many at once.
pub(super) fn measure(cluster: &Cluster, root: &Path, count: usize, seconds: usize) -> Vec<Row> {
    let etcd = Etcd::start(root);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut syncs = Vec::new();
    let mut floors = Vec::new();
    let log = LogCluster::start(root);
    let (mut logs, mut log_syncs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        floors.push(floor::log_sync(root, count));
        let leader = cluster.daemon(cluster.leader()).door();
        let before = wal_syncs(cluster);
        let alone = alone(&mut Client::new(vec![leader.clone()], 0), round, count);
        let between = wal_syncs(cluster);
        let (per_second, done) = crowd(|_| Client::new(vec![leader.clone()], 0), round, seconds);
        let after = wal_syncs(cluster);
        let nodes = number(cluster.count());
        let per = |syncs: u64, commits: usize| number(syncs) / number(commits) / nodes;
        syncs.push((per(between - before, count), per(after - between, done)));
        ours.push(Side { alone, per_second });
        // What is still to be placed must not slow the other side down.
        cluster.await_that("nothing is pending", |cluster| {
            let rests = |node| cluster.status(node).is_some_and(|report| report.pending == 0);
            cluster.running().into_iter().all(rests)
        });
        let before = log.wal_syncs();
        let alone = self::alone(&mut LogClient::new(log.leader()), round, count);
        let between = log.wal_syncs();
        let (per_second, done) = crowd(|_| LogClient::new(log.leader()), round, seconds);
        let after = log.wal_syncs();
        log_syncs.push((per(between - before, count), per(after - between, done)));
        logs.push(Side { alone, per_second });
        if let Some(etcd) = &etcd {
            let leader = etcd.leader();
            let connect = |_| EtcdClient::connect(leader).expect("etcd");
            let alone = self::alone(&mut connect(0), round, count);
            let (per_second, _) = crowd(connect, round, seconds);
            theirs.push(Side { alone, per_second });
        }
    }
    cluster.await_converged();
    let floor = floors.into_iter().min_by_key(|floor| floor.percentile(50)).expect("a round");
    let ours = Side::best(ours);
    let log = Side::best(logs);
    let mut rows = own_rows("FORWARD of 1 KiB", &ours, &floor, &syncs);
    rows.extend(own_rows("1 KiB into the log alone", &log, &floor, &log_syncs));
    if theirs.is_empty() {
        rows.push(Row::plain("the same beside etcd", "it is not installed".to_owned(), "-"));
    } else {
        let etcd = Side::best(theirs);
        rows.extend(beside("FORWARD", &ours, &etcd));
        rows.extend(beside("the log alone", &log, &etcd));
    }
    rows
}

fn own_rows(what: &str, ours: &Side, floor: &Sample, syncs: &[(f64, f64)]) -> Vec<Row> {
    let least = |of: fn(&(f64, f64)) -> f64| syncs.iter().map(of).fold(f64::INFINITY, f64::min);
    let mut rows: Vec<Row> = [50, 99]
        .map(|percent| {
            let what = format!("{what}, one client, p{percent} (floor: one fdatasync)");
            Row::times(&what, ours.alone.percentile(percent), floor.percentile(percent), "-")
        })
        .into();
    let rate = format!("{:.0} writes/s", ours.per_second);
    rows.push(Row::plain(&format!("{what}, {CLIENTS} clients"), rate, "-"));
    let alone = format!("{:.2}", least(|(alone, _)| *alone));
    rows.push(Row::plain(
        &format!("{what}: log syncs per write and node, one client"),
        alone,
        "<= 1",
    ));
    let crowd = format!("{:.3}", least(|(_, crowd)| *crowd));
    let what = format!("{what}: log syncs per write and node, {CLIENTS} clients");
    rows.push(Row::plain(&what, crowd, "< 0.1"));
    rows
}

fn beside(who: &str, ours: &Side, theirs: &Side) -> Vec<Row> {
    let times = |percent: usize, target| {
        let what = format!("{who} beside etcd (its figure, not a floor): p{percent}");
        Row::times(&what, ours.alone.percentile(percent), theirs.alone.percentile(percent), target)
    };
    let what = format!("{who} beside etcd: {CLIENTS} clients");
    vec![
        times(50, "<= 0.7 x etcd"),
        times(99, "-"),
        Row::rates(&what, ours.per_second, theirs.per_second, "writes/s", ">= 3 x etcd"),
    ]
}

fn wal_syncs(cluster: &Cluster) -> u64 {
    let of = |node| {
        let report = cluster.status(node).expect("a status");
        *report.counters.get("wal_syncs").expect("that counter")
    };
    cluster.running().into_iter().map(of).sum()
}

fn key(round: usize, client: usize, write: usize) -> String {
    format!("puts/{round}/{client}/{}/{write}", write / NAMES)
}

/// One client, one write after the other.
fn alone(client: &mut impl Put, round: usize, count: usize) -> Sample {
    let writes = (0..count).map(|write| {
        let (key, value) = (key(round, CLIENTS, write), file_content(write, VALUE_BYTES));
        let begun = clock::now();
        client.put(&key, &value);
        begun.elapsed()
    });
    Sample::new(writes.collect())
}

/// Many clients for some time: writes a second, and how many there were.
fn crowd<P: Put>(
    connect: impl Fn(usize) -> P + Sync,
    round: usize,
    seconds: usize,
) -> (f64, usize) {
    let duration = Duration::from_secs(u64::try_from(seconds).expect("small"));
    let start = Barrier::new(CLIENTS);
    let counts: Vec<(usize, Instant, Instant)> = std::thread::scope(|scope| {
        let (connect, start) = (&connect, &start);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = connect(number);
                    start.wait();
                    let begun = clock::now();
                    let mut write = 0;
                    while begun.elapsed() < duration {
                        let value = file_content(write * CLIENTS + number, VALUE_BYTES);
                        client.put(&key(round, number, write), &value);
                        write += 1;
                    }
                    (write, begun, clock::now())
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let done: usize = counts.iter().map(|(count, _, _)| count).sum();
    let begun = counts.iter().map(|(_, begun, _)| *begun).min().expect("clients");
    let ended = counts.iter().map(|(_, _, ended)| *ended).max().expect("clients");
    (number(done) / ended.saturating_duration_since(begun).as_secs_f64(), done)
}
