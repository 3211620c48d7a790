//! Ten thousand flipped bits.

use super::support::{adopt, comment, key, pair, payload, runs, sent, sign, stream};
use crate::files::simulated::{Random, Simulated};
use crate::{HEADER_BYTES, Install, Key, Kind, Release, Track};

/// Where the text of an untrusted comment is: nobody uses it, and nothing signs it.
fn comment_text(bytes: &[u8]) -> std::ops::Range<usize> {
    "untrusted comment: ".len()..bytes.iter().position(|b| *b == b'\n').unwrap()
}

#[test]
fn no_flipped_bit_of_signature_file_or_key_gets_through() {
    let track = Track::new(Simulated::new(), Kind::Model);
    adopt(&track, &sent(1));
    let (old, new) = (payload(1), payload(2));
    let signature = sign(pair(), &new, &comment(2));
    let public = pair().pk.to_box().unwrap().into_string().into_bytes();
    let parts = [&signature[..], &new[..], &public[..]];
    let free = [comment_text(&signature), 0..0, comment_text(&public)];
    let all: usize = parts.iter().map(|part| part.len() * 8).sum();
    let (mut random, mut flips, mut inside) = (Random(1), 0, [0; 3]);
    while flips < 10_000 {
        let mut bit = random.below(all);
        let part = (0..3).find(|i| {
            let here = bit < parts[*i].len() * 8;
            bit -= if here { 0 } else { parts[*i].len() * 8 };
            here
        });
        let part = part.unwrap();
        let mut changed = parts.map(<[u8]>::to_vec);
        changed[part][bit / 8] ^= 1 << (bit % 8);
        let key = std::str::from_utf8(&changed[2]).ok().and_then(|text| Key::parse(text).ok());
        let staged = key.map(|key| {
            let stream = stream(&changed[0], &changed[1]);
            track.stage(&key, &mut &*stream, &Install::default(), &mut |_, _| {})
        });
        if free[part].contains(&(bit / 8)) {
            // Refused, or the very release that was signed.
            if let Some(Ok(staged)) = staged {
                assert_eq!(staged.release, Release::parse(&comment(2)).unwrap());
                track.discard(staged).unwrap();
            }
            continue;
        }
        assert!(!matches!(staged, Some(Ok(_))), "bit {bit} of part {part}");
        (flips, inside[part]) = (flips + 1, inside[part] + 1);
    }
    println!("{flips} bits: {inside:?} of signature, file and key");
    assert_eq!(runs(&track), old);
    let whole = stream(&signature, &new);
    let staged = track.stage(key(), &mut &*whole, &Install::default(), &mut |_, _| {});
    assert!(staged.is_ok(), "unchanged it is taken");
}

#[test]
fn no_flipped_bit_of_a_header_lets_anything_else_through() {
    let track = Track::new(Simulated::new(), Kind::Model);
    let whole = sent(2);
    for bit in 0..HEADER_BYTES * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let staged = track.stage(key(), &mut &*changed, &Install::default(), &mut |_, _| {});
        assert!(staged.is_err(), "bit {bit}");
    }
}
