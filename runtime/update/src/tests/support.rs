//! Keys, releases, and what is expected of a store.

use std::io::Read as _;
use std::sync::OnceLock;

use minisign::KeyPair;

use crate::{Begun, Files, Header, Install, Installed, Key, Kind, Release, Track, UpdateError};

/// A pair that signs; the other is somebody else's.
pub(super) fn pair() -> &'static KeyPair {
    static PAIR: OnceLock<KeyPair> = OnceLock::new();
    PAIR.get_or_init(|| KeyPair::generate_unencrypted_keypair().unwrap())
}

/// The public key of a pair.
pub(super) fn key_of(pair: &KeyPair) -> Key {
    Key::parse(&pair.pk.to_box().unwrap().into_string()).unwrap()
}

/// The device's key.
pub(super) fn key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(|| key_of(pair()))
}

/// A file that no other release has a piece of.
pub(super) fn payload(number: u64) -> Vec<u8> {
    let word =
        |i: u64| (i.wrapping_mul(0x9e37_79b9) ^ number.wrapping_mul(0x85eb_ca6b)).to_le_bytes();
    let length = 1500 + 37 * (number % 11) as usize;
    (0..).flat_map(word).take(length).collect()
}

/// A signature with this trusted comment.
pub(super) fn sign(pair: &KeyPair, bytes: &[u8], comment: &str) -> Vec<u8> {
    let made = minisign::sign(None, &pair.sk, bytes, Some(comment), None).unwrap();
    made.into_string().into_bytes()
}

/// The comment of a model's release.
pub(super) fn comment(number: u64) -> String {
    Release::new(Kind::Model, number, "test.onnx").unwrap().to_string()
}

/// What is sent: header, signature, file.
pub(super) fn stream(signature: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = Header { signature: signature.len(), payload: payload.len() as u64 };
    [header.text().as_bytes(), signature, payload].concat()
}

/// Release `number`, as it is sent.
pub(super) fn sent(number: u64) -> Vec<u8> {
    let payload = payload(number);
    stream(&sign(pair(), &payload, &comment(number)), &payload)
}

/// Puts a stream in.
pub(super) fn install<F: Files>(
    track: &Track<F>,
    stream: &[u8],
    how: &Install,
) -> Result<Installed, UpdateError> {
    let staged = track.stage(key(), &mut &*stream, how, &mut |_, _| {})?;
    track.commit(staged, key(), how)
}

/// Puts a release in, begins it and confirms it.
pub(super) fn adopt<F: Files>(track: &Track<F>, stream: &[u8]) {
    install(track, stream, &Install::default()).unwrap();
    let begun = begin(track).unwrap();
    assert!(track.confirm(&begun.held.sha256, "as the test wants").unwrap());
}

/// Begins, without an error.
pub(super) fn begin<F: Files>(track: &Track<F>) -> Option<Begun<F::Reader>> {
    track.begin(Some(key())).unwrap()
}

/// The bytes of what was begun.
pub(super) fn whole<F: Files>(track: &Track<F>, begun: &Begun<F::Reader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut file, _) = track.files().open(&begun.path).unwrap().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The bytes of what is begun now; none if nothing is.
pub(super) fn runs<F: Files>(track: &Track<F>) -> Vec<u8> {
    begin(track).map_or_else(Vec::new, |begun| whole(track, &begun))
}
