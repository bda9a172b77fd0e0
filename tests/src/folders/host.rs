//! One node: its disk, its daemon, its users.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pickbox_raft::api::{Command, Delivery, Role, RoleChange};
use pickbox_raft::core::ids::{ClusterId, Incarnation, NodeId, Term};
use pickbox_raft::core::log::{Entry, Proposal};
use pickbox_store::breaker::HoldRule;
use pickbox_store::content_id::ContentId;
use pickbox_store::contents::history::HistoryStore;
use pickbox_store::contents::staging::staged_name;
use pickbox_store::contents::{ContentCommand, ContentEvent, OfferRequest};
use pickbox_store::engine::BroughtRule;
use pickbox_store::engine::ports::{
    Answer, Freshness, Outgoing, Query, Request, StoreStatus, WatchAsk,
};
use pickbox_store::engine::{Engine, Event, Fatal, FolderRule, Options, StateDir, open_index};
use pickbox_store::folder::simulated::{Call, FileSystem};
use pickbox_store::folder::{Accounts, FolderError, NewFile, Properties};
use pickbox_store::observation::{Observation, Seen, Sighting};
use pickbox_store::owner::OwnerRule;
use pickbox_store::syncer::{self, SyncDone, SyncJob};
use pickbox_store::xattr::Xattrs;
use pickbox_watch::simulated::Steps;

use super::people::{People, Shared, Written, lock};
use super::tally::Tally;
use crate::sim::Random;

/// Sightings that the watcher may be ahead.
const SIGHTINGS_MAX: usize = 8;
/// Calls of a story.
const CALLS_MAX: usize = 40;

/// What happens before calls of the daemon.
#[derive(Debug)]
pub(super) struct Between {
    random: Random,
    people: Shared<People>,
    fs: FileSystem,
    /// The daemon dies after so many calls.
    pub(super) dies_in: Option<u64>,
    /// Of a thousand calls, before so many a user acts.
    pub(super) users: u64,
    /// Of a thousand calls, so many are refused.
    pub(super) refusals: u64,
    pub(super) calls: u64,
    pub(super) deeds: u64,
    pub(super) tally: Tally,
    /// The last calls.
    pub(super) last: VecDeque<String>,
}

impl Between {
    fn call(&mut self, call: &Call) -> Result<(), rustix::io::Errno> {
        self.calls += 1;
        if self.last.len() >= CALLS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(format!("{} {}", call.what, call.path));
        if let Some(left) = &mut self.dies_in {
            if *left == 0 {
                self.dies_in = None;
                self.tally.note("an end at some call");
                self.fs.kill();
                return Ok(());
            }
            *left -= 1;
        }
        if self.random.per_mille(self.users) {
            self.deeds += 1;
            let mut people = lock(&self.people);
            people.story.push(format!("  in between, before {} {}:", call.what, call.path));
            people.act();
        }
        let may_fail = call.path.starts_with("folder/")
            && matches!(call.what, "openat2" | "exchange" | "rename" | "unlinkat" | "fchmod");
        if may_fail && self.random.per_mille(self.refusals) {
            self.tally.note("a call refused");
            return Err(rustix::io::Errno::ACCESS);
        }
        Ok(())
    }
}

/// What a kill takes away.
pub(super) struct Up {
    engine: Engine,
    watch: Steps,
    sightings: VecDeque<Sighting>,
    asks: VecDeque<WatchAsk>,
    pub(super) proposed: Option<Arc<Proposal>>,
    sync: Option<SyncJob>,
    offers: Vec<OfferRequest>,
    wanted: Vec<ContentId>,
    started_us: u64,
    life: u64,
}

/// One node.
pub(super) struct Host {
    pub(super) at: usize,
    pub(super) fs: FileSystem,
    pub(super) people: Shared<People>,
    pub(super) between: Shared<Between>,
    pub(super) up: Option<Up>,
    /// The next entry of the log that it gets.
    pub(super) next: usize,
    runs: u64,
    overflows: u64,
}

/// An offer that came through: its content is where a majority has it.
pub(super) struct Offered {
    pub(super) content: ContentId,
    pub(super) bytes: Vec<u8>,
}

