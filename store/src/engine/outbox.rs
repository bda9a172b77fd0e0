//! From rows that are ahead of the log to one proposal.
//!
//! While a proposal is in flight, what changes gathers here; the next one takes all of it that
//! fits. So a single edit leaves at once, and a burst makes its own batches.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{NodeId, Serial};
use pickbox_raft::core::log::{Payload, Proposal};

use super::left_out::LeftOut;
use super::ports::Outgoing;
use super::root::Standing;
use super::{ApiWrite, Engine, Fatal};
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::folder::Folder;
use crate::folder::Kind;
use crate::ignored::Ignored;
use crate::name::PATH_BYTES_MAX;
use crate::op::{CHANGE_BYTES_MAX, Change, Incoming, Keep, OPS_MAX, Op, Parent};
use crate::placed::journal::{self, Facts, FlightNote, FlownRow, Note, What};
use crate::placed::{LocalId, Placed};
use crate::reconcile::{Decision, Part, Parts, merged_attributes, reconcile};
use crate::record::{Body, FileId};
use crate::time::Time;

/// What an operation costs beside its path and its bytes, encoded; on the safe side.
const OP_OVERHEAD_BYTES: usize = 512;
/// How many things may have to make room for one another in a row.
const OCCUPANTS_MAX: usize = 64;

/// A proposal on its way, and what each of its operations meant.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) proposal: Arc<Proposal>,
    pub(super) flights: Vec<Flight>,
}

impl InFlight {
    fn note(&self) -> FlightNote {
        let row = |flight: &Flight| match flight {
            Flight::Row(row) => Some(row.clone()),
            Flight::Api(_) | Flight::Forgotten => None,
        };
        FlightNote {
            incarnation: self.proposal.incarnation,
            serial: self.proposal.serial,
            payload_crc: payload_crc(&self.proposal),
            rows: self.flights.iter().map(row).collect(),
        }
    }
}

/// Tells two proposals of one serial apart.
pub(super) fn payload_crc(proposal: &Proposal) -> u32 {
    match &proposal.payload {
        Payload::Data(bytes) => crc32fast::hash(bytes),
        Payload::Open { .. } => 0,
    }
}

/// What one operation of a proposal was about.
#[derive(Debug)]
pub(super) enum Flight {
    /// A row of this disk.
    Row(FlownRow),
    /// A client's write.
    Api(ApiWrite),
    /// A client's write of a former run, or housekeeping: nobody is to be told.
    Forgotten,
}

/// A change in the making.
#[derive(Debug, Default)]
struct Draft {
    ops: Vec<Op>,
    flights: Vec<Flight>,
    /// Which operation makes which row.
    made: HashMap<LocalId, u32>,
    bytes: usize,
    /// Rows that wait for another one to be drafted first.
    visiting: Vec<LocalId>,
    /// Operations are in already for these.
    drafted: HashSet<LocalId>,
    /// The nodes that hold all large contents so far.
    holders: Option<BTreeSet<NodeId>>,
    /// Rules that the log does not have yet.
    rules: Ignored,
}

impl Draft {
    fn has_room(&self, bytes: usize) -> bool {
        self.ops.len() + 4 < OPS_MAX
            && (self.ops.is_empty() || self.bytes + bytes + OP_OVERHEAD_BYTES < CHANGE_BYTES_MAX)
    }

    fn push(&mut self, op: Op, flight: Flight, bytes: usize) {
        if let Flight::Row(FlownRow { id, .. }) = &flight {
            if let (Op::Create { .. }, Ok(at)) = (&op, u32::try_from(self.ops.len())) {
                self.made.insert(*id, at);
            }
            self.drafted.insert(*id);
        }
        self.bytes += bytes + OP_OVERHEAD_BYTES;
        self.ops.push(op);
        self.flights.push(flight);
    }
}

/// Whether a large content is where it has to be before it may be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Enough,
    /// Held by a majority, but not by the same one as the others of the draft: the next takes it.
    NotTogether,
    Unknown,
}

/// What became of the attempt to put a row into a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drafted {
    Taken,
    /// Not now: something else comes first and will bring it back.
    Later,
    /// The draft is full.
    Full,
}

