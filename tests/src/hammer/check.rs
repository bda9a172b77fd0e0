//! What became of everything that was written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::book::{Deed, Pages};
use super::content::{Hash, describe, hash, hex};
use crate::cluster::{Cluster, differences};

/// Failures that are told in full; the rest is counted.
const TOLD: usize = 12;

/// Where contents are.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the folders: by node and path.
    pub folders: HashMap<Hash, Vec<PathBuf>>,
    /// Files below `history/`, with their bytes, whatever their names say.
    pub history: HashMap<Hash, Vec<PathBuf>>,
    /// What is left in staging and quarantine that nothing will use any more.
    pub left: Vec<PathBuf>,
    /// History objects whose bytes are not what their name says.
    pub misnamed: Vec<PathBuf>,
}

/// What the run came to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub in_folders: u64,
    pub in_history: u64,
    /// Destroyed by a program on the node where it was written, and nowhere else any more.
    pub destroyed: u64,
    pub lost: Vec<String>,
    pub torn: Vec<String>,
    pub unequal: Vec<String>,
    pub left: Vec<PathBuf>,
}

impl Found {
    pub(super) fn read(cluster: &Cluster) -> Self {
        let mut found = Self::default();
        for node in 0..cluster.count() {
            let daemon = cluster.daemon(node);
            each_file(&daemon.folder, &mut |path, bytes| {
                found.folders.entry(hash(&bytes)).or_default().push(path);
            });
            each_file(&daemon.state.join("history"), &mut |path, bytes| {
                let hash = hash(&bytes);
                if path.file_name().is_some_and(|name| name.to_string_lossy() != hex(&hash)) {
                    found.misnamed.push(path.clone());
                }
                found.history.entry(hash).or_default().push(path);
            });
            for ours in ["staging", "quarantine"] {
                each_file(&daemon.state.join(ours), &mut |path, _| {
                    // Staged contents, `c.SHA256`, are let go of by entries of the log.
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    if !name.starts_with("c.") {
                        found.left.push(path);
                    }
                });
            }
        }
        found
    }

    fn has(&self, hash: &Hash) -> bool {
        self.folders.contains_key(hash) || self.history.contains_key(hash)
    }
}

/// Compares what was written with what is there.
pub(super) fn judge(cluster: &Cluster, pages: &Pages, found: &Found) -> Verdict {
    let mut verdict = Verdict { left: found.left.clone(), ..Verdict::default() };
    judge_trees(cluster, &mut verdict);
    judge_writings(cluster, pages, found, &mut verdict);
    judge_bytes(pages, found, &mut verdict);
    verdict
}

/// Equal folders, whatever the nodes say of themselves.
fn judge_trees(cluster: &Cluster, verdict: &mut Verdict) {
    let trees: BTreeMap<_, _> = cluster.trees();
    let Some((first, reference)) = trees.iter().next() else { return };
    for (node, tree) in trees.iter().skip(1) {
        for difference in differences(reference, tree) {
            verdict.unequal.push(format!("node{} / node{}: {difference}", first + 1, node + 1));
        }
    }
}

/// Every content that was closed is somewhere, or was destroyed by programs.
fn judge_writings(cluster: &Cluster, pages: &Pages, found: &Found, verdict: &mut Verdict) {
    let mut missing: Vec<(&Hash, &Vec<Deed>)> = Vec::new();
    for (hash, deeds) in &pages.closed {
        if found.folders.contains_key(hash) {
            verdict.in_folders += 1;
        } else if found.history.contains_key(hash) {
            verdict.in_history += 1;
        } else if let Some(why) = why_lost(pages, hash, deeds) {
            missing.push((hash, deeds));
            verdict.lost.push(format!("{}: {why}", hex(hash)));
        } else {
            verdict.destroyed += 1;
        }
    }
    for (number, (hash, deeds)) in missing.into_iter().enumerate().take(TOLD) {
        verdict.lost[number].push_str(&tell(cluster, pages, hash, deeds));
    }
}

