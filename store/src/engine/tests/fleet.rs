//! The harness: hosts, one log, and a network that does what it is told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pickbox_raft::api::{Command, Delivery, Role, RoleChange};
use pickbox_raft::core::ids::{ClusterId, Incarnation, Index as LogIndex, NodeId, Serial, Term};
use pickbox_raft::core::log::{Content, Entry, Payload, Proposal};
use pickbox_raft::core::members::{Member, MemberRole, Members};
use tempfile::TempDir;

use crate::breaker::HoldRule;
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::contents::history::HistoryStore;
use crate::contents::{ContentCommand, ContentEvent};
use crate::engine::ports::{Answer, Freshness, Outgoing, Query, Request, WatchAsk};
use crate::engine::stage::whole_name;
use crate::engine::{
    BroughtRule, Engine, Event, Fatal, FolderRule, Options, StateDir, open_index, set_aside,
};
use crate::folder::{Accounts, Folder, FolderError, Kind, NewFile, Properties, Stat};
use crate::ignored::{Ignored, is_ignore_file};
use crate::name::{Name, RelPath};
use crate::observation::{Flushed, Hint, Observation, Place, Seen, Sighting};
use crate::owner::OwnerRule;
use crate::placed::Placed;
use crate::record::Record;
use crate::syncer::SyncDone;

pub(super) struct Host {
    pub(super) id: NodeId,
    home: TempDir,
    engine: Option<Engine>,
    runs: u64,
    /// The next entry of the log that it gets.
    next: usize,
    /// Looks asked for and not yet made.
    asks: Vec<WatchAsk>,
    /// What its watcher was told to leave alone.
    pub(super) ignored: Arc<Ignored>,
    /// Whether the log gives it nothing before it has taken over a state.
    needs_state: bool,
    /// Contents that its worker has not found yet.
    wanted: Vec<ContentId>,
    /// Proposed and not yet in the log.
    pub(super) proposed: Option<Arc<Proposal>>,
    pub(super) now_ms: u64,
    /// By which rule its next start goes.
    pub(super) owner_rule: OwnerRule,
    /// When its next start holds deletions.
    pub(super) hold_rule: HoldRule,
    /// What becomes of what it brings along.
    pub(super) brought: BroughtRule,
    /// Its users and groups, if they are not those of this machine.
    pub(super) accounts: Option<Vec<(String, u32)>>,
}

/// As a daemon would have it.
fn default_rule() -> OwnerRule {
    if rustix::process::geteuid().is_root() { OwnerRule::Keep } else { OwnerRule::Own }
}

/// How a host that is admitted anew learns what the others have agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Entry by entry.
    Log,
    /// The whole state at once.
    State,
}

/// What a walk reads of what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    All,
    Nothing,
}

pub(super) struct Fleet {
    pub(super) hosts: Vec<Host>,
    log: Vec<Entry>,
    contents: HashMap<ContentId, Vec<u8>>,
    /// What engines said to their content workers: which host, what.
    pub(super) told: Vec<(usize, ContentCommand)>,
    /// What engines said to the log and nothing here acts upon.
    pub(super) commands: Vec<(usize, Command)>,
    /// Whether large files take their time to get to the others.
    pub(super) has_slow_offers: bool,
    /// Whether no content is found, for now.
    pub(super) loses_contents: bool,
    /// What engines say to each other, if that is not carried at once.
    pub(super) wire: Option<VecDeque<Letter>>,
    /// Nobody sends a content.
    hide_contents: bool,
}

/// A message between engines on its way.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

/// Writes on a host, lets everybody see it.
pub(super) fn share(fleet: &mut Fleet, at: usize, path: &str, text: &str) {
    fleet.hosts[at].write(path, text);
    fleet.look(at);
    fleet.settle();
}

impl Host {
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.home.path().join("folder").join(path)
    }

    /// The state directory.
    pub(super) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub(super) fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    pub(super) fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// What the folder shows: path -> kind, mode and content.
    pub(super) fn tree(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        walk(&self.home.path().join("folder"), "", &mut found);
        found
    }
}

