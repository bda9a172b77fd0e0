//! The journal of what is placed, as a crash or a bad disk left it.

use pickbox_raft_core::ids::{Incarnation, Serial};
use pickbox_store::folder::{Kind, Stat};
use pickbox_store::name::Name;
use pickbox_store::placed::journal::{Facts, FlightNote, FlownRow, Note, What, encode, replay};
use pickbox_store::placed::{Hold, HoldNote, LocalId, Placed, Seen};
use pickbox_store::reconcile::{Base, Place, View};
use pickbox_store::record::{Attributes, Body, FileId, VersionVector};
use pickbox_store::time::Time;

use super::world;

/// Bytes before a record's body: its length and its checksum.
const HEAD_BYTES: usize = 8;

/// Reads it. The first byte says whether checksums are made right.
pub(super) fn read(bytes: &[u8]) {
    let Some((mend, journal)) = bytes.split_first() else { return };
    let mut journal = journal.to_vec();
    if mend % 2 == 0 {
        mended(&mut journal);
    }
    let found = replay(&journal);
    let valid = journal.get(..found.valid_bytes);
    let valid = valid.unwrap_or_else(|| unreachable!("no more is valid than there is"));
    assert_eq!(replay(valid), found, "what is valid says the same without the rest");
    let mut again = Vec::new();
    for (id, row) in &found.rows {
        encode(&Note::Row(*id, row.clone()), &mut again);
    }
    for (id, row) in &found.intents {
        assert!(world::is_name(row.name.as_bytes()), "{row:?}");
        encode(&Note::Intent(*id, row.clone()), &mut again);
    }
    if let Some(flight) = &found.flight {
        encode(&Note::Flight(flight.clone()), &mut again);
    }
    let mut same = replay(&again);
    assert_eq!(same.valid_bytes, again.len(), "what was written can be read");
    same.valid_bytes = found.valid_bytes;
    assert_eq!(same, found, "as it was");
}

fn mended(journal: &mut [u8]) {
    let mut rest = journal;
    while let Some((head, more)) = rest.split_first_chunk_mut::<HEAD_BYTES>() {
        let [l0, l1, l2, l3, ..] = *head;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some((body, later)) = more.split_at_mut_checked(length) else { return };
        let [c0, c1, c2, c3] = crc32fast::hash(body).to_le_bytes();
        *head = [l0, l1, l2, l3, c0, c1, c2, c3];
        rest = later;
    }
}

/// Notes of each kind, alone and together.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let written = |notes: &[Note]| {
        let mut bytes = vec![0];
        for note in notes {
            encode(note, &mut bytes);
        }
        bytes
    };
    let Some(notes) = notes() else { return Vec::new() };
    let alone = notes.iter().map(|note| written(std::slice::from_ref(note)));
    alone.chain([written(&notes)]).collect()
}

fn notes() -> Option<Vec<Note>> {
    let name = Name::new(&b"name"[..]).ok()?;
    let id = LocalId::new(20);
    let body = Body::Symlink { target: b"to".to_vec() };
    let xattrs = pickbox_store::xattr::Xattrs::default();
    let seen =
        Seen { stat: stat(), body: Some(body.clone()), owner: None, xattrs, shortfall: None };
    let (parent, name) = (LocalId::ROOT, name);
    let row = |seen| Placed { parent, name: name.clone(), seen, base: None, hold: None };
    let attributes = Attributes::default();
    let place = Place { parent: None, name: name.clone() };
    let view = View { body: body.clone(), attributes: attributes.clone(), place };
    let base = Base { id: FileId::ROOT, view, version: VersionVector::default() };
    let facts = Facts { body: Some(body), attributes, parent, name: name.clone() };
    let flight = FlightNote {
        incarnation: Incarnation::new(9),
        serial: Serial::new(3),
        payload_crc: 7,
        rows: vec![None, Some(FlownRow { id, what: What::Move, facts })],
    };
    let held = |hold| Placed { base: Some(base.clone()), hold: Some(hold), ..row(None) };
    let note = HoldNote { number: 3, since_ms: 9 };
    Some(vec![
        Note::Row(id, Some(row(None))),
        Note::Row(id, Some(held(Hold::Held(note)))),
        Note::Row(id, Some(held(Hold::Approved))),
        Note::Intent(id, row(Some(seen.clone()))),
        Note::Flight(Some(flight)),
        Note::Row(id, Some(row(Some(seen)))),
        Note::Flight(None),
        Note::Row(id, None),
    ])
}

fn stat() -> Stat {
    let time = Time { secs: 7, nanos: 8 };
    Stat {
        kind: Kind::Symlink,
        ino: 5,
        btime: time,
        size: 2,
        mtime: time,
        ctime: time,
        mode: 0o777,
        uid: 1000,
        gid: 100,
        nlink: 1,
        dev: 0,
    }
}
