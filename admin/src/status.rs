//! How a node and its cluster are: the report behind `STATUS` and `STATUS json`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use pickbox_store::name::RelPath;
use serde::{Deserialize, Serialize};

use crate::path_text;

/// One node's view at one moment. As JSON its fields keep these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// This node's name.
    pub node_id: String,
    /// Which cluster, in hex.
    pub cluster_id: String,
    /// Version of the program.
    pub version: String,
    /// The part it plays.
    pub role: Role,
    /// Whether it was a member once and is none any more.
    pub is_removed: bool,
    /// Whether a change of the members is not over yet: until it is, the former voters count too.
    pub is_changing: bool,
    /// The leader's name, when known.
    pub leader_id: Option<String>,
    /// The Raft term.
    pub term: u64,
    /// Highest index known to be committed.
    pub commit_index: u64,
    /// Up to here the namespace follows.
    pub applied_index: u64,
    /// Up to here everything stands in the folder.
    pub placed_index: u64,
    /// What is still to do on this node: the sum of [`StatusReport::pending_parts`]. Zero means that
    /// the directory on disk equals `root_digest`, up to edits made after this answer.
    pub pending: u64,
    /// What `pending` consists of.
    pub pending_parts: Pending,
    /// Some of what is pending or was left out, each with its reason.
    pub waiting: Vec<String>,
    /// What is to be known about the rules of `.pickboxignore`, a sentence each.
    #[serde(default)]
    pub ignoring: Vec<String>,
    /// The five paths for which the most bytes were replicated in the last hour.
    #[serde(default)]
    pub busiest: Vec<BusyPath>,
    /// What somebody should look after, a sentence each.
    pub alarms: Vec<String>,
    /// What is worth to be known of the folder and needs nobody, a sentence each.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Conflict copies that nobody has dealt with.
    pub conflicts: u64,
    /// The digest over all current files, in hex; equal on all nodes with an equal applied index.
    pub root_digest: String,
    /// All members, learners too, this node among them.
    pub members: Vec<MemberReport>,
    /// Counts since start, for measuring.
    pub counters: BTreeMap<String, u64>,
}

/// A path that costs much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusyPath {
    /// Where.
    #[serde(with = "path_text::json")]
    pub path: RelPath,
    /// Bytes that were replicated for it in the last hour, at least.
    pub bytes_per_hour: u64,
    /// The line that ignores it, for `.pickboxignore` at the top of the folder; none for a name
    /// that no line can say.
    pub ignore_line: Option<String>,
}

impl fmt::Display for BusyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes in the last hour", self.path, self.bytes_per_hour)?;
        match &self.ignore_line {
            Some(line) => write!(f, "; the line in .pickboxignore that ends it: {line}"),
            None => Ok(()),
        }
    }
}

/// The part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows, or waits for a leader.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows and does not vote yet.
    Learner,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
        })
    }
}

/// What is still to do on a node. Each is a count of things, but the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Bytes in the inotify queue.
    pub unread_bytes: u64,
    /// Paths to be looked at.
    pub dirty: u64,
    /// Changes found here whose place in the log is not known yet.
    pub undecided: u64,
    /// Committed changes that do not stand in the folder yet.
    pub unplaced: u64,
    /// Changes held for a decision by people.
    pub held: u64,
    /// Paths that cannot be placed, for a reason on this node.
    pub blocked: u64,
    /// Files that a program still has open for writing.
    pub open: u64,
}

impl Pending {
    /// The sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.dirty, self.undecided, self.unplaced, self.held, self.blocked, self.open]
            .into_iter()
            .fold(self.unread_bytes, u64::saturating_add)
    }
}

/// One member as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its name.
    pub node_id: String,
    /// Its internal number: a node that comes back without its state has the same name and a new
    /// number.
    pub number: u64,
    /// Where its peers reach it.
    pub address: String,
    /// The fingerprint of its key, 64 hex digits; none: it is listed, and was never there.
    pub key: Option<String>,
    /// Whether it votes.
    pub role: MemberRole,
    /// While it is staging: the number of the member whose place it takes, which may be gone already.
    pub replaces: Option<u64>,
    /// Whether messages reach it now.
    pub connected: bool,
    /// Whether it leads, as far as this node knows.
    pub leads: bool,
    /// What is known to be in its log, if this node leads.
    pub matched: Option<u64>,
    /// What it has applied, if this node knows: the leader knows of all, others of themselves.
    pub applied: Option<u64>,
    /// What stands in its folder, if this node knows.
    pub placed: Option<u64>,
}

