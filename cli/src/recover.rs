//! `pickbox recover`: when the majority of a cluster is lost for good.

use std::path::{Path, PathBuf};

use argh::FromArgs;
use pickbox_raft::core::ids::{LogPosition, NodeId};
use pickbox_raft::core::members::{Member, Members};
use pickbox_raft::disk::RealDisk;
use pickbox_raft::identity::Identity;
use pickbox_raft::join::survey;
use pickbox_raft::keys::KeyRing;
use pickbox_raft::net::Standing;
use pickbox_raft::recover::Survivor;
use pickbox_store::engine::{StateDir, open_index};
use serde_json::json;

use crate::daemon::{self, AnyError};
use crate::exit::{CliError, Exit};
use crate::output;
use crate::readmission::Readmission;

/// Look at what is left of a cluster that has lost its majority, and found it anew with one node.
/// Run it on each host that is left, with pickboxd stopped there: it shows how far the node is. Found
/// the cluster anew on the one that is furthest; the others join it again.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "recover")]
pub(crate) struct RecoverArguments {
    /// the state directory of the stopped node, such as data/.node1.pickbox
    #[argh(option)]
    state_dir: PathBuf,

    /// make this node the only member of the cluster, in a new epoch; what only the lost nodes had
    /// is given up
    #[argh(switch)]
    force_new_cluster: bool,

    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// What is known of one member.
enum Answer {
    /// It is the node at hand.
    Here,
    /// It runs.
    Runs(Standing),
    /// It does not answer: why.
    Silent(String),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    /// A majority of the voters is there: start this node.
    NotLost {
        /// Voters that are there, this one included.
        there: usize,
        /// Voters in all.
        voters: usize,
    },
    /// This one knows more.
    Other(String),
    /// This one is of a later epoch: the cluster was founded anew already.
    Rejoin(String),
    /// Found the cluster anew here.
    Here,
}

pub(crate) fn run(arguments: &RecoverArguments) -> Result<Exit, CliError> {
    let survivor = open(&arguments.state_dir)?;
    let (me, last) = (survivor.identity(), survivor.last());
    let keys = KeyRing::load_or_create(survivor.disk());
    let keys = keys.map_err(|error| CliError::Cluster(error.to_string()))?;
    let answer = |member: &Member| {
        if member.id == me.node { Answer::Here } else { ask(member, me, &keys) }
    };
    let answers: Vec<(&Member, Answer)> =
        survivor.members().peers().map(|member| (member, answer(member))).collect();
    let mark =
        Readmission::load(survivor.disk()).map_err(|error| CliError::Cluster(error.to_string()))?;
    if let Some(mark) = &mark {
        output::say(format_args!(
            "The state of this node is marked as not to be trusted ({}): it may lack what it once acknowledged. Use \
             it only if there is no other.",
            mark.why
        ));
    }
    let advice = advise(survivor.identity(), survivor.members(), last, &answers);
    let text = if arguments.json {
        in_json(&survivor, &answers, &advice)
    } else {
        in_words(&survivor, &answers)
    };
    output::show(text.as_bytes())?;
    match advice {
        Advice::NotLost { there, voters } => Err(CliError::Cluster(format!(
            "The majority is not lost: {there} of {voters} voters are there, this one included. Start this node; \
             nothing need be recovered."
        ))),
        Advice::Rejoin(name) => Err(CliError::Cluster(format!(
            "The cluster was founded anew already, by {name} or before it: start this node once with --join and \
             {name}'s address and with --rejoin."
        ))),
        Advice::Other(name) => Err(CliError::Cluster(format!(
            "{name} has entries that this node lacks: stop pickboxd there and run this there."
        ))),
        Advice::Here if arguments.force_new_cluster => found_anew(survivor, arguments),
        Advice::Here => {
            output::say(
                "To go on with what this node has, run this again with --force-new-cluster. Do so only if the \
                 silent nodes are gone for good, or are stopped and have less than this one: run `pickbox \
                 recover` there to see. What only they had will be given up.",
            );
            Ok(Exit::Ok)
        }
    }
}

fn open(state_dir: &Path) -> Result<Survivor<RealDisk>, CliError> {
    let disk = daemon::open_stopped(state_dir)?;
    let survivor = Survivor::open(disk).map_err(|error| {
        CliError::Cluster(format!("The state at {} is of no use: {error}.", state_dir.display()))
    })?;
    let me = survivor.identity().node;
    if survivor.members().peers().all(|member| member.id != me) {
        return Err(CliError::Cluster(format!(
            "{} is no member by its own log: it was removed, or has not yet taken part. Recover on another.",
            survivor.identity().name
        )));
    }
    let cannot = |error: AnyError| {
        CliError::Cluster(format!("The index at {} cannot be read: {error}.", state_dir.display()))
    };
    let state = StateDir::open(state_dir.to_owned()).map_err(|error| cannot(error.into()))?;
    match open_index(&state) {
        Ok((_, position)) if position.applied.index > survivor.last().index => {
            Err(CliError::Cluster(format!(
                "The log at {} ends at entry {}, and entry {} was applied: it is not whole. Recover on another.",
                state_dir.display(),
                survivor.last().index,
                position.applied.index
            )))
        }
        Ok(_) => Ok(survivor),
        Err(error) => Err(cannot(error.into())),
    }
}

fn ask(member: &Member, me: &Identity, keys: &KeyRing) -> Answer {
    match survey(member, me, keys) {
        Ok(standing) => Answer::Runs(standing),
        Err(error) => Answer::Silent(error.to_string()),
    }
}

/// Decides from what the log at hand says and what others say of theirs.
fn advise(
    me: &Identity,
    members: &Members,
    last: LogPosition,
    answers: &[(&Member, Answer)],
) -> Advice {
    let later = answers.iter().find_map(|(_, answer)| match answer {
        Answer::Runs(standing) if standing.cluster == me.cluster && standing.epoch > me.epoch => {
            Some(standing.name.clone())
        }
        _ => None,
    });
    if let Some(name) = later {
        return Advice::Rejoin(name);
    }
    // Another node, or another cluster, may have its address now.
    let is_it = |standing: &Standing, id: NodeId| {
        (standing.cluster, standing.epoch, standing.node) == (me.cluster, me.epoch, id)
    };
    let is_there = |id: NodeId| {
        answers.iter().any(|(member, answer)| {
            member.id == id
                && match answer {
                    Answer::Here => true,
                    Answer::Runs(standing) => is_it(standing, id),
                    Answer::Silent(_) => false,
                }
        })
    };
    let voters = members.voters().count();
    let there = members.voters().filter(|id| is_there(*id)).count();
    if members.has_majority(is_there) {
        return Advice::NotLost { there, voters };
    }
    let order = |at: LogPosition| (at.term, at.index);
    let others = answers.iter().filter_map(|(member, answer)| match answer {
        Answer::Runs(standing) if is_it(standing, member.id) => Some(standing),
        _ => None,
    });
    match others.max_by_key(|standing| order(standing.last)) {
        Some(other) if order(other.last) > order(last) => Advice::Other(other.name.clone()),
        _ => Advice::Here,
    }
}

fn found_anew(
    survivor: Survivor<RealDisk>,
    arguments: &RecoverArguments,
) -> Result<Exit, CliError> {
    let (me, members) = (survivor.identity().node, survivor.members());
    let name = survivor.identity().name.clone();
    let listed = members.peers().find(|member| member.id == me);
    let address = listed.map(|member| member.address.clone()).unwrap_or_default();
    let disk = survivor.disk().clone();
    let founded = survivor.found_anew(&address).map_err(AnyError::from);
    let founded = founded.and_then(|epoch| Readmission::unmark(&disk).map(|()| epoch));
    let epoch = founded.map_err(|error| {
        CliError::Cluster(format!(
            "It was not done, or not completely: {error}. Run this again before {name} is started."
        ))
    })?;
    if !arguments.json {
        output::say(format_args!(
            "{name} is now the only member, in epoch {epoch} of the cluster. Start it as always. Each of the others \
             takes part again as a new member when it is started once with --join {address} --rejoin: its \
             folder is kept, and what differs from what is here becomes a conflict copy."
        ));
    }
    Ok(Exit::Ok)
}

fn in_words(survivor: &Survivor<RealDisk>, answers: &[(&Member, Answer)]) -> String {
    let (identity, last) = (survivor.identity(), survivor.last());
    let mut rows = vec![
        ["NODE", "NUMBER", "ROLE", "ADDRESS", "LAST", "TERM", "STATE"].map(str::to_owned).to_vec(),
    ];
    for (member, answer) in answers {
        let role = if member.role.is_voter() { "voter" } else { "learner" };
        let (at, state) = match answer {
            Answer::Here => (Some(last), "stopped, here".to_owned()),
            Answer::Runs(standing) if standing.node == member.id => {
                let leads =
                    standing.leader.map_or("no leader".to_owned(), |id| format!("leader is {id}"));
                (Some(standing.last), format!("runs, {leads}"))
            }
            Answer::Runs(standing) => (None, format!("{} runs at this address", standing.name)),
            Answer::Silent(reason) => (None, format!("silent: {reason}")),
        };
        let cell = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
        rows.push(vec![
            member.name.clone(),
            member.id.to_string(),
            role.to_owned(),
            member.address.clone(),
            cell(at.map(|at| at.index.get())),
            cell(at.map(|at| at.term.get())),
            state,
        ]);
    }
    format!(
        "{} of cluster {}, epoch {}\n{}",
        identity.name,
        identity.cluster,
        identity.epoch,
        output::table(&rows)
    )
}

fn in_json(
    survivor: &Survivor<RealDisk>,
    answers: &[(&Member, Answer)],
    advice: &Advice,
) -> String {
    let position = |at: LogPosition| json!({ "index": at.index.get(), "term": at.term.get() });
    let members: Vec<_> = answers
        .iter()
        .map(|(member, answer)| {
            let (state, last) = match answer {
                Answer::Here => ("here", Some(position(survivor.last()))),
                Answer::Runs(standing) if standing.node == member.id => {
                    ("runs", Some(position(standing.last)))
                }
                Answer::Runs(_) => ("another", None),
                Answer::Silent(_) => ("silent", None),
            };
            json!({
                "node_id": member.name,
                "number": member.id.get(),
                "voter": member.role.is_voter(),
                "address": member.address,
                "state": state,
                "last": last,
            })
        })
        .collect();
    let advice = match advice {
        Advice::NotLost { .. } => "start",
        Advice::Other(_) => "other",
        Advice::Rejoin(_) => "rejoin",
        Advice::Here => "here",
    };
    let identity = survivor.identity();
    let report = json!({
        "node_id": identity.name,
        "cluster_id": identity.cluster.to_string(),
        "epoch": identity.epoch.get(),
        "members": members,
        "advice": advice,
    });
    format!("{report}\n")
}

#[cfg(test)]
mod tests {
    use pickbox_raft::core::ids::{ClusterId, Epoch, Index, Term};
    use pickbox_raft::core::members::MemberRole;

