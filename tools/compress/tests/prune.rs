//! Pruning of small random networks: the work falls by what the report says, what comes out runs,
//! new weights help, and the same file comes out on any number of threads.

#![allow(clippy::unwrap_used)]

mod tiny;

use kinglet_compress::arch::Arch;
use kinglet_compress::import::{ImportOptions, import_random};
use kinglet_compress::inspect::inspect;
use kinglet_compress::prune::{
    Budget, Criterion, Progress, PruneError, PruneOptions, Pruned, prune,
};
use kinglet_compress::quantize::{QuantizeOptions, quantize};
use kinglet_engine::OnnxFile;
use tiny::{SIDE, session};

const CRITERIA: [Criterion; 3] = [Criterion::Norm, Criterion::Taylor, Criterion::Reconstruction];

fn options(budget: f64, criterion: Criterion) -> PruneOptions {
    PruneOptions {
        budget: Budget::Macs(budget),
        criterion,
        reconstruct: true,
        labelled: None,
        seed: 1,
        threads: Some(2),
        preprocess: None,
        progress: None,
        restart: false,
    }
}

fn run(file: &OnnxFile, options: &PruneOptions) -> Result<Pruned, PruneError> {
    let folder = tempfile::tempdir().unwrap();
    let pictures = tiny::write_pictures(folder.path(), 30);
    prune(file, "00ff", &pictures, options, &|_| ())
}

/// A member of a family, half as wide, with random weights, small pictures and ten classes.
fn network(name: &str) -> OnnxFile {
    let options = ImportOptions {
        classes: Some(10),
        resolution: Some(SIDE as u32),
        scale: Some([0.5, 0.5]),
        preprocess: Some(tiny::preprocess()),
        ..Default::default()
    };
    import_random(Arch::find(name).unwrap(), 2, &options).unwrap()
}

/// Two blocks with Relu6, one of them with a residual, and one with swish, squeeze-and-excite and a
/// residual.
fn three_blocks() -> OnnxFile {
    let mut net = tiny::Net::new(7);
    let x = net.conv("input", [3, 8], 3, 2, false);
    let start = net.relu6(&x);
    let mut block = |x: &str, io: [usize; 2], wide: usize, stride: usize, swish: bool| {
        let activate =
            |net: &mut tiny::Net, x: &str| if swish { net.swish(x) } else { net.relu6(x) };
        let y = net.conv(x, [io[0], wide], 1, 1, false);
        let y = activate(&mut net, &y);
        let y = net.conv(&y, [wide, wide], 3, stride, true);
        let y = activate(&mut net, &y);
        let y = if swish { net.squeeze(&y, wide) } else { y };
        let y = net.conv(&y, [wide, io[1]], 1, 1, false);
        if io[0] == io[1] { net.node("Add", &[&y, x]) } else { y }
    };
    let x = block(&start, [8, 8], 48, 1, false);
    let x = block(&x, [8, 16], 48, 2, false);
    let x = block(&x, [16, 16], 64, 1, true);
    net.classify(&x, 16)
}

/// Mean squared difference of the logits from another model's, on pictures that neither has seen,
/// as a share of those logits' mean square.
fn distance(original: &OnnxFile, other: &OnnxFile) -> f64 {
    let (mut a, mut b) = (session(original, false), session(other, false));
    let (mut difference, mut all) = (0.0, 0.0);
    for seed in 100..120 {
        let picture = tiny::picture(seed);
        let outputs = [&mut a, &mut b].map(|s| s.outputs(&picture).unwrap());
        for (x, y) in outputs[0].iter().zip(&outputs[1]) {
            difference += f64::from(x - y).powi(2);
            all += f64::from(*x).powi(2);
        }
    }
    difference / all
}