fn walk(dir: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        // Names that are no text must not look alike.
        let own = entry.file_name();
        let own =
            own.to_str().map_or_else(|| own.as_bytes().escape_ascii().to_string(), str::to_owned);
        let name = format!("{prefix}{own}");
        let meta = entry.path().symlink_metadata().unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        let what = if meta.is_dir() {
            walk(&entry.path(), &format!("{name}/"), found);
            format!("dir {mode:o}")
        } else if meta.is_symlink() {
            format!("link {}", std::fs::read_link(entry.path()).unwrap().display())
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            let mtime = (meta.mtime(), meta.mtime_nsec());
            let text = String::from_utf8_lossy(&bytes);
            // Contents begin with what tells them apart.
            format!("file {mode:o} {mtime:?} {:.40} ({})", text, bytes.len())
        };
        found.insert(name, what);
    }
}

impl Fleet {
    /// One host, and a log that has not named any member.
    pub(super) fn unnamed() -> Self {
        Self::start_with(1, None)
    }

    pub(super) fn new(count: u64) -> Self {
        let members = (1..=count)
            .map(|id| Member {
                id: NodeId::new(id),
                name: format!("node{id}"),
                address: format!("127.0.0.1:{}", 8000 + id),
                role: MemberRole::Voter,
                key: None,
            })
            .collect();
        let next_id = NodeId::new(count + 1);
        Self::start_with(count, Some(Members { members, next_id, ..Members::default() }))
    }

    fn start_with(count: u64, members: Option<Members>) -> Self {
        let (hosts, log) = (Vec::new(), Vec::new());
        let mut fleet = Self {
            hosts,
            log,
            contents: HashMap::new(),
            told: Vec::new(),
            commands: Vec::new(),
            has_slow_offers: false,
            loses_contents: false,
            wire: None,
            hide_contents: false,
        };
        if let Some(members) = members {
            fleet.append(Content::Members(members));
        }
        for id in 1..=count {
            let home = TempDir::new().unwrap();
            std::fs::create_dir(home.path().join("folder")).unwrap();
            std::fs::create_dir(home.path().join("state")).unwrap();
            let (id, asks) = (NodeId::new(id), Vec::new());
            fleet.hosts.push(Host {
                id,
                home,
                engine: None,
                runs: 0,
                next: 0,
                asks,
                ignored: Arc::default(),
                needs_state: false,
                wanted: Vec::new(),
                proposed: None,
                now_ms: 0,
                owner_rule: default_rule(),
                hold_rule: HoldRule::default(),
                brought: BroughtRule::Merge,
                accounts: None,
            });
        }
        for host in 0..fleet.hosts.len() {
            fleet.start(host);
        }
        fleet.settle();
        fleet
    }

    /// Puts something into the log.
    pub(super) fn append(&mut self, content: Content) {
        let index = LogIndex::new(u64::try_from(self.log.len()).unwrap() + 1);
        self.log.push(Entry { index, term: Term::new(1), content });
    }

    /// Starts an engine over what its host has on disk, as after a stop or a kill.
    pub(super) fn start(&mut self, at: usize) {
        self.try_start(at, FolderRule::Marked).unwrap();
    }

    /// As [`Self::start`], by a rule for the folder.
    pub(super) fn try_start(&mut self, at: usize, rule: FolderRule) -> Result<(), Fatal> {
        let host = &mut self.hosts[at];
        host.runs += 1;
        let incarnation = Incarnation::new(host.id.get() * 1000 + host.runs);
        let state = StateDir::open(host.home.path().join("state")).unwrap();
        let (index, position) = open_index(&state).unwrap();
        host.next = usize::try_from(position.applied.index.get()).unwrap();
        let folder = Folder::open(&host.home.path().join("folder")).unwrap();
        let name = format!("node{}", at + 1);
        let history = HistoryStore::open(state.child("history").unwrap()).unwrap();
        let history = Arc::new(history);
        let me = host.id;
        let (cluster, folder_rule) = (ClusterId([7; 16]), rule);
        let options = Options {
            me,
            name: name.clone(),
            incarnation,
            folder,
            state,
            history,
            cluster,
            folder_rule,
            holds: host.hold_rule,
            brought: host.brought,
            owners: host.owner_rule,
            accounts: Accounts::default(),
        };
        let mut engine = Engine::open(options, index)?;
        if let Some(accounts) = &host.accounts {
            let accounts: Vec<_> = accounts.iter().map(|(name, id)| (name.as_str(), *id)).collect();
            engine.owners.accounts = Accounts::made_up(&accounts);
        }
        host.engine = Some(engine);
        host.asks.clear();
        host.ignored = Arc::default();
        host.wanted.clear();
        host.needs_state = false;
        host.proposed = None;
        let (origin, serial) = (host.id, Serial::new(1));
        let payload = Payload::Open { name };
        let open = Proposal { origin, incarnation, serial, holders: None, payload };
        self.append(Content::Proposal(open));
        self.leader(at, Some(NodeId::new(1)));
        Ok(())
    }

