//! What it tells systemd, and what it says where.

use super::*;

#[test]
fn it_says_when_it_is_ready_feeds_the_watchdog_and_says_that_it_ends() {
    let mut command = kinglet();
    command.arg("watch").arg(shipped()).args(["--camera", "test"]).stdout(Stdio::null());
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(4));
    let (ready, fed) = manager.wait("READY=1");
    assert_eq!((ready.as_str(), fed), ("READY=1\n", 0), "nothing before");
    assert!(manager.wait("STATUS=").0.contains("STATUS=camera"));
    let (fed, hunger) = manager.fed(Duration::from_secs(6));
    assert!(fed >= 2 && hunger < Duration::from_secs(4), "{fed}, {hunger:?}");
    terminate(&mut child);
    manager.wait("STOPPING=1");
}

/// A camera that does not answer, and one that is not there, are no reason to be started again.
#[test]
fn a_camera_that_is_away_is_not_a_thread_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ffmpeg.sh");
    let script = "#!/bin/sh\ntrap '' TERM\nprintf 'YUV4MPEG2 W64 H64\\n'\nsleep 1000\n";
    std::fs::write(&program, script).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&program).status().unwrap().success());
    let file = folder.path().join("k.toml");
    for camera in [
        format!("source = \"rtsp://camera\"\nprogram = {program:?}\n"),
        "source = \"/dev/video99\"\n".to_owned(),
    ] {
        std::fs::write(&file, format!("model = {:?}\n[camera]\n{camera}", shipped())).unwrap();
        let mut command = kinglet();
        command.args(["watch", "--config"]).arg(&file).stdout(Stdio::null());
        let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
        manager.wait("READY=1");
        // Longer than a thread may make no progress.
        let (_, hunger) = manager.fed(Duration::from_secs(6));
        assert!(hunger < Duration::from_secs(3), "{hunger:?} {camera}");
        terminate(&mut child);
    }
}

#[test]
fn a_thread_that_hangs_is_named_and_the_watchdog_is_not_fed_until_it_goes_on() {
    let mut command = kinglet();
    command.arg("watch").arg(shipped());
    command.args(["--camera", "test", "--fps", "100", "--all", "--json", "--top", "100"]);
    // Nobody reads what it prints: the pipe is full soon.
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    manager.wait("READY=1");
    let (status, _) = manager.wait("hangs: lines: no progress");
    assert!(!status.contains("WATCHDOG"), "{status}");
    assert_eq!(manager.fed(Duration::from_secs(4)).0, 0);
    // Somebody reads again.
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    manager.wait("WATCHDOG=1");
    terminate(&mut child);
    reader.join().unwrap().unwrap();
    // And one that hangs for good does not keep it from ending.
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    manager.wait("hangs: lines: no progress");
    terminate(&mut child);
}

/// A broker that takes the connection and says nothing, and a client that listens to events.
#[test]
fn whoever_is_at_the_other_end_of_a_wire_holds_up_neither_watchdog_nor_end() {
    let broker = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.toml");
    let config = format!(
        "model = {:?}\n[camera]\nsource = 'test'\n[http]\nlisten = '127.0.0.1:0'\n\
         [mqtt]\nurl = 'mqtt://{}/kinglet'\nname = 'test'\n",
        shipped(),
        broker.local_addr().unwrap()
    );
    std::fs::write(&file, config).unwrap();
    let mut command = kinglet();
    command.args(["watch", "--config"]).arg(&file).stdout(Stdio::null());
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    let messages = lines(child.stderr.take().unwrap());
    let address = line_with(&messages, "listening on http://");
    let address = address.split_once("http://").unwrap().1;
    let mut client = std::net::TcpStream::connect(address.split(' ').next().unwrap()).unwrap();
    client.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _silent = broker.accept().unwrap();
    manager.wait("READY=1");
    assert!(manager.fed(Duration::from_secs(5)).1 < Duration::from_secs(3));
    terminate(&mut child);
}

/// Holds the main thread, and no other, as if the model did not come back.
const HOLD: &str = "import ctypes, os, sys, time
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long] * 4
pid = int(sys.argv[1])
seize, interrupt = 0x4206, 0x4207
if libc.ptrace(seize, pid, 0, 0) or libc.ptrace(interrupt, pid, 0, 0): sys.exit(1)
os.waitpid(pid, 0x40000000)
print('held', flush=True)
sys.stdin.read()
";

