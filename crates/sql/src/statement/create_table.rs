//! CREATE TABLE: columns, NOT NULL, DEFAULT and one PRIMARY KEY; APPEND ONLY, a watermark and RETAIN HISTORY.
//!
//! A column's DEFAULT is not part of the relation's schema: INSERT reads it from the statement's text, which the catalog
//! keeps with the table.

use catalog::Object;
use repr::{ColumnSchema, LateRows, PgError, RelationSchema, SqlState, SqlType, TableOptions, Watermark};
use sqlparser::ast::{
    self, ColumnDef, ColumnOption, CreateTable, CreateTableOptions, Expr, IndexColumn, TableConstraint,
};

use super::{BoundStatement, check_distinct_columns, creation_schema, retain_history, watermark};
use crate::bind::{BindContext, bind_expr_over};
use crate::cast::{CastContext, cast, type_from_ast};
use crate::parse::watermark::declaration;
use crate::parse::{self, Ast, fold, object_name, parse, position_of};

pub(super) fn bind(create: &parse::CreateTable, context: &BindContext) -> Result<BoundStatement, PgError> {
    let table = &*create.table;
    refuse_clauses(table)?;
    let name = object_name(&table.name)?;
    let columns = columns_schema(&name.name, &table.columns, &plain_constraints(table))?;
    let options = options(create, &columns.columns, context)?;
    for (index, default) in &columns.defaults {
        let column = &columns.columns[*index];
        bind_default(default, column, context)?;
    }
    Ok(BoundStatement::CreateTable {
        schema_name: creation_schema(&name)?,
        name: name.name,
        schema: RelationSchema { columns: columns.columns, primary_key: columns.primary_key },
        options,
        if_not_exists: table.if_not_exists,
    })
}

/// Its constraints without the watermark, which is among them.
fn plain_constraints(table: &CreateTable) -> Vec<TableConstraint> {
    table.constraints.iter().filter(|constraint| declaration(constraint).is_none()).cloned().collect()
}

/// What stands behind the column list. Errors: 0A000 for an option there is not, and for a watermark where rows may change;
/// those of the watermark.
fn options(
    create: &parse::CreateTable,
    columns: &[ColumnSchema],
    context: &BindContext,
) -> Result<TableOptions, PgError> {
    let mut said = create.options.clone();
    let retain_history_ms = retain_history(&mut said)?;
    let watermark = watermark::bind(columns, &create.table.constraints, &mut said, context)?;
    if let Some(option) = said.keys().next() {
        return Err(PgError::unsupported(format!("storage parameter \"{option}\"")));
    }
    match watermark {
        Some(_) if !create.append_only => Err(PgError::unsupported("WATERMARK on a table whose rows may change")
            .with_hint("Write APPEND ONLY behind the column list.")),
        Some(Watermark { late_rows: LateRows::Only, .. }) => {
            Err(PgError::unsupported("LATE ROWS = only on a table").with_hint("LATE ROWS = drop leaves them out."))
        }
        _ => Ok(TableOptions { append_only: create.append_only, watermark, retain_history_ms }),
    }
}

/// What a column list says.
pub(super) struct ColumnsSchema {
    pub(super) columns: Vec<ColumnSchema>,
    pub(super) primary_key: Option<Vec<usize>>,
    /// By column, its DEFAULT.
    pub(super) defaults: Vec<(usize, Expr)>,
}

/// The columns and key that the column list of `relation` declares. Errors: 42701, 42P16, types' errors, 0A000 for other
/// constraints.
pub(super) fn columns_schema(
    relation: &str,
    definitions: &[ColumnDef],
    constraints: &[TableConstraint],
) -> Result<ColumnsSchema, PgError> {
    let mut schema = ColumnsSchema { columns: Vec::new(), primary_key: None, defaults: Vec::new() };
    for (index, definition) in definitions.iter().enumerate() {
        let (sql_type, typmod) = column_type(definition)?;
        let mut column = ColumnSchema { name: fold(&definition.name), sql_type, typmod, nullable: true };
        for option in &definition.options {
            match &option.option {
                ColumnOption::Null => {}
                ColumnOption::NotNull => column.nullable = false,
                ColumnOption::Default(default) => schema.defaults.push((index, default.clone())),
                ColumnOption::PrimaryKey(_) => set_key(relation, &mut schema, vec![index])?,
                ColumnOption::Unique(_) => return Err(PgError::unsupported("UNIQUE")),
                ColumnOption::ForeignKey(_) => return Err(PgError::unsupported("REFERENCES")),
                ColumnOption::Check(_) => return Err(PgError::unsupported("CHECK")),
                ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                    return Err(PgError::unsupported("a generated column"));
                }
                ColumnOption::Collation(_) => return Err(PgError::unsupported("COLLATE")),
                other => return Err(PgError::unsupported(format!("column option {other}"))),
            }
        }
        schema.columns.push(column);
    }
    check_distinct_columns(schema.columns.iter().map(|column| column.name.as_str()))?;
    for constraint in constraints {
        match constraint {
            TableConstraint::PrimaryKey(key) => {
                let columns = key.columns.iter().map(|column| key_column(&schema.columns, column));
                let columns = columns.collect::<Result<Vec<usize>, PgError>>()?;
                set_key(relation, &mut schema, columns)?;
            }
            TableConstraint::Unique(_) => return Err(PgError::unsupported("UNIQUE")),
            TableConstraint::ForeignKey(_) => return Err(PgError::unsupported("FOREIGN KEY")),
            TableConstraint::Check(_) => return Err(PgError::unsupported("CHECK")),
            other => return Err(PgError::unsupported(format!("table constraint {other}"))),
        }
    }
    for index in schema.primary_key.iter().flatten() {
        schema.columns[*index].nullable = false;
    }
    Ok(schema)
}

