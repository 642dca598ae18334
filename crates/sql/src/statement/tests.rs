//! Statements bound against a small catalog.

use std::sync::Arc;

use catalog::{Catalog, DEFAULT_SCHEMA, FIRST_USER_ID, Uniqueness};
use datafusion::arrow::datatypes::DataType;
use repr::{ColumnSchema, SqlType};

use super::*;
use crate::parse::parse;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name varchar(5) DEFAULT 'none', price numeric(10, 2))";

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let mut add = |id: u32, name: &str, kind: ObjectKind| {
        let object = Object::new(ObjectId(FIRST_USER_ID + id), DEFAULT_SCHEMA, name, kind);
        let depends_on = match &object.kind {
            ObjectKind::Index { on, .. } => vec![*on],
            _ => Vec::new(),
        };
        catalog.insert(Object { depends_on, ..object }).unwrap();
    };
    let (_, mut kind) = table(TABLE);
    add(0, "t", kind.clone());
    if let ObjectKind::Table { schema, details, .. } = &mut kind {
        schema.primary_key = None;
        details.iter_mut().for_each(|detail| detail.default = None);
    }
    add(1, "u", kind);
    let columns = RelationSchema::new(vec![ColumnSchema::new("a", SqlType::Int8)]);
    add(2, "v", ObjectKind::View { schema: columns, query: "SELECT 1::bigint AS a".to_string() });
    let options = Options::from([("broker".to_string(), "b:9".to_string())]);
    add(3, "k", ObjectKind::Connection { connector: "kafka".to_string(), options });
    let on = ObjectId(FIRST_USER_ID);
    add(4, "t_pkey", ObjectKind::Index { on, columns: vec![0], uniqueness: Uniqueness::PrimaryKey });
    catalog
}

/// The name and the kind of the table that CREATE TABLE makes.
fn table(text: &str) -> (String, ObjectKind) {
    let BoundStatement::Define { steps, .. } = create(text) else { panic!("no definition") };
    let created = steps.into_iter().find_map(|step| match step {
        Step::Create(object) => Some((object.name, object.kind)),
        _ => None,
    });
    created.expect("a table")
}

fn create(text: &str) -> BoundStatement {
    bind(&parse(text).unwrap()[0], &BindContext::new(&Catalog::default())).unwrap()
}

fn bound(text: &str) -> Result<BoundStatement, PgError> {
    let catalog = Arc::new(catalog());
    bind(&parse(text)?[0], &BindContext::new(&catalog))
}

fn state(text: &str) -> &'static str {
    match bound(text) {
        Err(error) => error.state.0,
        Ok(bound) => panic!("{text}: {bound:?}"),
    }
}

fn types(query: &BoundQuery) -> Vec<DataType> {
    query.plan.schema().fields().iter().map(|field| field.data_type().clone()).collect()
}

#[test]
fn a_table_has_its_columns_and_key() {
    let (name, kind) = table(TABLE);
    let ObjectKind::Table { schema, .. } = kind else { panic!("no table") };
    assert_eq!((name.as_str(), schema.primary_key.as_deref()), ("t", Some([0].as_slice())));
    let shown: Vec<(i32, bool)> = schema.columns.iter().map(|column| (column.typmod, column.nullable)).collect();
    assert_eq!(shown, [(-1, false), (9, true), ((10 << 16 | 2) + 4, true)]);
    assert_eq!(state("CREATE TABLE x (a int, a text)"), "42701");
    assert_eq!(state("CREATE TABLE x (a int PRIMARY KEY, b int, PRIMARY KEY (b))"), "42P16");
    assert_eq!(state("CREATE TABLE x (a int, PRIMARY KEY (b))"), "42703");
    assert_eq!(state("CREATE TABLE x (a int GENERATED ALWAYS AS (b) STORED)"), "42703");
    assert_eq!(state("CREATE TABLE x (a text GENERATED ALWAYS AS IDENTITY)"), "22023");
    assert_eq!(state("CREATE TABLE nowhere.x (a int)"), "3F000");
    assert_eq!(state("CREATE TABLE x (a int DEFAULT true)"), "42804");
}

