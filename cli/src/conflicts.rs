//! `pickbox conflicts` and `pickbox resolve`: what lost, and which side stays.

use std::path::PathBuf;

use argh::FromArgs;
use pickbox_admin::conflicts::{ConflictList, ConflictReport, CopyPath, SideReport};
use pickbox_admin::node::Take;
use pickbox_admin::{Code, Refusal};
use pickbox_store::engine::ports::{Answer, ConflictLine, ConflictPage, ConflictSide};
use pickbox_store::op::Refusal as Cannot;
use pickbox_store::record::Body;

use crate::ask::{ADDRESS_DEFAULT, Output, ask_ok, one_line, parse, target};
use crate::exit::{CliError, Exit};
use crate::output::{show, table};

/// Pages that are asked for: more conflicts than anybody reads.
const PAGES_MAX: usize = 10_000;

fn default_address() -> String {
    ADDRESS_DEFAULT.to_owned()
}

/// List the conflicts that nobody has ended: what kept the name, what lost, and where that is now.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "conflicts")]
pub(crate) struct ConflictsArguments {
    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// tell what this node has, perhaps old: also without a majority
    #[argh(switch)]
    local: bool,

    /// print JSON: one list
    #[argh(switch)]
    json: bool,
}

/// End a conflict. What goes is in the history: `pickbox log PATH` finds it.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "resolve")]
pub(crate) struct ResolveArguments {
    /// the file, or, if it has several copies, the copy; as Pickbox prints it (a backslash is written
    /// twice)
    #[argh(positional)]
    path: String,

    /// ours: the file stays, the copy goes; theirs: what the copy holds takes the file's name; both: both
    /// stay, the copy as a file like any other
    #[argh(option)]
    take: String,

    /// the indices that `pickbox conflicts` showed for the file and for its copy, as N,M: nothing is done
    /// if either has changed since (default: since this command looked)
    #[argh(option)]
    seen: Option<String>,

    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// print JSON: an object with the index of the change
    #[argh(switch)]
    json: bool,
}

pub(crate) fn list_conflicts(arguments: &ConflictsArguments) -> Result<Exit, CliError> {
    let ConflictsArguments { addr, token_file, local, json } = arguments;
    let target = target(addr, token_file.as_deref())?;
    let prefix = if *local { "LOCAL " } else { "" };
    let (mut all, mut behind) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let answer = ask_ok(target.clone(), &format!("{prefix}CONFLICTS{behind}"))?;
        let page: ConflictList = parse(&answer)?;
        all.extend(page.conflicts);
        let Some(next) = page.next else { break };
        behind = format!(" after {next}");
    }
    match Output::from(*json) {
        Output::Json => {
            let text =
                serde_json::to_string(&all).map_err(|error| CliError::Answer(error.to_string()))?;
            show(format!("{text}\n").as_bytes())?;
        }
        Output::People => show(conflict_table(&all).as_bytes())?,
    }
    Ok(Exit::Ok)
}

fn conflict_table(conflicts: &[ConflictReport]) -> String {
    if conflicts.is_empty() {
        return "no conflicts\n".to_owned();
    }
    let head = ["FILE", "NODE", "SIZE", "COPY", "LOST BY", "SIZE", "WHEN", "STATE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for conflict in conflicts {
        let (file, node, size) = match &conflict.winner {
            Some(side) => {
                (format!("{}@{}", conflict.path, side.index), side.node_id.clone(), weight(side))
            }
            None => (format!("{} (gone)", conflict.path), "-".to_owned(), "-".to_owned()),
        };
        let loser = &conflict.loser;
        let (copy, state) = match &conflict.copy {
            Some(CopyPath(copy)) if conflict.differs => (copy.to_string(), "differ"),
            Some(CopyPath(copy)) => (copy.to_string(), "equal now"),
            None => (conflict.path.to_string(), "in history"),
        };
        rows.push(vec![
            file,
            node,
            size,
            format!("{copy}@{}", loser.index),
            loser.node_id.clone(),
            weight(loser),
            date(conflict.wall_ms),
            state.to_owned(),
        ]);
    }
    table(&rows)
}

