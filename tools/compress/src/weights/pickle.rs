//! A pickle machine that can do nothing but build state dicts.
//!
//! A pickle is a program for a stack machine, and Python's own machine calls whatever function
//! the program names. This one knows a handful of names ([`Global`]): the storage types,
//! `OrderedDict` and the functions that rebuild a tensor from a storage. "Calling" them makes a
//! value, any other name is [`WeightsError::Global`]. Everything lives in one arena and values
//! are indices into it: cycles and nesting of any depth cost nothing, and what a program of `n`
//! bytes can allocate is proportional to `n`.
//!
//! Source: the comments of CPython's `Lib/pickletools.py`.

use std::collections::HashMap;

use super::WeightsError;
use super::tensor::{ElementType, MAX_DIMENSIONS, View};

mod machine;

pub use machine::run;

/// Longest key of a storage; torch writes decimal numbers.
const MAX_KEY_BYTES: usize = 64;

/// A value: small ones directly, others as an index into the [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    None,
    Bool(bool),
    /// Integers of up to 16 bytes; torch's magic number needs 10.
    Int(i128),
    Float(f64),
    Global(Global),
    Str(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

/// The names that a state dict may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    Storage(ElementType),
}

impl Global {
    /// What a name stands for, if it is known.
    #[must_use]
    pub fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensorV2,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "DoubleStorage") => Self::Storage(ElementType::F64),
            ("torch", "FloatStorage") => Self::Storage(ElementType::F32),
            ("torch", "HalfStorage") => Self::Storage(ElementType::F16),
            ("torch", "BFloat16Storage") => Self::Storage(ElementType::Bf16),
            ("torch", "LongStorage") => Self::Storage(ElementType::I64),
            ("torch", "IntStorage") => Self::Storage(ElementType::I32),
            ("torch", "ShortStorage") => Self::Storage(ElementType::I16),
            ("torch", "CharStorage") => Self::Storage(ElementType::I8),
            ("torch", "ByteStorage") => Self::Storage(ElementType::U8),
            ("torch", "BoolStorage") => Self::Storage(ElementType::Bool),
            _ => return None,
        })
    }
}

/// A storage that tensors refer to; its data lies outside the pickle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRef {
    /// Element type.
    pub kind: ElementType,
    /// The key under which the container keeps it.
    pub key: String,
    /// Number of elements.
    pub elements: usize,
}

/// A tensor: a view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    /// Index of the storage.
    pub storage: usize,
    /// Which elements.
    pub view: View,
}

/// Where the values live that a pickle makes.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Heap {
    pub strings: Vec<String>,
    pub tuples: Vec<Vec<Value>>,
    pub lists: Vec<Vec<Value>>,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<StorageRef>,
    pub tensors: Vec<TensorRef>,
    by_key: HashMap<String, usize>,
}