fn in_words(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

impl Host {
    pub(super) fn new(at: usize, seed: u64, written: Shared<Written>) -> Self {
        let fs = FileSystem::new();
        for dir in ["folder", "state"] {
            // Into an empty volume: it cannot fail.
            let _ = fs.make_dir(dir);
        }
        fs.write_back();
        let people = Arc::new(std::sync::Mutex::new(People::new(at, fs.clone(), seed, written)));
        let between = Between {
            random: Random::new(seed ^ 0x5eed),
            people: people.clone(),
            fs: fs.clone(),
            dies_in: None,
            users: 0,
            refusals: 0,
            calls: 0,
            deeds: 0,
            tally: Tally::default(),
            last: VecDeque::new(),
        };
        let between = Arc::new(std::sync::Mutex::new(between));
        let (up, next, runs, overflows) = (None, 0, 0, 0);
        Self { at, fs, people, between, up, next, runs, overflows }
    }

    pub(super) fn id(&self) -> NodeId {
        NodeId::new(u64::try_from(self.at).unwrap_or(0) + 1)
    }

    pub(super) fn name(&self) -> String {
        format!("node{}", self.at + 1)
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation::new(self.id().get() * 1000 + self.runs)
    }

    /// Times that events were lost, in all its lives.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows + self.up.as_ref().map_or(0, |up| up.watch.counts().overflows)
    }

    /// Starts the daemon over what is on the disk. `false`: it died on the way.
    pub(super) fn start(&mut self, epoch: Instant, now_us: u64) -> Result<bool, String> {
        self.runs += 1;
        let between = self.between.clone();
        self.fs.set_hook(Some(Box::new(move |call| lock(&between).call(call))));
        let life = self.fs.life();
        match self.open(epoch, now_us, life) {
            _ if self.fs.life() != life => Ok(false),
            Ok(up) => {
                self.up = Some(up);
                Ok(true)
            }
            Err(why) => Err(format!("{} does not start: {why}", self.name())),
        }
    }

    fn open(&mut self, epoch: Instant, now_us: u64, life: u64) -> Result<Up, String> {
        let failed = |error: FolderError| error.to_string();
        let fatal = |error: Fatal| in_words(&error);
        let state =
            StateDir::simulated(self.fs.folder("state").map_err(failed)?).map_err(failed)?;
        let (index, position) = open_index(&state).map_err(fatal)?;
        self.next = usize::try_from(position.applied.index.get()).unwrap_or(0);
        let history =
            HistoryStore::open(state.child("history").map_err(failed)?).map_err(failed)?;
        let options = Options {
            me: self.id(),
            name: self.name(),
            incarnation: self.incarnation(),
            folder: self.fs.folder("folder").map_err(failed)?,
            state,
            history: Arc::new(history),
            cluster: ClusterId([7; 16]),
            folder_rule: FolderRule::Marked,
            holds: HoldRule::default(),
            brought: BroughtRule::Merge,
            owners: OwnerRule::Own,
            accounts: Accounts::default(),
        };
        let mut engine = Engine::open(options, index).map_err(fatal)?;
        engine.tell_time(0);
        let folder = self.fs.folder("folder").map_err(failed)?;
        let quarantine = self.fs.folder("state/quarantine").map_err(failed)?;
        let now = epoch + Duration::from_micros(now_us);
        let watch = Steps::new(folder, vec![quarantine], now).map_err(|error| in_words(&error))?;
        let change =
            RoleChange { role: Role::Follower, term: Term::new(1), leader: Some(NodeId::new(1)) };
        engine.event(Event::Log(Delivery::Role(change))).map_err(fatal)?;
        Ok(Up {
            engine,
            watch,
            sightings: VecDeque::new(),
            asks: VecDeque::new(),
            proposed: None,
            sync: None,
            offers: Vec::new(),
            wanted: Vec::new(),
            started_us: now_us,
            life,
        })
    }

    /// Ends the daemon at once.
    pub(super) fn kill(&mut self) {
        self.fs.kill();
        self.bury();
    }

    /// Whether there is no daemon. One that died in what its neighbours did for it is found here.
    pub(super) fn is_down(&mut self) -> bool {
        let life = self.fs.life();
        if self.up.as_ref().is_some_and(|up| up.life != life) {
            self.bury();
        }
        self.up.is_none()
    }

    fn bury(&mut self) {
        if let Some(up) = self.up.take() {
            self.overflows += up.watch.counts().overflows;
        }
        lock(&self.between).dies_in = None;
    }

    /// Lets the daemon do something. What it said is lost if it died meanwhile.
    fn with(
        &mut self,
        now_us: u64,
        act: impl FnOnce(&mut Up) -> Result<(), Fatal>,
    ) -> Result<(), String> {
        let name = self.name();
        let Some(up) = &mut self.up else { return Ok(()) };
        up.engine.tell_time((now_us - up.started_us) / 1000);
        let acted = act(up);
        if self.fs.life() != up.life {
            self.bury();
            return Ok(());
        }
        acted.map_err(|error| format!("{name} ends: {}", in_words(&error)))?;
        up.take_outgoing();
        Ok(())
    }

    /// Tells the engine something, and lets it do what follows.
    pub(super) fn give(&mut self, now_us: u64, event: Event) -> Result<(), String> {
        self.with(now_us, |up| {
            up.engine.event(event)?;
            up.engine.turn()
        })
    }

    pub(super) fn turn(&mut self, now_us: u64) -> Result<(), String> {
        self.with(now_us, |up| up.engine.turn())
    }

    /// Gives it the next entry of the log; whether there was one.
    pub(super) fn deliver(&mut self, now_us: u64, log: &[Entry]) -> Result<bool, String> {
        let Some(up) = &mut self.up else { return Ok(false) };
        let Some(entry) = log.get(self.next).cloned() else { return Ok(false) };
        if up.engine.is_short_of_space() {
            return Ok(false);
        }
        self.next += 1;
        self.give(now_us, Event::Log(Delivery::Entries(vec![entry])))?;
        Ok(true)
    }

    /// One turn of the watcher.
    pub(super) fn look(&mut self, epoch: Instant, now_us: u64) -> Result<(), String> {
        let now = epoch + Duration::from_micros(now_us);
        let mut failed = None;
        self.with(now_us, |up| {
            if let Some(ask) = up.asks.pop_front() {
                up.watch.ask(ask, now);
            }
            failed = up.watch.turn(now).err();
            while up.sightings.len() < SIGHTINGS_MAX {
                let Some(sighting) = up.watch.take() else { break };
                up.sightings.push_back(sighting);
            }
            Ok(())
        })?;
        failed.map_or(Ok(()), |error| Err(in_words(&error)))
    }

    /// The engine takes a sighting; whether there was one that it takes.
    pub(super) fn hear(&mut self, now_us: u64) -> Result<bool, String> {
        let Some(up) = self.up.as_mut().filter(|up| up.engine.takes_sightings()) else {
            return Ok(false);
        };
        let Some(sighting) = up.sightings.pop_front() else { return Ok(false) };
        let told = format!("host {} hears of {}", self.at, in_short(&sighting));
        lock(&self.people).story.push(told);
        self.give(now_us, Event::Sighting(sighting))?;
        Ok(true)
    }

    /// The syncer ends its job.
    pub(super) fn sync(&mut self, now_us: u64) -> Result<bool, String> {
        let Some(job) = self.up.as_mut().and_then(|up| up.sync.take()) else { return Ok(false) };
        let Ok(folder) = self.fs.folder("folder") else { return Ok(false) };
        let failed = syncer::sync(&folder, &job).err();
        self.give(now_us, Event::Synced(SyncDone { failed }))?;
        Ok(true)
    }

    /// The content worker ends an offer: what it brought to the others.
    pub(super) fn offer(&mut self, now_us: u64) -> Result<Option<Offered>, String> {
        let Some(up) = self.up.as_mut().filter(|up| !up.offers.is_empty()) else { return Ok(None) };
        let offer = up.offers.remove(0);
        let read = self.fs.folder("folder").and_then(|folder| {
            let (parent, name) =
                offer.path.split().ok_or_else(|| FolderError::Absent(offer.path.clone()))?;
            folder.dir(&parent)?.read_small(&name, offer.expect.size)
        });
        let found = read.ok().filter(|(stat, _)| stat.same_content_hint(&offer.expect));
        let Some((stat, Some(bytes))) = found else {
            self.give(now_us, Event::Content(ContentEvent::Changed(offer.ticket)))?;
            return Ok(None);
        };
        let (content, size) = (ContentId::of(&bytes), stat.size);
        let holders = offer.peers.iter().copied().chain([self.id()]).collect();
        let held = ContentEvent::Held { ticket: offer.ticket, content, size, stat, holders };
        self.give(now_us, Event::Content(held))?;
        Ok(Some(Offered { content, bytes }))
    }

    /// The first content that it wants.
    pub(super) fn wants(&self) -> Option<ContentId> {
        self.up.as_ref().and_then(|up| up.wanted.first().copied())
    }

    /// A content arrives in staging.
    pub(super) fn fetched(
        &mut self,
        now_us: u64,
        content: ContentId,
        bytes: &[u8],
    ) -> Result<(), String> {
        if let Some(up) = &mut self.up {
            up.wanted.retain(|wanted| *wanted != content);
        }
        let Some(name) = staged_name(content) else { return Ok(()) };
        let new = NewFile { bytes, properties: Properties::OURS, xattrs: Xattrs::NONE };
        let staging = self.fs.folder("state/staging");
        match staging.and_then(|staging| staging.root().write_new(&name, new)) {
            Ok(_) | Err(FolderError::Exists(_)) => {}
            Err(error) if self.up.as_ref().is_none_or(|up| up.life == self.fs.life()) => {
                return Err(format!("staging: {error}"));
            }
            Err(_) => {}
        }
        self.give(now_us, Event::Content(ContentEvent::Fetched(content)))
    }

    /// Whether the daemon has nothing left to do by itself.
    pub(super) fn is_idle(&self) -> bool {
        let Some(up) = &self.up else { return true };
        let counts = up.watch.counts();
        let marks = counts.dirty + counts.outbox + counts.walks;
        let waits = up.asks.len() + up.sightings.len() + up.offers.len() + up.wanted.len();
        marks + waits == 0 && counts.unread_bytes == 0 && up.sync.is_none() && up.proposed.is_none()
    }

    pub(super) fn status(&mut self, now_us: u64) -> Result<StoreStatus, String> {
        let (send, receive) = std::sync::mpsc::channel();
        let reply = Box::new(move |answer| drop(send.send(answer)));
        let request = Request { query: Query::Status, freshness: Freshness::Local, reply };
        self.give(now_us, Event::Request(request))?;
        match receive.try_recv() {
            Ok(Answer::Status(status)) => Ok(*status),
            other => Err(format!("{} answers {other:?}", self.name())),
        }
    }
}

