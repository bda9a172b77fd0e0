//! Making a log, and finding out what one says after a crash.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::LogPosition;
use pickbox_raft_core::log::{Entry, HardState};
use pickbox_raft_core::members::Members;

use super::contents::{Contents, Place};
use super::record::{Body, HEADER_BYTES, Head, Header};
use super::scan::{Reader, Tail};
use super::segment::{self, DIRECTORY, RECORDS_FROM, Segment, UNFINISHED};
use super::spare::Spare;
use super::{Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Wal, WalCounters, WalError};
use crate::disk::{Disk, DiskError, DiskFile, DiskResult};

/// Records copied at once when they are written again.
const COPY_BYTES: u32 = 1024 * 1024;
/// What a record takes up that only confirms.
const CONFIRM_BYTES: u32 = 64;

const _: () = assert!(HEADER_BYTES == 64, "a record that only confirms is a header");

fn check(options: &Options) {
    let bytes = options.segment_bytes;
    assert!(bytes >= SEGMENT_BYTES_MIN, "a segment holds its header and some records");
    assert!(bytes <= SEGMENT_BYTES_MAX, "places in a segment have 32 bits");
    assert!(bytes.is_multiple_of(RECORDS_FROM), "a segment is whole pages");
}

pub(super) fn create<D: Disk>(disk: D, options: Options) -> Result<Wal<D>, WalError> {
    check(&options);
    disk.make_dir(DIRECTORY)?;
    disk.sync_dir("")?;
    for name in disk.list(DIRECTORY)? {
        disk.remove(&format!("{DIRECTORY}/{name}"))?;
    }
    disk.sync_dir(DIRECTORY)?;
    let state = Contents::new(HardState::default(), LogPosition::default(), Members::default());
    let mut wal = Wal {
        disk,
        options,
        state,
        segments: BTreeMap::new(),
        spare: Spare::Missing,
        queue: VecDeque::new(),
        buffer: Vec::new(),
        scratch: Vec::new(),
        offset: RECORDS_FROM,
        next_sequence: 1,
        durable_before: 1,
        confirmed_before: 1,
        keep_from: 1,
        counters: WalCounters::default(),
        stopped: false,
    };
    wal.rotate()?;
    wal.flush()?;
    wal.sync_written()?;
    Ok(wal)
}

type Replay<'a> = dyn FnMut(&LogOp) -> Result<(), String> + 'a;

pub(super) fn open<D: Disk>(
    disk: D,
    options: Options,
    replay: &mut Replay<'_>,
) -> Result<Wal<D>, WalError> {
    check(&options);
    let mut recovery = Recovery::default();
    for number in numbers(&disk)? {
        recovery.segment(segment::open(&disk, number)?, replay)?;
    }
    let found = recovery.finish()?;
    found.repair(&disk)?;
    let Found { state, segments, spare, end, next_sequence, confirmed_before, keep_from, .. } =
        found;
    Ok(Wal {
        disk,
        options,
        state,
        segments: segments.into_iter().map(|segment| (segment.number, segment)).collect(),
        spare: spare.map_or(Spare::Missing, Spare::Ready),
        queue: VecDeque::new(),
        buffer: Vec::new(),
        scratch: Vec::new(),
        offset: end,
        next_sequence,
        durable_before: next_sequence,
        confirmed_before,
        keep_from,
        counters: WalCounters::default(),
        stopped: false,
    })
}

/// The segments that are there, without gap.
fn numbers<D: Disk>(disk: &D) -> Result<Vec<u32>, WalError> {
    let names = match disk.list(DIRECTORY) {
        Err(error) if error.is_not_found() => return Err(WalError::NotFound),
        names => names?,
    };
    let numbers: Vec<u32> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    for (before, after) in numbers.iter().zip(numbers.iter().skip(1)) {
        if before + 1 != *after {
            return Err(WalError::MissingSegment { file: segment::path(before + 1) });
        }
    }
    if numbers.is_empty() { Err(WalError::NotFound) } else { Ok(numbers) }
}

