//! The time limit of a query.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::error::ApiError;

/// The time left for a page; none after a cancellation.
pub(super) struct Budget {
    timeout: Duration,
    until: Mutex<Instant>,
    cancelled: AtomicBool,
}

impl Budget {
    pub(super) fn new(timeout: Duration) -> Self {
        let until = Mutex::new(Instant::now() + timeout);
        Self { timeout, until, cancelled: AtomicBool::new(false) }
    }

    /// Restarts the time for the next page.
    pub(super) fn renew(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + self.timeout;
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
            || *self.until.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now()
    }

    /// Returns the error of a query that was interrupted.
    pub(super) fn error(&self) -> ApiError {
        ApiError::QueryExecution(if self.cancelled.load(Ordering::Relaxed) {
            "The query was cancelled.".to_owned()
        } else {
            format!("The query timed out after {} s.", self.timeout.as_secs())
        })
    }
}
