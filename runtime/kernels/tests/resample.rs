//! Every instruction set gives the samples of the scalar passes, around each tile's size, and
//! touches nothing else.
#![allow(clippy::unwrap_used)]

use kinglet_kernels::Isa;
use kinglet_kernels::resample::{Layout, Packing, ROW_STEP, ROWS, Resample, Taps, Turned, Weights};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    /// Noise with long runs of the extremes.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut byte = |i: usize| match i / 64 % 4 {
            0 => 0,
            1 => 255,
            _ => (self.next() >> 24) as u8,
        };
        (0..length).map(&mut byte).collect()
    }

    /// Starts, counts, weights and taps of an axis of so many samples, of several kinds by `round`.
    fn axis(&mut self, samples: usize, round: usize) -> (Vec<u32>, Vec<u32>, Vec<i32>, usize) {
        let outputs = 1 + self.below(9);
        // Now and then more taps than a multiplication has room for.
        let room = if round.is_multiple_of(10) { 60 } else { 26 };
        let taps = 1 + self.below(room.min(samples));
        let counts: Vec<u32> = (0..outputs).map(|_| 1 + self.below(taps) as u32).collect();
        let start = |count: &u32| self.below(samples - *count as usize + 1) as u32;
        let starts = counts.iter().map(start).collect();
        // Weights at the ends of three digits.
        let ends = [8_355_711, -8_421_504, 0, -1, 1, 1 << 22];
        let weights = match round % 4 {
            0 => (0..outputs * taps).map(|_| ends[self.below(ends.len())]).collect(),
            1 => self.weights(outputs * taps, true),
            _ => (0..outputs).flat_map(|_| self.weights(taps, false)).collect(),
        };
        (starts, counts, weights, taps)
    }

    /// Weights whose sums stay close to one, or, `wild`, any: then sums wrap.
    fn weights(&mut self, count: usize, wild: bool) -> Vec<i32> {
        let mean = (1 << 22) / count as i32;
        let any = |r: u32| if wild { r as i32 } else { mean / 2 + r as i32 % mean };
        (0..count).map(|_| any(self.next())).collect()
    }
}

fn others() -> Vec<Resample> {
    let sets = Isa::available().into_iter().filter(|isa| *isa != Isa::Scalar);
    sets.map(|isa| Resample::new(isa).unwrap()).collect()
}

#[test]
fn the_scalar_passes_are_their_formula() {
    let scalar = Resample::new(Isa::Scalar).unwrap();
    let half = 1 << 21;
    let mut to = [9; 5];
    // A half rounds up; sums beyond the range are clamped.
    scalar.vertical(&[1, 3, 255, 0, 7, 2, 4, 0, 255, 7], 5, &[half, half], &mut to);
    assert_eq!(to, [2, 4, 128, 128, 7]);
    scalar.vertical(&[1, 3, 255, 0, 7, 2, 4, 0, 255, 7], 5, &[-2 * half, 3 * half], &mut to);
    assert_eq!(to, [2, 3, 0, 255, 4]);
    let block: Vec<Turned> = (0..6).map(|x| [x; ROWS]).collect();
    let mut to = [[9; ROWS]; 3];
    let taps = Taps { starts: &[0], counts: &[2], weights: &[half, half, 77], taps: 3 };
    scalar.horizontal(&block, Layout { first: 0, step: 3, channels: 3 }, &taps, &mut to);
    assert_eq!(to, [[2; ROWS], [3; ROWS], [4; ROWS]]);
}

/// Weights at the ends of three digits of eight bits and beyond them, and more taps than any filter has.
#[test]
fn vertical_equals_scalar_for_extreme_weights() {
    let mut random = Random(0x6469_6769_7473);
    let scalar = Resample::new(Isa::Scalar).unwrap();
    let ends = [8_355_711, -8_421_504, 8_355_712, -8_421_505, i32::MAX, i32::MIN, 0, -1, 0x80_8080];
    for other in others() {
        for taps in [1, 3, 4, 5, 11, 63, 64, 65, 130] {
            for kinds in [2, 4, ends.len()] {
                let weights: Vec<i32> = (0..taps).map(|_| ends[random.below(kinds)]).collect();
                let rows = random.bytes(taps * 200);
                let (mut expected, mut actual) = (vec![7; 200], vec![7; 200]);
                scalar.vertical(&rows, 200, &weights, &mut expected);
                other.vertical(&rows, 200, &weights, &mut actual);
                assert_eq!(actual, expected, "{} {taps} taps {weights:?}", other.kernel());
            }
        }
    }
}

