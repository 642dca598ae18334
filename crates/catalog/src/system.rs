//! System relations: what exists, as relations to be queried. One file a relation or a family of them.
//!
//! Which relations there are, their OIDs, columns and types is PostgreSQL 15's own list ([`postgres`]), and ours in
//! `tw_catalog`. A [`SystemRelation`] is a function from a [`Snapshot`] of plain values to rows of some of those columns; the
//! others are NULL, and a relation without one has the rows that PostgreSQL has from birth, or none. `engine` takes the
//! snapshot when a statement reads one, so these relations are always as of now and never stored.

mod information_schema;
mod pg_attrdef;
mod pg_attribute;
mod pg_class;
mod pg_constraint;
mod pg_database;
mod pg_depend;
mod pg_foreign;
mod pg_index;
mod pg_misc;
mod pg_sequence;
mod pg_stat;
mod pg_views;
mod postgres;
pub mod registered;
mod tw_catalog;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arrow::array::{
    ArrayRef, BooleanBuilder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
    UInt32Builder,
};
use repr::text::{ColumnParser, Names};
use repr::types::{Storage, TYPES};
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlType};

pub use pg_attrdef::class_of;

use postgres::{PostgresColumn, PostgresRelation};

use crate::role::Role;

use crate::{Catalog, Object, ObjectKind, SearchPath, SequenceAccess, TEMPORARY_SCHEMA_PREFIX};

/// `pg_catalog`'s OID.
pub const PG_CATALOG_OID: u32 = 11;
/// `public`'s OID.
pub const PUBLIC_OID: u32 = 2200;
/// `information_schema`'s OID.
pub const INFORMATION_SCHEMA_OID: u32 = 13207;
/// `tw_catalog`'s OID.
pub const TW_CATALOG_OID: u32 = 15000;
/// The OID of the first role, who owns everything.
pub const OWNER_OID: u32 = 10;
/// The name of the first role.
pub const OWNER_NAME: &str = "tidewater";
/// The OID of the one database.
pub const DATABASE_OID: u32 = 5;
/// The schema of a session's temporary objects has this added to the session's process id as its OID.
const TEMPORARY_SCHEMA_OID: u32 = 0x4000_0000;

/// How the rows of a system relation are made.
pub struct SystemRelation {
    /// Its OID where it is in `tw_catalog`; PostgreSQL's own have those of PostgreSQL's list.
    pub oid: u32,
    /// `pg_catalog`, `information_schema` or `tw_catalog`.
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// `name type, name type, ..` of the columns that `rows` gives, with `pg_type` names.
    columns: &'static str,
    /// Its rows, each of as many values as there are columns.
    rows: fn(&Snapshot) -> Vec<Vec<Value>>,
}

/// One system relation.
pub struct Relation {
    /// Its OID.
    pub oid: u32,
    /// `pg_catalog`, `information_schema` or `tw_catalog`.
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// `pg_class.relkind`: `r` or `v`.
    pub kind: char,
    columns: Vec<PostgresColumn>,
    source: Option<Source>,
}

/// What makes a relation's rows, and where in them each of the relation's columns is.
struct Source {
    rows: fn(&Snapshot) -> Vec<Vec<Value>>,
    positions: Vec<Option<usize>>,
}

/// What the rows of all system relations are made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every object.
    pub catalog: Arc<Catalog>,
    /// The session's database; there is only one, whatever it is called.
    pub database: String,
    /// Whose rights the session has.
    pub user: String,
    /// The session's user.
    pub session_user: String,
    /// Every role.
    pub roles: Arc<Vec<Role>>,
    /// What functions may do in the session's name; None where they may do nothing.
    pub actions: Option<Arc<dyn Actions>>,
    /// When the server began, microseconds since 1970.
    pub started_us: i64,
    /// When the statement began, microseconds since 1970.
    pub statement_us: i64,
    /// When its transaction began.
    pub transaction_us: i64,
    /// The session's id.
    pub process_id: i32,
    /// The session's settings.
    pub settings: Vec<SettingRow>,
    /// Every session.
    pub sessions: Vec<SessionRow>,
    /// The rows of `tw_errors`.
    pub errors: Vec<ErrorRow>,
    /// The rows of `tw_frontiers`.
    pub frontiers: Vec<FrontierRow>,
    /// The rows of `tw_arrangements`.
    pub arrangements: Vec<ArrangementRow>,
    /// The rows of `tw_sources`.
    pub sources: Vec<SourceRow>,
    /// Names of the functions that may be called.
    pub functions: &'static [String],
    /// Where names without a schema are looked for.
    pub search_path: SearchPath,
    /// What `nextval` and its kin move; None where nothing may.
    pub sequences: Option<Arc<dyn SequenceAccess>>,
}