/// Whether a member votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// It does.
    Voter,
    /// It follows only.
    Learner,
    /// It will, once it has caught up.
    Staging,
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Staging => "staging",
        })
    }
}

/// The answer to "is everything well?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A leader, and every member is reached.
    Ok,
    /// Changes are accepted, but a member cannot be reached, something here is blocked, or there is
    /// an alarm.
    Degraded,
    /// No leader, or no majority of the voters is reached.
    NoQuorum,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::NoQuorum => "NO-QUORUM",
        })
    }
}

impl StatusReport {
    /// Whether all is well, from what this node knows.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (reached, all) = self.voters().fold((0_usize, 0_usize), |(reached, all), voter| {
            (reached + usize::from(voter.connected), all + 1)
        });
        if self.leader_id.is_none() || reached * 2 <= all {
            Verdict::NoQuorum
        } else if self.connected_count() < self.members.len()
            || self.pending_parts.blocked > 0
            || !self.alarms.is_empty()
        {
            Verdict::Degraded
        } else {
            Verdict::Ok
        }
    }

    fn voters(&self) -> impl Iterator<Item = &MemberReport> {
        self.members.iter().filter(|member| member.role == MemberRole::Voter)
    }

    /// How many members are reached, this node among them.
    #[must_use]
    pub fn connected_count(&self) -> usize {
        self.members.iter().filter(|member| member.connected).count()
    }

    /// The same without the names of files, for those whom the folder is not entrusted to.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        let words = "what they are called is for those who may read the folder";
        for lines in [&mut self.waiting, &mut self.notices] {
            if !lines.is_empty() {
                *lines = vec![format!("{} ({words})", lines.len())];
            }
        }
        self.ignoring.clear();
        self.busiest.clear();
        self
    }

    /// The first line of `STATUS`.
    #[must_use]
    pub fn verdict_line(&self) -> String {
        let digest =
            self.root_digest.get(..8).map_or(self.root_digest.clone(), |head| format!("{head}.."));
        format!(
            "{}  {}/{} nodes  index {}  root {digest}  {} pending  {} conflicts",
            self.verdict(),
            self.connected_count(),
            self.members.len(),
            self.index_words(),
            self.pending,
            self.conflicts,
        )
    }

    /// The commit index, and how far it has got as far as this node knows.
    fn index_words(&self) -> String {
        let placed: Option<Vec<u64>> = self.members.iter().map(|member| member.placed).collect();
        match placed.and_then(|placed| placed.into_iter().min()) {
            Some(lowest) if lowest >= self.commit_index => {
                format!("{} everywhere", self.commit_index)
            }
            Some(lowest) => format!("{} (everywhere up to {lowest})", self.commit_index),
            None if self.placed_index >= self.commit_index => format!("{} here", self.commit_index),
            None => format!("{} (here up to {})", self.commit_index, self.placed_index),
        }
    }

    /// All lines of `STATUS`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.verdict_line();
        text.push('\n');
        // Writing to a String cannot fail.
        let _ = self.write_lines(&mut text);
        text
    }

    /// All lines of `MEMBERS`.
    #[must_use]
    pub fn members_text(&self) -> String {
        let (all, voters) = (self.members.len(), self.voters().count());
        let leader = self.leader_id.as_deref().unwrap_or("unknown");
        let changing = if self.is_changing { "  changing" } else { "" };
        let mut text = format!("OK  {all} members  {voters} voters  leader {leader}{changing}\n");
        // Writing to a String cannot fail.
        let _ = self.write_members(&mut text);
        text
    }

    fn write_members(&self, out: &mut String) -> fmt::Result {
        self.members.iter().try_for_each(|member| {
            write!(out, "member.{}: {} {}", member.node_id, member.address, member.role)?;
            if let Some(number) = member.replaces {
                write!(out, " replaces {}", self.name_of(number))?;
            }
            writeln!(out, " {member}")
        })
    }

    /// The name of the member with this number; of one that is gone, the number.
    #[must_use]
    pub fn name_of(&self, number: u64) -> String {
        let found = self.members.iter().find(|member| member.number == number);
        found.map_or_else(|| format!("number {number}"), |member| member.node_id.clone())
    }

    fn write_lines(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "node_id: {}", self.node_id)?;
        writeln!(out, "cluster_id: {}", self.cluster_id)?;
        writeln!(out, "version: {}", self.version)?;
        writeln!(out, "role: {}", self.role)?;
        writeln!(out, "leader_id: {}", self.leader_id.as_deref().unwrap_or("unknown"))?;
        writeln!(out, "term: {}", self.term)?;
        writeln!(out, "commit_index: {}", self.commit_index)?;
        writeln!(out, "applied_index: {}", self.applied_index)?;
        writeln!(out, "placed_index: {}", self.placed_index)?;
        writeln!(out, "pending: {}", self.pending)?;
        self.waiting.iter().try_for_each(|line| writeln!(out, "waiting: {line}"))?;
        self.ignoring.iter().try_for_each(|line| writeln!(out, "ignore: {line}"))?;
        self.busiest.iter().try_for_each(|busy| writeln!(out, "busiest: {busy}"))?;
        self.alarms.iter().try_for_each(|line| writeln!(out, "alarm: {line}"))?;
        self.notices.iter().try_for_each(|line| writeln!(out, "notice: {line}"))?;
        writeln!(out, "conflicts: {}", self.conflicts)?;
        writeln!(out, "root_digest: {}", self.root_digest)?;
        writeln!(out, "members: {}", self.members.len())?;
        self.write_members(out)?;
        self.counters.iter().try_for_each(|(name, count)| writeln!(out, "counter.{name}: {count}"))
    }
}

