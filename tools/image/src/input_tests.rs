use super::*;

#[test]
fn programs_for_other_machines_are_refused() {
    let path = Path::new("kinglet");
    assert!(check_program(path, b"#!/bin/sh\n").is_err());
    let mut elf = vec![0; 2000];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 0x3e;
    assert!(check_program(path, &elf).unwrap_err().to_string().contains("aarch64"));
    elf[18] = 0xb7;
    check_program(path, &elf).unwrap();
    elf[32] = 64;
    elf[54] = 56;
    elf[56] = 1;
    elf[64] = 3;
    assert!(check_program(path, &elf).unwrap_err().to_string().contains("libraries"));
    // A table beyond the end.
    elf[38] = 255;
    elf[56..58].copy_from_slice(&[255, 255]);
    check_program(path, &elf).unwrap();
}

#[test]
fn names_and_keys_are_checked() {
    for good in ["kinglet", "a", "porch-2"] {
        hostname(good).unwrap();
    }
    for bad in ["", "-a", "a-", "a b", "a\nb", "ä", "a.b", &"a".repeat(64)] {
        assert!(hostname(bad).is_err(), "{bad}");
    }
    let body = "A".repeat(68);
    ssh_key(&format!("ssh-ed25519 {body} me@here")).unwrap();
    for bad in [
        "",
        "ssh-ed25519",
        "command=\"x\" ssh-rsa",
        &format!("ssh-ed25519 {body}\nssh-rsa"),
        &format!("ssh-dss {body}"),
    ] {
        assert!(ssh_key(bad).is_err(), "{bad}");
    }
}
