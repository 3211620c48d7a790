//! Whole trainings of a tiny student on made-up pictures.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use common::{Log, TINY, config, distillation, lite0, pictures};
use kinglet_compress::arch::Padding;
use kinglet_distill::student::{Mode, Student, flat, values};
use kinglet_distill::{Config, DistillError, Distillation, Outcome, Spec, data, export, init};
use kinglet_engine::onnx::NodeProto;
use kinglet_engine::preprocess::InputTensor;
use kinglet_engine::{OnnxFile, Options, Picture, Session};

fn finished(distillation: &Distillation, log: &Log) -> OnnxFile {
    match distillation.run(log).unwrap() {
        Outcome::Finished(file) => *file,
        Outcome::Stopped { step } => panic!("stopped after {step}"),
    }
}

#[test]
fn labels_are_learned_and_the_model_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"), &["blue", "red"], 8);
    let log = Log::default();
    let file = finished(&distillation(folder.path(), Config { mixup: 0.0, ..config(60) }), &log);
    let losses = log.losses.into_inner().unwrap();
    assert!(
        losses[50..].iter().sum::<f32>() < 0.5 * losses[..10].iter().sum::<f32>(),
        "{losses:?}"
    );
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.labels.unwrap(), ["blue", "red"]);
    assert!(metadata.golden.is_some());
    let steps = metadata.provenance.unwrap().steps.join("\n");
    assert!(steps.contains("16 labelled") && steps.contains("\"seed\":0"), "{steps}");
    let mut session = Session::new(file, &Options::default()).unwrap();
    for (name, class) in [("blue/00.png", 0), ("red/00.png", 1)] {
        let picture = Picture::read(&folder.path().join("pictures").join(name)).unwrap();
        assert_eq!(session.classify(&picture).unwrap().top(1)[0].index as usize, class, "{name}");
    }
}

#[test]
fn a_continued_training_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"), &["blue", "red"], 5);
    let teacher = folder.path().join("teacher.onnx");
    std::fs::write(&teacher, lite0(7, None).to_bytes()).unwrap();
    // It is stopped in each of the two phases.
    let config = Config { quantized: 0.5, ..config(12) };
    let plain = Distillation { teachers: vec![teacher], ..distillation(folder.path(), config) };
    let whole = finished(&plain, &Log::default()).to_bytes();
    let checkpoint = folder.path().join("checkpoint");
    let kept = Distillation { checkpoint: Some(checkpoint.clone()), ..plain.clone() };
    for stop in [4, 9] {
        let log = Log { stop: Some(stop), ..Log::default() };
        assert!(matches!(kept.run(&log).unwrap(), Outcome::Stopped { step } if step == stop));
    }
    let log = Log::default();
    let continued = finished(&kept, &log).to_bytes();
    assert_eq!(log.losses.into_inner().unwrap().len(), 3);
    assert!(continued == whole, "the continued training ends elsewhere");
    // One of other settings is refused; a damaged one too.
    let mut other = kept.clone();
    other.config.seed = 9;
    let error = other.run(&Log::default()).unwrap_err().to_string();
    assert!(error.contains("other settings") && error.contains("--restart"), "{error}");
    std::fs::write(&checkpoint, b"nonsense").unwrap();
    let error = kept.run(&Log::default()).unwrap_err();
    assert!(matches!(error, DistillError::Checkpoint { .. }), "{error}");
}

/// Writes models beside each other; gives their paths.
fn written(folder: &Path, models: Vec<OnnxFile>) -> Vec<PathBuf> {
    let write = |(at, model): (usize, OnnxFile)| {
        let path = folder.join(format!("{at}.onnx"));
        std::fs::write(&path, model.to_bytes()).unwrap();
        path
    };
    models.into_iter().enumerate().map(write).collect()
}

fn labels(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|&n| n.into()).collect())
}

