//! The matrix product of a few rows of activations and one panel of weights: where the time of
//! dense layers goes.

use super::Element;
use super::simd::{Epilogue, Io, MAX_ROWS, Simd, Vectorized, Whole};

/// Rows of activations, each of several runs of values that lie apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<C> {
    /// The first value of the first row.
    pub(super) start: *const C,
    /// Values from one row to the next.
    pub(super) stride: usize,
    /// Runs of a row: 1 where a row lies in one piece.
    pub(super) runs: usize,
    /// Values from one run to the next.
    pub(super) run_stride: usize,
    /// Values of a run.
    pub(super) run: usize,
}

/// Where the results go.
#[derive(Clone, Copy)]
pub(super) struct Target<T> {
    /// The first result of the first row.
    pub(super) output: *mut T,
    /// What is added to it, or null.
    pub(super) residual: *const T,
    /// Values from one row to the next, in both.
    pub(super) stride: usize,
    /// Results of each row.
    pub(super) columns: usize,
}

impl<T> Target<T> {
    /// The same where `T` is `C`.
    #[inline(always)]
    fn in_arithmetic<C>(self) -> Target<C> {
        Target {
            output: self.output.cast(),
            residual: self.residual.cast(),
            stride: self.stride,
            columns: self.columns,
        }
    }

    /// The target of the rows after the first `rows`.
    #[inline(always)]
    pub(super) fn after(mut self, rows: usize) -> Target<T> {
        self.output = self.output.wrapping_add(rows * self.stride);
        if !self.residual.is_null() {
            self.residual = self.residual.wrapping_add(rows * self.stride);
        }
        self
    }
}

/// One panel: weights `[runs * run][vectors * LANES]`, bias `[vectors * LANES]`.
#[derive(Clone, Copy)]
pub(super) struct Weights<C> {
    pub(super) vectors: usize,
    pub(super) weights: *const C,
    pub(super) bias: *const C,
}

/// Multiplies `count` rows by one panel.
///
/// # Safety
/// `rows` must be valid for reads of `count` rows, `weights` of what its description says,
/// `target` for writes (and its residual for reads) of `count` rows of its columns.
pub(super) unsafe fn run<S: Io<T>, T: Element>(
    s: S,
    mut rows: Rows<S::C>,
    count: usize,
    weights: Weights<S::C>,
    mut target: Target<T>,
    epilogue: &Epilogue<S::C>,
) {
    // As even as can be: no tile of one row for the rest.
    let tiles = count.div_ceil(S::ROWS[weights.vectors - 1]);
    let (height, taller) = (count / tiles, count % tiles);
    for (height, tiles) in [(height + 1, taller), (height, tiles - taller)] {
        if tiles == 0 {
            continue;
        }
        macro_rules! tiles {
            ($($height:literal)*) => {
                match (height, weights.vectors) {
                    $(
                        ($height, 1) => s.vectorize(Tiles::<S, T, $height, 1> {
                            s, rows, tiles, weights, target, epilogue,
                        }),
                        ($height, 2) => s.vectorize(Tiles::<S, T, $height, 2> {
                            s, rows, tiles, weights, target, epilogue,
                        }),
                        ($height, 3) => s.vectorize(Tiles::<S, T, $height, 3> {
                            s, rows, tiles, weights, target, epilogue,
                        }),
                    )*
                    _ => unreachable!("tiles are at most 8 x 3"),
                }
            };
        }
        const { assert!(MAX_ROWS == 8) };
        tiles!(1 2 3 4 5 6 7 8);
        let done = height * tiles;
        rows.start = rows.start.wrapping_add(done * rows.stride);
        target = target.after(done);
    }
}

/// Several tiles of `M` rows and `N` vectors.
struct Tiles<'a, S: Simd, T, const M: usize, const N: usize> {
    s: S,
    rows: Rows<S::C>,
    tiles: usize,
    weights: Weights<S::C>,
    target: Target<T>,
    epilogue: &'a Epilogue<S::C>,
}

