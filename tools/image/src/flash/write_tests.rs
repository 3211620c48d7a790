//! On real loop devices; skipped where there are none (no root, no loop driver).

use std::fs;
use std::process::Command;

use super::*;

const CARD: u64 = 24 << 20;

/// A loop device over a file, taken down at the end.
struct Loop {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Loop {
    fn new(bytes: u64, options: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("card");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        let mut arguments = vec!["--find", "--show"];
        arguments.extend(options);
        arguments.push(file.to_str().unwrap());
        let Some(path) = run("losetup", &arguments) else {
            println!("skipped: no loop device can be made (root?)");
            return None;
        };
        Some(Self { folder, path: path.into() })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("card")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).output();
        let _ = Command::new("losetup").arg("-d").arg(&self.path).output();
    }
}

fn host() -> Host {
    Host { allow_loop: true, ..Host::default() }
}

/// An image that begins with a partition table; no two sectors of it are equal.
fn image(bytes: usize) -> Vec<u8> {
    let mut image: Vec<u8> = (0..bytes as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 & 0x1f)
        .collect();
    for (i, sector) in image.chunks_exact_mut(512).enumerate() {
        sector[..8].copy_from_slice(&(i as u64).to_le_bytes());
    }
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

/// The image in a file, packed by a program if one is named.
fn file_of(image: &[u8], packed: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card.img");
    fs::write(&path, image).unwrap();
    if packed.is_empty() {
        return Some((folder, path));
    }
    let packed_path = folder.path().join("packed");
    let output = Command::new(packed).args(["-1", "-c"]).arg(&path).output().ok()?;
    fs::write(&packed_path, output.stdout).unwrap();
    Some((folder, packed_path))
}

fn write(target: &Target, path: &Path, expected: Option<&Expected>) -> Result<Written, FlashError> {
    let image = Unpacker::open(path)?;
    target.write(path, image, expected, &mut |_| (), &AtomicBool::new(false))
}

fn refused(path: &Path, host: &Host, shown: Option<&Disk>, needs: u64) -> String {
    match Target::open(path, host, shown, needs) {
        Err(FlashError::Refused(refusal)) => format!("{refusal:?}"),
        Err(FlashError::Open { source, .. }) => format!("Open {source}"),
        other => panic!("{} is taken: {other:?}", path.display()),
    }
}

#[test]
fn an_image_arrives_whole_whatever_it_is_packed_in() {
    let image = image(9 << 20);
    for packed in ["", "gzip", "xz", "zstd"] {
        let Some(card) = Loop::new(CARD, &[]) else { return };
        let Some((_folder, path)) = file_of(&image, packed) else { continue };
        let target = Target::open(&card.path, &host(), None, 9 << 20).unwrap();
        let (mut last, stop) = (0, AtomicBool::new(false));
        let mut progress = |p: Progress| {
            assert!(p.done <= p.total);
            last = last.max(p.card);
        };
        let opened = Unpacker::open(&path).unwrap();
        let written = target.write(&path, opened, None, &mut progress, &stop).unwrap();
        assert_eq!(written.bytes, 9 << 20);
        assert_eq!(written.sha256, <[u8; 32]>::from(Sha256::digest(&image)));
        assert!(
            card.bytes()[..FIRST].iter().all(|b| *b == 0),
            "it could boot before it is verified"
        );
        target.verify(&written, &mut progress, &stop).unwrap();
        assert!(last > 4 << 20);
        assert!(card.bytes()[..9 << 20] == image, "{packed}");
    }
}

#[test]
fn an_image_whose_length_is_no_multiple_of_anything_arrives() {
    for bytes in [512, 4097, FIRST - 512, FIRST, FIRST + 512, FIRST + 5120 + 3] {
        let Some(card) = Loop::new(CARD, &[]) else { return };
        let image = image(bytes);
        let (_folder, path) = file_of(&image, "").unwrap();
        let target = Target::open(&card.path, &host(), None, 0).unwrap();
        let written = write(&target, &path, None).unwrap();
        target.verify(&written, &mut |_| (), &AtomicBool::new(false)).unwrap();
        assert!(card.bytes()[..bytes] == image, "{bytes}");
    }
}

#[test]
fn a_flipped_bit_is_found_and_the_card_does_not_boot() {
    let image = image(9 << 20);
    let (_folder, path) = file_of(&image, "").unwrap();
    for at in [FIRST as u64, 5 << 20, (9 << 20) - 1] {
        let Some(card) = Loop::new(CARD, &[]) else { return };
        let target = Target::open(&card.path, &host(), None, 0).unwrap();
        let written = write(&target, &path, None).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(card.file()).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        file.sync_all().unwrap();
        let error = target.verify(&written, &mut |_| (), &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, FlashError::Differs { .. }), "{at}: {error}");
        assert!(card.bytes()[..FIRST].iter().all(|b| *b == 0), "{at}");
    }
}

