//! What a board is and how it is doing: model, cores, clock, temperature, throttling.
//!
//! Everything is read from the files that the kernel shows; what is not there is `None`, and
//! nothing is an error: a PC has no throttling flags. Start with [`Board::read`].

use std::fmt;
use std::path::Path;

use serde::Serialize;

mod heap;
mod throttling;

pub use heap::settle_heap;
pub use throttling::Throttling;

/// What is known of the machine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Board {
    /// The board's or the processor's name.
    pub model: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory of the machine, bytes.
    pub memory_bytes: Option<u64>,
    /// Clock governor of the first core.
    pub governor: Option<String>,
    /// Current clock of the first core, kHz.
    pub clock_khz: Option<u64>,
    /// Highest clock of the first core, kHz.
    pub max_clock_khz: Option<u64>,
    /// Temperature of the processor, thousandths of a degree Celsius.
    pub temperature_mc: Option<i64>,
    /// Flags of the Raspberry Pi's firmware.
    pub throttling: Option<Throttling>,
}

impl Board {
    /// Reads this machine.
    #[must_use]
    pub fn read() -> Self {
        Self::read_under(Path::new("/"))
    }

    /// Reads a machine whose file system lies under `root`.
    #[must_use]
    pub fn read_under(root: &Path) -> Self {
        let text = |path: &str| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
            (!text.is_empty()).then(|| text.to_owned())
        };
        let number = |path: &str| text(path)?.parse().ok();
        let clock = |name: &str| number(&format!("sys/devices/system/cpu/cpu0/cpufreq/{name}"));
        Self {
            model: text("proc/device-tree/model")
                .or_else(|| field(&text("proc/cpuinfo")?, "model name")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: text("proc/meminfo").and_then(|t| kib(&field(&t, "MemTotal")?)),
            governor: text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock_khz: clock("scaling_cur_freq"),
            max_clock_khz: clock("cpuinfo_max_freq"),
            temperature_mc: text("sys/class/thermal/thermal_zone0/temp")
                .and_then(|t| t.parse().ok()),
            throttling: text("sys/devices/platform/soc/soc:firmware/get_throttled")
                .and_then(|t| Throttling::parse(&t)),
        }
    }

    /// What may have disturbed a measurement that began at `self` and ended at `after`, in words.
    #[must_use]
    pub fn disturbances(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(flags) = after.throttling {
            found.extend(flags.now().map(|f| format!("the firmware reports: {f}")));
        }
        if let Some(governor) = self.governor.as_deref().filter(|g| *g != "performance") {
            found.push(format!("the clock governor is '{governor}'; 'performance' varies least"));
        }
        if let (Some(before), Some(after)) = (self.temperature_mc, after.temperature_mc)
            && after >= 80_000
        {
            let (before, after) = (before as f64 / 1e3, after as f64 / 1e3);
            found.push(format!(
                "the processor went from {before:.1} to {after:.1} °C; boards slow down from 80"
            ));
        }
        found
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores", self.model.as_deref().unwrap_or("unknown"), self.cores)?;
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {:.1} GiB", bytes as f64 / f64::from(1 << 30))?;
        }
        if let Some(temperature) = self.temperature_mc {
            write!(f, ", {:.1} °C", temperature as f64 / 1e3)?;
        }
        Ok(())
    }
}

/// Peak resident memory of this process, bytes.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    kib(&field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM")?)
}

/// Resident memory of this process, bytes.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    kib(&field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS")?)
}

/// Lets the other threads of this process, and threads that this one starts from now on, come first:
/// `nice` is 1 to 19, the larger the more. Where the system does not allow it, nothing changes.
pub fn lower_priority(nice: i32) {
    // On Linux this is a thread's own.
    let _ = rustix::process::setpriority_process(None, nice);
}

/// Lets this process have so many files and connections open, as far as the system allows it.
pub fn allow_open_files(most: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if let Some(current) = current.filter(|current| *current < most) {
        let wanted = maximum.map_or(most, |maximum| maximum.min(most)).max(current);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// Space that is left for us on the file system of a path, bytes.
///
/// # Errors
/// What the system says.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Whether the file system of a path is mounted so that nothing can be written.
///
/// # Errors
/// What the system says.
pub fn is_read_only(path: &Path) -> std::io::Result<bool> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(facts.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// `"123 kB"` in bytes.
fn kib(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pi() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        write("proc/meminfo", "MemTotal:        3884092 kB\nMemFree: 1 kB\n");
        write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n");
        write("sys/class/thermal/thermal_zone0/temp", "81234\n");
        write("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
        root
    }

    #[test]
    fn a_pi_is_read_from_its_files() {
        let root = pi();
        let board = Board::read_under(root.path());
        assert_eq!(board.model.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        assert_eq!(board.memory_bytes, Some(3_884_092 * 1024));
        let notes = board.disturbances(&board).join("; ");
        for expected in ["under-voltage", "throttled", "ondemand", "81.2"] {
            assert!(notes.contains(expected), "{notes}");
        }
    }

    #[test]
    fn a_machine_that_shows_nothing_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let board = Board::read_under(root.path());
        assert_eq!(board.model, None);
        assert!(board.disturbances(&board).is_empty());
        assert!(peak_memory_bytes().unwrap() > 1 << 20);
    }
}
