//! Constants as the text of a statement writes them.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, lit};
use repr::numeric::Numeric;
use repr::text::parse_scalar;
use repr::{PgError, SqlState, SqlType};

use crate::typed::TypedExpr;

/// A number, perhaps with a sign: integer or bigint where it fits, numeric otherwise. Error `42601` if it is none.
pub fn number(text: &str) -> Result<TypedExpr, PgError> {
    // The sign belongs to the number, as in PostgreSQL: -2147483648 is an integer though 2147483648 is not.
    let whole = text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
    if whole && let Ok(value) = text.parse::<i32>() {
        return Ok(TypedExpr::new(lit(value), SqlType::Int4));
    }
    if whole && let Ok(value) = text.parse::<i64>() {
        return Ok(TypedExpr::new(lit(value), SqlType::Int8));
    }
    let value = Numeric::parse(text).map_err(|error| match error.state {
        SqlState::INVALID_TEXT_REPRESENTATION => {
            PgError::new(SqlState::SYNTAX_ERROR, format!("trailing junk after numeric literal at or near \"{text}\""))
        }
        _ => error,
    })?;
    Ok(TypedExpr::new(numeric(&value), SqlType::Numeric))
}

/// A quoted string: of type unknown until the context decides.
pub fn string(text: &str) -> TypedExpr {
    TypedExpr::new(lit(text), SqlType::Unknown)
}

/// TRUE or FALSE.
pub fn boolean(value: bool) -> TypedExpr {
    TypedExpr::new(lit(value), SqlType::Bool)
}

/// NULL, of type unknown.
pub fn null() -> TypedExpr {
    TypedExpr::new(lit(ScalarValue::Utf8(None)), SqlType::Unknown)
}

/// NULL of a type.
pub fn typed_null(sql_type: &SqlType) -> Result<TypedExpr, PgError> {
    let value = ScalarValue::try_from(&sql_type.arrow()).map_err(|error| PgError::internal(error.to_string()))?;
    Ok(TypedExpr::new(lit(value), sql_type.clone()))
}

/// `DATE '2024-01-01'` or `'5'::numeric(3, 1)`: the text as a value of the type, read now. Errors: those of the type's input.
pub fn typed(sql_type: &SqlType, typmod: i32, text: &str) -> Result<TypedExpr, PgError> {
    // A written type cuts a string to its length; only a stored one is too long.
    let at_once = !matches!(sql_type, SqlType::Varchar | SqlType::Bpchar);
    let array = parse_scalar(sql_type, if at_once { typmod } else { -1 }, text)?;
    let value = ScalarValue::try_from_array(&array, 0).map_err(|error| PgError::internal(error.to_string()))?;
    let literal = TypedExpr::new(lit(value), sql_type.clone());
    match at_once {
        true => Ok(TypedExpr { typmod, ..literal }),
        false => crate::cast::cast(literal, sql_type, typmod, crate::cast::CastContext::Explicit),
    }
}

pub(crate) fn numeric(value: &Numeric) -> Expr {
    lit(ScalarValue::LargeBinary(Some(value.encode())))
}
