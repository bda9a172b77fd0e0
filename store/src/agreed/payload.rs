//! How a change is written into an entry, and read back.

use crate::op::{CHANGE_BYTES_MAX, Change, OPS_MAX};

/// The first byte of a payload.
pub const PAYLOAD_FORMAT: u8 = 1;

/// Why a change cannot be proposed as it is: cut it in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a change is larger than one entry may be")
    }
}

impl std::error::Error for TooLarge {}

/// The bytes of a change.
///
/// # Errors
/// Over [`CHANGE_BYTES_MAX`] or [`OPS_MAX`].
pub fn encode(change: &Change) -> Result<Vec<u8>, TooLarge> {
    let bytes = postcard::to_extend(change, vec![PAYLOAD_FORMAT]).map_err(|_| TooLarge)?;
    if bytes.len() > CHANGE_BYTES_MAX || change.ops.len() > OPS_MAX {
        return Err(TooLarge);
    }
    Ok(bytes)
}

/// The change in these bytes: `None` if they hold none, or more than one may hold.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Change> {
    let (&PAYLOAD_FORMAT, body) = bytes.split_first()? else { return None };
    if bytes.len() > CHANGE_BYTES_MAX {
        return None;
    }
    let (change, rest) = postcard::take_from_bytes::<Change>(body).ok()?;
    (rest.is_empty() && change.ops.len() <= OPS_MAX).then_some(change)
}
