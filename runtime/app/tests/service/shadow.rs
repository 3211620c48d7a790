//! A second model beside the first.

use super::*;

#[test]
fn a_shadow_is_compared_and_never_acts() {
    let folder = tempfile::tempdir().unwrap();
    let shadow = folder.path().join("other.onnx");
    let run = |shadow: &Path, seconds: &str| {
        let mut command = kinglet();
        command.arg("watch").arg(shipped()).args(["--camera", "test", "--fps", "20"]);
        command.args(["--window", "1", "--enter", "0", "--json", "--all", "--seconds", seconds]);
        let output = command.arg("--shadow").arg(shadow).output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines, said)
    };
    let numbers = |said: &str| -> Vec<f64> {
        let line = said.lines().find(|line| line.contains("shadow other.onnx: ")).unwrap();
        let line = line.split_once("shadow other.onnx: ").unwrap().1;
        let numbers = line.split([' ', '%', ',', ';']).filter_map(|word| word.parse().ok());
        numbers.collect()
    };
    std::fs::copy(shipped(), &shadow).unwrap();
    let (lines, said) = run(&shadow, "4");
    let same = numbers(&said);
    assert!(same[0] >= 3.0 && same[2..4] == [100.0, 100.0], "{said}");
    // One that calls everything that was seen something else.
    let seen: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line["decision"].as_str().unwrap().to_owned()).collect();
    let mut bytes = std::fs::read(shipped()).unwrap();
    for label in &seen {
        let name = format!("\n{label}\n");
        let at = bytes.windows(name.len()).position(|part| part == name.as_bytes()).unwrap() + 1;
        bytes[at..at + label.len()].make_ascii_uppercase();
    }
    std::fs::write(&shadow, bytes).unwrap();
    let (lines, said) = run(&shadow, "4");
    let other = numbers(&said);
    assert!(other[0] >= 3.0 && other[2..4] == [0.0, 0.0], "{said}");
    let known = |line: &Value| seen.contains(line["decision"].as_str().unwrap());
    assert!(lines.iter().all(known), "the first model alone decides");
    // One that cannot be loaded is a problem, and no more.
    std::fs::write(&shadow, "no model").unwrap();
    let (lines, said) = run(&shadow, "1");
    assert!(
        lines.len() > 2 && said.contains("shadow: model") && said.contains("refused"),
        "{said}"
    );
}
