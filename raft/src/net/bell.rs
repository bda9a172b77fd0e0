//! Waking a thread that polls sockets, without a system call when it is awake.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::{Registry, Token, Waker};

/// Rings one polling thread. Clones ring the same one.
///
/// The sender puts something where the thread looks, then rings. The thread says
/// [`Bell::may_sleep`], looks once more, and polls only if it found nothing: of the two, at least
/// one sees what the other did, so no ring is lost, and a thread that is awake costs its senders
/// no eventfd write.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waker: Waker,
    asleep: AtomicBool,
}

impl Bell {
    /// A bell for the poll of `registry`, which sees `token` when it rings.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = Waker::new(registry, token)?;
        Ok(Self(Arc::new(Inner { waker, asleep: AtomicBool::new(false) })))
    }

    /// Wakes the thread if it sleeps, or is about to.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.0.waker.wake()
        {
            // Only a closed eventfd can say so; the thread then is gone or looks at its deadline.
            log::warn!("cannot wake a thread: error={error}");
        }
    }

    /// From here on a ring is heard: look at every queue again before polling.
    pub(crate) fn may_sleep(&self) {
        self.0.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Awake again: rings cost nothing.
    pub(crate) fn awake(&self) {
        self.0.asleep.store(false, Ordering::SeqCst);
    }
}
