//! The shape of a relation as SQL sees it.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::types::SqlType;

/// One column: name, type, and what is promised of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSchema {
    /// As the user reads it; two columns of a query result may share a name.
    pub name: String,
    /// Its type without the modifier.
    pub sql_type: SqlType,
    /// PostgreSQL's `atttypmod`: -1 is none; `varchar(n)` is n + 4; `numeric(p, s)` is `((p << 16) | s) + 4`.
    pub typmod: i32,
    /// False promises that no value is NULL.
    pub nullable: bool,
}

impl ColumnSchema {
    /// A nullable column without a modifier.
    pub fn new(name: impl Into<String>, sql_type: SqlType) -> ColumnSchema {
        ColumnSchema { name: name.into(), sql_type, typmod: -1, nullable: true }
    }

    /// The same column, promised to hold no NULL.
    pub fn not_null(mut self) -> ColumnSchema {
        self.nullable = false;
        self
    }
}

/// A relation's columns in order, and its primary key if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RelationSchema {
    /// In the order `SELECT *` shows them.
    pub columns: Vec<ColumnSchema>,
    /// Indexes into `columns`, in the key's order. Enforced: no two rows share it, none of its columns is NULL.
    pub primary_key: Option<Vec<usize>>,
}

impl RelationSchema {
    /// A schema without a key.
    pub fn new(columns: Vec<ColumnSchema>) -> RelationSchema {
        RelationSchema { columns, primary_key: None }
    }

    /// The Arrow schema of batches of this relation. Every field is nullable: promises of SQL are not Arrow's to check.
    pub fn arrow(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.columns.iter().map(|column| Field::new(&column.name, column.sql_type.arrow(), true)).collect();
        Arc::new(Schema::new(fields))
    }

    /// The index of the first column of that name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}
