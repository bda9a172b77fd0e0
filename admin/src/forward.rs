//! `FORWARD {json}`: one write or delete by a program.
//!
//! | field | |
//! |---|---|
//! | `op` | `"write"` or `"delete"` |
//! | `path` | below the folder, as the crate's page says |
//! | `data` | base64 of the content, at most 1 MiB of it; must be there for a write, even if empty |
//! | `hash` | SHA-256 of the content in hex; checked when given |
//! | `node_id`, `sequence` | kept for the audit; neither makes a retry harmless by itself |
//!
//! A write replaces whatever is current at its place in the log and creates missing parents; what
//! it replaced is in the history. A delete of nothing is `OK`. Unknown fields are refused, so that
//! a misspelt `hash` is not silently unchecked.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use pickbox_store::name::RelPath;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::limits::{FORWARD_DATA_BYTES_MAX, ORIGIN_BYTES_MAX};
use crate::node::{Code, ContentHash, Refusal};
use crate::path_text;

/// Standard alphabet; padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A write or a delete that is to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where; never the folder itself.
    pub path: RelPath,
    /// What.
    pub operation: Operation,
    /// Who says to have made it: for the audit only.
    pub node_id: Option<String>,
    /// The sayer's own number for it: for the audit only.
    pub sequence: Option<u64>,
}

/// What a [`Forward`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The file has this content.
    Write {
        /// At most [`FORWARD_DATA_BYTES_MAX`].
        data: Vec<u8>,
        /// Its SHA-256.
        hash: ContentHash,
    },
    /// Nothing is there any more.
    Delete,
}

/// The fields as they come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    hash: Option<Cow<'a, str>>,
    #[serde(default)]
    node_id: Option<Label>,
    #[serde(default)]
    sequence: Option<u64>,
}

/// A name, or a number used as one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Number(u64),
}

impl Forward {
    /// Reads and checks the JSON of a request.
    ///
    /// # Errors
    /// With [`Code::BadRequest`], [`Code::TooLarge`] or [`Code::HashMismatch`].
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let fields: Fields<'_> =
            serde_json::from_slice(json).map_err(|error| bad(format!("FORWARD: {error}")))?;
        let path = parse_path(&fields.path)?;
        let data = fields.data.as_deref();
        let hash = parse_hash(fields.hash.as_deref())?;
        let operation = match fields.op.as_ref() {
            "write" => parse_write(data, hash)?,
            "delete" => parse_delete(data, hash)?,
            other => {
                let shown: String = other.chars().take(32).collect();
                return Err(bad(format!("op is '{}', not write or delete", shown.escape_debug())));
            }
        };
        Ok(Self {
            path,
            operation,
            node_id: parse_label(fields.node_id)?,
            sequence: fields.sequence,
        })
    }

    pub(crate) fn held_bytes(&self) -> usize {
        let data = match &self.operation {
            Operation::Write { data, .. } => data.len(),
            Operation::Delete => 0,
        };
        size_of::<Self>() + self.path.as_bytes().len() + data
    }
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, text)
}

fn parse_path(text: &str) -> Result<RelPath, Refusal> {
    let path = path_text::from_json(text).map_err(|error| bad(format!("path: {error}")))?;
    if path.is_root() { Err(bad("path: it is empty")) } else { Ok(path) }
}

fn parse_hash(text: Option<&str>) -> Result<Option<ContentHash>, Refusal> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => match ContentHash::parse(text) {
            Some(hash) => Ok(Some(hash)),
            None => Err(bad("hash: not 64 hex digits")),
        },
    }
}

fn parse_write(data: Option<&str>, claimed: Option<ContentHash>) -> Result<Operation, Refusal> {
    let text =
        data.ok_or_else(|| bad("a write without data; for an empty file say \"data\":\"\""))?;
    let data = BASE64.decode(text).map_err(|error| bad(format!("data is no base64: {error}")))?;
    if data.len() > FORWARD_DATA_BYTES_MAX {
        let text =
            format!("data is over {FORWARD_DATA_BYTES_MAX} bytes; copy the file into the folder");
        return Err(Refusal::new(Code::TooLarge, text));
    }
    let hash = ContentHash(Sha256::digest(&data).into());
    if let Some(claimed) = claimed
        && claimed != hash
    {
        let text = format!("the data's SHA-256 is {hash}, not {claimed}");
        return Err(Refusal::new(Code::HashMismatch, text));
    }
    Ok(Operation::Write { data, hash })
}

