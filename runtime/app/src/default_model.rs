//! The model that is used when none is named.

use std::path::{Path, PathBuf};

/// File name of the default model.
const NAME: &str = "efficientnet-lite0-int8.onnx";

/// The model that a card's image came with.
const CARD: &str = "/usr/lib/kinglet/model.onnx";

/// Where it was looked for, for the message when it is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "no --model given and no default model found; looked for:\n{}\nname a model with --model",
    .0.iter().map(|p| format!("  {}", p.display())).collect::<Vec<_>>().join("\n")
)]
pub(crate) struct NotFound(Vec<PathBuf>);

/// Finds the default model: the environment's `KINGLET_MODEL`, an installation that the program is
/// part of, the repository that it was built in, the system's folders, the current folder.
pub(crate) fn find() -> Result<PathBuf, NotFound> {
    let exe = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    let named = std::env::var_os("KINGLET_MODEL").map(PathBuf::from);
    let candidates = candidates(named, exe.as_deref(), here.as_deref());
    candidates.iter().find(|p| p.is_file()).cloned().ok_or(NotFound(candidates))
}

fn candidates(named: Option<PathBuf>, exe: Option<&Path>, here: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named];
    }
    let mut list = Vec::new();
    if let Some(exe) = exe {
        // PREFIX/bin/kinglet, then REPOSITORY/target/[TRIPLE/]PROFILE/kinglet.
        if let Some(prefix) = exe.ancestors().nth(2) {
            list.push(prefix.join("share/kinglet").join(NAME));
        }
        let target = exe.ancestors().find(|a| a.file_name().is_some_and(|n| n == "target"));
        if let Some(repository) = target.and_then(Path::parent) {
            list.push(repository.join("models").join(NAME));
        }
    }
    list.push(PathBuf::from(CARD));
    list.push(Path::new("/usr/local/share/kinglet").join(NAME));
    list.push(Path::new("/usr/share/kinglet").join(NAME));
    if let Some(here) = here {
        list.push(here.join("models").join(NAME));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_comes_before_the_repository_and_a_named_model_before_all() {
        let exe = Path::new("/r/target/release/kinglet");
        let list = candidates(None, Some(exe), None);
        assert_eq!(list[0], Path::new("/r/target/share/kinglet").join(NAME));
        assert_eq!(list[1], Path::new("/r/models").join(NAME));
        assert!(list.contains(&PathBuf::from(CARD)));
        let named = candidates(Some("/m.onnx".into()), Some(exe), None);
        assert_eq!(named, [Path::new("/m.onnx")]);
    }
}
