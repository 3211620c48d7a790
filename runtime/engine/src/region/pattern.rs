//! Steps that one kernel may run, found by what they read: blocks of MobileNet and EfficientNet, the
//! head of a classifier, squeeze-and-excitation. Which of them there are kernels for, `fused` knows.

use std::collections::HashMap;

use super::float::FloatKind;
use super::step::{ConvShape, Region, StepKind};

/// A convolution and the table that alone reads it, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tabled {
    pub conv: usize,
    pub table: Option<usize>,
}

impl Tabled {
    fn last(self) -> usize {
        self.table.unwrap_or(self.conv)
    }

    fn steps(self) -> impl Iterator<Item = usize> {
        std::iter::once(self.conv).chain(self.table)
    }
}

/// A squeeze-and-excitation, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Squeeze {
    pub pool: usize,
    pub reduce: Tabled,
    pub excite: Tabled,
    pub product: usize,
}

impl Squeeze {
    fn steps(self) -> impl Iterator<Item = usize> {
        let inside = self.reduce.steps().chain(self.excite.steps());
        [self.pool, self.product].into_iter().chain(inside)
    }
}

/// Steps that may run as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// See [`kinglet_kernels::mbconv`]: an expansion or stem where there is one, the depthwise or
    /// dense convolution, what excites it, and the projection.
    Block {
        expand: Option<Tabled>,
        first: Tabled,
        squeeze: Option<Squeeze>,
        project: Option<usize>,
    },
    /// A pointwise convolution that is averaged.
    Head { conv: Tabled, pool: usize },
    /// A squeeze-and-excitation alone.
    Squeeze(Squeeze),
}

impl Pattern {
    /// All steps; the greatest is the one that writes the result.
    pub(super) fn steps(&self) -> Vec<usize> {
        match *self {
            Self::Block { expand, first, squeeze, project } => {
                let front = expand.into_iter().flat_map(Tabled::steps).chain(first.steps());
                front.chain(squeeze.into_iter().flat_map(Squeeze::steps)).chain(project).collect()
            }
            Self::Head { conv, pool } => conv.steps().chain([pool]).collect(),
            Self::Squeeze(squeeze) => squeeze.steps().collect(),
        }
    }

    /// Smaller patterns, for where the whole has no kernel; what they leave over runs alone.
    pub(super) fn parts(&self) -> Vec<Self> {
        let alone = |conv: Tabled| {
            let block = Self::Block { expand: None, first: conv, squeeze: None, project: None };
            conv.table.map(|_| block)
        };
        match *self {
            Self::Block { expand: Some(expand), first, squeeze, project } => {
                let rest = Self::Block { expand: None, first, squeeze, project };
                alone(expand).into_iter().chain([rest]).collect()
            }
            Self::Block { expand: None, first, squeeze: Some(squeeze), .. } => {
                alone(first).into_iter().chain([Self::Squeeze(squeeze)]).collect()
            }
            Self::Block { project: Some(_), first, .. } => alone(first).into_iter().collect(),
            Self::Head { conv, .. } => alone(conv).into_iter().collect(),
            Self::Block { .. } | Self::Squeeze(_) => Vec::new(),
        }
    }
}

/// All patterns of a region; none share a step.
pub(super) fn patterns(region: &Region) -> Vec<Pattern> {
    let graph = Graph::new(region);
    let mut taken = vec![false; region.steps.len()];
    let all = 0..region.steps.len();
    let blocks = all.clone().filter_map(|at| graph.block(at));
    let squeezes = all.filter_map(|at| graph.squeeze_of_pool(at)).map(Pattern::Squeeze);
    let mut candidates: Vec<Pattern> = blocks.chain(squeezes).collect();
    // The largest first, of equal ones the earliest.
    candidates.sort_by_key(|pattern| std::cmp::Reverse(pattern.steps().len()));
    candidates.retain(|pattern| {
        let steps = pattern.steps();
        let free = steps.iter().all(|&step| !taken[step]);
        steps.iter().filter(|_| free).for_each(|&step| taken[step] = true);
        free
    });
    candidates
}