/// What was read so far.
#[derive(Debug)]
struct Recovery<F> {
    state: Option<Contents>,
    /// Those with records.
    segments: Vec<Segment<F>>,
    /// The one without.
    spare: Option<Segment<F>>,
    next_sequence: u64,
    keep_from: u32,
    /// As the newest record says.
    durable_before: u64,
    /// Where, in the newest segment, the records begin that no later one confirms.
    unconfirmed_from: u32,
    /// The end of the newest segment's records.
    end: u32,
    /// What stands at that end, if it is a header whose payload is bad.
    bad: Option<Header>,
}

impl<F> Default for Recovery<F> {
    fn default() -> Self {
        Self {
            state: None,
            segments: Vec::new(),
            spare: None,
            next_sequence: 1,
            keep_from: 1,
            durable_before: 0,
            unconfirmed_from: RECORDS_FROM,
            end: RECORDS_FROM,
            bad: None,
        }
    }
}

fn corrupt(number: u32, offset: u32, reason: impl Into<Cow<'static, str>>) -> WalError {
    let file = segment::path(number);
    WalError::Corrupt { file, offset: u64::from(offset), entry: None, reason: reason.into() }
}

/// The error of a record that is known to have been durable, and of which this is left.
fn rotten(number: u32, offset: u32, bad: Option<&Header>, reason: &'static str) -> WalError {
    let (file, entry) = (segment::path(number), bad.and_then(|header| header.entry));
    WalError::Corrupt { file, offset: u64::from(offset), entry, reason: reason.into() }
}

impl<F: DiskFile> Recovery<F> {
    /// Reads one segment, the next in order.
    fn segment(
        &mut self,
        mut segment: Segment<F>,
        replay: &mut Replay<'_>,
    ) -> Result<(), WalError> {
        let number = segment.number;
        if let Some(empty) = &self.spare {
            return Err(corrupt(empty.number, RECORDS_FROM, "it is empty, but not the last one"));
        }
        let mut reader = Reader::new(&segment);
        let Some(first) = reader.header(RECORDS_FROM)? else {
            self.spare = Some(segment);
            return Ok(());
        };
        self.check_joint(number, &first)?;
        let Body::Head(head) = reader.body(&first)? else {
            return Err(corrupt(number, RECORDS_FROM, "it does not begin with a head"));
        };
        self.begin(number, &first, head.clone(), replay)?;
        (self.end, self.unconfirmed_from) = (RECORDS_FROM, RECORDS_FROM);
        self.step_over(&first);
        while let Some(header) = self.next(&mut reader)? {
            self.take(number, &header, reader.body(&header)?, replay)?;
            self.step_over(&header);
        }
        self.bad = reader.identity(self.end)?.filter(|bad| bad.sequence == self.next_sequence);
        segment.head_last = head.last.index;
        self.segments.push(segment);
        Ok(())
    }

    /// The next record of a segment, if it is whole.
    ///
    /// A record that only confirms takes no sequence number. So where the record with the right
    /// number stands behind a gap of just such a record's size, nothing else is missing.
    fn next(&self, reader: &mut Reader<'_, F>) -> Result<Option<Header>, WalError> {
        let follows = |header: &Header| header.sequence == self.next_sequence;
        let next = reader.header(self.end)?.filter(follows);
        if next.is_some() {
            return Ok(next);
        }
        let behind_gap = self.end.saturating_add(CONFIRM_BYTES);
        let next = reader.header(behind_gap)?.filter(follows);
        if next.is_some() {
            log::warn!("event=confirming_record_damaged offset={}", self.end);
        }
        Ok(next)
    }

    /// Checks that a segment's first record follows the last one of the segment before.
    fn check_joint(&self, number: u32, first: &Header) -> Result<(), WalError> {
        let Some(before) = self.segments.last() else { return Ok(()) };
        if first.sequence < self.next_sequence {
            return Err(WalError::Overlap { file: segment::path(number) });
        }
        if first.sequence > self.next_sequence {
            let reason =
                "a record is damaged that was durable: the next segment follows later ones";
            return Err(rotten(before.number, self.end, self.bad.as_ref(), reason));
        }
        Ok(())
    }