impl<S: Io<T>, T: Element, const M: usize, const N: usize> Vectorized for Tiles<'_, S, T, M, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // What `ROWS` excludes is never called; without this it would be compiled all the same.
        if const { M > S::ROWS[N - 1] } {
            return;
        }
        let Tiles { s, rows, weights, epilogue, .. } = self;
        let (mut target, mut start) = (self.target, self.rows.start);
        let in_one_block = rows.runs == 1 && rows.run <= S::BLOCK;
        let whole = target.columns == N * S::LANES && epilogue.only_bounds();
        let bounded = !epilogue.is_none();
        if whole && S::SAME {
            let bounds = [epilogue.min, epilogue.max];
            let whole = Whole {
                rows: Rows { start, ..rows },
                tiles: self.tiles,
                weights: weights.weights,
                bias: weights.bias,
                bounds: bounded.then_some(&bounds),
                target: target.in_arithmetic(),
            };
            // SAFETY: `run`'s caller vouches for all rows of all tiles.
            if unsafe { s.whole_tiles::<M, N>(&whole) } {
                return;
            }
        }
        for _ in 0..self.tiles {
            // SAFETY: `run`'s caller vouches for all rows of all tiles.
            unsafe {
                let acc = if in_one_block {
                    let mut acc = first::<S, M, N>(s, &weights);
                    add_products(s, &mut acc, start, rows.stride, weights.weights, rows.run);
                    acc
                } else {
                    product::<S, M, N>(s, start, &rows, &weights)
                };
                match (whole, bounded, target.residual.is_null()) {
                    (true, true, true) => {
                        store::<S, T, M, N, true, false>(s, acc, &target, epilogue)
                    }
                    (true, false, true) => {
                        store::<S, T, M, N, false, false>(s, acc, &target, epilogue)
                    }
                    (true, false, false) => {
                        store::<S, T, M, N, false, true>(s, acc, &target, epilogue)
                    }
                    _ => s.vectorize(Finish { s, acc, target, epilogue }),
                }
            }
            start = start.wrapping_add(M * rows.stride);
            target = target.after(M);
        }
    }
}

/// The bias in every row.
///
/// # Safety
/// `weights` must be valid for reads of its bias.
#[inline(always)]
unsafe fn first<S: Simd, const M: usize, const N: usize>(
    s: S,
    weights: &Weights<S::C>,
) -> [[S::V; N]; M] {
    // SAFETY: the bias is as wide as the panel.
    [std::array::from_fn(|n| unsafe { s.load(weights.bias.add(n * S::LANES)) }); M]
}

/// Bias and products of one tile, whatever the number of blocks.
///
/// # Safety
/// `start` must be valid for reads of `M` rows laid out like `rows`, `weights` of its panel.
#[inline(always)]
unsafe fn product<S: Simd, const M: usize, const N: usize>(
    s: S,
    start: *const S::C,
    rows: &Rows<S::C>,
    weights: &Weights<S::C>,
) -> [[S::V; N]; M] {
    // SAFETY: the caller vouches for the bias.
    let mut acc = unsafe { first::<S, M, N>(s, weights) };
    let zero = [[s.splat(S::C::default()); N]; M];
    // The sum of the blocks before the one in `acc`, and the products in that.
    let mut total = zero;
    let (mut blocks, mut products) = (false, 0);
    let mut panel = weights.weights;
    for run in 0..rows.runs {
        let mut from = start.wrapping_add(run * rows.run_stride);
        let mut left = rows.run;
        while left > 0 {
            let depth = left.min(S::BLOCK);
            if S::BLOCK < usize::MAX && products > 0 && products + depth > S::BLOCK {
                if blocks {
                    sum(s, &mut total, &acc);
                } else {
                    total = acc;
                }
                (blocks, products) = (true, 0);
                acc = zero;
            }
            // SAFETY: the run's next `depth` values of each row, and as many rows of the panel.
            unsafe { add_products(s, &mut acc, from, rows.stride, panel, depth) };
            from = from.wrapping_add(depth);
            panel = panel.wrapping_add(depth * N * S::LANES);
            left -= depth;
            products += depth;
        }
    }
    if blocks {
        sum(s, &mut acc, &total);
    }
    acc
}

