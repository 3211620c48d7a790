use super::*;

/// A tree as the kernel's, in which everything is a card until it is changed.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.put("sys/block/.keep", "");
        tree.put("proc/self/mountinfo", "22 1 259:2 / / rw shared:1 - ext4 /dev/nvme0n1p2 rw\n");
        tree.put("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        tree
    }

    fn host(&self) -> Host {
        Host { sys: self.0.path().join("sys"), proc: self.0.path().join("proc"), allow_loop: false }
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn set(&self, disk: &str, file: &str, text: &str) {
        self.put(&format!("sys/block/{disk}/{file}"), &format!("{text}\n"));
    }

    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }

    /// A reader with a card of 8 GB and one partition.
    fn card(&self, name: &str) {
        for (file, text) in [
            ("size", "15523840"),
            ("removable", "1"),
            ("ro", "0"),
            ("diskseq", "41"),
            ("device/vendor", "Generic "),
            ("device/model", "STORAGE DEVICE "),
            ("device/serial", "0x1234"),
        ] {
            self.set(name, file, text);
        }
        let minor = name.bytes().map(u32::from).sum::<u32>() % 200 * 16;
        self.set(name, "dev", &format!("8:{minor}"));
        fs::create_dir_all(self.0.path().join(format!("sys/block/{name}/holders"))).unwrap();
        let part = part_of(name);
        self.set(name, &format!("{part}/partition"), "1");
        self.set(name, &format!("{part}/dev"), &format!("8:{}", minor + 1));
    }

    fn number(&self, name: &str) -> String {
        read(&self.0.path().join("sys/block").join(name).join("dev")).unwrap()
    }

    fn refusal(&self, name: &str) -> Refusal {
        let host = self.host();
        let listed = host.cards().unwrap();
        assert!(listed.iter().all(|d| d.name != name), "{name} is listed");
        match host.disk(name) {
            Ok(disk) => host.check(&disk, 4 << 30).unwrap_err(),
            Err(refusal) => refusal,
        }
    }
}

