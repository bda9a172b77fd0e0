//! The life of a write-ahead log in a process of its own, told line by line to whoever ends it.
//!
//! Before each step the process says what it is about to commit, and after it that the log called
//! it durable. Who cuts its power, or kills it, knows from these lines what the log must say when
//! it is opened again: what was acknowledged, or any beginning of the step under way.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use pickbox_raft::disk::RealDisk;
use pickbox_raft::disk::sim::Random;
use pickbox_raft::identity::random_u64;
use pickbox_raft::wal::{Options, Wal, WalError};
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Incarnation, Index, LogPosition, NodeId, Serial, Term};
use pickbox_raft_core::log::{Content, Entry, HardState, Payload, Proposal};
use pickbox_raft_core::members::Members;

/// Entries that a log keeps at most before it compacts.
const ENTRIES_MAX: u64 = 300;

/// One step of a log's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Entries up to `keep` stay, those up to `last` follow in `term`.
    Write {
        /// The last entry that stays.
        keep: u64,
        /// The last new entry.
        last: u64,
        /// Of the new entries; voted for if it is a new one.
        term: u64,
    },
    /// A new term and vote.
    Vote {
        /// The term.
        term: u64,
    },
    /// Entries up to here are not needed.
    Compact {
        /// The last of them.
        index: u64,
    },
    /// A whole state was installed: the log begins after this position.
    Install {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { keep, last, term } => write!(f, "write {keep} {last} {term}"),
            Self::Vote { term } => write!(f, "vote {term}"),
            Self::Compact { index } => write!(f, "compact {index}"),
            Self::Install { index, term } => write!(f, "install {index} {term}"),
        }
    }
}

impl Step {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("do ")?.split(' ');
        let name = words.next()?;
        let mut number = || words.next()?.parse().ok();
        match name {
            "write" => Some(Self::Write { keep: number()?, last: number()?, term: number()? }),
            "vote" => Some(Self::Vote { term: number()? }),
            "compact" => Some(Self::Compact { index: number()? }),
            "install" => Some(Self::Install { index: number()?, term: number()? }),
            _ => None,
        }
    }

    /// What a log in this state is told, in order.
    fn ops(self, state: &State) -> Vec<LogOp> {
        match self {
            Self::Write { keep, last, term } => {
                let vote = (term > state.vote).then_some(hard_state(term));
                let from = Index::new(keep + 1);
                let cut = (keep < state.last()).then_some(LogOp::Truncate { from });
                let entries = (keep + 1..=last).map(|index| Arc::new(entry(index, term)));
                let entries = LogOp::Append(entries.collect());
                vote.into_iter().chain(cut).chain([entries]).collect()
            }
            Self::Vote { term } => vec![hard_state(term)],
            Self::Compact { index } => {
                let through = position(index, state.term_of(index));
                vec![LogOp::Compact { through, members: Members::default() }]
            }
            Self::Install { index, term } => {
                vec![LogOp::Reset { at: position(index, term), members: Members::default() }]
            }
        }
    }
}

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition { index: Index::new(index), term: Term::new(term) }
}

fn hard_state(term: u64) -> LogOp {
    LogOp::HardState(HardState {
        term: Term::new(term),
        voted_for: Some(NodeId::new(term % 3 + 1)),
    })
}

/// The entry that every process would write at this place in this term.
fn entry(index: u64, term: u64) -> Entry {
    let mut random = Random::new(index << 20 | term);
    let words = usize::try_from(random.below(3000 / 8)).unwrap_or(0);
    let bytes = std::iter::repeat_with(|| random.next_u64().to_le_bytes()).take(words);
    let proposal = Proposal {
        origin: NodeId::new(1),
        incarnation: Incarnation::new(term),
        serial: Serial::new(index),
        holders: None,
        payload: Payload::Data(bytes.flatten().collect()),
    };
    let content = Content::Proposal(proposal);
    Entry { index: Index::new(index), term: Term::new(term), content }
}

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    vote: u64,
    base: u64,
    base_term: u64,
    /// Of the entries behind the base.
    terms: Vec<u64>,
}

impl State {
    fn of(wal: &Wal<RealDisk>) -> Self {
        let (base, last) = (wal.base(), wal.last());
        let entries = wal.read(base.index.next(), last.index).expect("its entries can be read");
        assert_eq!(u64::try_from(entries.len()).ok(), Some(base.index.distance_to(last.index)));
        for found in &entries {
            assert_eq!(**found, entry(found.index.get(), found.term.get()), "as it was written");
        }
        Self {
            vote: wal.hard_state().term.get(),
            base: base.index.get(),
            base_term: base.term.get(),
            terms: entries.iter().map(|entry| entry.term.get()).collect(),
        }
    }

    fn last(&self) -> u64 {
        self.base + u64::try_from(self.terms.len()).unwrap_or(0)
    }

