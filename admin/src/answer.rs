//! A reply becomes bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::command::Form;
use crate::limits::ANSWER_BYTES_MAX;
use crate::node::{Code, Piece, Refusal, Reply};
use crate::{holds, join_tokens, why};

/// The answer to `HELP`.
pub(crate) const HELP: &str = "\
OK one request a line; answers are OK ... or ERROR code: text
STATUS                    how the cluster is, for people
STATUS json               the same on one line, for programs
FORWARD {json}            commit op (write|delete), path, data (base64), hash, node_id, sequence
MEMBERS                   who belongs to the cluster, a line each
MEMBERS json              the same on one line, for programs
ADD_VOTER id address      add a member that votes once it has caught up: ADD_VOTER node4 127.0.0.1:8004
ADD_LEARNER id address    add a member that follows and does not vote
REMOVE id                 take a member out
REPLACE id new-id new-address  put another node in a member's place
PROMOTE id                make a learner a voter
DEMOTE id                 make a voter a learner
MOVE id address           a member is somewhere else now
TRANSFER [id]             hand leadership to a voter
TOKEN CREATE [for NAME] [ttl DURATION]  make a line that lets one node join, within the hour unless said
TOKEN LIST                who may still join; TOKEN LIST json for programs
TOKEN REVOKE id           end one of these
ROTATE_KEY                give this node a new key; its former one counts no more
LOG path                  the versions of a file
CAT [+OFFSET] path@index  a version's content, base64
FIND sha256               where content is or was
CONFLICTS [after KEY]     who lost against whom, and where the loser is; KEY is the \"next\" of the page before
RESOLVE ours|theirs|both [+INDEX,INDEX] path  end a conflict: keep the file, its copy, or both
HELD                      deletions that this node holds until somebody decides; HELD json for programs
APPROVE id|all            replicate them
REJECT id|all             undo them: what was deleted is put back
LOCAL LOG|CAT|FIND|CONFLICTS ...  the same from what this node has, at once: perhaps old, but without a majority too
WHY [+json] path          why it is as it is: here, on the others, in the log
FLUSH [timeout SECONDS]   answers OK N when all that changed in this node's folder before is committed
WAIT [N] [all] [timeout SECONDS]  answers OK N when everything up to N (or up to now) stands in this
                          node's folder, or in those of all members
SESSION                   as the first line: keep the connection open
AUTH token                as the first line, from another host: all that follows is allowed
HELP                      this
STATUS, MEMBERS and HELP are for every user of this host; the rest is for the user that runs this node,
root, and the users of its admin group (pickbox, unless it was started otherwise).
";

/// The answer to `SESSION`.
pub(crate) const SESSION: &str = "OK session\n";

/// The lines of an answer, ended by a newline.
pub(crate) fn render(result: Result<Reply, Refusal>, form: Form) -> Vec<u8> {
    let text = result.and_then(|reply| render_reply(&reply, form));
    match text {
        Ok(text) if text.len() > ANSWER_BYTES_MAX => refusal(&Refusal::new(
            Code::TooLarge,
            format!("the answer is over {ANSWER_BYTES_MAX} bytes"),
        )),
        Ok(text) => text.into_bytes(),
        Err(reason) => refusal(&reason),
    }
}

/// Most characters of a refusal: some repeat what the client said.
const REFUSAL_CHARS_MAX: usize = 1000;

/// `ERROR code: text`, kept to one line that a terminal can show, whatever the text holds.
pub(crate) fn refusal(reason: &Refusal) -> Vec<u8> {
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    let text: String = reason.to_string().chars().map(shown).take(REFUSAL_CHARS_MAX).collect();
    format!("ERROR {text}\n").into_bytes()
}

