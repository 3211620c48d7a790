//! What a model makes of pictures as it was given them, to be compared with what it makes of others:
//! the reference in the metadata (`kinglet.drift`), and the statistics over a window of pictures.
//!
//! Four things are compared: how sure the model is and which classes it sees (population stability
//! index), what pictures look like (light, colour, contrast and sharpness of the input tensor), and what
//! they are to the model (random projections of the features that its last layer reads); means of
//! the latter two by Hotelling's two-sample statistic. Networks are made not to mind light, so that
//! their features alone would miss it. The host draws windows from its reference and stores, for each
//! size of window, what no more than one in some thousand windows exceeds.
//! Pure: no clock, no files. Start at [`Reference`] and [`Window`].

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::preprocess::InputTensor;

/// Key of the reference.
pub const DRIFT_KEY: &str = "kinglet.drift";
/// Projections of the features.
pub const PROJECTIONS: usize = 16;
/// Numbers that say what a picture looks like.
pub const LOOKS: usize = 6;
/// The sizes of windows that there are thresholds for.
pub const WINDOWS: [u32; 5] = [64, 128, 256, 512, 1024];
/// The fewest pictures that make a reference.
pub const LEAST_PICTURES: usize = 100;

/// The longest text of a reference that is read, bytes.
const LONGEST: usize = 1 << 20;
/// The most bins of anything.
const MOST_BINS: usize = 64;
/// The most classes that a reference names.
const MOST_CLASSES: usize = 1 << 16;

/// What a model made of the pictures of its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// How many pictures there were.
    pub pictures: u32,
    /// How sure it was.
    pub confidence: Bins,
    /// Below this score, 0..=1, it was less sure than of 95 % of the pictures.
    pub unsure: f32,
    /// Which classes it saw; absent where that says nothing about what it will see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// What the pictures looked like: [`LOOKS`] numbers.
    pub looks: Means,
    /// The features' [`PROJECTIONS`]; absent where the model's features are not at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Means>,
    /// One for each size of window.
    pub thresholds: Vec<Threshold>,
}

/// Counts of a number in bins: below the first edge, between edges, from the last edge on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bins {
    /// Ascending, 0..=1.
    pub edges: Vec<f32>,
    /// One more than edges.
    pub counts: Vec<u32>,
}

/// Shares of classes: some have a bin of their own, the others that were seen share one, and those
/// that were not seen have one too, whose share is estimated (Good and Turing: as many as there were
/// classes that were seen once).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classes {
    /// Classes with a bin of their own.
    pub own: Vec<u32>,
    /// The others that were seen, ascending.
    pub seen: Vec<u32>,
    /// Of `own` in their order, of `seen`, and of what was not seen; together 1.
    pub shares: Vec<f32>,
}

/// The distribution of a few numbers, as far as means go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Means {
    /// Mean of each.
    pub mean: Vec<f32>,
    /// What makes their covariance the unit matrix: a row for each.
    pub whiten: Vec<f32>,
}

/// What a window's statistics exceed by chance only very rarely.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Pictures in the window.
    pub window: u32,
    /// Of the stability index of confidence.
    pub confidence: f64,
    /// Of that of classes; without meaning where they are not compared.
    pub classes: f64,
    /// Of Hotelling's statistic of looks.
    pub looks: f64,
    /// Of that of features; without meaning where they are not compared.
    pub features: f64,
}

/// What the model made of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The best class's probability.
    pub confidence: f32,
    /// The best class.
    pub class: u32,
    /// What it looks like.
    pub looks: [f32; LOOKS],
    /// The features' projections, if they are at hand.
    pub projections: Option<[f32; PROJECTIONS]>,
}

/// Sums over a window of pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    /// Pictures so far.
    pub pictures: u32,
    confidence: Vec<u32>,
    classes: Vec<u32>,
    looks: [f64; LOOKS],
    projected: u32,
    projections: [f64; PROJECTIONS],
}

