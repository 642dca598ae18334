//! A file of PostgreSQL's answers: a line has what was asked, a tab, and what psql printed.

/// Asks everything in `cases` but the `known` differences; each of the answers that `ask` finds, given what was asked and what
/// is expected, must be the expected one. The first of a pair says how it was found, where there are several ways.
pub(crate) fn compare(
    cases: &str,
    known: &[(&str, &str)],
    mut ask: impl FnMut(&str, &str) -> Vec<(&'static str, String)>,
) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in cases.lines() {
        let (text, expected) = line.split_once('\t').unwrap();
        if known.iter().any(|(known, _)| *known == text) {
            continue;
        }
        count += 1;
        for (way, found) in ask(text, expected) {
            if found != expected {
                wrong.push(format!("{text}{way}\n    is {found}\n    not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
