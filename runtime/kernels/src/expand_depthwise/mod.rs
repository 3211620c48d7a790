//! A dense convolution (the expansion of an inverted residual, or a network's stem) and the
//! depthwise convolution that reads it, as one operation: what lies between them is never a whole
//! image, only a few rows of a few channels in the first-level cache.
//!
//! The result is that of [`crate::conv::Conv`] followed by [`crate::depthwise::Depthwise`], bit
//! for bit, in blocks of channels: `[block][pixel][BLOCK_CHANNELS]`, which a projection reads with
//! [`crate::conv::ConvOptions::blocked_input`].
//!
//! A unit of work is some rows of one block of channels, or the whole image. Units depend on nothing
//! but the input: threads share them as they like. Where images are divided into parts, units are ordered by rows first, so
//! that each thread's are the rows which it also projects and, in the next block, expands: what one core has
//! written seldom has to travel to another.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neondot;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::ops::Range;

use crate::conv::{self, BLOCK_CHANNELS, ConvOptions};
use crate::depthwise;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use crate::isa::{Neon, NeonDot};
use crate::lookup::Lookup;
use crate::requantize::Reach;
use crate::workers::Division;
use crate::{ConvGeometry, InputCodes, Isa, KernelError, Requantize, Scratch};

/// Fewest columns with which a pair executes fewer instructions than its two layers on NEON.
#[cfg(target_arch = "aarch64")]
const MIN_COLUMNS: usize = 20;

/// Which pairs there are kernels for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Offer {
    /// Those that were found to cost less than their layers.
    #[default]
    WherePays,
    /// All that a kernel can compute.
    Everywhere,
}

/// One of the two convolutions; fields as the arguments of [`crate::conv::Conv::new`] and
/// [`crate::depthwise::Depthwise::new`].
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Shape.
    pub geometry: ConvGeometry,
    /// `[out_c][kernel_h][kernel_w][in_c]`, or `[kernel_h][kernel_w][channels]`.
    pub weights: &'a [i16],
    /// Of the input.
    pub input: InputCodes,
    /// Of the output.
    pub output: Requantize,
    /// Any function of the output's codes that follows: the result of each.
    pub table: Option<&'a [u8; 256]>,
}

/// What follows the two convolutions, applied while the codes lie in the first-level cache.
struct Tables {
    /// From what the expansion gives to what the depthwise convolution reads.
    first: Option<Lookup>,
    second: Option<Lookup>,
}

impl Tables {
    fn new(isa: Isa, tables: [Option<&[u8; 256]>; 2]) -> Result<Tables, KernelError> {
        let [first, second] = tables.map(|t| t.map(|t| Lookup::new(isa, *t)).transpose());
        Ok(Tables { first: first?, second: second? })
    }

    /// What the depthwise convolution gave becomes what the pair gives.
    fn finish(&self, codes: &mut [u8]) {
        if let Some(table) = &self.second {
            table.run_in_place(codes);
        }
    }
}

/// Of a slot that holds one row beside the padding, `[...][row]`: writes the padding again.
#[cfg(target_arch = "x86_64")]
fn restore<T: Copy>(pair: [Option<usize>; 2], outside: T, slot: &mut [T]) {
    for (i, _) in pair.iter().enumerate().filter(|(_, row)| row.is_none()) {
        slot.iter_mut().skip(i).step_by(2).for_each(|value| *value = outside);
    }
}

/// Complete output rows of a pair with one block of channels.
pub struct Band<'a> {
    /// Which rows.
    pub rows: Range<usize>,
    /// `[rows][out_w][BLOCK_CHANNELS]`
    pub codes: &'a [u8],
}

/// The two convolutions, packed for one instruction set.
pub struct ExpandDepthwise {
    expand: ConvGeometry,
    depthwise: ConvGeometry,
    units: Vec<Unit>,
    /// Where the results of each unit lie in the output.
    division: Division,
    body: Body,
}

/// Some output rows of one block of channels, or of all.
struct Unit {
    blocks: Range<usize>,
    rows: Range<usize>,
}

enum Body {
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Kernel),
    #[cfg(target_arch = "x86_64")]
    Vnni(vnni::Kernel),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Kernel),
    #[cfg(target_arch = "aarch64")]
    NeonDot(neondot::Kernel),
    /// Where no instruction set has a kernel.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Never(std::convert::Infallible),
}

