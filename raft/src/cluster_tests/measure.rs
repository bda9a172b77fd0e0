//! Figures, for docs/performance.md: run with `--release -- --ignored --nocapture`.

use std::time::Duration;

use super::rig::{Node, Place, leader};
use crate::clock;

/// CPU time of this process, in clock ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("p50 {:?}, p95 {:?}, p99 {:?}", at(50), at(95), at(99))
}

fn latency(node: &Node, count: usize) -> Vec<Duration> {
    let one = |_| {
        let start = clock::now();
        let proposal = node.begin(&[1; 1024]);
        while !node.has_settled(proposal.serial) {
            std::thread::yield_now();
        }
        start.elapsed()
    };
    (0..count).map(one).collect()
}

/// Three nodes in one process, nothing to do.
#[test]
#[ignore = "a measurement"]
fn idle_and_latency() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let (before, messages) = (cpu_ticks(), lead.status().counters.messages_sent);
    std::thread::sleep(Duration::from_secs(5));
    let messages = lead.status().counters.messages_sent - messages;
    println!("idle: {} ms of CPU for 3 nodes in 5 s", (cpu_ticks() - before) * 10);
    println!("idle: {messages} messages of the leader in 5 s");
    println!("from the leader: {}", percentiles(latency(&lead, 500)));
    println!("from a follower: {}", percentiles(latency(&nodes[0], 500)));
    let (start, before) = (clock::now(), cpu_ticks());
    for _ in 0..100 {
        nodes[0].propose(&vec![7; 1024 * 1024]);
    }
    println!(
        "100 entries of 1 MiB from a follower: {:?}, {} ms of CPU",
        start.elapsed(),
        (cpu_ticks() - before) * 10
    );
    println!("counters of the leader: {:?}", lead.status().counters);
}
