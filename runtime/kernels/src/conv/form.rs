//! Ways of computing a convolution that differ in time alone.

use crate::Isa;

/// Which way a convolution is computed, where its instruction set has several. All give the same
/// bytes. A form that a layer cannot have counts as [`Form::Usual`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Form {
    /// What the instruction set's own rule says.
    #[default]
    Usual,
    /// AVX2: activations multiplied as bytes, whatever that costs; for weights that fit `i8`.
    Bytes,
    /// AVX2: activations widened to 16 bits.
    Wide,
    /// AVX-512: panels of up to 16 channels, tiles of up to 14 pixels.
    Panels16,
    /// AVX-512: panels of up to 32 channels, tiles of up to 12 pixels.
    Panels32,
    /// AVX-512: panels of up to 48 channels, tiles of up to 8 pixels.
    Panels48,
}

impl Form {
    const ALL: [Form; 6] =
        [Form::Usual, Form::Bytes, Form::Wide, Form::Panels16, Form::Panels32, Form::Panels48];

    /// The forms that layers may have on an instruction set; the first is [`Form::Usual`].
    #[must_use]
    pub fn of(isa: Isa) -> &'static [Form] {
        match isa {
            Isa::Avx2 => &[Form::Usual, Form::Bytes, Form::Wide],
            Isa::Avx512Vnni => &[Form::Usual, Form::Panels16, Form::Panels32, Form::Panels48],
            _ => &[Form::Usual],
        }
    }

    /// The form's name: `usual`, `bytes`, `wide`, `panels16`, `panels32`, `panels48`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Form::Usual => "usual",
            Form::Bytes => "bytes",
            Form::Wide => "wide",
            Form::Panels16 => "panels16",
            Form::Panels32 => "panels32",
            Form::Panels48 => "panels48",
        }
    }

    /// The form of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Form> {
        Form::ALL.into_iter().find(|form| form.name() == name)
    }

    /// Most vectors of channels side by side, out of at most `most`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn vectors(self, most: usize) -> usize {
        match self {
            Form::Panels16 => 1,
            Form::Panels32 => 2,
            Form::Panels48 => 3,
            _ => most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_lead_back() {
        for form in Form::ALL {
            assert_eq!(Form::named(form.name()), Some(form));
        }
        assert_eq!(Form::named("x"), None);
        assert!(Isa::available().iter().all(|&isa| Form::of(isa)[0] == Form::Usual));
    }
}
