//! One named thing, and what each kind of thing consists of.

use repr::source::{Options, SourceDescription};
use repr::{ObjectId, RelationSchema, TableOptions, ViewOptions};

/// A named object. Immutable: a change makes a new one under the same id.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its id and OID.
    pub id: ObjectId,
    /// The schema it is in.
    pub schema: String,
    /// Its name within the schema.
    pub name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// The statement that made it, as it is stored; empty for system relations.
    pub sql: String,
    /// The objects that its definition names.
    pub depends_on: Vec<ObjectId>,
}

/// What an object is, with what its readers need.
#[derive(Clone, Debug)]
pub enum ObjectKind {
    /// Rows that INSERT, UPDATE and DELETE change.
    Table {
        /// Its columns and key.
        schema: RelationSchema,
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
    /// An arrangement of a relation by some of its columns.
    Index {
        /// The relation.
        on: ObjectId,
        /// Indexes of its columns.
        columns: Vec<usize>,
    },
    /// A relation of `pg_catalog`, `information_schema` or `tw_catalog`, made when it is read.
    SystemRelation {
        /// Its columns.
        schema: RelationSchema,
    },
}

impl Object {
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
            ObjectKind::Connection { .. } | ObjectKind::Index { .. } => None,
        }
    }

    /// What PostgreSQL's messages call it: `table`, `view`, `materialized view`, `source`, `index`, `connection`.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            ObjectKind::Table { .. } | ObjectKind::SystemRelation { .. } => "table",
            ObjectKind::Source { .. } => "source",
            ObjectKind::Connection { .. } => "connection",
            ObjectKind::View { .. } => "view",
            ObjectKind::MaterializedView { .. } => "materialized view",
            ObjectKind::Index { .. } => "index",
        }
    }
}