#[test]
fn vertical_equals_scalar() {
    let mut random = Random(0x7269_6e67);
    let scalar = Resample::new(Isa::Scalar).unwrap();
    for other in others() {
        let portable = cfg!(target_arch = "arm");
        assert_eq!(other.kernel().contains("scalar"), portable, "every other has a kernel");
        for length in (0..140).chain([671, 672, 1893]) {
            for wild in [false, true] {
                let (taps, margin) = (1 + random.below(20), random.below(9));
                let stride = length + margin;
                let weights = random.weights(taps, wild);
                let rows = random.bytes((taps - 1) * stride + length + margin);
                let (mut expected, mut actual) = (vec![7; length + 16], vec![7; length + 16]);
                let rows = &rows[margin..];
                scalar.vertical(rows, stride, &weights, &mut expected[8..length + 8]);
                other.vertical(rows, stride, &weights, &mut actual[8..length + 8]);
                assert_eq!(actual, expected, "{} length {length}", other.kernel());
            }
        }
    }
}

#[test]
fn turning_and_turning_back_equal_scalar() {
    let mut random = Random(0x7475_726e);
    let scalar = Resample::new(Isa::Scalar).unwrap();
    for other in others() {
        for length in (1..70).chain([672, 945 * 3]) {
            for rows in 1..=ROWS {
                let stride = length + random.below(5);
                let from = random.bytes((rows - 1) * stride + length);
                let mut expected = vec![[7; ROWS]; length];
                let mut actual = vec![[8; ROWS]; length];
                scalar.turn(&from, stride, rows, &mut expected);
                other.turn(&from, stride, rows, &mut actual);
                assert_eq!(actual, expected, "{} {length} x {rows}", other.kernel());
                let mut expected = vec![7; length * rows];
                let mut actual = vec![8; length * rows];
                scalar.turn_back(&actual_block(&from, stride, rows, length), &mut expected);
                other.turn_back(&actual_block(&from, stride, rows, length), &mut actual);
                assert_eq!(actual, expected, "{} back {length} x {rows}", other.kernel());
                for row in 0..rows {
                    assert_eq!(actual[row * length..][..length], from[row * stride..][..length]);
                }
            }
        }
    }
}

/// What turning makes, by its definition.
fn actual_block(from: &[u8], stride: usize, rows: usize, length: usize) -> Vec<Turned> {
    let at = |x, row: usize| from[row.min(rows - 1) * stride + x];
    (0..length).map(|x| std::array::from_fn(|row| at(x, row))).collect()
}

