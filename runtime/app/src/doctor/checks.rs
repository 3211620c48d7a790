//! The single checks. Each looks at one thing and says what it is; none changes anything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kinglet_device::camera::{self, Feed, Pace, Patience, Source, Taken, Wanted};
use kinglet_device::{Board, free_bytes, gpio, is_read_only};
use kinglet_engine::{Isa, Options, Session};

use super::Check;
use crate::{default_model, load};

/// Less free memory than this is too little for a model, MiB.
const LEAST_MEMORY: u64 = 64;
/// Less free space than this is too little for logs, MiB.
const LEAST_DISK: u64 = 100;
/// From here on boards slow down soon, or now, °C.
const WARM: f64 = 70.0;
/// See [`WARM`].
const HOT: f64 = 80.0;
/// The longest that a program may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

const COOL: &str = "a heat sink or fan; until then `kinglet watch --cool-below 75`";

/// Board, processor, clock, heat, power, memory, huge pages, disk.
pub(super) fn machine() -> Vec<Check> {
    let board = Board::read();
    let mut checks = vec![
        Check::good("board", board.to_string()),
        processor(),
        clock(&board),
        heat(board.temperature_mc.map(|t| t as f64 / 1e3)),
    ];
    if let Some(flags) = board.throttling {
        checks.push(power(flags));
    }
    checks.push(memory());
    let of_kernel = |name: &str| {
        std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{name}")).ok()
    };
    checks
        .push(huge_pages(of_kernel("enabled").as_deref(), of_kernel("hpage_pmd_size").as_deref()));
    checks.push(disk());
    checks
}

fn processor() -> Check {
    let names = |all: &[Isa]| all.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    let has = names(&Isa::available());
    match Isa::select() {
        Ok(isa) => Check::good("processor", format!("kernels: {} (it has {has})", isa.name())),
        Err(error) => Check::bad("processor", error.to_string(), "unset KINGLET_ISA"),
    }
}

fn clock(board: &Board) -> Check {
    let mhz = |khz: Option<u64>| khz.map_or("?".into(), |khz| format!("{}", khz / 1000));
    let Some(governor) = &board.governor else {
        return Check::good("clock", "this machine does not show it");
    };
    let found = format!(
        "{} of {} MHz, governor {governor}",
        mhz(board.clock_khz),
        mhz(board.max_clock_khz)
    );
    if governor == "powersave" {
        let mend = "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
        return Check::note("clock", found, mend);
    }
    Check::good("clock", found)
}

fn heat(celsius: Option<f64>) -> Check {
    match celsius {
        None => Check::good("temperature", "this machine does not show it"),
        Some(c) if c >= HOT => {
            Check::bad("temperature", format!("{c:.1} °C: it is throttled"), COOL)
        }
        Some(c) if c >= WARM => Check::note("temperature", format!("{c:.1} °C"), COOL),
        Some(c) => Check::good("temperature", format!("{c:.1} °C")),
    }
}

fn power(flags: kinglet_device::Throttling) -> Check {
    let list = |words: Vec<&str>| words.join(", ");
    let (now, past) = (list(flags.now().collect()), list(flags.since_boot().collect()));
    let mend = |words: &str| match words.contains("under-voltage") {
        true => {
            "a power supply made for this board (5.1 V, 3 A; 5 A for a Pi 5), a short thick cable"
        }
        false => COOL,
    };
    if !now.is_empty() {
        Check::bad("power", now.clone(), mend(&now))
    } else if !past.is_empty() {
        Check::note("power", format!("since boot: {past}"), mend(&past))
    } else {
        Check::good("power", "no throttling, no under-voltage since boot")
    }
}

fn memory() -> Check {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    match kib.map(|kib| kib >> 10) {
        None => Check::good("memory", "this machine does not show it"),
        Some(mib) if mib < LEAST_MEMORY => Check::bad(
            "memory",
            format!("{mib} MiB left"),
            "see what uses it: ps aux --sort=-rss | head",
        ),
        Some(mib) => Check::good("memory", format!("{mib} MiB left")),
    }
}

