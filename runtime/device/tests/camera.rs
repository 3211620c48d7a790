//! Cameras that hang, die, send garbage and come back: real processes and connections.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use kinglet_device::camera::{Feed, Layout, Pace, Patience, Source, State, Taken, Wanted};

mod support;
use support::{FRAME, HEADER, MS, Script, frame, hasty, lost, processes};

#[test]
fn a_process_that_dies_is_started_again_and_its_last_words_are_kept() {
    let script = Script::new(&format!("{HEADER}{FRAME}echo 'the lens fell off' >&2; exit 3"));
    let feed = script.feed("rtsp://camera", hasty());
    let first = frame(&feed);
    assert_eq!((first.layout, first.width, first.bytes.len()), (Layout::I420, 16, 384));
    lost(&feed);
    let second = frame(&feed);
    assert!(second.number > first.number);
    lost(&feed);
    let error = feed.status().last_error.unwrap();
    assert!(error.contains("the lens fell off") && error.contains('3'), "{error}");
}

#[test]
fn a_process_that_hangs_and_will_not_be_ended_is_ended_with_its_children() {
    let hang = "trap '' TERM; sleep 1000.625 & sleep 1000.625; sleep 1000.625";
    let script = Script::new(&format!("{HEADER}{FRAME}{hang}"));
    let feed = script.feed("rtsp://camera", hasty());
    frame(&feed);
    let since = Instant::now();
    lost(&feed);
    let noticed = since.elapsed();
    assert!((90 * MS..1000 * MS).contains(&noticed), "{noticed:?}");
    assert!(feed.status().last_error.unwrap().contains("no frame for"));
    frame(&feed);
    drop(feed);
    let left: Vec<_> = processes().into_iter().filter(|line| line.contains("1000.625")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_recording_that_hangs_is_over_and_one_that_repeats_goes_on() {
    let video = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    let video = video.path().to_str().unwrap();
    // Longer than a camera may take from one frame to the next.
    let script = Script::new(&format!("{HEADER}{FRAME}sleep 0.2; {FRAME}sleep 1000.875"));
    let end = |feed: &Feed| loop {
        match feed.take(Instant::now() + 5000 * MS) {
            Taken::Frame(_) => {}
            Taken::End(Err(error)) => return error.to_string(),
            other => panic!("{other:?}, {:?}", feed.status()),
        }
    };
    let feed = script.feed(video, hasty());
    assert_eq!(frame(&feed).number + 1, frame(&feed).number);
    assert!(end(&feed).contains("no frame for 0.3"));
    let feed = script.feed_as(video, true, hasty());
    frame(&feed);
    lost(&feed);
    frame(&feed);
    // Not if it has never worked.
    let script = Script::new("sleep 1000.875");
    let said = end(&script.feed_as(video, true, hasty()));
    assert!(said.contains("no frame for 0.3"), "{said}");
}

#[test]
fn garbage_is_noticed_and_a_new_size_is_taken() {
    // First letters, then frames with a wrong marker, then 16 by 16, then 32 by 16.
    let script = Script::new(&format!(
        "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n\n\
         case $n in\n\
         0) head -c 5000 /dev/zero | tr '\\0' x; sleep 9;;\n\
         1) {HEADER}{FRAME}head -c 1000 /dev/zero; sleep 9;;\n\
         2) {HEADER}{FRAME};;\n\
         *) printf 'YUV4MPEG2 W32 H16 F25:1 Cmono\\n'; printf 'FRAME\\n'; head -c 512 /dev/zero; sleep 9;;\n\
         esac"
    ));
    let feed = script.feed("rtsp://camera", hasty());
    lost(&feed);
    let error = feed.status().last_error.unwrap();
    assert!(error.contains("cannot be understood"), "{error}");
    lost(&feed);
    lost(&feed);
    let last = frame(&feed);
    assert_eq!((last.layout, last.width, last.bytes.len()), (Layout::Grey, 32, 512));
}

#[test]
fn a_program_that_is_not_there_is_named_with_its_cure() {
    let wanted = Wanted { program: Some("/no/such/ffmpeg".into()), ..Wanted::default() };
    let source = Source::parse("rtsp://camera").unwrap();
    let feed = Feed::start(source, wanted, Pace::Newest, hasty());
    lost(&feed);
    let error = feed.status().last_error.unwrap();
    assert!(error.contains("apt install ffmpeg"), "{error}");
}

#[test]
fn what_a_process_says_does_not_stall_it() {
    // A pipe holds 64 KiB: more than that is said before the frame.
    let script = Script::new(&format!("head -c 300000 /dev/zero >&2; {HEADER}{FRAME}sleep 9"));
    frame(&script.feed("rtsp://camera", hasty()));
}

/// A JPEG picture in form only: markers, and nothing that could be decoded.
fn jpeg(size: usize) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xc4, 0, 2, 0xff, 0xda, 0, 4, 1, 2];
    bytes.resize(size, 7);
    bytes.extend([0xff, 0xd9]);
    bytes
}

