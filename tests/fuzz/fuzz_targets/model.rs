//! Any bytes as a model: read, planned, and run where that is little work.
#![no_main]

use kinglet_engine::{OnnxFile, Options, Session};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = OnnxFile::from_bytes(bytes) else { return };
    let Ok(mut session) = Session::new(file, &Options::default()) else { return };
    if session.report().macs().0 < 5_000_000 {
        let input = session.sample_input();
        let _ = session.run(&input);
    }
});