/// Whether weights may lie in huge pages, by what Linux has under `transparent_hugepage`: `always [madvise] never`, and bytes.
fn huge_pages(enabled: Option<&str>, size: Option<&str>) -> Check {
    let mib = size.and_then(|bytes| Some(bytes.trim().parse::<u64>().ok()? >> 20));
    match (enabled, mib) {
        (None, _) => Check::good("huge pages", "this kernel has none"),
        (Some(enabled), _) if enabled.contains("[never]") => Check::note(
            "huge pages",
            "turned off: models take some percent longer",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        (_, Some(mib)) if mib > 2 => Check::good(
            "huge pages",
            format!("of {mib} MiB: too large for a model, it goes without"),
        ),
        _ => Check::good("huge pages", "a model's weights lie in them"),
    }
}

fn disk() -> Check {
    let here = Path::new(".");
    if is_read_only(here).unwrap_or(false) {
        return Check::note(
            "disk",
            "this folder is on a file system that is mounted read-only",
            "meant to be so on an appliance; else see why: dmesg | grep -i 'error\\|read-only'",
        );
    }
    match free_bytes(here).map(|bytes| bytes >> 20) {
        Ok(mib) if mib < LEAST_DISK => Check::bad(
            "disk",
            format!("{mib} MiB left in this folder"),
            "see what uses it: du -xh . | sort -h | tail",
        ),
        Ok(mib) => Check::good("disk", format!("{mib} MiB left in this folder")),
        Err(error) => Check::note("disk", error.to_string(), "df -h ."),
    }
}

/// V4L2 devices, CSI cameras, and the programs behind cameras and videos.
pub(super) fn cameras() -> Vec<Check> {
    let is_pi = Board::read().model.is_some_and(|m| m.starts_with("Raspberry Pi"));
    let mut checks = Vec::new();
    let mut usable = 0;
    for device in camera::devices() {
        let path = device.path.display();
        checks.push(match device.what {
            Ok(what) => {
                usable += 1;
                Check::good("camera", format!("{path}: {what}"))
            }
            Err(error) => {
                let text = error.to_string();
                match text.contains("usermod") {
                    true => Check::bad(
                        "camera",
                        text,
                        "sudo usermod -aG video $USER, then log in again",
                    ),
                    // A board's codecs and a camera's second device are such.
                    false => Check::good("camera", format!("{path} is none to be used: {text}")),
                }
            }
        });
    }
    let rpicam = answer("rpicam-hello", &["--list-cameras"]);
    match &rpicam {
        Some(text) => {
            let found: Vec<_> = text
                .lines()
                .filter(|l| {
                    l.trim_start().starts_with(|c: char| c.is_ascii_digit()) && l.contains(" : ")
                })
                .collect();
            usable += found.len();
            match found.is_empty() {
                true => checks.push(Check::note(
                    "rpicam",
                    "installed; it sees no CSI camera",
                    "if there is one: switch off, check the ribbon cable on both ends",
                )),
                false => checks.extend(found.iter().map(|l| Check::good("rpicam", l.trim()))),
            }
        }
        None if is_pi => checks.push(Check::note(
            "rpicam",
            "not installed: CSI cameras cannot be used",
            "sudo apt install rpicam-apps",
        )),
        None => {}
    }
    if usable == 0 {
        let mend = "plug one in; see what the kernel says of it: sudo dmesg | tail";
        checks.push(Check::note("camera", "none found", mend));
    }
    checks.push(match answer("ffmpeg", &["-hide_banner", "-version"]) {
        Some(text) => Check::good("ffmpeg", text.lines().next().unwrap_or("installed")),
        None => Check::note(
            "ffmpeg",
            "not installed: video files, RTSP and HTTPS cannot be watched",
            "sudo apt install ffmpeg",
        ),
    });
    checks
}

/// What a program says; `None` when it is not there, or hangs.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let deadline = Instant::now() + ANSWER;
    // What is asked for fits a pipe, so that it need not be read meanwhile.
    while child.try_wait().ok()?.is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::io::read_to_string(child.stdout.take()?).ok()
}

/// GPIO chips and the display's bus.
pub(super) fn pins() -> Vec<Check> {
    let chips = gpio::chips();
    if chips.is_empty() {
        let mend = "nothing to do unless lights, buttons or relays are wanted";
        return vec![Check::note("GPIO", "this machine shows no chip", mend)];
    }
    chips
        .iter()
        .map(|chip| {
            let path = chip.path.display();
            match std::fs::File::open(&chip.path) {
                Ok(_) => {
                    Check::good("GPIO", format!("{path}: {}, {} lines", chip.label, chip.lines))
                }
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Check::bad(
                    "GPIO",
                    format!("{path}: you may not use it"),
                    "sudo usermod -aG gpio $USER, then log in again",
                ),
                Err(e) => Check::bad("GPIO", format!("{path}: {e}"), format!("ls -l {path}")),
            }
        })
        .collect()
}