    /// Admits a host anew over the same folder, as a member with another number: what it had in
    /// its state directory is set aside.
    pub(super) fn readmit(&mut self, at: usize, way: Way) {
        self.kill(at);
        let home = self.hosts[at].home.path().join("state");
        set_aside(&StateDir::open(home).unwrap()).unwrap();
        let named = |entry: &Entry| match &entry.content {
            Content::Members(members) => Some(members.clone()),
            _ => None,
        };
        let mut members = self.log.iter().rev().find_map(named).unwrap();
        let former = self.hosts[at].id;
        let id = members.next_id;
        members.next_id = NodeId::new(id.get() + 1);
        for member in members.members.iter_mut().filter(|member| member.id == former) {
            member.id = id;
        }
        members.members.sort_by_key(|member| member.id);
        self.hosts[at].id = id;
        self.append(Content::Members(members));
        self.start(at);
        let giver = (0..self.hosts.len()).find(|giver| *giver != at && self.hosts[*giver].is_up());
        if let (Way::State, Some(giver)) = (way, giver) {
            self.need_state(at, giver);
        }
    }

    /// How many entries the log has.
    pub(super) fn log_len(&self) -> usize {
        self.log.len()
    }

    /// Tells an engine something of the watcher.
    pub(super) fn sight(&mut self, at: usize, sighting: Sighting) {
        self.give(at, Event::Sighting(sighting));
    }

    /// Ends an engine as a kill does: nothing is said or written any more.
    pub(super) fn kill(&mut self, at: usize) {
        self.hosts[at].engine = None;
    }

    /// Ends an engine in order.
    pub(super) fn stop(&mut self, at: usize) {
        self.hosts[at].engine.take().unwrap().stop().unwrap();
    }

    /// Makes a checkpoint now.
    pub(super) fn checkpoint(&mut self, at: usize) {
        let engine = self.hosts[at].engine();
        let job = engine.begin_checkpoint().unwrap();
        crate::syncer::sync(&engine.folder, &job).unwrap();
        engine.synced(&SyncDone { failed: None }).unwrap();
        self.drain(at);
    }

    /// Takes in what an engine said.
    fn drain(&mut self, at: usize) {
        if !self.hosts[at].engine().is_noted() {
            return;
        }
        let out: Vec<_> = self.hosts[at].engine().take_outgoing().collect();
        for outgoing in out {
            match outgoing {
                Outgoing::Log(Command::Propose(proposal)) => {
                    self.hosts[at].proposed = Some(proposal);
                }
                // A watcher remembers names, not how often it was asked for them.
                Outgoing::Watch(ask) if self.hosts[at].asks.contains(&ask) => {}
                Outgoing::Watch(ask) => self.hosts[at].asks.push(ask),
                Outgoing::Content(command) => self.content(at, command),
                Outgoing::Peer(to, bytes) => self.post(at, to, bytes),
                Outgoing::Log(Command::StateInstalled { at: reached, members, runs }) => {
                    self.hosts[at].next = usize::try_from(reached.index.get()).unwrap();
                    self.hosts[at].needs_state = false;
                    self.commands
                        .push((at, Command::StateInstalled { at: reached, members, runs }));
                }
                Outgoing::Log(command) => self.commands.push((at, command)),
                Outgoing::Sync(_) => {}
            }
        }
    }

    fn post(&mut self, from: usize, to: NodeId, bytes: Vec<u8>) {
        let found = self.hosts.iter().position(|host| host.id == to);
        let Some(to) = found.filter(|at| self.hosts[*at].is_up()) else {
            return self.hosts[from].engine().peer_unreachable(to);
        };
        let letter = Letter { from, to, bytes };
        match &mut self.wire {
            Some(wire) => wire.push_back(letter),
            None => self.carry(letter),
        }
    }

    /// Hands a message to whom it is for.
    pub(super) fn carry(&mut self, letter: Letter) {
        let from = self.hosts[letter.from].id;
        self.give(letter.to, Event::Peer(from, letter.bytes));
    }

