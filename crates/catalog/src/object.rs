//! One named thing, and what each kind of thing consists of.

use std::collections::BTreeMap;

use repr::source::{Options, SourceDescription};
use repr::{ObjectId, RelationSchema, TableOptions, ViewOptions};

use crate::constraint::Constraint;
use crate::names::NamedRelation;
use crate::sequence::Sequence;
use crate::table::ColumnDetail;

/// A named object. Immutable: a change makes a new one under the same id or, where its rows take another shape, under a new
/// id with the same OID.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// What storage, dataflows and dependents know it by.
    pub id: ObjectId,
    /// What users know it by, for as long as it lives.
    pub oid: u32,
    /// The schema it is in; empty for a schema.
    pub schema: String,
    /// Its name within the schema.
    pub name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// The statement that made it, where its kind does not say all of it: of sources, connections and views.
    pub sql: String,
    /// The objects that its definition names.
    pub depends_on: Vec<ObjectId>,
    /// What the names in a view's query meant when it was made.
    pub names: Vec<NamedRelation>,
    /// COMMENT ON it under 0, on its columns under their numbers.
    pub comments: BTreeMap<i16, String>,
}

/// What an object is, with what its readers need.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectKind {
    /// Where objects' names are.
    Schema,
    /// Rows that INSERT, UPDATE and DELETE change.
    Table {
        /// Its columns and key.
        schema: RelationSchema,
        /// What else was said of each column.
        details: Vec<ColumnDetail>,
        /// What else was said of it.
        options: TableOptions,
    },
    /// Rows that come from outside.
    Source {
        /// Where from and in which form; also holds the columns.
        description: SourceDescription,
    },
    /// How to reach an outside system.
    Connection {
        /// `kafka`.
        connector: String,
        /// Its options.
        options: Options,
    },
    /// A query by name, planned into whatever uses it.
    View {
        /// The query's columns.
        schema: RelationSchema,
        /// The text after AS.
        query: String,
    },
    /// A query whose answer is kept.
    MaterializedView {
        /// The query's columns.
        schema: RelationSchema,
        /// The text after AS.
        query: String,
        /// What WITH said.
        options: ViewOptions,
    },
    /// An arrangement of a relation by some of its columns. A primary key's is the table's own.
    Index {
        /// The relation.
        on: ObjectId,
        /// Indexes of its columns.
        columns: Vec<usize>,
        /// Whether it allows a key once only, and why it is there.
        uniqueness: Uniqueness,
    },
    /// What a table's rows are held to, beside its keys.
    Constraint(Constraint),
    /// Numbers, each given out once.
    Sequence(Sequence),
    /// A relation of `pg_catalog`, `information_schema` or `tw_catalog`, made when it is read.
    SystemRelation {
        /// Its columns.
        schema: RelationSchema,
    },
}

/// What an index says of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uniqueness {
    /// Any number of rows may share a key.
    None,
    /// `CREATE UNIQUE INDEX`: rows without a NULL in the key have it alone.
    Index,
    /// The same, as a constraint of the table.
    Constraint,
    /// The table's primary key.
    PrimaryKey,
}

impl Uniqueness {
    /// Whether it is a constraint, which `ALTER TABLE` makes and drops.
    pub fn is_constraint(self) -> bool {
        matches!(self, Uniqueness::Constraint | Uniqueness::PrimaryKey)
    }
}

impl Object {
    /// An object as CREATE makes it: nothing is said of it yet.
    pub fn new(id: ObjectId, schema: impl Into<String>, name: impl Into<String>, kind: ObjectKind) -> Object {
        Object {
            id,
            oid: id.0,
            schema: schema.into(),
            name: name.into(),
            kind,
            sql: String::new(),
            depends_on: Vec::new(),
            names: Vec::new(),
            comments: BTreeMap::new(),
        }
    }

    /// What a view is defined as, and how it gives its rows; None for anything else.
    pub fn view_definition(&self) -> Option<String> {
        match &self.kind {
            ObjectKind::MaterializedView { query, options, .. } if options.emit_on_window_close => {
                Some(format!("{query} EMIT ON WINDOW CLOSE"))
            }
            ObjectKind::View { query, .. } | ObjectKind::MaterializedView { query, .. } => Some(query.clone()),
            _ => None,
        }
    }

    /// The columns, if it is a relation.
    pub fn relation_schema(&self) -> Option<&RelationSchema> {
        match &self.kind {
            ObjectKind::Table { schema, .. }
            | ObjectKind::View { schema, .. }
            | ObjectKind::MaterializedView { schema, .. }
            | ObjectKind::SystemRelation { schema } => Some(schema),
            ObjectKind::Source { description } => Some(&description.schema),
            ObjectKind::Sequence(_) => Some(Sequence::relation_schema()),
            ObjectKind::Schema
            | ObjectKind::Connection { .. }
            | ObjectKind::Index { .. }
            | ObjectKind::Constraint(_) => None,
        }
    }

    /// The number (`attnum`) of the column at `index`: it stays the same while others come and go.
    pub fn column_number(&self, index: usize) -> i16 {
        match &self.kind {
            ObjectKind::Table { details, .. } => details.get(index).map_or(0, |detail| detail.number),
            _ => index as i16 + 1,
        }
    }

    /// Where the column with this number is; None once it has been dropped.
    pub fn column_at(&self, number: i16) -> Option<usize> {
        let column_count = self.relation_schema().map_or(0, |schema| schema.columns.len());
        (0..column_count).find(|index| self.column_number(*index) == number)
    }

    /// What PostgreSQL's messages call it: `table`, `view`, `materialized view`, `source`, `index`, `connection`.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            ObjectKind::Schema => "schema",
            ObjectKind::Table { .. } | ObjectKind::SystemRelation { .. } => "table",
            ObjectKind::Source { .. } => "source",
            ObjectKind::Connection { .. } => "connection",
            ObjectKind::View { .. } => "view",
            ObjectKind::MaterializedView { .. } => "materialized view",
            ObjectKind::Index { .. } => "index",
            ObjectKind::Constraint(_) => "constraint",
            ObjectKind::Sequence(_) => "sequence",
        }
    }

    /// Whether it goes with its session.
    pub fn is_temporary(&self) -> bool {
        self.schema.starts_with(TEMPORARY_SCHEMA_PREFIX)
    }
}

/// A session's temporary objects are in the schema of this name with its process id behind it.
pub const TEMPORARY_SCHEMA_PREFIX: &str = "pg_temp_";
