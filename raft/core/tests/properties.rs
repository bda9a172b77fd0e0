//! Claims over all cases, or over many random ones.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::Arc;

    use pickbox_raft_core::event::{Aim, Change, ChangeRefusal, LogOp, RoleName, Warrant};
    use pickbox_raft_core::ids::{
        Fingerprint, Incarnation, Index, IoSeq, LogPosition, NodeId, Serial, Term, TokenId,
    };
    use pickbox_raft_core::limits::{DEPARTED_MAX, TOKENS_MAX};
    use pickbox_raft_core::log::{Payload, Proposal};
    use pickbox_raft_core::members::{JoinToken, Member, MemberRole, Members};
    use pickbox_raft_core::message::{Ballot, Body, Message, Verdict};
    use pickbox_raft_core::time::Time;
    use pickbox_raft_core::{Config, Core, Event, Output, Restored, Tally};
    use proptest::prelude::*;

    fn members(voters: &[u64], outgoing: &[u64]) -> Members {
        let member = |id: &u64| Member {
            id: NodeId::new(*id),
            name: format!("node{id}"),
            address: format!("host:{id}"),
            role: MemberRole::Voter,
            key: Some(key(*id)),
        };
        Members {
            members: voters.iter().map(member).collect(),
            outgoing_voters: outgoing.iter().copied().map(NodeId::new).collect(),
            next_id: NodeId::new(100),
            ..Members::default()
        }
    }

    fn key(number: u64) -> Fingerprint {
        Fingerprint([u8::try_from(number).unwrap(); 32])
    }

    fn fresh(id: u64, seed: u64, members: Members) -> Core {
        let mut restored = Restored::default();
        restored.replay(&LogOp::Reset { at: LogPosition::default(), members }).unwrap();
        Core::new(Config::new(NodeId::new(id), seed), restored, Index::ZERO, Time::from_micros(0))
    }

    /// The highest number that more than half have reached, found by trying all.
    fn by_trying(voters: &[u64], reached: impl Fn(u64) -> u64) -> u64 {
        let enough = |level: u64| {
            voters.iter().filter(|id| reached(**id) >= level).count() * 2 > voters.len()
        };
        (0..=9).rev().find(|level| enough(*level)).unwrap_or(0)
    }

    proptest! {
        /// Of one configuration or two, the commit index is what trying all of them gives
        /// (checklist 47, 87; openraft#1802).
        #[test]
        fn a_majority_is_what_counting_says(
            voters in proptest::collection::btree_set(1_u64..8, 1..8),
            outgoing in proptest::collection::btree_set(1_u64..8, 0..8),
            reached in proptest::collection::vec(0_u64..10, 8),
        ) {
            let voters: Vec<u64> = voters.into_iter().collect();
            let outgoing: Vec<u64> = outgoing.into_iter().collect();
            let of = |id: u64| reached[usize::try_from(id).unwrap()];
            let mut expected = by_trying(&voters, of);
            if !outgoing.is_empty() {
                expected = expected.min(by_trying(&outgoing, of));
            }
            let members = members(&voters, &outgoing);
            prop_assert_eq!(members.reached_by_majority(|id| of(id.get())), expected);
            prop_assert!(members.has_majority(|id| of(id.get()) >= expected));
            prop_assert!(!members.has_majority(|id| of(id.get()) > expected));
        }
    }

    fn arbitrary_change() -> impl Strategy<Value = Change> {
        let id = || (0_u64..9).prop_map(NodeId::new);
        let name = || (1_u64..9).prop_map(|n| format!("node{n}"));
        let address = || (1_u64..9).prop_map(|n| format!("host:{n}"));
        let aim = prop_oneof![Just(Aim::Voter), Just(Aim::Learner)];
        prop_oneof![
            (name(), address(), aim).prop_map(|(name, address, aim)| Change::Add {
                name,
                address,
                aim
            }),
            (name(), address(), fingerprint(), warrant()).prop_map(
                |(name, address, key, warrant)| Change::Join { name, address, key, warrant }
            ),
            id().prop_map(Change::Remove),
            (id(), name(), address()).prop_map(|(old, name, address)| Change::Replace {
                old,
                name,
                address
            }),
            id().prop_map(Change::Promote),
            id().prop_map(Change::Demote),
            (id(), address()).prop_map(|(id, address)| Change::Readdress { id, address }),
            (id(), fingerprint()).prop_map(|(id, key)| Change::Rekey { id, key }),
            (token(), proptest::option::of(name()), 0_u64..9).prop_map(|(public_key, name, at)| {
                let issued_by = NodeId::new(1);
                let token =
                    JoinToken { public_key, name, issued_at: at, expires_at: at + 3, issued_by };
                Change::IssueToken(token)
            }),
            token().prop_map(|public_key| Change::RevokeToken(TokenId(
                public_key[..8].try_into().unwrap()
            ))),
        ]
    }

    fn fingerprint() -> impl Strategy<Value = Fingerprint> {
        (1_u64..9).prop_map(key)
    }

    fn token() -> impl Strategy<Value = [u8; 32]> {
        (1_u8..5).prop_map(|number| [number; 32])
    }

    fn warrant() -> impl Strategy<Value = Warrant> {
        prop_oneof![
            Just(Warrant::SameUser),
            Just(Warrant::Listed),
            token().prop_map(Warrant::Token)
        ]
    }

    proptest! {
        /// Whatever is ordered, in whatever order: there is a voter, no two members have one name
        /// or address, numbers grow and are not given out twice, nobody becomes a voter by an
        /// order (only by catching up), and the way to the new list needs a majority of both sets
        /// (checklist 87, 99; Ongaro's thesis, 4.3).
        #[test]
        fn any_orders_leave_members_that_make_sense(
            changes in proptest::collection::vec((arbitrary_change(), any::<u8>()), 1..40),
        ) {
            let mut current = members(&[1, 2, 3], &[]);
            current.next_id = NodeId::new(4);
            let mut given_out = current.next_id;
            let mut at = Index::ZERO;
            for (change, connected) in changes {
                let is_connected = |id: NodeId| connected & (1 << (id.get() % 8)) != 0;
                at = at.next();
                let Ok(changed) = current.changed(&change, at, is_connected) else { continue };
                let next = changed.members;
                check_keys(&current, &next, &change, at);
                prop_assert!(next.voters().next().is_some());
                prop_assert!(next.voters().all(|id| current.is_voter(id)));
                for (place, one) in next.members.iter().enumerate() {
                    prop_assert!(one.id < next.next_id);
                    for other in &next.members[place + 1..] {
                        prop_assert!(one.id < other.id, "ordered by number");
                        prop_assert!(one.name != other.name && one.address != other.address);
                    }
                    let is_new = current.get(one.id).is_none();
                    prop_assert!(!is_new || one.id >= given_out, "a number is given out once");
                }
                prop_assert!(next.next_id >= given_out);
                given_out = next.next_id;
                let step = current.on_the_way_to(next.clone());
                let all = |id: NodeId| current.is_voter(id);
                prop_assert!(step.has_majority(all));
                if step.is_joint() {
                    let reachable: Vec<NodeId> = step.everyone().collect();
                    prop_assert!(step.outgoing_voters.iter().all(|id| reachable.contains(id)));
                    prop_assert!(step.outgoing_voters.iter().copied().eq(current.voters()));
                }
                current = next;
            }
        }
    }

    /// No key comes in but by its owner's proof, no token lets in two nodes, nobody takes the place
    /// of a member with another key by a token that is not made for it, and whose key goes is
    /// remembered (faults 70, 81, 93).
    fn check_keys(current: &Members, next: &Members, change: &Change, at: Index) {
        for one in &next.members {
            let same = next.members.iter().filter(|other| other.key.is_some());
            assert!(
                same.filter(|other| other.key == one.key).count() <= 1,
                "a key is of one member"
            );
            let is_known = one.key.is_none() || current.members.iter().any(|m| m.key == one.key);
            let is_proved = match change {
                Change::Join { key, .. } | Change::Rekey { key, .. } => one.key == Some(*key),
                _ => false,
            };
            assert!(is_known || is_proved, "{change:?} brings in a key");
        }
        if let Change::Join { name, key, warrant: Warrant::Token(token), .. } = change {
            let used = current.token(token).expect("a token that is there");
            assert!(next.token(token).is_none(), "a token is used once");
            assert!(used.name.as_ref().is_none_or(|meant| meant == name));
            let former = current.members.iter().find(|member| member.name == *name);
            let former_key = former.and_then(|former| former.key);
            let takes_over = former_key.is_some_and(|former| former != *key);
            assert!(!takes_over || used.name.is_some(), "a place taken by a token for anybody");
        }
        if let Change::Join { name, key, warrant: Warrant::Listed, .. } = change {
            assert!(current.members.iter().any(|m| m.name == *name && m.key == Some(*key)));
        }
        let is_there = |key| next.members.iter().any(|member| member.key == Some(key));
        for gone in current.members.iter().filter(|member| next.get(member.id).is_none()) {
            let Some(key) = gone.key.filter(|key| !is_there(*key)) else { continue };
            let departed = next.departed_with(key).expect("it is remembered");
            assert_eq!((departed.id, departed.at), (gone.id, at));
        }
        assert!(next.departed.iter().all(|departed| !is_there(departed.key)));
        assert!(next.tokens.len() <= TOKENS_MAX && next.departed.len() <= DEPARTED_MAX);
    }

    /// faults 81 and 93: the place of a member that has a key goes to another key only by a token made
    /// for that name, and a token lets one node in. Random orders seldom come to this.
    #[test]
    fn a_token_for_anybody_takes_no_members_place() {
        let join = |name: &str, number| Change::Join {
            name: name.to_owned(),
            address: "host:9".to_owned(),
            key: key(number),
            warrant: Warrant::Token([7; 32]),
        };
        for meant in [None, Some("node2".to_owned())] {
            let mut current = members(&[1, 2, 3], &[]);
            current.tokens.push(JoinToken {
                public_key: [7; 32],
                name: meant.clone(),
                issued_at: 0,
                expires_at: 10,
                issued_by: NodeId::new(1),
            });
            let taken = current.changed(&join("node2", 9), Index::ZERO, |_| false);
            let Some(meant) = meant else {
                assert!(matches!(taken, Err(ChangeRefusal::Taken(_))), "{taken:?}");
                // A name that nobody has is anybody's, once.
                let joined = current.changed(&join("node9", 9), Index::ZERO, |_| false).unwrap();
                let again = joined.members.changed(&join("node8", 8), Index::ZERO, |_| false);
                assert_eq!(again.err(), Some(ChangeRefusal::NoSuchToken));
                continue;
            };
            let next = taken.unwrap().members;
            check_keys(&current, &next, &join("node2", 9), Index::ZERO);
            assert!(next.members.iter().any(|one| one.name == meant && one.key == Some(key(9))));
            let other = current.changed(&join("node9", 9), Index::ZERO, |_| false);
            assert_eq!(other.err(), Some(ChangeRefusal::TokenForOther(meant)));
        }
    }

    /// fault 93: tokens that are over make room, those that are not are never dropped, and there
    /// is a bound.
    #[test]
    fn there_are_only_so_many_tokens() {
        let mut current = members(&[1], &[]);
        let issue = |number: usize, issued_at| {
            let mut public_key = [0; 32];
            public_key[..8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
            let issued_by = NodeId::new(1);
            Change::IssueToken(JoinToken {
                public_key,
                name: None,
                issued_at,
                expires_at: issued_at + 10,
                issued_by,
            })
        };
        for number in 0..TOKENS_MAX {
            let changed = current.changed(&issue(number, 5), Index::ZERO, |_| true).unwrap();
            current = changed.members;
        }
        let one_more = current.changed(&issue(TOKENS_MAX, 14), Index::ZERO, |_| true);
        assert_eq!(one_more, Err(ChangeRefusal::TooManyTokens));
        let later = current.changed(&issue(TOKENS_MAX, 15), Index::ZERO, |_| true).unwrap();
        assert_eq!(later.members.tokens.len(), 1, "those of before are over");
    }

    /// All ways to answer, for one to seven voters (checklist 5): elected by a majority, lost once
    /// none can be reached, else open.
    #[test]
    fn a_vote_is_won_lost_or_open() {
        for voters in [1_u32, 2, 3, 4, 5, 7] {
            let ids: Vec<u64> = (1..=u64::from(voters)).collect();
            let members = members(&ids, &[]);
            for case in 0..3_u64.pow(voters) {
                let answer =
                    |id: NodeId| match case / 3_u64.pow(u32::try_from(id.get()).unwrap() - 1) % 3 {
                        0 => None,
                        1 => Some(Verdict::Granted),
                        _ => Some(Verdict::Refused),
                    };
                let count = |verdict| {
                    ids.iter().filter(|id| answer(NodeId::new(**id)) == Some(verdict)).count()
                };
                let (granted, refused) = (count(Verdict::Granted), count(Verdict::Refused));
                let expected = if granted * 2 > ids.len() {
                    Tally::Won
                } else if (ids.len() - refused) * 2 <= ids.len() {
                    Tally::Lost
                } else {
                    Tally::Open
                };
                assert_eq!(members.tally(answer), expected, "{voters} voters, case {case}");
            }
        }
    }

    /// Nobody is a majority of nobody.
    #[test]
    fn without_voters_there_is_no_majority() {
        assert!(!Members::default().has_majority(|_| true));
        assert_eq!(Members::default().reached_by_majority(|_| 7), 0);
    }

    /// Election timeouts spread evenly over [T, 2T), so that ties among three are rare
    /// (checklist 10).
    #[test]
    fn timeouts_spread_over_the_second_half() {
        let timeout = |seed| fresh(1, seed, members(&[1, 2, 3], &[])).deadline().as_micros();
        let draws: Vec<u64> = (0..3_000).map(timeout).collect();
        assert!(draws.iter().all(|draw| (500_000..1_000_000).contains(draw)));
        for tenth in 0..10_u64 {
            let from = 500_000 + tenth * 50_000;
            let inside = draws.iter().filter(|draw| (from..from + 50_000).contains(*draw)).count();
            assert!((200..400).contains(&inside), "{inside} of 3000 in tenth {tenth}");
        }
        let close = |trio: &&[u64]| {
            let mut trio = trio.to_vec();
            trio.sort_unstable();
            trio[1] - trio[0] < 5_000
        };
        let ties = draws.chunks(3).filter(close).count();
        assert!(ties < 100, "{ties} of 1000 trios begin within 5 ms");
    }

    fn from_two(term: u64, body: Body) -> Event {
        let (from, to) = (NodeId::new(2), NodeId::new(1));
        Event::Message(Message { from, to, term: Term::new(term), body })
    }

    /// Node 1 of three, elected by node 2 in term 1.
    fn leader() -> Core {
        let mut core = fresh(1, 1, members(&[1, 2, 3], &[]));
        let mut out = Output::default();
        let yes = |ballot| Body::VoteReply { ballot, verdict: Verdict::Granted };
        let now = core.deadline();
        core.step(now, Event::Tick, &mut out);
        core.step(now, from_two(0, yes(Ballot::Pre)), &mut out);
        core.step(now, Event::Durable(out.io), &mut out);
        core.step(now, from_two(1, yes(Ballot::Real)), &mut out);
        assert_eq!(core.role(), RoleName::Leader);
        core.step(now, Event::Durable(out.io), &mut out);
        core
    }

    fn alive() -> Body {
        let (applied, placed) = (Index::ZERO, Index::ZERO);
        Body::HeartbeatReply { round: 0, applied, placed, sync_us: 0 }
    }

    /// A leader that hears a majority leads on, for as long as one likes (checklist 23).
    #[test]
    fn a_leader_that_is_heard_stays() {
        let mut core = leader();
        for _ in 0..100_000 {
            let now = core.deadline();
            let mut out = Output::default();
            core.step(now, Event::Tick, &mut out);
            assert!(out.roles.is_empty());
            core.step(now, from_two(1, alive()), &mut out);
        }
    }

    /// checklist 64: node 3 is dead for a day, with a heartbeat each 100 ms and a proposal each
    /// second. The leader's state grows by nothing, what it says to node 3 is a heartbeat and no
    /// more, and node 2 is sent each entry in the very step in which it is proposed.
    #[test]
    fn a_dead_peer_costs_nothing_for_a_day() {
        const BEATS: u64 = 24 * 60 * 60 * 10;
        let mut core = leader();
        let mut sizes = Vec::new();
        for beat in 0..BEATS {
            let now = core.deadline();
            let mut out = Output::default();
            core.step(now, Event::Tick, &mut out);
            if beat % 10 == 0 {
                propose_and_commit(&mut core, now, beat / 10);
            }
            core.step(now, from_two(1, alive()), &mut out);
            let said = out.messages.iter().filter(|message| message.to == NodeId::new(3)).count();
            assert!(said <= 1, "{said} messages to a dead node in beat {beat}");
            if beat % (BEATS / 10) == BEATS / 20 {
                // The text of everything that the core holds: long numbers make little of it.
                sizes.push(format!("{core:?}").len());
            }
        }
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least < 500, "the state grows: {sizes:?}");
    }

    /// Something new is proposed, and reaches node 2 at once; all up to it may be forgotten.
    fn propose_and_commit(core: &mut Core, now: Time, serial: u64) {
        let proposal = Arc::new(Proposal {
            origin: NodeId::new(1),
            incarnation: Incarnation::new(1),
            serial: Serial::new(serial + 1),
            holders: None,
            payload: Payload::Data(vec![7; 100]),
        });
        let mut out = Output::default();
        core.step(now, Event::Propose(proposal), &mut out);
        let last = core.last().index;
        let is_sent = |message: &Message| match &message.body {
            Body::Append { entries, .. } => {
                message.to == NodeId::new(2) && entries.last().is_some_and(|e| e.index == last)
            }
            _ => false,
        };
        let probes = serial == 0;
        assert!(probes || out.messages.iter().any(is_sent), "node 2 is not sent {last} at once");
        core.step(now, Event::Durable(out.io), &mut out);
        core.step(now, from_two(1, Body::Appended { matched: last }), &mut out);
        assert_eq!(core.commit(), last);
        core.step(now, Event::Applied { applied: last, placed: last }, &mut out);
        core.step(now, Event::Compact { through: last }, &mut out);
        core.step(now, Event::Durable(out.io), &mut out);
    }

    /// The same events give the same outputs: nothing inside is left to chance.
    #[test]
    fn the_same_events_give_the_same_outputs() {
        let run = || {
            let mut core = fresh(2, 77, members(&[1, 2, 3], &[]));
            let mut told = String::new();
            for _ in 0..50 {
                let mut out = Output::default();
                let now = core.deadline();
                core.step(now, Event::Tick, &mut out);
                writeln!(told, "{now:?} {out:?}").unwrap();
            }
            told
        };
        assert_eq!(run(), run());
    }

    /// One message survives the way over the wire, whatever it says.
    #[test]
    fn messages_come_back_from_bytes_as_they_were() {
        let append = Body::Append {
            previous: LogPosition { index: Index::new(3), term: Term::new(2) },
            commit: Index::new(1),
            entries: vec![Arc::new(pickbox_raft_core::log::Entry {
                index: Index::new(4),
                term: Term::new(2),
                content: pickbox_raft_core::log::Content::Members(members(&[1, 2], &[3])),
            })],
        };
        let commit = Body::Commit { commit: Index::new(9) };
        for body in [append, commit, Body::TimeoutNow] {
            let message =
                Message { from: NodeId::new(1), to: NodeId::new(2), term: Term::new(3), body };
            let bytes = postcard::to_allocvec(&message).unwrap();
            assert_eq!(postcard::from_bytes::<Message>(&bytes).unwrap(), message);
        }
    }

    /// A durable log operation is one that was given out: the disk cannot know of others.
    #[test]
    #[should_panic(expected = "acknowledges only what it was given")]
    fn the_disk_cannot_acknowledge_the_future() {
        let mut core = fresh(1, 1, members(&[1], &[]));
        core.step(Time::from_micros(0), Event::Durable(IoSeq::new(5)), &mut Output::default());
    }
}