impl Engine {
    /// Proposes what waits, if nothing is in flight.
    pub(super) fn propose(&mut self) -> Result<(), Fatal> {
        self.compare_renamed()?;
        self.weigh_deletions()?;
        if !self.is_live() || self.in_flight.is_some() {
            return Ok(());
        }
        let idle = self.outbox.is_empty() && self.api_writes.is_empty();
        if idle && self.retention.before_ms.is_none() {
            return Ok(());
        }
        self.traffic.pace.begin();
        let mut draft = Draft::default();
        // What is missing from a folder that is no more was deleted by nobody, and what is compared
        // with a state that is wrong says nothing.
        let is_blind =
            self.standing == Standing::Gone || self.comparison.is_outvoted() || self.is_asking();
        let rows_max = if is_blind { 0 } else { OPS_MAX };
        let ids = self.outbox.first(rows_max);
        self.draft_deletions(&ids, &mut draft)?;
        let rules = self.edited_rules();
        draft.rules = self.rules_to_come()?;
        for id in rules.into_iter().chain(ids).take(rows_max) {
            if self.waits_for_offer(id)? {
                // The rest must get its turn.
                self.outbox.renew(id);
                continue;
            }
            match self.draft_with_parents(id, &mut draft)? {
                Drafted::Full => break,
                Drafted::Later if self.traffic.pace.is_waiting(id) => self.outbox.renew(id),
                Drafted::Later | Drafted::Taken => {}
            }
        }
        self.draft_api_writes(&mut draft);
        if let Some(before_wall_ms) = self.retention.before_ms.take_if(|_| draft.has_room(0)) {
            // If it does not get into the log, the next look finds the same rows.
            draft.push(Op::PruneHistory { before_wall_ms }, Flight::Forgotten, 0);
        }
        if draft.ops.is_empty() { Ok(()) } else { self.send(draft) }
    }

    fn send(&mut self, draft: Draft) -> Result<(), Fatal> {
        let change = Change { wall_ms: wall_ms(&self.folder), ops: draft.ops };
        let payload = crate::agreed::payload::encode(&change).map_err(|_| Fatal::Encode)?;
        let proposal = Arc::new(Proposal {
            origin: self.me,
            incarnation: self.incarnation,
            serial: self.last_serial.next(),
            holders: draft.holders.map(|holders| holders.into_iter().collect()),
            payload: Payload::Data(payload),
        });
        for flight in &draft.flights {
            if let Flight::Row(FlownRow { id, .. }) = flight {
                self.outbox.remove(*id);
                self.flying.insert(*id);
            }
        }
        let in_flight = InFlight { proposal: proposal.clone(), flights: draft.flights };
        self.note_flight(Some(&in_flight));
        self.in_flight = Some(in_flight);
        self.out.push_back(Outgoing::Log(Command::Propose(proposal)));
        Ok(())
    }

    /// Deletions go first, children before their directories: they free names and empty
    /// directories for what follows.
    fn draft_deletions(&mut self, ids: &[LocalId], draft: &mut Draft) -> Result<(), Fatal> {
        let mut gone = Vec::new();
        for id in ids {
            let Some(row) = self.row(*id)? else { continue };
            if row.seen.is_none() && row.base.is_some() && !self.waits_for_offer(*id)? {
                gone.push((self.depth(&row)?, *id, row));
            }
        }
        gone.sort_by_key(|(depth, id, _)| (std::cmp::Reverse(*depth), *id));
        for (_, id, row) in gone {
            let Some(base) = row.base.clone() else { continue };
            for (id, record) in self.ignored_below(base.id, OPS_MAX)? {
                if !draft.has_room(0) {
                    return Ok(());
                }
                let op = Op::Delete { id, base: record.version };
                draft.push(op, Flight::Forgotten, 0);
            }
            if !draft.has_room(0) {
                return Ok(());
            }
            let op = Op::Delete { id: base.id, base: base.version };
            draft.push(op, flight(id, What::Delete, &row), 0);
        }
        Ok(())
    }

    pub(super) fn depth(&mut self, row: &Placed) -> Result<usize, Fatal> {
        let path = self.path_of_row(row.parent)?;
        Ok(path.map_or(0, |path| path.names().count()))
    }

