//! Work on many pictures with a session a thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Hands out the numbers `0..items`, each once, to whoever asks.
#[derive(Debug)]
pub struct Queue {
    next: AtomicUsize,
    items: usize,
    stopped: AtomicBool,
}

impl Iterator for &Queue {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let item = self.next.fetch_add(1, Ordering::Relaxed);
        (item < self.items).then_some(item)
    }
}

/// The number of threads to use: as asked, or one for each core.
#[must_use]
pub fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// Runs `worker` on `threads` threads at once over one queue of `items`; gives their results.
/// The error of one stops the others.
///
/// # Errors
/// The first error, in the order of the threads.
pub fn run<R: Send, E: Send>(
    threads: usize,
    items: usize,
    worker: impl Fn(&Queue) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let stopped = AtomicBool::new(false);
    let queue = Queue { next: AtomicUsize::new(0), items, stopped };
    let guarded = || {
        let result = worker(&queue);
        if result.is_err() {
            queue.stopped.store(true, Ordering::Relaxed);
        }
        result
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads.clamp(1, items.max(1))).map(|_| scope.spawn(guarded)).collect();
        let join = |w: std::thread::ScopedJoinHandle<'_, Result<R, E>>| match w.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().map(join).collect()
    })
}

/// `work(0)`, `work(1)` … on `threads` threads, the results in that order.
pub(crate) fn map<R: Send, E: Send>(
    threads: usize,
    items: usize,
    work: impl Fn(usize) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let parts = run(threads, items, |queue| {
        queue.map(|at| Ok((at, work(at)?))).collect::<Result<Vec<_>, E>>()
    })?;
    let mut all: Vec<(usize, R)> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once() {
        let parts = run(3, 100, |queue| Ok::<_, ()>(queue.collect::<Vec<_>>())).unwrap();
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_stops_all() {
        let result = run(2, usize::MAX, |queue| -> Result<(), usize> {
            for item in queue {
                if item == 10 {
                    return Err(item);
                }
            }
            Ok(())
        });
        assert_eq!(result, Err(10));
    }
}