impl Body {
    /// The kernel for the two layers, if there is one.
    #[allow(unused_variables)]
    fn new(
        isa: Isa,
        threads: usize,
        offer: Offer,
        expand: (&conv::Layer<'_>, Reach),
        second: (&depthwise::Layer<'_>, Reach),
        tables: Tables,
    ) -> Option<Body> {
        #[cfg(target_arch = "aarch64")]
        let offered =
            offer == Offer::Everywhere || threads == 1 && expand.0.geometry.out_w >= MIN_COLUMNS;
        match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni if vnni::Kernel::takes(expand, second, &tables) => {
                let token = Avx512Vnni::detect()?;
                Some(Body::Vnni(vnni::Kernel::new(token, expand.0, second.0, tables)))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if avx2::Kernel::takes(expand, second) => {
                let token = Avx2::detect()?;
                Some(Body::Avx2(avx2::Kernel::new(token, expand, second.0, tables)))
            }
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot if offered && neondot::Kernel::takes(expand, second) => {
                let tokens = (Neon::detect()?, NeonDot::detect()?);
                Some(Body::NeonDot(neondot::Kernel::new(tokens, expand, second, tables)))
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if offered && neon::Kernel::takes(expand, second) => {
                let token = Neon::detect()?;
                Some(Body::Neon(neon::Kernel::new(token, expand, second, tables)))
            }
            _ => None,
        }
    }

    /// Whether one unit does everything.
    fn is_whole(&self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) | Body::Vnni(_) => false,
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) | Body::NeonDot(_) => true,
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Body::Never(never) => match *never {},
        }
    }
}

impl ExpandDepthwise {
    /// Packs the pair, or gives `None` where `isa` has no kernel for it or it is not offered (then
    /// the two layers run one after the other). `threads` is how many the units should suit.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if a layer is wrong in
    /// itself, or the second does not read what the first writes.
    pub fn new(
        isa: Isa,
        threads: usize,
        offer: Offer,
        expand: Part<'_>,
        depthwise: Part<'_>,
    ) -> Result<Option<ExpandDepthwise>, KernelError> {
        isa.check()?;
        let (g, d) = (expand.geometry, depthwise.geometry);
        if (g.out_h, g.out_w, g.out_c) != (d.in_h, d.in_w, d.in_c) || d.in_c != d.out_c {
            let why = "the depthwise convolution does not read what the expansion writes";
            return Err(KernelError::Geometry(format!("{why}: {g:?}, {d:?}")));
        }
        // Both layers are checked as if each stood alone.
        let (first, first_reach) = conv::Layer::new(
            g,
            expand.weights,
            expand.input,
            expand.output,
            ConvOptions::default(),
        )?;
        let (second, second_reach) =
            depthwise::Layer::new(d, depthwise.weights, depthwise.input, depthwise.output)?;
        let tables = Tables::new(isa, [expand.table, depthwise.table])?;
        let parts = ((&first, first_reach), (&second, second_reach));
        let body = Body::new(isa, threads, offer, parts.0, parts.1, tables);
        Ok(body.map(|body| {
            let units = if body.is_whole() { vec![whole(&d)] } else { units(&d, threads) };
            let row = d.out_w * BLOCK_CHANNELS;
            let place = |unit: &Unit| {
                let at = |block: usize, line: usize| (block * d.out_h + line) * row;
                at(unit.blocks.start, unit.rows.start)..at(unit.blocks.end - 1, unit.rows.end)
            };
            let division = Division::new(units.iter().map(place).collect());
            ExpandDepthwise { expand: g, depthwise: d, units, division, body }
        }))
    }

