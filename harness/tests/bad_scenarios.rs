//! Every mistake that a scenario can have, and the whole message it gets.
//!
//! In: `bad_scenarios/*.yaml`, and beside each the expected message (`UPDATE=1` writes those anew, to be read
//! before they are kept). Never: a message compared in part.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mkraft_harness::scenario::Scenario;

fn files(extension: &str) -> BTreeSet<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_scenarios");
    let entries = std::fs::read_dir(folder).expect("the folder of bad scenarios can be read");
    let paths = entries.map(|entry| entry.expect("its entries can be read").path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_was_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let bad = files("yaml");
    assert!(bad.len() > 50, "only {} files: the folder is not where it was", bad.len());
    let mut differing = Vec::new();
    for path in &bad {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let error = Scenario::parse(name, &text).map(|_| ()).expect_err(name);
        let message = format!("{error}\n");
        assert!(message.contains(&format!(" --> {name}:")), "{name}: no line and column in\n{message}");
        let expected = path.with_extension("stderr");
        if update {
            std::fs::write(&expected, &message).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != message {
            differing.push(format!("{}, but got:\n{message}", expected.display()));
        }
    }
    assert!(differing.is_empty(), "expected what stands in {}", differing.join("\nand in "));
    let told: BTreeSet<_> = files("stderr").iter().map(|path| path.with_extension("yaml")).collect();
    assert_eq!(told, bad, "a message is left without its file");
}
