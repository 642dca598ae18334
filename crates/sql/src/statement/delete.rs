//! DELETE: a query that gives each row to take away.
//!
//! `DELETE FROM t USING u WHERE p` is `SELECT t.* FROM t WHERE EXISTS (SELECT FROM u WHERE p)`: a row that meets several rows
//! of `u` goes once.

use repr::{PgError, SqlState};
use sqlparser::ast::{Delete, Expr, FromTable, SelectItem, Value};

use super::update::{column, select, target};
use super::{BoundStatement, resolve_changeable_table, returning};
use crate::bind::{BindContext, bind_query_for};

pub(super) fn bind(delete: &Delete, context: &BindContext) -> Result<BoundStatement, PgError> {
    let from = match &delete.from {
        FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from) => from,
    };
    let [table_with_joins] = from.as_slice() else {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in DELETE"));
    };
    if !delete.tables.is_empty() || delete.limit.is_some() || !delete.order_by.is_empty() {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in DELETE"));
    }
    let (name, relation) = target(table_with_joins)?;
    let (table, schema) = resolve_changeable_table(&name, "DELETE", context)?;
    let selection = match &delete.using {
        None => delete.selection.clone(),
        Some(using) => {
            let subquery = select(|select| {
                select.projection = vec![SelectItem::UnnamedExpr(Expr::Value(Value::Boolean(true).into()))];
                select.from = using.clone();
                select.selection = delete.selection.clone();
            })?;
            Some(Expr::Exists { subquery: Box::new(subquery), negated: false })
        }
    };
    let old = (0..schema.columns.len()).map(|index| column(&relation, schema, index));
    let query = select(|select| {
        select.projection = old.map(SelectItem::UnnamedExpr).collect();
        select.from = vec![table_with_joins.clone()];
        select.selection = selection;
    })?;
    Ok(BoundStatement::Delete {
        table: table.id,
        rows: bind_query_for(&query, &schema.columns, context)?,
        returning: returning::bind(delete.returning.as_ref(), &relation, schema, context)?,
    })
}