/// How it is reached and how far it is; who it is and what it does is said before.
impl fmt::Display for MemberReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.connected { "connected" } else { "unreachable" })?;
        f.write_str(if self.leads { " leader" } else { "" })?;
        write!(f, " number {}", self.number)?;
        let known = [("matched", self.matched), ("applied", self.applied), ("placed", self.placed)];
        let mut known = known.into_iter().filter_map(|(name, index)| Some((name, index?)));
        known.try_for_each(|(name, index)| write!(f, " {name} {index}"))?;
        write!(f, " key {}", self.key.as_deref().unwrap_or("-"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A healthy three-node cluster, seen by its leader.
    pub(crate) fn healthy() -> StatusReport {
        let member = |number: u16| MemberReport {
            node_id: format!("node{number}"),
            number: number.into(),
            address: format!("127.0.0.1:{}", 8000 + number),
            key: (number != 3).then(|| format!("{number:064x}")),
            role: MemberRole::Voter,
            replaces: None,
            connected: true,
            leads: number == 1,
            matched: Some(18204),
            applied: Some(18204),
            placed: Some(18204),
        };
        StatusReport {
            node_id: "node1".to_owned(),
            cluster_id: "00".repeat(16),
            version: "0.1.0".to_owned(),
            role: Role::Leader,
            is_removed: false,
            is_changing: false,
            leader_id: Some("node1".to_owned()),
            term: 3,
            commit_index: 18204,
            applied_index: 18204,
            placed_index: 18204,
            pending: 0,
            pending_parts: Pending::default(),
            waiting: Vec::new(),
            ignoring: Vec::new(),
            busiest: Vec::new(),
            alarms: Vec::new(),
            notices: Vec::new(),
            conflicts: 0,
            root_digest: "9f3c21aa".repeat(4),
            members: (1..=3).map(member).collect(),
            counters: BTreeMap::from([("wal_syncs".to_owned(), 12)]),
        }
    }

    fn busy(path: &str) -> BusyPath {
        let path = RelPath::new(path.as_bytes()).unwrap();
        let ignore_line = Some(format!("/{path}"));
        BusyPath { path, bytes_per_hour: 1_048_576, ignore_line }
    }

    #[test]
    fn the_busiest_paths_come_with_the_line_to_paste() {
        let report = StatusReport { busiest: vec![busy("log/x")], ..healthy() };
        let line = "\nbusiest: log/x: 1048576 bytes in the last hour; the line in .pickboxignore \
                    that ends it: /log/x\n";
        assert!(report.to_text().contains(line), "{}", report.to_text());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["busiest"][0]["ignore_line"], "/log/x");
    }

    #[test]
    fn a_healthy_cluster_reads_ok() {
        let text = healthy().to_text();
        assert_eq!(
            text.lines().next().unwrap(),
            "OK  3/3 nodes  index 18204 everywhere  root 9f3c21aa..  0 pending  0 conflicts"
        );
        assert!(text.lines().skip(1).all(|line| line.contains(": ")), "{text}");
        let key = format!("{:064x}", 2);
        assert!(text.contains(&format!(
            "\nmember.node2: 127.0.0.1:8002 voter connected number 2 matched 18204 applied 18204 \
             placed 18204 key {key}\n"
        )));
        assert!(text.contains("placed 18204 key -\n"), "it was never there");
    }

    #[test]
    fn the_verdict_follows_from_who_is_reached() {
        let mut report = healthy();
        report.members[2].connected = false;
        assert_eq!(report.verdict(), Verdict::Degraded);
        report.members[1].connected = false;
        assert_eq!(report.verdict(), Verdict::NoQuorum);
        let mut report = healthy();
        report.leader_id = None;
        assert!(report.verdict_line().starts_with("NO-QUORUM  3/3 nodes"));
    }

    #[test]
    fn what_is_blocked_is_named() {
        let mut report = healthy();
        report.pending_parts.blocked = 1;
        report.waiting.push("a: no space left".to_owned());
        assert_eq!(report.verdict(), Verdict::Degraded);
        assert!(report.to_text().contains("\nwaiting: a: no space left\n"));
    }

    /// Source: fault 91.
    #[test]
    fn strangers_see_no_names() {
        assert_eq!(healthy().without_names(), healthy());
        let mut report = healthy();
        report.waiting = vec!["secret/a: no space left".to_owned(), "b: held".to_owned()];
        report.ignoring = vec!["secret/b: deleted elsewhere".to_owned()];
        report.busiest = vec![busy("secret/c")];
        let text = report.without_names().to_text();
        assert!(text.contains("\nwaiting: 2 (what "), "{text}");
        assert!(!text.contains("secret") && !text.contains("held"), "{text}");
    }

    #[test]
    fn an_alarm_degrades_and_is_shown() {
        let mut report = healthy();
        report.alarms.push("somebody should look".to_owned());
        assert_eq!(report.verdict(), Verdict::Degraded);
        assert!(report.to_text().contains("\nalarm: somebody should look\n"));
    }

    #[test]
    fn a_member_is_shown_with_whom_it_replaces() {
        let mut report = healthy();
        report.members[2].role = MemberRole::Staging;
        report.members[2].replaces = Some(2);
        let text = report.members_text();
        assert!(text.starts_with("OK  3 members  2 voters  leader node1\n"), "{text}");
        assert!(text.contains("member.node3: 127.0.0.1:8003 staging replaces node2 connected"));
        report.members[2].replaces = Some(9);
        assert!(report.to_text().contains("staging replaces number 9 connected number 3"));
        assert!(text.contains("member.node1: 127.0.0.1:8001 voter connected leader number 1 "));
    }

    #[test]
    fn what_is_not_everywhere_is_said() {
        let mut report = healthy();
        report.members[1].placed = Some(18000);
        assert!(report.verdict_line().contains("index 18204 (everywhere up to 18000)"));
        report.members[1].placed = None;
        assert!(report.verdict_line().contains("index 18204 here"));
    }

    #[test]
    fn json_has_the_documented_keys_and_comes_back() {
        let text = serde_json::to_string(&healthy()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in [
            "node_id",
            "role",
            "leader_id",
            "term",
            "commit_index",
            "applied_index",
            "placed_index",
            "pending",
            "alarms",
            "conflicts",
            "root_digest",
            "members",
        ] {
            assert!(value.get(key).is_some(), "{key}");
        }
        assert_eq!(value["role"], "leader");
        assert_eq!(value["members"][2]["node_id"], "node3");
        assert_eq!(serde_json::from_str::<StatusReport>(&text).unwrap(), healthy());
    }

    #[test]
    fn pending_is_the_sum_of_its_parts() {
        let parts = Pending {
            unread_bytes: 1,
            dirty: 2,
            undecided: 3,
            unplaced: 4,
            held: 5,
            blocked: 6,
            open: 7,
        };
        assert_eq!(parts.total(), 28);
    }
}
