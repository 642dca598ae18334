//! Binds queries, runs them through DataFusion over small tables, and compares with the answers of PostgreSQL 15.
//!
//! `queries.txt` holds query and answer; `setup.sql` the tables, whose rows are read by the binder itself. Each query runs
//! twice: optimised for reading, and optimised for maintenance first, because a view's plan must mean the same.

use std::collections::HashMap;
use std::sync::Arc;

use catalog::{Catalog, Object, ObjectKind};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlState, SqlType};

use super::{BindContext, BoundQuery, bind_query, bind_query_for};
use crate::optimize::{Purpose, optimize};
use crate::parse::parse_query;

struct Database {
    catalog: Catalog,
    rows: HashMap<ObjectId, RecordBatch>,
    context: SessionContext,
    runtime: tokio::runtime::Runtime,
}

impl Database {
    /// Makes the tables and views of `setup.sql`, a statement a line.
    fn new() -> Database {
        let mut config = SessionConfig::new().with_target_partitions(1);
        // DataFusion's own rules make columns NOT NULL that were nullable, and its planner then trips over it.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
        let mut database = Database {
            catalog: Catalog::default(),
            rows: HashMap::new(),
            context: SessionContext::new_with_state(state),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        };
        for statement in include_str!("tests/setup.sql").lines().map(|line| line.trim_end_matches(';')) {
            if let Some(definition) = statement.strip_prefix("CREATE TABLE ") {
                let (name, columns) = definition.split_once(" (").unwrap();
                let schema = table_schema(columns.trim_end_matches(')'));
                let numbers = 1..=schema.columns.len() as i16;
                let details = numbers.map(|number| catalog::ColumnDetail { number, ..Default::default() }).collect();
                database.create(name, ObjectKind::Table { schema, details, options: Default::default() });
            } else if let Some(insert) = statement.strip_prefix("INSERT INTO ") {
                let (name, values) = insert.split_once(' ').unwrap();
                let object = Arc::clone(database.catalog.resolve(None, name).unwrap());
                let targets = &object.relation_schema().unwrap().columns;
                let context = BindContext::new(&database.catalog);
                let bound = bind_query_for(&parse_query(values).unwrap(), targets, &context).unwrap();
                let rows = database.run(bound.plan).unwrap();
                let rows = RecordBatch::try_new(object.relation_schema().unwrap().arrow(), rows.columns().to_vec());
                database.rows.insert(object.id, rows.unwrap());
            } else if let Some(view) = statement.strip_prefix("CREATE VIEW ") {
                let (name, query) = view.split_once(" AS ").unwrap();
                let schema = database.bind(query).unwrap().schema;
                database.create(name, ObjectKind::View { schema, query: query.to_string() });
            }
        }
        database
    }

    fn create(&mut self, name: &str, kind: ObjectKind) {
        let id = ObjectId(catalog::FIRST_USER_ID + self.catalog.objects().count() as u32);
        self.catalog.insert(Object::new(id, "public", name, kind)).unwrap();
    }

    fn bind(&self, query: &str) -> Result<BoundQuery, PgError> {
        bind_query(&parse_query(query)?, &BindContext::new(&self.catalog))
    }

    /// Runs a plan whose scans name objects by their id.
    fn run(&self, plan: LogicalPlan) -> Result<RecordBatch, PgError> {
        let plan = plan.transform_up(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                let id = ObjectId(scan.table_name.table().parse().unwrap());
                let schema = self.catalog.get(id).unwrap().relation_schema().unwrap().arrow();
                let rows = self.rows.get(&id).cloned().unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&schema)));
                scan.source = provider_as_source(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            node => Ok(Transformed::no(node)),
        });
        let plan = optimize(plan.unwrap().data, Purpose::Read)?;
        let state = self.context.state();
        self.runtime
            .block_on(async {
                let physical = DefaultPhysicalPlanner::default().create_physical_plan(&plan, &state).await?;
                let schema = physical.schema();
                let batches = collect(physical, state.task_ctx()).await?;
                Ok(concat_batches(&schema, &batches)?)
            })
            .map_err(|error| user_error(error, &plan))
    }

    /// The rows as text, fields separated by `|`.
    fn rows(&self, bound: &BoundQuery, maintained: bool) -> Result<Vec<String>, PgError> {
        let mut plan = bound.plan.clone();
        if maintained {
            plan = optimize(plan, Purpose::Maintain)?;
        }
        let batch = self.run(plan)?;
        assert_eq!(batch.num_columns(), bound.schema.columns.len());
        for (column, field) in bound.schema.columns.iter().zip(batch.schema().fields()) {
            assert_eq!(column.sql_type.arrow(), *field.data_type(), "column {} as it runs", column.name);
        }
        let row = |row: usize| {
            let field = |(index, column): (usize, &ColumnSchema)| {
                let array = batch.column(index);
                let mut text = String::new();
                match array.is_null(row) || array.data_type().is_null() {
                    true => text.push_str("NULL"),
                    false => repr::text::format_value(array.as_ref(), row, &column.sql_type, &mut text),
                }
                text
            };
            bound.schema.columns.iter().enumerate().map(field).collect::<Vec<_>>().join("|")
        };
        Ok((0..batch.num_rows()).map(row).collect())
    }
}

