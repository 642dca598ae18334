//! CREATE TABLE: columns with DEFAULT, NOT NULL, GENERATED; constraints; APPEND ONLY, a watermark and RETAIN HISTORY.
//!
//! The table itself has its columns and its primary key. All else that the statement declares are statements of their own, run
//! after it in the same transaction: a sequence for `serial` and identity columns, ALTER TABLE .. ADD CONSTRAINT for each
//! constraint. So there is one way to add a constraint, whenever it is declared.

use catalog::{ColumnDetail, Object, ObjectKind};
use repr::{ColumnSchema, LateRows, ObjectId, PgError, RelationSchema, SqlState, SqlType, TableOptions, Watermark};
use sqlparser::ast::{
    self, ColumnDef, CreateTable, CreateTableLikeKind, Expr, Ident, IndexColumn, OnCommit, TableConstraint,
};

use super::column::{self, Column};
use super::constraint::{column_constraint, statement_of};
use super::{BoundStatement, Step, Target, check_distinct_columns, creation_target, retain_history, watermark};
use crate::bind::{BindContext, bind_query};
use crate::parse::watermark::declaration;
use crate::parse::{self, fold, object_name, position_of};

pub(super) fn bind(create: &parse::CreateTable, context: &BindContext) -> Result<BoundStatement, PgError> {
    let table = &*create.table;
    refuse_clauses(table)?;
    let name = object_name(&table.name)?;
    let target = creation_target(&name, create.temporary, context)?;
    let tag = if create.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" };
    if table.if_not_exists && context.catalog.in_schema(&target.schema, &target.name).is_some() {
        return Ok(target.skipped(tag));
    }
    if let Some(query) = &create.query {
        return create_as(create, query, target, context);
    }
    let mut declared = like(table, context)?;
    let mut definitions = declared.definitions.clone();
    definitions.extend(table.columns.iter().cloned());
    let mut columns = columns_schema(&target, &definitions, &plain_constraints(table), context)?;
    columns.after.append(&mut declared.after);
    let object = Object::new(
        ObjectId(0),
        &target.schema,
        &target.name,
        ObjectKind::Table {
            options: options(create, &columns.columns, context)?,
            schema: RelationSchema { columns: columns.columns, primary_key: columns.primary_key },
            details: columns.details,
        },
    );
    let mut steps: Vec<Step> = columns.before.into_iter().map(Step::Statement).collect();
    steps.push(Step::Create(Box::new(object)));
    steps.extend(columns.after.into_iter().map(Step::Statement));
    if table.on_commit == Some(OnCommit::Drop) {
        steps.push(Step::DropAtCommit(target.schema.clone(), target.name.clone()));
    }
    Ok(BoundStatement::Define { tag, steps })
}

/// `CREATE TABLE .. AS query`: the columns of the query, then its rows.
fn create_as(
    create: &parse::CreateTable,
    query: &ast::Query,
    target: Target,
    context: &BindContext,
) -> Result<BoundStatement, PgError> {
    let query = bind_query(query, context)?;
    let names: Vec<String> = create.table.columns.iter().map(|column| fold(&column.name)).collect();
    if names.len() > query.schema.columns.len() {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "too many column names were specified"));
    }
    let mut columns = query.schema.columns.clone();
    for (column, name) in columns.iter_mut().zip(names) {
        column.name = name;
    }
    for column in &mut columns {
        column.nullable = true;
        if column.sql_type == SqlType::Unknown {
            column.sql_type = SqlType::Text;
        }
    }
    check_distinct_columns(columns.iter().map(|column| column.name.as_str()))?;
    let details = (0..columns.len()).map(|index| ColumnDetail { number: index as i16 + 1, ..Default::default() });
    let object = Object::new(
        ObjectId(0),
        &target.schema,
        &target.name,
        ObjectKind::Table {
            details: details.collect(),
            options: options(create, &columns, context)?,
            schema: RelationSchema::new(columns),
        },
    );
    Ok(BoundStatement::CreateTableAs { table: Box::new(object), query, with_data: create.with_data })
}

/// What `LIKE relation` stands for.
#[derive(Default)]
struct Like {
    definitions: Vec<ColumnDef>,
    after: Vec<String>,
}