    /// Drafts a row after those of its directories that the log does not know yet.
    fn draft_with_parents(&mut self, id: LocalId, draft: &mut Draft) -> Result<Drafted, Fatal> {
        if self.path_of_row(id)?.is_some_and(|path| path.as_bytes().len() > PATH_BYTES_MAX) {
            self.leave_out(id, LeftOut::TooLong)?;
            return Ok(Drafted::Taken);
        }
        let mut chain = vec![id];
        let mut at = id;
        while let Some(row) = self.row(at)? {
            let parent = row.parent;
            let known = parent == LocalId::ROOT
                || parent == LocalId::QUARANTINE
                || draft.made.contains_key(&parent)
                || self.file_of(parent)?.is_some();
            if known {
                break;
            }
            if !self.outbox.contains(parent) {
                if !self.is_standing(parent)? && !self.is_in_flight(id) {
                    // Its directory went, and it is not known to have gone with it.
                    self.vanished(id)?;
                }
                return Ok(Drafted::Later);
            }
            chain.push(parent);
            at = parent;
        }
        for id in chain.into_iter().rev() {
            match self.draft_row(id, draft)? {
                Drafted::Taken => {}
                other => return Ok(other),
            }
        }
        Ok(Drafted::Taken)
    }

    /// The log can never take a thing as it is here: it stays on this disk alone, and is told.
    pub(super) fn leave_out(&mut self, id: LocalId, why: LeftOut) -> Result<(), Fatal> {
        self.outbox.remove(id);
        self.refused_rows.insert(id);
        if let Some(path) = self.path_of_row(id)?
            && self.left_out.insert(path.clone(), why)
        {
            log::warn!("event=left_out path=\"{path}\" reason=\"{why}\"");
        }
        Ok(())
    }

    fn draft_row(&mut self, id: LocalId, draft: &mut Draft) -> Result<Drafted, Fatal> {
        if draft.drafted.contains(&id) || !self.outbox.contains(id) {
            return Ok(Drafted::Taken);
        }
        let Some(row) = self.row(id)? else {
            self.outbox.remove(id);
            return Ok(Drafted::Taken);
        };
        if row.seen.is_none() {
            return Ok(Drafted::Taken);
        }
        if self.waits_for_rules(id, &row, &draft.rules)? {
            return Ok(Drafted::Later);
        }
        let agreed = match &row.base {
            Some(base) => self.agreed(base.id)?,
            None => None,
        };
        let actual = self.actual(&row)?.known();
        match reconcile(agreed.as_ref(), row.base.as_ref(), actual.as_ref()) {
            Decision::Create => match self.draft_occupant(id, &row, draft)? {
                Drafted::Taken => self.draft_create(id, &row, draft),
                other => Ok(other),
            },
            Decision::Propose(_) if self.waits_for_those_below(id, &row)? => Ok(Drafted::Later),
            Decision::Propose(parts) => {
                if parts.place == Part::Change {
                    match self.draft_occupant(id, &row, draft)? {
                        Drafted::Taken => {}
                        other => return Ok(other),
                    }
                }
                self.draft_parts(id, &row, parts, draft)
            }
            _ => {
                self.settle(id)?;
                Ok(Drafted::Taken)
            }
        }
    }

    /// What the log has at the name that a row takes goes first, if it left that name here: so
    /// things that swap their names do not meet.
    fn draft_occupant(
        &mut self,
        id: LocalId,
        row: &Placed,
        draft: &mut Draft,
    ) -> Result<Drafted, Fatal> {
        let Some(parent) = self.file_of(row.parent)? else { return Ok(Drafted::Taken) };
        let own = row.base.as_ref().map(|base| base.id);
        let there = self.index.lookup(parent, &row.name)?.filter(|there| Some(*there) != own);
        let Some(there) = there else { return Ok(Drafted::Taken) };
        let Some(other) = self.row_of(there)?.filter(|other| *other != id) else {
            return Ok(Drafted::Taken);
        };
        if self.limbo.contains_key(&other)
            || self.is_in_flight(other)
            || self.guard.waits(other)
            || self.tables()?.is_nameless(other)?
        {
            return Ok(Drafted::Later);
        }
        let waits = self.outbox.contains(other) && !draft.visiting.contains(&other);
        if !waits || draft.visiting.len() >= OCCUPANTS_MAX {
            return Ok(Drafted::Taken);
        }
        draft.visiting.push(id);
        let drafted = self.draft_with_parents(other, draft);
        draft.visiting.pop();
        drafted
    }

    fn parent_ref(&mut self, row: &Placed, draft: &Draft) -> Result<Option<Parent>, Fatal> {
        if let Some(op) = draft.made.get(&row.parent) {
            return Ok(Some(Parent::Op(*op)));
        }
        if let Some(home) = self.home_of(row)? {
            return Ok(home.parent.map(Parent::Id));
        }
        Ok(self.file_of(row.parent)?.map(Parent::Id))
    }

