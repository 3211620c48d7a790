//! Many boards, in waves: one, then a tenth, then the rest. The first failure stops what has not begun.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Device, PushError, Pushed};
use crate::ssh::SshError;

/// What became of a board.
#[derive(Debug)]
pub enum Fate {
    /// It went well.
    Done(Pushed),
    /// It did not.
    Failed(PushError),
    /// Its turn did not come.
    NotBegun,
}

/// A board's line in the table.
#[derive(Debug)]
pub struct Line<'a> {
    /// The board.
    pub device: &'a Device,
    /// Its wave, from 1 on.
    pub wave: usize,
    /// What became of it.
    pub fate: Fate,
    /// How long that took.
    pub took: Duration,
}

/// The waves of so many boards: the first alone, then a tenth (at least one), then the rest.
#[must_use]
pub fn split(boards: usize) -> Vec<Range<usize>> {
    let second = 1 + boards.div_ceil(10);
    let ends = [boards.min(1), second.min(boards), boards];
    let mut start = 0;
    let mut waves = Vec::new();
    for end in ends {
        if end > start {
            waves.push(start..end);
            start = end;
        }
    }
    waves
}

/// Does `work` for each board, wave after wave, `jobs` at once at most. After a failure, or once `stop` is set, no
/// further board is begun; those that have begun are finished. `told` hears of each as it ends.
pub fn roll_out<'a>(
    devices: &'a [Device],
    jobs: usize,
    stop: &AtomicBool,
    work: impl Fn(&Device) -> Result<Pushed, PushError> + Sync,
    told: impl Fn(&Line<'a>) + Sync,
) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::with_capacity(devices.len());
    for (wave, range) in split(devices.len()).into_iter().enumerate() {
        let next = AtomicUsize::new(range.start);
        let ended = Mutex::new(Vec::new());
        let worker = || {
            while !stop.load(Ordering::SeqCst) {
                let at = next.fetch_add(1, Ordering::SeqCst);
                let Some(device) = devices.get(at).filter(|_| range.contains(&at)) else { return };
                let start = Instant::now();
                let fate = work(device).map_or_else(Fate::Failed, Fate::Done);
                if matches!(fate, Fate::Failed(_)) {
                    stop.store(true, Ordering::SeqCst);
                }
                let line = Line { device, wave: wave + 1, fate, took: start.elapsed() };
                told(&line);
                if let Ok(mut ended) = ended.lock() {
                    ended.push((at, line));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, range.len()) {
                scope.spawn(worker);
            }
        });
        let mut ended = ended.into_inner().unwrap_or_default();
        ended.sort_by_key(|(at, _)| *at);
        let mut ended = ended.into_iter().peekable();
        for at in range {
            let line = ended.next_if(|(ended_at, _)| *ended_at == at).map(|(_, line)| line);
            let (device, wave) = (&devices[at], wave + 1);
            let none = || Line { device, wave, fate: Fate::NotBegun, took: Duration::ZERO };
            lines.push(line.unwrap_or_else(none));
        }
    }
    lines
}

impl Fate {
    /// In a word or two.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done(Pushed::Confirmed) => "confirmed",
            Self::Done(Pushed::Already) => "had it",
            Self::Done(Pushed::OnTrial) => "on trial",
            Self::Done(Pushed::Idle) => "not running",
            Self::Failed(PushError::RolledBack { .. }) => "rolled back",
            Self::Failed(PushError::Refused { .. }) => "refused",
            Self::Failed(PushError::Undecided { .. }) => "undecided",
            Self::Failed(PushError::Ssh(_)) => "unreachable",
            Self::Failed(_) => "failed",
            Self::NotBegun => "not begun",
        }
    }

    /// What to do about it; empty where there is nothing to do.
    #[must_use]
    pub fn advice(&self, device: &Device) -> String {
        let host = &device.host;
        match self {
            Self::Done(Pushed::Confirmed | Pushed::Already) => String::new(),
            Self::Done(Pushed::OnTrial) | Self::Failed(PushError::Undecided { .. }) => {
                format!("ask later: kinglet-tools status {host}")
            }
            Self::Done(Pushed::Idle) => {
                format!(
                    "its trial begins with its service: ssh {host} sudo systemctl start kinglet"
                )
            }
            Self::Failed(PushError::RolledBack { .. }) => {
                "it runs what it ran before; mend the release, give it a new number, push again"
                    .into()
            }
            Self::Failed(PushError::Refused { .. }) => {
                "it runs what it ran before; mend what it names, push again".into()
            }
            Self::Failed(PushError::NoProgram { .. }) => {
                "put Kinglet on it, or name the program in the list".into()
            }
            Self::Failed(PushError::Ssh(SshError::Connect { .. })) => {
                format!("see that 'ssh {host} true' works, push again")
            }
            Self::Failed(_) => format!("look: kinglet-tools status {host}"),
            Self::NotBegun => {
                "it runs what it ran before; push again, those that have it are passed over".into()
            }
        }
    }
}