#[test]
fn a_model_that_does_not_come_back_starves_the_watchdog_and_does_not_outlive_a_signal() {
    let mut command = kinglet();
    command.arg("watch").arg(shipped()).args(["--camera", "test"]).stdout(Stdio::null());
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    let messages = lines(child.stderr.take().unwrap());
    manager.wait("READY=1");
    let mut hold = Command::new("python3");
    hold.args(["-c", HOLD, &child.id().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let held = hold.spawn().ok().and_then(|mut hold| {
        let line = lines(hold.stdout.take().unwrap()).recv_timeout(LONG);
        line.is_ok_and(|line| line == "held").then_some(hold)
    });
    let Some(mut hold) = held else {
        println!("skipped: no python3, or it may not hold a thread here");
        child.kill().unwrap();
        return;
    };
    let (status, _) = manager.wait("hangs: loop: no progress");
    assert!(!status.contains("WATCHDOG"), "{status}");
    assert_eq!(manager.fed(Duration::from_secs(2)).0, 0);
    signal(&child, "TERM");
    let begun = Instant::now();
    manager.wait("STOPPING=1");
    // Dead, and not yet buried: whoever holds a thread is told first.
    let stat = format!("/proc/{}/stat", child.id());
    wait_for("the end", || std::fs::read_to_string(&stat).unwrap().contains(") Z ").then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(hold.stdin.take());
    hold.wait().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    line_with(&messages, "something hangs and is left behind: loop");
}

#[test]
fn a_full_disk_is_a_problem_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=64k disk \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "sh", "-c", script]).arg(&disk);
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|s| s.success()) {
        println!("skipped: a small file system cannot be mounted here");
        return;
    }
    let config = format!(
        "model = {:?}\n[camera]\nsource = 'test'\nfps = 100\n[decide]\ntop = 50\n\
         [log]\nfolder = {disk:?}\nall = true\n\
         [snapshots]\nfolder = {:?}\nclass = 'unknown'\nevery_ms = 1\nfree_mib = 0\n",
        shipped(),
        disk.join("pictures")
    );
    let file = folder.path().join("k.toml");
    std::fs::write(&file, config).unwrap();
    unshare.arg(env!("CARGO_BIN_EXE_kinglet")).args(["watch", "--unknown-below", "1"]);
    unshare.args(["--json", "--all", "--config"]).arg(&file);
    unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (manager, mut child) = Manager::start(&mut unshare, Duration::from_secs(3));
    let decisions = lines(child.stdout.take().unwrap());
    manager.wait("READY=1");
    let (status, _) = manager.wait("log: ");
    assert!(status.contains("No space left on device"), "{status}");
    let _ = decisions.try_iter().count();
    for _ in 0..50 {
        decisions.recv_timeout(LONG).unwrap();
    }
    assert!(manager.fed(Duration::from_secs(4)).1 < Duration::from_secs(3));
    terminate(&mut child);
}

#[test]
fn lines_for_the_journal_have_priorities_and_no_time() {
    for (journal, errors) in
        [(true, "<4>pin /dev/gpiochip99:4: "), (false, "WARN pin /dev/gpiochip99:4: ")]
    {
        let file = tempfile::NamedTempFile::new().unwrap();
        let facts = file.as_file().metadata().unwrap();
        // Another inode: standard error was turned elsewhere.
        let inode = facts.ino() + u64::from(!journal);
        let mut command = kinglet();
        command.arg("watch").arg(shipped()).args(["--camera", "test", "--seconds", "1"]);
        command.args(["--led", "gpiochip99:4=unknown"]).stderr(file.reopen().unwrap());
        command.env("JOURNAL_STREAM", format!("{}:{inode}", facts.dev()));
        assert!(command.status().unwrap().success());
        let said = std::fs::read_to_string(file.path()).unwrap();
        assert!(said.lines().any(|line| line.contains(errors)), "{said}");
        assert!(said.lines().all(|line| line.starts_with('<') == journal), "{said}");
        assert!(!journal || said.lines().any(|line| line.starts_with("<6>model /")), "{said}");
    }
}