/// Who reads what.
struct Graph<'a> {
    region: &'a Region,
    /// The steps that read each value, one for each time.
    readers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn new(region: &'a Region) -> Self {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, step) in region.steps.iter().enumerate() {
            step.inputs.iter().for_each(|input| readers.entry(input).or_default().push(at));
        }
        // What leaves the region is no step's alone.
        region.outputs.iter().for_each(|name| {
            readers.insert(name, Vec::new());
        });
        Self { region, readers }
    }

    /// The steps that read what a step writes; none where it leaves the region too.
    fn readers(&self, step: usize) -> &[usize] {
        self.readers.get(self.region.steps[step].output.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The step that alone reads what another writes.
    fn reader(&self, step: usize) -> Option<usize> {
        match *self.readers(step) {
            [reader] => Some(reader),
            _ => None,
        }
    }

    fn kind(&self, step: usize) -> &StepKind {
        &self.region.steps[step].kind
    }

    /// The shape of a convolution without residual.
    fn conv(&self, step: usize) -> Option<&ConvShape> {
        match self.kind(step) {
            StepKind::Conv { shape, residual: None, .. }
            | StepKind::Float(FloatKind::Conv { shape, residual: false, .. }) => Some(shape),
            _ => None,
        }
    }

    fn is_pool(&self, step: usize) -> bool {
        let kind = self.kind(step);
        matches!(
            kind,
            StepKind::GlobalAveragePool { .. }
                | StepKind::Float(FloatKind::GlobalAveragePool { .. })
        )
    }

    /// A pointwise convolution, perhaps with a residual, that reads `from` in the first place.
    fn pointwise(&self, step: usize, from: usize) -> bool {
        let reads = self.region.steps[step].inputs.first() == Some(&self.region.steps[from].output);
        match self.kind(step) {
            StepKind::Conv { shape, .. } | StepKind::Float(FloatKind::Conv { shape, .. }) => {
                reads && shape.groups == 1 && shape.is_pointwise()
            }
            _ => false,
        }
    }

    fn tabled(&self, conv: usize) -> Tabled {
        let table = self.reader(conv);
        let is_table = |&at: &usize| matches!(self.kind(at), StepKind::Lookup { flat: false, .. });
        Tabled { conv, table: table.filter(is_table) }
    }

    /// The pattern that starts with a convolution.
    fn block(&self, at: usize) -> Option<Pattern> {
        let shape = self.conv(at)?;
        let first = self.tabled(at);
        let next = self.reader(first.last());
        if shape.groups > 1 {
            return self.block_around(None, first);
        }
        if let Some(next) = next {
            if self.conv(next).is_some_and(|shape| shape.groups > 1) {
                let whole = self.block_around(Some(first), self.tabled(next));
                if let Some(Pattern::Block { project: Some(_), .. }) = whole {
                    return whole;
                }
            }
            let pointwise = shape.is_pointwise();
            if !pointwise && self.pointwise(next, first.last()) {
                let project = Some(next);
                return Some(Pattern::Block { expand: None, first, squeeze: None, project });
            }
            if pointwise && self.is_pool(next) {
                return Some(Pattern::Head { conv: first, pool: next });
            }
        }
        let alone = Pattern::Block { expand: None, first, squeeze: None, project: None };
        first.table.map(|_| alone)
    }

    /// The block around a depthwise convolution: its expansion, and what follows.
    fn block_around(&self, expand: Option<Tabled>, first: Tabled) -> Option<Pattern> {
        let squeeze = self.squeeze_of(first.last());
        let last = squeeze.map_or(first.last(), |squeeze| squeeze.product);
        let project = self.reader(last).filter(|&project| self.pointwise(project, last));
        let squeeze = squeeze.filter(|_| project.is_some());
        if project.is_none() && first.table.is_none() {
            return None;
        }
        Some(Pattern::Block { expand, first, squeeze, project })
    }

    /// The squeeze-and-excitation of what a step writes, if nothing else reads it.
    fn squeeze_of(&self, step: usize) -> Option<Squeeze> {
        let &[a, b] = self.readers(step) else { return None };
        let squeeze = self.squeeze_of_pool([a, b].into_iter().find(|&at| self.is_pool(at))?)?;
        [a, b].contains(&squeeze.product).then_some(squeeze)
    }

    /// The squeeze-and-excitation that starts with this pooling.
    fn squeeze_of_pool(&self, pool: usize) -> Option<Squeeze> {
        let (StepKind::GlobalAveragePool { flat: false, .. }
        | StepKind::Float(FloatKind::GlobalAveragePool { flat: false })) = self.kind(pool)
        else {
            return None;
        };
        let small = |from: usize| {
            let at = self.reader(from).filter(|&at| self.pointwise(at, from))?;
            self.conv(at).map(|_| self.tabled(at))
        };
        let reduce = small(pool)?;
        let excite = small(reduce.last())?;
        let product = self.reader(excite.last())?;
        let (image, gates) =
            (&self.region.steps[pool].inputs[0], &self.region.steps[excite.last()]);
        let inputs = &self.region.steps[product].inputs;
        let multiplies =
            matches!(self.kind(product), StepKind::Mul { .. } | StepKind::Float(FloatKind::Mul))
                && matches!(inputs.as_slice(), [a, b] if a == image && *b == gates.output);
        multiplies.then_some(Squeeze { pool, reduce, excite, product })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuse;
    use super::super::step::{Padding, Quantization, QuantizedOutput, Step, Weights};
    use super::*;

    const UNIT: Quantization = Quantization { scale: 0.5, zero_point: 3 };
    const OUTPUT: QuantizedOutput = QuantizedOutput { quantization: UNIT, min: 0, max: 255 };

    fn step(kind: StepKind, inputs: &[&str], output: &str) -> Step {
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        Step { name: output.to_owned(), kind, inputs, output: output.to_owned() }
    }

    fn conv(kernel: usize, groups: usize, from: &str, to: &str) -> Step {
        let shape = ConvShape {
            out_c: 8,
            group_c: 8 / groups,
            groups,
            kernel: [kernel; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::Explicit([kernel / 2; 4]),
        };
        let weights = Weights { codes: Default::default(), scale: vec![1.0; 8], bias: vec![0; 8] };
        let (input, output, residual) = (UNIT, OUTPUT, None);
        step(StepKind::Conv { shape, weights, input, output, residual }, &[from], to)
    }

    fn table(from: &str, to: &str) -> Step {
        let table = Box::new(std::array::from_fn(|code| 255 - code as u8));
        step(StepKind::Lookup { table, flat: false }, &[from], to)
    }

    fn region(steps: Vec<Step>, outputs: &[&str]) -> Region {
        let outputs = outputs.iter().map(|&output| output.to_owned()).collect();
        Region { half: false, steps, inputs: vec!["x".to_owned()], outputs }
    }

    fn mbconv() -> Vec<Step> {
        let pool = StepKind::GlobalAveragePool { input: UNIT, output: OUTPUT, flat: false };
        let product = StepKind::Mul { inputs: [UNIT; 2], output: OUTPUT };
        vec![
            conv(1, 1, "x", "expand"),
            table("expand", "expand.swish"),
            conv(3, 8, "expand.swish", "depthwise"),
            table("depthwise", "swish"),
            step(pool, &["swish"], "pool"),
            conv(1, 1, "pool", "reduce"),
            table("reduce", "reduce.swish"),
            conv(1, 1, "reduce.swish", "excite"),
            table("excite", "gate"),
            step(product, &["swish", "gate"], "scale"),
            conv(1, 1, "scale", "project"),
        ]
    }

    #[test]
    fn a_block_is_one_pattern_and_its_parts_have_all_it_can_lose() {
        let found = patterns(&region(mbconv(), &["project"]));
        let [whole] = found[..] else { panic!("{found:?}") };
        let mut steps = whole.steps();
        steps.sort_unstable();
        assert_eq!(steps, (0..11).collect::<Vec<_>>());
        // Without the pair the expansion has its table, and the rest stays together.
        let parts: Vec<usize> = whole.parts().iter().map(|part| part.steps().len()).collect();
        assert_eq!(parts, [2, 9]);
    }

    #[test]
    fn what_leaves_the_region_is_stored() {
        for name in ["swish", "scale"] {
            let found = patterns(&region(mbconv(), &["project", name]));
            let sizes: Vec<usize> = found.iter().map(|pattern| pattern.steps().len()).collect();
            // The squeeze-and-excitation, and two layers with their tables.
            assert_eq!(sizes, [6, 2, 2], "{found:?}");
        }
    }

    #[test]
    fn a_value_times_a_function_of_it_is_one_table() {
        let product = StepKind::Mul { inputs: [UNIT, UNIT], output: OUTPUT };
        let steps = vec![
            conv(1, 1, "x", "conv"),
            table("conv", "sigmoid"),
            step(product, &["conv", "sigmoid"], "swish"),
            table("swish", "last"),
        ];
        let mut region = region(steps, &["last"]);
        fuse::tables(&mut region);
        let [_, Step { kind: StepKind::Lookup { table, .. }, inputs, .. }] = &region.steps[..]
        else {
            panic!("{:?}", region.steps)
        };
        assert_eq!(inputs, &["conv"]);
        for code in 0..=255_u8 {
            let product = (f32::from(code) - 3.0) * (f32::from(255 - code) - 3.0) * 0.5;
            let swish = (product.round_ties_even() + 3.0).clamp(0.0, 255.0) as u8;
            assert_eq!(table[usize::from(code)], 255 - swish, "code {code}");
        }
    }
}