#[test]
fn teachers_speak_of_their_own_classes_and_show_their_features() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"), &["blue", "red"], 5);
    pictures(&folder.path().join("more"), &["x"], 4);
    let own = lite0(3, labels(&["Red", "other", "blue"]));
    let models = vec![own, lite0(5, None), lite0(2, None)];
    let mut plan = distillation(folder.path(), config(2));
    plan.teachers = written(folder.path(), models);
    plan.folders.unlabelled = Some(folder.path().join("more"));
    let log = Log::default();
    finished(&plan, &log);
    let notes = log.notes.into_inner().unwrap();
    let agrees = |note: &str| note.contains("agrees with the labels of ");
    assert!(agrees(&notes[0]) && notes[0].contains("of 10 other views"), "{notes:?}");
    assert!(notes[1].contains("its features alone"), "{notes:?}");
    assert!(agrees(&notes[2]), "{notes:?}");
}

#[test]
fn pictures_without_labels_are_taught_by_a_teacher_alone() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("made"), &["blue", "red"], 8);
    let mut plan = distillation(folder.path(), Config { mixup: 0.0, ..config(60) });
    // A student of labels teaches a student without.
    plan.folders.pictures = folder.path().join("made");
    plan.teachers = written(folder.path(), vec![finished(&plan, &Log::default())]);
    plan.folders.pictures = folder.path().join("pictures");
    std::fs::create_dir(&plan.folders.pictures).unwrap();
    for class in ["blue", "red"] {
        for number in 0..8 {
            let from = folder.path().join(format!("made/{class}/{number:02}.png"));
            let to = plan.folders.pictures.join(format!("{class}{number}.png"));
            std::fs::copy(from, to).unwrap();
        }
    }
    let taught = finished(&plan, &Log::default());
    assert_eq!(taught.metadata().unwrap().labels, labels(&["blue", "red"]));
    let mut session = Session::new(taught, &Options::default()).unwrap();
    for (name, class) in [("blue0.png", 0), ("red5.png", 1)] {
        let picture = Picture::read(&plan.folders.pictures.join(name)).unwrap();
        assert_eq!(session.classify(&picture).unwrap().top(1)[0].index as usize, class, "{name}");
    }
    plan.teachers.clear();
    let error = plan.run(&Log::default()).unwrap_err().to_string();
    assert!(error.contains("is not labelled"), "{error}");
}

#[test]
fn a_teacher_of_other_classes_without_features_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"), &["blue", "red"], 2);
    let mut other = lite0(5, None);
    // Behind a sigmoid no linear layer is the last.
    let graph = other.graph_mut();
    let output = graph.output[0].name.clone();
    graph.node.push(NodeProto {
        op_type: "Sigmoid".into(),
        input: vec![output],
        output: vec!["scores".into()],
        ..Default::default()
    });
    graph.output[0].name = "scores".into();
    let mut metadata = other.metadata().unwrap();
    metadata.golden = None;
    metadata.write(&mut other.proto);
    let mut plan = distillation(folder.path(), config(2));
    plan.teachers = written(folder.path(), vec![other]);
    let error = plan.run(&Log::default()).unwrap_err().to_string();
    assert!(error.contains("0.onnx") && error.contains("`kinglet-tools retrain`"), "{error}");
}

#[test]
fn folders_without_two_classes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || distillation(folder.path(), config(2)).run(&Log::default()).unwrap_err();
    let labelled = folder.path().join("pictures");
    std::fs::create_dir(&labelled).unwrap();
    assert!(refused().to_string().contains("is not labelled"), "{}", refused());
    pictures(&labelled, &["blue"], 2);
    assert!(matches!(refused(), DistillError::Classes { .. }), "{}", refused());
    std::fs::create_dir(labelled.join("red")).unwrap();
    assert!(matches!(refused(), DistillError::EmptyClass { .. }), "{}", refused());
    std::fs::write(labelled.join("red/broken.png"), b"no picture").unwrap();
    assert!(refused().to_string().contains("'red'"), "{}", refused());
}

