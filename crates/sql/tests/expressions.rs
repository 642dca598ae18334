//! Expressions against PostgreSQL 15's answers: `expressions.txt` has one a line, a tab, and what psql printed (a database
//! of collation C, time zone UTC).
//!
//! Each is evaluated twice: as written, where constants fold, and over a column of one row that the optimizer cannot see
//! through, where kernels run on arrays.

#[path = "support/answers.rs"]
mod answers;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::Schema;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use catalog::Catalog;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, col};
use datafusion::physical_expr::create_physical_expr;
use repr::{PgError, SqlType};
use sql::bind::{BindContext, bind_query};

/// Cases whose difference from PostgreSQL is known; each says why.
const KNOWN: &[(&str, &str)] = &[
    ("0x", "the parser takes it for a hexadecimal literal"),
    ("cbrt(27.0)", "glibc's cbrt is off by one bit, Rust's is not"),
    ("||/ 27", "glibc's cbrt is off by one bit, Rust's is not"),
    ("interval '1.5' day", "the binder takes the field for a unit and does not cut what is below it"),
    ("substr('a', 'b')", "the binder takes substr for substring, which also has a regular expression form"),
];

fn bound(text: &str) -> Result<(Expr, SqlType), PgError> {
    let catalog = Catalog::default();
    let query = sql::parse_query(&format!("SELECT {text}"))?;
    let bound = bind_query(&query, &BindContext::new(&catalog))?;
    let sql_type = bound.schema.columns[0].sql_type.clone();
    // Projections may be stacked: substitute the inner ones' expressions.
    let mut plan = &bound.plan;
    let mut layers = Vec::new();
    while let LogicalPlan::Projection(projection) = plan {
        layers.push((projection.expr.clone(), projection.schema.clone()));
        plan = &projection.input;
    }
    let mut expr = layers[0].0[0].clone();
    for (exprs, schema) in &layers[1..] {
        expr = expr
            .transform_up(|node| {
                Ok(match &node {
                    Expr::Column(column) => match schema.maybe_index_of_column(column) {
                        Some(index) => Transformed::yes(exprs[index].clone().unalias()),
                        None => Transformed::no(node),
                    },
                    _ => Transformed::no(node),
                })
            })
            .unwrap()
            .data;
    }
    Ok((expr.unalias(), sql_type))
}

fn error_of(error: DataFusionError) -> PgError {
    match error {
        DataFusionError::External(error) => match error.downcast::<PgError>() {
            Ok(error) => *error,
            Err(error) => PgError::internal(error.to_string()),
        },
        DataFusionError::Context(_, inner) => error_of(*inner),
        other => PgError::internal(other.to_string()),
    }
}

/// Literals become columns of three rows: NULL, the value, the value.
fn over_columns(expr: Expr) -> (Expr, Vec<ArrayRef>) {
    let mut columns: Vec<ArrayRef> = Vec::new();
    let expr = expr
        .transform_up(|node| {
            Ok(match &node {
                Expr::Literal(value, _) if !value.is_null() => {
                    let one = value.to_array()?;
                    let null = arrow::array::new_null_array(one.data_type(), 1);
                    columns.push(concat(&[&null, &one, &one])?);
                    Transformed::yes(col(format!("l{}", columns.len() - 1)))
                }
                _ => Transformed::no(node),
            })
        })
        .unwrap()
        .data;
    (expr, columns)
}

fn evaluate(expr: &Expr, columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef, PgError> {
    let fields: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| arrow::datatypes::Field::new(format!("l{index}"), column.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).unwrap();
    let schema = DFSchema::try_from(schema).unwrap();
    create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
        .and_then(|physical| physical.evaluate(&batch))
        .and_then(|value| match value {
            ColumnarValue::Array(array) => Ok(array),
            ColumnarValue::Scalar(value) => value.to_array_of_size(rows),
        })
        .map_err(error_of)
}

fn shown(result: Result<(ArrayRef, usize, SqlType), PgError>) -> String {
    match result {
        Err(error) => format!("ERROR:  {}", error.message),
        Ok((array, row, _)) if array.is_null(row) => "NULL".to_string(),
        Ok((array, row, sql_type)) => {
            if *array.data_type() != sql_type.arrow() {
                return format!("{} where {} was promised", array.data_type(), sql_type.name());
            }
            let mut out = String::new();
            repr::text::format_value(&array, row, &sql_type, &mut out);
            out.replace('\n', "\\n")
        }
    }
}

#[test]
fn answers_are_postgres_answers() {
    answers::compare(include_str!("expressions.txt"), KNOWN, |text, expected| {
        let folded = shown(bound(text).and_then(|(expr, sql_type)| {
            let array = evaluate(&expr, Vec::new(), 1)?;
            Ok((array, 0, sql_type))
        }));
        if folded != expected || expected.starts_with("ERROR") {
            return vec![("", folded)];
        }
        let spread = shown(bound(text).and_then(|(expr, sql_type)| {
            let (expr, columns) = over_columns(expr);
            let array = evaluate(&expr, columns, 3)?;
            Ok((array, 2, sql_type))
        }));
        vec![("", folded), (" over columns", spread)]
    });
}
