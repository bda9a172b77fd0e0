//! Waking a thread that polls sockets, without a system call when it is awake.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::{Registry, Token, Waker};

/// Rings one polling thread. Clones ring the same one.
///
/// The sender puts something where the thread looks, then rings. The thread says
/// `may_sleep`, looks once more, and polls only if it found nothing: of the two, at least
/// one sees what the other did, so no ring is lost, and a thread that is awake costs its senders
/// no eventfd write.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Protocol<Waker, AtomicBool>>);

impl Bell {
    /// A bell for the poll of `registry`, which sees `token` when it rings.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = Waker::new(registry, token)?;
        Ok(Self(Arc::new(Protocol::new(waker, AtomicBool::new(false)))))
    }

    /// Wakes the thread if it sleeps, or is about to.
    pub fn ring(&self) {
        self.0.ring();
    }

    /// From here on a ring is heard: look at every queue again before polling.
    pub(crate) fn may_sleep(&self) {
        self.0.may_sleep();
    }

    /// Awake again: rings cost nothing.
    pub(crate) fn awake(&self) {
        self.0.awake();
    }
}

/// What ends a poll. Another one stands in under the scheduler of `handoff/check.rs`.
pub(crate) trait Wake {
    fn wake(&self) -> io::Result<()>;
}

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        self.wake()
    }
}

/// One word that two threads see in one order.
pub(crate) trait Flag {
    fn store(&self, value: bool);
    fn swap(&self, value: bool) -> bool;
}

impl Flag for AtomicBool {
    fn store(&self, value: bool) {
        self.store(value, Ordering::SeqCst);
    }

    fn swap(&self, value: bool) -> bool {
        self.swap(value, Ordering::SeqCst)
    }
}

/// What a bell does, whatever it is made of.
#[derive(Debug)]
pub(crate) struct Protocol<W, F> {
    waker: W,
    asleep: F,
}

impl<W: Wake, F: Flag> Protocol<W, F> {
    pub(crate) fn new(waker: W, asleep: F) -> Self {
        Self { waker, asleep }
    }

    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.swap(false)
            && let Err(error) = self.waker.wake()
        {
            // Only a closed eventfd can say so; the thread then is gone or looks at its deadline.
            log::warn!("cannot wake a thread: error={error}");
        }
    }

    pub(crate) fn may_sleep(&self) {
        self.asleep.store(true);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn awake(&self) {
        self.asleep.store(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;
    use mio::{Events, Poll};

    use super::*;

    /// A ring between the last look and the poll is heard: no item ever waits for the timeout.
    #[test]
    fn no_ring_is_lost() {
        const ITEMS: u32 = 20_000;
        let mut poll = Poll::new().unwrap();
        let bell = Bell::new(poll.registry(), Token(0)).unwrap();
        let (sender, receiver) = unbounded();
        std::thread::scope(|scope| {
            let ringer = bell.clone();
            scope.spawn(move || {
                for item in 0..ITEMS {
                    sender.send(item).unwrap();
                    ringer.ring();
                    if item % 7 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut events = Events::with_capacity(4);
            let mut taken = 0;
            while taken < ITEMS {
                bell.may_sleep();
                if receiver.is_empty() {
                    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
                    assert!(!events.is_empty(), "a ring was lost after {taken} items");
                }
                bell.awake();
                while receiver.try_recv().is_ok() {
                    taken += 1;
                }
            }
        });
    }

    /// Who is awake is not rung by a system call.
    #[test]
    fn a_thread_that_is_awake_is_not_woken() {
        let mut poll = Poll::new().unwrap();
        let bell = Bell::new(poll.registry(), Token(0)).unwrap();
        let mut events = Events::with_capacity(4);
        bell.ring();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        bell.may_sleep();
        bell.ring();
        bell.ring();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.iter().count(), 1);
    }
}