/// Why a content that is nowhere must not be gone; none if programs destroyed it where it was.
///
/// A program that overwrites or deletes a file destroys the bytes on its node. So a content may be
/// gone if that happened on the node where it was written, as often as it was written there. But
/// where a program has seen it on another node, it had been placed there, and only a program there
/// can have destroyed that.
fn why_lost(pages: &Pages, hash: &Hash, deeds: &[Deed]) -> Option<String> {
    let nodes: BTreeSet<usize> = deeds.iter().map(|deed| deed.node).collect();
    for node in &nodes {
        let closed = deeds.iter().filter(|deed| deed.node == *node).count();
        let destroyed = pages.destroyed.get(&(*node, *hash)).map_or(0, Vec::len);
        if destroyed < closed {
            return Some(format!(
                "closed {closed} times on node{}, destroyed {destroyed} times",
                node + 1
            ));
        }
    }
    let seen = pages.seen.iter().filter(|((_, seen), _)| seen == hash);
    for ((node, _), path) in seen {
        let is_destroyed = pages.destroyed.contains_key(&(*node, *hash));
        if !nodes.contains(node) && !is_destroyed && !pages.blind.contains(&(*node, path.clone())) {
            return Some(format!("seen at {path} on node{}, and not destroyed there", node + 1));
        }
    }
    None
}

/// All that is known of a lost content. (Writing to a String cannot fail.)
fn tell(cluster: &Cluster, pages: &Pages, hash: &Hash, deeds: &[Deed]) -> String {
    let mut text = String::new();
    for deed in deeds {
        let _ = write!(text, "\n  closed: {deed:?}");
    }
    for ((node, _), deeds) in pages.destroyed.iter().filter(|((_, other), _)| other == hash) {
        let _ = write!(text, "\n  destroyed on node{}: {deeds:?}", node + 1);
    }
    for ((node, _), path) in pages.seen.iter().filter(|((_, other), _)| other == hash) {
        let _ = write!(text, "\n  seen on node{} at {path}", node + 1);
    }
    let ask = |line: String| cluster.ask(0, &line).unwrap_or_else(|error| error.to_string());
    let _ = write!(text, "\n  FIND: {}", ask(format!("FIND {}", hex(hash))).trim_end());
    if let Some(deed) = deeds.first() {
        let _ = write!(text, "\n  LOG: {}", ask(format!("LOG {}", deed.path)).trim_end());
    }
    text
}

/// No content is anywhere that nobody ever closed.
fn judge_bytes(pages: &Pages, found: &Found, verdict: &mut Verdict) {
    let all = found.folders.iter().chain(&found.history);
    let mut told = BTreeSet::new();
    for (hash, paths) in all {
        let is_known = pages.closed.contains_key(hash) || pages.snapshots.contains(hash);
        if is_known || is_newborn(hash, found) || !told.insert(*hash) {
            continue;
        }
        let bytes = paths.first().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        verdict.torn.push(format!("{} {}: {paths:?}", hex(hash), describe(&bytes)));
    }
    for ((node, hash), path) in &pages.seen {
        if !pages.closed.contains_key(hash) && !pages.snapshots.contains(hash) {
            let where_now = if found.has(hash) { "" } else { "; it is nowhere now" };
            let hash = hex(hash);
            verdict.torn.push(format!("{hash} seen on node{} at {path}{where_now}", node + 1));
        }
    }
    for path in &found.misnamed {
        verdict
            .torn
            .push(format!("a history object that is not what it is called: {}", path.display()));
    }
}

/// Nobody closes an empty file, and yet there are some: open(2) makes a file before it makes its
/// caller a writer, and who looks between the two sees an empty file that nobody has open. It may be
/// in the history; in a folder in the end it would be a file whose content was lost.
fn is_newborn(hash: &Hash, found: &Found) -> bool {
    *hash == super::content::hash(&[]) && !found.folders.contains_key(hash)
}

fn each_file(directory: &Path, work: &mut impl FnMut(PathBuf, Vec<u8>)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            Ok(kind) if kind.is_dir() => each_file(&path, work),
            Ok(kind) if kind.is_file() => {
                if let Ok(bytes) = fs::read(&path) {
                    work(path, bytes);
                }
            }
            _ => {}
        }
    }
}
