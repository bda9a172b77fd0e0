//! What the log has decided: applied to agreed, told to the rows it was about, put up for placing.

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{Incarnation, Index, LogPosition, NodeId, Serial};
use pickbox_raft::core::log::{Content, Entry, Payload, Proposal};

use super::left_out::LeftOut;
use super::outbox::{Flight, InFlight, payload_crc};
use super::ports::{Answer, Outgoing};
use super::{Engine, Fatal};
use crate::agreed::{Effects, Touched};
use crate::index::{Applied, What as Happened};
use crate::op::{At, Change, Op, Outcome, Refusal};
use crate::placed::journal::{Facts, FlightNote, FlownRow, What};
use crate::placed::{LocalId, Placed};
use crate::reconcile::{Base, Place, View};
use crate::record::{Body, FileId, Record, VersionVector};

impl Engine {
    /// Applies committed entries, in order.
    pub(super) fn apply_entries(&mut self, entries: &[Entry]) -> Result<(), Fatal> {
        for entry in entries {
            self.apply_entry(entry)?;
        }
        self.place_all()?;
        self.propose()?;
        self.report_progress();
        Ok(())
    }

    pub(super) fn apply_entry(&mut self, entry: &Entry) -> Result<(), Fatal> {
        let Applied { position, what } = self.index.apply(entry)?;
        self.index_changed = true;
        self.note_sum();
        if self.is_live() {
            self.todo.begin(position.index);
        }
        self.bytes_since_checkpoint += entry_bytes(entry);
        self.count_applied(entry_bytes(entry));
        match what {
            Happened::Opened { node, incarnation } => self.opened(node, incarnation)?,
            Happened::Change {
                origin,
                serial,
                change,
                effects: Effects { outcomes, touched, .. },
            } => {
                let mine = self.takes_outcome(origin, entry);
                if mine {
                    self.link_outcomes(position, &outcomes)?;
                    self.note_flight(None);
                }
                self.count_bytes(&change);
                self.touch_all(&change, &touched)?;
                if mine {
                    self.settle_landed()?;
                }
                if origin == self.me && serial == self.last_serial && self.is_live() {
                    self.out.push_back(Outgoing::Log(Command::Settled(serial)));
                }
            }
            Happened::Members => self.regroup_offers(),
            Happened::Undecodable { origin, serial } | Happened::Duplicate { origin, serial } => {
                self.came_to_nothing(origin, serial)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes which paths the log is used for.
    fn count_bytes(&mut self, change: &Change) {
        if !self.is_live() {
            return;
        }
        for op in &change.ops {
            if let Op::Create { at: At { path, .. }, new }
            | Op::Replace { at: At { path, .. }, new, .. }
            | Op::Put { path, new } = op
                && let Body::File { size, .. } = new.body
            {
                self.traffic.busiest.add(path, size, self.now_ms);
            }
        }
    }

    /// What is in flight can have no effect any more: it must not be sent for ever.
    fn came_to_nothing(&mut self, origin: NodeId, serial: Serial) -> Result<(), Fatal> {
        let is_it = |in_flight: &mut InFlight| in_flight.proposal.serial == serial;
        if origin != self.me || !self.is_live() {
            return Ok(());
        }
        let Some(in_flight) = self.in_flight.take_if(is_it) else { return Ok(()) };
        log::error!("event=proposal_without_effect serial={serial}");
        self.last_serial = serial;
        self.note_flight(None);
        self.out.push_back(Outgoing::Log(Command::Settled(serial)));
        for flight in in_flight.flights {
            match flight {
                Flight::Row(FlownRow { id, .. }) => {
                    self.flying.remove(&id);
                    self.leave_out(id, LeftOut::TooLong)?;
                }
                Flight::Api(write) => write.answer(Answer::Refused(Refusal::Malformed)),
                Flight::Forgotten => {}
            }
        }
        Ok(())
    }

    /// Whether a change is the one in flight, or was when the former run ended. A change of this
    /// run that is not (an earlier form of it got in after it was refused) settles the serial; what
    /// was in flight starts over.
    fn takes_outcome(&mut self, origin: NodeId, entry: &Entry) -> bool {
        let Content::Proposal(proposal) = &entry.content else { return false };
        if origin != self.me {
            return false;
        }
        if proposal.incarnation != self.incarnation {
            return self.takes_former(proposal);
        }
        self.last_serial = proposal.serial;
        let Some(in_flight) = self.in_flight.take() else { return false };
        self.landed = in_flight.flights;
        if in_flight.proposal.payload == proposal.payload {
            return true;
        }
        log::warn!("event=proposal_superseded serial={}", proposal.serial);
        false
    }

    fn takes_former(&mut self, proposal: &Proposal) -> bool {
        let is_it = |note: &mut FlightNote| {
            note.incarnation == proposal.incarnation
                && note.serial == proposal.serial
                && note.payload_crc == payload_crc(proposal)
        };
        let Some(note) = self.former.take_if(is_it) else { return false };
        let flight = |row: Option<FlownRow>| row.map_or(Flight::Forgotten, Flight::Row);
        self.landed = note.rows.into_iter().map(flight).collect();
        true
    }

    fn opened(&mut self, node: NodeId, incarnation: Incarnation) -> Result<(), Fatal> {
        self.close_former(node)?;
        if node == self.me && incarnation == self.incarnation { self.open_run() } else { Ok(()) }
    }

    /// This run is open: everything that a former one proposed is decided.
    pub(super) fn open_run(&mut self) -> Result<(), Fatal> {
        if self.is_live() {
            return Ok(());
        }
        self.last_serial = Serial::new(1);
        self.out.push_back(Outgoing::Log(Command::Settled(self.last_serial)));
        self.go_live()
    }

    fn link_outcomes(&mut self, at: LogPosition, outcomes: &[Outcome]) -> Result<(), Fatal> {
        let landed = std::mem::take(&mut self.landed);
        let mut rows = Vec::new();
        for (flight, outcome) in landed.into_iter().zip(outcomes) {
            match flight {
                Flight::Api(write) => write.answer(api_answer(at.index, outcome)),
                Flight::Row(FlownRow { id, what, facts }) => {
                    self.flying.remove(&id);
                    // A program's write is not on the disk because the log has it.
                    self.unsynced.insert(id);
                    self.link(id, what, &facts, outcome)?;
                    rows.push(id);
                }
                Flight::Forgotten => {}
            }
        }
        self.landed_rows = rows;
        Ok(())
    }

    fn settle_landed(&mut self) -> Result<(), Fatal> {
        let landed = std::mem::take(&mut self.landed_rows);
        self.barriers.flushes.landed(&landed, self.last_serial);
        for id in landed {
            self.again.remove(&id);
            self.held.remove(&id);
            self.settle_offer(id);
            self.settle(id)?;
        }
        Ok(())
    }

    /// What the log made of an operation becomes what disk and log have in common.
    fn link(
        &mut self,
        id: LocalId,
        what: What,
        facts: &Facts,
        outcome: &Outcome,
    ) -> Result<(), Fatal> {
        let Some(mut row) = self.row(id)? else { return Ok(()) };
        match (what, outcome) {
            (What::Delete, Outcome::Done(_) | Outcome::Nothing) => row.base = None,
            (What::Delete, _) => {
                // Something beat the deletion: the thing comes back as if it had never been here.
                if let Some(base) = row.base.take() {
                    self.todo.insert(base.id);
                }
            }
            (What::Content, Outcome::Done(file) | Outcome::Merged(file)) => {
                return self.link_to(id, row, facts, *file);
            }
            (What::Content, Outcome::Conflict { copy }) => {
                return self.link_to(id, row, facts, *copy);
            }
            (What::Content, Outcome::History { winner }) => {
                self.give_way(&mut row, facts, *winner)?;
            }
            (What::Content, Outcome::Refused(reason)) => {
                return self.refused_row(id, &row, *reason);
            }
            (What::Attributes, _) => {
                if let Some(base) = &mut row.base {
                    base.view.attributes = facts.attributes.clone();
                }
            }
            (What::Content, _) | (What::Move, Outcome::Nothing) => {}
            (What::Move, _) => {
                // Also when it was refused: then the log's place differs, and it moves back.
                let place = self.place_of_facts(facts)?;
                if let Some(base) = &mut row.base {
                    base.view.place = place;
                }
            }
        }
        let gone = row.seen.is_none() && row.base.is_none();
        self.set_row(id, (!gone).then_some(&row))
    }

    /// The bytes of a row are in history: what stands here gives way to the version that won.
    fn give_way(&mut self, row: &mut Placed, facts: &Facts, winner: FileId) -> Result<(), Fatal> {
        let Some(body) = facts.body.clone() else { return Ok(()) };
        let version = VersionVector::default();
        if let Some(base) = &mut row.base {
            (base.view.body, base.version) = (body, version);
        } else if self.row_of(winner)?.is_none() {
            // It was new to the log, and the name was not: it is an old version of what has it.
            let (attributes, place) = (facts.attributes.clone(), self.place_of_facts(facts)?);
            row.base = Some(Base { id: winner, view: View { body, attributes, place }, version });
        }
        Ok(())
    }

    fn place_of_facts(&mut self, facts: &Facts) -> Result<Place, Fatal> {
        Ok(Place { parent: self.file_of(facts.parent)?, name: facts.name.clone() })
    }

    fn link_to(
        &mut self,
        id: LocalId,
        mut row: Placed,
        facts: &Facts,
        file: FileId,
    ) -> Result<(), Fatal> {
        let (Some(record), Some(body)) = (self.index.record(file)?, facts.body.clone()) else {
            row.base = None;
            return self.set_row(id, Some(&row));
        };
        if Self::is_displaced(&row) && self.row_of(file)?.is_some_and(|other| other != id) {
            // Another thing here stands for it; that one will be brought to these bytes.
            if let Some(base) = &mut row.base {
                base.view.body = body;
            }
            return self.set_row(id, Some(&row));
        }
        let mut displaced = None;
        if let Some(other) = self.row_of(file)?
            && other != id
            && let Some(mut other_row) = self.row(other)?
        {
            // Two things here turned out to be one for the log: the other one is new to it, or,
            // in quarantine, a displaced version of it.
            displaced = displaced_by(&record, &other_row).map(|row| (other, row));
            let is_here = (other_row.parent, &other_row.name) == (row.parent, &row.name);
            other_row.base = None;
            self.set_row(other, Some(&other_row))?;
            if is_here {
                // Two rows of one thing: this one stays, with all that stands below.
                self.take_over(other, id)?;
            } else if displaced.is_none() {
                self.leave_to_log(other, file)?;
                self.settle(other)?;
            }
        }
        let former = row.base.as_ref().map(|base| base.id);
        let place = self.place_of_facts(facts)?;
        let view = View { body, attributes: facts.attributes.clone(), place };
        row.base = Some(Base { id: file, view, version: record.version });
        self.todo.remove(file);
        self.set_row(id, Some(&row))?;
        if let Some(former) = former.filter(|former| *former != file) {
            // That one has no place on this disk now.
            self.todo.insert(former);
        }
        if let Some((other, other_row)) = displaced {
            self.set_row(other, Some(&other_row))?;
            self.quarantined.insert(other, self.now_ms);
            self.settle(other)?;
        }
        Ok(())
    }

    /// A directory does not stand for `file` any more, another one here does. What the log has in that and
    /// nobody here moved goes there; it did not leave it by a user's hand.
    fn leave_to_log(&mut self, directory: LocalId, file: FileId) -> Result<(), Fatal> {
        let mut after = None;
        loop {
            let page = self.tables()?.children(directory, after.as_ref(), 1024)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, child) in page {
                let Some(mut row) = self.row(child)? else { continue };
                let Some(base) = &mut row.base else { continue };
                if base.view.place == (Place { parent: Some(file), name }) {
                    base.view.place.parent = None;
                    self.set_row(child, Some(&row))?;
                }
            }
        }
    }

    fn take_over(&mut self, from: LocalId, into: LocalId) -> Result<(), Fatal> {
        loop {
            let page = self.tables()?.children(from, None, 256)?;
            if page.is_empty() {
                return self.set_row(from, None);
            }
            for (_, child) in page {
                let Some(mut row) = self.row(child)? else { continue };
                row.parent = into;
                self.set_row(child, Some(&row))?;
                self.settle(child)?;
            }
        }
    }

    fn refused_row(&mut self, id: LocalId, row: &Placed, why: Refusal) -> Result<(), Fatal> {
        if let Some(path) = self.path_of_row(id)? {
            log::warn!("event=refused path=\"{path}\" reason={why:?}");
            self.left_out.insert(path, LeftOut::Refused(why));
        }
        self.set_row(id, Some(row))?;
        self.refused_rows.insert(id);
        Ok(())
    }

    /// Puts all that a change touched up for comparing, with the bytes that it carried.
    fn touch_all(&mut self, change: &Change, touched: &[Touched]) -> Result<(), Fatal> {
        let superseded = std::mem::take(&mut self.landed);
        self.give_back_landed(superseded)?;
        self.rules_touched(change, touched)?;
        for touch in touched {
            self.keep_unplaced(touch);
            self.let_go_of(touch)?;
            let inline = change.ops.get(touch.op).and_then(inline_of);
            // An operation that lost touches the winner too: its bytes are not the winner's.
            if let (Some((body, data)), Some(after)) = (inline, &touch.after)
                && *body == after.body
            {
                self.remember_incoming(touch.id, after, data)?;
            }
            // What waits with an older version shows the newer one when its turn comes, so its turn
            // is the newer one's: a ref of git must not appear before the objects it names.
            self.todo.renew(touch.id);
            match self.row_of(touch.id)? {
                Some(local) => self.settle(local)?,
                None if touch.after.is_some() => self.todo.insert(touch.id),
                None => self.todo.remove(touch.id),
            }
        }
        Ok(())
    }

    fn give_back_landed(&mut self, landed: Vec<Flight>) -> Result<(), Fatal> {
        for flight in landed {
            match flight {
                Flight::Row(FlownRow { id, .. }) => {
                    self.flying.remove(&id);
                    self.settle(id)?;
                }
                Flight::Forgotten => {}
                Flight::Api(write) => {
                    self.api_bytes += write.bytes();
                    self.api_writes.push_back(write);
                }
            }
        }
        Ok(())
    }

    /// A version that was superseded before it stood in the folder goes to history from the bytes
    /// at hand, so that no version is ever only in the log.
    fn keep_unplaced(&mut self, touch: &Touched) {
        if let Some(Record { body: Body::File { content, .. }, .. }) = touch.before
            && let Some(data) = self.incoming.take(touch.id, content)
        {
            self.keep_bytes(content, &data);
        }
    }
}

/// A thing that waited in quarantine for its name, now that another one stands for it: displaced.
fn displaced_by(record: &Record, row: &Placed) -> Option<Placed> {
    let mut row = Some(row).filter(|row| row.parent == LocalId::QUARANTINE)?.clone();
    if let Some(base) = &mut row.base {
        base.view.place = Place { parent: Some(record.parent), name: record.name.clone() };
    }
    Some(row)
}

fn inline_of(op: &Op) -> Option<(&Body, &Vec<u8>)> {
    match op {
        Op::Create { new, .. } | Op::Replace { new, .. } | Op::Put { new, .. } => {
            new.inline.as_ref().map(|bytes| (&new.body, bytes))
        }
        _ => None,
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    let payload = match &entry.content {
        Content::Proposal(proposal) => match &proposal.payload {
            Payload::Data(bytes) => bytes.len(),
            Payload::Open { .. } => 0,
        },
        _ => 0,
    };
    u64::try_from(payload).unwrap_or(u64::MAX).saturating_add(64)
}

fn api_answer(index: Index, outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Refused(reason) => Answer::Refused(*reason),
        Outcome::Kept(_) => Answer::Refused(Refusal::NotEmpty),
        Outcome::Changed => Answer::Changed,
        _ => Answer::Committed(index),
    }
}
