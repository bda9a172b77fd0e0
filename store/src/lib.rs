//! The folder: namespace, versions, contents, the three-way comparison, placing files.
//!
//! Three pictures of one folder are kept and compared:
//!
//! 1. **agreed**: what the log says ([`record::Record`]); the same on every node, by construction.
//! 2. **placed**: what this node last saw on its disk, and which agreed version that stood for.
//! 3. **actual**: what the file system says now.

pub mod agreed;
pub mod breaker;
mod bytes;
pub mod content_id;
pub mod contents;
pub mod digest;
pub mod engine;
pub mod folder;
pub mod git_index;
pub mod history_rows;
pub mod ignored;
pub mod index;
pub mod lease;
pub mod locate;
pub mod loss;
pub mod name;
pub mod observation;
pub mod op;
pub mod owner;
pub mod placed;
pub mod reconcile;
pub mod record;
pub mod sessions;
pub mod syncer;
pub mod time;
pub mod why;
pub mod xattr;