    /// The kernel's name, `expand_depthwise_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match &self.body {
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.name(),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(kernel) => kernel.name(),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(kernel) => kernel.name(),
            #[cfg(target_arch = "aarch64")]
            Body::NeonDot(kernel) => kernel.name(),
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Body::Never(never) => match *never {},
        }
    }

    /// The expansion's shape.
    pub fn expand(&self) -> &ConvGeometry {
        &self.expand
    }

    /// The depthwise convolution's shape.
    pub fn depthwise(&self) -> &ConvGeometry {
        &self.depthwise
    }

    /// Units of work.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Bytes of the whole output.
    pub fn output_len(&self) -> usize {
        let d = &self.depthwise;
        d.out_h * d.out_w * d.out_c.next_multiple_of(BLOCK_CHANNELS)
    }

    /// Where the results of each unit lie in the output.
    pub fn division(&self) -> &Division {
        &self.division
    }

    /// Computes a unit.
    ///
    /// `input` is the whole image `[in_h][in_w][in_c]` of the expansion; `output` is the unit's
    /// part of the result. Channels that fill up the last block are unspecified.
    ///
    /// # Panics
    /// If `input` or `output` has another length, or there is no such unit.
    pub fn run(&self, input: &[u8], unit: usize, output: &mut [u8], scratch: &mut Scratch) {
        assert_eq!(input.len(), self.expand.input_len(), "input length");
        let Unit { blocks, rows } = &self.units[unit];
        let len = blocks.len() * rows.len() * self.depthwise.out_w * BLOCK_CHANNELS;
        assert_eq!(output.len(), len, "output length");
        match &self.body {
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.run(input, blocks.start, rows.clone(), output, scratch),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(kernel) => kernel.run(input, blocks.start, rows.clone(), output, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(kernel) => kernel.run(input, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::NeonDot(kernel) => kernel.run(input, output, scratch),
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Body::Never(never) => match *never {},
        }
    }
}

impl ExpandDepthwise {
    /// Whether [`ExpandDepthwise::run_by_bands`] can run it: all channels are one block.
    pub fn has_bands(&self) -> bool {
        self.depthwise.out_c <= BLOCK_CHANNELS && !self.body.is_whole()
    }

    /// Computes a unit of a pair that [`ExpandDepthwise::has_bands`] some rows at a time and calls
    /// `each` with them, in order, and with working memory.
    ///
    /// # Panics
    /// If `input` has another length, there is no such unit, or the pair has no bands.
    #[allow(unused_mut, unused_variables)]
    pub fn run_by_bands(
        &self,
        input: &[u8],
        unit: usize,
        scratch: &mut Scratch,
        mut each: impl FnMut(Band<'_>, &mut Scratch),
    ) {
        assert_eq!(input.len(), self.expand.input_len(), "input length");
        assert!(self.has_bands(), "a pair without bands");
        let rows = self.unit_rows(unit);
        match &self.body {
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.run_by_bands(input, rows, scratch, each),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(kernel) => kernel.run_by_bands(input, rows, scratch, each),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) | Body::NeonDot(_) => unreachable!("pairs without bands"),
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Body::Never(never) => match *never {},
        }
    }

    /// The output rows of a unit.
    pub fn unit_rows(&self, unit: usize) -> Range<usize> {
        self.units[unit].rows.clone()
    }
}

/// The whole output as a unit.
fn whole(d: &ConvGeometry) -> Unit {
    Unit { blocks: 0..d.out_c.div_ceil(BLOCK_CHANNELS), rows: 0..d.out_h }
}

/// Divides the output into units: whole images of a block of channels, or parts of them if that
/// keeps `threads` busier than the rows which neighbouring parts compute twice cost.
fn units(d: &ConvGeometry, threads: usize) -> Vec<Unit> {
    let (blocks, threads) = (d.out_c.div_ceil(BLOCK_CHANNELS), threads.max(1));
    let again = d.kernel_h.saturating_sub(d.stride_h);
    let rows_of = |parts: usize, part: usize| {
        // Pairs of rows stay together.
        let at = |part: usize| (part * d.out_h / parts).next_multiple_of(2).min(d.out_h);
        at(part)..at(part + 1)
    };
    let cost_of = |parts: usize| (d.out_h * d.stride_h).div_ceil(parts) + again;
    let cost = |parts: usize| (blocks * parts).div_ceil(threads) * cost_of(parts);
    let most = (d.out_h / 4).clamp(1, 8);
    let parts = (1..=most).min_by_key(|&parts| cost(parts)).unwrap_or(1);
    let unit = |block: usize, parts: usize, part: usize| Unit {
        blocks: block..block + 1,
        rows: rows_of(parts, part),
    };
    // Or as many whole blocks for each thread as there are for all, and of the blocks that are left a part for each.
    let (each, left) = (blocks / threads, blocks % threads);
    let shared = each * cost_of(1) + cost_of(threads);
    let units: Vec<Unit> = if parts == 1 && left == 1 && threads <= most && shared < cost(1) {
        let of = |thread: usize| {
            let whole = (thread * each..(thread + 1) * each).map(|block| unit(block, 1, 0));
            whole.chain([unit(blocks - 1, threads, thread)])
        };
        (0..threads).flat_map(of).collect()
    } else {
        let of = |part: usize| (0..blocks).map(move |block| (block, part));
        (0..parts).flat_map(of).map(|(block, part)| unit(block, parts, part)).collect()
    };
    units.into_iter().filter(|unit| !unit.rows.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 15 blocks for two threads: seven each, and half of the last.
    #[test]
    fn a_block_that_is_left_over_is_shared() {
        let d =
            ConvGeometry { kernel_h: 3, kernel_w: 3, ..ConvGeometry::pointwise(14, 14, 480, 480) };
        let units = units(&d, 2);
        let shares: Vec<_> = units.iter().map(|u| (u.blocks.start, u.rows.clone())).collect();
        assert_eq!(shares.len(), 16);
        assert_eq!((&shares[7], &shares[15]), (&(14, 0..8), &(14, 8..14)));
        assert!(shares[..7].iter().all(|(block, rows)| *block < 7 && *rows == (0..14)));
    }

    #[test]
    fn units_cover_each_block_once_and_suit_the_threads() {
        for (h, channels, threads) in
            [(56, 96, 2), (7, 1152, 4), (1, 32, 3), (14, 480, 2), (14, 480, 4), (9, 40, 2)]
        {
            let d = ConvGeometry {
                kernel_h: 3,
                kernel_w: 3,
                pad_top: 1,
                pad_left: 1,
                ..ConvGeometry::pointwise(h, 8, channels, channels)
            };
            let mut units = units(&d, threads);
            units.sort_by_key(|unit| (unit.blocks.start, unit.rows.start));
            let mut next = (0, 0);
            for unit in &units {
                assert_eq!((unit.blocks.start, unit.rows.start), next);
                assert!(unit.blocks.len() == 1 && !unit.rows.is_empty());
                next = match unit.rows.end == h {
                    true => (unit.blocks.end, 0),
                    false => (unit.blocks.start, unit.rows.end),
                };
            }
            assert_eq!(next, (channels.div_ceil(BLOCK_CHANNELS), 0));
        }
    }
}