/// How far a window is from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distances {
    /// Stability index of confidence.
    pub confidence: f64,
    /// Mean confidence is below that of the reference, by the middles of the bins.
    pub fell: bool,
    /// Stability index of classes, if they are compared.
    pub classes: Option<f64>,
    /// Hotelling's statistic of looks.
    pub looks: f64,
    /// That of features, if they are compared.
    pub features: Option<f64>,
}

/// The projections of features: their mean, and sums with random signs that are the same everywhere.
#[must_use]
pub fn project(features: &[f32]) -> [f32; PROJECTIONS] {
    let mut sums = [0.0_f32; PROJECTIONS];
    for (place, &feature) in features.iter().enumerate() {
        let bits = mix(place as u64);
        for (number, sum) in sums.iter_mut().enumerate() {
            // The first has one sign for all.
            let minus = number > 0 && bits >> number & 1 == 1;
            *sum += if minus { -feature } else { feature };
        }
    }
    let scale = 1.0 / (features.len().max(1) as f32).sqrt();
    sums.map(|sum| sum * scale)
}

/// What a picture looks like, from the model's input: the means of its channels, and for the second
/// one (green) the logarithms of its deviation, of the mean step between neighbours, and of that
/// between the neighbours' neighbours. In units of the tensor; `None` if it is not of this size.
#[must_use]
pub fn looks(input: &InputTensor, [height, width]: [usize; 2]) -> Option<[f32; LOOKS]> {
    let pixels = height.checked_mul(width).filter(|n| *n > 0)?;
    match input {
        InputTensor::U8(codes) if codes.len() == 3 * pixels => {
            Some(look(|channel, at| f32::from(codes[3 * at + channel]), height, width))
        }
        InputTensor::F32(values) if values.len() == 3 * pixels => {
            Some(look(|channel, at| values[channel * pixels + at], height, width))
        }
        _ => None,
    }
}

fn look(value: impl Fn(usize, usize) -> f32, height: usize, width: usize) -> [f32; LOOKS] {
    let pixels = height * width;
    let mean = |channel: usize| {
        (0..pixels).map(|at| f64::from(value(channel, at))).sum::<f64>() / pixels as f64
    };
    let means = [mean(0), mean(1), mean(2)];
    let square = |at: usize| (f64::from(value(1, at)) - means[1]).powi(2);
    let deviation = ((0..pixels).map(square).sum::<f64>() / pixels as f64).sqrt();
    let step = |distance: usize| {
        let (mut sum, mut count) = (0.0, 0_u32);
        for y in 0..height.saturating_sub(distance) {
            for x in 0..width.saturating_sub(distance) {
                let here = value(1, y * width + x);
                let right = value(1, y * width + x + distance);
                let below = value(1, (y + distance) * width + x);
                sum += f64::from((here - right).abs() + (here - below).abs());
                count += 1;
            }
        }
        sum / f64::from(count.max(1))
    };
    // A flat picture is no infinity.
    let log = |value: f64| (value + 1e-3).ln();
    let [first, second, third] = means;
    [first, second, third, log(deviation), log(step(1)), log(step(2))].map(|v| v as f32)
}

/// Bits that have nothing to do with those of the next number. Source: the finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The population stability index of counts against expected shares, which come from `pictures`
/// pictures: `sum((w - r) * ln(w / r))`, half a picture added to each bin on either side so that
/// empty ones are no infinity.
#[must_use]
pub fn stability(counts: &[u32], shares: &[f64], pictures: f64) -> f64 {
    let bins = counts.len().max(1) as f64;
    let total: f64 = counts.iter().map(|&n| f64::from(n)).sum();
    let share = |count: f64, total: f64| (count + 0.5) / (total + 0.5 * bins);
    let pairs = counts.iter().zip(shares);
    pairs
        .map(|(&count, &expected)| {
            let (w, r) = (share(f64::from(count), total), share(expected * pictures, pictures));
            (w - r) * (w / r).ln()
        })
        .sum()
}

