//! See `pickbox_tests::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pickbox_tests::fuzz::TARGETS;

fuzz_target!(|bytes: &[u8]| (TARGETS[1].run)(bytes));