#[test]
fn stopped_anywhere_the_first_mib_is_zero() {
    let image = image(17 << 20);
    let (_folder, path) = file_of(&image, "").unwrap();
    for after in 0..9 {
        let Some(card) = Loop::new(CARD, &[]) else { return };
        fs::write(card.file(), vec![0xee; CARD as usize]).unwrap();
        let target = Target::open(&card.path, &host(), None, 0).unwrap();
        let stop = AtomicBool::new(after == 0);
        let mut calls = 0;
        let mut progress = |_: Progress| {
            calls += 1;
            stop.store(calls >= after, Ordering::Relaxed);
        };
        let opened = Unpacker::open(&path).unwrap();
        let result = target
            .write(&path, opened, None, &mut progress, &stop)
            .and_then(|written| target.verify(&written, &mut progress, &stop));
        assert!(matches!(result, Err(FlashError::Stopped)), "{after}: {result:?}");
        drop(target);
        assert!(card.bytes()[..FIRST].iter().all(|b| *b == 0), "{after}");
    }
}

#[test]
fn a_damaged_archive_is_found_before_the_first_mib_is_written() {
    let image = image(9 << 20);
    for packed in ["gzip", "xz", "zstd"] {
        let Some((_folder, path)) = file_of(&image, packed) else { continue };
        let whole = fs::read(&path).unwrap();
        for damage in 0..3 {
            let Some(card) = Loop::new(CARD, &[]) else { return };
            let mut bytes = whole.clone();
            match damage {
                0 => bytes.truncate(whole.len() * 2 / 3),
                1 => bytes.truncate(whole.len() - 3),
                _ => bytes[whole.len() / 2] ^= 1,
            }
            fs::write(&path, &bytes).unwrap();
            let target = Target::open(&card.path, &host(), None, 0).unwrap();
            let error = write(&target, &path, None).unwrap_err();
            assert!(matches!(error, FlashError::Image(_)), "{packed} {damage}: {error}");
            drop(target);
            assert!(card.bytes()[..FIRST].iter().all(|b| *b == 0), "{packed} {damage}");
        }
    }
}

#[test]
fn a_checksum_is_that_of_the_file_or_of_the_image() {
    let image = image(3 << 20);
    let Some((_folder, path)) = file_of(&image, "xz") else { return };
    let Some(card) = Loop::new(CARD, &[]) else { return };
    let target = Target::open(&card.path, &host(), None, 0).unwrap();
    let file = fs::read(&path).unwrap();
    for (sha256, good) in [
        (Sha256::digest(&image).into(), true),
        (Sha256::digest(&file).into(), true),
        ([7; 32], false),
    ] {
        let expected = Expected { sha256, from: "SHA256SUMS".to_owned() };
        let result = write(&target, &path, Some(&expected));
        assert_eq!(result.is_ok(), good);
        if let Err(error) = result {
            assert!(error.to_string().contains("SHA256SUMS"), "{error}");
        }
    }
}

