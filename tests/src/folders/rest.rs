//! Coming to rest, and what must hold then.

use std::collections::BTreeMap;

use pickbox_store::content_id::ContentId;
use pickbox_store::folder::Kind;
use pickbox_store::folder::simulated::FileSystem;

use super::people::{contents, lock};
use super::world::World;

/// Rounds until all is quiet; a second of simulated time each.
const ROUNDS_MAX: usize = 600;
/// Rounds without anything to do that are rest.
const QUIET_ROUNDS: usize = 8;
/// The same where directories without a watch are listed every 30 s.
const QUIET_UNWATCHED: usize = 40;
/// Steps of one part in one round.
const STEPS_MAX: usize = 400;

/// What users attached to something.
fn attached(fs: &FileSystem, path: &str) -> String {
    let all = fs.attributes(path).unwrap_or_default();
    all.iter().map(|(name, value)| format!(" {name}={value:?}")).collect::<Vec<_>>().concat()
}

/// What a folder shows: path -> what stands there.
fn tree(fs: &FileSystem, dir: &str, found: &mut BTreeMap<String, String>) {
    for name in fs.names(dir).unwrap_or_default() {
        let path = format!("{dir}/{name}");
        let Ok(stat) = fs.stat(&path) else { continue };
        let what = match stat.kind {
            Kind::Directory => {
                tree(fs, &path, found);
                format!("dir {:o}{}", stat.mode, attached(fs, &path))
            }
            Kind::Symlink => {
                let target = fs.read_link(&path).unwrap_or_default();
                format!("link {}", String::from_utf8_lossy(&target))
            }
            Kind::File => {
                let bytes = fs.read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                let text: String = text.chars().take(40).collect();
                let attached = attached(fs, &path);
                format!("file {:o} {:?} {text} ({}){attached}", stat.mode, stat.mtime, bytes.len())
            }
            Kind::Special => "special".to_owned(),
        };
        found.insert(path, what);
    }
}

impl World {
    /// The bytes of a content, wherever a host has them.
    pub(super) fn find(&self, content: ContentId) -> Option<Vec<u8>> {
        fn search(fs: &FileSystem, dir: &str, content: ContentId) -> Option<Vec<u8>> {
            for name in fs.names(dir).unwrap_or_default() {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let found = match fs.stat(&path).map(|stat| stat.kind) {
                    Ok(Kind::Directory) => search(fs, &path, content),
                    Ok(Kind::File) => fs.read(&path).ok().filter(|b| ContentId::of(b) == content),
                    _ => None,
                };
                if found.is_some() {
                    return found;
                }
            }
            None
        }
        self.hosts.iter().find_map(|host| search(&host.fs, "", content))
    }

    /// All faults end, all programs end, and everything that can happen happens.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.tell("--- all faults end".to_owned());
        for at in 0..self.hosts.len() {
            let mut between = lock(&self.hosts[at].between);
            (between.users, between.refusals, between.dies_in) = (0, 0, None);
            drop(between);
            lock(&self.hosts[at].people).close_all();
            self.heal(at);
            if self.hosts[at].is_down() {
                self.start(at)?;
            }
        }
        let mut quiet = 0;
        let mut busy = false;
        let enough = if self.unwatched { QUIET_UNWATCHED } else { QUIET_ROUNDS };
        for _ in 0..ROUNDS_MAX {
            let mut any = false;
            for at in 0..self.hosts.len() {
                any |= self.round(at)?;
            }
            busy = any;
            self.pass(1_000_000);
            let open = !self.hosts.iter().all(super::host::Host::is_idle);
            quiet = if any || open || !self.is_settled()? { 0 } else { quiet + 1 };
            if quiet >= enough {
                return Ok(());
            }
        }
        let mut reasons = Vec::new();
        for at in 0..self.hosts.len() {
            let now = self.now_us;
            let host = &mut self.hosts[at];
            let status = host.status(now)?;
            reasons.push(format!(
                "{} idle {} undecided {} unplaced {} live {} held {} waiting {:?} next {} of {}",
                host.name(),
                host.is_idle(),
                status.undecided,
                status.unplaced,
                status.live,
                status.held,
                status.waiting,
                host.next,
                self.log.len(),
            ));
        }
        Err(format!("no rest: busy {busy}: {}", reasons.join("; ")))
    }

    fn round(&mut self, at: usize) -> Result<bool, String> {
        let mut any = false;
        for part in [0, 1, 2, 3, 6, 7, 5, 4] {
            for _ in 0..STEPS_MAX {
                let did = self.machinery(at, part)?;
                any |= did;
                // Looks are not told from idle turns.
                if !did && (part != 0 || self.hosts[at].is_idle()) {
                    break;
                }
                if part == 0 {
                    self.machinery(at, 1)?;
                    self.pass(1_000);
                }
            }
        }
        Ok(any)
    }

    fn is_settled(&mut self) -> Result<bool, String> {
        let now = self.now_us;
        let mut settled = true;
        for host in &mut self.hosts {
            let status = host.status(now)?;
            settled &= status.live && status.undecided + status.unplaced == 0;
            // What could not be read while calls were refused can be by now, and is tried again.
            settled &= status.left_out == 0;
            settled &= host.next == self.log.len();
        }
        Ok(settled)
    }

    /// At rest everything is the same everywhere, and nothing is lost.
    pub(super) fn check_rest(&mut self) -> Result<(), String> {
        let now = self.now_us;
        let mut first: Option<(BTreeMap<String, String>, String)> = None;
        for host in &mut self.hosts {
            let mut own = BTreeMap::new();
            tree(&host.fs, "folder", &mut own);
            let status = host.status(now)?;
            self.report.conflicts = status.conflicts;
            let Some((tree, digest)) = &first else {
                if status.records != u64::try_from(own.len()).unwrap_or(0) {
                    return Err(format!(
                        "{} records, and the folder shows {own:#?}",
                        status.records
                    ));
                }
                first = Some((own, status.digest));
                continue;
            };
            if *tree != own {
                return Err(format!("the trees differ: {tree:#?} and on {} {own:#?}", host.name()));
            }
            if *digest != status.digest {
                return Err(format!("the digests differ: {digest} and {}", status.digest));
            }
        }
        let mut found = Vec::new();
        for host in &self.hosts {
            contents(&host.fs, "", &mut found);
        }
        let written = lock(&self.written);
        let lost = written.kept.iter().find(|(content, _)| !found.contains(content));
        match lost {
            Some((content, (host, begin))) => {
                Err(format!("a content that host {host} wrote is gone: {content} {begin:?}"))
            }
            None => Ok(()),
        }
    }
}
