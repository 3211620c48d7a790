//! Files as `torch.save` writes them (made by `data/make_fixtures.py`): read whole, or refused
//! with a reason, and never more than that.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use kinglet_compress::weights::{StateDict, WeightsError};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn check_all_kinds(state: &StateDict) {
    let tensor = |name: &str| &state.tensors[name];
    assert_eq!(state.tensors.len(), 16);
    assert_eq!(tensor("dense").shape, [2, 3, 4]);
    let counting: Vec<f32> = (0..24_u8).map(f32::from).collect();
    assert_eq!(tensor("dense").data, counting);
    // dense.permute(2, 0, 1): element [i, j, k] is dense[j, k, i].
    assert_eq!(tensor("permuted").shape, [4, 2, 3]);
    for (index, value) in tensor("permuted").data.iter().enumerate() {
        let (i, j, k) = (index / 6, index / 3 % 2, index % 3);
        assert_eq!(*value, (12 * j + 4 * k + i) as f32);
    }
    assert_eq!(tensor("tail").data, [20.0, 21.0, 22.0, 23.0]);
    assert_eq!(tensor("expanded").data, [5.0, 6.0, 5.0, 6.0, 5.0, 6.0]);
    assert_eq!(tensor("parameter").data, [1.0, 2.0]);
    for name in ["double", "half", "bfloat16"] {
        assert_eq!(tensor(name).data, [1.5, -2.0, 0.25], "{name}");
    }
    for name in ["long", "int", "short", "char"] {
        assert_eq!(tensor(name).data, [7.0, -8.0], "{name}");
    }
    assert_eq!(tensor("byte").data, [7.0, 200.0]);
    assert_eq!(tensor("bool").data, [1.0, 0.0]);
    assert_eq!((tensor("scalar").shape.len(), tensor("scalar").data[0]), (0, 3.0));
    assert_eq!((&tensor("empty").shape[..], tensor("empty").data.len()), (&[0, 3][..], 0));
}

#[test]
fn both_formats_give_the_same_tensors() {
    for name in ["zip.pth", "zip_protocol4.pth", "legacy.pth"] {
        check_all_kinds(&StateDict::read(&path(name)).unwrap());
    }
}

#[test]
fn trainers_wrapping_and_prefix_are_taken_off() {
    let state = StateDict::read(&path("wrapped.pth")).unwrap();
    assert_eq!(state.tensors.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(state.tensors["a"].data, [1.0, 2.0]);
}

#[test]
fn a_file_that_wants_to_run_something_is_refused_by_name() {
    for name in ["evil.pth", "evil_legacy.pth"] {
        match StateDict::read(&path(name)).unwrap_err() {
            // Python writes os.system by the module that it comes from.
            WeightsError::Global { name } => assert_eq!(name, "posix.system"),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn what_cannot_be_read_is_explained() {
    for (name, reason) in [
        ("big_endian.pth", "big-endian"),
        ("big_endian_legacy.pth", "big-endian"),
        ("outside.pth", "outside its storage of 2 elements"),
        ("number.pth", "'a' is an integer, not a tensor"),
        ("list.pth", "it is a list"),
    ] {
        let error = StateDict::read(&path(name)).unwrap_err().to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
    let unknown = StateDict::from_bytes(b"hello").unwrap_err().to_string();
    assert!(unknown.contains("torch.save"), "{unknown}");
    assert!(matches!(StateDict::read(Path::new("no/such.pth")), Err(WeightsError::Read { .. })));
}

#[test]
fn no_truncation_is_accepted() {
    for name in ["zip.pth", "legacy.pth", "wrapped.pth"] {
        let whole = bytes(name);
        for length in 0..whole.len() {
            assert!(StateDict::from_bytes(&whole[..length]).is_err(), "{name}, {length} bytes");
        }
    }
}

#[test]
fn every_changed_byte_is_survived() {
    for name in ["zip.pth", "zip_protocol4.pth", "legacy.pth"] {
        let mut damaged = bytes(name);
        for index in 0..damaged.len() {
            let original = damaged[index];
            for value in [0, 1, 0x7f, 0x80, 0xff, original ^ 0x40, b'.', b'R'] {
                damaged[index] = value;
                let _ = StateDict::from_bytes(&damaged);
            }
            damaged[index] = original;
        }
    }
}

/// A legacy file whose pickle claims a storage of `elements` elements, but holds four bytes.
fn claiming(elements: &[u8], shape: &[u8]) -> Vec<u8> {
    let mut file = bytes("legacy.pth");
    let start = file.windows(2).enumerate().filter(|(_, w)| w == b"\x80\x02").nth(3).unwrap().0;
    file.truncate(start);
    file.extend_from_slice(b"\x80\x02}(U\x01actorch._utils\n_rebuild_tensor_v2\n((");
    file.extend_from_slice(b"U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu");
    file.extend_from_slice(elements);
    file.extend_from_slice(b"NtQK\x00(");
    file.extend_from_slice(shape);
    file.extend_from_slice(b"t(K\x00t\x89}tRu.");
    file.extend_from_slice(b"\x80\x02](U\x010e.");
    file.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    file
}

#[test]
fn claimed_sizes_are_not_believed() {
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    for (elements, shape) in [
        (&huge[..], &b"K\x01"[..]),
        (&b"K\x04"[..], &huge[..]),
        (&b"K\x04"[..], &b"J\xff\xff\xff\xff"[..]),
        (
            &b"\x8a\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"[..],
            &b"K\x01"[..],
        ),
    ] {
        let error = StateDict::from_bytes(&claiming(elements, shape)).unwrap_err();
        assert!(!matches!(error, WeightsError::UnknownFormat), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(tail: Vec<u8>, start in 0..3_usize) {
        let mut file = [&b"PK\x03\x04"[..], &bytes("legacy.pth")[..100], &b"\x10\0\0\0\0\0\0\0{"[..]]
            [start].to_vec();
        file.extend(tail);
        let _ = StateDict::from_bytes(&file);
    }

    #[test]
    fn any_damage_is_survived(
        name in proptest::sample::select(vec!["zip.pth", "legacy.pth"]),
        changes in proptest::collection::vec((0..4000_usize, proptest::num::u8::ANY), 1..20),
    ) {
        let mut damaged = bytes(name);
        for (index, value) in changes {
            let length = damaged.len();
            damaged[index % length] = value;
        }
        let _ = StateDict::from_bytes(&damaged);
    }
}