/// All lines as a table, and what failed below it.
#[must_use]
pub fn table(lines: &[Line<'_>]) -> String {
    use std::fmt::Write as _;
    let wide =
        lines.iter().map(|l| l.device.host.as_str().chars().count()).max().unwrap_or(0).max(5);
    let mut text =
        format!("{:<wide$}  wave  {:<11}  {:>8}  what to do\n", "board", "outcome", "took");
    for line in lines {
        let took = match line.fate {
            Fate::NotBegun => String::new(),
            _ => format!("{:.1} s", line.took.as_secs_f64()),
        };
        let (host, word) = (line.device.host.as_str(), line.fate.word());
        let row = format!(
            "{host:<wide$}  {:>4}  {word:<11}  {took:>8}  {}",
            line.wave,
            line.fate.advice(line.device)
        );
        _ = writeln!(text, "{}", row.trim_end());
    }
    for line in lines {
        if let Fate::Failed(error) = &line.fate {
            _ = writeln!(text, "{error}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(n: usize) -> Vec<Device> {
        (0..n).map(|at| Device::new(format!("board{at}").parse().unwrap())).collect()
    }

    #[test]
    fn one_then_a_tenth_then_the_rest() {
        let sizes = |n| split(n).iter().map(ExactSizeIterator::len).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(2), [1, 1]);
        assert_eq!(sizes(3), [1, 1, 1]);
        assert_eq!(sizes(10), [1, 1, 8]);
        assert_eq!(sizes(25), [1, 3, 21]);
        assert_eq!(sizes(1000), [1, 100, 899]);
    }

    #[test]
    fn a_failure_stops_what_has_not_begun_and_at_most_so_many_run_at_once() {
        let devices = devices(25);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |device: &Device| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            running.fetch_sub(1, Ordering::SeqCst);
            let host = device.host.to_string();
            if host == "board2" {
                return Err(PushError::RolledBack {
                    host,
                    to: "release 3".into(),
                    why: "too slow".into(),
                });
            }
            Ok(Pushed::Confirmed)
        };
        let lines = roll_out(&devices, 2, &AtomicBool::new(false), work, |_| {});
        assert_eq!(lines.len(), 25);
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(lines[0].fate.word(), "confirmed");
        assert_eq!(lines[2].fate.word(), "rolled back");
        assert!(lines[4..].iter().all(|l| matches!(l.fate, Fate::NotBegun) && l.wave == 3));
        let text = table(&lines);
        assert!(text.contains("board2 went back to release 3: too slow"), "{text}");
        assert_eq!(text.lines().count(), 1 + 25 + 1, "{text}");
        let well = |_: &Device| Ok(Pushed::Already);
        let stopped = roll_out(&devices, 4, &AtomicBool::new(true), well, |_| {});
        assert!(stopped.iter().all(|l| matches!(l.fate, Fate::NotBegun)));
        let all = roll_out(&devices, 4, &AtomicBool::new(false), well, |_| {});
        assert!(all.iter().all(|l| matches!(l.fate, Fate::Done(Pushed::Already))));
    }
}