/// Takes a picture.
pub(super) fn picture(text: &str) -> Check {
    let source = match Source::parse(text) {
        Ok(source) => source,
        Err(error) => return Check::bad("picture", error.to_string(), "kinglet watch --help"),
    };
    let begun = Instant::now();
    let feed = Feed::start(source, Wanted::default(), Pace::Newest, Patience::default());
    let deadline = begun + Patience::default().start + Duration::from_secs(1);
    let why = match feed.take(deadline) {
        Taken::Frame(frame) => {
            let mode = feed.status().mode.unwrap_or_else(|| "a picture".into());
            let (bytes, ms) = (frame.bytes.len(), begun.elapsed().as_millis());
            return Check::good("picture", format!("{text}: {mode}, {bytes} bytes, after {ms} ms"));
        }
        Taken::Lost => feed.status().last_error.unwrap_or_default(),
        Taken::Wait => "no picture in time".into(),
        Taken::End(Err(error)) => error.to_string(),
        Taken::End(Ok(())) => "it is empty".into(),
    };
    Check::bad("picture", format!("{text}: {why}"), "see the lines about cameras above")
}

/// Loads the model, runs its self-test and times it.
pub(super) fn model(path: Option<&PathBuf>) -> Check {
    let path = match path.cloned().map_or_else(default_model::find, Ok) {
        Ok(path) => path,
        Err(error) => {
            let found = error.to_string().replace('\n', " ");
            return Check::bad("model", found, "kinglet doctor MODEL.onnx");
        }
    };
    let name = path.display();
    let options =
        Options { self_test: false, tuned_for: Some(load::machine()), ..Options::default() };
    let tested = Session::load(&path, &options).and_then(|mut session| {
        let samples = session.self_test()?;
        let (input, mut outputs) = (session.sample_input(), Vec::new());
        session.run_into(&input, &mut outputs)?;
        let begun = Instant::now();
        session.run_into(&input, &mut outputs)?;
        Ok((samples, begun.elapsed().as_secs_f64() * 1e3))
    });
    match tested {
        Ok((0, ms)) => Check::note(
            "model",
            format!("{name}: {ms:.1} ms a picture on one thread; it has no self-test"),
            "make it again with kinglet-tools, which puts one in",
        ),
        Ok((samples, ms)) => {
            let text =
                format!("{name}: {samples} samples as on the host, {ms:.1} ms on one thread");
            Check::good("model", text)
        }
        Err(error) => {
            let mend = format!("copy it again, then: kinglet verify {name}");
            Check::bad("model", format!("{name}: {error}"), mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn heat_and_power_are_judged() {
        assert_eq!(heat(None).verdict, Verdict::Good);
        assert_eq!(heat(Some(45.0)).verdict, Verdict::Good);
        assert_eq!(heat(Some(72.0)).verdict, Verdict::Note);
        assert_eq!(heat(Some(81.0)).verdict, Verdict::Bad);
        let flags = |text| power(kinglet_device::Throttling::parse(text).unwrap());
        assert_eq!(flags("0").verdict, Verdict::Good);
        let past = flags("50000");
        assert_eq!(past.verdict, Verdict::Note);
        assert!(past.mend.unwrap().contains("power supply"));
        let now = flags("4");
        assert_eq!(now.verdict, Verdict::Bad);
        assert!(now.mend.unwrap().contains("heat sink"));
    }

    #[test]
    fn huge_pages_are_given_too_large_or_turned_off() {
        let small = Some("2097152\n");
        assert_eq!(huge_pages(Some("always [madvise] never\n"), small).verdict, Verdict::Good);
        let off = huge_pages(Some("always madvise [never]\n"), small);
        assert_eq!(off.verdict, Verdict::Note);
        assert!(off.mend.unwrap().starts_with("echo madvise"));
        let large = huge_pages(Some("[always] madvise never\n"), Some("33554432\n"));
        assert!(large.verdict == Verdict::Good && large.found.contains("32 MiB"));
        assert_eq!(huge_pages(None, None).verdict, Verdict::Good);
    }

    #[test]
    fn programs_answer_are_missing_or_hang() {
        assert_eq!(answer("echo", &["a"]).unwrap(), "a\n");
        assert_eq!(answer("no-such-program", &[]), None);
    }

    #[test]
    fn a_picture_is_taken_or_the_reason_told() {
        assert_eq!(picture("test").verdict, Verdict::Good);
        let bad = picture("/dev/video99");
        assert_eq!(bad.verdict, Verdict::Bad);
        assert!(bad.found.contains("/dev/video99"), "{bad}");
    }
}