    fn draft_create(
        &mut self,
        id: LocalId,
        row: &Placed,
        draft: &mut Draft,
    ) -> Result<Drafted, Fatal> {
        let Some(parent) = self.parent_ref(row, draft)? else { return Ok(Drafted::Later) };
        let at = self.at_of(row, parent)?;
        if !is_directory(row) && !self.traffic.pace.may_go(id, &at.path, self.now_ms) {
            return Ok(Drafted::Later);
        }
        let Some(new) = self.incoming(id, row, draft)? else { return Ok(Drafted::Later) };
        let bytes = at.path.as_bytes().len() + new.bytes();
        if !draft.has_room(bytes) {
            return Ok(Drafted::Full);
        }
        self.traffic.pace.went(&at.path, self.now_ms);
        draft.push(Op::Create { at, new }, flight(id, What::Content, row), bytes);
        Ok(Drafted::Taken)
    }

    /// Whether the version that the log has of a file was made elsewhere: a new one here may be the
    /// answer of a program to it. Who writes alone has no budget to keep to.
    fn is_by_another(&mut self, id: FileId) -> Result<bool, Fatal> {
        Ok(self.index.record(id)?.is_some_and(|record| record.author != self.me))
    }

    fn draft_parts(
        &mut self,
        id: LocalId,
        row: &Placed,
        parts: Parts,
        draft: &mut Draft,
    ) -> Result<Drafted, Fatal> {
        let Some(base) = row.base.clone() else { return Ok(Drafted::Later) };
        let Some(parent) = self.parent_ref(row, draft)? else { return Ok(Drafted::Later) };
        let at = self.at_of(row, parent)?;
        let path = at.path.clone();
        let is_answer = parts.content == Part::Change && self.is_by_another(base.id)?;
        if is_answer && !self.traffic.pace.may_go(id, &path, self.now_ms) {
            return Ok(Drafted::Later);
        }
        let mut ops = Vec::new();
        if parts.place == Part::Change {
            ops.push((Op::Move { id: base.id, to: at.clone() }, What::Move));
        }
        let mut bytes = at.path.as_bytes().len() * 2;
        if parts.content == Part::Change {
            let Some(new) = self.incoming(id, row, draft)? else { return Ok(Drafted::Later) };
            bytes += new.bytes();
            let keep = Keep::same(&base.view.attributes, &new.attributes);
            let version = base.version.clone();
            ops.push((Op::Replace { id: base.id, base: version, at, new, keep }, What::Content));
        } else if parts.attributes == Part::Change {
            let known = &base.view.attributes;
            let agreed = self.agreed(base.id)?.map_or(known.clone(), |a| a.view.attributes);
            let actual = row.seen.as_ref().map_or(agreed.clone(), crate::placed::Seen::attributes);
            let keep = Keep::same(known, &actual);
            let attributes = merged_attributes(&agreed, known, actual);
            bytes += attributes.bytes();
            ops.push((Op::Attributes { id: base.id, attributes, keep }, What::Attributes));
        }
        if !draft.has_room(bytes) {
            return Ok(Drafted::Full);
        }
        if is_answer {
            self.traffic.pace.went(&path, self.now_ms);
        }
        for (op, what) in ops {
            draft.push(op, flight(id, what, row), bytes);
            bytes = 0;
        }
        Ok(Drafted::Taken)
    }

    /// The content of a row as it travels; `None` when it has to be read or held first.
    fn incoming(
        &mut self,
        id: LocalId,
        row: &Placed,
        draft: &mut Draft,
    ) -> Result<Option<Incoming>, Fatal> {
        let Some(seen) = &row.seen else { return Ok(None) };
        let Some(body) = seen.body.clone() else { return Ok(None) };
        let attributes = seen.attributes();
        let inline = match &body {
            Body::File { size, content } if *size > INLINE_BYTES_MAX => {
                match self.draft_holders(id, *content, draft) {
                    Holding::Enough => None,
                    Holding::NotTogether => return Ok(None),
                    Holding::Unknown => {
                        self.offer(id, row)?;
                        return Ok(None);
                    }
                }
            }
            Body::File { content, .. } => match self.small_bytes(id, row, *content)? {
                Some(data) => Some(data),
                None => return Ok(None),
            },
            Body::Directory | Body::Symlink { .. } => None,
        };
        Ok(Some(Incoming { body, attributes, inline }))
    }

