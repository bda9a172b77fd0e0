//! Simulator, checkers, black-box cluster tests, benchmarks: sees everything.

#[expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "it belongs to tests and fails by panicking"
)]
pub mod bench;
#[expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "it belongs to tests and fails by panicking"
)]
pub mod cluster;
#[expect(clippy::indexing_slicing, reason = "it belongs to tests and fails by panicking")]
pub mod folders;
pub mod fuzz;
#[expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "it belongs to tests and fails by panicking"
)]
pub mod hammer;
#[expect(clippy::expect_used, clippy::panic, reason = "it belongs to tests and fails by panicking")]
pub mod log_life;
pub mod sim;
