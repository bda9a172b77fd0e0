//! Deletions that a node holds until somebody decides: `HELD`, `APPROVE`, `REJECT`.

use std::fmt::{self, Write};

use pickbox_store::name::RelPath;
use serde::{Deserialize, Serialize};

use crate::node::{Code, Refusal, Request};
use crate::path_text;

/// What is to become of held deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are meant: replicate them.
    Approve,
    /// They are not: put back what was deleted.
    Reject,
}

impl Verdict {
    /// The word of the command.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Approve => "APPROVE",
            Self::Reject => "REJECT",
        }
    }
}

/// Which held deletions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that the node holds.
    All,
    /// Those of this id.
    One(HoldId),
}

/// What a hold is called: the name of its node, a dash, and a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldId(String);

impl HoldId {
    /// Longest id: that of a name, a dash and ten digits.
    pub const BYTES_MAX: usize = crate::node::NodeName::BYTES_MAX + 11;

    /// Checks an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.to_owned()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Deletions that are held together. As JSON its fields keep these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReport {
    /// What it is called, in the whole cluster.
    pub hold_id: String,
    /// The node that holds it: where the files were deleted.
    pub node_id: String,
    /// Since when, seconds since 1970, by that node's clock.
    pub since: u64,
    /// Files and symlinks that were deleted.
    pub files: u64,
    /// Directories that were deleted.
    pub directories: u64,
    /// Some of the files.
    pub paths: Vec<Shown>,
}

/// A path in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shown(#[serde(with = "path_text::json")] pub RelPath);

impl fmt::Display for HoldReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hold_id, files, directories, since, paths, .. } = self;
        write!(f, "hold.{hold_id}: files {files} directories {directories} since {since}")?;
        paths.iter().try_for_each(|path| write!(f, "\nhold.{hold_id}.path: {}", path.0))
    }
}

/// All lines of `HELD`.
pub(crate) fn list_text(holds: &[HoldReport]) -> String {
    let mut text = format!("OK  {} holds\n", holds.len());
    for hold in holds {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{hold}");
    }
    text
}

/// Reads what follows `APPROVE` or `REJECT`.
pub(crate) fn parse(verdict: Verdict, rest: &[u8]) -> Result<Request, Refusal> {
    let which = match str::from_utf8(rest).unwrap_or_default() {
        all if all.eq_ignore_ascii_case("all") => Some(Which::All),
        id => HoldId::parse(id).map(Which::One),
    };
    which.map(|which| Request::Decide(verdict, which)).ok_or_else(|| {
        let word = verdict.word();
        Refusal::new(Code::BadRequest, format!("say {word} id or {word} all; HELD lists the ids"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_listed_with_some_paths() {
        let path = RelPath::new(&b"d/caf\xe9"[..]).unwrap();
        let hold = HoldReport {
            hold_id: "node2-1".to_owned(),
            node_id: "node2".to_owned(),
            since: 12,
            files: 300,
            directories: 4,
            paths: vec![Shown(path)],
        };
        assert_eq!(
            list_text(std::slice::from_ref(&hold)),
            "OK  1 holds\nhold.node2-1: files 300 directories 4 since 12\nhold.node2-1.path: d/caf\\xe9\n"
        );
        let json = serde_json::to_string(&hold).unwrap();
        assert_eq!(serde_json::from_str::<HoldReport>(&json).unwrap(), hold);
    }

    #[test]
    fn one_or_all_are_decided() {
        let id = HoldId::parse("node-a.b-12").unwrap();
        assert_eq!(
            parse(Verdict::Reject, b"node-a.b-12"),
            Ok(Request::Decide(Verdict::Reject, Which::One(id)))
        );
        assert_eq!(
            parse(Verdict::Approve, b"ALL"),
            Ok(Request::Decide(Verdict::Approve, Which::All))
        );
        for bad in [&b""[..], b"a b", b"../x", b"\xff", &[b'a'; 80]] {
            assert_eq!(parse(Verdict::Approve, bad).unwrap_err().code, Code::BadRequest);
        }
    }
}
