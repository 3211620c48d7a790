//! A small display that shows what is decided: a thread that has it, and tries again every 5 s
//! when it cannot be had.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kinglet_device::Board;
use kinglet_device::camera;
use kinglet_device::display::{DisplayError, Face, LinuxPanel, PanelSize, open};
use serde::Deserialize;

use super::bus::{Bus, Heard, Listener, Writer};
use super::decision::Decision;

/// Shown at most so often.
const SHOW: Duration = Duration::from_millis(200);
/// How often the temperature is read and decisions are counted.
const COUNT: Duration = Duration::from_secs(1);
/// How often a display that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// `[display]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(default = "bus")]
    bus: PathBuf,
    /// Of seven bits.
    #[serde(default = "address")]
    address: u8,
    #[serde(default)]
    size: Size,
    /// It is mounted upside down.
    #[serde(default)]
    rotate: bool,
}

/// Sizes in pixels.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum Size {
    #[default]
    #[serde(rename = "128x64")]
    High,
    #[serde(rename = "128x32")]
    Low,
}

fn bus() -> PathBuf {
    "/dev/i2c-1".into()
}

fn address() -> u8 {
    0x3c
}

/// What is known, and when it was shown.
struct Shown {
    face: Face,
    /// Decisions since the last count, and when that was.
    count: u64,
    counted: Instant,
    /// What is on the display.
    last: Option<Face>,
    when: Instant,
}

/// Shows decisions until the bus is closed.
pub(super) fn start(settings: &Settings, listener: Listener, bus: Bus) -> std::io::Result<Writer> {
    let Settings { bus: path, address, size, rotate } = settings.clone();
    let size = match size {
        Size::High => PanelSize::High,
        Size::Low => PanelSize::Low,
    };
    let open = move || open(&path, address, size, rotate);
    listener.on_thread("display", move |listener| run(&listener, &bus, open))
}

fn run(listener: &Listener, bus: &Bus, open: impl Fn() -> Result<LinuxPanel, DisplayError>) {
    let mut panel: Option<LinuxPanel> = None;
    let mut due = Instant::now();
    let mut shown = Shown::new();
    loop {
        match listener.next_before(Instant::now() + SHOW) {
            Heard::Decision(decision) => shown.hear(&decision),
            Heard::Nothing => {}
            Heard::Over => break,
        }
        let now = Instant::now();
        if panel.is_none() && now >= due {
            due = now + AGAIN;
            let opened = open();
            bus.report("display", opened.as_ref().err().map(ToString::to_string));
            (panel, shown.last) = (opened.ok(), None);
        }
        let Some(ready) = &mut panel else { continue };
        let Some(face) = shown.due(bus, now) else { continue };
        if let Err(error) = ready.show(&face) {
            bus.report("display", Some(error.to_string()));
            (panel, due) = (None, now + AGAIN);
        }
    }
    if let Some(mut panel) = panel {
        // Whether it hears us or not: this is the end.
        let _ = panel.off();
    }
}

impl Shown {
    fn new() -> Self {
        let now = Instant::now();
        Self { face: Face::default(), count: 0, counted: now, last: None, when: now }
    }

    fn hear(&mut self, decision: &Decision) {
        self.count += u64::from(!decision.lost);
        let region = decision.region.as_ref().map(|r| format!("{r}: ")).unwrap_or_default();
        let name = decision.decision.as_ref().map(|name| format!("{region}{name}"));
        // With several regions that which has something to say.
        if decision.region.is_none() || name.is_some() || decision.changed {
            self.face.decision = name;
            self.face.score = decision.top.first().map_or(0.0, |entry| entry.score);
        }
    }

    /// What is to be shown now, if that is anything new.
    fn due(&mut self, bus: &Bus, now: Instant) -> Option<Face> {
        if self.last.is_some() && now.duration_since(self.when) < SHOW {
            return None;
        }
        let since = now.duration_since(self.counted);
        if since >= COUNT || self.last.is_none() {
            self.face.fps = self.count as f64 / since.as_secs_f64().max(0.1);
            (self.count, self.counted) = (0, now);
            self.face.celsius = Board::read().temperature_mc.map(|t| t as f64 / 1e3);
        }
        self.face.camera = bus.health().camera.state == camera::State::Running;
        if self.last.as_ref() == Some(&self.face) {
            return None;
        }
        (self.last, self.when) = (Some(self.face.clone()), now);
        Some(self.face.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::Entry;
    use super::*;

    #[test]
    fn settings_have_defaults_and_sizes_have_names() {
        let read = |text: &str| toml::from_str::<Settings>(text);
        let usual = read("").unwrap();
        assert_eq!((usual.bus, usual.address), ("/dev/i2c-1".into(), 0x3c));
        assert!(matches!(read("size = '128x32'").unwrap().size, Size::Low));
        assert!(read("size = '64x64'").is_err() && read("adress = 1").is_err());
    }

    #[test]
    fn the_newest_decision_is_shown() {
        let mut shown = Shown::new();
        let top = vec![Entry { index: 1, label: "tabby".into(), score: 0.5 }];
        let mut decision = Decision { decision: Some("tabby".into()), top, ..Decision::default() };
        shown.hear(&decision);
        assert_eq!((shown.face.decision.as_deref(), shown.face.score), (Some("tabby"), 0.5));
        decision.region = Some("left".into());
        shown.hear(&decision);
        assert_eq!(shown.face.decision.as_deref(), Some("left: tabby"));
        // Of another region in which nothing is decided nothing is said.
        let nothing = Decision { region: Some("right".into()), ..Decision::default() };
        shown.hear(&nothing);
        assert_eq!(shown.face.decision.as_deref(), Some("left: tabby"));
        assert_eq!(shown.count, 3);
    }
}