/// A delete carries nothing; the hash of nothing is accepted from programs that always send one.
fn parse_delete(data: Option<&str>, claimed: Option<ContentHash>) -> Result<Operation, Refusal> {
    let nothing = ContentHash(Sha256::digest(b"").into());
    match (data.unwrap_or_default(), claimed) {
        ("", None) => Ok(Operation::Delete),
        ("", Some(hash)) if hash == nothing => Ok(Operation::Delete),
        ("", Some(_)) => Err(bad("hash: a delete has no content to check")),
        (_, _) => Err(bad("data: a delete has none")),
    }
}

fn parse_label(label: Option<Label>) -> Result<Option<String>, Refusal> {
    match label {
        None => Ok(None),
        Some(Label::Number(number)) => Ok(Some(number.to_string())),
        Some(Label::Text(text)) if text.len() <= ORIGIN_BYTES_MAX => Ok(Some(text)),
        Some(Label::Text(_)) => Err(bad(format!("node_id: over {ORIGIN_BYTES_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(json: &str) -> Code {
        Forward::parse(json.as_bytes()).unwrap_err().code
    }

    #[test]
    fn a_write_carries_its_content() {
        let json = r#"{"op":"write","path":"a/b.txt","data":"aGVsbG8K","node_id":"node1","sequence":7,
            "hash":"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"}"#;
        let forward = Forward::parse(json.as_bytes()).unwrap();
        assert_eq!(forward.path, RelPath::new(&b"a/b.txt"[..]).unwrap());
        assert_eq!((forward.node_id.as_deref(), forward.sequence), (Some("node1"), Some(7)));
        assert!(matches!(forward.operation, Operation::Write { data, .. } if data == b"hello\n"));
    }

    #[test]
    fn the_hash_is_checked_when_given() {
        let hash = "0".repeat(64);
        let json = format!(r#"{{"op":"write","path":"a","data":"aGk=","hash":"{hash}"}}"#);
        assert_eq!(code(&json), Code::HashMismatch);
        assert!(Forward::parse(br#"{"op":"write","path":"a","data":"aGk"}"#).is_ok());
        assert!(Forward::parse(br#"{"op":"write","path":"a","data":"aGk=","hash":""}"#).is_ok());
    }

    #[test]
    fn a_delete_carries_nothing() {
        assert!(Forward::parse(br#"{"op":"delete","path":"a"}"#).is_ok());
        assert!(Forward::parse(br#"{"op":"delete","path":"a","data":"","hash":null}"#).is_ok());
        assert_eq!(code(r#"{"op":"delete","path":"a","data":"aGk="}"#), Code::BadRequest);
    }

    /// fault 84: no request names anything outside the folder.
    #[test]
    fn wrong_requests_are_refused() {
        for json in [
            "",
            "{}",
            "[]",
            "\"write\"",
            r#"{"op":"write","path":"a"}"#,
            r#"{"op":"write","path":"","data":""}"#,
            r#"{"op":"write","path":"../a","data":""}"#,
            r#"{"op":"write","path":"/etc/passwd","data":""}"#,
            r#"{"op":"write","path":"a\u0000","data":""}"#,
            r#"{"op":"write","path":"a","data":"*"}"#,
            r#"{"op":"write","path":"a","data":"","hsah":"x"}"#,
            r#"{"op":"write","path":"a","data":"","hash":"x"}"#,
            r#"{"op":"chmod","path":"a","data":""}"#,
            r#"{"op":"write","op":"delete","path":"a"}"#,
            r#"{"op":"write","path":"a","data":""} x"#,
            r#"{"op":"write","path":"a","data":"","sequence":-1}"#,
        ] {
            assert_eq!(code(json), Code::BadRequest, "{json}");
        }
    }

    #[test]
    fn content_over_the_bound_is_too_large() {
        let data = BASE64.encode(vec![0; FORWARD_DATA_BYTES_MAX + 1]);
        assert_eq!(
            code(&format!(r#"{{"op":"write","path":"a","data":"{data}"}}"#)),
            Code::TooLarge
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// fault 60
        #[test]
        fn no_bytes_upset_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Forward::parse(&bytes);
        }

        #[test]
        fn what_is_sent_is_what_is_read(
            data in prop::collection::vec(any::<u8>(), 0..200), name in "[^/\0.]{1,20}", sequence: u64
        ) {
            let json = serde_json::json!({
                "op": "write", "path": name, "data": BASE64.encode(&data), "sequence": sequence,
            });
            let forward = Forward::parse(json.to_string().as_bytes()).unwrap();
            prop_assert_eq!(forward.path.as_bytes(), name.as_bytes());
            prop_assert_eq!(forward.sequence, Some(sequence));
            match forward.operation {
                Operation::Write { data: read, .. } => prop_assert_eq!(read, data),
                Operation::Delete => prop_assert!(false),
            }
        }
    }
}
