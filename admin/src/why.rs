//! Why a path is as it is, in sentences: a pure function of the facts.

use pickbox_store::why::{
    Agreed, Disk, Kind, NodeFacts, Program, Reason, Stands, Thing, WhyReport, error_words,
};

/// The sentences, a line each; each line ends with a newline.
#[must_use]
pub fn text(report: &WhyReport) -> String {
    let mut lines = vec![format!("{} on {}", report.path, report.node)];
    match (&report.agreed, &report.deleted) {
        (Some(agreed), _) => lines.extend(agreed_lines(agreed)),
        (None, Some(deleted)) => lines.push(format!(
            "The log has nothing there: {} deleted it at index {}, {}.",
            deleted.author,
            deleted.index,
            date(deleted.wall_ms)
        )),
        (None, None) => lines.push("The log has never had anything there, or not for long.".into()),
    }
    lines.push(disk_line("In this folder", &report.here));
    lines.extend(report.here.reasons.iter().map(reason));
    for (name, facts) in &report.others {
        let Some(facts) = facts else {
            lines.push(format!("{name} cannot be reached, or does not answer."));
            continue;
        };
        lines.push(other_line(name, report.agreed.as_ref(), facts));
        lines.extend(facts.reasons.iter().map(|one| format!("{name}: {}", reason(one))));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn agreed_lines(agreed: &Agreed) -> Vec<String> {
    let Agreed { thing, author, changed, wall_ms, mtime, version } = agreed;
    let when = wall_ms.map_or(String::new(), |wall_ms| format!(", {}", date(wall_ms)));
    let modified = mtime
        .and_then(|secs| u64::try_from(secs).ok())
        .map_or(String::new(), |secs| format!("; modified {}", date(secs.saturating_mul(1000))));
    let what = of_thing(thing);
    let mut lines = vec![format!(
        "The log has {what}: {author} wrote it at index {}{when}{modified}.",
        thing.index
    )];
    if *changed > thing.index {
        lines.push(format!("Its name, mode, owner or time was changed at index {changed}."));
    }
    let seen: Vec<String> = version.iter().map(|(node, at)| format!("{node} {at}")).collect();
    lines.push(format!("It has seen the changes of {}.", seen.join(", ")));
    lines
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a directory",
        Kind::Symlink => "a symlink",
        Kind::Special => "a pipe, socket or device",
    }
}

fn of_thing(thing: &Thing) -> String {
    match &thing.sha256 {
        Some(sha256) => format!("a file of {} bytes, SHA-256 {sha256}", thing.size),
        None => kind(thing.kind).to_owned(),
    }
}

fn of_stands(stands: &Stands) -> String {
    match stands.kind {
        Kind::File => format!("a file of {} bytes", stands.size),
        other => kind(other).to_owned(),
    }
}

fn disk_line(place: &str, facts: &NodeFacts) -> String {
    match &facts.disk {
        Disk::Nothing => format!("{place} stands nothing."),
        Disk::AsAgreed(_) => format!("{place} it stands as the log has it."),
        Disk::Other(stands) => {
            format!("{place} stands {}, which is not what the log has.", of_stands(stands))
        }
        Disk::Unreadable(number) => format!("{place} it cannot be seen: {}.", error_words(*number)),
    }
}

fn other_line(name: &str, agreed: Option<&Agreed>, facts: &NodeFacts) -> String {
    let here = agreed.map(|agreed| &agreed.thing);
    let line = disk_line(&format!("In the folder of {name}"), facts);
    match &facts.version {
        version if version.as_ref() == here => line,
        Some(version) => format!(
            "{line} The log there, applied up to {}, has {} of index {}.",
            facts.applied,
            of_thing(version),
            version.index
        ),
        None => {
            format!("{line} The log there, applied up to {}, has nothing there.", facts.applied)
        }
    }
}

fn programs(by: &[Program], hidden: bool) -> String {
    let mut names: Vec<String> =
        by.iter().map(|program| format!("{} (pid {})", program.name, program.pid)).collect();
    if names.is_empty() && hidden {
        return "a process that this daemon may not see; `pickbox why` on its host tells which, \
                asked by root or by the user of that process"
            .to_owned();
    }
    if hidden {
        names.push("perhaps others that may not be seen".to_owned());
    }
    names.join(", ")
}

/// One sentence or two.
fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Starting => "The node starts: its folder is not compared yet.".to_owned(),
        Reason::Standstill(why) => format!("The node places and proposes nothing: {why}."),
        Reason::NoLeader => "No majority can be reached: it is committed when there is one.".into(),
        Reason::NotSeen => "It is not in the log: the watcher has not told of it yet.".to_owned(),
        Reason::ChangedSince => "It changed since the watcher told of it.".to_owned(),
        Reason::LookedAtAgain => "It is being looked at once more.".to_owned(),
        Reason::MovedAway => "It left this place a moment ago, perhaps to another.".to_owned(),
        Reason::NotProposed => "A change made here waits for its turn to be proposed.".to_owned(),
        Reason::Proposed => "A change made here is proposed and not committed yet.".to_owned(),
        Reason::Offered(how) => format!("A change made here is large: {how}."),
        Reason::Open { by, hidden } => format!(
            "It is open for writing by {}; what is written is replicated when it is closed, or as it is \
             after 30 s.",
            programs(by, *hidden)
        ),
        Reason::FormerOpen => {
            "A program still has the version open that stood there before; what it \
                               writes becomes a conflict copy."
                .to_owned()
        }
        Reason::Weighed => "It was deleted here, and is weighed with what else is.".to_owned(),
        Reason::Held(id) => format!(
            "Its deletion is held for a decision: `pickbox approve {id}` or `pickbox reject {id}`."
        ),
        Reason::Ignored { file, line, pattern } => {
            format!("It is ignored: line {line} of {file} says so ({pattern}).")
        }
        Reason::Special(path) => {
            format!("{path} is a pipe, socket or device: those are not replicated.")
        }
        Reason::Mounted(path) => {
            format!("Another file system is mounted at {path}: it is left alone.")
        }
        Reason::Unreadable(path, number) => {
            format!("{path} cannot be read: {}.", error_words(*number))
        }
        Reason::TooLong(path) => {
            format!("{path} is longer than 4,095 bytes: it stays on this node alone.")
        }
        Reason::Refused(why) => format!("The log does not take it: {why}."),
        Reason::Placing => "What the log has is about to be placed.".to_owned(),
        Reason::EditFirst => "A change made in that folder goes first.".to_owned(),
        Reason::Together => "A large file of the same repository goes first.".to_owned(),
        Reason::Blocked(path, number) => {
            format!("It cannot be placed, at {path}: {}.", error_words(*number))
        }
        Reason::Content(why) => format!("It waits: {why}."),
        Reason::CopyOf(path) => format!(
            "It is a conflict copy of {path}: `pickbox resolve` ends that, or merge and delete it."
        ),
        Reason::Copies(paths) => {
            format!("It has conflict copies, `pickbox resolve` ends that: {}.", paths.join(", "))
        }
    }
}