    /// Takes a head: where the log begins, or a repetition of what is known.
    fn begin(
        &mut self,
        number: u32,
        header: &Header,
        head: Head,
        replay: &mut Replay<'_>,
    ) -> Result<(), WalError> {
        self.keep_from = head.keep_from;
        self.next_sequence = header.sequence;
        if let Some(state) = &self.state {
            let agrees = state.last() == head.last && state.hard_state == head.hard_state;
            return if agrees {
                Ok(())
            } else {
                Err(corrupt(number, RECORDS_FROM, "its head contradicts the segments before it"))
            };
        }
        let impossible = |text: String| corrupt(number, RECORDS_FROM, text);
        replay(&LogOp::HardState(head.hard_state)).map_err(impossible)?;
        let members = head.members.clone();
        replay(&LogOp::Reset { at: head.last, members }).map_err(impossible)?;
        self.state = Some(Contents::new(head.hard_state, head.last, head.members));
        Ok(())
    }

    fn step_over(&mut self, header: &Header) {
        if header.durable_before != self.durable_before {
            self.durable_before = header.durable_before;
            self.unconfirmed_from = header.offset;
        }
        self.next_sequence = header.sequence + header.kind.sequences();
        let bytes = u32::try_from(header.record_bytes()).unwrap_or(u32::MAX);
        self.end = header.offset.saturating_add(bytes);
    }

    /// Takes one record after the head.
    fn take(
        &mut self,
        number: u32,
        header: &Header,
        body: Body,
        replay: &mut Replay<'_>,
    ) -> Result<(), WalError> {
        let wrong = |text: String| corrupt(number, header.offset, text);
        let Some(state) = &mut self.state else { return Err(wrong("no head before it".into())) };
        let payload_bytes = u32::try_from(header.length).unwrap_or(u32::MAX);
        let place = Place { segment: number, offset: header.offset, payload_bytes };
        match body {
            Body::Head(_) => Err(wrong("a head in the middle".into())),
            Body::HardState(hard_state) => {
                state.hard_state = hard_state;
                replay(&LogOp::HardState(hard_state)).map_err(wrong)
            }
            Body::Entry(entry) if header.entry != Some(entry.position()) => {
                Err(wrong("its header names another entry".into()))
            }
            Body::Entry(entry) => append(state, entry, place, replay).map_err(wrong),
            Body::Truncate(cut) if cut.last.index < state.base().index => {
                // What it cut into was compacted since, and the segments that held it are gone.
                let (at, members) = (cut.last, cut.members);
                *state = Contents::new(state.hard_state, at, members.clone());
                replay(&LogOp::Reset { at, members }).map_err(wrong)
            }
            Body::Truncate(cut) => {
                let from = cut.last.index.next();
                state.truncate(from);
                replay(&LogOp::Truncate { from }).map_err(wrong)
            }
            Body::Reset(mark) => {
                self.keep_from = mark.keep_from;
                state.reset(&mark);
                replay(&LogOp::Reset { at: mark.at, members: mark.members }).map_err(wrong)
            }
            Body::Compact(mark) => {
                self.keep_from = mark.keep_from;
                state.compact(&mark);
                let through = mark.at;
                replay(&LogOp::Compact { through, members: mark.members }).map_err(wrong)
            }
            Body::Confirm => Ok(()),
        }
    }

    /// Looks behind the last record and decides whether the log is whole.
    fn finish(mut self) -> Result<Found<F>, WalError> {
        let torn = match self.segments.last() {
            Some(segment) => tail(segment, self.end, self.next_sequence, self.bad.as_ref())?,
            None => None,
        };
        let torn_spare = match &self.spare {
            Some(segment) => tail(segment, RECORDS_FROM, self.next_sequence, None)?,
            None => None,
        };
        let (Some(state), Some(first)) = (self.state.take(), self.segments.first()) else {
            return Err(match &self.spare {
                Some(only) if only.number > 1 => corrupt(only.number, RECORDS_FROM, "no head"),
                _ => WalError::NotFound,
            });
        };
        if first.number > self.keep_from {
            return Err(WalError::MissingSegment { file: segment::path(first.number - 1) });
        }
        Ok(Found {
            state,
            segments: self.segments,
            spare: self.spare,
            next_sequence: self.next_sequence,
            confirmed_before: self.durable_before,
            keep_from: self.keep_from,
            unconfirmed_from: self.unconfirmed_from,
            end: self.end,
            torn,
            torn_spare,
        })
    }
}