/// A sighting in a few words.
fn in_short(sighting: &Sighting) -> String {
    match sighting {
        Sighting::Saw(Observation { place, path, seen, hint }) => {
            let seen = match seen {
                Seen::Directory(stat) => format!("directory {}", stat.ino),
                Seen::Small { stat, content, .. } => format!("file {} {content}", stat.ino),
                Seen::Large(stat) | Seen::StatOnly(stat) => format!("file {}", stat.ino),
                Seen::Busy(stat) => format!("busy {}", stat.ino),
                Seen::Gone => "nothing".to_owned(),
                Seen::ParentGone => "no parent".to_owned(),
                other => format!("{other:?}"),
            };
            format!("{place:?} '{path}': {seen} by {hint:?}")
        }
        Sighting::Listed { dir, names } => format!("list of '{dir}': {names:?}"),
        other => format!("{other:?}"),
    }
}

impl Up {
    fn take_outgoing(&mut self) {
        if !self.engine.is_noted() {
            return;
        }
        let said: Vec<_> = self.engine.take_outgoing().collect();
        for outgoing in said {
            match outgoing {
                Outgoing::Log(Command::Propose(proposal)) => self.proposed = Some(proposal),
                Outgoing::Watch(ask) => self.asks.push_back(ask),
                Outgoing::Content(ContentCommand::Offer(offer)) => self.offers.push(offer),
                Outgoing::Content(ContentCommand::Cancel(ticket)) => {
                    self.offers.retain(|offer| offer.ticket != ticket);
                }
                Outgoing::Content(ContentCommand::Fetch { content, .. })
                    if !self.wanted.contains(&content) =>
                {
                    self.wanted.push(content);
                }
                Outgoing::Content(ContentCommand::Release(content)) => {
                    self.wanted.retain(|wanted| *wanted != content);
                }
                Outgoing::Sync(job) => self.sync = Some(job),
                Outgoing::Log(_) | Outgoing::Content(_) | Outgoing::Peer(..) => {}
            }
        }
    }
}
