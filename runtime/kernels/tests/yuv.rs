//! The conversion is its formula, on every instruction set, for all samples.
#![allow(clippy::unwrap_used)]

use kinglet_kernels::Isa;
use kinglet_kernels::resample::Turned;
use kinglet_kernels::yuv::{Coefficients, YuvToRgb};

const CASES: [Coefficients; 2] = [
    Coefficients {
        black: 16,
        luma: 76309,
        red: 104597,
        green_u: -25675,
        green_v: -53279,
        blue: 132201,
    },
    Coefficients {
        black: 0,
        luma: 65536,
        red: 91881,
        green_u: -22554,
        green_v: -46802,
        blue: 116130,
    },
];

/// The formula in real numbers, before rounding.
fn real(c: &Coefficients, y: u8, u: u8, v: u8) -> [f64; 3] {
    let [luma, red, green_u, green_v, blue] =
        [c.luma, c.red, c.green_u, c.green_v, c.blue].map(|i| f64::from(i) / 65536.0);
    let luma = luma * f64::from(i32::from(y) - c.black);
    let (u, v) = (f64::from(u) - 128.0, f64::from(v) - 128.0);
    [luma + red * v, luma + green_u * u + green_v * v, luma + blue * u]
}

#[test]
fn all_samples_are_the_formula_rounded_half_up() {
    let u: Vec<u8> = (0..=255).flat_map(|u| [u; 256]).collect();
    let v: Vec<u8> = (0..256).flat_map(|_| 0..=255).collect();
    for c in &CASES {
        for isa in Isa::available() {
            let kernel = YuvToRgb::new(isa, *c).unwrap();
            let portable = matches!(isa, Isa::Scalar | Isa::Neon32);
            assert_eq!(kernel.kernel().contains("scalar"), portable, "{isa:?}");
            let mut rgb = vec![0; u.len() * 3];
            for y in (0..=255).step_by(17) {
                kernel.row(&vec![y; u.len()], &u, &v, &mut rgb);
                for ((rgb, u), v) in rgb.as_chunks::<3>().0.iter().zip(&u).zip(&v) {
                    let real =
                        real(c, y, *u, *v).map(|x| (x + 0.5).floor().clamp(0.0, 255.0) as u8);
                    assert_eq!(*rgb, real, "{} {y} {u} {v}", kernel.kernel());
                }
            }
        }
    }
}

#[test]
fn rows_of_any_length_and_turned_rows_give_the_same() {
    let sample = |i: usize, plane: usize| (i * (plane * 2 + 37) % 256) as u8;
    for c in &CASES {
        let scalar = YuvToRgb::new(Isa::Scalar, *c).unwrap();
        for isa in Isa::available() {
            let kernel = YuvToRgb::new(isa, *c).unwrap();
            let portable = matches!(isa, Isa::Scalar | Isa::Neon32);
            assert_eq!(kernel.kernel().contains("scalar"), portable, "{isa:?}");
            for length in (1..70).chain([224, 945]) {
                let [y, u, v] =
                    [0, 1, 2].map(|p| (0..length * 8).map(|i| sample(i, p)).collect::<Vec<_>>());
                let (mut expected, mut actual) = (vec![1; length * 24], vec![2; length * 24]);
                scalar.row(&y, &u, &v, &mut expected);
                kernel.row(&y, &u, &v, &mut actual);
                assert_eq!(actual, expected, "{} {length}", kernel.kernel());
                kernel.row(&y[1..], &u[1..], &v[1..], &mut actual[3..]);
                assert_eq!(actual, expected, "{} {length} from 1", kernel.kernel());
                let turned = |plane: &[u8]| plane.as_chunks::<8>().0.to_vec();
                let mut rgb: Vec<Turned> = vec![[0; 8]; length * 3];
                kernel.turned(&turned(&y), &turned(&u), &turned(&v), &mut rgb);
                for (i, rgb) in rgb.iter().enumerate() {
                    for (row, &sample) in rgb.iter().enumerate() {
                        assert_eq!(sample, expected[(i / 3 * 8 + row) * 3 + i % 3]);
                    }
                }
            }
        }
    }
}
