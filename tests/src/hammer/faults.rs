//! What happens to the daemons and their network while the writers work.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use pickbox_raft::clock;

use super::site::Site;
use crate::cluster::{Cluster, Signal};
use crate::sim::Random;

/// As many files as overflow the kernel's queue of 16,384 events, four events each, while nobody
/// reads it (trap T1).
const FLOOD: usize = 4_500;
/// Of them, so many stay.
const FLOOD_STAYS: usize = 60;
/// Bytes of each.
const FLOOD_BYTES: usize = 120;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    KillAll,
    KillAtStart,
    Freeze,
    FreezeAll,
    Overflow,
    Restart,
    CutOff,
    CutBetween,
    Deaf,
    Mute,
    Lose,
}

use Fault::{
    CutBetween, CutOff, Deaf, Freeze, FreezeAll, Kill, KillAll, KillAtStart, Lose, Mute, Overflow,
    Restart,
};

/// Without a network of our own.
const LOCAL: [Fault; 10] =
    [Kill, Kill, Kill, KillAll, KillAtStart, Freeze, Freeze, FreezeAll, Overflow, Restart];
/// What a network has besides.
const REMOTE: [Fault; 7] = [CutOff, CutOff, CutOff, CutBetween, Deaf, Mute, Lose];

/// The one who breaks things.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    cluster: &'a mut Cluster,
    sites: &'a [Site],
    random: Random,
    has_network: bool,
    pub counts: BTreeMap<&'static str, u64>,
    /// Times that deletions were held and approved.
    pub approvals: u64,
    flooded: u32,
}

impl<'a> Faults<'a> {
    pub(super) fn new(
        cluster: &'a mut Cluster,
        sites: &'a [Site],
        seed: u64,
        has_network: bool,
    ) -> Self {
        let random = Random::new(seed ^ 0xfa17);
        Self {
            cluster,
            sites,
            random,
            has_network,
            counts: BTreeMap::new(),
            approvals: 0,
            flooded: 0,
        }
    }

    /// One after the other, until the end.
    pub(super) fn run(&mut self, end: Instant) {
        loop {
            let calm = self.random.between(500, 6_000);
            if !sleep(calm, end) {
                return;
            }
            let choices =
                if self.has_network { [&LOCAL[..], &REMOTE].concat() } else { LOCAL.to_vec() };
            let Some(fault) = self.random.pick(&choices) else { return };
            self.look_after_all();
            self.approvals += super::settle::approve(self.cluster);
            self.strike(fault, end);
        }
    }

    fn strike(&mut self, fault: Fault, end: Instant) {
        let node = self.random.below(self.cluster.count());
        let long = if self.random.per_mille(150) { 20_000 } else { 6_000 };
        let length = self.random.between(100, long);
        self.say(&format!("{fault:?} node{} for {length} ms", node + 1));
        let name = match fault {
            Kill => {
                self.cluster.kill(node);
                sleep(length, end);
                self.cluster.restart(node);
                "killed"
            }
            KillAll => {
                self.kill_all(length, end);
                "all killed"
            }
            KillAtStart => {
                for _ in 0..3 {
                    self.cluster.kill(node);
                    self.cluster.restart(node);
                    let short = self.random.between(0, 700);
                    sleep(short, end);
                }
                "killed while starting"
            }
            Freeze => {
                self.cluster.daemon(node).freeze();
                sleep(length, end);
                self.cluster.daemon(node).signal(Signal::CONT);
                "stopped (SIGSTOP)"
            }
            FreezeAll => {
                let all = || self.cluster.running().into_iter();
                all().for_each(|node| self.cluster.daemon(node).freeze());
                sleep(length, end);
                self.cluster.running().into_iter().for_each(|node| {
                    self.cluster.daemon(node).signal(Signal::CONT);
                });
                "all stopped"
            }
            Overflow => {
                self.cluster.daemon(node).freeze();
                self.flood(node);
                self.cluster.daemon(node).signal(Signal::CONT);
                "queue overflowed"
            }
            Restart => {
                self.cluster.terminate(node);
                sleep(length, end);
                self.cluster.restart(node);
                "restarted"
            }
            CutOff | CutBetween | Deaf | Mute | Lose => {
                self.break_network(fault, node, length, end)
            }
        };
        *self.counts.entry(name).or_default() += 1;
    }