    /// The bytes of a small file: as they were read when it was seen, else read again now.
    fn small_bytes(
        &mut self,
        id: LocalId,
        row: &Placed,
        content: ContentId,
    ) -> Result<Option<Vec<u8>>, Fatal> {
        if let Some(data) = self.data.get(id)
            && ContentId::of(data) == content
        {
            return Ok(Some(data.clone()));
        }
        let read = match self.dir(row.parent) {
            Ok(dir) => dir.read_small(&row.name, INLINE_BYTES_MAX).ok().and_then(|(_, data)| data),
            Err(_) => None,
        };
        match read {
            Some(data) if ContentId::of(&data) == content => Ok(Some(data)),
            _ => {
                // It changed since it was seen; a hint is on its way, and this makes sure of it.
                self.outbox.remove(id);
                self.look_again(id)?;
                Ok(None)
            }
        }
    }

    /// Adds a large content to a draft if enough nodes hold it and all the others in the draft.
    fn draft_holders(&mut self, id: LocalId, content: ContentId, draft: &mut Draft) -> Holding {
        let Some(held) = self.held.get(&id).filter(|held| held.content == content) else {
            return Holding::Unknown;
        };
        if !self.is_majority(&held.holders) {
            return Holding::Unknown;
        }
        let common = match &draft.holders {
            None => held.holders.clone(),
            Some(others) => others.intersection(&held.holders).copied().collect(),
        };
        if !self.is_majority(&common) {
            return Holding::NotTogether;
        }
        draft.holders = Some(common);
        Holding::Enough
    }

    fn draft_api_writes(&mut self, draft: &mut Draft) {
        while let Some(write) = self.api_writes.front() {
            let bytes = write.bytes();
            if !draft.has_room(bytes) {
                return;
            }
            let Some(mut write) = self.api_writes.pop_front() else { return };
            self.api_bytes -= bytes;
            write.was_sent = true;
            let op = write.op();
            draft.push(op, Flight::Api(write), bytes);
        }
    }

    /// Notes what is in flight, for the next run if this one ends before its outcome is known.
    /// Written before the proposal leaves, and with the rows that its outcome changes.
    pub(super) fn note_flight(&mut self, in_flight: Option<&InFlight>) {
        let note = in_flight.map(InFlight::note);
        journal::encode(&Note::Flight(note), &mut self.journal_buffer);
    }

    /// The log refused the proposal as it is: what it was about goes back to wait.
    pub(super) fn refused(&mut self, serial: Serial) -> Result<(), Fatal> {
        let matches = self.in_flight.as_ref().is_some_and(|f| f.proposal.serial == serial);
        if !matches {
            return Ok(());
        }
        let Some(in_flight) = self.in_flight.take() else { return Ok(()) };
        self.give_back(in_flight)
    }

    /// Puts all that a proposal was about back to where it waits.
    pub(super) fn give_back(&mut self, in_flight: InFlight) -> Result<(), Fatal> {
        self.note_flight(None);
        let mut rows = Vec::new();
        for flight in in_flight.flights.into_iter().rev() {
            match flight {
                Flight::Row(row) => rows.push(row.id),
                Flight::Api(write) => {
                    self.api_bytes += write.bytes();
                    self.api_writes.push_front(write);
                }
                Flight::Forgotten => {}
            }
        }
        for id in rows.into_iter().rev() {
            self.flying.remove(&id);
            self.again.remove(&id);
            self.held.remove(&id);
            // The log may have it all the same (a state that was taken over): what others hold of it
            // is not taken back. What is still wanted is offered anew.
            self.settle_offer(id);
            self.settle(id)?;
        }
        Ok(())
    }
}

/// What people call the time, as the disk of the folder has it.
pub(super) fn wall_ms(folder: &Folder) -> u64 {
    u64::try_from(folder.root().wall().as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn wall_time(folder: &Folder) -> Time {
    let wall = folder.root().wall();
    let secs = i64::try_from(wall.as_secs()).unwrap_or(i64::MAX);
    Time { secs, nanos: wall.subsec_nanos() }
}

fn is_directory(row: &Placed) -> bool {
    row.seen.as_ref().is_some_and(|seen| seen.stat.kind == Kind::Directory)
}

fn flight(id: LocalId, what: What, row: &Placed) -> Flight {
    let facts = Facts {
        body: row.seen.as_ref().and_then(|seen| seen.body.clone()),
        attributes: row.seen.as_ref().map(crate::placed::Seen::attributes).unwrap_or_default(),
        parent: row.parent,
        name: row.name.clone(),
    };
    Flight::Row(FlownRow { id, what, facts })
}
