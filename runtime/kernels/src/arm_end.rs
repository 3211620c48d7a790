//! The end of requantization as text for inline assembly, for kernels whose whole loop over tiles
//! is one piece of assembly. The same steps as [`crate::arm::ClampVectors`].

use crate::requantize::folded_bias;
use crate::{Requantize, Residual};

/// Most channels of one panel.
pub(crate) const MAX_COLS: usize = 16;

/// What ends the sums of one panel, laid out for assembly that has its address as `{end}`.
#[repr(C, align(64))]
pub(crate) struct End {
    /// At 0: what sums begin with.
    bias: [i32; MAX_COLS],
    /// At 64.
    multiplier: [f32; MAX_COLS],
    /// At 128, 144 and 160.
    zero_point: [i16; 8],
    min: [u8; 16],
    max: [u8; 16],
    /// At 176 and 192; 0 where there is none.
    residual_zero_point: [u8; 16],
    residual_multiplier: [f32; 4],
    /// At 208: what is subtracted from results that another kernel reads.
    middle: [u8; 16],
}

impl End {
    /// For `cols` channels from `first` on, whose weights `row(c)` gives; activations are less
    /// `zero_point - z` of what the layer's zero point `z` is relative to. Other channels are 0.
    pub(crate) fn new<'a>(
        (output, residual): (&Requantize, Option<Residual>),
        first: usize,
        cols: usize,
        zero_point: i32,
        row: impl Fn(usize) -> &'a [i16],
    ) -> End {
        let (mut bias, mut multiplier) = ([0; MAX_COLS], [0.0; MAX_COLS]);
        for c in 0..cols {
            bias[c] = folded_bias(row(c), zero_point, output.bias[first + c]);
            multiplier[c] = output.multiplier[first + c];
        }
        let residual = residual.unwrap_or(Residual { zero_point: 0, multiplier: 0.0 });
        End {
            bias,
            multiplier,
            zero_point: [i16::from(output.zero_point); 8],
            min: [output.min; 16],
            max: [output.max; 16],
            residual_zero_point: [residual.zero_point; 16],
            residual_multiplier: [residual.multiplier; 4],
            middle: [0; 16],
        }
    }

    /// The same for results less `middle`.
    pub(crate) fn less(self, middle: u8) -> End {
        End { middle: [middle; 16], ..self }
    }
}

/// Loads what [`end_row`] needs into v25 to v31 (of which `adding` reloads some for each row), for two or four vectors of channels.
macro_rules! end_load {
    (plain 2) => { "ldp q28, q29, [{end}, #64]\n" };
    (plain 4) => { "ldp q28, q29, [{end}, #64]\nldp q30, q31, [{end}, #96]\n" };
    (adding $vectors:tt) => { $crate::arm_end::end_load!(plain $vectors) };
    ($kind:tt $vectors:tt) => {
        concat!(
            $crate::arm_end::end_load!(plain $vectors),
            "ldp q27, q26, [{end}, #128]\nldr q25, [{end}, #160]\n"
        )
    };
}
pub(crate) use end_load;

