//! Ports that nobody uses.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which the kernel takes the ports of outgoing connections
/// (`ip_local_port_range`, 32768 on): a port from there could be taken while its daemon is down, or a
/// peer that dials it then could meet itself.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// Where this process goes on looking.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A number that this process has not had yet.
pub(super) fn next() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Two ports that are free now.
#[must_use]
pub fn free_pair() -> (u16, u16) {
    (free(), free())
}

fn free() -> u16 {
    // Test processes that run side by side start far apart.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = next();
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("below 30000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