fn column_type(definition: &ColumnDef) -> Result<(SqlType, i32), PgError> {
    let (sql_type, typmod) = type_from_ast(&definition.data_type)?;
    match sql_type {
        SqlType::Unknown => {
            let message = format!("column \"{}\" has pseudo-type unknown", fold(&definition.name));
            Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message))
        }
        sql_type => Ok((sql_type, typmod)),
    }
}

fn set_key(relation: &str, schema: &mut ColumnsSchema, columns: Vec<usize>) -> Result<(), PgError> {
    if schema.primary_key.replace(columns).is_some() {
        let message = format!("multiple primary keys for table \"{relation}\" are not allowed");
        return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    }
    Ok(())
}

fn key_column(columns: &[ColumnSchema], key: &IndexColumn) -> Result<usize, PgError> {
    let Expr::Identifier(ident) = &key.column.expr else {
        return Err(PgError::unsupported("an expression in PRIMARY KEY"));
    };
    let name = fold(ident);
    columns.iter().position(|column| column.name == name).ok_or_else(|| {
        let message = format!("column \"{name}\" named in key does not exist");
        PgError { position: position_of(ident), ..PgError::new(SqlState::UNDEFINED_COLUMN, message) }
    })
}

/// The DEFAULT of each column of `table` that has one, read from the table's own statement.
pub(super) fn defaults(table: &Object) -> Result<Vec<(usize, Expr)>, PgError> {
    if !table.sql.to_ascii_lowercase().contains("default") {
        return Ok(Vec::new());
    }
    let statements = parse(&table.sql)?;
    let Some(Ast::CreateTable(create)) = statements.first().map(|statement| &statement.ast) else {
        return Ok(Vec::new());
    };
    let create = &create.table;
    columns_schema(&table.name, &create.columns, &plain_constraints(create)).map(|schema| schema.defaults)
}

fn bind_default(default: &ast::Expr, column: &ColumnSchema, context: &BindContext) -> Result<(), PgError> {
    let default = bind_expr_over(None, &RelationSchema::new(Vec::new()), default, context)?;
    let found = default.sql_type.clone();
    cast(default, &column.sql_type, column.typmod, CastContext::Assignment).map_err(|error| match error.state {
        SqlState::CANNOT_COERCE | SqlState::DATATYPE_MISMATCH => {
            let message = format!(
                "column \"{}\" is of type {} but default expression is of type {}",
                column.name,
                column.sql_type.sql_name(),
                found.sql_name()
            );
            PgError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression.")
        }
        _ => error,
    })?;
    Ok(())
}

fn refuse_clauses(table: &CreateTable) -> Result<(), PgError> {
    let clauses = [
        (table.or_replace, "CREATE OR REPLACE TABLE"),
        (table.temporary, "CREATE TEMPORARY TABLE"),
        (table.external, "CREATE EXTERNAL TABLE"),
        (table.query.is_some(), "CREATE TABLE AS"),
        (table.like.is_some(), "LIKE"),
        (table.inherits.is_some(), "INHERITS"),
        (table.partition_of.is_some(), "PARTITION OF"),
        (table.partition_by.is_some(), "PARTITION BY"),
        (table.on_commit.is_some(), "ON COMMIT"),
        (table.clone.is_some(), "CLONE"),
        (!matches!(table.table_options, CreateTableOptions::None), "a storage parameter"),
    ];
    match clauses.into_iter().find(|(present, _)| *present) {
        Some((_, clause)) => Err(PgError::unsupported(clause)),
        None => Ok(()),
    }
}
