//! `CONFLICTS` and `RESOLVE`: who lost against whom, and the end of it.
//!
//! A page of conflicts is JSON, a [`ConflictList`]; the next page is asked for with
//! `CONFLICTS after KEY`, where KEY is the `next` of the one before.

use pickbox_store::engine::ports::ConflictKey;
use pickbox_store::name::RelPath;
use serde::{Deserialize, Serialize};

use crate::command::{bad, parse_number, parse_path, split_word};
use crate::node::{Look, Refusal, Request, Take};
use crate::path_text;

/// A page of the open conflicts, those with a copy first, then those whose loser is in the history
/// only; each by age.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictList {
    /// How many conflicts with a copy are open in all.
    pub open: u64,
    /// These of them, at most 100.
    pub conflicts: Vec<ConflictReport>,
    /// What to ask for the next page with; none: this was the last.
    pub next: Option<String>,
}

/// One conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictReport {
    /// The file that kept the name, where it is now; if it is gone, where it was.
    #[serde(with = "path_text::json")]
    pub path: RelPath,
    /// What it holds now; none: it is gone.
    pub winner: Option<SideReport>,
    /// The conflict copy; none: the loser is in the history only (`CAT path@index` shows it).
    pub copy: Option<CopyPath>,
    /// The version that lost, as it is now.
    pub loser: SideReport,
    /// The log index of the entry that decided it.
    pub since: u64,
    /// When that was, by the clock of the node that lost, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Whether the two still hold different things.
    pub differs: bool,
}

/// The path of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CopyPath(#[serde(with = "path_text::json")] pub RelPath);

/// One side of a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideReport {
    /// The log index of the change that made this version.
    pub index: u64,
    /// The node on which it was made.
    pub node_id: String,
    /// `file`, `directory` or `symlink`.
    pub kind: String,
    /// Size in bytes, if it is a file.
    pub size: Option<u64>,
    /// SHA-256 of the content in hex, if it is a file.
    pub sha256: Option<String>,
}

/// What stands behind `CONFLICTS`.
pub(crate) fn parse_list(rest: &[u8]) -> Result<Look, Refusal> {
    if rest.is_empty() {
        return Ok(Look::Conflicts(None));
    }
    let (word, key) = split_word(rest);
    let key = str::from_utf8(key).ok().and_then(ConflictKey::parse);
    match key {
        Some(key) if word.eq_ignore_ascii_case(b"after") => Ok(Look::Conflicts(Some(key))),
        _ => Err(bad("say CONFLICTS, or CONFLICTS after KEY with the \"next\" of the page before")),
    }
}

/// What stands behind `RESOLVE`.
pub(crate) fn parse_resolve(rest: &[u8]) -> Result<Request, Refusal> {
    const USAGE: &str = "say RESOLVE ours path, RESOLVE theirs path or RESOLVE both path; before the \
                         path +N,M for the versions that were seen, of the file and of its copy";
    let (side, rest) = split_word(rest);
    let take = str::from_utf8(side).ok().and_then(Take::parse).ok_or_else(|| bad(USAGE))?;
    let (seen, path) = match rest.strip_prefix(b"+") {
        Some(text) => {
            let (pair, path) = split_word(text);
            (Some(parse_pair(pair).ok_or_else(|| bad(USAGE))?), path)
        }
        None => (None, rest),
    };
    Ok(Request::Resolve { path: parse_path(path)?, take, seen })
}

fn parse_pair(text: &[u8]) -> Option<(u64, u64)> {
    let at = text.iter().position(|&byte| byte == b',')?;
    let (left, right) = text.split_at(at);
    Some((parse_number(left)?, parse_number(right.get(1..)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, parse};
    use crate::node::Code;

    fn request(line: &str) -> Request {
        match parse(line.as_bytes()).unwrap() {
            Command::Ask(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_a_conflict_is_read() {
        let path = RelPath::new(&b"a b"[..]).unwrap();
        for (line, take, seen) in [
            ("RESOLVE ours a b", Take::Ours, None),
            ("resolve Theirs  +3,40 a b", Take::Theirs, Some((3, 40))),
            ("RESOLVE both a b", Take::Both, None),
        ] {
            let asked = request(line);
            assert!(asked.is_change(), "half of it must not be acted upon: {line}");
            assert_eq!(asked, Request::Resolve { path: path.clone(), take, seen }, "{line}");
        }
        for line in [
            "RESOLVE",
            "RESOLVE a",
            "RESOLVE mine a",
            "RESOLVE ours",
            "RESOLVE ours +3 a",
            "RESOLVE ours +3,x a",
            "RESOLVE ours +3,-4 a",
            "RESOLVE ours ../a",
            "CONFLICTS json",
            "CONFLICTS after",
            "CONFLICTS after c.1",
            "CONFLICTS after c.1.+2.3",
            "LOCAL RESOLVE ours a",
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().code, Code::BadRequest, "{line}");
        }
    }

    #[test]
    fn a_page_is_asked_for_by_the_key_that_was_shown() {
        for key in ["c.0.12.1", "h.7.0"] {
            let Request::Read(Look::Conflicts(Some(parsed)), _) =
                request(&format!("CONFLICTS after {key}"))
            else {
                panic!("{key}")
            };
            assert_eq!(parsed.to_string(), key);
        }
    }
}
