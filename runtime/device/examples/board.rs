//! What a board shows, for an emulated machine: takes frames from a V4L2 camera in every format,
//! closes and opens it, and switches a line of a GPIO chip.
//!
//! `board /dev/video0 gpiochip0:3`; needs no model, so that it is built in a minute.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use kinglet_device::camera::{Feed, Layout, Pace, Patience, Source, Taken, Wanted, devices};
use kinglet_device::gpio::{Button, Output, Pattern, Pin, chips, open_input, open_output};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
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
