use super::*;

fn disk(bytes: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(bytes).unwrap();
    file
}

fn bytes(file: &File) -> Vec<u8> {
    let mut all = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut all, 0).unwrap();
    all
}

#[test]
fn files_come_back_and_the_same_files_give_the_same_bytes() {
    for length in [16 << 20, 64 << 20, 100 << 20] {
        let make = || {
            let file = disk(length + 4096);
            let fat = Fat::format(&file, 4096, length, "KINGLET-A", 5).unwrap();
            let before = fat.free().unwrap();
            fat.write("kinglet.onnx", &vec![7; 3 << 20]).unwrap();
            fat.write("cmdline.txt", b"a longer one").unwrap();
            fat.write("cmdline.txt", b"short").unwrap();
            assert!(before - fat.free().unwrap() >= 3 << 20);
            fat.close().unwrap();
            let fat = Fat::open(&file, 4096, length).unwrap();
            assert_eq!(fat.read("cmdline.txt", 100).unwrap().unwrap(), b"short");
            assert_eq!(fat.read("kinglet.onnx", 4 << 20).unwrap().unwrap(), vec![7; 3 << 20]);
            assert!(fat.read("kinglet.onnx", 1 << 20).is_err());
            assert!(fat.write("a/b", b"x").is_err());
            assert!(fat.read("nothing", 100).unwrap().is_none());
            assert!(fat.exists("kinglet.onnx").unwrap() && !fat.exists("kinglets").unwrap());
            drop(fat);
            bytes(&file)
        };
        assert!(make() == make(), "{length}");
    }
}

#[test]
fn the_systems_own_checker_finds_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fat");
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    let fat = Fat::format(&file, 0, 64 << 20, "KINGLET-A", 5).unwrap();
    fat.write("a longer name.txt", &vec![1; 100_000]).unwrap();
    fat.write("config.txt", b"x").unwrap();
    fat.close().unwrap();
    match std::process::Command::new("fsck.fat").arg("-n").arg(&path).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout))
        }
        Err(_) => println!("skipped: no fsck.fat"),
    }
}

/// Uses everything there is; nothing of it may panic or go on for ever.
fn use_all(file: &File, length: u64) -> io::Result<()> {
    let fat = Fat::open(file, 0, length)?;
    fat.free()?;
    fat.exists("kinglet")?;
    fat.read("cmdline.txt", 1 << 20)?;
    fat.write("new.bin", &vec![3; 50_000])?;
    fat.write("cmdline.txt", b"other")?;
    fat.close()
}

fn sample(length: u64) -> File {
    let file = disk(length);
    let fat = Fat::format(&file, 0, length, "BOOT", 5).unwrap();
    fat.write("cmdline.txt", &vec![b'x'; 5000]).unwrap();
    fat.write("kinglet.bin", &vec![b'y'; 20_000]).unwrap();
    fat.close().unwrap();
    file
}

#[test]
fn a_folder_that_goes_in_a_circle_is_an_error() {
    let length = 64 << 20;
    let file = sample(length);
    let mut boot = [0; 512];
    file.read_exact_at(&mut boot, 0).unwrap();
    let reserved = u64::from(u16::from_le_bytes([boot[14], boot[15]]));
    let root = u32::from_le_bytes([boot[44], boot[45], boot[46], boot[47]]);
    // The root folder's cluster is followed by itself, and is full.
    file.write_all_at(&root.to_le_bytes(), reserved * 512 + u64::from(root) * 4).unwrap();
    let table = u64::from(u32::from_le_bytes([boot[36], boot[37], boot[38], boot[39]]));
    let at = (reserved + 2 * table) * 512 + u64::from(root - 2) * u64::from(boot[13]) * 512;
    for entry in 0..u64::from(boot[13]) * 16 {
        let mut bytes = [0u8; 32];
        bytes[..11].copy_from_slice(format!("FILE{entry:04}TXT").as_bytes());
        file.write_all_at(&bytes, at + entry * 32).unwrap();
    }
    let error = use_all(&file, length).unwrap_err().to_string();
    assert!(error.contains("circle"), "{error}");
}

#[test]
fn damaged_file_systems_are_errors_and_never_panics() {
    let mut state = 11u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let length = 2 << 20;
    let whole = bytes(&sample(length));
    let file = disk(length);
    for round in 0..1500 {
        file.write_all_at(&whole, 0).unwrap();
        // Boot sector, tables, folders: the places that matter, in turns.
        for _ in 0..=random(4) {
            let at = match round % 3 {
                0 => random(64),
                1 => 512 + random(8192),
                _ => random(64 << 10),
            };
            file.write_all_at(&[random(256) as u8], at).unwrap();
        }
        let _ = use_all(&file, length);
    }
}