impl Names for Snapshot {
    fn name(&self, sql_type: &SqlType, oid: u32) -> String {
        registered::name_of(self, sql_type, oid)
    }
}

/// What functions do besides giving a value, in the name of the session that calls them.
pub trait Actions: std::fmt::Debug + Send + Sync {
    /// Adds to what the transaction notifies others of. Errors: `22023` for a channel or payload that is too long.
    fn notify(&self, channel: &str, payload: &str) -> Result<(), PgError>;

    /// The channels that the session listens to.
    fn listening(&self) -> Vec<String>;

    /// Stops what a session does, or ends it; false, with a warning to the caller, if there is none.
    ///
    /// Errors: `42501` unless the caller may act as that session's role.
    fn signal(&self, process_id: i32, terminate: bool) -> Result<bool, PgError>;
}

/// One setting of the session.
#[derive(Clone, Debug)]
pub struct SettingRow {
    /// Its name.
    pub name: String,
    /// Its value now.
    pub value: String,
    /// Its value without SET.
    pub default: String,
    /// One sentence.
    pub description: String,
}

/// One session.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// What cancel requests name.
    pub process_id: i32,
    /// Who.
    pub user: String,
    /// `application_name`.
    pub application_name: String,
    /// `active`, `idle`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: String,
    /// The latest statement's text.
    pub query: String,
    /// When it connected, microseconds since 1970.
    pub started_us: i64,
}

/// One row that failed.
#[derive(Clone, Debug)]
pub struct ErrorRow {
    /// The view or source.
    pub object: ObjectId,
    /// The operator, or the file or partition.
    pub location: String,
    /// The row, or the input's text.
    pub input: String,
    /// SQLSTATE.
    pub state: String,
    /// What is wrong with it.
    pub message: String,
    /// The timestamp since when it is there; None where it is not known.
    pub since: Option<u64>,
    /// How many copies of it.
    pub count: i64,
}

/// How far an object has come.
#[derive(Clone, Debug)]
pub struct FrontierRow {
    /// The object, or an arrangement that objects share.
    pub object: ObjectId,
    /// What it is called.
    pub name: String,
    /// Everything before it is final; None once nothing can change any more.
    pub frontier: Option<u64>,
}

/// One arrangement.
#[derive(Clone, Debug)]
pub struct ArrangementRow {
    /// The dataflow's object, or an arrangement that objects share.
    pub object: ObjectId,
    /// What it is called.
    pub name: String,
    /// The operator.
    pub operator: String,
    /// Updates held.
    pub row_count: i64,
    /// Roughly their size.
    pub size_bytes: i64,
}

/// How far a source has been read, or a table's event time has come.
#[derive(Clone, Debug)]
pub struct SourceRow {
    /// The source.
    pub object: ObjectId,
    /// A file or partition, or `table`.
    pub part: String,
    /// The position after the last row read; None for a table.
    pub position: Option<u64>,
    /// Its watermark as its column's type shows it, where there is one and a row has come.
    pub watermark: Option<String>,
}

/// One value of a system relation.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Oid(u32),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Oids(Vec<u32>),
    Texts(Vec<String>),
}

impl Value {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

/// What makes rows.
fn sources() -> impl Iterator<Item = &'static SystemRelation> {
    [
        pg_attrdef::RELATIONS,
        pg_attribute::RELATIONS,
        pg_class::RELATIONS,
        pg_constraint::RELATIONS,
        pg_database::RELATIONS,
        pg_foreign::RELATIONS,
        pg_index::RELATIONS,
        pg_misc::RELATIONS,
        pg_sequence::RELATIONS,
        pg_stat::RELATIONS,
        pg_views::RELATIONS,
        information_schema::RELATIONS,
        information_schema::CONSTRAINTS,
        information_schema::PRIVILEGES,
        pg_depend::RELATIONS,
        tw_catalog::RELATIONS,
    ]
    .into_iter()
    .flatten()
}