impl Heap {
    /// A string's text.
    #[must_use]
    pub fn text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Str(index) => self.strings.get(index).map(String::as_str),
            _ => None,
        }
    }

    /// A dictionary's entries, in order of insertion.
    #[must_use]
    pub fn entries(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(index) => self.dicts.get(index).map(Vec::as_slice),
            _ => None,
        }
    }

    /// What sort of value it is, for messages.
    #[must_use]
    pub fn describe(&self, value: Value) -> &'static str {
        match value {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Global(_) => "a type",
            Value::Str(_) => "a string",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dictionary",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }

    /// Registers a storage; a key that is used twice must mean the same storage.
    fn storage(&mut self, storage: StorageRef) -> Result<Value, String> {
        if let Some(&index) = self.by_key.get(&storage.key) {
            if self.storages[index] != storage {
                return Err(format!("storage '{}' is described in two ways", storage.key));
            }
            return Ok(Value::Storage(index));
        }
        self.by_key.insert(storage.key.clone(), self.storages.len());
        self.storages.push(storage);
        Ok(Value::Storage(self.storages.len() - 1))
    }

    /// "Calls" one of the known names.
    fn call(&mut self, what: Global, arguments: &[Value]) -> Result<Value, String> {
        match what {
            Global::OrderedDict => self.ordered_dict(arguments),
            Global::Size => match arguments {
                [sizes @ Value::Tuple(_)] => Ok(*sizes),
                _ => Err("torch.Size of something else than a tuple".into()),
            },
            Global::RebuildParameter => match arguments {
                [tensor @ Value::Tensor(_), ..] => Ok(*tensor),
                _ => Err("a parameter that is not a tensor".into()),
            },
            Global::RebuildTensor | Global::RebuildTensorV2 => self.tensor(arguments),
            Global::Storage(_) => Err("a storage type is called".into()),
        }
    }

    /// `OrderedDict()`, or `OrderedDict([(key, value), …])` as old versions of Python wrote it.
    fn ordered_dict(&mut self, arguments: &[Value]) -> Result<Value, String> {
        let mut entries = Vec::new();
        match arguments {
            [] => {}
            [Value::List(list)] => {
                // Moved out, not copied: a list that is named again and again must not multiply.
                for pair in std::mem::take(&mut self.lists[*list]) {
                    let pair = match pair {
                        Value::List(i) => self.lists.get(i),
                        Value::Tuple(i) => self.tuples.get(i),
                        _ => None,
                    };
                    match pair.map(Vec::as_slice) {
                        Some(&[key, value]) => entries.push((key, value)),
                        _ => return Err("OrderedDict of something else than pairs".into()),
                    }
                }
            }
            _ => return Err("OrderedDict with unknown arguments".into()),
        }
        self.dicts.push(entries);
        Ok(Value::Dict(self.dicts.len() - 1))
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, …)`.
    fn tensor(&mut self, arguments: &[Value]) -> Result<Value, String> {
        let &[Value::Storage(storage), offset, Value::Tuple(shape), Value::Tuple(strides), ..] =
            arguments
        else {
            return Err("a tensor is built from unknown arguments".into());
        };
        let numbers = |tuple: usize| -> Result<Vec<usize>, String> {
            let values = &self.tuples[tuple];
            if values.len() > MAX_DIMENSIONS {
                return Err(format!("a tensor of {} dimensions", values.len()));
            }
            values.iter().map(|&v| number(v)).collect()
        };
        let view =
            View { offset: number(offset)?, shape: numbers(shape)?, strides: numbers(strides)? };
        self.tensors.push(TensorRef { storage, view });
        Ok(Value::Tensor(self.tensors.len() - 1))
    }

    /// A persistent id: `('storage', type, key, location, elements[, view])`.
    fn persistent(&mut self, id: Value) -> Result<Value, String> {
        let Value::Tuple(index) = id else { return Err("a persistent id is no tuple".into()) };
        let (kind, key, elements) = match self.tuples[index].as_slice() {
            &[
                name,
                Value::Global(Global::Storage(kind)),
                key,
                _location,
                elements,
                ref rest @ ..,
            ] if self.text(name) == Some("storage") => {
                if !matches!(rest, [] | [Value::None]) {
                    return Err("views of storages are not supported".into());
                }
                (kind, key, elements)
            }
            _ => return Err("a persistent id is no storage".into()),
        };
        let key = match (key, self.text(key)) {
            (Value::Int(key), _) => key.to_string(),
            (_, Some(key)) if key.len() <= MAX_KEY_BYTES => key.to_owned(),
            _ => return Err("a storage's key is no short string".into()),
        };
        self.storage(StorageRef { kind, key, elements: number(elements)? })
    }
}

fn number(value: Value) -> Result<usize, String> {
    match value {
        Value::Int(value) => {
            usize::try_from(value).map_err(|_| format!("{value} is no size, offset or stride"))
        }
        _ => Err("a size, offset or stride is no integer".into()),
    }
}

#[cfg(test)]
mod tests;
