//! What a run came to, in words.

use std::collections::BTreeMap;

use super::Options;
use super::book::Pages;
use super::check::Verdict;
use super::settle::Settled;
use crate::cluster::Cluster;

/// Failures of one kind that are told.
const TOLD: usize = 12;

/// How often each thing happened.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// What is about to be done.
pub(super) fn begin(options: &Options, cluster: &Cluster, has_network: bool) {
    say(&format!(
        "hammer: seed {}, {} nodes{}, {} s of work by {} writers each; in {}",
        options.seed,
        options.nodes,
        if has_network { " on hosts of their own" } else { "" },
        options.length.as_secs(),
        options.writers + 1,
        cluster.root().display()
    ));
}

/// The table.
pub(super) fn end(
    options: &Options,
    pages: &Pages,
    faults: &Counts,
    settled: &Settled,
    verdict: &Verdict,
) {
    let sum = |counts: &Counts| counts.values().sum::<u64>();
    say(&format!("operations     {:>8}  {}", sum(&pages.counts), row(&pages.counts)));
    say(&format!("  not possible {:>8}  another program, or the daemon, was first", pages.missed));
    say(&format!(
        "contents       {:>8}  closed, {} MiB; {} in the folders, {} in the history, {} destroyed by \
         programs",
        pages.closed.len(),
        pages.bytes >> 20,
        verdict.in_folders,
        verdict.in_history,
        verdict.destroyed
    ));
    say(&format!("faults         {:>8}  {}", sum(faults), row(faults)));
    say(&format!(
        "conflicts      {:>8}  copies in the end; {} holds of many deletions approved, index {}, {} queue \
         overflows seen, at rest after {:.1} s",
        settled.conflicts,
        settled.approvals,
        settled.index,
        settled.overflows,
        settled.took.as_secs_f64()
    ));
    say(&format!(
        "seed {}: {} lost, {} torn, {} unequal",
        options.seed,
        verdict.lost.len(),
        verdict.torn.len(),
        verdict.unequal.len()
    ));
}

/// What must not be, a sentence each.
pub(super) fn failures(pages: &Pages, settled: &Settled, verdict: &Verdict) -> Vec<String> {
    let mut failures: Vec<String> = settled.hang.iter().cloned().collect();
    for (kind, found) in [
        ("LOST", &verdict.lost),
        ("TORN", &verdict.torn),
        ("UNEQUAL", &verdict.unequal),
        ("BROKEN", &pages.broken),
    ] {
        failures.extend(found.iter().take(TOLD).map(|what| format!("{kind} {what}")));
        if found.len() > TOLD {
            failures.push(format!("{kind} ... {} in all", found.len()));
        }
    }
    if !failures.is_empty() {
        failures.extend(settled.complaints.iter().map(|line| format!("status of {line}")));
    }
    failures.extend(
        verdict.left.iter().take(TOLD).map(|path| format!("LEFT BEHIND {}", path.display())),
    );
    failures
}

fn row(counts: &Counts) -> String {
    let parts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    parts.join(", ")
}

#[expect(clippy::print_stdout, reason = "this is what the hammer is run for")]
fn say(line: &str) {
    println!("{line}");
}
