//! Who a node is, by which key, which runs of it there were, what it voted: small files and
//! records that are read at its start.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_raft::disk::sim::SimDisk;
use pickbox_raft::identity::{Identity, check_name};
use pickbox_raft::keys::KeyRing;
use pickbox_raft::runs;
use pickbox_raft::wal::probe::{self, Mend};
use pickbox_raft_core::ids::{ClusterId, Epoch, NodeId};

/// Where the checksum of the identity stands; it is of all other bytes.
const IDENTITY_CHECKSUM: std::ops::Range<usize> = 12..16;

const KEY_FILE: &str = "node.key";

/// What the bytes are taken for.
const IDENTITY: u8 = 0;
const RUNS: u8 = 1;
const RECORD: u8 = 2;
const KEY: u8 = 3;
/// Payloads of each kind of record come from here on.
const PAYLOADS: u8 = 4;

/// The first byte says what the rest is taken for, the second whether checksums are made right.
pub(super) fn read(bytes: &[u8]) {
    let Some(([what, mend], bytes)) = bytes.split_first_chunk::<2>() else { return };
    let mend = if mend % 2 == 0 { Mend::Yes } else { Mend::No };
    match *what {
        IDENTITY => identity(bytes, mend),
        RUNS => of_runs(bytes, mend),
        RECORD => probe::record(bytes, mend),
        KEY => key(bytes),
        kind => probe::payload(kind.wrapping_sub(PAYLOADS), bytes),
    }
}

fn identity(bytes: &[u8], mend: Mend) {
    let mut bytes = bytes.to_vec();
    if mend == Mend::Yes && bytes.len() >= IDENTITY_CHECKSUM.end {
        let mut others = bytes.clone();
        others.drain(IDENTITY_CHECKSUM);
        bytes.splice(IDENTITY_CHECKSUM, crc32fast::hash(&others).to_le_bytes());
    }
    let disk = SimDisk::new();
    disk.poke("identity", &bytes);
    let Ok(Some(identity)) = Identity::load(&disk) else { return };
    assert!(check_name(&identity.name).is_ok(), "{identity:?}");
    assert_eq!(write_identity(&identity).as_ref(), Some(&bytes), "there is one way to write it");
}

fn write_identity(identity: &Identity) -> Option<Vec<u8>> {
    let disk = SimDisk::new();
    identity.store(&disk).ok()?;
    disk.peek("identity")
}

fn of_runs(bytes: &[u8], mend: Mend) {
    let mut bytes = bytes.to_vec();
    if mend == Mend::Yes
        && let Some((body, checksum)) = bytes.split_last_chunk_mut::<4>()
    {
        *checksum = crc32fast::hash(body).to_le_bytes();
    }
    runs::probe(&bytes);
}

/// A file that is taken for a key is one key, and does not show it.
fn key(bytes: &[u8]) {
    let disk = SimDisk::new();
    disk.poke(KEY_FILE, bytes);
    let Ok(Some(keys)) = KeyRing::load(&disk) else { return };
    let fingerprint = keys.current().fingerprint();
    let again = KeyRing::load(&disk).ok().flatten();
    assert_eq!(again.map(|keys| keys.current().fingerprint()), Some(fingerprint));
    let shown = format!("{keys:?}");
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
    let mut secret = lines.filter(|line| line.len() > 40 && !line.contains('-'));
    assert!(!secret.any(|line| shown.contains(line)), "the key is not shown");
}

/// A file of each kind, and a record of each.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let identity = Identity {
        cluster: ClusterId([9; 16]),
        epoch: Epoch::new(2),
        node: NodeId::new(3),
        name: "node3".into(),
    };
    let identity = write_identity(&identity).into_iter().map(|bytes| (IDENTITY, bytes));
    let body = [&b"PBOXRUN\n"[..], &2_u32.to_le_bytes(), &[5; 8], &[6; 8]].concat();
    let runs = [body.clone(), crc32fast::hash(&body).to_le_bytes().to_vec()].concat();
    let payloads = probe::payloads().into_iter().map(|(kind, bytes)| (kind + PAYLOADS, bytes));
    let records = probe::records().into_iter().map(|bytes| (RECORD, bytes));
    // PKCS#8 with an Ed25519 key (RFC 8410, section 7), which is nobody's.
    let der = [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &[7; 32]];
    let body = STANDARD.encode(der.concat());
    let key = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let all = identity
        .chain([(KEY, key.into_bytes())])
        .chain([(RUNS, runs)])
        .chain(records)
        .chain(payloads);
    all.map(|(what, bytes)| [&[what, 0], bytes.as_slice()].concat()).collect()
}
