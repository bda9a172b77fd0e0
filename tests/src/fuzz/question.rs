//! What engines ask and tell each other: it is understood, within its bounds, or refused.

use pickbox_store::engine::questions;

/// Bytes that nothing understood is longer than: the bounds of a report, with room.
const UNDERSTOOD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads bytes of a peer; what was understood is understood in the same way again.
pub(super) fn take(bytes: &[u8]) {
    let Some(understood) = questions::reread(bytes) else { return };
    assert!(understood.len() <= UNDERSTOOD_BYTES_MAX, "{} bytes", understood.len());
    assert_eq!(questions::reread(&understood).as_deref(), Some(understood.as_slice()));
}

pub(super) fn examples() -> Vec<Vec<u8>> {
    questions::examples()
}
