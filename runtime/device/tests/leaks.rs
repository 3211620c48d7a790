//! A thousand failures of a camera. Alone in its program, so that descriptors and threads can be
//! counted.

#![allow(clippy::unwrap_used)]

mod support;
use kinglet_device::camera::Patience;
use support::{FRAME, HEADER, MS, Script, frame, hasty, lost, processes};

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// A thousand times: it dies, hangs, or sends garbage, at once or after a frame.
#[test]
fn a_thousand_failures_leave_nothing_behind() {
    let script = Script::new(&format!(
        "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n\n\
         case $((n % 5)) in\n\
         0) exit 1;;\n\
         1) echo garbage; sleep 1000.125;;\n\
         2) {HEADER}{FRAME}exec sleep 1000.125;;\n\
         3) {HEADER}{FRAME}printf FRAMF; sleep 1000.125;;\n\
         4) {HEADER}{FRAME}head -c 100 /dev/zero;;\n\
         esac"
    ));
    let patience = Patience { stall: 20 * MS, ..hasty() };
    let count = || (count("/proc/self/fd"), count("/proc/self/task"));
    let before = count();
    let feed = script.feed("rtsp://camera", patience);
    frame(&feed);
    let mut most = (0, 0);
    for _ in 0..1000 {
        lost(&feed);
        // The next process may be starting already, with three pipes and one for its failure.
        let now = count();
        most = (now.0.max(most.0), now.1.max(most.1));
    }
    let status = feed.status();
    assert!(status.lost >= 1000 && status.frames >= 590, "{status:?}");
    println!("descriptors and threads: {before:?} before, at most {most:?}");
    assert!(most.0 <= before.0 + 9 && most.1 <= before.1 + 1, "{before:?} {most:?}");
    drop(feed);
    assert_eq!(count(), before);
    assert!(!processes().iter().any(|line| line.contains("1000.125")));
}
