//! PyTorch's two file formats: the containers around the pickle.
//!
//! Zip (since 1.6): `NAME/data.pkl`, `NAME/byteorder` and a file `NAME/data/KEY` a storage.
//! Legacy: five pickles one after another (a magic number, the protocol, facts about the machine,
//! the object, the storages' keys), then of each storage its number of elements as a 64-bit
//! integer and its data.
//!
//! Source: `torch/serialization.py`, `_legacy_save` and `_save`.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use zip::ZipArchive;

use super::pickle::{self, Heap, StorageRef, Value};
use super::{MAX_ELEMENTS, MAX_FILE_BYTES, StateDict, WeightsError};

/// The first pickle of the legacy format.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The second.
const PROTOCOL: i128 = 1001;
/// Largest pickle inside a zip, bytes. That of EfficientNetV2-L has 250 kB.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Keys of dictionaries that trainers wrap around a state dict, the first found wins.
const WRAPPERS: &[&str] = &["state_dict", "model_state_dict", "model", "net", "state_dict_ema"];
/// Deepest wrapping.
const MAX_WRAPPERS: usize = 4;

/// The file starts with the legacy format's magic number.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x80)
        && pickle::run(bytes.get(..32).unwrap_or(bytes), &mut Heap::default())
            .is_ok_and(|(value, _)| value == Value::Int(MAGIC))
}

fn damaged(why: impl Into<String>) -> WeightsError {
    WeightsError::Torch { why: why.into() }
}

/// Reads a file of the legacy format.
pub(super) fn read_legacy(bytes: &[u8]) -> Result<StateDict, WeightsError> {
    let mut at = 0;
    let mut heap = Heap::default();
    let mut next = |heap: &mut Heap| -> Result<Value, WeightsError> {
        let rest = bytes.get(at..).unwrap_or_default();
        let (value, taken) = pickle::run(rest, heap).map_err(|e| match e {
            WeightsError::Pickle { offset, why } => {
                WeightsError::Pickle { offset: at + offset, why }
            }
            other => other,
        })?;
        at += taken;
        Ok(value)
    };
    if next(&mut heap)? != Value::Int(MAGIC) {
        return Err(damaged("its magic number is wrong"));
    }
    if next(&mut heap)? != Value::Int(PROTOCOL) {
        return Err(damaged(format!("its protocol is not {PROTOCOL}")));
    }
    let machine = next(&mut heap)?;
    check_byte_order(&heap, machine)?;
    let object = next(&mut heap)?;
    let Value::List(keys) = next(&mut heap)? else {
        return Err(damaged("the storages' keys are no list"));
    };
    let storages = legacy_storages(bytes, at, &heap, keys)?;
    collect(&heap, object, |storage| {
        let range = storages.get(&storage.key).cloned();
        let data = range.and_then(|r| bytes.get(r));
        data.ok_or_else(|| damaged(format!("storage '{}' is missing", storage.key)))
    })
}

fn check_byte_order(heap: &Heap, machine: Value) -> Result<(), WeightsError> {
    let entries = heap.entries(machine).unwrap_or_default();
    let little = entries.iter().find(|(key, _)| heap.text(*key) == Some("little_endian"));
    match little {
        Some((_, Value::Bool(true))) => Ok(()),
        Some(_) => Err(damaged("it was written on a big-endian machine")),
        None => Err(damaged("it does not state its byte order")),
    }
}

/// Where each storage's data lies in a legacy file.
fn legacy_storages(
    bytes: &[u8],
    mut at: usize,
    heap: &Heap,
    keys: usize,
) -> Result<HashMap<String, Range<usize>>, WeightsError> {
    let known: HashMap<&str, &StorageRef> =
        heap.storages.iter().map(|s| (s.key.as_str(), s)).collect();
    let mut found = HashMap::new();
    for &key in &heap.lists[keys] {
        let key = heap.text(key).ok_or_else(|| damaged("a storage's key is no string"))?;
        let storage = known.get(key);
        let storage = storage.ok_or_else(|| damaged(format!("nothing uses storage '{key}'")))?;
        let cut = || damaged(format!("it ends within storage '{key}'"));
        let stored = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
        let stored = i64::from_le_bytes(*stored);
        if usize::try_from(stored) != Ok(storage.elements) {
            return Err(damaged(format!(
                "storage '{key}' has {stored} elements, its tensors expect {}",
                storage.elements
            )));
        }
        let start = at + 8;
        let end = storage.elements.checked_mul(storage.kind.bytes());
        let end = end.and_then(|length| start.checked_add(length));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(cut)?;
        if found.insert(key.to_owned(), start..end).is_some() {
            return Err(damaged(format!("storage '{key}' is in the file twice")));
        }
        at = end;
    }
    Ok(found)
}

