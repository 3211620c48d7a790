//! On images as Raspberry Pi publishes them in outline: MBR, a FAT32 boot partition with the files that matter.

use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;
use crate::mbr;

const BOOT: u64 = 8192;
const BOOT_BYTES: u64 = 96 << 20;
const HOSTILE: &str = "a'b\"c$(touch x)`y`\\;&|: #{}[]%s";

/// What the boot partitions of Raspberry Pi OS on Debian 12 and 13 have.
fn base(kind: &str) -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().unwrap();
    let file = image.as_file();
    let total = BOOT * 512 + BOOT_BYTES + (8 << 20);
    file.set_len(total).unwrap();
    let parts = [
        Partition { start: BOOT, sectors: BOOT_BYTES / 512, fat: true },
        Partition { start: BOOT + BOOT_BYTES / 512, sectors: (8 << 20) / 512, fat: false },
    ];
    file.write_all_at(&mbr::write(&parts, 0x1234_5678), 0).unwrap();
    let fat = Fat::format(file, BOOT * 512, BOOT_BYTES, "bootfs", 7).unwrap();
    let mut line = "console=serial0,115200 console=tty1 root=PARTUUID=12345678-02 rootfstype=ext4 fsck.repair=yes \
                    rootwait quiet"
        .to_owned();
    let mut config =
        "# For more options and information see http://rptl.io/configtxt\ndtparam=audio=on\n"
            .to_owned();
    match kind {
        "trixie" => {
            config += "auto_initramfs=1\n";
            fat.write("user-data", b"#cloud-config\n# examples\n").unwrap();
            fat.write("network-config", b"# examples\n").unwrap();
            fat.write("meta-data", b"instance-id: rpios-image\n").unwrap();
        }
        "bookworm" => {
            config += "auto_initramfs=1\n";
            line += " init=/usr/lib/raspberrypi-sys-mods/firstboot";
        }
        _ => line += " init=/usr/lib/raspi-config/init_resize.sh",
    }
    fat.write("cmdline.txt", (line + "\n").as_bytes()).unwrap();
    fat.write("config.txt", config.as_bytes()).unwrap();
    fat.write("issue.txt", b"Raspberry Pi reference 2025-11-24\n").unwrap();
    fat.write("kernel8.img", &vec![3; 4 << 20]).unwrap();
    fat.close().unwrap();
    image
}

fn program() -> Vec<u8> {
    let mut elf = vec![0; 2 << 20];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 0xb7;
    elf
}

struct Room(tempfile::TempDir, Options);

impl Room {
    fn new(base: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("kinglet"), program()).unwrap();
        fs::write(at("model.onnx"), vec![1; 1 << 20]).unwrap();
        let options = Options {
            base: base.to_owned(),
            program: at("kinglet"),
            model: at("model.onnx"),
            hostname: "porch".into(),
            user: Some("ann".into()),
            password: Some(HOSTILE.into()),
            ssh_keys: vec![format!("ssh-ed25519 {} ann's $(key)", "A".repeat(68))],
            time_zone: Some("Europe/Berlin".into()),
            wifi: Some(Wifi {
                ssid: HOSTILE.into(),
                passphrase: "correct horse".into(),
                country: "DE".into(),
                hidden: false,
            }),
            ..Options::default()
        };
        Self(folder, options)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn make(&self, name: &str) -> Result<PathBuf, CardError> {
        let out = self.out(name);
        plan(&self.1, &out, &|_, _| ())?.write()?;
        Ok(out)
    }
}

fn file(image: &Path, name: &str) -> Option<String> {
    let image = File::open(image).unwrap();
    let fat = Fat::open(&image, BOOT * 512, BOOT_BYTES).unwrap();
    fat.read(name, 8 << 20).unwrap().map(|b| String::from_utf8_lossy(&b).into_owned())
}

