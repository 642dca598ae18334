//! UPDATE: a query that gives each row to change as it was and as it will be.
//!
//! `UPDATE t SET a = e FROM u WHERE p` is `SELECT t.*, e, t.b .. FROM t, u WHERE p`. A row that meets several rows of `u` is
//! changed once, by one of them: DISTINCT ON the primary key; without a key, rows cannot be told apart, and it is refused.

use repr::{PgError, RelationSchema, SqlState};
use sqlparser::ast::{
    Assignment, AssignmentTarget, Distinct, Expr, Ident, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, Update, UpdateTableFromKind,
};

use super::insert::{Defaults, is_default};
use super::{BoundStatement, check_distinct_columns, resolve_changeable_table, returning, target_column};
use crate::bind::{BindContext, bind_query_for};
use crate::parse::{Name, fold, object_name, parse_query};

pub(super) fn bind(update: &Update, context: &BindContext) -> Result<BoundStatement, PgError> {
    if update.or.is_some() || update.limit.is_some() || !update.order_by.is_empty() {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in UPDATE"));
    }
    let (name, relation) = target(&update.table)?;
    let (table, schema) = resolve_changeable_table(&name, "UPDATE", context)?;
    let defaults = Defaults::of(table)?;
    let assigned = assignments(&update.assignments, schema, &table.name, &defaults)?;
    let mut new: Vec<Expr> = (0..schema.columns.len()).map(|index| column(&relation, schema, index)).collect();
    for (index, value) in assigned {
        new[index] = value;
    }
    let old = (0..schema.columns.len()).map(|index| column(&relation, schema, index));
    let mut from = vec![update.table.clone()];
    let mut distinct = None;
    if let Some(UpdateTableFromKind::AfterSet(others) | UpdateTableFromKind::BeforeSet(others)) = &update.from {
        let Some(key) = &schema.primary_key else {
            return Err(PgError::unsupported("UPDATE .. FROM of a table without a primary key"));
        };
        distinct = Some(Distinct::On(key.iter().map(|index| column(&relation, schema, *index)).collect()));
        from.extend(others.iter().cloned());
    }
    let query = select(|select| {
        select.projection = old.chain(new).map(SelectItem::UnnamedExpr).collect();
        select.distinct = distinct;
        select.from = from;
        select.selection = update.selection.clone();
    })?;
    let targets = [schema.columns.as_slice(), schema.columns.as_slice()].concat();
    Ok(BoundStatement::Update {
        table: table.id,
        rows: bind_query_for(&query, &targets, context)?,
        returning: returning::bind(update.returning.as_ref(), &relation, schema, context)?,
    })
}

/// The table a statement writes to, and what it calls it.
pub(super) fn target(table: &TableWithJoins) -> Result<(Name, String), PgError> {
    match &table.relation {
        TableFactor::Table { name, alias, args: None, .. } if table.joins.is_empty() => {
            let name = object_name(name)?;
            let relation = alias.as_ref().map_or(name.name.clone(), |alias| fold(&alias.name));
            Ok((name, relation))
        }
        other => Err(PgError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\""))),
    }
}

/// `relation.column` of the table.
pub(super) fn column(relation: &str, schema: &RelationSchema, index: usize) -> Expr {
    let quoted = |name: &str| Ident::with_quote('"', name);
    Expr::CompoundIdentifier(vec![quoted(relation), quoted(&schema.columns[index].name)])
}

/// A SELECT that `fill` fills in.
pub(super) fn select(fill: impl FnOnce(&mut Select)) -> Result<Query, PgError> {
    let mut query = parse_query("SELECT 1")?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        fill(select);
    }
    Ok(query)
}

/// What SET assigns, by the index of the column. DEFAULT is replaced by the column's.
pub(super) fn assignments(
    assignments: &[Assignment],
    schema: &RelationSchema,
    table: &str,
    defaults: &Defaults,
) -> Result<Vec<(usize, Expr)>, PgError> {
    let mut assigned: Vec<(usize, Expr)> = Vec::new();
    for assignment in assignments {
        let targets = match &assignment.target {
            AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
            AssignmentTarget::Tuple(names) => names.as_slice(),
        };
        let values = match (&assignment.target, &assignment.value) {
            (AssignmentTarget::ColumnName(_), value) => vec![value.clone()],
            (AssignmentTarget::Tuple(_), Expr::Tuple(values)) => values.clone(),
            (AssignmentTarget::Tuple(_), Expr::Nested(value)) => vec![(**value).clone()],
            (AssignmentTarget::Tuple(_), Expr::Subquery(_)) => {
                return Err(PgError::unsupported("a subquery of several columns in SET"));
            }
            (AssignmentTarget::Tuple(_), _) => {
                let message = "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression";
                return Err(PgError::unsupported(message));
            }
        };
        if targets.len() != values.len() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "number of columns does not match number of values"));
        }
        for (target, value) in targets.iter().zip(values) {
            let name = object_name(target)?;
            if name.schema.is_some() {
                return Err(PgError::unsupported("a qualified column in SET").at(name.position));
            }
            let index = target_column(schema, table, &name.name, Some(name.position))?;
            defaults.check_assigned(index, &value, schema)?;
            let value = if is_default(&value) { defaults.of_column(index) } else { value };
            assigned.push((index, value));
        }
    }
    check_distinct_columns(assigned.iter().map(|(index, _)| schema.columns[*index].name.as_str()))
        .map_err(|_| PgError::new(SqlState::SYNTAX_ERROR, "multiple assignments to same column"))?;
    Ok(assigned)
}
