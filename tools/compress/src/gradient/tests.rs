//! Gradients against differences of the engine's own outputs.

use std::collections::HashMap;

use kinglet_engine::preprocess::InputTensor;
use kinglet_engine::{Options, Session};

use super::Backward;
use crate::arch::Arch;
use crate::import::{ImportOptions, import_random};
use crate::inspect::shapes;
use crate::watch::{self, Place};

/// Moves the bias of a layer, which moves all pixels of a channel, and compares what the logits
/// do with the sum of the gradient over that channel.
#[test]
fn gradients_are_the_slopes_of_the_outputs() {
    for (name, layer, values) in [
        ("efficientnet-lite0", "blocks.1.expand", ["blocks.1.expand.out", "blocks.4.project.out"]),
        ("efficientnet-b0", "blocks.3.expand", ["blocks.3.expand.out", "blocks.3.depthwise.out"]),
        ("efficientnetv2-b0", "blocks.1.expand", ["blocks.1.expand.out", "blocks.2.project.out"]),
    ] {
        let options =
            ImportOptions { classes: Some(7), resolution: Some(48), ..Default::default() };
        let file = import_random(Arch::find(name).unwrap(), 3, &options).unwrap();
        let backward = Backward::new(file.graph(), &shapes::infer(&file), &values).unwrap();
        let needed = backward.needed();
        let (watched, places) = watch::watched(&file.proto, needed.iter().copied()).unwrap();
        let mut session = Session::new(watched, &Options::default()).unwrap();
        let input = session.sample_input();
        let outputs = session.run_all(&input).unwrap();
        let place = |place: &Place| match place {
            Place::Output(at) => outputs[*at].1.as_slice(),
            Place::Input => unreachable!(),
        };
        let forward = needed.iter().copied().zip(places.iter().map(place)).collect();
        let start: Vec<f32> = (0..7).map(|i| [0.7, -1.0, 0.4][i % 3]).collect();
        let gradients = backward.run(&forward, start.clone());
        assert_eq!(gradients.len(), 2, "{name}");
        let gradient = &gradients[values[0]];
        let bias = format!("{layer}.bias");
        let score = |channel: usize, by: f32, input: &InputTensor| -> f64 {
            let mut moved = file.clone();
            let tensors = &mut moved.graph_mut().initializer;
            let tensor = tensors.iter_mut().find(|t| t.name == bias).unwrap();
            let mut values = kinglet_engine::tensor::to_f32(tensor).unwrap();
            values[channel] += by;
            *tensor = kinglet_engine::tensor::from_f32(&bias, &[values.len()], &values);
            let outputs = Session::new(moved, &Options::default()).unwrap().run(input).unwrap();
            outputs.iter().zip(&start).map(|(&o, &s)| f64::from(o) * f64::from(s)).sum()
        };
        let channels = shapes::infer(&file).shape(values[0]).unwrap()[1];
        let pixels = gradient.len() / channels;
        let mut worst: HashMap<&str, f64> = HashMap::new();
        let sums: Vec<f64> =
            gradient.chunks_exact(pixels).map(|p| p.iter().map(|&g| f64::from(g)).sum()).collect();
        let largest = sums.iter().fold(0.0_f64, |m, s| m.max(s.abs()));
        assert!(largest > 1e-3, "{name}: {largest}");
        for channel in [0, 5, channels - 1] {
            let step = 1e-2;
            let slope = (score(channel, step, &input) - score(channel, -step, &input))
                / (2.0 * f64::from(step));
            let error = (slope - sums[channel]).abs() / largest;
            worst.entry(name).and_modify(|w| *w = w.max(error)).or_insert(error);
        }
        assert!(worst[name] < 0.02, "{worst:?}");
    }
}
