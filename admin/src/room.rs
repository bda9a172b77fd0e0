//! Who gets a connection when there are many: a decision in values.
//!
//! - Those whom the folder is entrusted to always find room: others go for them.
//! - No other user of this host has more than a quarter of the connections, so that no single one
//!   keeps out a second.
//! - Who has not said the token yet has a few seconds and few places; at the bound the longest there
//!   goes, since who knows the token says it at once.

use std::net::IpAddr;
use std::time::Instant;

use mio::Token;

use crate::authority::Caller;
use crate::limits::{Limits, REMOTE_MAX, REMOTE_OF_ADDRESS_MAX};
use crate::stream::Origin;
use crate::token::network;

/// Whose quota a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody's: it is trusted.
    Trusted,
    /// That of a user.
    User(u32),
    /// That of all who are here and unknown.
    Unknown,
    /// That of an address, or of its network, elsewhere.
    Elsewhere(IpAddr),
}

impl Standing {
    pub(crate) fn of(caller: Caller, origin: Origin) -> Self {
        match (caller, origin) {
            (Caller::Own(_) | Caller::Member(_) | Caller::Token, _) => Self::Trusted,
            (Caller::Stranger(uid), _) => Self::User(uid.as_raw()),
            (Caller::Remote, Origin::Tcp(from)) => Self::Elsewhere(network(from.ip())),
            (Caller::Gone | Caller::Untold | Caller::Remote, _) => Self::Unknown,
        }
    }
}

/// A connection that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) token: Token,
    pub(crate) standing: Standing,
    /// When its client last did something.
    pub(crate) touched: Instant,
    /// Whether only its client can move it on.
    pub(crate) is_idle: bool,
}

/// Where a newcomer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is room.
    Free,
    /// In the place of this one.
    InPlaceOf(Token),
    /// Nowhere.
    None,
}

/// Finds room for a newcomer.
pub(crate) fn find(seats: &[Seat], newcomer: Standing, limits: &Limits, now: Instant) -> Room {
    let is_full = seats.len() >= limits.connections_max;
    let evictable = |seat: &&Seat| {
        let silent = now.saturating_duration_since(seat.touched);
        seat.is_idle && silent >= limits.evict_after
    };
    let others = || seats.iter().filter(|seat| seat.standing != Standing::Trusted);
    match newcomer {
        Standing::Trusted if is_full => {
            let stranger = others().min_by_key(|seat| (!seat.is_idle, seat.touched));
            in_place_of(stranger.or_else(|| oldest(seats.iter().filter(evictable))))
        }
        Standing::Trusted => Room::Free,
        Standing::User(_) | Standing::Unknown => {
            let own = || seats.iter().filter(|seat| seat.standing == newcomer);
            if own().count() >= limits.connections_max.div_ceil(4) {
                in_place_of(oldest(own().filter(evictable)))
            } else if is_full {
                in_place_of(oldest(others().filter(evictable)))
            } else {
                Room::Free
            }
        }
        Standing::Elsewhere(_) => {
            let own = || seats.iter().filter(|seat| seat.standing == newcomer);
            let all =
                || seats.iter().filter(|seat| matches!(seat.standing, Standing::Elsewhere(_)));
            if own().count() >= REMOTE_OF_ADDRESS_MAX {
                in_place_of(oldest(own()))
            } else if all().count() >= REMOTE_MAX {
                in_place_of(oldest(all()))
            } else if is_full {
                in_place_of(oldest(others().filter(evictable)))
            } else {
                Room::Free
            }
        }
    }
}

/// Whom to close when the system has no descriptor left.
pub(crate) fn longest_idle(seats: &[Seat]) -> Option<Token> {
    let idle = seats.iter().filter(|seat| seat.is_idle);
    let first = idle.min_by_key(|seat| (seat.standing == Standing::Trusted, seat.touched));
    first.map(|seat| seat.token)
}

fn oldest<'a>(seats: impl Iterator<Item = &'a Seat>) -> Option<&'a Seat> {
    seats.min_by_key(|seat| seat.touched)
}