fn append(
    state: &mut Contents,
    entry: Entry,
    place: Place,
    replay: &mut Replay<'_>,
) -> Result<(), String> {
    if !state.accepts(entry.index, entry.term) {
        return Err(format!("entry {} does not follow {}", entry.index, state.last().index));
    }
    state.append(&entry, place);
    replay(&LogOp::Append(vec![Arc::new(entry)]))
}

/// The end of what must be wiped behind a segment's records.
fn tail<F: DiskFile>(
    segment: &Segment<F>,
    end: u32,
    missing: u64,
    bad: Option<&Header>,
) -> Result<Option<u32>, WalError> {
    match Reader::new(segment).tail(end, missing)? {
        Tail::Clean => Ok(None),
        Tail::Torn { end } => Ok(Some(end)),
        Tail::Rotten => {
            Err(rotten(segment.number, end, bad, "a record is damaged that was durable"))
        }
    }
}

/// A log that is whole.
#[derive(Debug)]
struct Found<F> {
    state: Contents,
    segments: Vec<Segment<F>>,
    spare: Option<Segment<F>>,
    next_sequence: u64,
    confirmed_before: u64,
    keep_from: u32,
    unconfirmed_from: u32,
    end: u32,
    /// Up to where remains of an unsynced batch must be wiped.
    torn: Option<u32>,
    torn_spare: Option<u32>,
}

impl<F: DiskFile> Found<F> {
    /// Makes durable what was read, and wipes what was not: both only repeat what the log says
    /// already, so that a crash in the middle changes nothing.
    fn repair<D: Disk>(&self, disk: &D) -> Result<(), WalError> {
        if let Some(segment) = self.segments.last() {
            lengthen(segment)?;
            // After a failed sync these bytes may be in memory only, and count as clean there.
            copy_onto_itself(&segment.file, self.unconfirmed_from, self.end)?;
            wipe(segment, self.end, self.torn)?;
            segment.file.sync_data().map_err(WalError::Disk)?;
        }
        if let Some(segment) = &self.spare {
            lengthen(segment)?;
            wipe(segment, RECORDS_FROM, self.torn_spare)?;
            segment.file.sync_data().map_err(WalError::Disk)?;
        }
        match disk.remove(UNFINISHED) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        disk.sync_dir(DIRECTORY).map_err(WalError::Disk)
    }
}

/// A file cut short gets its length back.
fn lengthen<F: DiskFile>(segment: &Segment<F>) -> Result<(), WalError> {
    let length = segment.file.length()?;
    let missing = u64::from(segment.length).saturating_sub(length);
    Ok(segment.file.write_zeros(length, missing)?)
}

fn copy_onto_itself<F: DiskFile>(file: &F, from: u32, end: u32) -> DiskResult<()> {
    let mut offset = from;
    while offset < end {
        let step = COPY_BYTES.min(end - offset);
        let mut bytes = vec![0; usize::try_from(step).unwrap_or(0)];
        let read = file.read_at(&mut bytes, u64::from(offset))?;
        bytes.truncate(read);
        file.write_at(&[IoSlice::new(&bytes)], u64::from(offset))?;
        offset += step;
    }
    Ok(())
}

fn wipe<F: DiskFile>(segment: &Segment<F>, from: u32, end: Option<u32>) -> Result<(), DiskError> {
    let bytes = end.map_or(0, |end| u64::from(end.saturating_sub(from)));
    segment.file.write_zeros(u64::from(from), bytes)
}