    /// Tells a host that the log of `leader` begins behind where `leader` is now.
    pub(super) fn need_state(&mut self, at: usize, leader: usize) {
        while self.deliver(leader) {}
        let (from, at_least) =
            (self.hosts[leader].id, self.hosts[leader].engine().index.position());
        self.hosts[at].needs_state = true;
        self.give(at, Event::Log(Delivery::NeedState { from, at_least }));
    }

    pub(super) fn give(&mut self, at: usize, event: Event) {
        if !self.hosts[at].is_up() {
            return;
        }
        self.hosts[at].engine().event(event).unwrap();
        self.turn(at);
    }

    fn turn(&mut self, at: usize) {
        if self.hosts[at].is_up() {
            let now = self.hosts[at].now_ms;
            self.hosts[at].engine().now_ms = now;
            self.hosts[at].engine().turn().unwrap();
            self.drain(at);
        }
    }

    fn content(&mut self, at: usize, command: ContentCommand) {
        self.told.push((at, command.clone()));
        match command {
            ContentCommand::Offer(_) if self.has_slow_offers => {}
            ContentCommand::Offer(offer) => {
                let (parent, name) = offer.path.split().unwrap();
                let dir = self.hosts[at].engine().folder.dir(&parent);
                let read = dir.and_then(|dir| dir.read_small(&name, offer.expect.size));
                let same = |stat: &Stat| stat.same_to_ctime(&offer.expect);
                let Some(bytes) = read.ok().filter(|(stat, _)| same(stat)).and_then(|read| read.1)
                else {
                    return self.give(at, Event::Content(ContentEvent::Changed(offer.ticket)));
                };
                let (content, size) = (ContentId::of(&bytes), offer.expect.size);
                self.contents.insert(content, bytes);
                let mut holders = offer.peers;
                holders.push(self.hosts[at].id);
                let (ticket, stat) = (offer.ticket, offer.expect);
                let held = ContentEvent::Held { ticket, content, size, stat, holders };
                self.give(at, Event::Content(held));
            }
            ContentCommand::Fetch { content, .. } => self.fetch(at, content),
            _ => {}
        }
    }

    /// Brings what a host has on offer to the others.
    pub(super) fn finish_offers(&mut self, at: usize) {
        self.has_slow_offers = false;
        let offered = |(host, command): &(usize, ContentCommand)| match command {
            ContentCommand::Offer(offer) if *host == at => Some(offer.clone()),
            _ => None,
        };
        for offer in self.told.iter().filter_map(offered).collect::<Vec<_>>() {
            self.content(at, ContentCommand::Offer(offer));
        }
    }

    /// Brings a content to a host that wants it; the worker tries on while nobody has it.
    fn fetch(&mut self, at: usize, content: ContentId) {
        let bytes = match self.contents.get(&content) {
            Some(bytes) => Some(bytes.clone()),
            None if self.hide_contents => None,
            None => self.find_bytes(content),
        };
        let Some(bytes) = bytes.filter(|_| !self.loses_contents) else {
            return self.hosts[at].wanted.push(content);
        };
        let new = NewFile {
            bytes: &bytes,
            properties: Properties::OURS,
            xattrs: crate::xattr::Xattrs::NONE,
        };
        match self.hosts[at].engine().staging.write_new(&whole_name(content), new) {
            Ok(_) | Err(FolderError::Exists(_)) => {}
            Err(error) => panic!("{error}"),
        }
        self.give(at, Event::Content(ContentEvent::Fetched(content)));
    }

    /// Forgets the contents that were offered.
    pub(super) fn lose_contents(&mut self) {
        self.contents.clear();
        self.hide_contents = true;
    }

    /// The bytes of a content wherever a host has them: folder, history, staging, quarantine.
    pub(super) fn find_bytes(&self, content: ContentId) -> Option<Vec<u8>> {
        fn search(dir: &Path, content: ContentId) -> Option<Vec<u8>> {
            // A racer may take away what was listed.
            for entry in std::fs::read_dir(dir).ok()?.flatten() {
                let path = entry.path();
                let Ok(meta) = path.symlink_metadata() else { continue };
                if meta.is_dir() {
                    if let Some(found) = search(&path, content) {
                        return Some(found);
                    }
                } else if meta.is_file() {
                    let Ok(bytes) = std::fs::read(&path) else { continue };
                    if ContentId::of(&bytes) == content {
                        return Some(bytes);
                    }
                }
            }
            None
        }
        self.hosts.iter().find_map(|host| search(host.home.path(), content))
    }

