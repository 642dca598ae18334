//! Holds the crate map of `docs/architecture.md`: who may depend on whom, and which crate alone names an outside library.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Our crates, and those of ours that each may name.
const CRATES: &[(&str, &[&str])] = &[
    ("repr", &[]),
    ("catalog", &["repr"]),
    ("sql", &["catalog", "plan", "repr"]),
    ("plan", &["catalog", "repr"]),
    ("storage", &["repr"]),
    ("dataflow", &["plan", "repr", "storage"]),
    ("connectors", &["repr"]),
    ("engine", &["catalog", "connectors", "dataflow", "plan", "repr", "sql", "storage"]),
    ("server", &["engine", "repr"]),
];

/// Outside libraries that only these crates may name.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("axum", &["server"]),
    ("datafusion", &["sql", "plan", "dataflow", "engine"]),
    ("differential-dataflow", &["dataflow"]),
    ("pgwire", &["server"]),
    ("rdkafka", &["connectors"]),
    ("rocksdb", &["storage"]),
    ("sqlparser", &["sql"]),
    ("timely", &["dataflow"]),
];

#[test]
fn the_crate_map_holds() {
    let dependencies = dependencies();
    let ours: Vec<&str> = CRATES.iter().map(|(name, _)| *name).collect();
    assert_eq!(dependencies.keys().map(String::as_str).collect::<Vec<_>>(), sorted(&ours), "the set of crates");
    for (name, allowed) in CRATES {
        for dependency in &dependencies[*name] {
            if ours.contains(&dependency.as_str()) {
                assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
            }
        }
    }
    for (library, allowed) in LIBRARIES {
        for (name, names) in &dependencies {
            if names.iter().any(|dependency| dependency == library) {
                assert!(allowed.contains(&name.as_str()), "{name} must not name {library}");
            }
        }
    }
}

/// Crate name to the names of its normal dependencies.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_string();
    let normal = |dependency: &&Value| dependency["kind"].is_null();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let names = list(&package["dependencies"]).iter().filter(normal).map(|item| text(&item["name"])).collect();
            (text(&package["name"]), names)
        })
        .collect()
}

fn sorted<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}