static RELATIONS: LazyLock<Vec<Relation>> = LazyLock::new(|| {
    let sources: HashMap<(&str, &str), &'static SystemRelation> =
        sources().map(|source| ((source.schema, source.name), source)).collect();
    let from_postgres = postgres::relations().into_iter().map(|relation| {
        let source = sources.get(&(relation.schema, relation.name));
        let source = source.map(|source| Source::of(source, &relation.columns));
        let PostgresRelation { oid, schema, kind, name, columns } = relation;
        Relation { oid, schema, name, kind, columns, source }
    });
    let ours = sources.values().filter(|source| source.schema == "tw_catalog").map(|source| {
        let columns: Vec<PostgresColumn> =
            source.declared().map(|(name, type_name)| PostgresColumn { name, type_name, not_null: false }).collect();
        let (oid, schema, name) = (source.oid, source.schema, source.name);
        Relation { oid, schema, name, kind: 'v', source: Some(Source::of(source, &columns)), columns }
    });
    let mut relations: Vec<Relation> = from_postgres.chain(ours).collect();
    relations.sort_by_key(|relation| relation.oid);
    relations
});

/// Every system relation, in the order of its OID.
pub fn relations() -> impl Iterator<Item = &'static Relation> {
    RELATIONS.iter()
}

/// The system relation with this OID.
pub fn relation(id: ObjectId) -> Option<&'static Relation> {
    let index = RELATIONS.binary_search_by_key(&id.0, |relation| relation.oid).ok()?;
    RELATIONS.get(index)
}

/// The columns of a relation of the catalog as one catalog had them.
#[derive(Clone)]
struct Kept {
    catalog: Arc<Catalog>,
    columns: Vec<ArrayRef>,
    row_count: usize,
}

fn keep() -> MutexGuard<'static, HashMap<u32, Kept>> {
    static KEPT: LazyLock<Mutex<HashMap<u32, Kept>>> = LazyLock::new(Mutex::default);
    // Nothing that can panic happens under the lock.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The objects that every catalog starts with.
pub fn objects() -> impl Iterator<Item = Object> {
    relations().map(|relation| {
        let kind = ObjectKind::SystemRelation { schema: relation.relation_schema() };
        Object::new(ObjectId(relation.oid), relation.schema, relation.name, kind)
    })
}