#[test]
fn inserted_rows_have_all_columns_of_the_table() {
    let expected = vec![DataType::Int32, DataType::Utf8, DataType::LargeBinary];
    for text in [
        "INSERT INTO t VALUES (1, 'a', 2)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t (price, id) VALUES ('1.5', '7'), (NULL, 2.0)",
        "INSERT INTO t (id, name) VALUES (1, DEFAULT)",
        "INSERT INTO t SELECT id FROM u",
        "INSERT INTO t (id) SELECT '1'",
        "INSERT INTO u DEFAULT VALUES",
        "INSERT INTO t VALUES ($1, $2)",
    ] {
        let BoundStatement::Insert { rows, .. } = bound(text).unwrap_or_else(|error| panic!("{text}: {error}")) else {
            panic!("no insert")
        };
        assert_eq!(types(&rows), expected, "{text}");
    }
    assert_eq!(state("INSERT INTO t VALUES (1, 'a', 2, 3)"), "42601");
    assert_eq!(state("INSERT INTO t (id, name) VALUES (1)"), "42601");
    assert_eq!(state("INSERT INTO t (id, id) VALUES (1, 2)"), "42701");
    assert_eq!(state("INSERT INTO t (nope) VALUES (1)"), "42703");
    assert_eq!(state("INSERT INTO t (id) VALUES (true)"), "42804");
    assert_eq!(state("INSERT INTO nope VALUES (1)"), "42P01");
    assert_eq!(state("INSERT INTO v VALUES (1)"), "42809");
}

#[test]
fn a_default_is_used_where_no_value_is_given() {
    let BoundStatement::Insert { rows, .. } = bound("INSERT INTO t (id) VALUES (1)").unwrap() else {
        panic!("no insert")
    };
    assert!(rows.plan.display_indent().to_string().contains("none"), "{}", rows.plan.display_indent());
}

#[test]
fn conflicts_name_the_key() {
    let conflict = |text: &str| match bound(&format!("INSERT INTO t VALUES (1) ON CONFLICT {text}")) {
        Ok(BoundStatement::Insert { on_conflict, .. }) => Ok(on_conflict),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.state.0),
    };
    assert!(matches!(conflict("DO NOTHING"), Ok(OnConflict::Nothing { arbiter: None })));
    assert!(matches!(conflict("(id) DO NOTHING"), Ok(OnConflict::Nothing { arbiter: Some(ObjectId(16388)) })));
    let Ok(OnConflict::Update { inputs, assignments, condition, .. }) =
        conflict("(id) DO UPDATE SET name = excluded.name || t.name, price = DEFAULT WHERE t.price < excluded.price")
    else {
        panic!("no update")
    };
    assert_eq!((inputs.columns.len(), assignments.len(), condition.is_some()), (6, 2, true));
    assert!(assignments[0].1.to_string().contains("excluded.name"));
    assert!(matches!(conflict("(name) DO NOTHING"), Err("42P10")));
    assert!(matches!(conflict("DO UPDATE SET name = 'x'"), Err("42601")));
}

#[test]
fn changed_rows_are_old_and_new() {
    let BoundStatement::Update { rows, returning, .. } =
        bound("UPDATE t AS x SET price = price + 1, name = DEFAULT WHERE x.id > 1 RETURNING *, price * 2 AS twice")
            .unwrap()
    else {
        panic!("no update")
    };
    assert_eq!(types(&rows).len(), 6);
    assert_eq!(types(&rows)[..3], types(&rows)[3..]);
    let returning = returning.unwrap();
    assert_eq!((returning.expressions.len(), returning.schema.columns[3].name.as_str()), (4, "twice"));
    assert!(bound("UPDATE t SET price = u.price FROM u WHERE u.id = t.id").is_ok());
    assert_eq!(state("UPDATE u SET price = t.price FROM t WHERE u.id = t.id"), "0A000");
    assert_eq!(state("UPDATE t SET nope = 1"), "42703");
    assert_eq!(state("UPDATE t SET id = 1, id = 2"), "42601");
    let BoundStatement::Delete { rows, .. } = bound("DELETE FROM t USING u WHERE u.id = t.id").unwrap() else {
        panic!("no delete")
    };
    assert_eq!(types(&rows).len(), 3);
}

#[test]
fn both_forms_of_a_source_mean_the_same() {
    let description = |text: &str| match bound(text).unwrap_or_else(|error| panic!("{text}: {error}")) {
        BoundStatement::CreateSource { description, depends_on, .. } => (description, depends_on),
        other => panic!("{other:?}"),
    };
    let (ours, depends_on) = description("CREATE SOURCE s (a int) FROM KAFKA CONNECTION k (TOPIC 't') FORMAT JSON");
    let (theirs, _) = description(
        "CREATE SOURCE s (a int) WITH (connector = 'kafka', topic = 't', properties.bootstrap.server = 'b:9') FORMAT PLAIN ENCODE JSON",
    );
    assert_eq!(ours, theirs);
    assert_eq!(depends_on, [ObjectId(FIRST_USER_ID + 3)]);
    let (bids, _) = description("CREATE SOURCE s FROM LOAD GENERATOR NEXMARK");
    assert_eq!(bids.schema.columns[0].name, "auction");
    assert_eq!(state("CREATE SOURCE s (a int) FROM KAFKA CONNECTION nope (TOPIC 't') FORMAT JSON"), "42704");
    assert_eq!(state("CREATE SOURCE s FROM FILE (PATH 'x') FORMAT JSON"), "42P16");
    assert_eq!(state("CREATE SOURCE s (a int) FROM FILE (PATH 'x')"), "42601");
    assert_eq!(state("CREATE SOURCE s (a int PRIMARY KEY) FROM FILE (PATH 'x') FORMAT JSON"), "0A000");
}