    /// Moves the proposal of a host into the log.
    pub(super) fn commit(&mut self, at: usize) {
        if let Some(proposal) = self.hosts[at].proposed.take() {
            self.append(Content::Proposal((*proposal).clone()));
        }
    }

    /// Moves the proposal of a host into the log with a payload that nobody can read.
    pub(super) fn garble(&mut self, at: usize) {
        let Some(proposal) = self.hosts[at].proposed.take() else { return };
        let payload = Payload::Data(vec![0xff; 20]);
        self.append(Content::Proposal(Proposal { payload, ..(*proposal).clone() }));
    }

    /// Gives a host the next entry; false when it has all.
    pub(super) fn deliver(&mut self, at: usize) -> bool {
        let host = &mut self.hosts[at];
        let Some(entry) = self.log.get(host.next).cloned() else { return false };
        if host.needs_state || host.engine.as_mut().is_none_or(Engine::is_short_of_space) {
            return false;
        }
        host.next += 1;
        self.give(at, Event::Log(Delivery::Entries(vec![entry])));
        true
    }

    /// Applies all that a host has not got of the log, and tells in which order it would be placed.
    pub(super) fn backlog(&mut self, at: usize) -> Vec<RelPath> {
        let host = &mut self.hosts[at];
        let entries = self.log[host.next..].to_vec();
        host.next = self.log.len();
        let engine = host.engine();
        for entry in &entries {
            engine.apply_entry(entry).unwrap();
        }
        let ids = engine.todo.first(usize::MAX);
        ids.into_iter().map(|id| engine.index.path_of(id).unwrap().unwrap()).collect()
    }

    /// Has the watcher of a host walk its folder.
    pub(super) fn look(&mut self, at: usize) {
        self.rescan(at, &RelPath::root());
    }

    /// As [`Self::look`], in the way of a walk at the start: nothing is read before it is asked for.
    pub(super) fn walk(&mut self, at: usize) {
        self.walk_below(at, &RelPath::root(), Reads::Nothing);
    }

    /// What an engine asked of its watcher and has no answer to yet.
    pub(super) fn asked(&self, at: usize) -> &[WatchAsk] {
        &self.hosts[at].asks
    }

    /// What an engine asked of its watcher did not get there.
    pub(super) fn forget_ask(&mut self, at: usize, ask: &WatchAsk) {
        self.hosts[at].asks.retain(|other| other != ask);
    }

    fn rescan(&mut self, at: usize, top: &RelPath) {
        self.walk_below(at, top, Reads::All);
    }

    fn walk_below(&mut self, at: usize, top: &RelPath, reads: Reads) {
        let mut stack = vec![top.clone()];
        if self.is_looking(at) {
            self.give(at, Event::Sighting(Sighting::WalkStarted(top.clone())));
        }
        while let Some(path) = stack.pop() {
            if !self.is_looking(at) {
                return;
            }
            let Ok(dir) = self.hosts[at].engine().folder.dir(&path) else { continue };
            let mut names: Vec<Name> = dir.list().unwrap().map(|e| e.unwrap().name).collect();
            names.sort();
            // Rules first, as a watcher tells them.
            names.sort_by_key(|name| !is_ignore_file(name));
            let mut looks = Vec::new();
            for name in &names {
                match dir.stat(name) {
                    Ok(stat) if stat.kind != Kind::Directory && reads == Reads::Nothing => {
                        looks.push((name.clone(), stat));
                        continue;
                    }
                    Ok(stat)
                        if stat.kind == Kind::Directory
                            && self.hosts[at].ignored.by(&path.join(name), true).is_none() =>
                    {
                        stack.push(path.join(name));
                    }
                    _ => {}
                }
                self.examine(at, &path.join(name));
            }
            if !looks.is_empty() {
                let dir = path.clone();
                self.give(at, Event::Sighting(Sighting::Looked { dir, looks }));
            }
            self.give(at, Event::Sighting(Sighting::Listed { dir: path, names }));
        }
        let done = Sighting::WalkDone { top: top.clone(), complete: true };
        self.give(at, Event::Sighting(done));
        self.calm(at);
    }

    fn examine(&mut self, at: usize, path: &RelPath) {
        if let Some(look) = self.see(at, path) {
            self.tell(at, look);
        }
    }