/// The user's error at the bottom of what DataFusion says, or all of it with the plan that ran.
fn user_error(error: DataFusionError, plan: &LogicalPlan) -> PgError {
    if let DataFusionError::External(source) = error.find_root()
        && let Some(error) = source.downcast_ref::<PgError>()
    {
        return error.clone();
    }
    PgError::internal(format!("{error}\n{}", plan.display_indent()))
}

/// `a int, b text NOT NULL`, as far as `setup.sql` goes.
fn table_schema(columns: &str) -> RelationSchema {
    let mut schema = RelationSchema::default();
    for (index, definition) in columns.split(", ").enumerate() {
        let mut words = definition.split(' ');
        let name = words.next().unwrap();
        let sql_type = match words.next().unwrap() {
            "int" => SqlType::Int4,
            "bigint" => SqlType::Int8,
            "smallint" => SqlType::Int2,
            "double" => SqlType::Float8,
            "numeric" => SqlType::Numeric,
            "text" => SqlType::Text,
            "timestamp" => SqlType::Timestamp,
            other => panic!("no type {other} here"),
        };
        let column = ColumnSchema::new(name, sql_type);
        let not_null = definition.ends_with("NOT NULL") || definition.ends_with("PRIMARY KEY");
        schema.columns.push(if not_null { column.not_null() } else { column });
        if definition.ends_with("PRIMARY KEY") {
            schema.primary_key = Some(vec![index]);
        }
    }
    schema
}

/// What a query gives, as `queries.txt` writes it.
fn answer(database: &Database, query: &str, maintained: bool, ordered: bool) -> String {
    let rows = database.bind(query).and_then(|bound| database.rows(&bound, maintained));
    match rows {
        Ok(mut rows) => {
            if !ordered {
                rows.sort();
            }
            rows.iter().map(|row| format!("{row}\n")).collect()
        }
        Err(error) => {
            let position = error.position.map_or("-".to_string(), |position| position.to_string());
            format!("{} {position} {}\n", error.state.0, error.message)
        }
    }
}

/// Errors may lack the position that PostgreSQL gives, or have one it lacks, but not another.
fn same(found: &str, expected: &str, kind: &str) -> bool {
    let parts = |text: &str| -> Vec<String> { text.splitn(3, ' ').map(str::to_string).collect() };
    match (kind, parts(found).as_slice(), parts(expected).as_slice()) {
        ("error", [state, at, message], [wanted_state, wanted_at, wanted_message]) => {
            state == wanted_state && message == wanted_message && (at == wanted_at || at == "-" || wanted_at == "-")
        }
        _ => found == expected,
    }
}

