//! The entropy-coded data: bits, Huffman codes, and the coefficients of a block.

use kinglet_kernels::jpeg::Block;

use super::Other;
use super::parse::Component;

/// Bits that a table is asked for at once.
const LOOK_BITS: u32 = 10;
/// The index of a coefficient in its block, by its place in the file (ITU-T T.81, figure A.6).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The entropy-coded data as bits. After its end (a marker) come zeros.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the highest down; zeros below.
    buffer: u64,
    /// How many of them there are.
    count: u32,
    /// How many of them are not from the file.
    made_up: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, count: 0, made_up: 0 }
    }

    /// Makes sure of more than 32 bits: enough for a code and the value after it.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count > 32 {
            return;
        }
        if let Some(next) = self.data.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let word = u32::from_be_bytes(*next);
            // No byte is FF: none of the complement is zero.
            let complement = !word;
            if complement.wrapping_sub(0x0101_0101) & !complement & 0x8080_8080 == 0 {
                self.buffer |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        self.fill_slowly();
    }

    #[cold]
    #[inline(never)]
    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                _ => {
                    self.made_up += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    fn peek(&self, bits: u32) -> usize {
        (self.buffer >> (64 - bits)) as usize
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// A value of 1 to 16 bits as T.81 codes them (figure F.12).
    #[inline(always)]
    fn value(&mut self, bits: u32) -> i32 {
        let raw = self.peek(bits) as i32;
        self.skip(bits);
        extend(raw, bits)
    }

    /// Whether bits were taken that are not from the file.
    pub(super) fn overrun(&self) -> bool {
        self.made_up > self.count
    }

    /// Drops what is left of a byte and takes a restart marker.
    pub(super) fn restart(&mut self, number: u8) -> Result<(), Other> {
        // Bits of whole bytes that were read ahead would be data where the marker should be.
        let ahead = self.count - self.made_up.min(self.count);
        if self.overrun() || ahead >= 8 {
            return Err(Other);
        }
        let rest = &self.data[self.at..];
        let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
        if fill == 0 || rest.get(fill) != Some(&(0xd0 + number)) {
            return Err(Other);
        }
        *self = Self::new(&rest[fill + 1..]);
        Ok(())
    }
}

#[inline(always)]
fn extend(raw: i32, bits: u32) -> i32 {
    // Without its highest bit a value is negative.
    if raw >> (bits - 1) == 0 { raw - (1 << bits) + 1 } else { raw }
}

/// One Huffman table.
#[derive(Debug, Clone)]
struct Huffman {
    /// By the next [`LOOK_BITS`] bits: length and symbol of a code that is no longer, or 0.
    look: Box<[[u8; 2]; 1 << LOOK_BITS]>,
    /// By the same: what a whole coefficient is if it fits, see [`Whole`].
    whole: Box<[Whole; 1 << LOOK_BITS]>,
    /// For each length: the first code beyond those of that length, moved to 16 bits.
    beyond: [u32; 17],
    /// For each length: what to add to a code for the index of its symbol.
    offsets: [i32; 17],
    symbols: [u8; 256],
}

/// A code with the value after it.
#[derive(Debug, Clone, Copy, Default)]
struct Whole {
    value: i16,
    /// Zeros before it.
    run: u8,
    /// Bits of code and value; 0: they are too many.
    bits: u8,
}

impl Huffman {
    /// From the number of codes of each length 1..=16 and their symbols (T.81, annex C).
    fn set(&mut self, counts: &[u8; 16], symbols: &[u8]) -> Result<(), Other> {
        *self.look = [[0; 2]; 1 << LOOK_BITS];
        self.symbols[..symbols.len()].copy_from_slice(symbols);
        let (mut code, mut index) = (0u32, 0usize);
        for (bits, &count) in (1..).zip(counts) {
            self.offsets[bits as usize] = index as i32 - code as i32;
            for _ in 0..count {
                if code >> bits != 0 {
                    return Err(Other);
                }
                if bits <= LOOK_BITS {
                    let first = (code << (LOOK_BITS - bits)) as usize;
                    let entries = &mut self.look[first..first + (1 << (LOOK_BITS - bits))];
                    entries.fill([bits as u8, symbols[index]]);
                }
                code += 1;
                index += 1;
            }
            self.beyond[bits as usize] = code << (16 - bits);
            code <<= 1;
        }
        for (i, (whole, [length, symbol])) in self.whole.iter_mut().zip(*self.look).enumerate() {
            let (run, bits) = (symbol >> 4, symbol & 15);
            let total = length + bits;
            *whole = Whole::default();
            if length > 0 && bits > 0 && u32::from(total) <= LOOK_BITS {
                let raw = i >> (LOOK_BITS - u32::from(total)) & ((1 << bits) - 1);
                let value = extend(raw as i32, bits.into()) as i16;
                *whole = Whole { value, run, bits: total };
            }
        }
        Ok(())
    }

    /// The next symbol.
    #[inline(always)]
    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u8, Other> {
        let [length, symbol] = self.look[bits.peek(LOOK_BITS)];
        if length > 0 {
            bits.skip(length.into());
            return Ok(symbol);
        }
        self.long_symbol(bits)
    }

    #[inline(never)]
    fn long_symbol(&self, bits: &mut Bits<'_>) -> Result<u8, Other> {
        let code = bits.peek(16) as u32;
        let length = (LOOK_BITS + 1..=16).find(|&l| code < self.beyond[l as usize]).ok_or(Other)?;
        bits.skip(length);
        let index = (code >> (16 - length)) as i32 + self.offsets[length as usize];
        usize::try_from(index).ok().and_then(|i| self.symbols.get(i).copied()).ok_or(Other)
    }
}

impl Default for Huffman {
    fn default() -> Self {
        Self {
            look: Box::new([[0; 2]; 1 << LOOK_BITS]),
            whole: Box::new([Whole::default(); 1 << LOOK_BITS]),
            beyond: [0; 17],
            offsets: [0; 17],
            symbols: [0; 256],
        }
    }
}

/// The tables of a file.
#[derive(Debug)]
pub(super) struct Tables {
    /// In the order of the block, not of the file.
    quantization: [[u16; 64]; 4],
    dc: [Huffman; 4],
    ac: [Huffman; 4],
    /// Which of these the file has.
    present: [[bool; 4]; 3],
}

impl Default for Tables {
    fn default() -> Self {
        let (dc, ac, present) = Default::default();
        Self { quantization: [[0; 64]; 4], dc, ac, present }
    }
}

impl Tables {
    /// Forgets the tables of another file.
    pub(super) fn forget(&mut self) {
        self.present = Default::default();
    }

    /// Reads a segment of Huffman tables.
    pub(super) fn huffman(&mut self, mut segment: &[u8]) -> Result<(), Other> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(Other)?;
            let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
            if total > 256 || rest.len() < total {
                return Err(Other);
            }
            let (symbols, rest) = rest.split_at(total);
            let (class, index) = (usize::from(kind >> 4), usize::from(kind & 15));
            let tables = [&mut self.dc, &mut self.ac];
            let table =
                tables.into_iter().nth(class).and_then(|t| t.get_mut(index)).ok_or(Other)?;
            table.set(counts, symbols)?;
            // The difference of a first coefficient has at most 11 bits, others have 10.
            if class == 0 && symbols.iter().any(|symbol| *symbol > 11) {
                return Err(Other);
            }
            self.present[class][index] = true;
            segment = rest;
        }
        Ok(())
    }

    /// Reads a segment of quantization tables.
    pub(super) fn quantization(&mut self, mut segment: &[u8]) -> Result<(), Other> {
        while let Some((&kind, rest)) = segment.split_first() {
            let table = self.quantization.get_mut(usize::from(kind & 15)).ok_or(Other)?;
            let (values, rest) = rest.split_first_chunk::<64>().ok_or(Other)?;
            // Tables of 16 bits are not for pictures of 8 bits.
            if kind >> 4 != 0 {
                return Err(Other);
            }
            for (&index, &value) in ZIGZAG.iter().zip(values) {
                table[usize::from(index)] = value.into();
            }
            self.present[2][usize::from(kind & 15)] = true;
            segment = rest;
        }
        Ok(())
    }

    /// Whether the tables that the components name are there.
    pub(super) fn complete(&self, components: &[Component]) -> bool {
        let there = |class: usize, index| self.present[class].get(index) == Some(&true);
        components.iter().all(|c| there(0, c.dc) && there(1, c.ac) && there(2, c.quantization))
    }

    /// The coefficients of a block, which is all zeros before; says whether only the first may be
    /// another number.
    #[inline(always)]
    pub(super) fn block(
        &self,
        from: &mut Bits<'_>,
        component: &Component,
        prediction: &mut i32,
        block: &mut Block,
    ) -> Result<bool, Other> {
        let quantization = &self.quantization[component.quantization];
        let mut bits = *from;
        self.first(&mut bits, component, prediction)?;
        // Wraps where the file is damaged.
        block[0] = prediction.wrapping_mul(quantization[0].into()) as i16;
        let last = self.others(&mut bits, component, |place, value| {
            let index = usize::from(ZIGZAG[place & 63]);
            block[index] = value.wrapping_mul(quantization[index] as i16);
        })?;
        *from = bits;
        Ok(last == 0)
    }

    /// Reads a block and keeps its first coefficient, which the next one's is coded against.
    #[inline(always)]
    pub(super) fn pass_over(
        &self,
        from: &mut Bits<'_>,
        component: &Component,
        prediction: &mut i32,
    ) -> Result<(), Other> {
        let mut bits = *from;
        self.first(&mut bits, component, prediction)?;
        self.others(&mut bits, component, |_, _| {})?;
        *from = bits;
        Ok(())
    }

    #[inline(always)]
    fn first(
        &self,
        bits: &mut Bits<'_>,
        component: &Component,
        prediction: &mut i32,
    ) -> Result<(), Other> {
        bits.fill();
        let size = self.dc[component.dc].symbol(bits)?;
        if size > 0 {
            *prediction = prediction.wrapping_add(bits.value(size.into()));
        }
        Ok(())
    }

    /// The coefficients from place 1 on; gives the last place.
    #[inline(always)]
    fn others(
        &self,
        bits: &mut Bits<'_>,
        component: &Component,
        mut keep: impl FnMut(usize, i16),
    ) -> Result<usize, Other> {
        let table = &self.ac[component.ac];
        let mut place = 0;
        while place < 63 {
            bits.fill();
            let whole = table.whole[bits.peek(LOOK_BITS)];
            let value = if whole.bits > 0 {
                bits.skip(whole.bits.into());
                place += usize::from(whole.run) + 1;
                whole.value
            } else {
                let symbol = table.symbol(bits)?;
                let size = u32::from(symbol & 15);
                match (symbol >> 4, size) {
                    (0, 0) => return Ok(place),
                    (15, 0) => {
                        place += 16;
                        continue;
                    }
                    (_, 0) => return Err(Other),
                    (run, _) => place += usize::from(run) + 1,
                }
                bits.value(size) as i16
            };
            if place > 63 {
                return Err(Other);
            }
            keep(place, value);
        }
        if place > 63 { Err(Other) } else { Ok(place) }
    }
}