    /// What the watcher of a host sees at a path now, not told yet.
    pub(super) fn see(&mut self, at: usize, path: &RelPath) -> Option<Sighting> {
        let (parent, name) = path.split()?;
        let engine = self.hosts[at].engine();
        let seen = match engine.folder.dir(&parent) {
            Err(_) => Seen::ParentGone,
            Ok(dir) => match dir.stat(&name) {
                Err(_) => Seen::Gone,
                Ok(stat) => match stat.kind {
                    Kind::Directory => Seen::Directory(stat),
                    Kind::Symlink => {
                        // Another kind of thing by now: a watcher looks again, with the next event.
                        let (stat, target) = dir.read_link(&name).ok()?;
                        Seen::Symlink { stat, target }
                    }
                    Kind::Special => Seen::Special(stat),
                    Kind::File if stat.size > INLINE_BYTES_MAX => Seen::Large(stat),
                    Kind::File => {
                        let (stat, data) = dir.read_small(&name, INLINE_BYTES_MAX).ok()?;
                        let data = data?;
                        Seen::Small { stat, content: ContentId::of(&data), data }
                    }
                },
            },
        };
        let (place, path, hint) = (Place::Folder, path.clone(), Hint::SCANNED);
        Some(Sighting::Saw(Observation { place, path, seen, hint }))
    }

    /// As [`Self::see`], of what was just moved there.
    pub(super) fn see_moved(&mut self, at: usize, path: &RelPath) -> Option<Sighting> {
        let sighting = self.see(at, path)?;
        let Sighting::Saw(seen) = sighting else { return Some(sighting) };
        Some(Sighting::Saw(Observation { hint: Hint::MOVED_HERE, ..seen }))
    }

    /// Tells a host what its watcher saw some time ago.
    pub(super) fn tell(&mut self, at: usize, look: Sighting) {
        self.give(at, Event::Sighting(look));
        self.calm(at);
    }

    /// The watcher of a host has told everything.
    pub(super) fn calm(&mut self, at: usize) {
        self.give(at, Event::Sighting(Sighting::Calm));
    }

    /// Whether an engine takes sightings.
    fn is_looking(&mut self, at: usize) -> bool {
        let Some(engine) = self.hosts[at].engine.as_mut() else { return false };
        engine.is_live() && !engine.is_short_of_space()
    }

    /// Makes the looks that a host's engine asked for.
    pub(super) fn answer_asks(&mut self, at: usize) -> bool {
        if !self.is_looking(at) {
            return false;
        }
        let asks = std::mem::take(&mut self.hosts[at].asks);
        let any = !asks.is_empty();
        for ask in asks {
            match ask {
                WatchAsk::Examine(path) => self.examine(at, &path),
                WatchAsk::Rescan(path) => self.rescan(at, &path),
                WatchAsk::Flush(id) => {
                    self.look(at);
                    let (open_count, open) = (0, Vec::new());
                    let flushed = Flushed { id, open_count, open };
                    self.give(at, Event::Sighting(Sighting::Flushed(flushed)));
                }
                WatchAsk::Ignore(ignored) => self.hosts[at].ignored = ignored,
            }
        }
        any
    }

    /// Lets time pass on a host.
    pub(super) fn pass(&mut self, at: usize, ms: u64) {
        self.hosts[at].now_ms += ms;
        self.turn(at);
    }

    /// Everything that can happen happens, until nothing does.
    pub(super) fn settle(&mut self) {
        for round in 0..200 {
            let mut any = false;
            for at in 0..self.hosts.len() {
                any |= self.hosts[at].proposed.is_some();
                self.commit(at);
                while self.deliver(at) {
                    any = true;
                }
                if self.hosts[at].is_up()
                    && self.hosts[at].engine().is_live()
                    && (!self.hosts[at].engine().has_scanned() || round % 50 == 49)
                {
                    // Whatever a user did, its event comes in the end.
                    self.look(at);
                }
                any |= self.answer_asks(at);
                let wanted = std::mem::take(&mut self.hosts[at].wanted);
                let up = self.hosts[at].is_up();
                for content in wanted.into_iter().filter(|_| up) {
                    self.fetch(at, content);
                }
                self.pass(at, 1_000);
            }
            if !any && round > 3 {
                return;
            }
        }
        for host in &mut self.hosts {
            let (open, rows) = (host.engine().open_things(), host.engine().all_rows());
            println!("node{}: {open}{rows}", host.id);
        }
        panic!("does not settle");
    }

