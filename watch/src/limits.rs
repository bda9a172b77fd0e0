//! The kernel's limits on inotify, and what to tell people who reach them (trap T4).

use std::fmt;

/// How the watches of this user stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchBudget {
    /// Directories of the folder: one watch each.
    pub needed: usize,
    /// Watches that this process holds.
    pub used: usize,
    /// What all programs of this user share; 0 when unreadable.
    pub limit: usize,
    /// The kernel's setting that this limit comes from.
    pub setting: Setting,
}

/// A setting of the kernel that bounds the watches of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setting {
    /// `fs.inotify.max_user_watches`.
    #[default]
    User,
    /// `user.max_inotify_watches`, of a user namespace: of a container, most often.
    Namespace,
}

impl Setting {
    /// What `sysctl(8)` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "fs.inotify.max_user_watches",
            Self::Namespace => "user.max_inotify_watches",
        }
    }
}

/// Where a setting is put to last over reboots (sysctl.d(5)).
const SYSCTL_FILE: &str = "/etc/sysctl.d/50-pickbox.conf";

impl WatchBudget {
    /// A limit that leaves room for growth and for others.
    #[must_use]
    pub fn suggested(&self) -> usize {
        self.needed.max(self.limit).saturating_mul(2).max(524_288)
    }
}

impl fmt::Display for WatchBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (setting, suggested) = (self.setting.name(), self.suggested());
        write!(
            f,
            "the folder needs {} inotify watches, {} are set, all programs of this user share {}; \
             the rest is scanned every 30 s; to watch all, run: sysctl -w {setting}={suggested}; to keep it \
             over reboots: echo {setting}={suggested} >> {SYSCTL_FILE}",
            self.needed, self.used, self.limit,
        )
    }
}

/// What this user may set, counting the limit of a user namespace too.
pub(crate) fn watches_max() -> (usize, Setting) {
    let user = (read("max_user_watches"), Setting::User);
    let namespace = (read_file("/proc/sys/user/max_inotify_watches"), Setting::Namespace);
    let known = [user, namespace].into_iter().filter(|(limit, _)| *limit > 0);
    known.min_by_key(|(limit, _)| *limit).unwrap_or_default()
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
        let setting = Setting::User;
        let budget = WatchBudget { needed: 300_000, used: 8192, limit: 8192, setting };
        let text = budget.to_string();
        assert!(text.contains("needs 300000") && text.contains("8192 are set"), "{text}");
        assert!(text.contains("run: sysctl -w fs.inotify.max_user_watches=600000;"), "{text}");
        let kept = "echo fs.inotify.max_user_watches=600000 >> /etc/sysctl.d/50-pickbox.conf";
        assert!(text.ends_with(kept), "{text}");
        let text = WatchBudget { setting: Setting::Namespace, ..budget }.to_string();
        assert!(text.contains("sysctl -w user.max_inotify_watches=600000;"), "{text}");
        assert!(read("max_user_watches") > 0 && read("nothing") == 0);
    }
}
