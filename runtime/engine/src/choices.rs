//! What a plan may choose layer by layer without changing a result: which steps one kernel runs
//! together, and in which form a convolution is computed.
//!
//! Without choices a plan follows the kernels' own rules. [`crate::tune`] finds better ones on a
//! board, by timing.

use std::collections::BTreeMap;

pub use kinglet_kernels::conv::Form;
use kinglet_kernels::expand_depthwise::Offer;

/// Which steps are run how, by the names of the model's nodes. Names that no step has do nothing,
/// and what a layer cannot have is left to the kernels' rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choices {
    /// For all layers that are not named.
    pub others: Choice,
    /// By name: of a step, for steps that one kernel runs that of the first.
    pub layers: BTreeMap<String, Choice>,
}

/// What is chosen for a layer; `None` leaves it to the kernels' rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// Whether an expansion and the depthwise convolution that reads it run as one, with what follows.
    pub fused: Option<bool>,
    /// How a convolution is computed; of several that one kernel runs, those that may have forms.
    pub form: Option<Form>,
}

impl Choices {
    /// One choice for every layer.
    #[must_use]
    pub fn everywhere(others: Choice) -> Self {
        Self { others, layers: BTreeMap::new() }
    }

    fn of(&self, name: &str) -> Choice {
        let named = self.layers.get(name).copied().unwrap_or_default();
        Choice { fused: named.fused.or(self.others.fused), form: named.form.or(self.others.form) }
    }

    /// The form of a convolution.
    pub(crate) fn form(&self, name: &str) -> Form {
        self.of(name).form.unwrap_or_default()
    }

    /// Which kernels may run an expansion of this name and its depthwise convolution as one.
    pub(crate) fn offer(&self, name: &str) -> Option<Offer> {
        match self.of(name).fused {
            None => Some(Offer::WherePays),
            Some(true) => Some(Offer::Everywhere),
            Some(false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_layer_comes_before_the_others() {
        let mut choices = Choices::everywhere(Choice { fused: Some(true), form: None });
        let own = Choice { fused: Some(false), form: Some(Form::Wide) };
        choices.layers.insert("a".into(), own);
        assert_eq!((choices.offer("a"), choices.form("a")), (None, Form::Wide));
        assert_eq!((choices.offer("b"), choices.form("b")), (Some(Offer::Everywhere), Form::Usual));
        assert_eq!(Choices::default().offer("b"), Some(Offer::WherePays));
    }
}