/// Answers one request with `pictures` pictures; `chunked` in pieces of 100 bytes.
fn answer(mut stream: TcpStream, pictures: usize, chunked: bool) -> TcpStream {
    let mut request = [0; 1000];
    let n = stream.read(&mut request).unwrap();
    assert!(request[..n].starts_with(b"GET /stream?a=1 HTTP/1.1\r\n"));
    let encoding = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n{encoding}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..pictures {
        let mut part = b"--b\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
        part.extend(jpeg(3000));
        part.extend(b"\r\n");
        let pieces: Vec<Vec<u8>> = match chunked {
            false => vec![part],
            true => part
                .chunks(100)
                .map(|c| [format!("{:X}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat())
                .collect(),
        };
        for piece in pieces {
            if stream.write_all(&piece).is_err() {
                return stream;
            }
        }
        std::thread::sleep(2 * MS);
    }
    stream
}

fn http(address: std::net::SocketAddr, patience: Patience) -> Feed {
    let source = Source::parse(&format!("http://u:p@{address}/stream?a=1")).unwrap();
    Feed::start(source, Wanted::default(), Pace::Newest, patience)
}

#[test]
fn pictures_come_over_http_also_in_chunks_and_after_every_kind_of_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut silent = Vec::new();
        for event in 0..300 {
            let (mut stream, _) = listener.accept().unwrap();
            match event % 6 {
                0 => drop(answer(stream, 2, false)),
                1 => drop(answer(stream, 2, true)),
                // Silent after a picture, and silent at once.
                2 => silent.push(answer(stream, 1, false)),
                3 => drop(stream),
                4 => stream.write_all(b"HTTP/1.1 503 Busy\r\n\r\n").unwrap(),
                _ => {
                    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>";
                    stream.write_all(head).unwrap();
                }
            }
            silent.clear();
        }
        answer(listener.accept().unwrap().0, 100_000, false);
    });
    let feed = http(address, hasty());
    let first = frame(&feed);
    assert_eq!((first.layout, &first.bytes), (Layout::File, &jpeg(3000)));
    while feed.status().lost < 300 {
        lost(&feed);
    }
    assert_eq!(frame(&feed).bytes, jpeg(3000));
    drop(feed);
    server.join().unwrap();
}

#[test]
fn a_camera_that_returns_is_back_within_five_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        // Unplugged: frames stop without a word, and nobody listens for a while.
        let silent = answer(listener.accept().unwrap().0, 3, false);
        drop(listener);
        std::thread::sleep(5000 * MS);
        drop(silent);
        let listener = TcpListener::bind(address).unwrap();
        let returned = Instant::now();
        answer(listener.accept().unwrap().0, 1000, false);
        returned
    });
    let feed = http(address, Patience::default());
    let mut last = frame(&feed).captured;
    let noticed = loop {
        match feed.take(Instant::now() + 5000 * MS) {
            Taken::Frame(frame) => last = frame.captured,
            Taken::Lost => break last.elapsed(),
            other => panic!("{other:?}"),
        }
    };
    assert!(noticed < 2200 * MS, "noticed after {noticed:?}");
    assert_eq!(feed.status().state, State::Lost);
    let deadline = Instant::now() + 12_000 * MS;
    let back = loop {
        match feed.take(deadline) {
            Taken::Frame(frame) => break frame.captured,
            Taken::Lost => {}
            other => panic!("{other:?}"),
        }
    };
    drop(feed);
    let returned = server.join().unwrap();
    let took = back - returned;
    println!("noticed after {noticed:?}, back after {took:?}");
    assert!(took < 5000 * MS, "{took:?}");
}

