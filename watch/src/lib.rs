//! Which paths of the folder may have changed: inotify, walks, and a first look.
//!
//! Nothing here decides what a change means. The watcher turns what the kernel says into *marks*
//! on names (`dirty`), waits as long as a mark is worth waiting for, looks at the path
//! (`examine`) and hands the [`Sighting`](pickbox_store::observation::Sighting) on. A look
//! is state, not history: looking once too often is harmless, so every doubt is settled by another
//! look. That is why echoes of our own writes need no suppression, why rename cookies are only
//! hints, and why a queue overflow costs one walk and nothing else.
//!
//! ```text
//! kernel queue --drain--> events --> marks --due--> examine --> outbox --> store
//!                            |          ^
//!                            v          |
//!                     new directories, walks (watch first, then list)
//! ```
//!
//! One thread runs [`Watch::run`]. It empties the kernel's queue before anything else, so the
//! queue overflows only when a burst outruns plain reading.

#[cfg(test)]
mod chaos;
mod dirty;
mod enter;
mod events;
mod examine;
mod hot;
mod ignore;
mod lane;
mod limits;
mod linked;
mod moves;
mod notices;
mod reach;
mod run;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod source;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod thread_tests;
mod transient;
mod tree;
mod unreadable;
mod walk;
mod watcher;
mod wds;

pub use hot::{BadHotRule, HotPolicy, HotRules};
pub use limits::{Setting, WatchBudget};
pub use run::{Ask, Handle, NotTaken, Watch};
pub use watcher::{Counts, OpenFile, WatchError, WatchOptions};