/// `(LIKE relation)`: its columns and what is not NULL. Errors: 0A000 for INCLUDING.
fn like(table: &CreateTable, context: &BindContext) -> Result<Like, PgError> {
    let Some(CreateTableLikeKind::Parenthesized(like) | CreateTableLikeKind::Plain(like)) = &table.like else {
        return Ok(Like::default());
    };
    if like.defaults.is_some() {
        return Err(PgError::unsupported("LIKE .. INCLUDING or EXCLUDING"));
    }
    let name = object_name(&like.name)?;
    let relation = super::resolve(&name, context)?;
    let schema = relation
        .relation_schema()
        .ok_or_else(|| PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a relation", relation.name)))?;
    let definitions = schema.columns.iter().map(column::definition).collect::<Result<Vec<_>, _>>()?;
    Ok(Like { definitions, after: Vec::new() })
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
    check_storage_parameters(&said)?;
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
    pub(super) details: Vec<ColumnDetail>,
    pub(super) primary_key: Option<Vec<usize>>,
    /// Statements that come before the table's.
    pub(super) before: Vec<String>,
    /// Statements that come after it.
    pub(super) after: Vec<String>,
}

/// What the column list of `target` declares. Errors: 42701, 42P16, types' errors, 0A000 for other constraints.
pub(super) fn columns_schema(
    target: &Target,
    definitions: &[ColumnDef],
    constraints: &[TableConstraint],
    context: &BindContext,
) -> Result<ColumnsSchema, PgError> {
    let mut schema =
        ColumnsSchema { columns: Vec::new(), details: Vec::new(), primary_key: None, before: vec![], after: vec![] };
    let mut declared = Vec::new();
    for (index, definition) in definitions.iter().enumerate() {
        let column = column::bind(target, definition, context)?;
        for option in &definition.options {
            declared.extend(column_constraint(definition, option)?);
        }
        let Column { schema: column_schema, default, generation, before, after } = column;
        schema.columns.push(column_schema);
        schema.details.push(ColumnDetail { number: index as i16 + 1, default, generation });
        schema.before.extend(before);
        schema.after.extend(after);
    }
    check_distinct_columns(schema.columns.iter().map(|column| column.name.as_str()))?;
    declared.extend(constraints.iter().cloned());
    for constraint in &declared {
        if let TableConstraint::PrimaryKey(key) = constraint {
            let columns = key.columns.iter().map(|column| key_column(&schema.columns, column));
            set_key(&target.name, &mut schema.primary_key, columns.collect::<Result<Vec<usize>, PgError>>()?)?;
        }
    }
    for index in schema.primary_key.iter().flatten() {
        schema.columns[*index].nullable = false;
    }
    column::bind_generated(target, &schema.columns, &mut schema.details, context)?;
    // Keys first: a foreign key of the table to itself needs the one it refers to.
    declared.sort_by_key(|constraint| match constraint {
        TableConstraint::PrimaryKey(_) => 0,
        TableConstraint::Unique(_) => 1,
        TableConstraint::ForeignKey(_) => 3,
        _ => 2,
    });
    schema.after.extend(declared.iter().map(|constraint| statement_of(&target.qualified(), constraint)));
    Ok(schema)
}

fn set_key(relation: &str, known: &mut Option<Vec<usize>>, columns: Vec<usize>) -> Result<(), PgError> {
    if known.replace(columns).is_some() {
        let message = format!("multiple primary keys for table \"{relation}\" are not allowed");
        return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    }
    Ok(())
}

/// Where a column that a key names is. Errors: 42703 with its position, 0A000 for an expression.
pub(super) fn key_column(columns: &[ColumnSchema], key: &IndexColumn) -> Result<usize, PgError> {
    let Expr::Identifier(ident) = &key.column.expr else {
        return Err(PgError::unsupported("an expression in a key"));
    };
    key_ident(columns, ident)
}

/// The same of a name.
pub(super) fn key_ident(columns: &[ColumnSchema], ident: &Ident) -> Result<usize, PgError> {
    let name = fold(ident);
    columns.iter().position(|column| column.name == name).ok_or_else(|| {
        let message = format!("column \"{name}\" named in key does not exist");
        PgError { position: position_of(ident), ..PgError::new(SqlState::UNDEFINED_COLUMN, message) }
    })
}

/// PostgreSQL's storage parameters have no meaning here. Errors: 22023 for any other.
pub(super) fn check_storage_parameters(options: &repr::source::Options) -> Result<(), PgError> {
    let known = |name: &str| {
        name.starts_with("autovacuum_")
            || name.starts_with("toast")
            || ["fillfactor", "parallel_workers", "user_catalog_table", "vacuum_truncate", "vacuum_index_cleanup"]
                .contains(&name)
    };
    match options.keys().find(|name| !known(name)) {
        None => Ok(()),
        Some(option) => {
            let message = format!("unrecognized parameter \"{option}\"");
            Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message))
        }
    }
}

fn refuse_clauses(table: &CreateTable) -> Result<(), PgError> {
    let clauses = [
        (table.or_replace, "CREATE OR REPLACE TABLE"),
        (table.external, "CREATE EXTERNAL TABLE"),
        (table.inherits.is_some(), "INHERITS"),
        (table.partition_of.is_some(), "PARTITION OF"),
        (table.partition_by.is_some(), "PARTITION BY"),
        (table.on_commit == Some(OnCommit::DeleteRows), "ON COMMIT DELETE ROWS"),
        (table.clone.is_some(), "CLONE"),
    ];
    match clauses.into_iter().find(|(present, _)| *present) {
        Some((_, clause)) => Err(PgError::unsupported(clause)),
        None => Ok(()),
    }
}