    /// How many entries there are up to this index.
    fn count(&self, index: u64) -> usize {
        usize::try_from(index.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    fn term_of(&self, index: u64) -> u64 {
        let before = self.count(index).checked_sub(1);
        before.and_then(|place| self.terms.get(place)).copied().unwrap_or(self.base_term)
    }

    /// Itself, and what it becomes with each part of a step.
    fn through(&self, step: Step) -> Vec<Self> {
        let mut states = vec![self.clone()];
        let mut next = self.clone();
        for op in step.ops(self) {
            match op {
                LogOp::HardState(state) => next.vote = state.term.get(),
                LogOp::Truncate { from } => next.terms.truncate(next.count(from.get() - 1)),
                LogOp::Append(entries) => {
                    for entry in entries {
                        next.terms.push(entry.term.get());
                        states.push(next.clone());
                    }
                }
                LogOp::Compact { through, .. } => {
                    next.terms.drain(..next.count(through.index.get()));
                    (next.base, next.base_term) = (through.index.get(), through.term.get());
                }
                LogOp::Reset { at, .. } => {
                    next.terms.clear();
                    (next.base, next.base_term) = (at.index.get(), at.term.get());
                }
            }
            states.push(next.clone());
        }
        states
    }

    /// What could come next.
    fn draw(&self, random: &mut Random) -> Step {
        let (last, count) = (self.last(), self.last() - self.base);
        let term = self.vote.max(1);
        match random.below(20) {
            0 | 1 => Step::Vote { term: term + 1 },
            2 if count > 0 => Step::Compact { index: self.base + 1 + random.below(count) },
            3 if random.below(4) == 0 => Step::Install { index: last + 1 + random.below(50), term },
            4..=6 if count > 0 => {
                let keep = last - 1 - random.below(count.min(5));
                Step::Write { keep, last: keep + 1 + random.below(12), term: term + 1 }
            }
            _ if count > ENTRIES_MAX => Step::Compact { index: last - 100 },
            _ => Step::Write { keep: last, last: last + 1 + random.below(12), term },
        }
    }
}

/// Opens the log of a state directory, or makes one.
///
/// # Panics
/// When the log is damaged or the disk failed.
#[must_use]
pub fn open(directory: &Path, segment_bytes: u32) -> Wal<RealDisk> {
    let disk = RealDisk::open(directory).expect("the state directory opens");
    let nonce_seed = random_u64().expect("the kernel gives random bytes");
    let options = Options { segment_bytes, nonce_seed };
    match Wal::restore(disk.clone(), options) {
        Ok((wal, restored)) => {
            assert_eq!(restored.last(), wal.last(), "the core and readers see the same");
            wal
        }
        Err(WalError::NotFound) => Wal::create(disk, options).expect("a log can be made"),
        Err(error) => panic!("{error}"),
    }
}

/// Lives for so many steps, telling each, and ends in order.
///
/// # Errors
/// When nobody listens.
///
/// # Panics
/// When the disk fails.
pub fn live(mut wal: Wal<RealDisk>, seed: u64, steps: u64, out: &mut impl Write) -> io::Result<()> {
    let mut random = Random::new(seed);
    let mut state = State::of(&wal);
    for _ in 0..steps {
        let step = state.draw(&mut random);
        out.write_all(format!("do {step}\n").as_bytes())?;
        wal.commit(step.ops(&state)).expect("the disk works");
        out.write_all(b"done\n")?;
        state = state.through(step).pop().unwrap_or(state);
        if random.below(2) == 0 {
            wal.confirm().expect("the disk works");
        }
        for _ in 0..random.below(4) {
            let _progress = wal.maintain().expect("the disk works");
        }
    }
    wal.close().expect("the disk works");
    out.write_all(b"closed\n")
}

/// What was heard of a log, and so must be found.
#[derive(Debug, Default)]
pub struct Promised {
    acknowledged: State,
    under_way: Option<Step>,
    /// Steps that were acknowledged, by the first word of each.
    pub steps: std::collections::BTreeMap<String, u64>,
}

impl Promised {
    /// Takes a line of [`live`].
    pub fn hear(&mut self, line: &str) {
        if let Some(step) = Step::parse(line) {
            self.under_way = Some(step);
        } else if line == "done"
            && let Some(step) = self.under_way.take()
        {
            self.acknowledged = self.acknowledged.through(step).pop().unwrap_or_default();
            let name = step.to_string().split(' ').next().unwrap_or_default().to_owned();
            *self.steps.entry(name).or_default() += 1;
        }
    }

    /// Checks the log after its process ended; from now on it must stay as it is.
    ///
    /// # Panics
    /// When it is not as promised.
    pub fn check(&mut self, wal: &Wal<RealDisk>) {
        let found = State::of(wal);
        let step = self.under_way.take();
        let allowed = step.map(|step| self.acknowledged.through(step)).unwrap_or_default();
        assert!(
            found == self.acknowledged || allowed.contains(&found),
            "found {found:?}\nunder way {step:?}\nacknowledged {:?}",
            self.acknowledged,
        );
        self.acknowledged = found;
    }
}
