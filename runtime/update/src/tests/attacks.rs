//! What is sent by somebody who means harm: each is refused before anything of it is used.

use minisign::KeyPair;

use super::support::{adopt, comment, install, pair, payload, runs, sent, sign, stream};
use crate::files::simulated::Simulated;
use crate::{Files as _, Install, Kind, Track};

/// A name, and what is sent.
type Attack = (&'static str, Vec<u8>);

/// The signature of release 12 with a line changed.
fn line(number: usize, change: impl Fn(&str) -> String) -> Vec<u8> {
    let text = String::from_utf8(signature()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[number] = change(&lines[number]);
    (lines.join("\n") + "\n").into_bytes()
}

fn signature() -> Vec<u8> {
    sign(pair(), &payload(12), &comment(12))
}

/// The bytes behind a line of base64, changed.
fn bytes(line: &str, change: impl Fn(&mut Vec<u8>)) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |c: u8| DIGITS.iter().position(|d| *d == c).unwrap() as u32;
    let plain = line.trim_end_matches('=');
    let mut out = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for c in plain.bytes() {
        (bits, held) = ((bits << 6 | digit(c)) & 0xffff, held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    change(&mut out);
    let mut text = String::new();
    for three in out.chunks(3) {
        let word = three.iter().fold(0, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let there = i <= three.len();
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
            text.push(if there { digit } else { '=' });
        }
    }
    text
}

/// A signature's scalar with the group's order added: the same equation, other bytes.
fn other_scalar(signature: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let scalar = signature.len() - 32;
    let mut carry = 0;
    for (byte, order) in signature[scalar..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
}

fn headers() -> Vec<Attack> {
    let whole = sent(12);
    let (text, file) = (signature(), payload(12));
    let with = |header: &str| [header.as_bytes(), &text, &file].concat();
    let lengths = |signature: usize, file: usize| with(&format!("{signature:08}{file:012}"));
    vec![
        ("nothing at all", Vec::new()),
        ("half a header", whole[..10].to_vec()),
        ("a header alone", whole[..20].to_vec()),
        ("a header of letters", with("model...12..........")),
        ("a header of signs", with("+0000312-00000001500")),
        ("a header of zero bytes", with(&"\0".repeat(20))),
        ("a header in hexadecimal", with("0000013f0000000005dc")),
        ("a signature of no bytes", lengths(0, file.len())),
        ("a signature over the limit", lengths(4097, file.len())),
        ("a signature of 99 MB", lengths(99_999_999, file.len())),
        ("a file of no bytes", lengths(text.len(), 0)),
        ("a file of a terabyte", lengths(text.len(), 999_999_999_999)),
        ("a file one byte over the limit", lengths(text.len(), (1 << 30) + 1)),
        ("a file one byte longer than sent", lengths(text.len(), file.len() + 1)),
        ("a file one byte shorter than sent", lengths(text.len(), file.len() - 1)),
        ("a signature one byte longer", lengths(text.len() + 1, file.len() - 1)),
        ("a signature one byte shorter", lengths(text.len() - 1, file.len() + 1)),
        ("cut in the signature", whole[..100].to_vec()),
        ("cut behind the signature", whole[..20 + text.len()].to_vec()),
        ("cut in the file", whole[..whole.len() - 1].to_vec()),
        ("a byte more", [&whole[..], b"x"].concat()),
        ("a second release behind it", [whole.clone(), sent(13)].concat()),
        ("file and signature exchanged", stream(&file, &text)),
    ]
}

fn files() -> Vec<Attack> {
    let (text, file) = (signature(), payload(12));
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        change(&mut file);
        stream(&text, &file)
    };
    vec![
        ("the first bit flipped", changed(&|f| f[0] ^= 1)),
        ("the last bit flipped", changed(&|f| *f.last_mut().unwrap() ^= 0x80)),
        ("two bytes exchanged", changed(&|f| f.swap(10, 900))),
        ("truncated", changed(&|f| f.truncate(1000))),
        ("extended", changed(&|f| f.extend([0; 64]))),
        ("zeros of the same length", changed(&|f| f.fill(0))),
        ("another release's file", stream(&text, &payload(1))),
        ("another release's signature", stream(&sign(pair(), &payload(13), &comment(12)), &file)),
        ("the signature of an empty file", stream(&sign(pair(), b"", &comment(12)), &file)),
        ("the hash of the file signed", {
            let hash = blake(&file);
            stream(&sign(pair(), &hash, &comment(12)), &file)
        }),
    ]
}

/// Something of 64 bytes that is derived from the file.
fn blake(file: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha512::digest(file).to_vec()
}

fn signatures() -> Vec<Attack> {
    let file = payload(12);
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    let foreign = String::from_utf8(sign(&other, &file, &comment(12))).unwrap();
    let ours = String::from_utf8(signature()).unwrap();
    let row = |text: &str, number: usize| text.lines().nth(number).unwrap().to_owned();
    // Their signature with the number of our key on it.
    let number = std::cell::RefCell::new(Vec::new());
    bytes(&row(&ours, 1), |b| number.borrow_mut().extend_from_slice(&b[2..10]));
    let posing = bytes(&row(&foreign, 1), |b| b[2..10].copy_from_slice(&number.borrow()));
    let posing = foreign.replace(&row(&foreign, 1), &posing);
    let older = String::from_utf8(sign(pair(), &payload(1), &comment(1))).unwrap();
    let raw = |number, change: &dyn Fn(&mut Vec<u8>)| line(number, |l| bytes(l, change));
    let all: Vec<(&'static str, Vec<u8>)> = vec![
        ("another key's", foreign.clone().into_bytes()),
        ("another key's with our number", posing.into_bytes()),
        ("our key's number changed", raw(1, &|b| b[2] ^= 1)),
        ("of zeros", raw(1, &|b| b[10..].fill(0))),
        ("a scalar beyond the group's order", raw(1, &|b| other_scalar(b))),
        ("a global scalar beyond the group's order", raw(3, &|b| other_scalar(b))),
        ("minisign's old form claimed", raw(1, &|b| b[1] = b'd')),
        ("a form that there is not", raw(1, &|b| b[0] = b'X')),
        ("a byte short", raw(1, &|b| b.truncate(73))),
        ("a byte long", raw(1, &|b| b.push(0))),
        ("no global signature", raw(3, &|b| b.fill(0))),
        ("the global signature of another", line(3, |_| row(&older, 3))),
        ("the first signature as the global one", {
            let first = std::cell::RefCell::new(Vec::new());
            bytes(&row(&ours, 1), |b| first.borrow_mut().extend_from_slice(&b[10..]));
            raw(3, &|b| b.clone_from(&first.borrow()))
        }),
        ("a higher number written in", line(2, |l| l.replace("release=12", "release=99"))),
        ("a kind written in", line(2, |l| l.replace("kind=model", "kind=app"))),
        ("a name written in", line(2, |l| l.replace("name=test.onnx", "name=evil.onnx"))),
        ("a space behind the comment", line(2, |l| format!("{l} "))),
        ("another's comment", line(2, |_| row(&older, 2))),
        ("no trusted comment", line(2, |_| String::new())),
        ("a comment that is not called trusted", line(2, |l| l.replace("trusted", "Trusted"))),
        ("no untrusted comment", line(0, |_| String::new())),
        ("carriage returns", ours.replace('\n', "\r\n").into_bytes()),
        ("a fifth line", format!("{ours}more\n").into_bytes()),
        ("three lines", ours.lines().take(3).map(|l| format!("{l}\n")).collect::<String>().into()),
        ("an empty line before", format!("\n{ours}").into_bytes()),
        ("a byte order mark", format!("\u{feff}{ours}").into_bytes()),
        ("a space in the base64", line(1, |l| format!("{} {}", &l[..50], &l[50..]))),
        ("garbage behind the base64", line(1, |l| format!("{l}AAAA"))),
        ("no padding", line(1, |l| l.trim_end_matches('=').to_owned())),
        ("letters of another base64", line(3, |l| format!("-_{}", &l[2..]))),
        ("no text", [&[0xff, 0xfe][..], ours.as_bytes()].concat()),
        ("a zero byte in a comment", line(0, |l| format!("{l}\0"))),
        ("a comment of 5000 bytes", line(0, |l| l.to_owned() + &"x".repeat(5000))),
    ];
    all.into_iter().map(|(name, text)| (name, stream(&text, &file))).collect()
}

/// Rightly signed, by a key that should not have.
fn comments() -> Vec<Attack> {
    let file = payload(12);
    let long = format!("kinglet kind=model release=12 name={}", "x".repeat(65));
    [
        ("minisign's usual comment", "timestamp:1633700835\tfile:test\tprehashed"),
        ("an empty comment", ""),
        ("signed as a program", "kinglet kind=app release=12 name=x"),
        ("signed as something else", "kinglet kind=firmware release=12 name=x"),
        ("of another product", "wren kind=model release=12 name=x"),
        ("number zero", "kinglet kind=model release=0 name=x"),
        ("a number beyond all", "kinglet kind=model release=1000000000000000 name=x"),
        ("a number that overflows", "kinglet kind=model release=18446744073709551628 name=x"),
        ("a negative number", "kinglet kind=model release=-12 name=x"),
        ("a number with zeros before", "kinglet kind=model release=0012 name=x"),
        ("digits of another script", "kinglet kind=model release=１２ name=x"),
        ("two numbers", "kinglet kind=model release=12 release=1 name=x"),
        ("a name that climbs", "kinglet kind=model release=12 name=../../../etc/passwd"),
        ("a name with a folder", "kinglet kind=model release=12 name=a/b"),
        ("an absolute name", "kinglet kind=model release=12 name=/etc/passwd"),
        ("a hidden name", "kinglet kind=model release=12 name=.profile"),
        ("the folder itself as a name", "kinglet kind=model release=12 name=.."),
        ("a name with a zero byte", "kinglet kind=model release=12 name=a\0.onnx"),
        ("a name that runs backwards", "kinglet kind=model release=12 name=a\u{202e}xnno"),
        ("a name with a command", "kinglet kind=model release=12 name=$(reboot)"),
        ("an overlong name", &long),
        ("an older release", "kinglet kind=model release=9 name=test.onnx"),
        ("the same number on other bytes", "kinglet kind=model release=10 name=test.onnx"),
    ]
    .map(|(name, comment)| (name, stream(&sign(pair(), &file, comment), &file)))
    .into()
}

#[test]
fn what_is_sent_is_refused_before_it_is_used() {
    let track = Track::new(Simulated::new(), Kind::Model);
    adopt(&track, &sent(10));
    let before = track.status().unwrap();
    let attacks = [headers(), files(), signatures(), comments()].concat();
    println!("{} attacks", attacks.len());
    assert!(attacks.len() >= 60);
    for (name, stream) in &attacks {
        let done = install(&track, stream, &Install::default());
        assert!(done.is_err(), "{name}: {done:?}");
        assert_eq!(runs(&track), payload(10), "{name}");
        assert_eq!(track.status().unwrap(), before, "{name}");
        for left in ["incoming", "model.onnx", "model.onnx.minisig"] {
            let left = track.files().open(&format!("model/staged/{left}")).unwrap();
            assert!(left.is_none(), "{name} leaves something");
        }
    }
    // An older release is let in on purpose alone.
    let older = comments().into_iter().find(|(name, _)| *name == "an older release").unwrap();
    let how = Install { allow_downgrade: true, ..Install::default() };
    install(&track, &older.1, &how).unwrap();
    adopt(&track, &sent(12));
}
