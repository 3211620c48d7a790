use super::*;

/// Values of a bell curve: sums of twelve numbers of a fixed sequence, less 6.
fn bell(n: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut uniform = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

fn histogram(values: &[f32]) -> Histogram {
    let mut histogram = Histogram::new();
    values.chunks(777).for_each(|part| histogram.add(part, 1));
    histogram
}

const FORM: Form = Form { largest: 255, symmetric: false };
const ANY: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn mse(values: &[f32], bounds: (f32, f32), effect: Effect) -> Chosen {
    choose(&histogram(values), bounds, View { effect, ..View::PLAIN }, Calibrator::Mse, FORM)
}

#[test]
fn zero_is_exact_and_both_ends_have_codes() {
    for (low, high) in [(-1.0, 1.0), (-0.3, 7.7), (0.0, 6.0), (-5.0, 0.0), (2.0, 3.0), (0.0, 0.0)] {
        for largest in [127, 255] {
            let q = Quantization::spanning(low, high, largest);
            assert_eq!(q.dequantize(q.quantize(0.0)), 0.0, "{low}..{high}");
            let (least, most) = q.range();
            let slack = 1e-5 * (high - low);
            assert!(least <= low.max(0.0).min(low) + slack && most >= high - slack, "{q:?}");
            assert!(
                most - least
                    <= (high.max(0.0) - low.min(0.0)) * 1.02
                        + 255.0 * f32::from(u8::from(low == high))
            );
            assert!(q.scale > 0.0 && q.zero_point <= largest);
            let ends = [f32::MIN, least, most, f32::MAX].map(|v| q.quantize(v));
            assert_eq!(ends, [0, 0, largest, largest], "{q:?}");
        }
    }
}

#[test]
fn a_lone_outlier_is_clipped() {
    let mut histogram = histogram(&[100.0]);
    let values = bell(20_000);
    // Were there fewer other values, their squared errors would not outweigh the outlier's.
    histogram.add(&values, 100);
    let chosen = choose(&histogram, ANY, View::PLAIN, Calibrator::Mse, FORM);
    let (low, high) = chosen.quantization.range();
    assert!(low < -3.0 && (3.0..20.0).contains(&high), "{low}..{high}");
    assert!(chosen.clipped_high > 0.0 && chosen.clipped_high < 1e-4);
    let whole = choose(&histogram, ANY, View::PLAIN, Calibrator::MinMax, FORM);
    let high = whole.quantization.range().1;
    assert!((99.9..105.0).contains(&high), "{high}");
    assert!(whole.clipped_high == 0.0 && whole.sqnr_db < chosen.sqnr_db);
    // All other calibrators give the outlier up, and the rest gains by it.
    for calibrator in Calibrator::ALL.into_iter().filter(|&c| c != Calibrator::MinMax) {
        let chosen = choose(&histogram, ANY, View::PLAIN, calibrator, FORM);
        assert!(chosen.sqnr_db > whole.sqnr_db + 2.0, "{calibrator:?}: {chosen:?}, {whole:?}");
    }
}

/// Divergence is nothing where all values share a code; ranges do not end there.
#[test]
fn the_least_divergence_is_not_that_of_one_code() {
    // As a Relu6 gives: zeros, a bell's half, and a heap at the cap.
    let values: Vec<f32> = bell(50_000).iter().map(|v| (v * 2.0).clamp(0.0, 6.0)).collect();
    // And one with long tails, which are dear to square errors and cheap to divergence.
    let tails = bell(50_000).iter().map(|v| v * v * v).collect();
    for (values, least_db) in [(values, 25.0), (tails, 15.0)] {
        let chosen = choose(&histogram(&values), ANY, View::PLAIN, Calibrator::Entropy, FORM);
        assert!(chosen.clipped_low <= 1e-3 && chosen.clipped_high <= 1e-3, "{chosen:?}");
        assert!(chosen.sqnr_db > least_db, "{chosen:?}");
    }
}

#[test]
fn an_even_distribution_keeps_its_range() {
    let values: Vec<f32> = (0..50_000).map(|i| i as f32 / 25_000.0 - 0.5).collect();
    let (low, high) = mse(&values, ANY, Effect::Identity).quantization.range();
    assert!((low + 0.5).abs() < 0.02 && (high - 1.5).abs() < 0.02, "{low}..{high}");
}

#[test]
fn a_clamp_bounds_the_range() {
    let values: Vec<f32> = bell(20_000).iter().map(|v| (v * 4.0).clamp(0.0, 6.0)).collect();
    let chosen = mse(&values, (0.0, 6.0), Effect::Identity);
    assert_eq!(chosen.quantization.zero_point, 0);
    let high = chosen.quantization.range().1;
    assert!((5.9..6.0001).contains(&high), "{high}");
    let small: Vec<f32> = values.iter().map(|v| v / 100.0).collect();
    let high = mse(&small, (0.0, 6.0), Effect::Identity).quantization.range().1;
    assert!(high < 0.07, "{high}");
}

#[test]
fn what_a_swish_hides_needs_no_codes() {
    let values: Vec<f32> = bell(50_000).iter().map(|v| v * 6.0 - 8.0).collect();
    let plain = mse(&values, ANY, Effect::Identity).quantization;
    let swish = mse(&values, ANY, Effect::Swish).quantization;
    assert!(swish.scale < plain.scale * 0.95, "{swish:?} {plain:?}");
    // What the result's own range cuts off needs none either.
    let view = View { effect: Effect::Swish, range: (-0.3, 2.0) };
    let cut = choose(&histogram(&values), ANY, view, Calibrator::Mse, FORM).quantization;
    assert!(cut.scale < swish.scale * 0.7, "{cut:?} {swish:?}");
}

#[test]
fn values_that_are_all_zero_have_a_scale() {
    let chosen = mse(&[0.0; 10], ANY, Effect::Identity);
    assert!(chosen.quantization.scale.is_normal());
    assert_eq!(chosen.quantization.dequantize(chosen.quantization.quantize(0.0)), 0.0);
}

#[test]
fn pixels_are_kept_where_mean_and_divisor_allow() {
    let exact = of_pictures([127.0; 3], [128.0; 3]);
    assert_eq!(exact, Quantization { scale: 1.0 / 128.0, zero_point: 127, largest: 255 });
    assert_eq!(of_pictures([0.0; 3], [255.0; 3]).zero_point, 0);
    let (mean, std) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
    for (mean, std, allowed) in [([127.5; 3], [127.5; 3], 0.6), (mean, std, 0.6)] {
        let q = of_pictures(mean, std);
        for c in 0..3 {
            for code in 0..=255_u8 {
                let real = (f32::from(code) - mean[c]) / std[c];
                let error = (q.dequantize(q.quantize(real)) - real).abs();
                assert!(error <= allowed * q.scale, "{code} of channel {c}: {error} {q:?}");
            }
        }
    }
}