#[test]
fn horizontal_equals_scalar() {
    let mut random = Random(0x686f_7269);
    let scalar = Resample::new(Isa::Scalar).unwrap();
    for other in others() {
        for (step, channels) in [(1, 1), (2, 1), (4, 1), (3, 3), (4, 3)] {
            for wild in [false, true] {
                for outputs in [0, 1, 2, 7, 224] {
                    let (taps, first) = (1 + random.below(20), random.below(4));
                    let pixels = taps + 50;
                    let samples = random.bytes((first + pixels * step + channels) * ROWS);
                    let block = samples.as_chunks::<ROWS>().0;
                    let starts: Vec<_> = (0..outputs).map(|_| random.below(50) as u32).collect();
                    let counts: Vec<_> =
                        (0..outputs).map(|_| 1 + random.below(taps) as u32).collect();
                    let weights: Vec<_> =
                        (0..outputs).flat_map(|_| random.weights(taps, wild)).collect();
                    let taps = Taps { starts: &starts, counts: &counts, weights: &weights, taps };
                    let layout = Layout { first, step, channels };
                    let mut expected = vec![[7; ROWS]; outputs * channels];
                    let mut actual = vec![[8; ROWS]; outputs * channels];
                    scalar.horizontal(block, layout, &taps, &mut expected);
                    other.horizontal(block, layout, &taps, &mut actual);
                    assert_eq!(actual, expected, "{} {layout:?} {outputs}", other.kernel());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "beyond the block")]
fn an_output_beyond_the_block_panics() {
    let resample = Resample::new(Isa::best()).unwrap();
    let taps = Taps { starts: &[3], counts: &[2], weights: &[1, 1], taps: 2 };
    let layout = Layout { first: 0, step: 1, channels: 1 };
    resample.horizontal(&[[0; ROWS]; 4], layout, &taps, &mut [[0; ROWS]]);
}

#[test]
#[should_panic(expected = "rows of")]
fn a_row_beyond_the_slice_panics() {
    Resample::new(Isa::best()).unwrap().vertical(&[0; 9], 5, &[1, 1], &mut [0; 5]);
}

/// Every channel of every packing is the horizontal pass of its samples alone.
#[test]
fn channels_equal_the_pass_of_each_alone() {
    let mut random = Random(0x6368_616e);
    let scalar = Resample::new(Isa::Scalar).unwrap();
    let all: Vec<Resample> =
        Isa::available().into_iter().map(|isa| Resample::new(isa).unwrap()).collect();
    for other in &all {
        for packing in [Packing::Planar, Packing::Pairs, Packing::Yuyv] {
            for round in 0..400 {
                let stride = ROW_STEP * (1 + random.below(12));
                let count = 1 + random.below(ROWS);
                let rows = random.bytes(stride * count);
                // Places of a channel's samples: first byte, step.
                let places: &[(usize, usize)] = match packing {
                    Packing::Planar => &[(0, 1)],
                    Packing::Pairs => &[(0, 2), (1, 2)],
                    Packing::Yuyv => &[(0, 2), (1, 4), (3, 4)],
                };
                let lead = random.below(2);
                let mut axes = Vec::new();
                let mut expected = Vec::new();
                // Both channels of chroma go by the same weights.
                let mut last = None;
                for &(first, step) in places {
                    let samples = stride / step;
                    let (starts, counts, weights, room) = match last.take_if(|(s, _)| *s == step) {
                        Some((_, chosen)) => chosen,
                        None => {
                            let chosen = random.axis(samples - lead, round);
                            let (starts, counts, weights, taps) = &chosen;
                            let taps = Taps { starts, counts, weights, taps: *taps };
                            let mut axis = Weights::default();
                            other.lay_out(&taps, lead as u32, &mut axis);
                            axes.push(axis);
                            last = Some((step, chosen.clone()));
                            chosen
                        }
                    };
                    let outputs = starts.len();
                    let taps =
                        Taps { starts: &starts, counts: &counts, weights: &weights, taps: room };
                    let block: Vec<Turned> = (lead..samples)
                        .map(|at| {
                            std::array::from_fn(|row| {
                                rows[row.min(count - 1) * stride + first + at * step]
                            })
                        })
                        .collect();
                    let mut to = vec![[0; ROWS]; outputs];
                    let alone = Layout { first: 0, step: 1, channels: 1 };
                    scalar.horizontal(&block, alone, &taps, &mut to);
                    expected.push(to);
                }
                let mut actual: Vec<Vec<Turned>> =
                    expected.iter().map(|e| vec![[9; ROWS]; e.len()]).collect();
                let axes: Vec<&Weights> = axes.iter().collect();
                let mut to: Vec<&mut [Turned]> = actual.iter_mut().map(Vec::as_mut_slice).collect();
                let mut block = Vec::new();
                other.channels(&rows, stride, packing, &axes, &mut block, &mut to);
                assert_eq!(actual, expected, "{} {packing:?} {round}", other.kernel());
            }
        }
    }
}

#[test]
#[should_panic(expected = "beyond the row")]
fn an_output_beyond_the_row_is_refused() {
    let passes = Resample::new(Isa::select().unwrap()).unwrap();
    let mut axis = Weights::default();
    let taps = Taps { starts: &[3], counts: &[2], weights: &[1, 1], taps: 2 };
    passes.lay_out(&taps, 0, &mut axis);
    let (mut blue, mut red) = ([[0; ROWS]; 1], [[0; ROWS]; 1]);
    let to: &mut [&mut [Turned]] = &mut [&mut [], &mut blue, &mut red];
    let axes = [&Weights::default(), &axis, &axis];
    passes.channels(&[0; 16], 16, Packing::Yuyv, &axes, &mut Vec::new(), to);
}

/// Some outputs of the vertical pass together are those of one after another.
#[test]
fn vertical_rows_equal_one_after_another() {
    let mut random = Random(0x726f_7773);
    let scalar = Resample::new(Isa::Scalar).unwrap();
    let all = Isa::available().into_iter().map(|isa| Resample::new(isa).unwrap());
    for other in all {
        for round in 0..300 {
            let rows = 1 + random.below(if round % 7 == 0 { 400 } else { 60 });
            let (starts, counts, weights, room) = random.axis(rows, round);
            let taps = Taps { starts: &starts, counts: &counts, weights: &weights, taps: room };
            let mut axis = Weights::default();
            other.lay_out(&taps, 0, &mut axis);
            let length = random.below(200);
            let (stride, to_stride) = (length + random.below(9), length + random.below(9));
            let end = starts.iter().zip(&counts).map(|(s, c)| s + c).max().unwrap() as usize;
            // To the very last sample that is needed.
            let from = random.bytes((end - 1) * stride + length);
            let first = random.below(starts.len());
            let outputs = first..first + 1 + random.below(starts.len() - first);
            let mut actual = vec![7; (outputs.len() - 1) * to_stride + length];
            let mut expected = actual.clone();
            for (i, output) in outputs.clone().enumerate() {
                let weights = &weights[output * room..][..counts[output] as usize];
                let from = &from[starts[output] as usize * stride..];
                scalar.vertical(from, stride, weights, &mut expected[i * to_stride..][..length]);
            }
            other.vertical_rows((&from, stride), &axis, outputs, (&mut actual, to_stride), length);
            assert_eq!(actual, expected, "{} {round}", other.kernel());
        }
    }
}
