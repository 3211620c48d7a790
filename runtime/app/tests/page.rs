//! The page in a real browser (tests/browser/page.py). Skipped where there is none.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::process::Command;

use common::{Server, repository};

/// Runs the script against a server; says what it printed.
fn browse(server: &Server, scheme: &str, collection: &str, more: &[&str]) {
    let url = format!("{scheme}://localhost:{}/", server.address.port());
    let script = repository().join("tests/browser/page.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).args([&url, collection]).args(more);
    if let Some(folder) = std::env::var_os("KINGLET_SCREENSHOTS") {
        command.arg("--pictures").arg(folder);
    }
    let Ok(output) = command.output() else {
        println!("skipped: python3 is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(77) {
        println!("skipped: {said}");
        return;
    }
    let more = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{more}");
}

#[test]
fn the_page_shows_saves_and_downloads() {
    let folder = tempfile::tempdir().unwrap();
    let collection = folder.path().join("collection");
    let config = folder.path().join("k.toml");
    let text = "[camera]\nsource = \"test\"\nfps = 20\n\n\
         [[output]]\npin = \"gpiochip99:4\"\nclass = [\"tiger cat\", \"unknown\"]\nregion = \"left\"\n\n\
         [[region]]\nname = \"left\"\nleft = 0.05\ntop = 0.1\nwidth = 0.4\nheight = 0.8\n\n\
         [[region]]\nname = \"right\"\nleft = 0.55\ntop = 0.1\nwidth = 0.4\nheight = 0.8\n";
    std::fs::write(&config, text).unwrap();
    let collection = collection.to_str().unwrap();
    let server = Server::watch(&["--config", config.to_str().unwrap(), "--collect", collection]);
    let pid = server.child.id().to_string();
    browse(&server, "http", collection, &["--stop", &pid]);
}

#[test]
fn the_page_asks_for_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let (token, collection) = (folder.path().join("token"), folder.path().join("collection"));
    std::fs::write(&token, "a-token-of-some-length\n").unwrap();
    let (token, collection) = (token.to_str().unwrap(), collection.to_str().unwrap());
    let server =
        Server::watch(&["--camera", "test", "--collect", collection, "--token-file", token]);
    browse(&server, "http", collection, &["--token", "a-token-of-some-length"]);
}
