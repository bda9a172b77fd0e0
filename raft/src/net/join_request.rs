//! What a node says that wants to become a member: one message of fixed size, the only one that is
//! ever read from somebody whose key is not known.
//!
//! ```text
//! "PBOXJOIN" | cluster 16 | token 32 | proof 64 | name length u8 | name 64 | address length u16 LE | address 256
//! ```
//!
//! Zeros fill what is not used.

use pickbox_raft_core::ids::ClusterId;

use super::hello::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX};

const MAGIC: [u8; 8] = *b"PBOXJOIN";
/// Bytes of the message.
pub(crate) const JOIN_REQUEST_BYTES: usize =
    MAGIC.len() + 16 + 32 + 64 + 1 + NAME_BYTES_MAX + 2 + ADDRESS_BYTES_MAX;

/// The wish to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinRequest {
    /// Of which cluster it was a member, or its token is; zeros if it has neither.
    pub(crate) cluster: ClusterId,
    /// The public half of its join token; zeros if it has none.
    pub(crate) token: [u8; 32],
    /// What it signed with the other half; zeros without a token.
    pub(crate) proof: [u8; 64],
    /// The name that people chose.
    pub(crate) name: String,
    /// Where peers will reach it.
    pub(crate) address: String,
}

impl JoinRequest {
    /// The message; `None`: the name or the address is too long.
    pub(crate) fn encode(&self) -> Option<[u8; JOIN_REQUEST_BYTES]> {
        let mut name = [0; NAME_BYTES_MAX];
        name.get_mut(..self.name.len())?.copy_from_slice(self.name.as_bytes());
        let mut address = [0; ADDRESS_BYTES_MAX];
        address.get_mut(..self.address.len())?.copy_from_slice(self.address.as_bytes());
        let name_length = [u8::try_from(self.name.len()).ok()?];
        let address_length = u16::try_from(self.address.len()).ok()?.to_le_bytes();
        let parts: [&[u8]; 8] = [
            &MAGIC,
            &self.cluster.0,
            &self.token,
            &self.proof,
            &name_length,
            &name,
            &address_length,
            &address,
        ];
        parts.concat().try_into().ok()
    }

    /// Reads the message; `None`: it is none.
    pub(crate) fn decode(bytes: &[u8; JOIN_REQUEST_BYTES]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (cluster, rest) = rest.split_first_chunk()?;
        let (token, rest) = rest.split_first_chunk()?;
        let (proof, rest) = rest.split_first_chunk()?;
        let (name_length, rest) = rest.split_first()?;
        let (name, rest) = rest.split_first_chunk::<NAME_BYTES_MAX>()?;
        let (address_length, address) = rest.split_first_chunk()?;
        Some(Self {
            cluster: ClusterId(*cluster),
            token: *token,
            proof: *proof,
            name: text(name, usize::from(*name_length))?,
            address: text(address, usize::from(u16::from_le_bytes(*address_length)))?,
        })
    }
}

/// The text in the first `length` bytes of a field, all others of which are zero.
fn text(field: &[u8], length: usize) -> Option<String> {
    let (text, filler) = field.split_at_checked(length)?;
    let is_plain = text.iter().all(u8::is_ascii_graphic) && filler.iter().all(|byte| *byte == 0);
    str::from_utf8(text).ok().filter(|_| is_plain).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> JoinRequest {
        JoinRequest {
            cluster: ClusterId([1; 16]),
            token: [2; 32],
            proof: [3; 64],
            name: "node4".into(),
            address: "10.0.0.4:8001".into(),
        }
    }

    /// fault 62, 80: what was said is what is heard; lengths beyond their field, filler that is not
    /// zero and texts that are none are refused.
    #[test]
    fn a_request_is_heard_as_it_was_said_or_not_at_all() {
        let bytes = request().encode().unwrap();
        assert_eq!(JoinRequest::decode(&bytes), Some(request()));
        let full = JoinRequest { name: "n".repeat(64), address: "a".repeat(256), ..request() };
        assert_eq!(JoinRequest::decode(&full.encode().unwrap()), Some(full.clone()));
        assert!(JoinRequest { name: "n".repeat(65), ..full.clone() }.encode().is_none());
        assert!(JoinRequest { address: "a".repeat(257), ..full }.encode().is_none());
        let name_length = 8 + 16 + 32 + 64;
        let address_length = name_length + 1 + 64;
        for (place, byte) in [
            (0, b'X'),
            (name_length, 65),
            (name_length, 255),
            (name_length, 4),
            (name_length + 1, 0),
            (name_length + 1, 0xff),
            (name_length + 64, 1),
            (address_length + 1, 0xff),
            (address_length, 12),
            (JOIN_REQUEST_BYTES - 1, 1),
        ] {
            let mut forged = bytes;
            forged[place] = byte;
            assert_eq!(JoinRequest::decode(&forged), None, "byte {place} is {byte}");
        }
    }
}
