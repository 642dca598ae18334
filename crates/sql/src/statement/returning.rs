//! RETURNING: expressions over the rows a statement has written.

use datafusion::logical_expr::Expr;
use repr::{ColumnSchema, PgError, RelationSchema};
use sqlparser::ast::{SelectItem, SelectItemQualifiedWildcardKind};

use crate::bind::expr::column_name;
use crate::bind::{BindContext, bind_expr_over};
use crate::cast::{CastContext, cast};
use crate::parse::{fold, object_name};
use crate::typed::TypedExpr;
use repr::SqlType;

/// What a statement answers for each row it wrote.
#[derive(Clone, Debug)]
pub struct Returning {
    /// One expression a column, over the table's columns by their names (`Expr::Column` without a relation).
    pub expressions: Vec<Expr>,
    /// The answer's columns.
    pub schema: RelationSchema,
}

/// Binds the list over the rows of a table that the statement calls `relation`.
pub(super) fn bind(
    items: Option<&Vec<SelectItem>>,
    relation: &str,
    table: &RelationSchema,
    context: &BindContext,
) -> Result<Option<Returning>, PgError> {
    let Some(items) = items else { return Ok(None) };
    let mut returning = Returning { expressions: Vec::new(), schema: RelationSchema::new(Vec::new()) };
    for item in items {
        match item {
            SelectItem::Wildcard(_) => returning.push_all(table),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _)
                if object_name(name)?.name == relation =>
            {
                returning.push_all(table);
            }
            SelectItem::UnnamedExpr(expr) => {
                let typed = bind_expr_over(Some(relation), table, expr, context)?;
                returning.push(column_name(expr), typed)?;
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let typed = bind_expr_over(Some(relation), table, expr, context)?;
                returning.push(fold(alias), typed)?;
            }
            other => return Err(PgError::unsupported(format!("RETURNING {other}"))),
        }
    }
    Ok(Some(returning))
}

impl Returning {
    fn push_all(&mut self, table: &RelationSchema) {
        for column in &table.columns {
            self.expressions.push(Expr::Column(datafusion::common::Column::new_unqualified(&column.name)));
            self.schema.columns.push(column.clone());
        }
    }

    fn push(&mut self, name: String, typed: TypedExpr) -> Result<(), PgError> {
        let typed = if typed.is_unknown() { cast(typed, &SqlType::Text, -1, CastContext::Implicit)? } else { typed };
        self.expressions.push(typed.expr);
        self.schema.columns.push(ColumnSchema { name, sql_type: typed.sql_type, typmod: typed.typmod, nullable: true });
        Ok(())
    }
}