/// Ends the sums of one pixel in the given registers, and stores its channels at `{out}`, which
/// then moves on by `{stride}`. The first word is the name of an [`crate::arm::Ending`].
/// `adding` also overwrites v24, which must not be a later row's.
macro_rules! end_row {
    (adding [$a:tt, $b:tt, $c:tt, $d:tt]) => {
        concat!(
            "ld1 {{v24.16b}}, [{out}]\n",
            "ldp q25, q26, [{end}, #176]\n",
            "usubl2 v27.8h, v24.16b, v25.16b\n",
            "usubl v24.8h, v24.8b, v25.8b\n",
            $crate::arm_end::end_row!(@add $a "v28" "v25" "sshll" "v24" "4h"),
            $crate::arm_end::end_row!(@add $b "v29" "v24" "sshll2" "v24" "8h"),
            $crate::arm_end::end_row!(@add $c "v30" "v25" "sshll" "v27" "4h"),
            $crate::arm_end::end_row!(@add $d "v31" "v27" "sshll2" "v27" "8h"),
            "ldp q27, q26, [{end}, #128]\nldr q25, [{end}, #160]\n",
            $crate::arm_end::end_row!(@bytes saturating [$a, $b, $c, $d]),
            "st1 {{", $a, ".16b}}, [{out}], {stride}\n"
        )
    };
    (adding [$a:tt, $b:tt]) => {
        concat!(
            "ld1 {{v24.8b}}, [{out}]\n",
            "ldp q25, q26, [{end}, #176]\n",
            "usubl v24.8h, v24.8b, v25.8b\n",
            $crate::arm_end::end_row!(@add $a "v28" "v25" "sshll" "v24" "4h"),
            $crate::arm_end::end_row!(@add $b "v29" "v24" "sshll2" "v24" "8h"),
            "ldp q27, q26, [{end}, #128]\nldr q25, [{end}, #160]\n",
            $crate::arm_end::end_row!(@bytes saturating [$a, $b])
        )
    };
    ($kind:tt [$a:tt, $b:tt, $c:tt, $d:tt]) => {
        concat!(
            $crate::arm_end::end_row!(@pixel $kind [$a, $b, $c, $d]),
            "st1 {{", $a, ".16b}}, [{out}], {stride}\n"
        )
    };
    // Without the store: the bytes are in the first register.
    (@pixel $kind:tt [$a:tt, $b:tt, $c:tt, $d:tt]) => {
        concat!(
            $crate::arm_end::end_row!(@scale $a "v28" $b "v29" $c "v30" $d "v31"),
            $crate::arm_end::end_row!(@bytes $kind [$a, $b, $c, $d])
        )
    };
    ($kind:tt [$a:tt, $b:tt]) => {
        concat!(
            $crate::arm_end::end_row!(@scale $a "v28" $b "v29"),
            $crate::arm_end::end_row!(@bytes $kind [$a, $b])
        )
    };
    (@bytes $kind:tt [$a:tt, $b:tt, $c:tt, $d:tt]) => {
        concat!(
            $crate::arm_end::end_row!(@words $kind $a $b),
            $crate::arm_end::end_row!(@words $kind $c $d),
            "sqxtun ", $a, ".8b, ", $a, ".8h\n",
            "sqxtun2 ", $a, ".16b, ", $c, ".8h\n",
            $crate::arm_end::end_row!(@clamp $kind $a)
        )
    };
    (@bytes $kind:tt [$a:tt, $b:tt]) => {
        concat!(
            $crate::arm_end::end_row!(@words $kind $a $b),
            "sqxtun ", $a, ".8b, ", $a, ".8h\n",
            $crate::arm_end::end_row!(@clamp $kind $a),
            "st1 {{", $a, ".8b}}, [{out}], {stride}\n"
        )
    };
    (@scale $($acc:tt $multiplier:tt)+) => {
        concat!(
            $("scvtf ", $acc, ".4s, ", $acc, ".4s\n",)+
            $("fmul ", $acc, ".4s, ", $acc, ".4s, ", $multiplier, ".4s\n",)+
            $("fcvtns ", $acc, ".4s, ", $acc, ".4s\n",)+
        )
    };
    // Sums to results, with a vector of the residual less its zero point.
    (@add $acc:tt $multiplier:tt $t:tt $widen:tt $codes:tt $from:tt) => {
        concat!(
            $widen, " ", $t, ".4s, ", $codes, ".", $from, ", #0\n",
            "scvtf ", $acc, ".4s, ", $acc, ".4s\n",
            "scvtf ", $t, ".4s, ", $t, ".4s\n",
            "fmul ", $acc, ".4s, ", $acc, ".4s, ", $multiplier, ".4s\n",
            "fmul ", $t, ".4s, ", $t, ".4s, v26.4s\n",
            "fadd ", $acc, ".4s, ", $acc, ".4s, ", $t, ".4s\n",
            "fcvtns ", $acc, ".4s, ", $acc, ".4s\n"
        )
    };
    (@words plain $a:tt $b:tt) => { concat!("uzp1 ", $a, ".8h, ", $a, ".8h, ", $b, ".8h\n") };
    (@words fitting $a:tt $b:tt) => {
        concat!(
            "uzp1 ", $a, ".8h, ", $a, ".8h, ", $b, ".8h\n",
            "add ", $a, ".8h, ", $a, ".8h, v27.8h\n"
        )
    };
    (@words saturating $a:tt $b:tt) => {
        concat!(
            "sqxtn ", $a, ".4h, ", $a, ".4s\n",
            "sqxtn2 ", $a, ".8h, ", $b, ".4s\n",
            "sqadd ", $a, ".8h, ", $a, ".8h, v27.8h\n"
        )
    };
    (@clamp plain $a:tt) => { "" };
    (@clamp $kind:tt $a:tt) => {
        concat!(
            "umax ", $a, ".16b, ", $a, ".16b, v26.16b\n",
            "umin ", $a, ".16b, ", $a, ".16b, v25.16b\n"
        )
    };
}
pub(crate) use end_row;
