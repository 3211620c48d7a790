//! The server under load, at full size. It takes minutes and wants a quiet machine, so it is run by hand:
//!
//! `cargo test --release --test load -- --ignored --nocapture --test-threads 1`

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Server, photograph};

/// Pictures, and what the model sees on them.
fn pictures() -> Vec<(Vec<u8>, &'static str)> {
    [("coffee.png", "espresso"), ("rocket.jpg", "missile"), ("chelsea.png", "tiger cat")]
        .map(|(name, label)| (photograph(name), label))
        .into()
}

/// Times in order: of all of them so many per cent are at most this.
fn percentile(times: &[Duration], per_cent: usize) -> Duration {
    times[(times.len() * per_cent / 100).min(times.len() - 1)]
}

#[test]
#[ignore = "full size"]
fn clients_256_at_a_time_get_right_answers() {
    const CLIENTS: usize = 256;
    const ROUNDS: usize = 20;
    kinglet_device::allow_open_files(4096);
    for queue in ["16", "256"] {
        let server = Server::serve(&["--queue", queue]);
        let pictures = pictures();
        let busy = AtomicUsize::new(0);
        let begun = Instant::now();
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let (server, busy) = (&server, &busy);
                    let (picture, label) = &pictures[client % pictures.len()];
                    scope.spawn(move || {
                        let mut times = Vec::new();
                        for _ in 0..ROUNDS {
                            let start = Instant::now();
                            let reply = server.classify(picture);
                            match reply.code {
                                200 => {
                                    assert_eq!(reply.best(), *label);
                                    times.push(start.elapsed());
                                }
                                503 => {
                                    assert!(reply.header("retry-after").is_some());
                                    busy.fetch_add(1, Relaxed);
                                    std::thread::sleep(Duration::from_millis(20));
                                }
                                _ => panic!("{}", reply.text()),
                            }
                        }
                        times
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        times.sort();
        println!(
            "{CLIENTS} clients, queue {queue}: {} right answers in {:.1} s, {} told to come back; \
             median {:?}, p99 {:?}",
            times.len(),
            begun.elapsed().as_secs_f64(),
            busy.into_inner(),
            percentile(&times, 50),
            percentile(&times, 99)
        );
        assert!(times.len() > CLIENTS);
    }
}

#[test]
#[ignore = "full size"]
fn slow_connections_1000_leave_others_their_time() {
    kinglet_device::allow_open_files(4096);
    let server = Server::serve(&[]);
    let (picture, label) = &pictures()[0];
    let measure = || {
        let mut times: Vec<Duration> = (0..500)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(server.classify(picture).best(), *label);
                start.elapsed()
            })
            .collect();
        times.sort();
        (percentile(&times, 50), percentile(&times, 99))
    };
    measure();
    let alone = measure();
    let end = AtomicBool::new(false);
    let connect = || {
        let mut stream = server.connect();
        let _ = stream.write_all(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nX: ");
        stream
    };
    let open = AtomicUsize::new(0);
    let beside = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A byte of a head now and then; who is cut comes back.
            let mut slow: Vec<TcpStream> = (0..1000).map(|_| connect()).collect();
            open.store(1000, Relaxed);
            while !end.load(Relaxed) {
                for stream in &mut slow {
                    if stream.write_all(b"x").is_err() {
                        *stream = connect();
                    }
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        while open.load(Relaxed) < 1000 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let beside = measure();
        end.store(true, Relaxed);
        beside
    });
    println!("median and p99 alone: {alone:?}; beside 1000 slow connections: {beside:?}");
    assert!(beside.1 <= alone.1 * 2, "{alone:?} {beside:?}");
}

#[test]
#[ignore = "full size"]
fn bodies_that_are_too_large_cost_less_than_a_mebibyte() {
    let server = Server::serve(&[]);
    assert_eq!(server.classify(&photograph("coffee.png")).code, 200);
    let head =
        |rest: &str| format!("POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &vec![7; 0x10000], b"\r\n"].concat();
    let chunked = [head("Transfer-Encoding: chunked").as_bytes(), &chunk.repeat(400)].concat();
    let long = [head("Content-Length: 26214400").as_bytes(), &vec![0; 25 << 20]].concat();
    let huge = head("Content-Length: 9223372036854775807");
    for (name, request) in [("oversized", long), ("lying", huge.into_bytes()), ("chunked", chunked)]
    {
        for _ in 0..20 {
            server.forget_peak();
            let before = server.memory("VmRSS");
            let reply = server.say(&request);
            assert_eq!(reply.code, 413, "{name}: {}", reply.text());
            let more = server.memory("VmHWM").saturating_sub(before);
            assert!(more <= 1 << 20, "{name}: {more} bytes more");
        }
        println!("{name}: 413, within 1 MiB");
    }
}

#[test]
#[ignore = "full size"]
fn mutated_bodies_20000() {
    let server = Server::serve(&[]);
    let pictures = pictures();
    let seeds: Vec<Vec<u8>> = pictures
        .iter()
        .map(|(picture, _)| picture[..picture.len().min(4096)].to_vec())
        .chain(pictures.iter().map(|(picture, _)| picture.clone()))
        .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut codes = std::collections::BTreeMap::new();
    let mut stream = server.connect();
    for round in 0..20_000 {
        let whole = round % 50 == 0;
        let mut body = seeds[random(3) + if whole { 3 } else { 0 }].clone();
        for _ in 0..=random(16) {
            let at = random(body.len());
            body[at] = random(256) as u8;
        }
        if !whole {
            body.truncate(1 + random(body.len()));
        }
        let form = random(4) == 0;
        let kind = if form { "Content-Type: multipart/form-data; boundary=b\r\n" } else { "" };
        if form {
            let field = b"--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n";
            body = [field.as_slice(), &body, b"\r\n--b--\r\n"].concat();
            let at = random(60);
            body[at] = random(256) as u8;
        }
        let head = format!(
            "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{kind}\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        *codes.entry(code(&mut stream)).or_insert(0) += 1;
    }
    println!("{codes:?}");
    assert!(codes.keys().all(|code| matches!(code, 200 | 400 | 422)), "{codes:?}");
    assert_eq!(server.get("/readyz", "").code, 200);
    assert_eq!(server.classify(&pictures[0].0).best(), pictures[0].1);
}

/// Reads an answer on a connection that stays; gives its code.
fn code(stream: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
    });
    stream.read_exact(&mut vec![0; length.unwrap()]).unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}