fn in_place_of(seat: Option<&Seat>) -> Room {
    seat.map_or(Room::None, |seat| Room::InPlaceOf(seat.token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pickbox_raft::clock;
    use std::time::Duration;

    const ELSEWHERE: Standing =
        Standing::Elsewhere(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    /// Seats of these, the first one being the longest silent; all idle.
    fn seats(standings: &[Standing], now: Instant) -> Vec<Seat> {
        let silent = (1..=standings.len()).rev();
        let silent = silent.map(|count| Duration::from_secs(10) * u32::try_from(count).unwrap());
        let all = standings.iter().zip(silent).enumerate();
        all.map(|(number, (&standing, silent))| Seat {
            token: Token(number),
            standing,
            touched: now.checked_sub(silent).unwrap(),
            is_idle: true,
        })
        .collect()
    }

    fn limits(connections_max: usize) -> Limits {
        Limits { connections_max, evict_after: Duration::from_secs(2), ..Limits::default() }
    }

    /// Source: fault 88.
    #[test]
    fn a_user_has_a_quarter_of_the_connections() {
        let now = clock::now() + Duration::from_hours(1);
        let one = Standing::User(1000);
        let mut all = seats(&[one, one], now);
        assert_eq!(find(&all, one, &limits(8), now), Room::InPlaceOf(Token(0)));
        assert_eq!(find(&all, Standing::User(1001), &limits(8), now), Room::Free);
        assert_eq!(find(&all, Standing::Unknown, &limits(8), now), Room::Free);
        for seat in &mut all {
            seat.touched = now;
        }
        assert_eq!(find(&all, one, &limits(8), now), Room::None, "both were just here");
        assert_eq!(find(&all, Standing::Trusted, &limits(2), now), Room::InPlaceOf(Token(0)));
    }

    /// Source: fault 88: whom the folder is entrusted to always finds room.
    #[test]
    fn strangers_give_way_to_the_trusted() {
        let now = clock::now() + Duration::from_hours(1);
        let (trusted, user) = (Standing::Trusted, Standing::User(1000));
        let mut all = seats(&[trusted, user, ELSEWHERE, Standing::Unknown], now);
        assert_eq!(find(&all, trusted, &limits(4), now), Room::InPlaceOf(Token(1)));
        // One that the node works for goes last, but it goes.
        all[1].is_idle = false;
        assert_eq!(find(&all, trusted, &limits(4), now), Room::InPlaceOf(Token(2)));
        all[2].is_idle = false;
        all[3].is_idle = false;
        assert_eq!(find(&all, trusted, &limits(4), now), Room::InPlaceOf(Token(1)));
        let among = seats(&[trusted; 4], now);
        assert_eq!(find(&among, trusted, &limits(4), now), Room::InPlaceOf(Token(0)));
        assert_eq!(
            find(&among, user, &limits(4), now),
            Room::None,
            "they do not give way to others"
        );
        assert_eq!(find(&among, ELSEWHERE, &limits(4), now), Room::None);
    }

    #[test]
    fn who_has_said_no_token_gives_way_to_the_next() {
        let now = clock::now() + Duration::from_hours(1);
        let mut all = seats(&[ELSEWHERE; REMOTE_OF_ADDRESS_MAX], now);
        for seat in &mut all {
            seat.touched = now;
        }
        assert_eq!(find(&all, ELSEWHERE, &limits(1024), now), Room::InPlaceOf(Token(0)));
        let address =
            |number: usize| Standing::Elsewhere(IpAddr::V4(u32::try_from(number).unwrap().into()));
        let many: Vec<Standing> = (0..REMOTE_MAX).map(address).collect();
        let all = seats(&many, now);
        assert_eq!(find(&all, ELSEWHERE, &limits(1024), now), Room::InPlaceOf(Token(0)));
        assert_eq!(find(&all, Standing::Trusted, &limits(1024), now), Room::Free);
    }

    #[test]
    fn without_descriptors_the_longest_silent_stranger_goes() {
        let now = clock::now() + Duration::from_hours(1);
        let (trusted, user) = (Standing::Trusted, Standing::User(1000));
        assert_eq!(longest_idle(&seats(&[trusted, user, user], now)), Some(Token(1)));
        assert_eq!(longest_idle(&seats(&[trusted, trusted], now)), Some(Token(0)));
        assert_eq!(longest_idle(&[]), None);
    }
}