impl Bins {
    /// The bin of a value.
    #[must_use]
    pub fn of(&self, value: f32) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    /// The share of each bin.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let total: f64 = self.counts.iter().map(|&n| f64::from(n)).sum();
        self.counts.iter().map(|&n| f64::from(n) / total.max(1.0)).collect()
    }

    /// The mean of counts, each taken for the middle of its bin.
    fn mean(&self, counts: &[u32]) -> f64 {
        let edge = |at: usize| self.edges.get(at).map_or(1.0, |e| f64::from(*e));
        let middle = |at: usize| match at.checked_sub(1) {
            Some(before) => (edge(before) + edge(at)) / 2.0,
            None => edge(0) / 2.0,
        };
        let total: f64 = counts.iter().map(|&n| f64::from(n)).sum();
        let sum: f64 = counts.iter().enumerate().map(|(at, &n)| middle(at) * f64::from(n)).sum();
        sum / total.max(1.0)
    }
}

impl Classes {
    /// The bin of a class.
    #[must_use]
    pub fn of(&self, class: u32) -> usize {
        match self.own.iter().position(|own| *own == class) {
            Some(place) => place,
            None if self.seen.binary_search(&class).is_ok() => self.own.len(),
            None => self.own.len() + 1,
        }
    }
}

impl Means {
    /// Hotelling's statistic of a mean over `pictures` pictures: `n * |whiten * (mean - own)|^2`.
    #[must_use]
    pub fn distance(&self, mean: &[f64], pictures: f64) -> f64 {
        let own = self.mean.iter().map(|own| f64::from(*own));
        let off: Vec<f64> = mean.iter().zip(own).map(|(mean, own)| mean - own).collect();
        let row = |row: &[f32]| -> f64 {
            row.iter().zip(&off).map(|(w, o)| f64::from(*w) * o).sum::<f64>().powi(2)
        };
        pictures * self.whiten.chunks_exact(self.mean.len().max(1)).map(row).sum::<f64>()
    }

    fn is_sound(&self, numbers: usize) -> bool {
        (self.mean.len(), self.whiten.len()) == (numbers, numbers * numbers)
            && self.mean.iter().chain(&self.whiten).all(|value| value.is_finite())
    }
}

impl Window {
    /// An empty window for this reference.
    #[must_use]
    pub fn new(reference: &Reference) -> Self {
        Self {
            confidence: vec![0; reference.confidence.counts.len()],
            classes: vec![0; reference.classes.as_ref().map_or(0, |c| c.shares.len())],
            ..Self::default()
        }
    }

    /// Adds a picture.
    pub fn add(&mut self, reference: &Reference, sample: &Sample) {
        self.pictures += 1;
        if let Some(count) = self.confidence.get_mut(reference.confidence.of(sample.confidence)) {
            *count += 1;
        }
        let bin = reference.classes.as_ref().map(|classes| classes.of(sample.class));
        if let Some(count) = bin.and_then(|bin| self.classes.get_mut(bin)) {
            *count += 1;
        }
        let add = |sums: &mut [f64], values: &[f32]| {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
        };
        add(&mut self.looks, &sample.looks);
        if let Some(projections) = &sample.projections {
            self.projected += 1;
            add(&mut self.projections, projections);
        }
    }

    /// How far it is from the reference.
    #[must_use]
    pub fn distances(&self, reference: &Reference) -> Distances {
        let n = f64::from(reference.pictures);
        let bins = &reference.confidence;
        let classes = reference.classes.as_ref().map(|classes| {
            let shares: Vec<f64> = classes.shares.iter().map(|&s| f64::from(s)).collect();
            stability(&self.classes, &shares, n)
        });
        let count = f64::from(self.pictures.max(1));
        let whole = self.projected == self.pictures;
        let features = reference.features.as_ref().filter(|_| whole);
        let projections = self.projections.map(|sum| sum / count);
        Distances {
            confidence: stability(&self.confidence, &bins.shares(), n),
            fell: bins.mean(&self.confidence) < bins.mean(&bins.counts),
            classes,
            looks: reference.looks.distance(&self.looks.map(|sum| sum / count), count),
            features: features.map(|features| features.distance(&projections, count)),
        }
    }
}

