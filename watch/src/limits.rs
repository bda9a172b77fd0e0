//! The kernel's limits on inotify, and what to tell people who reach them (trap T4).

use std::fmt;

/// How the watches of this user stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchBudget {
    /// Directories of the folder: one watch each.
    pub needed: usize,
    /// Watches that this process holds.
    pub used: usize,
    /// `fs.inotify.max_user_watches`, shared by all programs of this user; 0 when unreadable.
    pub limit: usize,
}

impl WatchBudget {
    /// A limit that leaves room for growth and for others.
    #[must_use]
    pub fn suggested(&self) -> usize {
        self.needed.max(self.limit).saturating_mul(2).max(524_288)
    }
}

impl fmt::Display for WatchBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the folder needs {} inotify watches, {} are set, all programs of this user share {}; \
             the rest is scanned every 30 s; to watch all, run: sysctl -w \
             fs.inotify.max_user_watches={}",
            self.needed,
            self.used,
            self.limit,
            self.suggested()
        )
    }
}

/// What this user may set, counting the limit of a user namespace too.
pub(crate) fn watches_max() -> usize {
    let namespace = read_file("/proc/sys/user/max_inotify_watches");
    [read("max_user_watches"), namespace].into_iter().filter(|&n| n > 0).min().unwrap_or(0)
}

/// One of the numbers below `/proc/sys/fs/inotify`; 0 when it cannot be read.
pub(crate) fn read(name: &str) -> usize {
    read_file(&format!("/proc/sys/fs/inotify/{name}"))
}

fn read_file(path: &str) -> usize {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// trap T4: not "no space left on device".
    #[test]
    fn the_message_names_the_line_that_helps() {
        let budget = WatchBudget { needed: 300_000, used: 8192, limit: 8192 };
        let text = budget.to_string();
        assert!(text.contains("300000") && text.contains("8192"), "{text}");
        assert!(text.ends_with("sysctl -w fs.inotify.max_user_watches=600000"), "{text}");
        assert!(read("max_user_watches") > 0 && read("nothing") == 0);
    }
}
