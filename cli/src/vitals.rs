//! Whether the threads are at work without which the node does nothing: `consensus`, `log-writer`
//! and `apply`. Each is asked, and nobody waits for the answers: they are looked for at the next look.

use crossbeam_channel::{Receiver, Sender, bounded};
use pickbox_raft::Handle;
use pickbox_raft::api::Command;
use pickbox_store::engine::ports::{Freshness, Query, Request};

/// Looks without an answer after which somebody is told who is hanging.
const LOOKS_MAX: u32 = 2;

/// Asks the threads, round after round.
#[derive(Debug)]
pub(crate) struct Vitals {
    log: Handle,
    engine: Sender<Request>,
    /// Consensus and the log writer.
    log_beat: Beat,
    engine_beat: Beat,
    /// Looks at this round that found an answer missing.
    looks: u32,
}

/// One question of a round.
#[derive(Debug)]
enum Beat {
    /// There was no room for it yet.
    Unasked,
    Asked(Receiver<()>),
    Heard,
}

impl Vitals {
    pub(crate) fn new(log: Handle, engine: Sender<Request>) -> Self {
        Self { log, engine, log_beat: Beat::Unasked, engine_beat: Beat::Unasked, looks: 0 }
    }

    /// Takes in what was answered and asks what was not asked. Says whether all have answered since
    /// this last said so; then the next round begins.
    pub(crate) fn look(&mut self) -> bool {
        self.exchange();
        if !matches!((&self.log_beat, &self.engine_beat), (Beat::Heard, Beat::Heard)) {
            self.looks += 1;
            if self.looks == LOOKS_MAX {
                self.complain();
            }
            return false;
        }
        if self.looks >= LOOKS_MAX {
            log::warn!("event=threads_at_work_again");
        }
        self.looks = 0;
        (self.log_beat, self.engine_beat) = (Beat::Unasked, Beat::Unasked);
        self.exchange();
        true
    }

    fn exchange(&mut self) {
        self.log_beat.listen(|reply| self.log.try_send(Command::Pulse(reply)));
        self.engine_beat.listen(|reply| self.engine.try_send(question(reply)).is_ok());
    }

    fn complain(&self) {
        for (beat, threads) in
            [(&self.log_beat, "consensus or log-writer"), (&self.engine_beat, "apply")]
        {
            if !matches!(beat, Beat::Heard) {
                log::error!("event=thread_hangs thread=\"{threads}\"");
            }
        }
    }
}

impl Beat {
    fn listen(&mut self, ask: impl FnOnce(Sender<()>) -> bool) {
        match self {
            Self::Unasked => {
                let (reply, answer) = bounded(1);
                if ask(reply) {
                    *self = Self::Asked(answer);
                }
            }
            Self::Asked(answer) if answer.try_recv().is_ok() => *self = Self::Heard,
            Self::Asked(_) | Self::Heard => {}
        }
    }
}

/// The cheapest that the engine answers by itself.
fn question(reply: Sender<()>) -> Request {
    let reply = Box::new(move |_| {
        // Who asks makes room for one answer, or has gone.
        let _ = reply.try_send(());
    });
    Request { query: Query::Status, freshness: Freshness::Local, reply }
}