/// The schemas with their OIDs.
pub fn schemas() -> [(&'static str, u32); 4] {
    [
        ("pg_catalog", PG_CATALOG_OID),
        ("public", PUBLIC_OID),
        ("information_schema", INFORMATION_SCHEMA_OID),
        ("tw_catalog", TW_CATALOG_OID),
    ]
}

impl SystemRelation {
    /// Names and types of the columns that its rows have.
    fn declared(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.columns.split(',').map(|text| text.trim().split_once(' ').unwrap_or((text.trim(), "text")))
    }
}

impl Source {
    fn of(relation: &SystemRelation, columns: &[PostgresColumn]) -> Source {
        let position = |wanted: &PostgresColumn| relation.declared().position(|(name, _)| name == wanted.name);
        Source { rows: relation.rows, positions: columns.iter().map(position).collect() }
    }
}

impl Relation {
    /// Its columns.
    pub fn relation_schema(&self) -> RelationSchema {
        let column = |column: &PostgresColumn| ColumnSchema {
            nullable: !column.not_null,
            ..ColumnSchema::new(column.name, type_named(column.type_name))
        };
        RelationSchema::new(self.columns.iter().map(column).collect())
    }

    /// Its rows as columns, and their number.
    ///
    /// Those of a relation that says nothing but what the catalog says are kept until they are asked of another catalog:
    /// tools read the same few relations again and again.
    pub fn columns(&self, snapshot: &Snapshot) -> (Vec<ArrayRef>, usize) {
        if !self.is_of_catalog() {
            return self.made(snapshot);
        }
        let known = keep().get(&self.oid).filter(|kept| Arc::ptr_eq(&kept.catalog, &snapshot.catalog)).cloned();
        if let Some(kept) = known {
            return (kept.columns, kept.row_count);
        }
        let (columns, row_count) = self.made(snapshot);
        let kept = Kept { catalog: Arc::clone(&snapshot.catalog), columns: columns.clone(), row_count };
        keep().insert(self.oid, kept);
        (columns, row_count)
    }

    /// Whether its rows are a function of the catalog alone.
    fn is_of_catalog(&self) -> bool {
        let of_session = ["pg_database", "pg_authid", "pg_auth_members", "pg_db_role_setting", "pg_shadow", "pg_roles"];
        self.schema == "pg_catalog" && self.kind == 'r' && !of_session.contains(&self.name)
    }

    fn made(&self, snapshot: &Snapshot) -> (Vec<ArrayRef>, usize) {
        let stored = match self.schema {
            "pg_catalog" => postgres::stored(self.name, &self.columns, snapshot),
            _ => Vec::new(),
        };
        let made = self.source.as_ref().map_or_else(Vec::new, |source| (source.rows)(snapshot));
        let row_count = stored.len() + made.len();
        let array = |(index, column): (usize, &PostgresColumn)| {
            let position = self.source.as_ref().and_then(|source| source.positions[index]);
            let made = made.iter().map(|row| position.map_or(&Value::Null, |position| &row[position]));
            build(&type_named(column.type_name), stored.iter().map(|row| &row[index]).chain(made))
        };
        (self.columns.iter().enumerate().map(array).collect(), row_count)
    }

    /// `pg_type.oid` of a column's type as the catalog says it, where a query's row description says another: a domain.
    pub(crate) fn column_type(&self, index: usize) -> Option<u32> {
        postgres::type_oid(self.columns.get(index)?.type_name)
    }
}

/// The type that a column of the type `name` has in a query: a domain's is what it is over, and of types that we do not
/// have the text.
fn type_named(name: &str) -> SqlType {
    let scalar = |name: &str| TYPES.iter().find(|info| info.name == name).map(|info| info.sql_type.clone());
    match name {
        "cardinal_number" => SqlType::Int4,
        "character_data" | "yes_or_no" => SqlType::Varchar,
        "sql_identifier" => SqlType::Name,
        "time_stamp" => SqlType::Timestamptz,
        _ => match name.strip_prefix('_').and_then(scalar) {
            Some(element) => SqlType::Array(Box::new(element)),
            None => scalar(name).unwrap_or(SqlType::Text),
        },
    }
}

/// A column of `sql_type`; a value of another kind than the column's is read from its text.
fn build<'a>(sql_type: &SqlType, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
    macro_rules! scalars {
        ($builder:expr, $value:ident => $option:expr) => {{
            let mut builder = $builder;
            for $value in values {
                builder.append_option($option);
            }
            Arc::new(builder.finish())
        }};
    }
    fn int(value: &Value) -> Option<i64> {
        match value {
            Value::Int(int) => Some(*int),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
    let bool = |value: &Value| match value {
        Value::Bool(bool) => Some(*bool),
        Value::Text(text) => Some(text == "t"),
        _ => None,
    };
    let oid = |value: &Value| match value {
        Value::Oid(oid) => Some(*oid),
        Value::Int(int) => u32::try_from(*int).ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    match sql_type {
        SqlType::Bool => scalars!(BooleanBuilder::new(), value => bool(value)),
        SqlType::Int2 => scalars!(Int16Builder::new(), value => int(value).map(|int| int as i16)),
        SqlType::Int4 => scalars!(Int32Builder::new(), value => int(value).map(|int| int as i32)),
        SqlType::Int8 => scalars!(Int64Builder::new(), value => int(value)),
        SqlType::Timestamptz => {
            scalars!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), value => int(value))
        }
        other if other.storage() == Storage::Oid => scalars!(UInt32Builder::new(), value => oid(value)),
        other if other.storage() == Storage::Text => {
            scalars!(StringBuilder::new(), value => if let Value::Text(text) = value { Some(text) } else { None })
        }
        other => read(other, values),
    }
}

/// A column whose values are read from their texts; NULL where a text is none of the type's.
fn read<'a>(sql_type: &SqlType, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
    let mut column = ColumnParser::new(sql_type, -1);
    for value in values {
        let text = value_text(value, matches!(sql_type, SqlType::Array(_)));
        let pushed = column.push(text.as_deref());
        debug_assert!(pushed.is_ok(), "{value:?} is no {}", sql_type.sql_name());
        if pushed.is_err() {
            // NULL is of every type.
            let _ = column.push(None);
        }
    }
    column.finish()
}

