//! What a board shows, for an emulated machine: takes frames from a V4L2 camera in every format,
//! closes and opens it, and switches a line of a GPIO chip.
//!
//! `board /dev/video0 gpiochip0:3 20`: the last number says how often the emulated camera (vivid) is
//! unplugged. Needs no model, so that it is built in a minute. tests/emulated/board.sh runs it.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use kinglet_device::camera::{Feed, Layout, Pace, Patience, Source, Taken, Wanted, devices};
use kinglet_device::gpio::{
    Button, GUARD_COMMAND, Guard, Output, Pattern, Pin, chips, open_input, open_output, run_guard,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(GUARD_COMMAND) => return Ok(run_guard(&arguments[1..])?),
        Some("crash") => crash(&Pin::parse(&arguments[1])?, arguments.get(2).is_some())?,
        _ => {}
    }
    for device in devices() {
        match device.what {
            Ok(what) => println!("{}: {what}", device.path.display()),
            Err(error) => println!("{}: {error}", device.path.display()),
        }
    }
    for chip in chips() {
        println!("{}: {}, {} lines", chip.path.display(), chip.label, chip.lines);
    }
    if let Some(camera) = arguments.first() {
        frames(camera)?;
    }
    if let Some(pin) = arguments.get(1) {
        line(&Pin::parse(pin)?)?;
        crashes(pin)?;
    }
    if let (Some(camera), Some(times)) = (arguments.first(), arguments.get(2)) {
        unplug(camera, times.parse()?)?;
    }
    Ok(())
}

/// Takes the emulated camera away and gives it back: how soon that is noticed, and how soon there
/// are frames again.
fn unplug(camera: &str, times: u32) -> Result<(), Box<dyn std::error::Error>> {
    let driver = std::path::Path::new("/sys/bus/platform/drivers/vivid");
    let count = |folder: &str| std::fs::read_dir(folder).map(Iterator::count);
    let source = Source::parse(camera)?;
    let feed = Feed::start(source, Wanted::default(), Pace::Newest, Patience::default());
    let wait = |lost: bool| -> Result<Duration, String> {
        let begun = Instant::now();
        loop {
            match feed.take(begun + Duration::from_secs(10)) {
                Taken::Frame(_) if !lost => return Ok(begun.elapsed()),
                Taken::Lost if lost => return Ok(begun.elapsed()),
                Taken::Frame(_) | Taken::Lost => {}
                other => return Err(format!("{other:?}, {:?}", feed.status())),
            }
        }
    };
    wait(false)?;
    let before = (count("/proc/self/fd")?, count("/proc/self/task")?);
    let (mut noticed, mut back) = (Duration::ZERO, Duration::ZERO);
    for time in 0..times {
        std::fs::write(driver.join("unbind"), "vivid.0")?;
        noticed = noticed.max(wait(true)?);
        // Gone for up to three seconds.
        std::thread::sleep(Duration::from_millis(u64::from(time * 700 % 3000)));
        std::fs::write(driver.join("bind"), "vivid.0")?;
        back = back.max(wait(false)?);
    }
    let after = (count("/proc/self/fd")?, count("/proc/self/task")?);
    println!(
        "unplugged {times} times: noticed within {noticed:.1?}, back within {back:.1?}; \
         descriptors and threads {before:?} before, {after:?} after"
    );
    if after != before || noticed > Duration::from_secs(2) || back > Duration::from_secs(5) {
        return Err("that is too slow, or too many".into());
    }
    Ok(())
}

/// Ten frames in each format and some sizes, and how many descriptors are open afterwards.
fn frames(camera: &str) -> Result<(), Box<dyn std::error::Error>> {
    let formats =
        [Layout::Yuyv, Layout::Nv12, Layout::I420, Layout::Rgb, Layout::Grey, Layout::File];
    for layout in formats {
        for size in [(640, 480), (1000, 700)] {
            let wanted = Wanted { layout: Some(layout), size: Some(size), ..Wanted::default() };
            let feed =
                Feed::start(Source::parse(camera)?, wanted, Pace::Every, Patience::default());
            let begun = Instant::now();
            let mut last = None;
            for _ in 0..10 {
                match feed.take(Instant::now() + Duration::from_secs(10)) {
                    Taken::Frame(frame) => last = Some(frame),
                    other => return Err(format!("{other:?}").into()),
                }
            }
            let Some(frame) = last else { continue };
            let mean = frame.bytes.iter().map(|b| u64::from(*b)).sum::<u64>() as f64
                / frame.bytes.len() as f64;
            println!(
                "{}: {} bytes, mean {mean:.1}, {:.1} frames/s",
                feed.status().mode.unwrap_or_default(),
                frame.bytes.len(),
                10.0 / begun.elapsed().as_secs_f64()
            );
        }
    }
    println!("{} descriptors open", std::fs::read_dir("/proc/self/fd")?.count());
    Ok(())
}

/// Switches a line on and dies, with a guard or without.
fn crash(pin: &Pin, guarded: bool) -> Result<(), Box<dyn std::error::Error>> {
    let guard = guarded.then(|| Guard::start([(pin, false)].into_iter())).transpose()?;
    let mut output = Output::new(open_output(pin, false)?, Pattern::Steady, false)?;
    output.want(true, Instant::now());
    output.tick(Instant::now())?;
    std::mem::forget((guard, output));
    std::process::abort()
}

/// What a pin is like after such a death.
fn crashes(pin: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (chip, line) = pin.split_once(':').ok_or("a pin with its chip")?;
    let line: u32 = line.parse()?;
    for guarded in [false, true] {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.args(["crash", pin]).args(guarded.then_some("guarded"));
        let status = command.stderr(std::process::Stdio::null()).status()?;
        std::thread::sleep(Duration::from_millis(1500));
        // As it is, without a change.
        let mut builder = gpiocdev::Request::builder();
        let request = builder.on_chip(format!("/dev/{chip}")).with_line(line).request()?;
        let on = request.lone_value()? == gpiocdev::line::Value::Active;
        let how = if guarded { "with a guard" } else { "without a guard" };
        println!("after a crash ({status}) {how} the pin is {}", if on { "on" } else { "off" });
        if guarded && on {
            return Err("the guard has not switched it off".into());
        }
    }
    Ok(())
}

/// Switches a line, and reads it back through the same interface.
fn line(pin: &Pin) -> Result<(), Box<dyn std::error::Error>> {
    let mut output = Output::new(open_output(pin, false)?, Pattern::Steady, false)?;
    for wanted in [true, false, true] {
        output.want(wanted, Instant::now());
        output.tick(Instant::now())?;
        println!("pin {pin}: {}", if output.is_on() { "on" } else { "off" });
    }
    let second = open_output(pin, false).map(|_| ());
    println!("pin {pin}, asked for again: {second:?}");
    drop(output);
    let mut button = Button::new(open_input(pin, true)?, true);
    println!("pin {pin} as a button: {:?}", button.poll(Instant::now()));
    Ok(())
}