fn render_reply(reply: &Reply, form: Form) -> Result<String, Refusal> {
    match (reply, form) {
        (Reply::Status(report), Form::Text) => Ok(report.to_text()),
        (Reply::Status(report), Form::Json) => json(report).map(|text| format!("{text}\n")),
        (Reply::Status(report), Form::MembersText) => Ok(report.members_text()),
        (Reply::Status(report), Form::MembersJson) => {
            json(&report.members).map(|text| format!("{text}\n"))
        }
        (Reply::Why(report), Form::Text) => Ok(format!("OK {}", why::text(report))),
        (Reply::Why(report), _) => json(report).map(|text| format!("OK {text}\n")),
        (Reply::UpTo { index }, _) => Ok(format!("OK {index}\n")),
        (Reply::Committed { index }, _) => Ok(format!("OK index {index}\n")),
        (Reply::Changed { number, change }, _) => Ok(format!("OK member {number}: {change}\n")),
        (Reply::Leads(name), _) => Ok(format!("OK leader {name}\n")),
        (Reply::Token(line), _) => Ok(format!("OK {}\n", *line.0)),
        (Reply::Tokens(list), Form::Text) => Ok(join_tokens::list_text(list)),
        (Reply::Tokens(list), _) => json(list).map(|text| format!("{text}\n")),
        (Reply::Revoked(id), _) => Ok(format!("OK token {id} revoked\n")),
        (Reply::KeyChanged(key), _) => Ok(format!("OK key {key}\n")),
        (Reply::Versions(list) | Reply::Found(list), _) => {
            json(list).map(|text| format!("OK {text}\n"))
        }
        (Reply::Conflicts(list), _) => json(list).map(|text| format!("OK {text}\n")),
        (Reply::Holds(list), Form::Text) => Ok(holds::list_text(list)),
        (Reply::Holds(list), _) => json(list).map(|text| format!("{text}\n")),
        (Reply::Decided(holds::Verdict::Approve, count), _) => {
            Ok(format!("OK {count} deletions approved: they are replicated now\n"))
        }
        (Reply::Decided(holds::Verdict::Reject, count), _) => {
            Ok(format!("OK {count} deletions rejected: what was deleted is put back\n"))
        }
        (Reply::Piece(piece), _) => {
            json(&PieceFields::from(piece)).map(|text| format!("OK {text}\n"))
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value)
        .map_err(|error| Refusal::new(Code::Unsupported, format!("the answer is no JSON: {error}")))
}

/// A [`Piece`] as JSON has it.
#[derive(Serialize)]
struct PieceFields {
    size: u64,
    sha256: Option<String>,
    offset: u64,
    data: String,
}

impl From<&Piece> for PieceFields {
    fn from(piece: &Piece) -> Self {
        let Piece { size, sha256, offset, data } = piece;
        let (size, offset) = (*size, *offset);
        Self { size, sha256: sha256.clone(), offset, data: STANDARD.encode(data) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{VersionReport, VersionState};
    use crate::status::tests::healthy;
    use pickbox_store::name::RelPath;

    fn text(result: Result<Reply, Refusal>, form: Form) -> String {
        String::from_utf8(render(result, form)).unwrap()
    }

    #[test]
    fn status_json_is_one_line() {
        let reply = || Ok(Reply::Status(Box::new(healthy())));
        let answer = text(reply(), Form::Json);
        assert!(answer.starts_with('{') && answer.ends_with("}\n"));
        assert_eq!(answer.lines().count(), 1);
        assert!(text(reply(), Form::Text).lines().count() > 10);
    }

    #[test]
    fn members_are_a_part_of_the_status() {
        let reply = || Ok(Reply::Status(Box::new(healthy())));
        let answer = text(reply(), Form::MembersText);
        assert_eq!(answer.lines().next(), Some("OK  3 members  3 voters  leader node1"));
        assert_eq!(answer.lines().count(), 4);
        let answer = text(reply(), Form::MembersJson);
        let read: Vec<crate::status::MemberReport> = serde_json::from_str(&answer).unwrap();
        assert_eq!(read, healthy().members);
    }

    #[test]
    fn a_change_is_told_with_what_follows_from_it() {
        use crate::members::MemberChange;
        use crate::node::{NodeName, PeerAddress};

        let id = |text: &str| NodeName::parse(text).unwrap();
        let address = PeerAddress::parse("127.0.0.1:8004").unwrap();
        let change = MemberChange::Replace { old: id("node3"), id: id("node4"), address };
        assert_eq!(
            text(Ok(Reply::Changed { number: 7, change }), Form::Json),
            "OK member 7: it votes once it has caught up, and node3 goes then\n"
        );
        assert_eq!(text(Ok(Reply::Leads("node2".into())), Form::Json), "OK leader node2\n");
    }

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        let reason = Refusal::new(Code::NotFound, "no\nsuch\r\nfile");
        assert_eq!(text(Err(reason), Form::Json), "ERROR not-found: no such  file\n");
        let reason = Refusal::new(Code::BadRequest, "\u{1b}[2J\u{9b}\u{7f}x");
        assert_eq!(text(Err(reason), Form::Json), "ERROR bad-request:  [2J  x\n");
    }

    /// fault 62: what a client says is not said back at any length. Source: the target `admin`.
    #[test]
    fn an_error_is_short_whatever_it_quotes() {
        let long = "\u{1}".repeat(1 << 20);
        for field in ["op", "node_id", "path", "x"] {
            let json = serde_json::json!({ "op": "?", "path": "a", field: long }).to_string();
            let refusal = crate::forward::Forward::parse(json.as_bytes()).unwrap_err();
            assert!(text(Err(refusal), Form::Json).len() < 4096, "{field}");
        }
        let json = format!("{{\"{}\":1}}", "x".repeat(1 << 20));
        let refusal = crate::forward::Forward::parse(json.as_bytes()).unwrap_err();
        assert!(text(Err(refusal), Form::Json).len() < 4096);
    }

    #[test]
    fn versions_and_pieces_are_json_after_ok() {
        let version = VersionReport {
            path: RelPath::new(&b"caf\xe9"[..]).unwrap(),
            index: 7,
            change: "write".to_owned(),
            node_id: "node1".to_owned(),
            size: Some(2),
            sha256: None,
            mtime: None,
            state: VersionState::Kept,
        };
        let answer = text(Ok(Reply::Versions(vec![version.clone()])), Form::Json);
        let read: Vec<VersionReport> =
            serde_json::from_str(answer.strip_prefix("OK ").unwrap()).unwrap();
        assert_eq!(read, vec![version]);
        let piece = Piece { size: 2, sha256: None, offset: 0, data: b"hi".to_vec() };
        assert_eq!(
            text(Ok(Reply::Piece(piece)), Form::Json),
            "OK {\"size\":2,\"sha256\":null,\"offset\":0,\"data\":\"aGk=\"}\n"
        );
    }

    #[test]
    fn an_answer_over_the_bound_is_an_error() {
        let piece = Piece { size: 0, sha256: None, offset: 0, data: vec![0; ANSWER_BYTES_MAX] };
        assert!(text(Ok(Reply::Piece(piece)), Form::Json).starts_with("ERROR too-large"));
    }
}