    fn kill_all(&mut self, length: u64, end: Instant) {
        let all = self.cluster.running();
        for node in &all {
            // All at once: none lives to see another die.
            self.cluster.daemon(*node).signal(Signal::KILL);
        }
        for node in &all {
            self.cluster.kill(*node);
        }
        sleep(length, end);
        for node in all {
            self.cluster.restart(node);
        }
    }

    fn break_network(
        &mut self,
        fault: Fault,
        node: usize,
        length: u64,
        end: Instant,
    ) -> &'static str {
        let count = self.cluster.count();
        let other = (node + 1 + self.random.below(count - 1)) % count;
        let is_worse = self.random.per_mille(250);
        let network = self.cluster.network();
        let hosts: Vec<_> = (0..count).map(|node| self.cluster.host(node)).collect();
        let others: Vec<_> = (0..count).filter(|n| *n != node).map(|node| hosts[node]).collect();
        let name = match fault {
            CutBetween => {
                network.cut_between(hosts[node], hosts[other]);
                "two cut off from each other"
            }
            Deaf => {
                network.drop_one_way(&others, hosts[node]);
                "cut off one way: hears nobody"
            }
            Mute => {
                // What it says reaches only one of the others.
                network.drop_one_way(&[hosts[node]], hosts[other]);
                "cut off one way: not heard"
            }
            Lose => {
                network.lose(20);
                "one packet of five lost"
            }
            _ => {
                network.cut_off(&[hosts[node]]);
                "cut off"
            }
        };
        sleep(length, end);
        if is_worse {
            // Killed while it is cut off: it comes back into the same network.
            self.cluster.kill(node);
            self.cluster.restart(node);
            *self.counts.entry("killed while cut off").or_default() += 1;
            sleep(length, end);
        }
        self.cluster.network().heal();
        name
    }

    /// Many files at once, most of which go again.
    fn flood(&mut self, node: usize) {
        self.flooded += 1;
        let site = &self.sites[node];
        let directory = site.folder.join(format!("flood{}", self.flooded % 2));
        // Whatever a writer made of it meanwhile is as good.
        let _ = fs::create_dir(&directory);
        for number in 0..FLOOD {
            let mark = super::content::Mark {
                node,
                writer: 90,
                count: self.flooded * 10_000 + u32::try_from(number).expect("few"),
            };
            let bytes = super::content::made(mark, 0, FLOOD_BYTES);
            let path = directory.join(format!("{}-{number}", self.flooded));
            let made = site.create(&path, "flood").and_then(|mut file| {
                file.write_at(0, &bytes)?;
                file.close()
            });
            if made.is_ok() && number >= FLOOD_STAYS {
                let _ = site.taking(&path, "flood", || fs::remove_file(&path));
            }
        }
    }

    /// No daemon may end by itself.
    fn look_after_all(&mut self) {
        for node in 0..self.cluster.count() {
            if let Some(status) = self.cluster.daemon_mut(node).has_ended() {
                let tail = self.cluster.daemon(node).log_tail();
                self.sites[node].book.broken(format!("node{} ended: {status}\n{tail}", node + 1));
                self.cluster.restart(node);
            }
        }
    }

    fn say(&self, line: &str) {
        if let Some(site) = self.sites.first() {
            site.book.say(format!("FAULT {line}"));
        }
    }
}

/// Whether the end has not come meanwhile.
fn sleep(ms: u64, end: Instant) -> bool {
    let until = (clock::now() + Duration::from_millis(ms)).min(end);
    std::thread::sleep(until.saturating_duration_since(clock::now()));
    clock::now() < end
}