fn date(wall_ms: u64) -> String {
    let time = i64::try_from(wall_ms).ok();
    let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(
        || "at an unknown time".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(disk: Disk, reasons: Vec<Reason>) -> NodeFacts {
        NodeFacts { applied: 9, placed: 9, version: Some(thing()), disk, reasons }
    }

    fn thing() -> Thing {
        Thing { index: 7, kind: Kind::File, size: 3, sha256: Some("ab".repeat(32)) }
    }

    fn stands() -> Stands {
        Stands { kind: Kind::File, size: 5, mtime: 0, ino: 1, dev: 2 }
    }

    fn report() -> WhyReport {
        WhyReport {
            path: "docs/a".to_owned(),
            node: "node1".to_owned(),
            agreed: Some(Agreed {
                thing: thing(),
                author: "node2".to_owned(),
                changed: 8,
                wall_ms: Some(1_700_000_000_000),
                mtime: Some(1_600_000_000),
                version: vec![("node1".to_owned(), 3), ("node2".to_owned(), 7)],
            }),
            deleted: None,
            here: facts(Disk::AsAgreed(stands()), Vec::new()),
            others: vec![("node2".to_owned(), None)],
        }
    }

    /// A story of one path, as people read it.
    #[test]
    fn facts_become_sentences() {
        let mut report = report();
        let hash = "ab".repeat(32);
        assert_eq!(
            text(&report),
            format!(
                "docs/a on node1\n\
                 The log has a file of 3 bytes, SHA-256 {hash}: node2 wrote it at index 7, 2023-11-14 \
                 22:13:20Z; modified 2020-09-13 12:26:40Z.\n\
                 Its name, mode, owner or time was changed at index 8.\n\
                 It has seen the changes of node1 3, node2 7.\n\
                 In this folder it stands as the log has it.\n\
                 node2 cannot be reached, or does not answer.\n"
            )
        );
        report.here = facts(Disk::Other(stands()), vec![Reason::NotProposed, Reason::NoLeader]);
        let mut other = facts(Disk::Nothing, vec![Reason::Blocked("docs".to_owned(), 1)]);
        other.version = None;
        report.others = vec![("node2".to_owned(), Some(other))];
        let text = text(&report);
        assert!(text.contains("In this folder stands a file of 5 bytes, which is not"), "{text}");
        assert!(text.contains("\nNo majority can be reached"), "{text}");
        assert!(text.contains("applied up to 9, has nothing there.\nnode2: It cannot be placed, at docs: immutable"), "{text}");
    }

    #[test]
    fn who_has_it_open_is_named_as_far_as_it_is_known() {
        let open = |by: Vec<Program>, hidden| reason(&Reason::Open { by, hidden });
        let vim = || vec![Program { pid: 77, name: "vim".to_owned() }];
        assert!(open(vim(), false).contains("by vim (pid 77);"));
        assert!(open(vim(), true).contains("by vim (pid 77), perhaps others"));
        assert!(open(Vec::new(), true).contains("by a process that this daemon may not see"));
    }

    #[test]
    fn a_deletion_is_told_with_who_and_when() {
        let mut report = report();
        report.agreed = None;
        let (index, author) = (12, "node3".to_owned());
        report.deleted =
            Some(pickbox_store::why::Deleted { index, author, wall_ms: 1_700_000_000_000 });
        let text = text(&report);
        assert!(text.contains("node3 deleted it at index 12, 2023-11-14 22:13:20Z."), "{text}");
    }
}
