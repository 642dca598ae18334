//! CREATE INDEX: an arrangement of a relation by some of its columns, for lookups by equality.
//!
//! It has no order, so ASC, DESC and NULLS FIRST are read and mean nothing.

use catalog::{ObjectKind, Uniqueness};
use repr::{PgError, RelationSchema, SqlState};
use sqlparser::ast::{CreateIndex, Expr, IndexColumn, IndexType};

use super::alter::free_index_name;
use super::{BoundStatement, Step, Target, resolve};
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
    let suffix = columns.iter().map(|index| schema.columns[*index].name.as_str()).collect::<Vec<_>>().join("_");
    let name = match &index.name {
        Some(name) => object_name(name)?.name,
        None => free_index_name(on, &suffix, "idx", context),
    };
    if index.if_not_exists && context.catalog.in_schema(&on.schema, &name).is_some() {
        return Ok(Target { schema: on.schema.clone(), name }.skipped(TAG));
    }
    if index.unique && !matches!(on.kind, ObjectKind::Table { .. }) {
        return Err(PgError::unsupported(format!("CREATE UNIQUE INDEX on a {}", on.kind_name())));
    }
    let uniqueness = if index.unique { Uniqueness::Index } else { Uniqueness::None };
    let object = super::constraint::index(on, name, columns, uniqueness);
    Ok(BoundStatement::Define { tag: TAG, steps: vec![Step::Create(Box::new(object))] })
}

const TAG: &str = "CREATE INDEX";

fn index_column(column: &IndexColumn, schema: &RelationSchema, relation: &str) -> Result<usize, PgError> {
    // Those of text by its bytes: what every index here is.
    if let Some(class) = &column.operator_class {
        let class = class.to_string().to_lowercase();
        if !class.ends_with("_ops") || class.contains("trgm") || class.contains("vector") {
            return Err(PgError::unsupported(format!("operator class {class}")));
        }
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

fn refuse_clauses(index: &CreateIndex) -> Result<(), PgError> {
    if !index.include.is_empty() {
        return Err(PgError::unsupported("INCLUDE"));
    }
    if index.predicate.is_some() {
        return Err(PgError::unsupported("a partial index"));
    }
    match &index.using {
        None | Some(IndexType::BTree | IndexType::Hash) => Ok(()),
        Some(other) => Err(PgError::unsupported(format!("an index USING {other}"))),
    }
}
