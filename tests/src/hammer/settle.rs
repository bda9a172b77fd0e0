//! After the faults: everything heals, and the cluster must come to rest.

use std::time::Duration;

use pickbox_admin::StatusReport;
use pickbox_raft::clock;

use super::book::Book;
use crate::cluster::{Cluster, Signal};

/// How long it may take to come to rest: generous, since other work may run on the machine.
const PATIENCE: Duration = Duration::from_mins(10);
/// Rest is what lasts: two looks so far apart see the same.
const REST: Duration = Duration::from_secs(4);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What coming to rest took.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Why it did not.
    pub hang: Option<String>,
    pub took: Duration,
    /// The applied index in the end.
    pub index: u64,
    pub conflicts: u64,
    pub overflows: u64,
    /// Times that deletions were held and approved.
    pub approvals: u64,
    /// Things that nodes say of themselves in the end, which should be none.
    pub complaints: Vec<String>,
}

/// Heals everything and waits.
pub(super) fn settle(cluster: &mut Cluster, book: &Book) -> Settled {
    book.say("SETTLE");
    let began = clock::now();
    let (mut calm_since, mut approvals) = (None, 0);
    let mut last = Vec::new();
    loop {
        for node in 0..cluster.count() {
            cluster.daemon(node).signal(Signal::CONT);
            if let Some(status) = cluster.daemon_mut(node).has_ended() {
                book.broken(format!("node{} ended while settling: {status}", node + 1));
                cluster.restart(node);
            }
        }
        approvals += approve(cluster);
        let reports: Vec<Option<StatusReport>> =
            (0..cluster.count()).map(|node| cluster.status(node)).collect();
        let states: Vec<_> = reports.iter().map(|report| report.as_ref().map(key)).collect();
        let is_calm = agrees(&reports) && states == last;
        last = states;
        let since = if is_calm { calm_since.unwrap_or_else(clock::now) } else { clock::now() };
        calm_since = is_calm.then_some(since);
        if is_calm && clock::now().duration_since(since) >= REST {
            let settled = told(&reports, began.elapsed(), None);
            return Settled { approvals, ..settled };
        }
        if began.elapsed() > PATIENCE {
            let hang = format!("no rest within {PATIENCE:?}: {last:?}");
            let settled = told(&reports, began.elapsed(), Some(hang));
            return Settled { approvals, ..settled };
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Lets deletions happen that are held since they are many; on how many nodes there were any.
pub(super) fn approve(cluster: &Cluster) -> u64 {
    let mut approvals = 0;
    for node in cluster.running() {
        let held = cluster.status(node).map_or(0, |report| report.pending_parts.held);
        if held > 0 && cluster.ask(node, "APPROVE all").is_ok_and(|text| text.starts_with("OK")) {
            approvals += 1;
        }
    }
    approvals
}

fn key(report: &StatusReport) -> (u64, u64, String) {
    (report.applied_index, report.pending, report.root_digest.clone())
}

fn agrees(reports: &[Option<StatusReport>]) -> bool {
    let Some(Some(first)) = reports.first() else { return false };
    reports.iter().all(|report| {
        report.as_ref().is_some_and(|report| report.pending == 0 && key(report) == key(first))
    })
}

fn told(reports: &[Option<StatusReport>], took: Duration, hang: Option<String>) -> Settled {
    let mut settled = Settled { hang, took, ..Settled::default() };
    for report in reports.iter().flatten() {
        settled.index = report.applied_index;
        settled.conflicts = settled.conflicts.max(report.conflicts);
        settled.overflows += report.counters.get("watch_overflows").copied().unwrap_or(0);
        for line in report.waiting.iter().chain(&report.alarms) {
            settled.complaints.push(format!("{}: {line}", report.node_id));
        }
    }
    settled
}
