//! Passwords of registries: what was given, or what `docker login` and `podman login` wrote.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;

/// Finds the password for a registry: files of logins are looked at in the order of podman, then docker.
pub(crate) fn from_logins(registry: &str) -> RegistryAuth {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let files = [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
        home.as_ref().map(|h| h.join(".config/containers/auth.json")),
        variable("DOCKER_CONFIG").map(|d| d.join("config.json")),
        home.map(|h| h.join(".docker/config.json")),
    ];
    let texts = files.into_iter().flatten().filter_map(|path| std::fs::read_to_string(path).ok());
    let mut found = texts.filter_map(|text| in_file(&text, registry));
    found.next().unwrap_or(RegistryAuth::Anonymous)
}

/// What a file of logins says about a registry.
fn in_file(text: &str, registry: &str) -> Option<RegistryAuth> {
    let file: serde_json::Value = serde_json::from_str(text).ok()?;
    let docker_hub = "https://index.docker.io/v1/";
    let names = [registry, if registry == "docker.io" { docker_hub } else { registry }];
    let entry = names.iter().find_map(|name| file.get("auths")?.get(*name))?;
    let pair = STANDARD.decode(entry.get("auth")?.as_str()?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_read_and_hostile_ones_are_none() {
        let text = r#"{"auths": {"127.0.0.1:5000": {"auth": "YTpiOmM="}, "empty": {}}}"#;
        let expected = RegistryAuth::Basic("a".into(), "b:c".into());
        assert!(in_file(text, "127.0.0.1:5000") == Some(expected));
        assert!(in_file(text, "empty").is_none() && in_file(text, "other").is_none());
        for cut in 0..text.len() {
            let _ = in_file(&text[..cut], "127.0.0.1:5000");
        }
    }
}