impl Reference {
    /// Reads a reference and checks all that its fields' documentation states.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let bad = |why: String| ModelError::Metadata { key: DRIFT_KEY, why };
        if text.len() > LONGEST {
            return Err(bad(format!("{} bytes, over {LONGEST}", text.len())));
        }
        let reference: Self = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        reference.check().map_err(|why| bad(why.to_owned()))?;
        Ok(reference)
    }

    fn check(&self) -> Result<(), &'static str> {
        let share = |value: &f32| (0.0..=1.0).contains(value);
        let ascending = |values: &[u32]| values.windows(2).all(|pair| pair[0] < pair[1]);
        let Bins { edges, counts } = &self.confidence;
        if self.pictures == 0 || !share(&self.unsure) {
            return Err("no pictures, or 'unsure' is no share");
        }
        let rising = edges.windows(2).all(|pair| pair[0] < pair[1]);
        if counts.len() > MOST_BINS || counts.len() != edges.len() + 1 || !rising {
            return Err("the bins of 'confidence'");
        }
        let total = counts.iter().map(|&n| u64::from(n)).sum::<u64>();
        if !edges.iter().all(share) || total != u64::from(self.pictures) {
            return Err("the counts of 'confidence'");
        }
        if let Some(Classes { own, seen, shares }) = &self.classes {
            let sum: f32 = shares.iter().sum();
            let fits = shares.len() == own.len() + 2 && shares.len() <= MOST_BINS;
            if !fits || !shares.iter().all(share) || (sum - 1.0).abs() > 1e-3 {
                return Err("the shares of 'classes'");
            }
            if seen.len() > MOST_CLASSES || !ascending(seen) {
                return Err("the list of 'classes'");
            }
        }
        let features = self.features.as_ref();
        if !self.looks.is_sound(LOOKS) || features.is_some_and(|f| !f.is_sound(PROJECTIONS)) {
            return Err("the numbers of 'looks' or 'features'");
        }
        let sound = |t: &Threshold| {
            let limits = [t.confidence, t.classes, t.looks, t.features];
            t.window > 0 && limits.iter().all(|v| v.is_finite() && *v >= 0.0)
        };
        if self.thresholds.len() > MOST_BINS || !self.thresholds.iter().all(sound) {
            return Err("the 'thresholds'");
        }
        Ok(())
    }

    /// The thresholds for a window of this size, if there are any.
    #[must_use]
    pub fn threshold(&self, window: u32) -> Option<Threshold> {
        self.thresholds.iter().find(|t| t.window == window).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(numbers: usize) -> Means {
        let mut whiten = vec![0.0; numbers * numbers];
        (0..numbers).for_each(|at| whiten[at * (numbers + 1)] = 2.0);
        Means { mean: vec![0.0; numbers], whiten }
    }

    fn reference() -> Reference {
        Reference {
            pictures: 100,
            confidence: Bins { edges: vec![0.5, 0.9], counts: vec![20, 30, 50] },
            unsure: 0.3,
            classes: Some(Classes { own: vec![7], seen: vec![2, 9], shares: vec![0.5, 0.3, 0.2] }),
            looks: means(LOOKS),
            features: Some(means(PROJECTIONS)),
            thresholds: vec![Threshold {
                window: 64,
                confidence: 0.3,
                classes: 0.4,
                looks: 50.0,
                features: 60.0,
            }],
        }
    }

    fn window(samples: impl Iterator<Item = (f32, u32, f32)>) -> Distances {
        let reference = reference();
        let mut window = Window::new(&reference);
        for (confidence, class, value) in samples {
            let projections = Some([value; PROJECTIONS]);
            let looks = [value; LOOKS];
            window.add(&reference, &Sample { confidence, class, looks, projections });
        }
        window.distances(&reference)
    }

    #[test]
    fn a_window_like_the_reference_is_near_and_others_are_not() {
        let same = (0..100).map(|n| {
            let confidence = [0.4, 0.7, 0.95][usize::from(n >= 20) + usize::from(n >= 50)];
            let class = [7, 2, 500][usize::from(n % 10 >= 5) + usize::from(n % 10 >= 8)];
            (confidence, class, if n % 2 == 0 { 0.5 } else { -0.5 })
        });
        let near = window(same);
        assert!(near.confidence < 1e-9 && near.classes.unwrap() < 1e-4, "{near:?}");
        assert!(near.features.unwrap() < 1e-9);
        let far = window((0..100).map(|_| (0.2, 500, 0.1)));
        assert!(far.confidence > 1.0 && far.fell && far.classes.unwrap() > 1.0, "{far:?}");
        // 100 * 16 * (2 * 0.1)^2
        assert!((far.features.unwrap() - 64.0).abs() < 1e-4, "{far:?}");
        assert!((far.looks - 24.0).abs() < 1e-4, "{far:?}");
        assert!(!window((0..100).map(|_| (0.99, 7, 0.0))).fell);
    }

    #[test]
    fn projections_keep_lengths_on_average_and_are_linear() {
        let features: Vec<f32> = (0..1280).map(|n| ((n * 37) % 101) as f32 / 101.0).collect();
        let [mean, others @ ..] = project(&features);
        let sum: f32 = features.iter().sum();
        assert!((mean - sum / 1280_f32.sqrt()).abs() < 1e-3);
        let energy: f32 = features.iter().map(|v| v * v).sum::<f32>() / 1280.0;
        let spread = others.iter().map(|v| v * v).sum::<f32>() / others.len() as f32;
        assert!((0.3..3.0).contains(&(spread / energy)), "{spread} {energy}");
        let doubled: Vec<f32> = features.iter().map(|v| 2.0 * v).collect();
        assert!(project(&doubled).iter().zip(&others).all(|(d, _)| d.is_finite()));
        assert_eq!(project(&[]), [0.0; PROJECTIONS]);
    }

    #[test]
    fn looks_are_those_of_the_tensor_however_it_lies() {
        let (height, width) = (12, 16);
        let code = |channel: usize, at: usize| ((at * (channel + 3) * 7) % 251) as u8;
        let pixels = height * width;
        let packed = (0..pixels).flat_map(|at| (0..3).map(move |channel| code(channel, at)));
        let planes =
            (0..3).flat_map(|channel| (0..pixels).map(move |at| f32::from(code(channel, at))));
        let packed = looks(&InputTensor::U8(packed.collect()), [height, width]).unwrap();
        assert_eq!(looks(&InputTensor::F32(planes.collect()), [height, width]), Some(packed));
        // A checkerboard: steps of 200 to the neighbours, none to theirs.
        let board = |at: usize| if (at / width + at % width).is_multiple_of(2) { 200 } else { 0 };
        let board = (0..3 * pixels).map(|at| board(at / 3)).collect();
        let board = looks(&InputTensor::U8(board), [height, width]).unwrap();
        assert_eq!((board[0], board[1]), (100.0, 100.0));
        assert!((board[4] - 400_f32.ln()).abs() < 1e-3 && board[5] < -6.0, "{board:?}");
        assert_eq!(looks(&InputTensor::U8(vec![0; 5]), [height, width]), None);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_wrong_is_refused() {
        let good = reference();
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(Reference::parse(&text).unwrap(), good);
        assert_eq!(good.threshold(64).unwrap().features, 60.0);
        assert!(good.threshold(65).is_none());
        let spoil: [fn(&mut Reference); 10] = [
            |r| r.pictures = 0,
            |r| r.confidence.counts.push(1),
            |r| r.confidence.edges.reverse(),
            |r| r.confidence.counts[0] = u32::MAX,
            |r| r.classes.as_mut().unwrap().seen = vec![9, 2],
            |r| r.classes.as_mut().unwrap().shares[0] = 0.9,
            |r| r.features.as_mut().unwrap().mean.clear(),
            |r| r.features.as_mut().unwrap().whiten[3] = f32::INFINITY,
            |r| r.looks.mean.push(0.0),
            |r| r.thresholds[0].features = -1.0,
        ];
        for spoil in spoil {
            let mut bad = reference();
            spoil(&mut bad);
            let text = serde_json::to_string(&bad).unwrap();
            assert!(Reference::parse(&text).is_err(), "{text}");
        }
        assert!(Reference::parse(&" ".repeat(2 << 20)).is_err());
        assert!(Reference::parse("{}").is_err());
    }
}
