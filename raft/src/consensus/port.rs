//! The consensus thread's side of the log writer: jobs go out in order, what is done comes back.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::handoff::{Inlet, Outlet};
use crate::log_writer::{BATCH_JOBS_MAX, Job, LogEvent};

/// Jobs that wait in the channel.
const JOBS_MAX: usize = BATCH_JOBS_MAX;
/// Events that wait in the channel: one for each job, and a batch under way.
const EVENTS_MAX: usize = JOBS_MAX + BATCH_JOBS_MAX;

/// The log writer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// Jobs and what came back.
#[derive(Debug)]
pub(crate) struct LogPort<J = Sender<Job>, E = Receiver<LogEvent>> {
    jobs: J,
    events: E,
    /// Jobs that the channel had no room for. Bounded by the core, which limits what it has
    /// written and not yet seen durable (`UNCOMMITTED_BYTES_MAX`, and a leader's window).
    backlog: VecDeque<Job>,
}

impl LogPort {
    /// The port, and the log writer's ends of it.
    pub(crate) fn new() -> (Self, Receiver<Job>, Sender<LogEvent>) {
        let (jobs, inbox) = bounded(JOBS_MAX);
        let (outbox, events) = bounded(EVENTS_MAX);
        (Self::over(jobs, events), inbox, outbox)
    }
}

impl<J: Inlet<Job>, E: Outlet<LogEvent>> LogPort<J, E> {
    /// The port over these channels.
    pub(crate) fn over(jobs: J, events: E) -> Self {
        Self { jobs, events, backlog: VecDeque::new() }
    }

    /// Queues a job.
    pub(crate) fn order(&mut self, job: Job) {
        self.backlog.push_back(job);
    }

    /// Hands over as many jobs as there is room for.
    pub(crate) fn pump(&mut self) -> Result<(), Ended> {
        while let Some(job) = self.backlog.pop_front() {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => {
                    self.backlog.push_front(job);
                    return Ok(());
                }
                Err(TrySendError::Disconnected(_)) => return Err(Ended),
            }
        }
        Ok(())
    }

    /// What came back next.
    pub(crate) fn next_event(&self) -> Option<LogEvent> {
        self.events.try_recv().ok()
    }

    /// Whether something came back.
    pub(crate) fn has_news(&self) -> bool {
        !self.events.is_empty() || (!self.backlog.is_empty() && !self.jobs.is_full())
    }
}
