//! What the figures were measured on.

use std::path::{Path, PathBuf};

/// The processor's name, as `benches/peers/compare.py` has it too.
pub fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = text.lines().find(|line| line.starts_with("model name"));
    let from_cpuinfo = field.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    let board = std::fs::read_to_string("/proc/device-tree/model").ok();
    let board = board.as_deref().map(|name| name.trim_matches(['\0', '\n']));
    from_cpuinfo.or(board).unwrap_or(std::env::consts::ARCH).to_owned()
}

/// The folder of this processor's results: `benches/results/CPU`.
pub fn results_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(slug(&cpu_name()))
}

/// Small letters and digits, all else as single hyphens.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Bytes of the data caches that the first core uses, first level first; as Linux tells.
pub fn data_caches() -> Vec<usize> {
    let folder = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let field = |index: usize, name: &str| {
        std::fs::read_to_string(folder.join(format!("index{index}/{name}"))).ok()
    };
    let mut caches = Vec::new();
    for index in 0..8 {
        let (Some(kind), Some(size)) = (field(index, "type"), field(index, "size")) else { break };
        if kind.trim() != "Instruction" {
            caches.extend(parse_size(size.trim()));
        }
    }
    caches
}

/// `32K`, `1024K`, `32M`.
fn parse_size(text: &str) -> Option<usize> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        _ => return None,
    };
    Some(digits.parse::<usize>().ok()? << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_plain_names() {
        assert_eq!(slug("AMD EPYC"), "amd-epyc");
        assert_eq!(slug("Intel(R) Xeon(R) CPU @ 2.20GHz "), "intel-r-xeon-r-cpu-2-20ghz");
    }

    #[test]
    fn sizes_are_read_as_linux_writes_them() {
        assert_eq!(parse_size("32K"), Some(32 << 10));
        assert_eq!(parse_size("32M"), Some(32 << 20));
        assert_eq!(parse_size("12"), None);
        assert_eq!(parse_size("K"), None);
    }
}
