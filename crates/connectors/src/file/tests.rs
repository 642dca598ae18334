//! A file source against files that grow, shrink, are replaced and are broken.

use std::io::Write;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use repr::{ColumnSchema, RelationSchema, SqlType};

use super::*;

fn source(path: &Path, options: &[&str], format: &str) -> SourceDescription {
    let mut all: repr::source::Options = options.iter().map(|name| (name.to_string(), "true".to_string())).collect();
    all.insert("path".to_string(), path.to_string_lossy().into_owned());
    SourceDescription {
        watermark: None,
        connector: "file".to_string(),
        options: all,
        format: Some(format.to_string()),
        format_options: Default::default(),
        schema: RelationSchema::new(vec![ColumnSchema::new("a", SqlType::Int8)]),
    }
}

/// What the source gives until it ends or has nothing more: values, locations of errors, positions.
fn drain(source: &mut dyn Source) -> (Vec<i64>, Vec<String>, Positions, bool) {
    let (mut values, mut errors, mut positions) = (Vec::new(), Vec::new(), Positions::new());
    loop {
        match source.next(Duration::from_millis(1)).unwrap() {
            Next::Batch(batch) => {
                values.extend(batch.columns[0].as_primitive::<Int64Type>().values());
                errors.extend(batch.errors.into_iter().map(|error| error.error.message));
                positions = batch.positions;
            }
            Next::Idle => return (values, errors, positions, false),
            Next::End => return (values, errors, positions, true),
        }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_file_is_read_once_and_its_last_line_needs_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    append(&path, "1\n2\nx\n3");
    let description = source(&path, &[], "csv");
    validate(&description).unwrap();
    let mut source = open(&description, &Positions::new(), None).unwrap();
    let (values, errors, positions, ended) = drain(&mut *source);
    assert_eq!((values, ended), (vec![1, 2, 3], true));
    assert_eq!(errors, ["invalid input syntax for type bigint: \"x\""]);
    assert_eq!(positions.values().copied().collect::<Vec<_>>(), [7]);
    assert_eq!(latest(&description).unwrap(), positions);
    // From a position on, and up to one.
    let name = path.to_string_lossy().into_owned();
    let at = |offset: u64| Positions::from([(name.clone(), offset)]);
    assert_eq!(drain(&mut *open(&description, &at(2), None).unwrap()).0, [2, 3]);
    assert_eq!(drain(&mut *open(&description, &Positions::new(), Some(&at(4))).unwrap()).0, [1, 2]);
    assert_eq!(
        drain(&mut *open(&description, &Positions::new(), Some(&Positions::new())).unwrap()).0,
        Vec::<i64>::new()
    );
}

#[test]
fn a_followed_file_gives_whole_lines_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    append(&path, "{\"a\":1}\n{\"a\":");
    let description = source(&path, &["follow"], "json");
    let mut source = open(&description, &Positions::new(), None).unwrap();
    assert_eq!(drain(&mut *source).0, [1]);
    assert_eq!(latest(&description).unwrap().values().copied().collect::<Vec<_>>(), [8]);
    append(&path, "2}");
    assert_eq!(drain(&mut *source).0, Vec::<i64>::new());
    append(&path, "\n{\"a\":3}\n");
    assert_eq!(drain(&mut *source).0, [2, 3]);
}

#[test]
fn a_truncated_or_replaced_file_is_told_and_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    append(&path, "1\n2\n");
    let mut source = open(&source(&path, &["follow"], "csv"), &Positions::new(), None).unwrap();
    assert_eq!(drain(&mut *source).0, [1, 2]);
    fs::write(&path, "7\n").unwrap();
    let (values, errors, _, _) = drain(&mut *source);
    assert_eq!(values, [7]);
    assert!(errors[0].contains("truncated after 4 bytes"), "{errors:?}");
    append(&folder.path().join("b"), "8\n9\n");
    fs::rename(folder.path().join("b"), &path).unwrap();
    let (values, errors, _, _) = drain(&mut *source);
    assert_eq!(values, [8, 9]);
    assert!(errors[0].contains("replaced"), "{errors:?}");
    // A file that is gone is waited for.
    fs::remove_file(&path).unwrap();
    assert_eq!(drain(&mut *source).0, Vec::<i64>::new());
    append(&path, "10\n");
    assert_eq!(drain(&mut *source).0, [10]);
}

#[test]
fn folders_and_globs_are_many_files() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("b.csv"), "2\n");
    append(&folder.path().join("a.csv"), "1\n");
    append(&folder.path().join(".hidden"), "9\n");
    assert_eq!(drain(&mut *open(&source(folder.path(), &[], "csv"), &Positions::new(), None).unwrap()).0, [1, 2]);
    let glob = source(&folder.path().join("a*"), &[], "csv");
    assert_eq!(drain(&mut *open(&glob, &Positions::new(), None).unwrap()).0, [1]);
    let mut followed = open(&source(folder.path(), &["follow"], "csv"), &Positions::new(), None).unwrap();
    assert_eq!(drain(&mut *followed).0, [1, 2]);
    append(&folder.path().join("c.csv"), "3\n");
    std::thread::sleep(LIST);
    assert_eq!(drain(&mut *followed).0, [3]);
    assert_eq!(validate(&source(&folder.path().join("z*"), &[], "csv")).unwrap_err().state, SqlState::UNDEFINED_FILE);
    assert!(validate(&source(&folder.path().join("z*"), &["follow"], "csv")).is_ok());
}

#[test]
fn half_a_header_costs_no_row_of_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
    append(&first, "h\n1\n");
    let mut description = source(folder.path(), &["follow"], "csv");
    description.format_options.insert("header".to_string(), "true".to_string());
    let mut source = open(&description, &Positions::new(), None).unwrap();
    assert_eq!(drain(&mut *source).0, [1]);
    append(&second, "hea");
    std::thread::sleep(LIST);
    assert_eq!(drain(&mut *source).0, Vec::<i64>::new());
    append(&first, "2\n");
    assert_eq!(drain(&mut *source).0, [2]);
    append(&second, "der\n3\n");
    assert_eq!(drain(&mut *source).0, [3]);
}

#[test]
fn many_rows_come_in_batches_and_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let text: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    fs::write(&path, text).unwrap();
    let (values, _, _, _) = drain(&mut *open(&source(&path, &[], "csv"), &Positions::new(), None).unwrap());
    assert!(values.into_iter().eq(0..200_000));
}