    /// As [`Self::settle`], but one host hears nothing: what it proposed commits behind its back.
    pub(super) fn settle_others(&mut self, deaf: usize) {
        self.commit(deaf);
        for _ in 0..20 {
            for at in (0..self.hosts.len()).filter(|at| *at != deaf) {
                self.commit(at);
                while self.deliver(at) {}
                self.answer_asks(at);
                self.pass(at, 1_000);
            }
        }
    }

    /// Looks at every folder and settles, until the folders do not change any more.
    pub(super) fn converge(&mut self) {
        for _ in 0..10 {
            let before: Vec<_> = self.hosts.iter().map(Host::tree).collect();
            for at in 0..self.hosts.len() {
                if self.hosts[at].is_up() {
                    self.look(at);
                }
            }
            self.settle();
            let after: Vec<_> = self.hosts.iter().map(Host::tree).collect();
            if before == after {
                return;
            }
        }
        panic!("the folders go on changing");
    }

    /// All folders equal, all digests equal, nothing pending.
    pub(super) fn assert_same(&mut self) {
        let first = self.hosts[0].tree();
        let status = self.hosts[0].engine().store_status().unwrap();
        for host in &mut self.hosts {
            if host.tree() != first {
                let rows = host.engine().all_rows();
                assert_eq!(host.tree(), first, "node{} differs from node1; rows {rows}", host.id);
            }
            let own = host.engine().store_status().unwrap();
            assert_eq!(own.digest, status.digest);
            let mut open = host.engine().open_things();
            if own.undecided + own.unplaced > 0 {
                open += &host.engine().all_rows();
            }
            assert_eq!((own.undecided, own.unplaced), (0, 0), "node{}: {open}", host.id);
        }
        assert_eq!(usize::try_from(status.records).unwrap(), first.len(), "{first:?}");
    }

    /// Tells an engine who leads.
    pub(super) fn leader(&mut self, at: usize, leader: Option<NodeId>) {
        let change = RoleChange { role: Role::Follower, term: Term::new(1), leader };
        self.give(at, Event::Log(Delivery::Role(change)));
    }

    /// Asks an engine, and lets nothing else happen.
    pub(super) fn ask_only(
        &mut self,
        at: usize,
        query: Query,
    ) -> std::sync::mpsc::Receiver<Answer> {
        let (send, receive) = std::sync::mpsc::channel();
        let reply = Box::new(move |answer| send.send(answer).unwrap());
        let freshness = Freshness::Local;
        self.give(at, Event::Request(Request { query, freshness, reply }));
        receive
    }

    /// Asks an engine and runs the fleet until it answers.
    pub(super) fn ask(&mut self, at: usize, query: Query) -> Answer {
        let receive = self.ask_only(at, query);
        self.settle();
        receive.try_recv().expect("an answer")
    }
}

impl Engine {
    /// Every row and every record, for the message of a failing test.
    fn all_rows(&mut self) -> String {
        let mut text = String::new();
        for (id, row) in self.tables().unwrap().page(None, 1000).unwrap() {
            let Placed { parent, name, seen, base, .. } = row;
            let seen = seen.map(|seen| (seen.stat.ino, seen.stat.mode, seen.body));
            let mode = base.as_ref().map(|base| base.view.attributes.mode);
            let base = base.map(|base| (base.id, base.view.place, base.version));
            let line =
                format!("\nrow {id:?} in {parent:?} {name} seen {seen:?} base {mode:?} {base:?}");
            text.push_str(&line);
        }
        for (id, record) in self.index.records(None, 10_000).unwrap() {
            let Record { parent, name, body, version, attributes, .. } = record;
            let line = format!(
                "\nrecord {id} in {parent} {name} {body:?} {} {version:?}",
                attributes.mode
            );
            text.push_str(&line);
        }
        text
    }

    /// Whether a large file is on its way to others.
    pub(super) fn offers_anything(&self) -> bool {
        !self.offers.is_empty()
    }

    /// What is open, for the message of a failing test.
    fn open_things(&mut self) -> String {
        let ids = self.outbox.first(20);
        let rows: Vec<_> = ids.into_iter().map(|id| (id, self.row(id).unwrap())).collect();
        format!(
            "outbox {rows:#?} flying {:?} offers {:?} limbo {:?} open {:?} quarantined {:?} todo {:?} \
             stuck {:?} scanned {}",
            self.flying,
            self.offers,
            self.limbo,
            self.open_for_writing,
            self.quarantined,
            self.todo.first(20),
            self.stuck,
            self.has_scanned()
        )
    }
}
