//! What a table's rows are made of and held to, as expressions over its columns: for every write, bound once a catalog.

use catalog::{ConstraintKind, Generation, Object, ObjectKind};
use datafusion::logical_expr::Expr;
use repr::{PgError, RelationSchema};

use super::column::bind_value;
use super::constraint::bind_check;
use crate::bind::BindContext;
use crate::parse::parse_expr;

/// The expressions of a table. Columns are named without a qualifier.
#[derive(Clone, Debug, Default)]
pub struct TableRules {
    /// By index of the column, what it is computed from.
    pub generated: Vec<(usize, Expr)>,
    /// The name of each CHECK and its condition, which must not be false; in the order of their names.
    pub checks: Vec<(String, Expr)>,
}

/// The rules of `table`. Errors: those of expressions that no longer bind.
pub fn table_rules(table: &Object, context: &BindContext) -> Result<TableRules, PgError> {
    let mut rules = TableRules::default();
    let ObjectKind::Table { schema, details, .. } = &table.kind else { return Ok(rules) };
    for (index, detail) in details.iter().enumerate() {
        if let (Generation::Stored, Some(text)) = (detail.generation, &detail.default) {
            let value = bind_value(&parse_expr(text)?, Some(&table.name), schema, &schema.columns[index], context)?;
            rules.generated.push((index, value));
        }
    }
    for (constraint, kind) in context.catalog.constraints(table.id) {
        if let ConstraintKind::Check { expression } = kind {
            let condition = bind_check(table, schema, &parse_expr(expression)?, context)?;
            rules.checks.push((constraint.name.clone(), condition));
        }
    }
    rules.checks.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(rules)
}

/// What INSERT gives each column that it says nothing of: its DEFAULT, or NULL.
pub fn default_values(table: &Object, context: &BindContext) -> Result<Vec<Expr>, PgError> {
    let ObjectKind::Table { schema, details, .. } = &table.kind else { return Ok(Vec::new()) };
    let none = RelationSchema::new(Vec::new());
    let value = |(column, detail): (&repr::ColumnSchema, &catalog::ColumnDetail)| match &detail.default {
        Some(text) if detail.generation != Generation::Stored => {
            bind_value(&parse_expr(text)?, None, &none, column, context)
        }
        _ => super::alter::null_of(column),
    };
    schema.columns.iter().zip(details).map(value).collect()
}

/// The condition of a CHECK by its text. Errors: those of expressions.
pub fn check_condition(
    table: &Object,
    schema: &RelationSchema,
    expression: &str,
    context: &BindContext,
) -> Result<Expr, PgError> {
    bind_check(table, schema, &parse_expr(expression)?, context)
}
