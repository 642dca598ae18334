//! Keeps `docs/reference/functions.md` what the code says. `TIDEWATER_COMPLETE=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use sql::functions::{aggregate_names, refused_names, set_returning_names, signatures};

fn page() -> String {
    let mut page =
        "# Functions\n\nGenerated from the code by `crates/sql/tests/reference.rs`; do not edit. Overloads resolve, \
         and implicit casts\napply, as in PostgreSQL. `(..)` takes any types.\n\n## Scalar functions\n\n\
         | function | arguments | result |\n|---|---|---|\n"
            .to_string();
    for signature in signatures() {
        let (name, rest) = signature.split_once('(').unwrap();
        let (arguments, result) = rest.rsplit_once(')').unwrap();
        writeln!(page, "| `{name}` | {arguments} | {} |", result.trim()).unwrap();
    }
    page += "\n## Aggregates\n\nEach may have `FILTER`, `DISTINCT` and `OVER`.\n\n";
    page += &listed(&aggregate_names());
    page += "\n`rank`, `dense_rank`, `percent_rank` and `cume_dist` WITHIN GROUP are aggregates too, and \
             `approx_count_distinct`\nis exact.\n\n## Functions that return sets\n\nIn FROM, with `WITH ORDINALITY` and in \
             `ROWS FROM`; those of one column also in a SELECT list.\n\n";
    page += &listed(&set_returning_names());
    page += "\n## Known, and refused with `0A000`\n\nPostgreSQL 15 has these; Tidewater does not yet.\n";
    let mut by_letter: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in refused_names() {
        by_letter.entry(&name[..1]).or_default().push(name);
    }
    for names in by_letter.values() {
        write!(page, "\n{}", listed(names)).unwrap();
    }
    page
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{}\n", quoted.join(", "))
}

#[test]
fn the_page_of_functions_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/functions.md");
    let page = page();
    if std::env::var_os("TIDEWATER_COMPLETE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/reference/functions.md is not what the code says: run this with TIDEWATER_COMPLETE=1");
}
