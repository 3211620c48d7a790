//! Programs written by hand.

use super::*;

fn value(program: &[u8]) -> Result<(Value, Heap), WeightsError> {
    let mut heap = Heap::default();
    let (value, taken) = run(program, &mut heap)?;
    assert!(taken <= program.len());
    Ok((value, heap))
}

#[test]
fn numbers_of_every_width() {
    let int = |program: &[u8]| value(program).unwrap().0;
    assert_eq!(int(b"K\xff."), Value::Int(255));
    assert_eq!(int(b"M\x01\x02."), Value::Int(0x201));
    assert_eq!(int(b"J\xff\xff\xff\xff."), Value::Int(-1));
    assert_eq!(int(b"\x8a\x00."), Value::Int(0));
    assert_eq!(int(b"\x8a\x01\x80."), Value::Int(-128));
    assert_eq!(int(b"\x8a\x03\xff\xff\x00."), Value::Int(65535));
    assert_eq!(int(b"G\x3f\xf8\0\0\0\0\0\0."), Value::Float(1.5));
    assert!(value(b"\x8a\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0.").is_err());
}

#[test]
fn the_memo_and_marks_work() {
    let (result, heap) = value(b"\x80\x02}q\x00(X\x01\0\0\0aK\x01X\x01\0\0\0bh\x00u.").unwrap();
    let entries = heap.entries(result).unwrap();
    assert_eq!(heap.text(entries[0].0), Some("a"));
    assert_eq!(entries[0].1, Value::Int(1));
    // The dictionary holds itself: no harm.
    assert_eq!(entries[1].1, result);
}

#[test]
fn unknown_names_are_refused_by_name() {
    for program in [
        &b"cos\nsystem\n(X\x02\0\0\0lstR."[..],
        &b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R."[..],
    ] {
        match value(program).unwrap_err() {
            WeightsError::Global { name } => assert_eq!(name, "os.system"),
            other => panic!("{other}"),
        }
    }
    for (module, name) in
        [("builtins", "eval"), ("posix", "system"), ("torch", "load"), ("collections", "deque")]
    {
        let program = format!("c{module}\n{name}\n.");
        let error = value(program.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("{module}.{name}")), "{error}");
    }
}

#[test]
fn nothing_but_known_names_can_be_called() {
    for program in [
        &b"K\x01)R."[..],
        &b"ctorch\nFloatStorage\n)R."[..],
        &b"ccollections\nOrderedDict\nK\x01\x85R."[..],
        &b"ctorch._utils\n_rebuild_tensor_v2\n)R."[..],
        &b"ctorch._utils\n_rebuild_parameter\n)R."[..],
        &b"ctorch\nSize\n)R."[..],
        // NEWOBJ, INST, OBJ and the text forms of protocol 0.
        &b"\x81."[..],
        &b"(ios\nsystem\n."[..],
        &b"(cos\nsystem\no."[..],
        &b"I1\n."[..],
    ] {
        assert!(value(program).is_err(), "{program:?}");
    }
}

#[test]
fn broken_programs_are_errors() {
    for program in [
        &b""[..],
        &b"."[..],
        &b"(."[..],
        &b"0"[..],
        &b"t."[..],
        &b"K\x01(."[..], // a value below a mark
        &b"K\x01a."[..],
        &b"}(K\x01u."[..],
        &b"h\x07."[..],
        &b"q\x00."[..],
        &b"X\xff\xff\xff\xffab."[..],
        &b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab."[..],
        &b"T\xff\xff\xff\xffab."[..],
        &b"U\x01\xff."[..],
        &b"K\x01}b."[..],
        &b"NQ."[..],
        &b")Q."[..],
        &b"cos"[..],
    ] {
        assert!(value(program).is_err(), "{program:?}");
    }
}

#[test]
fn deep_nesting_is_harmless() {
    let mut program = vec![b')'];
    program.extend(std::iter::repeat_n(0x85, 1_000_000));
    program.push(b'.');
    assert!(value(&program).is_ok());
}

#[test]
fn a_storage_may_not_change_its_description() {
    let storage = |elements: u8| {
        let mut program =
            b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0kX\x03\0\0\0cpuK".to_vec();
        program.extend([elements, b't', b'Q']);
        program
    };
    let twice = |a, b| [storage(a), storage(b), b".".to_vec()].concat();
    assert!(value(&twice(3, 3)).is_ok());
    let error = value(&twice(3, 4)).unwrap_err().to_string();
    assert!(error.contains("two ways"), "{error}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(program: Vec<u8>) {
        let _ = run(&program, &mut Heap::default());
    }

    #[test]
    fn any_sequence_of_known_opcodes_is_survived(
        program in proptest::collection::vec(
            proptest::sample::select(
                b".(012N\x88\x89K\x8a\x8cUc\x93)t\x85\x86\x87]lae}dsuq\x94hQRb\x00\x01\x02".to_vec()
            ),
            0..200,
        ),
    ) {
        let _ = run(&program, &mut Heap::default());
    }
}