#[test]
fn what_is_no_image_or_too_large_touches_nothing() {
    let Some(card) = Loop::new(CARD, &[]) else { return };
    fs::write(card.file(), vec![0xee; CARD as usize]).unwrap();
    let target = Target::open(&card.path, &host(), None, 0).unwrap();
    for bytes in [vec![], b"hello".to_vec(), vec![0; 1 << 20]] {
        let (_folder, path) = file_of(&bytes, "").unwrap();
        assert!(matches!(write(&target, &path, None), Err(FlashError::NoImage { .. })));
    }
    let large = image(CARD as usize + 512);
    for packed in ["", "xz"] {
        let Some((_folder, path)) = file_of(&large, packed) else { continue };
        let error = write(&target, &path, None).unwrap_err();
        assert!(
            matches!(error, FlashError::Refused(Refusal::TooSmall { .. })),
            "{packed}: {error}"
        );
    }
    assert!(card.bytes().iter().all(|b| *b == 0xee), "something was written");
}

/// gzip states no length: found while it is written.
#[test]
fn an_image_that_turns_out_too_large_does_not_boot() {
    let Some(card) = Loop::new(CARD, &[]) else { return };
    let Some((_folder, path)) = file_of(&image(CARD as usize + 512), "gzip") else { return };
    let target = Target::open(&card.path, &host(), None, 0).unwrap();
    assert!(matches!(write(&target, &path, None), Err(FlashError::TooLarge { .. })));
    assert!(card.bytes()[..FIRST].iter().all(|b| *b == 0));
}

#[test]
fn paths_that_are_no_disks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in
        [file.as_path(), &link, folder.path(), Path::new("/dev/null"), Path::new("/dev/tty")]
    {
        assert!(refused(path, &host(), None, 0).starts_with("NotBlock"), "{}", path.display());
    }
    let dangling = folder.path().join("dangling");
    std::os::unix::fs::symlink("/dev/nothing", &dangling).unwrap();
    for path in [Path::new("/dev/no-such-card"), &dangling] {
        assert!(refused(path, &host(), None, 0).starts_with("Unknown"), "{}", path.display());
    }
}

#[test]
fn loop_devices_are_refused_for_what_a_card_would_be() {
    let needs = 8 << 20;
    // Without the switch for tests.
    let Some(card) = Loop::new(CARD, &[]) else { return };
    assert!(refused(&card.path, &Host::default(), None, needs).starts_with("Virtual"));
    // A symbolic link to a device is followed to the disk itself.
    let link = card.folder.path().join("by-id");
    std::os::unix::fs::symlink(&card.path, &link).unwrap();
    assert!(refused(&link, &Host::default(), None, needs).starts_with("Virtual"));
    Target::open(&link, &host(), None, needs).unwrap();
    // Too small by a byte.
    assert!(refused(&card.path, &host(), None, CARD + 1).starts_with("TooSmall"));
    // Open for somebody else.
    let other = Target::open(&card.path, &host(), None, needs).unwrap();
    assert!(refused(&card.path, &host(), None, needs).starts_with("Open"));
    drop(other);
    // Another number, another length, another sequence than shown.
    let shown = identify(&card.path, &host()).unwrap();
    Target::open(&card.path, &host(), Some(&shown), needs).unwrap();
    let mut another = shown.clone();
    another.identity.bytes += 512;
    assert!(refused(&card.path, &host(), Some(&another), needs).starts_with("Changed"));
    another = shown.clone();
    another.identity.number = "7:200".to_owned();
    assert!(refused(&card.path, &host(), Some(&another), needs).starts_with("Changed"));
    another = shown.clone();
    another.identity.serial = Some("0x1".to_owned());
    assert!(refused(&card.path, &host(), Some(&another), needs).starts_with("Changed"));
    // It has grown.
    File::options().write(true).open(card.file()).unwrap().set_len(CARD + (1 << 20)).unwrap();
    run("losetup", &["-c", card.path.to_str().unwrap()]).unwrap();
    assert!(refused(&card.path, &host(), Some(&shown), needs).starts_with("Changed"));
    // Read-only.
    let Some(card) = Loop::new(CARD, &["-r"]) else { return };
    assert!(refused(&card.path, &host(), None, needs).starts_with("ReadOnly"));
    // Nothing in it.
    let Some(card) = Loop::new(0, &[]) else { return };
    assert!(refused(&card.path, &host(), None, 0).starts_with("Empty"));
}