#[test]
fn debian_13_is_set_up_by_cloud_init() {
    let base = base("trixie");
    let room = Room::new(base.path());
    let out = room.make("card.img").unwrap();
    let data = file(&out, "user-data").unwrap();
    let body = data.strip_prefix("#cloud-config\n").unwrap();
    let all: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(all["hostname"], "porch");
    assert_eq!(all["users"][0]["name"], "ann");
    assert!(all["users"][0]["passwd"].as_str().unwrap().starts_with("$6$"));
    let network: serde_json::Value =
        serde_json::from_str(&file(&out, "network-config").unwrap()).unwrap();
    let point = &network["network"]["wifis"]["wlan0"]["access-points"][HOSTILE];
    assert_eq!(point["password"].as_str().unwrap().len(), 64);
    assert!(file(&out, "meta-data").unwrap().contains("kinglet-"));
    assert!(!file(&out, "cmdline.txt").unwrap().contains("systemd.run"));
    assert_eq!(file(&out, "kinglet").unwrap().len(), String::from_utf8_lossy(&program()).len());
    for secret in [HOSTILE, "correct horse"] {
        assert!(!data.contains(&secret.replace('"', "\\\"")), "a secret in the clear");
    }
    // cloud-init itself, where it is installed.
    let path = room.out("user-data");
    fs::write(&path, &data).unwrap();
    match Command::new("cloud-init").args(["schema", "--config-file"]).arg(&path).output() {
        Ok(output) => {
            let said =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains("Valid"), "{said}");
        }
        Err(_) => println!("skipped: no cloud-init"),
    }
}

#[test]
fn debian_12_and_11_are_set_up_by_a_script() {
    for (kind, folder) in [("bookworm", "/boot/firmware"), ("bullseye", "/boot")] {
        let base = base(kind);
        let room = Room::new(base.path());
        let out = room.make("card.img").unwrap();
        let line = file(&out, "cmdline.txt").unwrap();
        assert!(line.contains(&format!(" systemd.run={folder}/firstrun.sh ")), "{line}");
        assert!(line.contains(" init=/usr/lib/") && line.contains("regdom=DE"), "{line}");
        assert_eq!(line.lines().count(), 1);
        let script = file(&out, "firstrun.sh").unwrap();
        assert!(!script.contains("correct horse") && !script.contains(HOSTILE));
        assert!(file(&out, "user-data").is_none());
        let path = room.out("firstrun.sh");
        fs::write(&path, &script).unwrap();
        let checked = Command::new("sh").arg("-n").arg(&path).status().unwrap();
        assert!(checked.success());
        // The rest of the image is as it was.
        let (was, is) = (fs::read(base.path()).unwrap(), fs::read(&out).unwrap());
        assert!(was[..512] == is[..512] && was.len() == is.len());
        let root = (BOOT * 512 + BOOT_BYTES) as usize;
        assert!(was[root..] == is[root..]);
    }
}

/// A shell reads the assignments of the script and prints them as it understood them.
#[test]
fn no_value_breaks_out_of_its_quotes() {
    let long = "'".repeat(40);
    let values = [
        HOSTILE,
        "'",
        "''",
        "'; touch broken; '",
        "$(touch broken)",
        "`touch broken`",
        "\\",
        "\\'",
        "a\nb",
        "ä€",
        &long,
    ];
    let folder = tempfile::tempdir().unwrap();
    for value in values {
        let script = format!("x={}\nprintf %s \"$x\"", first_boot::quote(value));
        let output =
            Command::new("sh").args(["-c", &script]).current_dir(&folder).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), value);
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn the_same_options_give_the_same_bytes_from_every_packing() {
    let base = base("bookworm");
    let mut room = Room::new(base.path());
    let first = fs::read(room.make("a.img").unwrap()).unwrap();
    for program in ["gzip", "xz", "zstd"] {
        let packed = room.out("packed");
        let Ok(output) = Command::new(program).args(["-1", "-c"]).arg(base.path()).output() else {
            println!("skipped: no {program}");
            continue;
        };
        fs::write(&packed, output.stdout).unwrap();
        room.1.base = packed;
        assert!(fs::read(room.make("b.img").unwrap()).unwrap() == first, "{program}");
    }
}