/// Random parameters and statistics that no batch norm would leave as they are.
fn random_student(classes: usize) -> (Student, Vec<Tensor<1>>, Vec<Tensor<2>>, Device) {
    let spec: Spec = TINY.parse().unwrap();
    let student = Student::new(spec.network(classes), Padding::Same);
    let device = Device::flex();
    let pictures = Tensor::zeros([1, 32, 32, 3], &device.clone().autodiff());
    let parameters = init::parameters(&student, None, false, pictures, 4, &device);
    let mut random = kinglet_compress::splitmix::SplitMix64::new(8);
    let statistics = student.convs.iter().filter(|c| c.norm).map(|conv| {
        let mean = (0..conv.output).map(|_| random.centred(0.3));
        let mean: Vec<f32> = mean.collect();
        let variance = (0..conv.output).map(|_| 0.2 + random.unit() as f32);
        let values: Vec<f32> = mean.into_iter().chain(variance).collect();
        Tensor::from_data(TensorData::new(values, [2, conv.output]), &device)
    });
    let statistics = statistics.collect();
    (student, parameters, statistics, device)
}

#[test]
fn training_graph_and_model_file_agree() {
    let (student, parameters, statistics, device) = random_student(3);
    let mut random = kinglet_compress::splitmix::SplitMix64::new(2);
    let picture: Vec<f32> =
        (0..32 * 32 * 3).map(|_| data::normal(random.below(256) as u8)).collect();
    let nhwc = Tensor::from_data(TensorData::new(picture.clone(), [1, 32, 32, 3]), &device);
    let tracked: Vec<_> = parameters.iter().map(|p| p.clone().autodiff()).collect();
    let output = student.forward(&tracked, nhwc.autodiff(), Mode::Fixed(&statistics));
    let trained = values(output.logits);
    let weights = export::folded(&student, &parameters, &statistics, false);
    let labels = ["a", "b", "c"].map(String::from);
    let spec = TINY.parse().unwrap();
    let file = export::model(&student, &spec, weights, &labels, Default::default()).unwrap();
    let mut session = Session::new(file, &Options::default()).unwrap();
    let nchw = (0..3).flat_map(|c| picture.iter().skip(c).step_by(3).copied()).collect();
    let run = session.run(&InputTensor::F32(nchw)).unwrap();
    let largest = trained.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
    for (a, b) in trained.iter().zip(&run) {
        assert!((a - b).abs() <= 1e-4 * largest, "{trained:?} {run:?}");
    }
}

#[test]
fn quantized_weights_lie_on_the_grid_of_int8() {
    let (student, parameters, statistics, _) = random_student(2);
    for (conv, folded) in export::folded(&student, &parameters, &statistics, true) {
        for row in folded.weight.chunks(conv.weights() / conv.output) {
            let step = row.iter().fold(0.0_f32, |m, w| m.max(w.abs())) / 127.0;
            let off = row.iter().map(|w| (w / step - (w / step).round()).abs());
            assert!(off.fold(0.0, f32::max) < 1e-3, "{}", conv.node_name());
        }
    }
}

#[test]
fn gradients_are_slopes() {
    let (student, parameters, _, device) = random_student(3);
    let mut random = kinglet_compress::splitmix::SplitMix64::new(6);
    let pictures: Vec<f32> = (0..16 * 32 * 32 * 3).map(|_| random.centred(1.0)).collect();
    let pictures = TensorData::new(pictures, [16, 32, 32, 3]);
    let pictures = Tensor::<4>::from_data(pictures, &device.clone().autodiff());
    let loss = |parameters: &[Tensor<1>]| {
        let output = student.forward(parameters, pictures.clone(), Mode::Batch);
        (output.logits * 100.0).slice([0..16, 0..1]).sum()
    };
    let leaves: Vec<_> = parameters.iter().map(|p| p.clone().autodiff().require_grad()).collect();
    let mut grads = loss(&leaves).backward();
    for name in ["stem.weight", "blocks.1.depthwise.weight", "blocks.2.project.scale", "head.shift"]
    {
        let at = student.slots().iter().position(|s| s.name == name).unwrap();
        let grad = values(leaves[at].grad_remove(&mut grads).unwrap());
        // Along the gradient itself the slope is its length.
        let length = grad.iter().map(|g| g * g).sum::<f32>().sqrt();
        let moved = |by: f32| -> f32 {
            let mut changed = leaves.clone();
            let old = values(parameters[at].clone());
            let new = old.iter().zip(&grad).map(|(p, g)| p + by * g / length).collect();
            changed[at] = flat(new, &device).autodiff();
            loss(&changed).into_scalar()
        };
        let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
        assert!((slope - length).abs() < 0.1 * length, "{name}: {slope} against {length}");
    }
}

