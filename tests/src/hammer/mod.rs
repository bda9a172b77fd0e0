//! The hammer: programs on every node do everything that a file system allows, while daemons are
//! killed, stopped and cut off; in the end every content that a program wrote and closed must be
//! accounted for.
//!
//! The claim that is tested is P2 (docs/guarantees.md): what a program wrote and closed ends up as
//! the current file, as a conflict copy, or in the history. One thing may be gone: what a program
//! itself destroyed, on the node where it was written, by overwriting or deleting the file. So
//! each program knows what it destroys, by inode and not by name (`site`), and `check` asks of
//! each content that is nowhere who destroyed it. No content may be there that nobody closed,
//! except states of files that stayed open for 30 s; each line of a content says who wrote it, so
//! that mixes are told. All folders must be equal.
//!
//! What is done is decided by the seed; when it is done, and so what comes of it, is not.

mod book;
mod check;
mod content;
mod edits;
mod faults;
mod mapped;
mod names;
mod report;
mod saves;
mod settle;
mod site;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pickbox_raft::clock;

use self::book::Book;
use self::faults::Faults;
use self::site::Site;
use self::writer::Writer;
use crate::cluster::{Cluster, hosts};

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides what is done.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// How long the writers work.
    pub length: Duration,
    /// Writers on each node, besides one that holds files open.
    pub writers: usize,
    /// Pause of a writer between two things, at most.
    pub pause_ms: u64,
}

/// Runs the hammer and prints what it came to.
///
/// # Panics
/// When something was lost, torn or unequal, or a daemon ended by itself; everything is kept then.
pub fn run(options: Options) {
    let has_network = hosts::are_wanted();
    let mut cluster = if has_network {
        Cluster::start_on_hosts(options.nodes)
    } else {
        Cluster::start(options.nodes)
    };
    // A node that finds files in its folder before it has taken up the cluster's asks what they are.
    cluster.await_converged();
    let book = Arc::new(Book::create(&cluster.root().join("hammer.log")));
    let mapper = mapped::build(cluster.root());
    let site =
        |node| Site::new(node, cluster.folder(node).to_owned(), book.clone(), mapper.clone());
    let sites: Vec<Site> = (0..options.nodes).map(site).collect();
    report::begin(&options, &cluster, has_network);
    let (faults, approvals) = work(&mut cluster, &sites, &options, has_network);
    let mut settled = settle::settle(&mut cluster, &book);
    settled.approvals += approvals;
    let found = check::Found::read(&cluster);
    let pages = book.pages();
    let verdict = check::judge(&cluster, &pages, &found);
    book.flush();
    report::end(&options, &pages, &faults, &settled, &verdict);
    let failures = report::failures(&pages, &settled, &verdict);
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), cluster.describe());
}

/// Everything at once, for as long as it is to last.
fn work(
    cluster: &mut Cluster,
    sites: &[Site],
    options: &Options,
    has_network: bool,
) -> (report::Counts, u64) {
    let over = AtomicBool::new(false);
    let end = clock::now() + options.length;
    std::thread::scope(|scope| {
        for site in sites {
            for number in 0..options.writers {
                let writer = Writer::new(site, number, options.seed, &over);
                scope.spawn(move || writer.run(options.pause_ms));
            }
            let holder = Writer::new(site, options.writers, options.seed, &over);
            scope.spawn(move || holder.hold());
        }
        let mut faults = Faults::new(cluster, sites, options.seed, has_network);
        faults.run(end);
        over.store(true, Ordering::Relaxed);
        (faults.counts, faults.approvals)
    })
}