/// A value as its type's input function reads it; the elements of an array in braces, of a vector with blanks.
fn value_text(value: &Value, braces: bool) -> Option<String> {
    let list = |elements: Vec<String>| match braces {
        true => format!("{{{}}}", elements.join(",")),
        false => elements.join(" "),
    };
    let quoted = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    Some(match value {
        Value::Null => return None,
        Value::Bool(bool) => if *bool { "t" } else { "f" }.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Oid(oid) => oid.to_string(),
        Value::Float(float) => float.to_string(),
        Value::Text(text) => text.clone(),
        Value::Ints(ints) => list(ints.iter().map(i64::to_string).collect()),
        Value::Oids(oids) => list(oids.iter().map(u32::to_string).collect()),
        Value::Texts(texts) => list(texts.iter().map(quoted).collect()),
    })
}

pub(crate) fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// The OID of a schema by name; `public`'s for one we do not know.
pub(crate) fn schema_oid(catalog: &Catalog, name: &str) -> u32 {
    let built_in = schemas().into_iter().find(|(schema, _)| *schema == name).map(|(_, oid)| oid);
    let temporary = || name.strip_prefix(TEMPORARY_SCHEMA_PREFIX)?.parse::<u32>().ok();
    built_in
        .or_else(|| catalog.schema(name).map(|schema| schema.oid))
        .or_else(|| temporary().map(|process_id| TEMPORARY_SCHEMA_OID + process_id))
        .unwrap_or(PUBLIC_OID)
}

/// The keywords of PostgreSQL's grammar, each with the columns of `pg_get_keywords`.
pub fn keywords() -> impl Iterator<Item = Vec<&'static str>> {
    postgres::keywords()
}

/// A type as `format_type` prints it: `character varying(20)`, `numeric(10,2)[]`.
pub fn format_type(sql_type: &SqlType, typmod: i32) -> String {
    match sql_type {
        SqlType::Array(element) => format!("{}[]", format_type(element, typmod)),
        SqlType::Varchar | SqlType::Bpchar if typmod >= 4 => format!("{}({})", sql_type.sql_name(), typmod - 4),
        SqlType::Numeric if typmod >= 4 => {
            // The scale is signed, in eleven bits.
            let packed = typmod - 4;
            format!("numeric({},{})", (packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 0x400) - 0x400)
        }
        SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz if typmod >= 0 => {
            let name = sql_type.sql_name();
            match name.split_once(' ') {
                Some((first, rest)) => format!("{first}({typmod}) {rest}"),
                None => format!("{name}({typmod})"),
            }
        }
        SqlType::Vector if typmod > 0 => format!("vector({typmod})"),
        sql_type => sql_type.sql_name(),
    }
}

/// Whether a name is a keyword that PostgreSQL quotes: any but those without a meaning of their own.
fn is_reserved(name: &str) -> bool {
    static RESERVED: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
        let reserved = keywords().filter(|keyword| keyword.get(1).is_some_and(|code| *code != "U"));
        reserved.filter_map(|keyword| keyword.first().copied()).collect()
    });
    RESERVED.contains(name)
}

/// A name as SQL text: quoted where it must be.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !is_reserved(name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A text as a literal of SQL.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_of_columns_that_postgres_has() {
        let mut oids = BTreeSet::new();
        for relation in relations() {
            assert!(oids.insert(relation.oid), "{} shares its OID", relation.name);
        }
        for source in sources() {
            let relation =
                relations().find(|relation| (relation.schema, relation.name) == (source.schema, source.name));
            let relation = relation.unwrap_or_else(|| panic!("PostgreSQL has no {}.{}", source.schema, source.name));
            for (name, _) in source.declared() {
                let found = relation.columns.iter().any(|column| column.name == name);
                assert!(found, "PostgreSQL's {} has no column {name}", source.name);
            }
        }
    }

    #[test]
    fn every_relation_describes_a_catalog_of_system_relations() {
        let mut catalog = Catalog::default();
        for object in objects() {
            catalog.insert(object).expect("no two of a name");
        }
        let snapshot = Snapshot { catalog: Arc::new(catalog), ..Snapshot::default() };
        for relation in relations() {
            let (columns, row_count) = relation.columns(&snapshot);
            let schema = relation.relation_schema();
            assert_eq!(columns.len(), schema.columns.len());
            for (array, column) in columns.iter().zip(&schema.columns) {
                assert_eq!(array.len(), row_count);
                assert_eq!(*array.data_type(), column.sql_type.arrow(), "{}.{}", relation.name, column.name);
            }
        }
    }
}
