//! What the log is used for, and how much of it one path may have.

pub(super) mod busiest;
pub(super) mod pace;

/// See the parts.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) pace: pace::Pace,
    pub(super) busiest: busiest::Busiest,
}
