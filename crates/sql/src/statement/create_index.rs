//! CREATE INDEX: an arrangement of a relation by some of its columns, for lookups by equality.
//!
//! It has no order, so ASC, DESC and NULLS FIRST are read and mean nothing.

use catalog::ObjectKind;
use repr::{PgError, RelationSchema, SqlState};
use sqlparser::ast::{CreateIndex, Expr, IndexColumn, IndexType};

use super::{BoundStatement, resolve};
use crate::bind::BindContext;
use crate::parse::{fold, object_name, position_of};

pub(super) fn bind(index: &CreateIndex, context: &BindContext) -> Result<BoundStatement, PgError> {
    refuse_clauses(index)?;
    let on_name = object_name(&index.table_name)?;
    let on = resolve(&on_name, context)?;
    let schema = match (&on.kind, on.relation_schema()) {
        (ObjectKind::Table { .. } | ObjectKind::Source { .. } | ObjectKind::MaterializedView { .. }, Some(schema)) => {
            schema
        }
        _ => {
            let message = format!("cannot create index on relation \"{}\"", on.name);
            let detail = format!("This operation is not supported for {}s.", on.kind_name());
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message).with_detail(detail));
        }
    };
    let columns = index.columns.iter().map(|column| index_column(column, schema, &on.name));
    let columns = columns.collect::<Result<Vec<usize>, PgError>>()?;
    let name = match &index.name {
        Some(name) => object_name(name)?.name,
        None => free_name(&on.schema, &on.name, &columns, schema, context),
    };
    Ok(BoundStatement::CreateIndex {
        schema_name: on.schema.clone(),
        name,
        on: on.id,
        columns,
        if_not_exists: index.if_not_exists,
    })
}

fn index_column(column: &IndexColumn, schema: &RelationSchema, relation: &str) -> Result<usize, PgError> {
    if column.operator_class.is_some() {
        return Err(PgError::unsupported("an operator class"));
    }
    let Expr::Identifier(ident) = &column.column.expr else {
        return Err(PgError::unsupported("an index on an expression"));
    };
    let name = fold(ident);
    schema.column_index(&name).ok_or_else(|| {
        let message = format!("column \"{name}\" of relation \"{relation}\" does not exist");
        PgError { position: position_of(ident), ..PgError::new(SqlState::UNDEFINED_COLUMN, message) }
    })
}

/// `relation_column_idx` as PostgreSQL names it, with a number after it where that is taken.
fn free_name(
    schema_name: &str,
    relation: &str,
    columns: &[usize],
    schema: &RelationSchema,
    context: &BindContext,
) -> String {
    let columns: Vec<&str> = columns.iter().map(|index| schema.columns[*index].name.as_str()).collect();
    let base = format!("{relation}_{}_idx", columns.join("_"));
    let taken = |name: &str| context.catalog.resolve(Some(schema_name), name).is_some();
    let numbered = (1u32..).map(|number| format!("{base}{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base)
}

fn refuse_clauses(index: &CreateIndex) -> Result<(), PgError> {
    if index.unique {
        return Err(PgError::unsupported("CREATE UNIQUE INDEX"));
    }
    if !index.include.is_empty() {
        return Err(PgError::unsupported("INCLUDE"));
    }
    if index.predicate.is_some() {
        return Err(PgError::unsupported("a partial index"));
    }
    if !index.with.is_empty() {
        return Err(PgError::unsupported("a storage parameter"));
    }
    match &index.using {
        None | Some(IndexType::BTree | IndexType::Hash) => Ok(()),
        Some(other) => Err(PgError::unsupported(format!("an index USING {other}"))),
    }
}
