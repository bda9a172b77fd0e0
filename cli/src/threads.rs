//! The one place where threads are born: named, and joined by whoever holds the crew.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use pickbox_raft::clock;

/// Which thread ended, and with which last words: `None` if all was well.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: &'static str,
    pub(crate) failure: Option<String>,
}

/// The threads of a daemon.
#[derive(Debug)]
pub(crate) struct Crew {
    threads: Vec<(&'static str, JoinHandle<()>)>,
    // One message a thread at most, so it is bounded by their number.
    endings: (Sender<Ended>, Receiver<Ended>),
}

impl Crew {
    pub(crate) fn new() -> Self {
        Self { threads: Vec::new(), endings: unbounded() }
    }

    /// Starts a thread. `body` returns what went wrong, if anything.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        body: impl FnOnce() -> Option<String> + Send + 'static,
    ) -> io::Result<()> {
        let endings = self.endings.0.clone();
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            let failure = body();
            // Nobody listens any more when the daemon is past its end.
            let _ = endings.send(Ended { name, failure });
        })?;
        self.threads.push((name, thread));
        Ok(())
    }

    /// Where the threads' ends are told.
    pub(crate) fn endings(&self) -> &Receiver<Ended> {
        &self.endings.1
    }

    /// Joins all threads that end within `patience`; the others are named and left behind, since
    /// the process is about to end (checklist 140).
    pub(crate) fn join(self, patience: Duration) {
        let until = clock::now() + patience;
        for (name, thread) in self.threads {
            if !wait(&thread, until) {
                log::warn!("event=left_behind thread={name}");
                continue;
            }
            if thread.join().is_err() {
                log::error!("event=thread_panicked thread={name}");
            }
        }
    }
}

fn wait(thread: &JoinHandle<()>, until: Instant) -> bool {
    while !thread.is_finished() {
        if clock::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
