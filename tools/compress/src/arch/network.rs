//! A family member expanded into blocks and convolutions.

use super::{Activation, Arch};

/// A network with every channel count known.
#[derive(Debug, Clone)]
pub struct Network {
    /// The member it was expanded from.
    pub arch: Arch,
    /// Output channels of the first convolution (3x3, stride 2).
    pub stem: usize,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// Output channels of the last convolution (1x1).
    pub features: usize,
    /// Number of outputs.
    pub classes: usize,
    /// Activation function.
    pub activation: Activation,
}

/// The two kinds of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// 1x1 expansion (none where nothing expands), depthwise, squeeze-and-excite, 1x1 projection.
    MbConv,
    /// k x k expansion and 1x1 projection; where nothing expands, one k x k convolution.
    Fused,
}

/// One block.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Its stage, from 0.
    pub stage: usize,
    /// Its place within the stage, from 0.
    pub within: usize,
    /// Its kind.
    pub kind: BlockKind,
    /// Input channels.
    pub input: usize,
    /// Channels between expansion and projection.
    pub expanded: usize,
    /// Output channels.
    pub output: usize,
    /// Side of the spatial kernel.
    pub kernel: usize,
    /// Stride of the spatial convolution.
    pub stride: usize,
    /// Channels of the squeeze, if there is one.
    pub squeeze: Option<usize>,
    /// The input is added to the output.
    pub residual: bool,
}

impl Block {
    /// There is a convolution that expands.
    #[must_use]
    pub fn expands(&self) -> bool {
        self.expanded != self.input
    }
}

/// Where in the network a convolution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first convolution.
    Stem,
    /// A part of the block of this index.
    Block(usize, Part),
    /// The last convolution.
    Head,
    /// The fully connected layer.
    Classifier,
}

/// A convolution of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Expansion: 1x1 in MBConv, k x k in a fused block.
    Expand,
    /// Depthwise k x k.
    Depthwise,
    /// First 1x1 of the squeeze-and-excite, with bias.
    Reduce,
    /// Second 1x1 of the squeeze-and-excite, with bias.
    Excite,
    /// 1x1 projection.
    Project,
    /// The only k x k convolution of a fused block that does not expand.
    Only,
}

/// A convolution (or the fully connected layer) with its shape.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    /// Where it stands.
    pub place: Place,
    /// Output channels.
    pub output: usize,
    /// Input channels of one group.
    pub input: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Groups.
    pub groups: usize,
    /// Followed by a batch norm; otherwise it has a bias.
    pub norm: bool,
    /// Followed by the network's activation.
    pub activated: bool,
}

impl Conv {
    /// Shape of the weights: [output, input of a group, kernel, kernel], or [output, input] for
    /// the fully connected layer.
    #[must_use]
    pub fn weight_shape(&self) -> Vec<usize> {
        match self.place {
            Place::Classifier => vec![self.output, self.input],
            _ => vec![self.output, self.input, self.kernel, self.kernel],
        }
    }

    /// Number of weights, without bias or batch norm.
    #[must_use]
    pub fn weights(&self) -> usize {
        self.output * self.input * self.kernel * self.kernel
    }

    /// Weights with bias, or with scale and shift of the batch norm.
    #[must_use]
    pub fn trainable_parameters(&self) -> usize {
        self.weights() + if self.norm { 2 * self.output } else { self.output }
    }

    /// Trainable parameters and the batch norm's running mean and variance.
    #[must_use]
    pub fn stored_parameters(&self) -> usize {
        self.trainable_parameters() + if self.norm { 2 * self.output } else { 0 }
    }

    /// Name of its node in the graphs that Kinglet writes.
    #[must_use]
    pub fn node_name(&self) -> String {
        let part = match self.place {
            Place::Stem => return "stem".into(),
            Place::Head => return "head".into(),
            Place::Classifier => return "classifier".into(),
            Place::Block(_, Part::Expand) => "expand",
            Place::Block(_, Part::Depthwise) => "depthwise",
            Place::Block(_, Part::Reduce) => "squeeze.reduce",
            Place::Block(_, Part::Excite) => "squeeze.excite",
            Place::Block(_, Part::Project) => "project",
            Place::Block(_, Part::Only) => "conv",
        };
        let Place::Block(index, _) = self.place else { unreachable!("other places returned") };
        format!("blocks.{index}.{part}")
    }
}

impl Network {
    /// Every convolution and the fully connected layer, in the order of execution.
    #[must_use]
    pub fn convolutions(&self) -> Vec<Conv> {
        let last = self.blocks.last().map_or(self.stem, |b| b.output);
        let mut all = vec![conv(Place::Stem, 3, self.stem, 3, 2, true)];
        for (index, block) in self.blocks.iter().enumerate() {
            all.extend(block_convolutions(index, block));
        }
        all.push(conv(Place::Head, last, self.features, 1, 1, true));
        let classifier = conv(Place::Classifier, self.features, self.classes, 1, 1, false);
        all.push(Conv { norm: false, ..classifier });
        all
    }
}

fn conv(
    place: Place,
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    activated: bool,
) -> Conv {
    Conv { place, output, input, kernel, stride, groups: 1, norm: true, activated }
}

fn block_convolutions(index: usize, block: &Block) -> Vec<Conv> {
    let &Block { input, expanded, output, kernel, stride, .. } = block;
    let at = |part| Place::Block(index, part);
    let mut all = Vec::new();
    match block.kind {
        BlockKind::Fused if block.expands() => {
            all.push(conv(at(Part::Expand), input, expanded, kernel, stride, true));
        }
        BlockKind::Fused => {
            return vec![conv(at(Part::Only), input, output, kernel, stride, true)];
        }
        BlockKind::MbConv => {
            if block.expands() {
                all.push(conv(at(Part::Expand), input, expanded, 1, 1, true));
            }
            let depthwise = conv(at(Part::Depthwise), 1, expanded, kernel, stride, true);
            all.push(Conv { groups: expanded, ..depthwise });
        }
    }
    if let Some(squeeze) = block.squeeze {
        let reduce = conv(at(Part::Reduce), expanded, squeeze, 1, 1, true);
        let excite = conv(at(Part::Excite), squeeze, expanded, 1, 1, false);
        all.push(Conv { norm: false, ..reduce });
        all.push(Conv { norm: false, ..excite });
    }
    all.push(conv(at(Part::Project), expanded, output, 1, 1, false));
    all
}
