//! Kernel modules: which of them are needed, and in which order they are loaded.
//!
//! A module says itself what it depends on (`depends=` and `softdep=` in its section `.modinfo`), so that no index of the
//! kernel's package is needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::CardError;

/// A module's name, as its file has it, and its bytes.
pub(super) type Module = (String, Arc<[u8]>);

/// Modules by name, `-` written as `_`.
#[derive(Default)]
pub(super) struct Modules(BTreeMap<String, Module>);

impl Modules {
    /// Adds a module by its file's name without folders.
    pub(super) fn add(&mut self, file: &str, bytes: Vec<u8>) {
        if let Some(name) = file.strip_suffix(".ko") {
            self.0.insert(plain(name), (name.to_owned(), bytes.into()));
        }
    }

    /// The modules asked for and all that they depend on, what is needed first before what needs it.
    ///
    /// # Errors
    /// [`CardError::Value`] for a name that the kernel's package does not have.
    pub(super) fn ordered(&self, names: &[String]) -> Result<Vec<Module>, CardError> {
        let (mut order, mut seen) = (Vec::new(), Vec::new());
        for name in names {
            if !self.0.contains_key(&plain(name)) {
                let what = "this kernel has no such module (or has it built in)";
                return Err(CardError::value(format!("module {name}"), what));
            }
            self.visit(&plain(name), &mut seen, &mut order);
        }
        Ok(order)
    }

    fn visit(&self, name: &str, seen: &mut Vec<String>, order: &mut Vec<Module>) {
        // What is not there is built in.
        let Some((file, bytes)) = self.0.get(name) else { return };
        if seen.iter().any(|s| s == name) {
            return;
        }
        seen.push(name.to_owned());
        for needed in needs(bytes) {
            self.visit(&needed, seen, order);
        }
        order.push((file.clone(), Arc::clone(bytes)));
    }
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// What a module says that it needs.
fn needs(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for field in fields(bytes, b"depends=") {
        found.extend(field.split(',').filter(|n| !n.is_empty()).map(plain));
    }
    for field in fields(bytes, b"softdep=") {
        let mut before = false;
        for word in field.split_whitespace() {
            match word {
                "pre:" => before = true,
                "post:" => before = false,
                name if before => found.push(plain(name)),
                _ => {}
            }
        }
    }
    found
}

/// Strings that begin with a key and end with a zero byte.
fn fields<'b>(bytes: &'b [u8], key: &'b [u8]) -> impl Iterator<Item = &'b str> {
    let starts = (0..bytes.len().saturating_sub(key.len()))
        .filter(move |at| bytes[*at] == key[0] && bytes[*at..].starts_with(key))
        .filter(|at| *at == 0 || bytes[at - 1] == 0);
    starts.filter_map(move |at| {
        let rest = &bytes[at + key.len()..];
        let end = rest.iter().position(|b| *b == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first() {
        let mut modules = Modules::default();
        let module = |depends: &str, soft: &str| {
            format!("\u{7f}ELF\0license=GPL\0depends={depends}\0softdep={soft}\0").into_bytes()
        };
        modules.add("ext4.ko", module("jbd2,mbcache", "pre: crc32c post: nothing"));
        modules.add("jbd2.ko", module("", ""));
        modules.add("mbcache.ko", module("ext4", ""));
        modules.add("crc32c.ko", module("built_in", ""));
        modules.add("i2c-dev.ko", module("", ""));
        let names = |asked: &[&str]| -> Vec<String> {
            let asked: Vec<String> = asked.iter().map(|n| (*n).to_owned()).collect();
            modules.ordered(&asked).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&["ext4", "i2c_dev"]), ["jbd2", "mbcache", "crc32c", "ext4", "i2c-dev"]);
        assert!(modules.ordered(&["nothing".to_owned()]).is_err());
    }
}
