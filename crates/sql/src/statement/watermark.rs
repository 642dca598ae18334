//! `WATERMARK FOR column AS column - delay` and `LATE ROWS`: the one form of a watermark that every engine's users write.

use repr::source::Options;
use repr::{ColumnSchema, LateRows, PgError, SqlState, SqlType, Watermark};
use sqlparser::ast::{BinaryOperator, Expr, TableConstraint};

use super::invalid_option;
use crate::bind::{BindContext, bind_length};
use crate::parse::watermark::declaration;
use crate::parse::{fold, position_of};

/// The name of the option that says what becomes of late rows.
const LATE_ROWS: &str = "late_rows";

/// The watermark among a relation's constraints, if there is one; takes LATE ROWS out of its options.
///
/// Errors: 42703 for a column there is not, 42804 for one that is no time, 42P16 for a second watermark, 0A000 for any other
/// expression, 22023 for a delay below zero and for LATE ROWS of something else.
pub(super) fn bind(
    columns: &[ColumnSchema],
    constraints: &[TableConstraint],
    options: &mut Options,
    context: &BindContext,
) -> Result<Option<Watermark>, PgError> {
    let late_rows = options.remove(LATE_ROWS).map(|value| late_rows(&value)).transpose()?;
    let (column, expr) = match constraints.iter().filter_map(declaration).collect::<Vec<_>>()[..] {
        [] if late_rows.is_some() => {
            return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, "LATE ROWS needs a watermark")
                .with_hint("Without WATERMARK FOR column AS column - INTERVAL '..' no row is late."));
        }
        [] => return Ok(None),
        [one] => one,
        _ => return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, "there is one watermark at most")),
    };
    let name = fold(column);
    let Some(index) = columns.iter().position(|column| column.name == name) else {
        let message = format!("column \"{name}\" named in WATERMARK does not exist");
        return Err(PgError { position: position_of(column), ..PgError::new(SqlState::UNDEFINED_COLUMN, message) });
    };
    let time = &columns[index].sql_type;
    if !matches!(time, SqlType::Timestamp | SqlType::Timestamptz | SqlType::Int2 | SqlType::Int4 | SqlType::Int8) {
        let message = format!("WATERMARK needs a column of a timestamp or integer type, not {}", time.sql_name());
        let error = PgError::new(SqlState::DATATYPE_MISMATCH, message);
        return Err(PgError { position: position_of(column), ..error });
    }
    let delay = match expr {
        Expr::Identifier(same) if fold(same) == name => 0,
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_column(left, &name) => {
            bind_length(right, time, "WATERMARK", context)?
        }
        _ => {
            return Err(PgError::unsupported(format!("WATERMARK FOR {name} AS {expr}"))
                .with_hint(format!("Write {name}, or {name} less a constant: {name} - INTERVAL '5 seconds'.")));
        }
    };
    if delay < 0 {
        return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, "the delay of a watermark must not be negative"));
    }
    Ok(Some(Watermark { column: index, delay, late_rows: late_rows.unwrap_or_default() }))
}

fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Identifier(ident) if fold(ident) == name)
}

fn late_rows(value: &str) -> Result<LateRows, PgError> {
    LateRows::parse(&value.to_lowercase()).ok_or_else(|| invalid_option("LATE ROWS", value, "apply, drop, only"))
}