/// A wall clock in milliseconds since 1970, in UTC.
fn date(wall_ms: u64) -> String {
    let time =
        i64::try_from(wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn weight(side: &SideReport) -> String {
    side.size.map_or_else(|| side.kind.clone(), |size| size.to_string())
}

pub(crate) fn resolve(arguments: &ResolveArguments) -> Result<Exit, CliError> {
    let ResolveArguments { path, take, seen, addr, token_file, json } = arguments;
    if Take::parse(take).is_none() {
        return Err(CliError::Usage(format!(
            "--take '{}' is none of ours (the file stays), theirs (its copy takes the name) and both.",
            take.escape_debug()
        )));
    }
    let seen = seen.as_ref().map(|seen| format!("+{} ", one_line(seen))).unwrap_or_default();
    let line = format!("RESOLVE {take} {seen}{}", one_line(path));
    let answer = ask_ok(target(addr, token_file.as_deref())?, &line)?;
    let Some(index) = answer.strip_prefix("index ") else {
        return Err(CliError::Answer(answer.chars().take(80).collect()));
    };
    match Output::from(*json) {
        Output::Json => show(format!("{{\"index\":{index}}}\n").as_bytes())?,
        Output::People => show(format!("resolved at index {index}\n").as_bytes())?,
    }
    Ok(Exit::Ok)
}

/// A page of the store as the admin protocol shows it.
pub(crate) fn list(page: ConflictPage) -> ConflictList {
    ConflictList {
        open: page.open,
        next: page.next.map(|key| key.to_string()),
        conflicts: page.conflicts.into_iter().map(report).collect(),
    }
}

fn report(line: ConflictLine) -> ConflictReport {
    ConflictReport {
        differs: line.differs(),
        path: line.path,
        winner: line.winner.map(side),
        copy: line.copy.map(CopyPath),
        loser: side(line.loser),
        since: line.since.get(),
        wall_ms: line.wall_ms,
    }
}

fn side(of: ConflictSide) -> SideReport {
    let (kind, size, sha256) = match of.body {
        Body::File { size, content } => ("file", Some(size), Some(content.to_string())),
        Body::Directory => ("directory", None, None),
        Body::Symlink { .. } => ("symlink", None, None),
    };
    let (index, node_id) = (of.index.get(), of.author);
    SideReport { index, node_id, kind: kind.to_owned(), size, sha256 }
}

/// Why a conflict was not ended, where that has words of its own; else the answer again.
pub(crate) fn unresolved(answer: Answer) -> Result<Refusal, Answer> {
    Ok(match answer {
        Answer::Changed => Refusal::new(
            Code::Changed,
            "the file or its copy is not what it was, or a change made here is on its way: nothing was \
             done; look at both (CONFLICTS) and say it again",
        ),
        Answer::Several(copies) => {
            let copies: Vec<String> = copies.iter().map(ToString::to_string).collect();
            let copies = copies.join(", ");
            Refusal::new(Code::Several, format!("it has several copies, name the one: {copies}"))
        }
        Answer::NotFound => Refusal::new(
            Code::NotFound,
            "no open conflict is there; CONFLICTS lists them. One whose loser is in the history only \
             needs no end: CAT path@index shows it",
        ),
        Answer::Refused(Cannot::NotEmpty) => Refusal::new(
            Code::IsADirectory,
            "what would go is a directory that holds something: move or delete that first, or take both",
        ),
        Answer::Refused(Cannot::Cycle) => Refusal::new(
            Code::IsADirectory,
            "the file lies inside its copy by now: move it out first, or take both",
        ),
        other => return Err(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pickbox_store::name::RelPath;

    fn a_conflict(copy: Option<&str>, differs: bool) -> ConflictReport {
        let side = |index, node: &str| SideReport {
            index,
            node_id: node.to_owned(),
            kind: "file".to_owned(),
            size: Some(index * 10),
            sha256: None,
        };
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        ConflictReport {
            path: path("a b"),
            winner: Some(side(4, "node1")),
            copy: copy.map(|copy| CopyPath(path(copy))),
            loser: side(7, "node2"),
            since: 7,
            wall_ms: 1_700_000_000_000,
            differs,
        }
    }

    #[test]
    fn conflicts_are_a_table() {
        assert_eq!(conflict_table(&[]), "no conflicts\n");
        let all = [a_conflict(Some("a b.conflict-node2-7"), true), a_conflict(None, true)];
        let text = conflict_table(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("a b@4") && lines[1].contains("a b.conflict-node2-7@7"),
            "{text}"
        );
        assert!(
            lines[1].contains("2023-11-14 22:13:20Z") && lines[1].ends_with("differ"),
            "{text}"
        );
        assert!(lines[2].ends_with("in history"), "{text}");
    }

    /// What is shown is what nc shows, and it comes back as it was.
    #[test]
    fn a_list_survives_its_json() {
        let conflicts = vec![a_conflict(Some("x"), false), a_conflict(None, true)];
        let list = ConflictList { open: 1, conflicts, next: Some("h.1.2".to_owned()) };
        let json = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<ConflictList>(&json).unwrap(), list);
    }
}
