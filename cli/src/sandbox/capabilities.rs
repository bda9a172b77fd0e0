//! Root without its privileges: those on files stay, as far as they were there.

use std::fmt;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits,
};

/// What a daemon that runs as root keeps, and why: owners are kept (`CHOWN`), files of any owner are
/// read, written and replaced (`DAC_OVERRIDE`), get modes and times (`FOWNER`), a directory keeps its
/// setgid bit though the daemon is not in its group (`FSETID`), and a lease tells whether somebody
/// has a file open (`LEASE`).
pub const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LEASE);

/// Being root grants nothing at execve(2), nor does becoming another user and back.
const SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED);

/// Why capabilities are still there.
#[derive(Debug)]
pub(super) enum NotGivenUp {
    /// A call failed.
    Call(&'static str, Errno),
    /// All calls succeeded and these are still there.
    Held(CapabilitySet),
}

impl fmt::Display for NotGivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call, errno) => write!(f, "{call}: {errno}"),
            Self::Held(held) => write!(f, "{:x} are still held", held.bits()),
        }
    }
}

/// Reduces this thread to what it has of [`KEPT`]. A thread without any has nothing to give up.
///
/// The bounding set and the secure bits can only be changed by one that holds `CAP_SETPCAP`. One that does
/// not (an unprivileged user, root that has given up already) cannot gain by execve(2) either:
/// that is what `no_new_privs` says.
pub(super) fn give_up() -> Result<(), NotGivenUp> {
    let sets = capabilities(None).map_err(|errno| NotGivenUp::Call("capget", errno))?;
    let kept = sets.permitted & KEPT;
    // What follows is done whatever becomes of this.
    let bounded =
        if sets.effective.contains(CapabilitySet::SETPCAP) { bound(kept) } else { Ok(()) };
    let cleared = clear_ambient_capability_set()
        .map_err(|errno| NotGivenUp::Call("PR_CAP_AMBIENT_CLEAR_ALL", errno));
    let none = CapabilitySet::empty();
    let reduced = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
    if sets != reduced {
        // Not otherwise: a filter may forbid the call to those who have nothing to give up.
        set_capabilities(None, reduced).map_err(|errno| NotGivenUp::Call("capset", errno))?;
    }
    match capabilities(None) {
        Ok(now) if now == reduced => bounded.and(cleared),
        Ok(now) => Err(NotGivenUp::Held(now.permitted | now.inheritable)),
        Err(errno) => Err(NotGivenUp::Call("capget", errno)),
    }
}

/// Lets no execve(2) give this thread and those that it starts more than `kept`.
fn bound(kept: CapabilitySet) -> Result<(), NotGivenUp> {
    for capability in bounding().difference(kept).iter() {
        remove_capability_from_bounding_set(capability)
            .map_err(|errno| NotGivenUp::Call("PR_CAPBSET_DROP", errno))?;
    }
    capabilities_secure_bits()
        .and_then(|bits| set_capabilities_secure_bits(bits | SECURE_BITS))
        .map_err(|errno| NotGivenUp::Call("PR_SET_SECUREBITS", errno))
}

/// Lets what this thread holds outlive its next execve(2), although being root grants nothing
/// any more: for a daemon that begins anew.
pub(crate) fn keep_over_exec() -> rustix::io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable = sets.permitted & KEPT;
    set_capabilities(None, sets)?;
    let mut each = sets.inheritable.iter();
    each.try_for_each(|capability| configure_capability_in_ambient_set(capability, true))
}

/// The bits of the capabilities that this thread holds, as `/proc/PID/status` shows them.
pub(super) fn held() -> u64 {
    capabilities(None).map_or(u64::MAX, |sets| sets.permitted.bits())
}

fn bounding() -> CapabilitySet {
    let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    // The kernel knows some forty; of the others it says that they are invalid.
    all.filter(|one| capability_is_in_bounding_set(*one).unwrap_or(false)).collect()
}