#[test]
fn work_falls_by_what_the_report_says() {
    for (name, criterion) in [
        ("efficientnet-lite0", Criterion::Norm),
        ("efficientnet-b0", Criterion::Taylor),
        ("efficientnetv2-b0", Criterion::Reconstruction),
    ] {
        let file = network(name);
        let options = PruneOptions { reconstruct: false, ..options(0.75, criterion) };
        let pruned = run(&file, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let macs = [&file, &pruned.file].map(|f| inspect(f).unwrap().macs);
        assert_eq!(pruned.macs, macs, "{name}");
        let saved: u64 = pruned.blocks.iter().map(|b| b.macs[0] - b.macs[1]).sum();
        assert_eq!(macs[0] - macs[1], saved, "{name}");
        let share = macs[1] as f64 / macs[0] as f64;
        assert!(share <= 0.75 && share > 0.72, "{name}: {share}");
        for block in &pruned.blocks {
            let [before, after] = block.channels;
            assert!(after == before || (after % 8 == 0 && after >= 8), "{name}: {block:?}");
        }
        // Not the same share everywhere.
        let share =
            |b: &kinglet_compress::prune::BlockReport| b.channels[1] as f64 / b.channels[0] as f64;
        let shares = || pruned.blocks.iter().map(share);
        assert!(shares().fold(0.0, f64::max) - shares().fold(1.0, f64::min) > 0.2);
        // The self-test that the pruned model carries holds.
        let mut session = session(&pruned.file, false);
        assert_eq!(session.self_test().unwrap(), 3);
        let metadata = session.metadata().clone();
        let provenance = metadata.provenance.unwrap();
        assert_eq!(provenance.parent_sha256.as_deref(), Some("00ff"));
        assert!(provenance.steps.last().unwrap().contains("; channels: blocks."), "{provenance:?}");
        assert_eq!(metadata.preprocess, Some(tiny::preprocess()));
        assert_eq!(pruned.agreement[1], 3);
    }
}

#[test]
fn squeezes_shrink_too() {
    let pruned = run(&three_blocks(), &options(0.6, Criterion::Reconstruction)).unwrap();
    let kept: Vec<usize> = pruned.blocks.iter().map(|b| b.channels[1]).collect();
    assert!(pruned.blocks.len() == 3 && kept[2] < 64, "{:?}", pruned.blocks);
    let inspection = inspect(&pruned.file).unwrap();
    let shapes = inspection
        .layers
        .iter()
        .filter(|l| l.operator == "Conv")
        .map(|l| (l.inputs[0].as_ref().unwrap()[1], l.output.as_ref().unwrap()[1]));
    // The last block: expansion, depthwise, the two of the squeeze, projection.
    let k = kept[2];
    assert_eq!(shapes.skip(7).collect::<Vec<_>>(), [(16, k), (k, k), (k, 4), (4, k), (k, 16)]);
}

#[test]
fn new_weights_bring_the_outputs_nearer() {
    let file = three_blocks();
    for criterion in CRITERIA {
        let with = options(0.7, criterion);
        let without = PruneOptions { reconstruct: false, ..with.clone() };
        let [with, without] = [with, without].map(|o| run(&file, &o).unwrap());
        let channels = |p: &Pruned| p.blocks.iter().map(|b| b.channels).collect::<Vec<_>>();
        assert_eq!(channels(&with), channels(&without));
        let [near, far] = [&with, &without].map(|p| distance(&file, &p.file));
        assert!(near < 0.5 * far, "{criterion}: {near} and {far}");
        for block in &with.blocks {
            if let Some(errors) = block.errors {
                assert!(errors.after <= errors.before, "{block:?}");
            }
        }
        assert!(without.blocks.iter().all(|b| b.errors.is_none()));
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bytes() {
    let file = tiny::swish(4);
    let folder = tempfile::tempdir().unwrap();
    let mut pictures = tiny::write_pictures(folder.path(), 40);
    pictures.push(folder.path().join("absent.png"));
    let progress = folder.path().join("out.onnx.progress");
    for criterion in CRITERIA {
        let plain = options(0.8, criterion);
        let whole = prune(&file, "", &pictures, &plain, &|_| ()).unwrap();
        let options = PruneOptions { progress: Some(progress.clone()), ..plain };
        let results = std::sync::atomic::AtomicUsize::new(0);
        let run = || {
            let on = |p: Progress<'_>| {
                if let Progress::Resumed(n) = p {
                    results.store(n, std::sync::atomic::Ordering::Relaxed);
                }
            };
            let again = prune(&file, "", &pictures, &options, &on).unwrap();
            assert!(again.file.to_bytes() == whole.file.to_bytes(), "{criterion}");
            assert_eq!((&again.blocks, &again.skipped), (&whole.blocks, &whole.skipped));
            results.swap(0, std::sync::atomic::Ordering::Relaxed)
        };
        assert_eq!(run(), 0);
        let record = std::fs::read(&progress).unwrap();
        let all = run();
        assert!(all >= 3 && std::fs::read(&progress).unwrap() == record, "{criterion}: {all}");
        for part in [2, 4, 7] {
            std::fs::write(&progress, &record[..record.len() * part / 8]).unwrap();
            assert!((1..all).contains(&run()), "{criterion}: {part}");
        }
        std::fs::remove_file(&progress).unwrap();
    }
}

#[test]
fn threads_do_not_matter_and_the_seed_does() {
    let file = tiny::swish(4);
    let bytes = |threads: usize, seed: u64| {
        let mut options = options(0.8, Criterion::Reconstruction);
        (options.threads, options.seed) = (Some(threads), seed);
        run(&file, &options).unwrap().file.to_bytes()
    };
    assert_eq!(bytes(1, 1), bytes(3, 1));
    assert_ne!(bytes(1, 1), bytes(1, 2));
}

#[test]
fn labels_can_say_what_the_loss_is() {
    let folder = tempfile::tempdir().unwrap();
    let paths = tiny::write_pictures(folder.path(), 12);
    let sample = |(at, path): (usize, &std::path::PathBuf)| kinglet_compress::dataset::Sample {
        path: path.clone(),
        class: at % 10,
    };
    let labelled = Some(paths.iter().enumerate().map(sample).collect());
    let options = PruneOptions { labelled, ..options(0.8, Criterion::Taylor) };
    let pruned = run(&tiny::lite(1), &options).unwrap();
    let steps = pruned.file.metadata().unwrap().provenance.unwrap().steps;
    assert!(steps[0].contains("12 labelled pictures, sha256 "), "{steps:?}");
    assert!(steps[0].contains("seed 1, 27 calibration pictures, sha256 of"), "{steps:?}");
}

#[test]
fn errors_say_what_is_wrong() {
    let file = tiny::lite(1);
    let default = options(0.8, Criterion::Norm);
    let with =
        |budget: Budget| run(&file, &PruneOptions { budget, ..default.clone() }).unwrap_err();
    assert!(matches!(with(Budget::Macs(0.0)), PruneError::Budget { .. }));
    assert!(matches!(with(Budget::Macs(1.01)), PruneError::Budget { .. }));
    assert!(matches!(with(Budget::Macs(1.0)), PruneError::Nothing { .. }));
    assert!(matches!(with(Budget::Latency(f64::NAN)), PruneError::Latency { .. }));
    assert!(matches!(with(Budget::Latency(1e9)), PruneError::Nothing { .. }));
    let error = with(Budget::Macs(0.05)).to_string();
    assert!(error.contains("0.050 of") && error.contains("it is 0."), "{error}");
    assert!(matches!(prune(&file, "", &[], &default, &|_| ()), Err(PruneError::NoPictures)));

    let folder = tempfile::tempdir().unwrap();
    let red = folder.path().join("red.png");
    image::RgbImage::from_pixel(32, 32, image::Rgb([200, 30, 30])).save(&red).unwrap();
    let plain = prune(&file, "", &[red.clone(), red], &default, &|_| ());
    assert!(matches!(plain, Err(PruneError::Plain { pictures: 2 })));
    let pictures = tiny::write_pictures(folder.path(), 4);
    let int8 = quantize(&file, "", &pictures, &QuantizeOptions::default(), &|_| ()).unwrap().file;
    let error = run(&int8, &default).unwrap_err().to_string();
    assert!(error.contains("quantized already"), "{error}");

    let mut nan = file.clone();
    let weights = nan.graph_mut().initializer.iter_mut().find(|t| t.name == "w4").unwrap();
    let (dims, _) = kinglet_engine::tensor::shape(weights).unwrap();
    let mut values = kinglet_engine::tensor::to_f32(weights).unwrap();
    values[3] = f32::NAN;
    *weights = kinglet_engine::tensor::from_f32("w4", &dims, &values);
    for criterion in CRITERIA {
        let error = run(&nan, &options(0.8, criterion)).unwrap_err();
        assert!(matches!(&error, PruneError::NotFinite { value } if value == "w4"), "{error}");
    }

    let mut net = tiny::Net::new(1);
    let x = net.conv("input", [3, 16], 3, 2, false);
    let x = net.relu6(&x);
    let plain = net.classify(&x, 16);
    assert!(matches!(run(&plain, &default), Err(PruneError::NoBlock)));

    let broken: Vec<_> = (0..20).map(|i| folder.path().join(format!("no{i}.png"))).collect();
    let options = options(0.8, Criterion::Reconstruction);
    let error = prune(&file, "", &broken, &options, &|_| ()).unwrap_err();
    assert!(matches!(error, PruneError::Unreadable { skipped: 18, pictures: 18, .. }), "{error}");
}
