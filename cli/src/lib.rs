//! `pickboxd`, the daemon, and `pickbox`, people's tool: arguments, sentences and exit codes.
//!
//! Everything below speaks in types; here alone they become words for people. Standard output is
//! what was asked for, standard error is talk.
//!
//! | exit code | |
//! |---|---|
//! | 0 | done; for `status`: all is well |
//! | 1 | failed; for `status`: degraded, changes are accepted but a node cannot be reached |
//! | 2 | no leader or no majority |
//! | 3 | the daemon cannot be reached |
//! | 64 | the command line is wrong (`EX_USAGE`, sysexits.h) |

mod accounts;
mod admitting;
mod arguments;
mod ask;
mod barriers;
mod cluster;
mod conflicts;
pub mod daemon;
pub mod exit;
mod holds;
mod joining;
mod member;
mod node;
mod notify;
mod openers;
pub mod options;
mod output;
mod readmission;
mod recover;
pub mod sandbox;
mod secret_file;
pub mod start;
mod threads;
mod token;
pub mod tool;
mod vitals;
mod why;
mod wishes;