#[test]
fn a_student_starts_from_a_larger_network() {
    let donor = init::Donor::new(&lite0(4, None)).unwrap();
    let device = Device::flex();
    let mut random = kinglet_compress::splitmix::SplitMix64::new(6);
    let pictures: Vec<f32> = (0..16 * 32 * 32 * 3).map(|_| random.centred(1.0)).collect();
    let pictures = TensorData::new(pictures, [16, 32, 32, 3]);
    let pictures = Tensor::<4>::from_data(pictures, &device.clone().autodiff());
    let logits = |student: &Student, parameters: &[Tensor<1>], mode: Mode<'_>| {
        let parameters: Vec<_> = parameters.iter().map(|p| p.clone().autodiff()).collect();
        values(student.forward(&parameters, pictures.clone(), mode).logits)
    };
    // One of the same shape computes the same, where batches are those that it was made from.
    let same = Student::new(donor.student.network.clone(), Padding::Same);
    let of = |student: &Student, same_classes| {
        init::parameters(student, Some(&donor), same_classes, pictures.clone(), 1, &device)
    };
    let file = lite0(4, None);
    let mut session = Session::new(file, &Options::default()).unwrap();
    let first = pictures.clone().slice([0..1, 0..32, 0..32, 0..3]).permute([0, 3, 1, 2]);
    let wanted = session.run(&InputTensor::F32(values(first))).unwrap();
    let found = logits(&same, &of(&same, true), Mode::Batch);
    let largest = wanted.iter().fold(0.1_f32, |m, v| m.max(v.abs()));
    for (a, b) in found.iter().zip(&wanted) {
        assert!((a - b).abs() < 2e-2 * largest, "{found:?} {wanted:?}");
    }
    // A smaller one holds the donor's numbers.
    let spec: Spec = "lite0,width=0.5,depth=0.5,size=32".parse().unwrap();
    let small = Student::new(spec.network(2), Padding::Same);
    let parameters = of(&small, false);
    let place = |student: &Student, name: &str| {
        student.slots().iter().position(|s| s.name == name).unwrap()
    };
    for name in
        ["stem.weight", "blocks.1.depthwise.weight", "blocks.9.expand.weight", "head.weight"]
    {
        let whole = match name {
            // Block 9 of the student is the only one of stage 6, which is block 15 of the donor.
            "blocks.9.expand.weight" => "blocks.15.expand.weight",
            // Stage 1 begins with block 1 in both.
            other => other,
        };
        let all = of(&same, true);
        let whole: std::collections::HashSet<u32> =
            values(all[place(&same, whole)].clone()).into_iter().map(f32::to_bits).collect();
        let part = values(parameters[place(&small, name)].clone());
        assert!(part.iter().all(|w| whole.contains(&w.to_bits())), "{name}");
    }
    assert!(logits(&small, &parameters, Mode::Batch).iter().all(|l| l.is_finite()));
    // A file of another kind is refused.
    let mut other = lite0(4, None);
    other.graph_mut().name = "resnet".into();
    let error = init::Donor::new(&other).unwrap_err().to_string();
    assert!(error.contains("'resnet'"), "{error}");
}
