//! The daemon: the rooms wired together, from the first look at the disk to the last join.

use std::error::Error;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select, tick};
use pickbox_admin::token::AdminToken;
use pickbox_admin::{Admin, Limits};
use pickbox_raft::api;
use pickbox_raft::bulk::{BulkError, BulkHandle};
use pickbox_raft::core::members::Members;
use pickbox_raft::disk::RealDisk;
use pickbox_raft::identity::Identity;
use pickbox_raft::keys::KeyRing;
use pickbox_raft::trace::{self, Tracer};
use pickbox_raft::{Parts, Start};
use pickbox_store::contents::worker::{ContentParts, ContentWorker};
use pickbox_store::contents::{ContentCommand, history::HistoryStore, staging};
use pickbox_store::engine::ports::{Request, WatchAsk};
use pickbox_store::engine::{
    Channels, ENGINE_TAG, Engine, Fatal, Reached, StateDir, Taken, open_index,
};
use pickbox_store::folder::{Accounts, Folder, FolderError};
use pickbox_store::{engine, locate, syncer};
use pickbox_watch::{Ask, Watch, WatchError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::accounts;
use crate::admitting::Own;
use crate::exit::CliError;
use crate::joining;
use crate::node::DaemonNode;
use crate::notify::Notifier;
use crate::options::{AdminOptions, AdminSocket, DaemonOptions, Entry};
use crate::readmission::{self, Found, Readmission};
use crate::sandbox::{self, Policy};
use crate::secret_file;
use crate::threads::{Crew, Ended};
use crate::vitals::Vitals;
use crate::wishes::run_wishes;

/// Sightings that may wait for the engine before the watcher keeps them as mere marks.
const SIGHTINGS_MAX: usize = 256;
/// Requests of clients that may wait for the engine.
const REQUESTS_MAX: usize = 1024;
/// Commands and events between the engine and the content worker.
const CONTENT_QUEUE_MAX: usize = 4096;
/// Wishes about the members that may wait.
const WISHES_MAX: usize = 16;
/// Pages of the namespace that may wait for the engine.
const PAGES_MAX: usize = 16;
/// How often a missing folder is looked for at the start, and after how many looks it is told again.
const FOLDER_LOOK_EVERY: Duration = Duration::from_millis(500);
const FOLDER_LOOKS_A_LINE: u32 = 20;
/// How long the threads may take to end before the process ends without them.
const END: Duration = Duration::from_secs(5);

pub(crate) type AnyError = Box<dyn Error>;

/// Runs the node until it is told to stop.
///
/// # Errors
/// When it cannot start or go on.
pub fn run(options: &DaemonOptions) -> Result<ExitCode, AnyError> {
    let notifier = Notifier::from_environment();
    // Before any other thread: those that are born later are confined as this one is.
    let opened = open(options, &notifier)?;
    let _confined = sandbox::enter(&policy(options), options.sandbox)?;
    let signals = Signals::new([SIGTERM, SIGINT])?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let (stop, stops) = bounded(1);
    let mut crew = Crew::new();
    let handle = signals.handle();
    start_signals(&mut crew, signals, stop, cancelled.clone())?;
    let lost = Arc::new(AtomicBool::new(false));
    notifier.status(match opened.start {
        Start::Join { .. } => "asking to be let in",
        _ => "opening the state",
    });
    let running = match start(options, opened, &mut crew, &cancelled, &lost) {
        Err(_) if cancelled.load(Ordering::Acquire) => return Ok(ExitCode::SUCCESS),
        Err(error) if lost.load(Ordering::Acquire) => return Err(begin_anew(&error)),
        other => other?,
    };
    notifier.ready(&format!("{} serves {}", options.node_id, options.data_dir.display()));
    let failure = wait(&running, &stops, crew.endings(), &notifier)?;
    notifier.stopping();
    running.stop(crew.endings());
    handle.close();
    crew.join(END);
    match failure {
        None => Ok(ExitCode::SUCCESS),
        Some(Ended { failure, .. }) if lost.load(Ordering::Acquire) => {
            Err(begin_anew(&failure.unwrap_or_default().into()))
        }
        Some(Ended { name, failure }) => {
            let why = failure.unwrap_or_else(|| "it ended unasked".to_owned());
            Err(format!("the thread {name} ended: {why}").into())
        }
    }
}

/// Waits for a signal, or the end of any thread; says meanwhile that the node is at work, if it is.
fn wait(
    running: &Running,
    stops: &Receiver<()>,
    endings: &Receiver<Ended>,
    notifier: &Notifier,
) -> Result<Option<Ended>, AnyError> {
    let looks = notifier.look_every().map_or_else(never, tick);
    let mut vitals = Vitals::new(running.log.clone(), running.requests.clone());
    loop {
        select! {
            recv(stops) -> _ => return Ok(None),
            recv(endings) -> ended => return Ok(Some(ended?)),
            recv(looks) -> _ => {
                if vitals.look() {
                    notifier.alive();
                }
            }
        }
    }
}

/// Starts this program over, as the same process: its state was found to be lost and is marked so,
/// and a start leaves it behind; or its folder is on another mount now. Comes back only with an error.
fn begin_anew(why: &AnyError) -> AnyError {
    log::error!("event=begin_anew why=\"{why}\"");
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if let Err(error) = sandbox::keep_over_exec() {
        return format!("{why}; and starting over failed: capabilities cannot be kept: {error}")
            .into();
    }
    // The file may have been replaced meanwhile: this names the one that runs.
    let error = Command::new("/proc/self/exe").arg0(name).args(arguments).exec();
    format!("{why}; and starting over failed: {error}").into()
}

fn start_signals(
    crew: &mut Crew,
    mut signals: Signals,
    stop: Sender<()>,
    cancelled: Arc<AtomicBool>,
) -> io::Result<()> {
    crew.start("signals", move || {
        for signal in signals.forever() {
            log::info!("event=signal number={signal}");
            cancelled.store(true, Ordering::Release);
            // A second signal while the first is worked on changes nothing.
            let _ = stop.try_send(());
        }
        None
    })
}

/// What is needed to end a running daemon.
struct Running {
    admin: pickbox_admin::Stopper,
    engine: Sender<()>,
    requests: Sender<Request>,
    log: pickbox_raft::Handle,
    watch: pickbox_watch::Handle,
    contents: Sender<ContentCommand>,
}

impl Running {
    /// Ends the parts in order: first no new requests and sightings, then the last checkpoint,
    /// then the log, which hands leadership over.
    fn stop(&self, endings: &Receiver<Ended>) {
        self.admin.stop();
        let _ = self.watch.ask(Ask::Stop);
        if self.engine.try_send(()).is_ok() {
            wait_for(endings, "apply");
        }
        let _ = self.contents.try_send(ContentCommand::Stop);
        if self.log.send(api::Command::Shutdown).is_ok() {
            wait_for(endings, "consensus");
        }
    }
}

fn wait_for(endings: &Receiver<Ended>, name: &str) {
    while let Ok(ended) = endings.recv_timeout(END) {
        if let Some(failure) = &ended.failure {
            log::warn!("event=thread_failed thread={} error=\"{failure}\"", ended.name);
        }
        if ended.name == name {
            return;
        }
    }
}

/// Opens the state directory of a node that must not run.
pub(crate) fn open_stopped(state_dir: &Path) -> Result<RealDisk, CliError> {
    if !state_dir.join("identity").exists() {
        return Err(CliError::Cluster(format!(
            "There is no node's state at {}: name the state directory, such as data/.node1.pickbox.",
            state_dir.display()
        )));
    }
    RealDisk::open(state_dir).map_err(|error| {
        CliError::Cluster(if error.is_locked() {
            format!("pickboxd is running on {}: stop it first.", state_dir.display())
        } else {
            error.to_string()
        })
    })
}

/// Makes the folder and the state directory if this is a first start, never later: a folder that
/// is not there may just not be mounted yet (trap T20).
fn prepare(options: &DaemonOptions) -> Result<(RealDisk, Start), AnyError> {
    let (folder, state) = (&options.data_dir, &options.state_dir);
    let is_new = !state.exists();
    if is_new && options.entry == Entry::None {
        return Err(no_state(state));
    }
    if is_new {
        std::fs::create_dir_all(folder)
            .map_err(|error| cannot("make the folder", folder, &error))?;
        if let Some(parent) = state.parent() {
            std::fs::create_dir_all(parent).map_err(|error| cannot("make", parent, &error))?;
        }
    }
    let disk = RealDisk::open(state).map_err(|error| {
        if error.is_locked() {
            format!("another pickboxd is running on {}: stop that one first", state.display())
        } else {
            error.to_string()
        }
    })?;
    let found = readmission::identity(options, &disk)?;
    let has_nothing = matches!(found, Found::Nothing) && Readmission::load(&disk)?.is_none();
    if has_nothing && options.entry == Entry::None {
        return Err(no_state(state));
    }
    let start = match (&options.entry, !matches!(found, Found::Nothing)) {
        (_, true) | (Entry::None, false) => Start::Existing,
        (Entry::Bootstrap, false) => Start::Bootstrap,
        (Entry::Join(_), false) => {
            let (seeds, token) = joining::seeds(options)?;
            Start::Join { seeds, token }
        }
    };
    if !matches!(start, Start::Existing) {
        std::fs::create_dir_all(folder)
            .map_err(|error| cannot("make the folder", folder, &error))?;
    }
    Ok((disk, start))
}

fn no_state(path: &Path) -> AnyError {
    format!(
        "there is no state at {}: start with --bootstrap to found a cluster, or with --join HOST:PORT",
        path.display()
    )
    .into()
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

/// What is opened by its path or port while everything can be.
struct Opened {
    disk: RealDisk,
    keys: KeyRing,
    start: Start,
    listener: TcpListener,
    admin: Admin,
    folder: Folder,
    trace: Option<File>,
    accounts: Accounts,
}

fn open(options: &DaemonOptions, notifier: &Notifier) -> Result<Opened, AnyError> {
    let (disk, start) = prepare(options)?;
    let has_state = matches!(start, Start::Existing);
    let keys = joining::keys(&disk, has_state, options.rejoin)?;
    let listener = pickbox_raft::listen(options.listen_address)?;
    let admin = Admin::bind(admin_options(&options.admin)?)?;
    let folder = await_folder(&options.data_dir, notifier)?;
    let trace = options.trace.as_deref().map(open_trace).transpose()?;
    let accounts = Accounts::known_to(accounts::service(options));
    Ok(Opened { disk, keys, start, listener, admin, folder, trace, accounts })
}

/// Opens the folder, and waits for it, aloud, while it is not there: it may be on a file system that
/// is mounted later, and an empty one must not be made in its place (trap T20).
fn await_folder(path: &Path, notifier: &Notifier) -> Result<Folder, AnyError> {
    let mut looks: u32 = 0;
    loop {
        match Folder::open(path) {
            Err(FolderError::Absent(_)) => {}
            other => {
                return other.map_err(|error| {
                    format!(
                        "cannot open the folder {}: {error}; if it is on a file system of its own, mount it first",
                        path.display()
                    )
                    .into()
                });
            }
        }
        if looks.is_multiple_of(FOLDER_LOOKS_A_LINE) {
            notifier.status(&format!("waiting for the folder {}", path.display()));
            log::warn!(
                "event=folder_missing path=\"{}\" action=\"waiting: mount it, or move it back\"",
                path.display()
            );
        }
        looks = looks.wrapping_add(1);
        // Nobody sends anything: it is the pause.
        let _ = after(FOLDER_LOOK_EVERY).recv();
    }
}

fn open_trace(path: &Path) -> Result<File, AnyError> {
    let file = File::options().append(true).create(true).mode(0o600).open(path);
    file.map_err(|error| cannot("open the trace", path, &error).into())
}

/// Where it is asked, and by whom.
fn admin_options(options: &AdminOptions) -> Result<pickbox_admin::Options, AnyError> {
    let token = match &options.token_file {
        None => None,
        Some(path) => {
            let secret = secret_file::read(path)?;
            let token = AdminToken::new(&secret).map_err(|error| secret_file::bad(path, error))?;
            Some(token)
        }
    };
    let socket = match &options.socket {
        Some(AdminSocket::Default(path)) if !pickbox_admin::fits_socket(path) => {
            log::warn!(
                "admin=no_socket path=\"{}\": no unix socket can have so long a path; --admin-socket names a \
                 shorter one",
                path.display()
            );
            None
        }
        other => other.as_ref().map(|socket| socket.path().to_owned()),
    };
    Ok(pickbox_admin::Options {
        addresses: options.addresses.clone(),
        socket,
        group: Some(options.group.clone()),
        token,
        limits: Limits::default(),
    })
}

/// What the daemon will need of the machine.
fn policy(options: &DaemonOptions) -> Policy {
    let optional = [options.monitor, options.dashboard].into_iter().flatten();
    let admin = &options.admin;
    let own = admin.addresses.iter().chain([&options.listen_address]).map(SocketAddr::port);
    let socket_dir = admin.socket.as_ref().and_then(|socket| socket.path().parent());
    // The join token is read late by a node that takes part anew.
    let join_token = options.token_file.iter().filter(|path| *path != Path::new("-"));
    Policy {
        folder: options.data_dir.clone(),
        state_dir: options.state_dir.clone(),
        written: options.trace.iter().cloned().collect(),
        read: admin.token_file.iter().chain(join_token).cloned().collect(),
        sockets: socket_dir.into_iter().map(Path::to_owned).collect(),
        ports: own.chain(optional.map(|port| port.number)).collect(),
    }
}

fn start(
    options: &DaemonOptions,
    opened: Opened,
    crew: &mut Crew,
    cancelled: &AtomicBool,
    lost: &Arc<AtomicBool>,
) -> Result<Running, AnyError> {
    let Opened { disk, keys, start, listener, admin, folder, trace, accounts } = opened;
    let state = StateDir::open(options.state_dir.clone())?;
    if !state.is_apart(&folder)? {
        return Err(format!(
            "the folder {} and the state directory {} lie inside each other, by way of a link or a mount: \
             the folder holds users' files and nothing else. Say another --state-dir.",
            options.data_dir.display(),
            options.state_dir.display()
        )
        .into());
    }
    let start = match readmission::under_way(options, &disk)? {
        None => start,
        Some(under_way) => Start::Joined(readmission::take_part_anew(
            options,
            &disk,
            &state,
            under_way,
            (&keys, cancelled),
        )?),
    };
    let is_anew = matches!(start, Start::Joined(_));
    let (index, position) = open_index(&state).map_err(|error| ended(&error))?;
    let applied = position.applied;
    let mut losing = Losing {
        disk: disk.clone(),
        identity: readmission::identity(options, &disk)?.into_identity(),
        may_ask: matches!(options.entry, Entry::Join(_)),
        lost: Arc::clone(lost),
    };
    let known = position.members.clone();
    let opened = pickbox_raft::open(pickbox_raft::Options {
        disk,
        listener,
        keys: keys.clone(),
        name: options.node_id.as_str().to_owned(),
        address: options.peer_address.to_string(),
        start,
        applied,
        installed: position.installed.then_some(position.members),
        runs: index.sessions().runs().collect(),
        trace: start_trace(trace, crew)?,
        cancelled,
    });
    let parts = opened.map_err(|error| not_opened_log(error, &known, &losing))?;
    losing.identity = Some(parts.me.identity());
    if is_anew {
        // It has its new identity.
        Readmission::unmark(&losing.disk)?;
    }
    log::info!(
        "event=start node_id={} cluster={} key={} address={} admin={} folder=\"{}\"",
        parts.me.name,
        parts.me.cluster,
        parts.me.key,
        options.peer_address,
        listed(admin.local_addresses()),
        options.data_dir.display()
    );
    // All parts work on the very directory that was checked.
    let watched = folder.reopen()?;
    let store = Store::open(options, folder, state, index, &parts, accounts)?;
    let (sightings, seen) = bounded(SIGHTINGS_MAX);
    let beside = Folder::open(&options.state_dir.join("quarantine"))?;
    let (watch, watch_handle) =
        Watch::new(watched, vec![beside], options.watch.clone(), sightings)?;
    let own = Own { log: parts.handle.clone(), keys, disk: losing.disk.clone() };
    spawn(crew, Pieces { parts, store, watch, watch_handle, seen, admin, losing, own })
}

/// Starts the trace's thread, if a trace was asked for.
fn start_trace(file: Option<File>, crew: &mut Crew) -> Result<Option<Tracer>, AnyError> {
    let Some(file) = file else { return Ok(None) };
    let (tracer, writer) = trace::trace(file);
    crew.start("trace", move || {
        writer.run();
        None
    })?;
    Ok(Some(tracer))
}

/// Why the log cannot be opened. If it is not to be trusted, a mark says so from now on.
fn not_opened_log(error: pickbox_raft::Error, indexed: &Members, losing: &Losing) -> AnyError {
    match &error {
        // The index was not written together with the log: it may know more, or less.
        pickbox_raft::Error::Rot { source, members } => {
            let is_older = members.next_id < indexed.next_id;
            losing.mark(source.to_string(), if is_older { indexed } else { members });
        }
        pickbox_raft::Error::LogBehind { .. } => losing.mark(error.to_string(), indexed),
        _ => {}
    }
    error.into()
}

/// Why the store does not start, in words.
fn not_opened(error: Fatal, folder: &Path) -> AnyError {
    match error {
        Fatal::Strange(why) => format!(
            "the folder {} is refused: {why}. Nothing was changed. If it is on a file system of its own, \
             mount it; if it was moved, move it back. To go on with it as it is, start once with \
             --accept-folder: what it lacks is put there again, what differs is kept as a conflict copy, \
             nothing counts as deleted.",
            folder.display()
        )
        .into(),
        other => ended(&other).into(),
    }
}

/// Why the store ended, in words.
fn ended(error: &Fatal) -> String {
    let why = words(error);
    if error.is_no_space() {
        format!(
            "the disk of the state directory is full ({why}). Nothing is lost: free some space and start \
             the daemon again, or let the service manager do so"
        )
    } else {
        why
    }
}

/// The store's parts, before they have threads.
struct Store {
    engine: Engine,
    worker: ContentWorker,
    contents: Sender<ContentCommand>,
    content_events: Receiver<pickbox_store::contents::ContentEvent>,
    peers: Receiver<(pickbox_raft::core::ids::NodeId, Vec<u8>)>,
    sync_folder: Folder,
    history: Arc<HistoryStore>,
}

impl Store {
    fn open(
        options: &DaemonOptions,
        folder: Folder,
        state: StateDir,
        index: pickbox_store::index::Index,
        parts: &Parts<RealDisk>,
        accounts: Accounts,
    ) -> Result<Self, AnyError> {
        let me = &parts.me;
        let history = Arc::new(HistoryStore::open(state.child("history")?)?);
        let staging_dir = state.child("staging")?;
        let recovered = staging::recover(&staging_dir)?;
        let locate = locate::locator(index.reader());
        let (contents, commands) = bounded(CONTENT_QUEUE_MAX);
        let (events, content_events) = bounded(CONTENT_QUEUE_MAX);
        let (to_engine, peers) = bounded(PAGES_MAX);
        let worker = ContentWorker::new(ContentParts {
            node: me.node,
            incarnation: me.incarnation,
            folder: Arc::new(folder.reopen()?),
            staging: staging_dir,
            recovered,
            history: history.clone(),
            locate,
            wire: Box::new(parts.bulk_handle.clone()),
            messages: parts.bulk_events.clone(),
            commands,
            events,
            engine: to_engine,
        });
        let sync_folder = folder.reopen()?;
        let engine = Engine::open(
            engine::Options {
                me: me.node,
                name: me.name.clone(),
                incarnation: me.incarnation,
                folder,
                state,
                history: history.clone(),
                cluster: me.cluster,
                folder_rule: options.folder_rule,
                brought: options.brought_rule,
                holds: options.hold_rule,
                owners: options.owner_rule,
                accounts,
            },
            index,
        )
        .map_err(|error| not_opened(error, &options.data_dir))?;
        Ok(Self { engine, worker, contents, content_events, peers, sync_folder, history })
    }
}

struct Pieces {
    parts: Parts<RealDisk>,
    store: Store,
    watch: Watch,
    watch_handle: pickbox_watch::Handle,
    seen: Receiver<pickbox_store::observation::Sighting>,
    admin: Admin,
    losing: Losing,
    own: Own,
}

/// What it takes to note that the state of this node is lost.
struct Losing {
    disk: RealDisk,
    identity: Option<Identity>,
    /// Whether somebody was named who can take it in again.
    may_ask: bool,
    lost: Arc<AtomicBool>,
}

impl Losing {
    /// Notes that the state is lost, so that the next start leaves it behind. Not if nobody is
    /// there who could take this node in: then the state is all there is.
    fn mark(&self, why: String, members: &Members) {
        let readmission = Readmission::new(self.identity.as_ref(), why, members);
        if !readmission.knows_others() && !self.may_ask {
            return;
        }
        match readmission.mark(&self.disk) {
            Ok(()) => self.lost.store(true, Ordering::Release),
            Err(error) => log::error!("event=mark_failed error=\"{error}\""),
        }
    }
}

fn spawn(crew: &mut Crew, pieces: Pieces) -> Result<Running, AnyError> {
    let Pieces { parts, store, watch, watch_handle, seen, admin, losing, own } = pieces;
    let (requests, asked) = bounded(REQUESTS_MAX);
    let (engine_stop, engine_stops) = bounded(1);
    let running = Running {
        admin: admin.stopper(),
        engine: engine_stop,
        requests: requests.clone(),
        log: parts.handle.clone(),
        watch: watch_handle.clone(),
        contents: store.contents.clone(),
    };
    let node_name = parts.me.name.clone();
    let channels = spawn_store(
        crew,
        &parts,
        store,
        StoreEnds { seen, asked, stop: engine_stops, watch: watch_handle.clone() },
    )?;
    let Parts { consensus, log_writer, gate, bulk, .. } = parts;
    let again = Arc::clone(&losing.lost);
    crew.start("consensus", move || match consensus.run() {
        pickbox_raft::Stop::Asked => None,
        pickbox_raft::Stop::Lost { why, members } => {
            losing.mark(why.clone(), &members);
            Some(why)
        }
        other => Some(other.to_string()),
    })?;
    crew.start("log-writer", move || {
        log_writer.run();
        None
    })?;
    crew.start("gate", move || gate.run().err().map(|error| error.to_string()))?;
    crew.start("bulk", move || bulk.run().err().map(|error| error.to_string()))?;
    crew.start("watch", move || {
        let error = watch.run().err()?;
        if matches!(error, WatchError::Remounted) {
            again.store(true, Ordering::Release);
        }
        Some(error.to_string())
    })?;
    let (engine, channels) = channels;
    crew.start("apply", move || engine.run(&channels).err().map(|error| ended(&error)))?;
    spawn_admin(crew, admin, own, watch_handle, requests, node_name)?;
    Ok(running)
}

struct StoreEnds {
    seen: Receiver<pickbox_store::observation::Sighting>,
    asked: Receiver<Request>,
    stop: Receiver<()>,
    watch: pickbox_watch::Handle,
}

fn spawn_store(
    crew: &mut Crew,
    parts: &Parts<RealDisk>,
    store: Store,
    ends: StoreEnds,
) -> Result<(Engine, Channels), AnyError> {
    let Store { engine, worker, contents, content_events, peers, sync_folder, history } = store;
    let (jobs, sync_jobs) = bounded(1);
    let (sync_done, synced) = bounded(1);
    let (log, bulk) = (parts.handle.clone(), parts.bulk_handle.clone());
    crew.start("content", move || {
        worker.run();
        None
    })?;
    crew.start("syncer", move || {
        syncer::run(&sync_folder, &history, &sync_jobs, &sync_done);
        None
    })?;
    let watch = ends.watch;
    let channels = Channels {
        deliveries: parts.deliveries.clone(),
        sightings: ends.seen,
        contents: content_events,
        peers,
        requests: ends.asked,
        synced,
        stop: ends.stop,
        log: Box::new(move |command| {
            // The log ends before the engine only when the node does.
            let _ = log.send(command);
        }),
        watch: Box::new(move |ask| {
            let ask = match ask {
                WatchAsk::Examine(path) => Ask::Examine(path.clone()),
                WatchAsk::Rescan(path) => Ask::Walk(path.clone()),
                WatchAsk::Flush(id) => Ask::Flush(*id),
                WatchAsk::Ignore(ignored) => Ask::Ignore(ignored.clone()),
            };
            match watch.ask(ask) {
                // One that has ended is the end of the node as well.
                Ok(()) | Err(pickbox_watch::NotTaken::Ended(_)) => Taken::Yes,
                Err(pickbox_watch::NotTaken::Full(_)) => Taken::No,
            }
        }),
        content: Box::new(move |command| {
            let _ = contents.send(command);
        }),
        peer: Box::new(move |to, bytes| send_page(&bulk, to, &bytes)),
        sync: jobs,
    };
    Ok((engine, channels))
}

fn send_page(bulk: &BulkHandle, to: pickbox_raft::core::ids::NodeId, bytes: &[u8]) -> Reached {
    let tagged = [&[ENGINE_TAG], bytes].concat();
    let sent = bulk.send(to, tagged);
    if let Err(error) = sent {
        log::debug!("event=page_not_sent to={to} error=\"{error}\"");
    }
    if sent == Err(BulkError::Unreachable) { Reached::No } else { Reached::Yes }
}

fn spawn_admin(
    crew: &mut Crew,
    admin: Admin,
    own: Own,
    watch: pickbox_watch::Handle,
    engine: Sender<Request>,
    name: String,
) -> io::Result<()> {
    let (wishes, asked_for) = bounded(WISHES_MAX);
    let log = own.log.clone();
    crew.start("members", move || {
        run_wishes(&asked_for, &own);
        None
    })?;
    let node = DaemonNode { engine, wishes, log, watch, name };
    crew.start("admin", move || admin.run(&node).err().map(|error| error.to_string()))
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