#[test]
fn a_dry_run_tells_names_and_lengths_and_leaves_nothing() {
    let base = base("trixie");
    let room = Room::new(base.path());
    let before = fs::read_dir(room.0.path()).unwrap().count();
    let plan = plan(&room.1, &room.out("card.img"), &|_, _| ()).unwrap();
    let names: Vec<String> =
        plan.listing().map(|(name, bytes)| format!("{name} {bytes}")).collect();
    assert!(names.contains(&"kinglet-model.onnx 1048576".to_owned()), "{names:?}");
    assert_eq!(plan.mechanism(), Mechanism::CloudInit);
    drop(plan);
    assert_eq!(fs::read_dir(room.0.path()).unwrap().count(), before);
}

#[test]
fn values_that_cannot_be_are_refused() {
    let base = base("bookworm");
    type Change = fn(&mut Options);
    let changes: [(&str, Change); 13] = [
        ("host name", |o| o.hostname = "a b".into()),
        ("user", |o| o.user = Some("root".into())),
        ("user", |o| o.user = Some("Ann".into())),
        ("user", |o| o.user = Some("a:b".into())),
        ("user", |o| {
            o.password = None;
            o.ssh_keys.clear()
        }),
        ("--user", |o| o.user = None),
        ("password", |o| o.password = Some("a\nb".into())),
        ("SSH key", |o| o.ssh_keys = vec!["ssh-ed25519 short".into()]),
        ("time zone", |o| o.time_zone = Some("../../etc/shadow".into())),
        ("Wi-Fi", |o| o.wifi.as_mut().unwrap().ssid = "x".repeat(33)),
        ("Wi-Fi", |o| o.wifi.as_mut().unwrap().ssid = "a\nb".into()),
        ("passphrase", |o| o.wifi.as_mut().unwrap().passphrase = "short".into()),
        ("country", |o| o.wifi.as_mut().unwrap().country = "de".into()),
    ];
    for (said, change) in changes {
        let mut room = Room::new(base.path());
        change(&mut room.1);
        let error = room.make("card.img").unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn hostile_images_are_errors() {
    let base = base("bookworm");
    let whole = fs::read(base.path()).unwrap();
    let at = (BOOT * 512) as usize;
    type Change = fn(&mut Vec<u8>, usize);
    let changes: [(&str, Change); 9] = [
        ("partition table", |b, _| b[511] = 0),
        ("partition 1", |b, _| b[446 + 15] = 0x7f),
        ("partition 1", |b, _| b[446 + 8..446 + 12].fill(0)),
        ("partition 2", |b, _| b.truncate(b.len() - 4096)),
        ("overlap", |b, _| b[462 + 8..462 + 12].copy_from_slice(&9000u32.to_le_bytes())),
        ("no FAT partition", |b, _| b[446 + 4] = 0x83),
        ("boot partition", |b, at| b[at + 510] = 0),
        ("boot partition", |b, at| b[at + 13] = 3),
        ("boot partition", |b, at| b[at + 32..at + 36].fill(0xff)),
    ];
    for (said, change) in changes {
        let mut bytes = whole.clone();
        change(&mut bytes, at);
        fs::write(base.path(), &bytes).unwrap();
        let room = Room::new(base.path());
        let error = room.make("card.img").unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
        assert!(!room.out("card.img").exists());
    }
}

#[test]
fn boot_files_that_cannot_be_are_errors() {
    let long = vec![b'x'; 10 << 20];
    let cases: [(&str, &[u8]); 5] = [
        ("longer", &long),
        ("one line", b"a\nb\n"),
        ("one line", b""),
        ("already", b"root=x systemd.run=/boot/other.sh"),
        ("no text", b"\xff\xfe"),
    ];
    for (said, line) in cases {
        let base = base("bookworm");
        let fat = Fat::open(base.as_file(), BOOT * 512, BOOT_BYTES).unwrap();
        fat.write("cmdline.txt", line).unwrap();
        fat.close().unwrap();
        let error = Room::new(base.path()).make("card.img").unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn a_boot_partition_without_room_is_left_alone() {
    let base = base("bookworm");
    let fat = Fat::open(base.as_file(), BOOT * 512, BOOT_BYTES).unwrap();
    fat.write("full", &vec![1; 89 << 20]).unwrap();
    fat.close().unwrap();
    let error = Room::new(base.path()).make("card.img").unwrap_err().to_string();
    assert!(error.contains("bytes free"), "{error}");
}

/// The script as it would run on the board, in a real Debian:
/// `debootstrap --variant=minbase --include=systemd,sudo,openssh-server,tzdata bookworm ROOT` and
/// `KINGLET_CHROOT=ROOT cargo test --release -p kinglet-image chroot -- --ignored`, as root.
#[test]
#[ignore = "wants root and a Debian made by debootstrap"]
fn the_script_sets_up_a_real_debian_in_a_chroot() {
    let Some(root) = std::env::var_os("KINGLET_CHROOT").map(PathBuf::from) else {
        return println!("skipped: KINGLET_CHROOT names no folder");
    };
    let run = |command: &str| {
        let output =
            Command::new("chroot").arg(&root).args(["/bin/sh", "-c", command]).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.trim().to_owned())
    };
    let base = base("bookworm");
    let room = Room::new(base.path());
    let out = room.make("card.img").unwrap();
    let boot = root.join("boot/firmware");
    fs::create_dir_all(&boot).unwrap();
    fs::create_dir_all(root.join("etc/NetworkManager")).unwrap();
    // As Raspberry Pi OS comes: a first user, to be renamed.
    run("getent passwd 1000 || useradd -m -u 1000 pi");
    let image = File::open(&out).unwrap();
    let fat = Fat::open(&image, BOOT * 512, BOOT_BYTES).unwrap();
    let put = || {
        for name in [
            "kinglet",
            "kinglet-model.onnx",
            "kinglet.toml",
            "kinglet.service",
            "firstrun.sh",
            "cmdline.txt",
        ] {
            fs::write(boot.join(name), fat.read(name, 8 << 20).unwrap().unwrap()).unwrap();
        }
    };
    // Twice: a first boot that was cut off runs again.
    for _ in 0..2 {
        put();
        let (well, said) = run("sh /boot/firmware/firstrun.sh");
        assert!(well, "{said}");
    }
    assert_eq!(run("cat /etc/hostname").1, "porch");
    assert_eq!(run("readlink /etc/localtime").1, "/usr/share/zoneinfo/Europe/Berlin");
    assert!(run("getent passwd 1000").1.starts_with("ann:x:1000:"));
    let shadow = run("getent shadow ann").1;
    let hash = secret::crypt(HOSTILE, "ann", "porch").unwrap();
    assert_eq!(shadow.split(':').nth(1), Some(hash.as_str()));
    assert!(run("id -nG ann").1.contains("sudo"));
    assert!(run("cat /home/ann/.ssh/authorized_keys").1.ends_with("ann's $(key)"));
    assert_eq!(run("stat -c %a%U /home/ann/.ssh/authorized_keys").1, "600ann");
    assert_eq!(run("systemctl is-enabled kinglet.service ssh.service").1, "enabled\nenabled");
    assert_eq!(run("stat -c %a /usr/local/bin/kinglet").1, "755");
    assert_eq!(run("stat -c '%a %G %s' /etc/kinglet/token").1, "640 video 25");
    let wifi = run("cat /etc/NetworkManager/system-connections/kinglet.nmconnection").1;
    let bytes: String = HOSTILE.bytes().map(|b| format!("{b};")).collect();
    assert!(wifi.contains(&format!("ssid={bytes}\n")), "{wifi}");
    assert!(!boot.join("firstrun.sh").exists());
    let line = fs::read_to_string(boot.join("cmdline.txt")).unwrap();
    assert!(
        !line.contains("systemd") && line.contains("init=/usr/lib/raspberrypi-sys-mods/firstboot"),
        "{line}"
    );
    assert!(!root.join("x").exists() && !root.join("y").exists(), "a value was run");
}
