//! By what right somebody joins whose key is not a member's, or not any more: a pure decision.

use std::time::Duration;

use pickbox_raft_core::event::Warrant;
use pickbox_raft_core::ids::{ClusterId, Fingerprint};

use super::hello::Refusal;
use super::join_request::JoinRequest;
use super::link::resolve;
use super::trust::Trust;
use crate::token;

/// Somebody who wants to join, as it was met.
#[derive(Clone, Debug)]
pub(crate) struct Applicant<'a> {
    pub(crate) request: &'a JoinRequest,
    /// The key that it has proved to have.
    pub(crate) key: Fingerprint,
    /// Whether it belongs to the user of this process, or to root, on this host.
    pub(crate) is_own: bool,
    /// What only the two ends of its connection know.
    pub(crate) exporter: [u8; 32],
}

/// By what right it joins the `cluster`, as far as this node can tell at this `time`, which is
/// since 1970. Whether the right still stands is decided again where the change is made: a token
/// may have been used meanwhile.
///
/// # Errors
/// What it is told.
pub(crate) fn warrant(
    trust: &Trust,
    cluster: ClusterId,
    applicant: &Applicant<'_>,
    time: Duration,
) -> Result<Warrant, Refusal> {
    let request = applicant.request;
    // One that was a member, or has a token, says of which cluster.
    if request.cluster != ClusterId::default() && request.cluster != cluster {
        return Err(Refusal::WrongCluster { ours: cluster });
    }
    let listed = trust.member_with(applicant.key);
    if listed.is_some_and(|member| member.name == request.name) {
        return Ok(Warrant::Listed);
    }
    // Whoever is elsewhere has come through a port that is forwarded.
    let is_here = resolve(&request.address).is_some_and(|at| at.ip().to_canonical().is_loopback());
    if applicant.is_own && is_here {
        return Ok(Warrant::SameUser);
    }
    let token = trust.token(&request.token).ok_or(Refusal::NotAdmitted)?;
    let is_over = time.as_secs() >= token.expires_at;
    let (key, exporter) = (applicant.key, &applicant.exporter);
    if is_over || !token::proves(token, &request.proof, exporter, (key, cluster)) {
        return Err(Refusal::NotAdmitted);
    }
    Ok(Warrant::Token(request.token))
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::NodeId;
    use pickbox_raft_core::members::{JoinToken, Members};

    use super::*;
    use crate::net::probe::everywhere;
    use crate::token::Token;

    const CLUSTER: ClusterId = ClusterId([1; 16]);
    const KEY: Fingerprint = Fingerprint([2; 32]);

    /// A cluster with one member, `node1`, and the token.
    fn trust(token: &Token) -> Trust {
        let mut members =
            Members::bootstrap("node1".into(), "10.0.0.1:1".into(), Fingerprint([9; 32]));
        members.tokens.push(JoinToken {
            public_key: token.public_key(),
            name: None,
            issued_at: 1_000,
            expires_at: 4_600,
            issued_by: NodeId::new(1),
        });
        everywhere(&members)
    }

    fn request(token: Option<&Token>, exporter: &[u8; 32]) -> JoinRequest {
        JoinRequest {
            cluster: token.map(|token| token.cluster).unwrap_or_default(),
            token: token.map_or([0; 32], Token::public_key),
            proof: token.map_or([0; 64], |token| token.prove(exporter, KEY)),
            name: "node4".into(),
            address: "10.0.0.4:1".into(),
        }
    }

    fn token() -> Token {
        Token::generate("10.0.0.1:1".into(), Fingerprint([9; 32]), CLUSTER).unwrap()
    }

    /// faults 66, 81, 83, 93: the table of all rights and of what is none.
    #[test]
    fn who_may_join_and_who_may_not() {
        let (known, other, exporter) = (token(), token(), [5; 32]);
        let trust = trust(&known);
        let good = request(Some(&known), &exporter);
        let at = |seconds| Duration::from_secs(seconds);
        let decide = |request: &JoinRequest, key, is_own, time| {
            let applicant = Applicant { request, key, is_own, exporter };
            warrant(&trust, CLUSTER, &applicant, time)
        };
        let by_token = Ok(Warrant::Token(known.public_key()));
        let refused = Err(Refusal::NotAdmitted);
        assert_eq!(decide(&good, KEY, false, at(4_599)), by_token);
        assert_eq!(decide(&good, KEY, false, at(4_600)), refused, "it is over");
        let stolen = Fingerprint([3; 32]);
        assert_eq!(decide(&good, stolen, false, at(0)), refused, "the proof is for another key");
        let replayed = request(Some(&known), &[6; 32]);
        assert_eq!(decide(&replayed, KEY, false, at(0)), refused, "of another connection");
        assert_eq!(decide(&request(Some(&other), &exporter), KEY, false, at(0)), refused);
        assert_eq!(decide(&request(None, &exporter), KEY, false, at(0)), refused);
        let here = JoinRequest { address: "127.0.0.1:4".into(), ..request(None, &exporter) };
        assert_eq!(decide(&here, KEY, true, at(0)), Ok(Warrant::SameUser));
        assert_eq!(
            decide(&request(None, &exporter), KEY, true, at(0)),
            refused,
            "a forwarded port"
        );
        assert_eq!(decide(&here, KEY, false, at(0)), refused, "another user");
        let elsewhere = JoinRequest { cluster: ClusterId([8; 16]), ..good.clone() };
        let wrong = Err(Refusal::WrongCluster { ours: CLUSTER });
        assert_eq!(decide(&elsewhere, KEY, true, at(0)), wrong);
        let member = Fingerprint([9; 32]);
        let again = JoinRequest { name: "node1".into(), ..request(None, &exporter) };
        assert_eq!(decide(&again, member, false, at(0)), Ok(Warrant::Listed));
        assert_eq!(
            decide(&request(None, &exporter), member, false, at(0)),
            refused,
            "another name"
        );
        assert_eq!(decide(&again, KEY, false, at(0)), refused, "a name without its key");
    }
}
