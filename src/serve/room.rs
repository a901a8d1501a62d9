//! Room for work that is not to be done by everybody at once: so many at it, so many more in a queue.
//!
//! Promises: whoever finds the queue full, or waits in it for too long, is told so by the problem given;
//! who hangs up in the queue leaves it.
#![deny(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Problem;

/// Places at work and in the queue.
#[derive(Debug)]
pub struct Room {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    patience: Duration,
    busy: fn(usize) -> Problem,
}

impl Room {
    /// Who waits longer than `patience`, or behind `queue` others, gets `busy(queue)`.
    pub fn new(
        places: usize,
        queue: usize,
        patience: Duration,
        busy: fn(usize) -> Problem,
    ) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            queue,
            patience,
            busy,
        }
    }

    /// A place, held until it is dropped.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let places = Arc::clone(&self.places);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Ok(place);
        }
        if self.waiting.fetch_add(1, Relaxed) >= self.queue {
            self.waiting.fetch_sub(1, Relaxed);
            return Err((self.busy)(self.queue));
        }
        // Counted out again also when the client hangs up in the queue.
        let _waiting = Waiting(&self.waiting);
        match timeout(self.patience, places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err((self.busy)(self.queue)),
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(queue: usize) -> Problem {
        Problem::unavailable("busy", "Busy", queue.to_string())
    }

    #[tokio::test]
    async fn more_wait_and_still_more_are_refused() {
        let room = Room::new(1, 1, Duration::from_secs(60), busy);
        let first = room.enter().await.unwrap();
        let mut second = Box::pin(room.enter());
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(room.enter().await.unwrap_err().kind, "/problems/busy");
        // Who leaves the queue makes room in it.
        drop(second);
        let mut third = Box::pin(room.enter());
        assert!(futures::poll!(&mut third).is_pending());
        drop(first);
        drop(third.await.unwrap());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let room = Room::new(0, 1, Duration::from_millis(20), busy);
        assert!(room.enter().await.is_err());
        assert!(room.enter().await.is_err());
    }
}