#[test]
fn queries_answer_as_postgresql_does() {
    let database = Database::new();
    let mut failures = Vec::new();
    let mut count = 0;
    for case in include_str!("tests/queries.txt").split("\n\n").filter(|case| !case.starts_with('#')) {
        let (query, rest) = case.split_once("\n---- ").unwrap();
        let (kind, expected) = rest.split_once('\n').unwrap_or((rest, ""));
        let expected = expected.trim_end_matches('\n');
        let query = query.trim();
        for maintained in [false, true] {
            count += 1;
            let found = answer(&database, query, maintained, kind == "ordered");
            if !same(found.trim_end_matches('\n'), expected, kind) {
                failures.push(format!("{query}\n-- expected\n{expected}\n-- found\n{found}"));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count} differ\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn columns_have_the_names_postgresql_gives_them() {
    let database = Database::new();
    let names = |query: &str| -> Vec<String> {
        database.bind(query).unwrap().schema.columns.into_iter().map(|column| column.name).collect()
    };
    assert_eq!(
        names("SELECT a, a + 1, count(*), 1 AS x, t.b FROM t GROUP BY a, b"),
        ["a", "?column?", "count", "x", "b"]
    );
    assert_eq!(names("SELECT * FROM t JOIN u USING (a)"), ["a", "b", "c", "d"]);
    assert_eq!(names("SELECT t.*, u.* FROM t, u"), ["a", "b", "c", "a", "d"]);
    assert_eq!(
        names("SELECT a AS \"Q x\", CASE WHEN a = 1 THEN 2 END, EXISTS (SELECT 1) FROM t"),
        ["Q x", "case", "exists"]
    );
    assert_eq!(names("SELECT (SELECT max(d) FROM u), a::text FROM t"), ["max", "a"]);
    assert_eq!(names("VALUES (1, 2)"), ["column1", "column2"]);
}

#[test]
fn a_join_on_what_a_subquery_compares_needs_no_copy_of_the_outer_rows() {
    let database = Database::new();
    let plan = |query: &str| database.bind(query).unwrap().plan.display_indent().to_string();
    for query in [
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
        "SELECT a, (SELECT max(d) FROM u WHERE u.a = t.a) FROM t",
        "SELECT a, EXISTS (SELECT 1 FROM u WHERE u.a = t.a) FROM t",
        "SELECT a, (SELECT d FROM u WHERE u.a = t.a ORDER BY d LIMIT 1) FROM t",
        "SELECT a FROM t WHERE b IN (SELECT d FROM u WHERE u.a = t.a)",
        "SELECT t.a, q.d FROM t LEFT JOIN LATERAL (SELECT d FROM u WHERE u.a <= t.a) q ON true",
    ] {
        assert_eq!(plan(query).matches("TableScan").count(), 2, "{}", plan(query));
    }
}

#[test]
fn a_plan_reads_what_the_views_in_it_read() {
    let database = Database::new();
    let id = |name: &str| database.catalog.resolve(None, name).unwrap().id;
    let mut expected = vec![id("t"), id("u"), id("v"), id("vv")];
    expected.sort();
    assert_eq!(database.bind("SELECT * FROM vv").unwrap().relations, expected);
}

#[test]
fn windows_of_time_are_rows() {
    let database = Database::new();
    let rows = |query: &str| {
        let mut rows = database.rows(&database.bind(query).unwrap(), false).unwrap();
        rows.sort();
        rows
    };
    assert_eq!(
        rows("SELECT id, window_start, window_end FROM TUMBLE(ev, ts, INTERVAL '5 minutes')"),
        [
            "1|2024-01-01 00:00:00|2024-01-01 00:05:00",
            "2|2024-01-01 00:00:00|2024-01-01 00:05:00",
            "3|2024-01-01 00:05:00|2024-01-01 00:10:00",
            "4|NULL|NULL",
        ]
    );
    assert_eq!(
        rows("SELECT window_start, sum(v) FROM HOP(ev, ts, INTERVAL '5 minutes', INTERVAL '10 minutes') GROUP BY 1"),
        ["2023-12-31 23:55:00|11", "2024-01-01 00:00:00|18", "2024-01-01 00:05:00|7"]
    );
    assert_eq!(
        rows(
            "SELECT w.id, ev.v FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), '1 hour'::interval)) w JOIN ev ON ev.id = w.id WHERE w.id = 1"
        ),
        ["1|5"]
    );
    assert_eq!(
        rows(
            "SELECT q.id FROM TUMBLE((SELECT id, ts FROM ev WHERE v > 6), ts, INTERVAL '1 day', INTERVAL '6 hours') q WHERE window_start = '2023-12-31 06:00:00'"
        ),
        ["3"]
    );
}

#[test]
fn parameters_take_their_type_from_their_use() {
    let database = Database::new();
    let context = BindContext::new(&database.catalog);
    bind_query(&parse_query("SELECT a FROM t WHERE a = $1 AND c = $3").unwrap(), &context).unwrap();
    assert_eq!(context.parameter_types.into_inner(), [Some(SqlType::Int4), None, Some(SqlType::Text)]);
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let database = Database::new();
    for query in [
        "WITH RECURSIVE r AS (SELECT 1 UNION SELECT 2 FROM r ORDER BY 1) SELECT * FROM r",
        "SELECT t FROM t",
        "SELECT a FROM t TABLESAMPLE SYSTEM (10)",
    ] {
        assert_eq!(database.bind(query).unwrap_err().state, SqlState::FEATURE_NOT_SUPPORTED, "{query}");
    }
}

#[test]
fn a_missing_column_is_told_with_what_there_is() {
    let error = Database::new().bind("SELECT prise FROM p").unwrap_err();
    assert_eq!(error.detail.as_deref(), Some("Relation \"p\" has columns id, name, grp, price."));
    assert_eq!(error.hint.as_deref(), Some("Did you mean \"price\"?"));
}