    use super::*;

    fn member(id: u64) -> Member {
        let (name, address) = (format!("node{id}"), format!("127.0.0.1:{}", 8000 + id));
        Member { id: NodeId::new(id), name, address, role: MemberRole::Voter, key: None }
    }

    fn at(term: u64, index: u64) -> LogPosition {
        LogPosition { index: Index::new(index), term: Term::new(term) }
    }

    fn runs(id: u64, last: LogPosition) -> Answer {
        Answer::Runs(Standing {
            cluster: ClusterId::default(),
            epoch: Epoch::ZERO,
            node: NodeId::new(id),
            name: format!("node{id}"),
            term: last.term,
            last,
            commit: last.index,
            leader: None,
        })
    }

    /// The right survivor is the one with the highest last term, then index; with a majority there
    /// is nothing to recover.
    #[test]
    fn the_furthest_survivor_is_the_right_one() {
        let me = Identity {
            cluster: ClusterId::default(),
            epoch: Epoch::ZERO,
            node: NodeId::new(1),
            name: "node1".to_owned(),
        };
        let silent = || Answer::Silent("connection refused".to_owned());
        let all: Vec<Member> = (1..=5).map(member).collect();
        let members =
            Members { members: all.clone(), next_id: NodeId::new(6), ..Members::default() };
        let advice = |others: [Answer; 4]| {
            let answers =
                all.iter().zip([Answer::Here].into_iter().chain(others)).collect::<Vec<_>>();
            advise(&me, &members, at(3, 10), &answers)
        };
        assert_eq!(advice([silent(), silent(), silent(), silent()]), Advice::Here);
        let behind = runs(2, at(2, 99));
        assert_eq!(advice([behind, silent(), silent(), silent()]), Advice::Here);
        let ahead = runs(3, at(3, 11));
        assert_eq!(advice([silent(), ahead, silent(), silent()]), Advice::Other("node3".into()));
        let two = advice([runs(2, at(1, 1)), runs(3, at(9, 9)), silent(), silent()]);
        assert_eq!(two, Advice::NotLost { there: 3, voters: 5 });
        // Somebody else at a member's address says nothing about that member.
        let strangers = advice([runs(9, at(9, 9)), runs(8, at(9, 9)), silent(), silent()]);
        assert_eq!(strangers, Advice::Here);
        let foreign = |cluster, epoch| match runs(2, at(9, 9)) {
            Answer::Runs(standing) => Answer::Runs(Standing { cluster, epoch, ..standing }),
            other => other,
        };
        let other_cluster = foreign(ClusterId([1; 16]), Epoch::ZERO);
        assert_eq!(advice([other_cluster, silent(), silent(), silent()]), Advice::Here);
        let later = foreign(ClusterId::default(), Epoch::new(1));
        assert_eq!(advice([later, silent(), silent(), silent()]), Advice::Rejoin("node2".into()));
    }
}