fn part_of(name: &str) -> String {
    format!("{name}{}1", if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" })
}

#[test]
fn cards_are_listed_with_model_and_size() {
    let tree = Tree::new();
    tree.card("sdb");
    tree.card("mmcblk0");
    tree.set("mmcblk0", "removable", "0");
    tree.set("mmcblk0", "device/type", "SD");
    tree.set("mmcblk0", "device/name", "SU08G");
    tree.remove("sys/block/mmcblk0/device/model");
    tree.remove("sys/block/mmcblk0/device/vendor");
    tree.card("sda");
    tree.set("sda", "removable", "0");
    let cards = tree.host().cards().unwrap();
    let shown: Vec<_> = cards.iter().map(|d| (d.name.as_str(), d.model.as_str())).collect();
    assert_eq!(shown, [("mmcblk0", "SU08G"), ("sdb", "Generic STORAGE DEVICE")]);
    assert_eq!(cards[0].identity.bytes, 15_523_840 * 512);
    tree.host().check(&cards[0], cards[0].identity.bytes).unwrap();
}

#[test]
fn a_disk_on_usb_that_calls_itself_fixed_is_listed() {
    let tree = Tree::new();
    tree.card("sdc");
    tree.set("sdc", "removable", "0");
    let real = tree.0.path().join("sys/devices/pci0000:00/usb2/2-1/host6/block");
    fs::create_dir_all(&real).unwrap();
    fs::rename(tree.0.path().join("sys/block/sdc"), real.join("sdc")).unwrap();
    std::os::unix::fs::symlink(real.join("sdc"), tree.0.path().join("sys/block/sdc")).unwrap();
    assert_eq!(tree.host().cards().unwrap().len(), 1);
}

/// Each line: what is wrong, and how the refusal begins.
#[test]
fn whatever_is_no_card_is_refused() {
    type Case = (&'static str, &'static str, fn(&Tree), &'static str);
    let cases: [Case; 33] = [
        ("built-in disk", "sda", |t| t.set("sda", "removable", "0"), "BuiltIn"),
        ("NVMe", "nvme0n1", |t| t.set("nvme0n1", "removable", "0"), "BuiltIn"),
        ("removable unreadable", "sda", |t| t.remove("sys/block/sda/removable"), "BuiltIn"),
        ("virtio", "vda", |t| t.set("vda", "removable", "0"), "BuiltIn"),
        (
            "eMMC",
            "mmcblk1",
            |t| {
                t.set("mmcblk1", "removable", "0");
                t.set("mmcblk1", "device/type", "MMC")
            },
            "BuiltIn",
        ),
        ("eMMC boot area", "mmcblk1boot0", |_| (), "HiddenArea"),
        ("eMMC replay-protected memory", "mmcblk1rpmb", |_| (), "HiddenArea"),
        ("loop", "loop0", |_| (), "Virtual"),
        ("RAM disk", "ram0", |_| (), "Virtual"),
        ("compressed RAM", "zram0", |_| (), "Virtual"),
        ("device mapper", "dm-0", |_| (), "Virtual"),
        ("RAID", "md127", |_| (), "Virtual"),
        ("network", "nbd0", |_| (), "Virtual"),
        ("optical", "sr0", |_| (), "Virtual"),
        ("made of others", "sdb", |t| t.set("sdb", "slaves/sdc", ""), "Virtual"),
        ("no medium", "sdb", |t| t.set("sdb", "size", "0"), "Empty"),
        ("size is no number", "sdb", |t| t.set("sdb", "size", "many"), "Unclear"),
        ("number missing", "sdb", |t| t.remove("sys/block/sdb/dev"), "Unclear"),
        ("switch on the card", "sdb", |t| t.set("sdb", "ro", "1"), "ReadOnly"),
        ("writable unreadable", "sdb", |t| t.remove("sys/block/sdb/ro"), "ReadOnly"),
        (
            "disk mounted",
            "sdb",
            |t| mount(t, &t.number("sdb"), "/media/card", "/dev/sdb"),
            "Mounted",
        ),
        (
            "partition mounted",
            "sdb",
            |t| mount(t, &number_of_part(t), "/media/card", "/dev/sdb1"),
            "Mounted",
        ),
        ("the system's root", "sdb", |t| mount(t, &number_of_part(t), "/", "/dev/root"), "Mounted"),
        ("btrfs over several", "sdb", |t| mount(t, "0:45", "/media/big", "/dev/sdb1"), "Mounted"),
        (
            "mounted elsewhere twice",
            "sdb",
            |t| {
                mount(t, "0:5", "/x", "tmpfs");
                mount(t, &number_of_part(t), "/a\\040b", "x")
            },
            "Mounted",
        ),
        (
            "disk is swap",
            "sdb",
            |t| t.put("proc/swaps", "Filename\n/dev/sdb partition 1 0 -2\n"),
            "Swap",
        ),
        (
            "partition is swap",
            "sdb",
            |t| t.put("proc/swaps", "Filename\n/dev/sdb1 partition 1 0 -2\n"),
            "Swap",
        ),
        ("disk held by LVM", "sdb", |t| t.set("sdb", "holders/dm-3", ""), "Held"),
        ("partition held by LVM", "sdb", |t| t.set("sdb", "sdb1/holders/dm-3", ""), "Held"),
        ("partition held by RAID", "sdb", |t| t.set("sdb", "sdb1/holders/md0", ""), "Held"),
        ("no mount table", "sdb", |t| t.remove("proc/self/mountinfo"), "Unclear"),
        ("partition without number", "sdb", |t| t.remove("sys/block/sdb/sdb1/dev"), "Unclear"),
        ("partition", "sdb1", |t| t.card("sdb"), "Partition"),
    ];
    for (what, name, change, refusal) in cases {
        let tree = Tree::new();
        if name != "sdb1" {
            tree.card(name);
        }
        change(&tree);
        let got = tree.refusal(name);
        assert!(format!("{got:?}").starts_with(refusal), "{what}: {got:?}");
        assert!(got.to_string().len() > 20, "{what}: {got}");
    }
}

fn mount(tree: &Tree, number: &str, on: &str, source: &str) {
    let path = tree.0.path().join("proc/self/mountinfo");
    let before = fs::read_to_string(path).unwrap();
    let line = format!("90 22 {number} / {on} rw,relatime shared:7 - vfat {source} rw\n");
    tree.put("proc/self/mountinfo", &(before + &line));
}

fn number_of_part(tree: &Tree) -> String {
    read(&tree.0.path().join("sys/block/sdb/sdb1/dev")).unwrap()
}

#[test]
fn names_that_are_none_are_refused() {
    let tree = Tree::new();
    tree.card("sdb");
    for name in ["", ".", "..", "../block/sdb", "sdb/sdb1", "sdz", "/dev/sdb"] {
        assert!(matches!(tree.host().disk(name), Err(Refusal::Unknown(_))), "{name}");
    }
    assert!(matches!(tree.host().by_number(8, 9999, "/dev/x"), Err(Refusal::Unknown(_))));
}

#[test]
fn too_small_by_a_sector_is_refused() {
    let tree = Tree::new();
    tree.card("sdb");
    let disk = tree.host().disk("sdb").unwrap();
    let needs = disk.identity.bytes + 1;
    assert!(matches!(tree.host().check(&disk, needs), Err(Refusal::TooSmall { .. })));
}

#[test]
fn another_disk_in_the_same_place_is_refused() {
    let changes: [(&str, &str); 7] = [
        ("size", "15523841"),
        ("size", "0"),
        ("device/serial", "0x1235"),
        ("diskseq", "42"),
        ("device/model", "OTHER"),
        ("dev", "8:240"),
        ("device/cid", "03534453"),
    ];
    for (file, text) in changes {
        let tree = Tree::new();
        tree.card("sdb");
        let shown = tree.host().disk("sdb").unwrap();
        tree.host().disk("sdb").unwrap().same_as(&shown).unwrap();
        tree.set("sdb", file, text);
        let refusal = tree.host().disk("sdb").unwrap().same_as(&shown).unwrap_err();
        assert!(matches!(refusal, Refusal::Changed { .. }), "{file}: {refusal}");
    }
}
