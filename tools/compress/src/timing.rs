//! Times of an inference.

use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use kinglet_engine::{ModelError, Session};

/// Milliseconds of one inference on this thread, the least of at least `runs` and of as many as
/// `time` takes. What is counted is the thread's own time on the processor, so that other programs
/// hardly matter.
pub(crate) fn least_ms(
    session: &mut Session,
    runs: usize,
    time: Duration,
) -> Result<f64, ModelError> {
    let (input, mut outputs) = (session.sample_input(), Vec::new());
    session.run_into(&input, &mut outputs)?;
    let (start, mut best, mut done) = (Instant::now(), Duration::MAX, 0);
    while done < runs || start.elapsed() < time {
        let one = ThreadTime::now();
        session.run_into(&input, &mut outputs)?;
        best = best.min(one.elapsed());
        done += 1;
    }
    Ok(1e3 * best.as_secs_f64())
}
