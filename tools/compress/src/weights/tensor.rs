//! One tensor: element types, strides, conversion to f32.

use super::WeightsError;

/// A tensor, dense, the last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its elements as f32; of f64 and wide integers the nearest.
    pub data: Vec<f32>,
}

/// Element type of stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ElementType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl ElementType {
    /// Size of an element, bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The element at an index of little-endian data; `None` outside.
    fn get(self, data: &[u8], index: usize) -> Option<f32> {
        let start = index.checked_mul(self.bytes())?;
        let word = data.get(start..)?;
        Some(match self {
            Self::F64 => f64::from_le_bytes(*word.first_chunk()?) as f32,
            Self::F32 => f32::from_le_bytes(*word.first_chunk()?),
            Self::F16 => half::f16::from_le_bytes(*word.first_chunk()?).to_f32(),
            Self::Bf16 => half::bf16::from_le_bytes(*word.first_chunk()?).to_f32(),
            Self::I64 => i64::from_le_bytes(*word.first_chunk()?) as f32,
            Self::I32 => i32::from_le_bytes(*word.first_chunk()?) as f32,
            Self::I16 => f32::from(i16::from_le_bytes(*word.first_chunk()?)),
            Self::I8 => f32::from(*word.first()? as i8),
            Self::U8 | Self::Bool => f32::from(*word.first()?),
        })
    }
}

/// Where a tensor's elements lie in a storage; all in elements, not bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Of the first element.
    pub offset: usize,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Distance of neighbours along each axis.
    pub strides: Vec<usize>,
}

/// Most dimensions of a tensor.
pub(super) const MAX_DIMENSIONS: usize = 8;

impl View {
    /// The view of dense data.
    #[must_use]
    pub fn dense(shape: Vec<usize>) -> Self {
        let mut strides = vec![1_usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
        }
        Self { offset: 0, shape, strides }
    }

    /// Number of elements, having checked that all lie within a storage of `stored` elements.
    ///
    /// # Errors
    /// [`WeightsError::Tensor`] with the numbers.
    pub fn check(&self, name: &str, stored: usize, most: usize) -> Result<usize, WeightsError> {
        let bad = |why: String| WeightsError::Tensor { tensor: name.to_owned(), why };
        if self.shape.len() != self.strides.len() || self.shape.len() > MAX_DIMENSIONS {
            return Err(bad(format!(
                "{} dimensions and {} strides (at most {MAX_DIMENSIONS})",
                self.shape.len(),
                self.strides.len()
            )));
        }
        let too_many = || bad(format!("shape {:?} has more than {most} elements", self.shape));
        let count = self.shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        let count = count.filter(|&n| n <= most).ok_or_else(too_many)?;
        if count == 0 {
            return Ok(0);
        }
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?));
        if last.is_none_or(|last| last >= stored) {
            return Err(bad(format!(
                "shape {:?} with strides {:?} from {} is outside its storage of {stored} elements",
                self.shape, self.strides, self.offset
            )));
        }
        Ok(count)
    }

    /// The elements, gathered into a dense tensor.
    ///
    /// # Errors
    /// As [`View::check`].
    pub fn gather(
        &self,
        name: &str,
        kind: ElementType,
        data: &[u8],
        most: usize,
    ) -> Result<Tensor, WeightsError> {
        let count = self.check(name, data.len() / kind.bytes(), most)?;
        let mut out = Vec::with_capacity(count);
        let mut index = vec![0_usize; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..count {
            let value = kind.get(data, at).ok_or_else(|| WeightsError::Tensor {
                tensor: name.to_owned(),
                why: format!("element {at} is outside its storage"),
            })?;
            out.push(value);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * index[axis];
                index[axis] = 0;
            }
        }
        Ok(Tensor { shape: self.shape.clone(), data: out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn strides_are_honoured() {
        let data = words(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let view = View { offset: 1, shape: vec![2, 3], strides: vec![1, 2] };
        let tensor = view.gather("t", ElementType::F32, &data, 100).unwrap();
        assert_eq!(tensor.data, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        let expanded = View { offset: 2, shape: vec![3], strides: vec![0] };
        let tensor = expanded.gather("t", ElementType::F32, &data, 100).unwrap();
        assert_eq!(tensor.data, [2.0; 3]);
    }

    #[test]
    fn views_outside_their_storage_are_refused() {
        let huge = usize::MAX / 2;
        for view in [
            View { offset: 2, shape: vec![2, 3], strides: vec![1, 2] },
            View { offset: huge, shape: vec![2], strides: vec![huge] },
            View { offset: 0, shape: vec![huge, huge], strides: vec![0, 0] },
            View { offset: 0, shape: vec![101], strides: vec![0] },
            View { offset: 0, shape: vec![1], strides: vec![] },
            View { offset: 0, shape: vec![1; 9], strides: vec![1; 9] },
        ] {
            assert!(view.gather("t", ElementType::F32, &words(&[0.0; 7]), 100).is_err());
        }
        let empty = View { offset: 9, shape: vec![0, huge], strides: vec![1, 1] };
        assert_eq!(empty.check("t", 7, 100).unwrap(), 0);
    }

    #[test]
    fn every_type_is_converted() {
        let one = |kind: ElementType, bytes: &[u8]| kind.get(bytes, 0).unwrap();
        assert_eq!(one(ElementType::F64, &(-2.5_f64).to_le_bytes()), -2.5);
        assert_eq!(one(ElementType::F16, &[0x00, 0x3e]), 1.5);
        assert_eq!(one(ElementType::Bf16, &[0xc0, 0x3f]), 1.5);
        assert_eq!(one(ElementType::I64, &(-7_i64).to_le_bytes()), -7.0);
        assert_eq!(one(ElementType::I32, &(-7_i32).to_le_bytes()), -7.0);
        assert_eq!(one(ElementType::I16, &(-7_i16).to_le_bytes()), -7.0);
        assert_eq!(one(ElementType::I8, &[0xf9]), -7.0);
        assert_eq!(one(ElementType::U8, &[0xf9]), 249.0);
        assert_eq!(ElementType::F32.get(&[0; 7], 1), None);
    }
}