#[test]
fn a_medium_that_was_changed_is_refused() {
    let Some(card) = Loop::new(CARD, &[]) else { return };
    let shown = identify(&card.path, &host()).unwrap();
    if shown.identity.sequence.is_none() {
        return println!("skipped: this kernel does not count media");
    }
    let path = card.path.to_str().unwrap();
    run("losetup", &["-d", path]).unwrap();
    if run("losetup", &[path, card.file().to_str().unwrap()]).is_none() {
        return println!("skipped: somebody else took the loop device");
    }
    assert!(refused(&card.path, &host(), Some(&shown), 0).starts_with("Changed"));
}

#[test]
fn mounted_disks_are_refused() {
    let Some(card) = Loop::new(CARD, &[]) else { return };
    let path = card.path.to_str().unwrap();
    let on = card.folder.path().join("on");
    fs::create_dir(&on).unwrap();
    if run("mkfs.ext4", &["-q", path]).is_none()
        || run("mount", &[path, on.to_str().unwrap()]).is_none()
    {
        return println!("skipped: cannot mount");
    }
    let said = refused(&card.path, &host(), None, 0);
    assert!(said.starts_with("Mounted") && said.contains("/on"), "{said}");
    run("umount", &[path]).unwrap();
    Target::open(&card.path, &host(), None, 0).unwrap();
}

#[test]
fn partitions_and_disks_with_a_mounted_partition_are_refused() {
    let Some(card) = Loop::new(CARD, &[]) else { return };
    let path = card.path.to_str().unwrap().to_owned();
    let mut table = vec![0u8; 512];
    table[446 + 4] = 0x83;
    table[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    table[446 + 12..446 + 16].copy_from_slice(&32768u32.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    fs::OpenOptions::new().write(true).open(card.file()).unwrap().write_all_at(&table, 0).unwrap();
    run("losetup", &["-d", &path]).unwrap();
    let file = card.file();
    if run("losetup", &["-P", &path, file.to_str().unwrap()]).is_none() {
        return println!("skipped: somebody else took the loop device");
    }
    let name = format!("{}p1", path.trim_start_matches("/dev/"));
    let loop_name = path.trim_start_matches("/dev/");
    let Ok(number) = fs::read_to_string(format!("/sys/block/{loop_name}/{name}/dev")) else {
        return println!("skipped: this kernel makes no partitions on loop devices");
    };
    // A node of our own: there may be no udev here.
    let node = card.folder.path().join("part");
    let (major, minor) = number.trim().split_once(':').unwrap();
    run("mknod", &[node.to_str().unwrap(), "b", major, minor]).unwrap();
    assert!(refused(&node, &host(), None, 0).starts_with("Partition"));
    let on = card.folder.path().join("on");
    fs::create_dir(&on).unwrap();
    run("mkfs.ext4", &["-q", node.to_str().unwrap()]).unwrap();
    run("mount", &[node.to_str().unwrap(), on.to_str().unwrap()]).unwrap();
    let said = refused(&card.path, &host(), None, 0);
    run("umount", &[on.to_str().unwrap()]).unwrap();
    assert!(said.starts_with("Mounted"), "{said}");
}

#[test]
fn a_disk_held_by_the_device_mapper_is_refused() {
    let Some(card) = Loop::new(CARD, &[]) else { return };
    let name = format!("kinglet-{}", card.path.display().to_string().replace('/', "-"));
    let table = format!("0 2048 linear {} 0", card.path.display());
    if run("dmsetup", &["create", &name, "--table", &table]).is_none() {
        return println!("skipped: no device mapper");
    }
    let said = refused(&card.path, &host(), None, 0);
    let _ = run("dmsetup", &["remove", &name]);
    assert!(said.starts_with("Held"), "{said}");
}