/// Reads a file of the zip format.
pub(super) fn read_zip(bytes: &[u8]) -> Result<StateDict, WeightsError> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged(e.to_string()))?;
    let pickle_name = pickle_name(&zip).ok_or_else(|| damaged("it holds no data.pkl"))?;
    let folder = pickle_name.strip_suffix("data.pkl").unwrap_or_default().to_owned();
    if let Some(order) = entry(&mut zip, &format!("{folder}byteorder"), 16)?
        && order != b"little"
    {
        return Err(damaged("it was written on a big-endian machine"));
    }
    let program = entry(&mut zip, &pickle_name, MAX_PICKLE_BYTES)?;
    let program = program.ok_or_else(|| damaged("data.pkl cannot be read"))?;
    let mut heap = Heap::default();
    let (object, _) = pickle::run(&program, &mut heap)?;
    let mut left = MAX_FILE_BYTES;
    let mut storages = HashMap::new();
    for storage in &heap.storages {
        let expected = (storage.elements as u64).checked_mul(storage.kind.bytes() as u64);
        let expected = expected.filter(|&e| e <= left).ok_or_else(|| WeightsError::Limit {
            what: format!("storage '{}' in elements", storage.key),
            actual: storage.elements as u64,
            limit: left / storage.kind.bytes() as u64,
        })?;
        left -= expected;
        let data = entry(&mut zip, &format!("{folder}data/{}", storage.key), expected)?
            .ok_or_else(|| damaged(format!("storage '{}' is missing", storage.key)))?;
        if data.len() as u64 != expected {
            return Err(damaged(format!(
                "storage '{}' has {} bytes, its tensors expect {expected}",
                storage.key,
                data.len()
            )));
        }
        storages.insert(storage.key.as_str(), data);
    }
    collect(&heap, object, |storage| {
        let data = storages.get(storage.key.as_str()).map(Vec::as_slice);
        data.ok_or_else(|| damaged(format!("storage '{}' is missing", storage.key)))
    })
}

/// Name of the pickle; its folder is named as the file was when it was saved.
fn pickle_name(zip: &ZipArchive<Cursor<&[u8]>>) -> Option<String> {
    zip.file_names()
        .filter_map(Result::ok)
        .find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
        .map(|name| name.into_owned())
}

/// A file of the zip, if it is there. What the zip says of its size is not believed: memory
/// grows with what is read, up to the limit.
fn entry(
    zip: &mut ZipArchive<Cursor<&[u8]>>,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, WeightsError> {
    let file = match zip.by_name(name) {
        Ok(file) => file,
        Err(zip::result::ZipError::FileNotFound) => return Ok(None),
        Err(e) => return Err(damaged(format!("{name}: {e}"))),
    };
    let mut data = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut data);
    read.map_err(|e| damaged(format!("{name}: {e}")))?;
    if data.len() as u64 > limit {
        return Err(damaged(format!("{name} is larger than the expected {limit} bytes")));
    }
    Ok(Some(data))
}

/// Finds the state dict in what the pickle made and gathers its tensors.
fn collect<'a>(
    heap: &Heap,
    object: Value,
    data: impl Fn(&StorageRef) -> Result<&'a [u8], WeightsError>,
) -> Result<StateDict, WeightsError> {
    let entries = unwrap(heap, object)?;
    let mut state = StateDict::default();
    let mut left = MAX_ELEMENTS;
    for &(key, value) in entries {
        let name = heap.text(key).ok_or_else(|| WeightsError::NotStateDict {
            why: format!("a key is {}", heap.describe(key)),
        })?;
        let Value::Tensor(tensor) = value else {
            let why = format!("'{name}' is {}, not a tensor", heap.describe(value));
            return Err(WeightsError::NotStateDict { why });
        };
        let tensor = &heap.tensors[tensor];
        let storage = &heap.storages[tensor.storage];
        let tensor = tensor.view.gather(name, storage.kind, data(storage)?, left)?;
        left -= tensor.data.len();
        state.insert(name, tensor)?;
    }
    Ok(state)
}

/// The dictionary of tensors, taken out of what trainers wrap around it.
fn unwrap(heap: &Heap, mut object: Value) -> Result<&[(Value, Value)], WeightsError> {
    let not = |why: String| WeightsError::NotStateDict { why };
    for _ in 0..=MAX_WRAPPERS {
        let entries = heap.entries(object);
        let entries = entries.ok_or_else(|| not(format!("it is {}", heap.describe(object))))?;
        let inner = WRAPPERS.iter().find_map(|wrapper| {
            let entry = entries.iter().find(|(key, _)| heap.text(*key) == Some(wrapper));
            entry.map(|(_, value)| *value).filter(|value| matches!(value, Value::Dict(_)))
        });
        match inner {
            Some(inner) => object = inner,
            None if entries.is_empty() => return Err(not("it is empty".into())),
            None => return Ok(entries),
        }
    }
    Err(not(format!("it is wrapped more than {MAX_WRAPPERS} times")))
}