#[test]
fn views_have_the_names_they_are_given() {
    let BoundStatement::CreateView { query, query_text, materialized, .. } =
        bound("CREATE MATERIALIZED VIEW w (x) AS SELECT id, name FROM t").unwrap()
    else {
        panic!("no view")
    };
    let names: Vec<&str> = query.schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names, query_text.as_str(), materialized), (vec!["x", "name"], "SELECT id, name FROM t", true));
    assert_eq!(state("CREATE VIEW w AS SELECT 1 AS a, 2 AS a"), "42701");
    assert_eq!(state("CREATE VIEW w (a, b) AS SELECT 1"), "42601");
    assert_eq!(state("CREATE VIEW w AS SELECT $1"), "42P02");
    assert_eq!(state("CREATE MATERIALIZED VIEW w WITH (fillfactor = 1) AS SELECT 1"), "0A000");
}

#[test]
fn indexes_and_drops_find_their_objects() {
    let BoundStatement::Define { steps, .. } = bound("CREATE INDEX ON t (name, id)").unwrap() else {
        panic!("no definition")
    };
    let [Step::Create(index)] = steps.as_slice() else { panic!("{steps:?}") };
    let expected = ObjectKind::Index { on: ObjectId(FIRST_USER_ID), columns: vec![1, 0], uniqueness: Uniqueness::None };
    assert_eq!((index.name.as_str(), &index.kind), ("t_name_id_idx", &expected));
    assert_eq!(state("CREATE INDEX ON t (nope)"), "42703");
    assert_eq!(state("CREATE UNIQUE INDEX ON t (lower(name))"), "0A000");
    assert_eq!(state("CREATE INDEX ON v (a)"), "42809");
    let BoundStatement::Drop { objects, missing, .. } = bound("DROP TABLE IF EXISTS t, nope").unwrap() else {
        panic!("no drop")
    };
    assert_eq!((objects.len(), missing), (1, vec!["nope".to_string()]));
    assert_eq!(state("DROP TABLE nope"), "42P01");
    assert_eq!(state("DROP TABLE v"), "42809");
    assert_eq!(state("DROP CONNECTION nope"), "42704");
}

#[test]
fn copy_options_are_those_of_postgres() {
    let options = |text: &str| match bound(&format!("COPY t FROM STDIN {text}")) {
        Ok(BoundStatement::CopyIn { options, .. }) => Ok(options),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.message),
    };
    assert_eq!(options("").unwrap().delimiter, b'\t');
    let csv = options("WITH (FORMAT csv, HEADER true, NULL 'NA', QUOTE '''')").unwrap();
    assert_eq!((csv.header, csv.null.as_str(), csv.quote, csv.escape), (true, "NA", b'\'', b'\''));
    assert_eq!(options("(FORMAT xml)").unwrap_err(), "COPY format \"xml\" not recognized");
    assert_eq!(options("(QUOTE '\"')").unwrap_err(), "COPY quote available only in CSV mode");
    assert_eq!(options("(DELIMITER 'ab')").unwrap_err(), "COPY delimiter must be a single one-byte character");
    assert_eq!(state("COPY t FROM '/etc/passwd'"), "0A000");
    assert!(matches!(bound("COPY t (id, name) TO STDOUT"), Ok(BoundStatement::CopyOut { .. })));
    assert_eq!(state("COPY t (nope) FROM STDIN"), "42703");
}

#[test]
fn what_we_do_not_have_is_named() {
    for (text, message) in [
        ("ALTER FUNCTION f() RENAME TO g", "ALTER FUNCTION is not supported"),
        ("CREATE SINK s FROM t INTO KAFKA", "CREATE SINK is not supported"),
        ("REINDEX TABLE t", "REINDEX TABLE is not supported"),
    ] {
        let error = bound(text).unwrap_err();
        assert_eq!((error.state.0, error.message.as_str()), ("0A000", message));
    }
}