#[test]
fn pictures_that_cannot_be_decoded_are_no_life_sign() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            answer(listener.accept().unwrap().0, 100_000, false);
        }
    });
    let feed = http(address, hasty());
    let deadline = Instant::now() + 5000 * MS;
    loop {
        match feed.take(deadline) {
            Taken::Frame(_) => feed.refuse("it is all green"),
            Taken::Lost => break,
            other => panic!("{other:?}"),
        }
    }
    let error = feed.status().last_error.unwrap();
    assert!(error.contains("all green"), "{error}");
    frame(&feed);
    drop(feed);
    server.join().unwrap();
}

#[test]
fn the_newest_frame_wins_and_memory_is_used_again() {
    let wanted = Wanted { fps: Some(200.0), size: Some((320, 240)), ..Wanted::default() };
    let feed = Feed::start(Source::Test, wanted, Pace::Newest, hasty());
    let mut places = std::collections::HashSet::new();
    let mut last = 0;
    for _ in 0..20 {
        std::thread::sleep(20 * MS);
        let frame = frame(&feed);
        assert!(frame.captured.elapsed() < 15 * MS, "{:?} old", frame.captured.elapsed());
        assert!(frame.number > last);
        last = frame.number;
        places.insert(frame.bytes.as_ptr());
    }
    let status = feed.status();
    assert!(status.dropped > 20, "{status:?}");
    // Onlookers take nothing away.
    let looked = feed.newer_than(last, Instant::now() + 1000 * MS).unwrap();
    assert!(looked.number > last && frame(&feed).number >= looked.number);
    assert!(feed.newer_than(looked.number + 1000, Instant::now() + 5 * MS).is_none());
    drop(looked);
    assert!(places.len() <= 4, "{} buffers", places.len());
}

#[test]
fn every_picture_of_a_folder_comes_in_order_and_then_the_end() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.png", "a.jpg", "c.JPEG", "notes.md"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "# two of them, and one that is not there\nc.JPEG\nno.png\na.jpg\n")
        .unwrap();
    let names = |path: &Path| {
        let source = Source::parse(path.to_str().unwrap()).unwrap();
        let feed = Feed::start(source, Wanted::default(), Pace::Every, hasty());
        let mut names = Vec::new();
        loop {
            match feed.take(Instant::now() + 5000 * MS) {
                Taken::Frame(frame) => names.push(String::from_utf8(frame.bytes.clone()).unwrap()),
                Taken::End(Ok(())) => return names,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(names(folder.path()), ["a.jpg", "b.png", "c.JPEG"]);
    assert_eq!(names(&list), ["c.JPEG", "a.jpg"]);
}

#[test]
fn ffmpeg_reads_a_real_video_frame_by_frame() {
    let Some(data) = std::env::var_os("KINGLET_DATA") else {
        println!("skipped: KINGLET_DATA is not set");
        return;
    };
    let video = Path::new(&data).join("video/bottle-detection.mp4");
    let source = Source::parse(video.to_str().unwrap()).unwrap();
    let wanted = Wanted { size: Some((320, 180)), ..Wanted::default() };
    let feed = Feed::start(source, wanted, Pace::Every, Patience::default());
    let (mut frames, mut first, mut last) = (0, None, Instant::now());
    loop {
        match feed.take(Instant::now() + 20_000 * MS) {
            Taken::Frame(frame) => {
                assert_eq!((frame.width, frame.height, frame.layout), (320, 180, Layout::I420));
                frames += 1;
                first.get_or_insert(frame.captured);
                last = frame.captured;
            }
            Taken::End(Ok(())) => break,
            other => panic!("{other:?}"),
        }
    }
    let seconds = (last - first.unwrap()).as_secs_f64();
    println!("{frames} frames over {seconds:.3} s of the video's own time");
    assert!(frames > 100 && seconds > 3.0);
    let broken = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(&broken, [9; 5000]).unwrap();
    let source = Source::parse(broken.path().to_str().unwrap()).unwrap();
    let feed = Feed::start(source, Wanted::default(), Pace::Every, Patience::default());
    match feed.take(Instant::now() + 5000 * MS) {
        Taken::End(Err(error)) => assert!(error.to_string().contains("ffmpeg"), "{error}"),
        other => panic!("{other:?}"),
    }
}
