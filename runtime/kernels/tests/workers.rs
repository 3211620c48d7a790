//! The parallel loop: every piece once, states never shared, panics survived, nothing lost over
//! many short calls and after sleep.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kinglet_kernels::{Division, Workers};

/// Each thread's own count, and whether it is in use.
#[derive(Default)]
struct State {
    used: AtomicBool,
    pieces: usize,
}

fn states(workers: &Workers) -> Vec<State> {
    (0..workers.threads()).map(|_| State::default()).collect()
}

#[test]
fn every_piece_is_worked_on_once_whatever_the_number_of_threads() {
    for threads in [0, 1, 2, 3, 8] {
        let workers = Workers::new(threads).expect("threads start");
        assert_eq!(workers.threads(), threads.max(1));
        for (len, piece_len) in
            [(0, 3), (1, 1), (7, 7), (7, 100), (1000, 1), (1000, 7), (64, 32), (140_000, 1)]
        {
            let mut output = vec![0_u32; len];
            let mut states = states(&workers);
            workers.split(&mut output, piece_len, &mut states, |piece, part, state| {
                assert!(!state.used.swap(true, Ordering::SeqCst), "a state is used twice");
                assert!(part.len() == piece_len || piece == len / piece_len);
                for (i, value) in part.iter_mut().enumerate() {
                    *value += (piece * piece_len + i) as u32 + 1;
                }
                state.pieces += 1;
                state.used.store(false, Ordering::SeqCst);
            });
            let expected: Vec<u32> = (1..=len as u32).collect();
            assert_eq!(output, expected, "{threads} threads, {len} by {piece_len}");
            let pieces: usize = states.iter().map(|s| s.pieces).sum();
            assert_eq!(pieces, len.div_ceil(piece_len));
        }
    }
}

#[test]
fn many_short_calls_lose_nothing_with_threads_awake_or_asleep() {
    let workers = Workers::new(4).expect("threads start");
    let mut states = states(&workers);
    let mut output = [0_usize; 16];
    let calls = 20_000;
    for call in 0..calls {
        workers.split(&mut output, 1 + call % 5, &mut states, |_, part, _| {
            part.iter_mut().for_each(|v| *v += 1);
        });
        if call % 1000 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(output, [calls; 16]);
}

#[test]
fn other_threads_do_take_part() {
    let workers = Workers::new(2).expect("threads start");
    let mut states = [0_usize; 2];
    let mut output = [0_u8; 2];
    let met = AtomicUsize::new(0);
    // Each piece waits for the other: one thread alone would never come to the second.
    workers.split(&mut output, 1, &mut states, |_, _, state| {
        *state += 1;
        met.fetch_add(1, Ordering::SeqCst);
        while met.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
    });
    assert_eq!(states, [1, 1]);
}

#[test]
fn a_panic_reaches_the_caller_and_the_threads_go_on() {
    let workers = Workers::new(3).expect("threads start");
    let mut states = [(); 3];
    for bad in 0..9 {
        let mut output = [0_u8; 9];
        let result = catch_unwind(AssertUnwindSafe(|| {
            workers.split(&mut output, 1, &mut states, |piece, part, ()| {
                assert_ne!(piece, bad, "on purpose");
                part[0] = 1;
            });
        }));
        assert!(result.is_err());
        assert_eq!(output.iter().map(|&v| usize::from(v)).sum::<usize>(), 8, "the others are done");
    }
    let mut output = [0_u8; 9];
    workers.split(&mut output, 2, &mut states, |_, part, ()| part.fill(1));
    assert_eq!(output, [1; 9]);
}

#[test]
fn a_call_within_a_call_and_calls_at_the_same_time_are_served() {
    let workers = Workers::new(2).expect("threads start");
    let mut output = [[0_u16; 50]; 20];
    workers.split(&mut output, 1, &mut [(), ()], |_, part, ()| {
        let inner = &mut part[0];
        workers.split(inner, 3, &mut [(), ()], |_, part, ()| part.iter_mut().for_each(|v| *v += 1));
    });
    assert_eq!(output, [[1; 50]; 20]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let mut output = [0_u8; 40];
                    workers.split(&mut output, 3, &mut [(), ()], |_, part, ()| {
                        part.iter_mut().for_each(|v| *v += 1);
                    });
                    assert_eq!(output, [1; 40]);
                }
            });
        }
    });
}

#[test]
fn they_end_when_dropped_asleep_or_not() {
    for pause in [Duration::ZERO, Duration::from_millis(2)] {
        let workers = Workers::new(4).expect("threads start");
        std::thread::sleep(pause);
        drop(workers);
    }
}

#[test]
#[should_panic(expected = "a state for each thread")]
fn too_few_states_are_refused() {
    let workers = Workers::new(2).expect("threads start");
    workers.split(&mut [0; 4], 1, &mut [()], |_, _, ()| {});
}

#[test]
fn pieces_of_any_length_in_any_order() {
    let workers = Workers::new(3).expect("threads start");
    let mut states = states(&workers);
    let mut output = [0_usize; 20];
    let pieces = [4..15, 0..3, 3..3, 15..20, 3..4];
    let division = Division::new(pieces.to_vec());
    workers.split_by(&mut output, &division, &mut states, |piece, part, _| {
        assert_eq!(part.len(), pieces[piece].len());
        part.iter_mut().for_each(|v| *v += piece + 1);
    });
    let expected: Vec<usize> =
        (0..20).map(|i| pieces.iter().position(|p| p.contains(&i)).unwrap() + 1).collect();
    assert_eq!(output.as_slice(), expected);
    for wrong in [[0..3, 2..20], [0..3, 4..20], [1..5, 5..20], [0..20, 30..30]] {
        assert!(catch_unwind(|| Division::new(wrong.to_vec())).is_err(), "{wrong:?}");
    }
    let mut longer = [0_usize; 21];
    let call = || workers.split_by(&mut longer, &division, &mut states, |_, _, _| {});
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
}

#[test]
fn each_thread_begins_with_its_own_pieces() {
    let workers = Workers::new(2).expect("threads start");
    let (mut output, mut states) = ([0_u64; 8], [0_u64, 1]);
    let mut own = 0;
    for _ in 0..200 {
        workers.split(&mut output, 1, &mut states, |_, part, thread| {
            // Long enough for the other thread to come.
            std::thread::sleep(Duration::from_micros(200));
            part[0] = *thread;
        });
        own += usize::from(output == [0, 0, 0, 0, 1, 1, 1, 1]);
    }
    assert!(own > 20, "only {own} of 200 calls were divided in the middle");
}

/// In a thread of its own, which stays bound.
#[cfg(target_os = "linux")]
#[test]
fn pinned_threads_stay_on_their_cores() {
    std::thread::spawn(|| {
        let cores_of = |what: &str| {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list"));
            let list = line.unwrap_or_else(|| panic!("{what}: no list of cores")).to_owned();
            list.split_whitespace().last().unwrap().to_owned()
        };
        let before = cores_of("the caller");
        let workers = Workers::pinned(3).expect("threads start");
        let mut states = states(&workers);
        let mut seen = vec![String::new(); 64];
        workers.split(&mut seen, 1, &mut states, |_, part, _| part[0] = cores_of("a worker"));
        let alone = |list: &String| list.parse::<usize>().is_ok();
        assert!(seen.iter().all(alone), "{seen:?} of {before}");
    })
    .join()
    .unwrap();
}
