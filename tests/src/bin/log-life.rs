//! Keeps a write-ahead log and tells what it does, until it is ended: for `make crash`.
//!
//! `log-life DIRECTORY SEGMENT_BYTES SEED STEPS`

use std::path::Path;

use pickbox_tests::log_life;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, segment_bytes, seed, steps] = arguments.as_slice() else {
        return Err("usage: log-life DIRECTORY SEGMENT_BYTES SEED STEPS".into());
    };
    let wal = log_life::open(Path::new(directory), segment_bytes.parse()?);
    Ok(log_life::live(wal, seed.parse()?, steps.parse()?, &mut std::io::stdout())?)
}
