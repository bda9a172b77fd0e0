//! The two ends of the bounded channels between the consensus loop and the log writer.
//!
//! They are crossbeam's. As traits, so that the code on both sides can be run under a scheduler that
//! tries the orders in which two threads can meet (`handoff/check.rs`).

use std::time::Duration;

use crossbeam_channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, TrySendError,
};

/// Where items go in.
pub trait Inlet<T> {
    /// Puts an item in; waits while there is no room.
    ///
    /// # Errors
    /// When the other end is gone: gives the item back.
    fn send(&self, item: T) -> Result<(), SendError<T>>;

    /// Puts an item in if there is room.
    ///
    /// # Errors
    /// When there is none, or the other end is gone: gives the item back.
    fn try_send(&self, item: T) -> Result<(), TrySendError<T>>;

    /// Whether there is no room.
    fn is_full(&self) -> bool;
}

/// Where items come out, in order.
pub trait Outlet<T> {
    /// Takes the next item; waits while there is none.
    ///
    /// # Errors
    /// When there is none and the other end is gone.
    fn recv(&self) -> Result<T, RecvError>;

    /// Takes the next item; waits so long while there is none.
    ///
    /// # Errors
    /// When there is none in time, or none and the other end is gone.
    fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError>;

    /// Takes the next item if there is one.
    ///
    /// # Errors
    /// When there is none.
    fn try_recv(&self) -> Result<T, TryRecvError>;

    /// Whether there is none.
    fn is_empty(&self) -> bool;
}

impl<T> Inlet<T> for Sender<T> {
    fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.send(item)
    }

    fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.try_send(item)
    }

    fn is_full(&self) -> bool {
        self.is_full()
    }
}

impl<T> Outlet<T> for Receiver<T> {
    fn recv(&self) -> Result<T, RecvError> {
        self.recv()
    }

    fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_timeout(timeout)
    }

    fn try_recv(&self) -> Result<T, TryRecvError> {
        self.try_recv()
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

#[cfg(test)]
mod check;
