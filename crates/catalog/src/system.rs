//! System relations: what exists, as relations to be queried. One file a relation or a family of them.
//!
//! A [`SystemRelation`] is a schema and a function from a [`Snapshot`] of plain values to rows. `engine` takes the snapshot
//! when a statement reads one, so these relations are always as of now and never stored. Names, columns and OIDs are
//! PostgreSQL 15's wherever a client could look; ours are in `tw_catalog`.

mod empty;
mod information_schema;
mod pg_attrdef;
mod pg_attribute;
mod pg_class;
mod pg_constraint;
mod pg_database;
mod pg_index;
mod pg_misc;
mod pg_proc;
mod pg_sequence;
mod pg_type;
mod pg_views;
mod tw_catalog;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float32Builder, Int16Builder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
    TimestampMicrosecondBuilder, UInt32Builder, new_null_array,
};
use arrow::datatypes::DataType;
use repr::types::TYPES;
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlType};

pub use pg_attrdef::class_of;

use crate::role::Role;

use crate::{Catalog, Object, ObjectKind, SearchPath, SequenceAccess, TEMPORARY_SCHEMA_PREFIX};

/// `pg_catalog`'s OID.
pub const PG_CATALOG_OID: u32 = 11;
/// `public`'s OID.
pub const PUBLIC_OID: u32 = 2200;
/// `information_schema`'s OID.
pub const INFORMATION_SCHEMA_OID: u32 = 13000;
/// `tw_catalog`'s OID.
pub const TW_CATALOG_OID: u32 = 13001;
/// The OID of the first role, who owns everything.
pub const OWNER_OID: u32 = 10;
/// The name of the first role.
pub const OWNER_NAME: &str = "tidewater";
/// The OID of the one database.
pub const DATABASE_OID: u32 = 5;
/// The schema of a session's temporary objects has this added to the session's process id as its OID.
const TEMPORARY_SCHEMA_OID: u32 = 0x4000_0000;

/// One system relation.
pub struct SystemRelation {
    /// Its OID.
    pub oid: u32,
    /// `pg_catalog`, `information_schema` or `tw_catalog`.
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// `name type, name type, ..` with `pg_type` names.
    columns: &'static str,
    /// Its rows, each of as many values as there are columns.
    rows: fn(&Snapshot) -> Vec<Vec<Value>>,
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
    pub functions: Vec<String>,
    /// Where names without a schema are looked for.
    pub search_path: SearchPath,
    /// What `nextval` and its kin move; None where nothing may.
    pub sequences: Option<Arc<dyn SequenceAccess>>,
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

/// Every system relation, in the order of its OID.
pub fn relations() -> impl Iterator<Item = &'static SystemRelation> {
    [
        pg_attrdef::RELATIONS,
        pg_attribute::RELATIONS,
        pg_class::RELATIONS,
        pg_constraint::RELATIONS,
        pg_database::RELATIONS,
        pg_index::RELATIONS,
        pg_misc::RELATIONS,
        pg_proc::RELATIONS,
        pg_sequence::RELATIONS,
        pg_type::RELATIONS,
        pg_views::RELATIONS,
        information_schema::RELATIONS,
        tw_catalog::RELATIONS,
        empty::RELATIONS,
    ]
    .into_iter()
    .flatten()
}

/// The system relation with this OID.
pub fn relation(id: ObjectId) -> Option<&'static SystemRelation> {
    relations().find(|relation| relation.oid == id.0)
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
    /// Its columns.
    pub fn relation_schema(&self) -> RelationSchema {
        let column = |text: &str| {
            let (name, type_name) = text.trim().split_once(' ').unwrap_or((text.trim(), "text"));
            ColumnSchema::new(name, type_named(type_name.trim()))
        };
        RelationSchema::new(self.columns.split(',').map(column).collect())
    }

    /// Its rows as columns, and their number.
    pub fn columns(&self, snapshot: &Snapshot) -> (Vec<ArrayRef>, usize) {
        let rows = (self.rows)(snapshot);
        let schema = self.relation_schema();
        debug_assert!(rows.iter().all(|row| row.len() == schema.columns.len()), "{}", self.name);
        let array =
            |(index, column): (usize, &ColumnSchema)| build(&column.sql_type, rows.iter().map(|row| &row[index]));
        (schema.columns.iter().enumerate().map(array).collect(), rows.len())
    }
}

fn type_named(name: &str) -> SqlType {
    let scalar = |name: &str| TYPES.iter().find(|info| info.name == name).map(|info| info.sql_type.clone());
    match name.strip_prefix('_').and_then(scalar) {
        Some(element) => SqlType::Array(Box::new(element)),
        None => scalar(name).unwrap_or(SqlType::Text),
    }
}

/// A column of `sql_type`; a value of another kind than the column's is NULL.
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
    let int = |value: &Value| match value {
        Value::Int(int) => Some(*int),
        _ => None,
    };
    match sql_type {
        SqlType::Bool => {
            scalars!(BooleanBuilder::new(), value => if let Value::Bool(bool) = value { Some(*bool) } else { None })
        }
        SqlType::Int2 => scalars!(Int16Builder::new(), value => int(value).map(|int| int as i16)),
        SqlType::Int4 => scalars!(Int32Builder::new(), value => int(value).map(|int| int as i32)),
        SqlType::Int8 => scalars!(Int64Builder::new(), value => int(value)),
        SqlType::Timestamptz => {
            scalars!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), value => int(value))
        }
        SqlType::Oid | SqlType::Regclass | SqlType::Regtype => {
            scalars!(UInt32Builder::new(), value => if let Value::Oid(oid) = value { Some(*oid) } else { None })
        }
        SqlType::Float4 => {
            scalars!(Float32Builder::new(), value => if let Value::Float(float) = value { Some(*float) } else { None })
        }
        SqlType::Array(element) if **element == SqlType::Int2 => {
            let mut builder = ListBuilder::new(Int16Builder::new());
            for value in values {
                match value {
                    Value::Ints(ints) => builder.append_value(ints.iter().map(|int| Some(*int as i16))),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        SqlType::Array(element) if **element == SqlType::Oid => {
            let mut builder = ListBuilder::new(UInt32Builder::new());
            for value in values {
                match value {
                    Value::Oids(oids) => builder.append_value(oids.iter().map(|oid| Some(*oid))),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        SqlType::Array(element) if **element == SqlType::Text => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for value in values {
                match value {
                    Value::Texts(texts) => builder.append_value(texts.iter().map(Some)),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        // Nothing shows a value of other types yet.
        other if other.arrow() != DataType::Utf8 => new_null_array(&other.arrow(), values.count()),
        _ => scalars!(StringBuilder::new(), value => if let Value::Text(text) = value { Some(text) } else { None }),
    }
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
        sql_type => sql_type.sql_name(),
    }
}

/// A name as SQL text: quoted where it must be.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
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
    fn every_relation_has_known_types_a_name_and_an_oid_of_its_own() {
        let mut oids = BTreeSet::new();
        let mut names = BTreeSet::new();
        for relation in relations() {
            assert!(oids.insert(relation.oid), "{} shares its OID", relation.name);
            assert!(names.insert((relation.schema, relation.name)), "{} is there twice", relation.name);
            for column in relation.columns.split(',') {
                let type_name = column.trim().split_once(' ').expect("name and type").1;
                let scalar = type_name.strip_prefix('_').unwrap_or(type_name);
                assert!(TYPES.iter().any(|info| info.name == scalar), "{}: {column}", relation.name);
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
