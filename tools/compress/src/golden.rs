//! The self-test that a finished model carries: pictures made up here, so that none with a
//! licence is embedded, and the outputs that this host's engine gives for them.

use kinglet_engine::metadata::{Golden, GoldenSample};
use kinglet_engine::onnx::{TensorProto, tensor_proto::DataType};
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

/// Width of the pictures, pixels.
const WIDTH: u32 = 64;
/// Height of the pictures, pixels.
const HEIGHT: u32 = 48;
/// Tolerance of an int8 model: integer arithmetic is exact, only the last multiplication is in
/// floats.
const INT8: f32 = 1e-5;
/// Tolerance of a model with layers of both kinds: the order of a float layer's sums may change a code
/// behind it by one.
const MIXED: f32 = 0.02;
/// Tolerance of a float16 model: some boards compute in float16, this host in float32. On the samples,
/// which are like no photograph, EfficientNet-Lite0 was off by 0.046 on an emulated Cortex-A76; on
/// photographs its probabilities were off by at most 0.012.
pub(crate) const HALF: f32 = 0.1;
/// Tolerance of a float model.
pub(crate) const FLOAT: f32 = 1e-3;
/// Outputs kept of each picture.
const KEEP: usize = 10;

/// How far outputs may be from the host's, of the largest one: integers give the same bits
/// everywhere, but for the float end of the network; floats depend on the order of sums.
pub(crate) fn tolerance(file: &OnnxFile) -> f32 {
    let quantized = |op: &str| op == "QuantizeLinear" || op.starts_with("QLinear");
    let half = |t: &TensorProto| t.data_type == DataType::Float16 as i32;
    let graph = file.graph();
    if graph.node.iter().any(|node| quantized(&node.op_type)) {
        if is_mixed(file) { MIXED } else { INT8 }
    } else if graph.initializer.iter().any(half) {
        HALF
    } else {
        FLOAT
    }
}

/// Whether some layers of a quantized model run in float; a model that the engine refuses is none of
/// this function's business.
fn is_mixed(file: &OnnxFile) -> bool {
    let options = Options { self_test: false, ..Options::default() };
    let report = Session::new(file.clone(), &options).map(|session| session.report());
    report.is_ok_and(|report| report.macs().0 != report.macs().1)
}

/// Replaces a finished model's self-test. A model that does not say how pictures are prepared gets
/// none.
///
/// # Errors
/// [`ModelError`] when the engine refuses the model.
pub(crate) fn attach(file: &mut OnnxFile, tolerance: f32) -> Result<(), ModelError> {
    let mut metadata = file.metadata()?;
    metadata.golden = None;
    metadata.write(&mut file.proto);
    if metadata.preprocess.is_none() {
        return Ok(());
    }
    let options = Options { self_test: false, ..Options::default() };
    let mut session = Session::new(file.clone(), &options)?;
    let samples = pictures()
        .iter()
        .map(|(name, picture)| {
            Ok(GoldenSample::new(name, picture, &session.outputs(picture)?, KEEP))
        })
        .collect::<Result<_, ModelError>>()?;
    metadata.golden = Some(Golden { tolerance, samples });
    metadata.write(&mut file.proto);
    Ok(())
}

/// Gradients, noise and shapes: smooth, rough and edged.
fn pictures() -> [(&'static str, Picture); 3] {
    let mut state = 0x9e37_79b9_u32;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    [
        ("gradients", draw(|x, y| [(x * 4) as u8, (y * 5) as u8, (255 - 2 * x - 2 * y) as u8])),
        ("noise", draw(|_, _| [noise(), noise(), noise()])),
        ("shapes", draw(shapes)),
    ]
}

/// A disc, a frame and stripes.
fn shapes(x: u32, y: u32) -> [u8; 3] {
    let (dx, dy) = (x.abs_diff(20), y.abs_diff(22));
    if dx * dx + dy * dy < 170 {
        [214, 60, 32]
    } else if (38..58).contains(&x) && (8..40).contains(&y) {
        let edge = !(41..55).contains(&x) || !(11..37).contains(&y);
        if edge { [24, 32, 48] } else { [240, 224, 96] }
    } else if ((x + y) / 6).is_multiple_of(2) {
        [96, 160, 80]
    } else {
        [64, 112, 168]
    }
}

fn draw(mut pixel: impl FnMut(u32, u32) -> [u8; 3]) -> Picture {
    let mut rgb = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            rgb.extend(pixel(x, y));
        }
    }
    Picture::from_rgb(WIDTH, HEIGHT, rgb).expect("the samples fill the picture")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_differ_and_use_the_range() {
        let pictures = pictures();
        for (name, picture) in &pictures {
            let rgb = picture.rgb();
            let (low, high) = (rgb.iter().min().unwrap(), rgb.iter().max().unwrap());
            assert!(high - low > 150, "{name}: {low}..{high}");
        }
        assert_ne!(pictures[0].1, pictures[1].1);
        assert_ne!(pictures[1].1, pictures[2].1);
    }
}