/// `to += from`
#[inline(always)]
fn sum<S: Simd, const M: usize, const N: usize>(
    s: S,
    to: &mut [[S::V; N]; M],
    from: &[[S::V; N]; M],
) {
    for (to, from) in to.as_flattened_mut().iter_mut().zip(from.as_flattened()) {
        *to = s.add(*to, *from);
    }
}

/// Adds the products of `depth` values of each row.
///
/// # Safety
/// `from` must be valid for reads of `depth` values of `M` rows, `panel` of `depth` rows of `N`
/// vectors.
#[inline(always)]
unsafe fn add_products<S: Simd, const M: usize, const N: usize>(
    s: S,
    acc: &mut [[S::V; N]; M],
    from: *const S::C,
    stride: usize,
    panel: *const S::C,
    depth: usize,
) {
    let mut panel = panel;
    let mut next = [from; M];
    for (m, next) in next.iter_mut().enumerate() {
        *next = s.apart(next.wrapping_add(m * stride));
    }
    let groups = depth / S::DEPTH;
    // SAFETY: whole groups of `DEPTH` values within `depth`.
    unsafe { s.multiply_all(acc, &mut next, panel, groups) };
    panel = panel.wrapping_add(groups * S::DEPTH * N * S::LANES);
    let mut from = from.wrapping_add(groups * S::DEPTH);
    for _ in 0..depth % S::DEPTH {
        for n in 0..N {
            // SAFETY: one value of each row, and one row of the panel.
            unsafe {
                let weights = s.load(panel.add(n * S::LANES));
                for (m, acc) in acc.iter_mut().enumerate() {
                    acc[n] = s.fma(acc[n], s.splat(*from.add(m * stride)), weights);
                }
            }
        }
        from = from.wrapping_add(1);
        panel = panel.wrapping_add(N * S::LANES);
    }
}

/// Writes a tile that fills its panel: bounds it if `BOUNDS`, adds the residual if `RESIDUAL`.
///
/// # Safety
/// `target` must be valid for `M` rows.
#[inline(always)]
unsafe fn store<
    S: Io<T>,
    T: Element,
    const M: usize,
    const N: usize,
    const BOUNDS: bool,
    const RESIDUAL: bool,
>(
    s: S,
    acc: [[S::V; N]; M],
    target: &Target<T>,
    epilogue: &Epilogue<S::C>,
) {
    let (min, max) = (s.splat(epilogue.min), s.splat(epilogue.max));
    for (m, acc) in acc.iter().enumerate() {
        for (n, &acc) in acc.iter().enumerate() {
            let mut value = if BOUNDS { s.min(s.max(acc, min), max) } else { acc };
            let at = m * target.stride + n * S::LANES;
            // SAFETY: a whole vector of row `m`, which the caller vouches for.
            unsafe {
                if RESIDUAL {
                    value = s.add(value, s.read(target.residual.add(at)));
                }
                s.write(target.output.add(at), value);
            }
        }
    }
}

/// The end of a tile that does not fill its panel, or whose activation is a longer computation:
/// not inlined into each tile.
struct Finish<'a, S: Simd, T, const M: usize, const N: usize> {
    s: S,
    acc: [[S::V; N]; M],
    target: Target<T>,
    epilogue: &'a Epilogue<S::C>,
}

impl<S: Io<T>, T: Element, const M: usize, const N: usize> Vectorized for Finish<'_, S, T, M, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Finish { s, target, epilogue, .. } = self;
        for (m, acc) in self.acc.iter().enumerate() {
            for (n, &acc) in acc.iter().enumerate() {
                let mut value = epilogue.apply(s, acc);
                let at = m * target.stride + n * S::LANES;
                let left = target.columns - n * S::LANES;
                // SAFETY: within the columns of row `m`, which `run`'s caller vouches for.
                unsafe {
                    if left >= S::LANES {
                        if !target.residual.is_null() {
                            value = s.add(value, s.read(target.residual.add(at)));
                        }
                        s.write(target.output.add(at), value);
                    } else {
                        if !target.residual.is_null() {
                            value = s.add(value, s.read_part(target.residual.add(at), left));
                        }
                        s.write_part(target.output.add(at), left, value);
                    }
                }
            }
        }
    }
}
