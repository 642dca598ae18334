//! Scans that need only some keys: `WHERE key = constant` on a relation that is arranged by that key.
//!
//! The filter stays above the scan; the keys only say what cannot be missed. So a constraint that is not understood here costs
//! time, never rows.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use catalog::{Catalog, ObjectKind};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};
use repr::{ObjectId, RelationSchema};

use crate::dataflows::Dataflows;
use crate::unique::is_exact;

/// More keys than this and a full scan is no worse.
const KEYS_MAX: usize = 1024;

/// The values that a filter leaves possible for some columns, by column index.
pub(crate) type Constraints = HashMap<usize, Vec<ScalarValue>>;

/// What `predicate` says of the columns of one relation, whatever they are qualified with.
pub(crate) fn constraints(predicate: &Expr, schema: &SchemaRef) -> Constraints {
    let mut found = Constraints::new();
    collect(predicate, schema, &mut found);
    found
}

fn collect(predicate: &Expr, schema: &SchemaRef, found: &mut Constraints) {
    match predicate {
        Expr::BinaryExpr(binary) if binary.op == Operator::And => {
            collect(&binary.left, schema, found);
            collect(&binary.right, schema, found);
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let pair =
                equality(&binary.left, &binary.right, schema).or_else(|| equality(&binary.right, &binary.left, schema));
            if let Some((column, value)) = pair {
                found.entry(column).or_insert_with(|| vec![value]);
            }
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            // What simplification makes of a short IN list.
            let mut values = Vec::new();
            if let Some(column) = alternatives(predicate, schema, &mut values) {
                found.entry(column).or_insert(values);
            }
        }
        Expr::InList(list) if !list.negated => {
            let values: Option<Vec<(usize, ScalarValue)>> =
                list.list.iter().map(|value| equality(&list.expr, value, schema)).collect();
            if let Some(values) = values
                && let Some((column, _)) = values.first()
            {
                found.entry(*column).or_insert(values.into_iter().map(|(_, value)| value).collect());
            }
        }
        _ => {}
    }
}

/// The one column that every branch of an OR compares, and with what.
fn alternatives(predicate: &Expr, schema: &SchemaRef, values: &mut Vec<ScalarValue>) -> Option<usize> {
    let Expr::BinaryExpr(binary) = predicate else { return None };
    match binary.op {
        Operator::Or => {
            let left = alternatives(&binary.left, schema, values)?;
            let right = alternatives(&binary.right, schema, values)?;
            (left == right).then_some(left)
        }
        Operator::Eq => {
            let (column, value) = equality(&binary.left, &binary.right, schema)
                .or_else(|| equality(&binary.right, &binary.left, schema))?;
            values.push(value);
            Some(column)
        }
        _ => None,
    }
}

fn equality(column: &Expr, value: &Expr, schema: &SchemaRef) -> Option<(usize, ScalarValue)> {
    let (Expr::Column(column), Expr::Literal(value, _)) = (column, value) else { return None };
    let index = schema.index_of(&column.name).ok()?;
    let same_type = *schema.field(index).data_type() == value.data_type();
    (same_type && !value.is_null()).then(|| (index, value.clone()))
}

/// The dataflow that finds the constrained rows by key, and the keys; None where there is none.
pub(crate) fn keyed_peek(
    catalog: &Catalog,
    dataflows: &Dataflows,
    relation: ObjectId,
    schema: &RelationSchema,
    constraints: &Constraints,
) -> Option<(ObjectId, Vec<ArrayRef>)> {
    let indexes = catalog.dependents(relation).into_iter().filter_map(|object| match &object.kind {
        ObjectKind::Index { on, .. } if *on == relation => Some(object.id),
        _ => None,
    });
    let candidates = std::iter::once(relation).chain(indexes);
    let usable = candidates.filter_map(|id| dataflows.export(id).map(|export| (id, export))).filter(|(_, export)| {
        !export.key.is_empty()
            && export.key.iter().all(|column| {
                constraints.contains_key(column)
                    && schema.columns.get(*column).is_some_and(|column| is_exact(&column.sql_type))
            })
    });
    // The longest key leaves the fewest rows.
    let (id, export) = usable.max_by_key(|(_, export)| (export.unique, export.key.len()))?;
    let mut keys: Vec<Vec<ScalarValue>> = vec![Vec::new()];
    for column in &export.key {
        let mut values = constraints[column].clone();
        values.dedup();
        if keys.len() * values.len() > KEYS_MAX {
            return None;
        }
        keys = keys
            .iter()
            .flat_map(|key| values.iter().map(|value| key.iter().cloned().chain([value.clone()]).collect()))
            .collect();
    }
    let mut distinct = Vec::with_capacity(keys.len());
    for key in keys {
        if !distinct.contains(&key) {
            distinct.push(key);
        }
    }
    let column = |index: usize| ScalarValue::iter_to_array(distinct.iter().map(|key| key[index].clone())).ok();
    let columns: Option<Vec<ArrayRef>> = (0..export.key.len()).map(column).collect();
    columns.map(|columns| (id, columns))
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};
    use repr::{ColumnSchema, SqlType};

    use super::*;

    fn schema() -> SchemaRef {
        RelationSchema::new(vec![ColumnSchema::new("a", SqlType::Int4), ColumnSchema::new("b", SqlType::Text)]).arrow()
    }

    #[test]
    fn a_conjunction_constrains_each_column() {
        let found = constraints(&col("a").eq(lit(3)).and(lit("x").eq(col("b"))), &schema());
        assert_eq!(found[&0], [ScalarValue::Int32(Some(3))]);
        assert_eq!(found[&1].len(), 1);
    }

    #[test]
    fn an_or_over_two_columns_constrains_neither() {
        assert!(constraints(&col("a").eq(lit(3)).or(col("b").eq(lit("x"))), &schema()).is_empty());
        assert_eq!(constraints(&col("a").eq(lit(3)).or(col("a").eq(lit(4))), &schema())[&0].len(), 2);
    }

    #[test]
    fn a_value_of_another_type_is_not_a_key() {
        assert!(constraints(&col("a").eq(lit(3i64)), &schema()).is_empty());
    }
}
