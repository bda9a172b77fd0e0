//! See `pickbox_tests::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pickbox_tests::fuzz::run;

fuzz_target!(|bytes: &[u8]| run("question", bytes));
