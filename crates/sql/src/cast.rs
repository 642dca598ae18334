//! Casts: which conversions PostgreSQL allows where, and the expression that makes each.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Int16Type, UInt32Type};
use datafusion::common::ScalarValue;
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, cast as arrow_cast, lit};
use repr::text::interval::field;
use repr::text::vector::DIMENSIONS_MAX;
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;

use crate::functions::kernel::{Body, call_strict};
use crate::functions::resolution::category;
use crate::functions::{conversion, vector};
use crate::literal;
use crate::typed::TypedExpr;

/// Who asks for a conversion, which decides whether PostgreSQL allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// An operator's or function's argument.
    Implicit,
    /// A value stored into a column.
    Assignment,
    /// CAST or `::`.
    Explicit,
}

/// How a conversion is computed.
enum Conversion {
    /// The stored form is the same.
    Relabel,
    /// Arrow's own cast, which the optimizer knows.
    Arrow,
    Kernel(Body),
}

/// `expr` as a value of type `to` with modifier `typmod` (-1 is none).
///
/// A literal of unknown type is read as `to`; a parameter of unknown type becomes one of type `to`, and its placeholder's
/// field is named after the type. Errors: `42846` where there is no such cast in this context, and those of reading a literal.
pub fn cast(expr: TypedExpr, to: &SqlType, typmod: i32, context: CastContext) -> Result<TypedExpr, PgError> {
    if let Some(named) = crate::functions::catalog::cast_by_name(&expr, to) {
        return named;
    }
    if expr.is_unknown() && *to != SqlType::Unknown {
        return cast_unknown(expr, to, typmod, context);
    }
    if expr.sql_type == *to {
        return apply_typmod(expr, typmod, context);
    }
    let refuse = || {
        PgError::new(
            SqlState::CANNOT_COERCE,
            format!("cannot cast type {} to {}", expr.sql_type.sql_name(), to.sql_name()),
        )
    };
    let (needed, conversion) = conversion_between(&expr.sql_type, to).ok_or_else(refuse)?;
    if needed > context {
        return Err(refuse());
    }
    let from_arrow = expr.sql_type.arrow();
    let converted = match conversion {
        Conversion::Relabel => expr.expr,
        Conversion::Arrow => match &expr.expr {
            Expr::Literal(value, _) => {
                lit(value.cast_to(&to.arrow()).map_err(|error| PgError::internal(error.to_string()))?)
            }
            _ => arrow_cast(expr.expr, to.arrow()),
        },
        Conversion::Kernel(body) => {
            let name = format!("{}_to_{}", expr.sql_type.name(), to.name());
            folded(call_strict(&name, vec![(expr.expr, from_arrow)], to.arrow(), body))
        }
    };
    apply_typmod(TypedExpr::new(converted, to.clone()), typmod, context)
}

fn cast_unknown(expr: TypedExpr, to: &SqlType, typmod: i32, context: CastContext) -> Result<TypedExpr, PgError> {
    match expr.expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) if context == CastContext::Assignment => {
            // A stored string is too long where a written one would be cut.
            let value = cast(literal::typed(to, -1, &text)?, to, typmod, context)?;
            Ok(value)
        }
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => literal::typed(to, typmod, &text),
        Expr::Literal(value, _) if value.is_null() => Ok(TypedExpr { typmod, ..literal::typed_null(to)? }),
        Expr::Placeholder(placeholder) => {
            let field = Arc::new(Field::new(to.name(), to.arrow(), true));
            let typed = Placeholder::new_with_field(placeholder.id, Some(field));
            apply_typmod(TypedExpr::new(Expr::Placeholder(typed), to.clone()), typmod, context)
        }
        other => {
            // What is neither a literal nor a parameter holds text.
            let text = TypedExpr { expr: other, sql_type: SqlType::Text, typmod: -1 };
            cast(text, to, typmod, CastContext::Explicit)
        }
    }
}

/// Whether a value of type `from` becomes one of type `to` without being asked to.
pub(crate) fn implicitly(from: &SqlType, to: &SqlType) -> bool {
    from == to || matches!(conversion_between(from, to), Some((CastContext::Implicit, _)))
}

/// The least demanding context in which the cast is allowed, and how it is made; None if there is none at all.
fn conversion_between(from: &SqlType, to: &SqlType) -> Option<(CastContext, Conversion)> {
    use CastContext::{Assignment, Explicit, Implicit};
    use Conversion::{Arrow, Kernel, Relabel};
    use SqlType::*;
    let found = match (from, to) {
        (Int2, Int4 | Int8) | (Int4, Int8) => (Implicit, Arrow),
        (Int2 | Int4 | Int8, Float4 | Float8) | (Float4, Float8) => (Implicit, Arrow),
        (Int4 | Int8, Int2) | (Int8, Int4) => (Assignment, Kernel(conversion::int_to_int)),
        (Int2 | Int4 | Int8, Numeric) => (Implicit, Kernel(conversion::int_to_numeric)),
        (Int2 | Int4 | Int8, to) if to.is_oid() => (Implicit, Kernel(conversion::int_to_oid)),
        (Int4, Bool) => (Explicit, Kernel(conversion::int4_to_bool)),
        (Bool, Int4) => (Explicit, Kernel(conversion::bool_to_int4)),
        (Float8, Float4) => (Assignment, Kernel(conversion::float8_to_float4)),
        (Float4 | Float8, Int2 | Int4 | Int8) => (Assignment, Kernel(conversion::float_to_int)),
        (Float4 | Float8, Numeric) => (Assignment, Kernel(conversion::float_to_numeric)),
        (Numeric, Float4 | Float8) => (Implicit, Kernel(conversion::numeric_to_float)),
        (Numeric, Int2 | Int4 | Int8) => (Assignment, Kernel(conversion::numeric_to_int)),
        (Oid, to) if to.is_oid() => (Implicit, Relabel),
        (from, Oid) if from.is_oid() => (Implicit, Relabel),
        (Regproc, Regprocedure) | (Regprocedure, Regproc) => (Implicit, Relabel),
        (Regoper, Regoperator) | (Regoperator, Regoper) => (Implicit, Relabel),
        (from, Int4 | Int8) if from.is_oid() => (Assignment, Kernel(conversion::oid_to_int)),
        (Char, Text) | (PgNodeTree, Text) => (Implicit, Relabel),
        (Char, Varchar | Bpchar) => (Assignment, Relabel),
        (Text | Varchar | Bpchar | Name, Char) => (Assignment, Kernel(conversion::text_to_char)),
        (Vector, Array(to)) if **to == Float4 => (Implicit, Kernel(vector::to_array)),
        (Array(from), Vector) if matches!(**from, Int4 | Float4 | Float8 | Numeric) => {
            (Assignment, Kernel(vector::from_array))
        }
        (Int2vector | Oidvector, Array(to)) if from.element() == Some(&**to) => (Implicit, Relabel),
        (Oidvector, Array(to)) if to.is_registered() => (Explicit, Relabel),
        (Array(from), Int2vector | Oidvector) if to.element() == Some(&**from) => (Explicit, Relabel),
        (Int2vector, Text | Varchar | Bpchar) => (Assignment, Kernel(conversion::vector_to_text::<Int16Type>)),
        (Oidvector, Text | Varchar | Bpchar) => (Assignment, Kernel(conversion::vector_to_text::<UInt32Type>)),
        (Text | Varchar, Int2vector | Oidvector) => return None,
        (Varchar, Text | Bpchar) | (Text, Varchar | Bpchar) | (Name, Text) => (Implicit, Relabel),
        (Name, Varchar | Bpchar) => (Assignment, Relabel),
        (Bpchar, Text | Varchar) => (Implicit, Kernel(conversion::bpchar_to_text)),
        (Text | Varchar | Bpchar, Name) => (Implicit, Kernel(conversion::text_to_name)),
        (Date, Timestamp | Timestamptz) => (Implicit, Kernel(conversion::date_to_timestamp)),
        (Timestamp, Timestamptz) => (Implicit, Kernel(conversion::change_zone)),
        (Timestamptz, Timestamp) => (Assignment, Kernel(conversion::change_zone)),
        (Timestamp | Timestamptz, Date) => (Assignment, Kernel(conversion::timestamp_to_date)),
        (Timestamp | Timestamptz, Time) => (Assignment, Kernel(conversion::timestamp_to_time)),
        (Time, Interval) => (Implicit, Kernel(conversion::time_to_interval)),
        (Interval, Time) => (Assignment, Kernel(conversion::interval_to_time)),
        (Jsonb, Json) => (Assignment, Relabel),
        (Json, Jsonb) => (Assignment, Kernel(conversion::json_to_jsonb)),
        (Jsonb, Bool) => (Explicit, Kernel(conversion::jsonb_to_bool)),
        (Jsonb, Numeric | Int2 | Int4 | Int8 | Float4 | Float8) => (Explicit, Kernel(conversion::jsonb_to_number)),
        (Bool, Text | Varchar | Bpchar) => (Assignment, Kernel(conversion::bool_to_text)),
        (Array(from), Array(to)) => {
            let (context, element) = conversion_between(from, to)?;
            return match element {
                Relabel => Some((context, Relabel)),
                Arrow => Some((context, Arrow)),
                // Numbers that are as wide.
                Kernel(_) if from.is_oid() && matches!(**to, Int4 | Int8) => Some((context, Arrow)),
                Kernel(_) => None,
            };
        }
        (_, Text | Varchar | Bpchar | Name) => (Assignment, Kernel(conversion::to_text)),
        (Text | Varchar | Bpchar | Name, Jsonb) => (Explicit, Kernel(conversion::text_to_jsonb)),
        (Text | Varchar | Bpchar | Name, _) if *to != Unknown => (Explicit, Kernel(conversion::from_text)),
        _ => return None,
    };
    Some(found)
}

/// Brings a value of the right type to a modifier: length, precision, scale, fields.
fn apply_typmod(expr: TypedExpr, typmod: i32, context: CastContext) -> Result<TypedExpr, PgError> {
    if typmod < 0 || typmod == expr.typmod {
        // Without a modifier asked for, the value keeps what is known of it.
        return Ok(expr);
    }
    let explicit = context == CastContext::Explicit;
    let sql_type = expr.sql_type;
    let body: Body = match sql_type {
        SqlType::Numeric => conversion::fit_numeric,
        SqlType::Varchar if explicit => conversion::cut_varchar,
        SqlType::Varchar => conversion::fit_varchar,
        SqlType::Bpchar if explicit => conversion::cut_bpchar,
        SqlType::Bpchar => conversion::fit_bpchar,
        SqlType::Timestamp | SqlType::Timestamptz => conversion::fit_timestamp,
        SqlType::Time => conversion::fit_time,
        SqlType::Interval => conversion::fit_interval,
        SqlType::Vector => vector::fit,
        _ => return Ok(TypedExpr { sql_type, ..expr }),
    };
    let name = format!("{}_{}", sql_type.name(), if explicit { "cut" } else { "fit" });
    let arrow = sql_type.arrow();
    let arguments = vec![(expr.expr, arrow.clone()), (lit(typmod), DataType::Int32)];
    // A constant that does not fit is an error now.
    let fitted = call_strict(&name, arguments, arrow, body);
    let expr = match evaluate(&fitted) {
        Some(Ok(value)) => lit(value),
        Some(Err(error)) => return Err(error),
        None => fitted,
    };
    Ok(TypedExpr { expr, sql_type, typmod })
}

/// A kernel call over constants, computed; None if some argument is no constant.
pub(crate) fn evaluate(expr: &Expr) -> Option<Result<ScalarValue, PgError>> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let mut arguments = Vec::new();
    let mut fields = Vec::new();
    for argument in &call.args {
        let Expr::Literal(value, _) = argument else { return None };
        fields.push(Arc::new(Field::new("", value.data_type(), true)));
        arguments.push(ColumnarValue::Scalar(value.clone()));
    }
    let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
    let result = call.func.return_type(&types).and_then(|return_type| {
        call.func.invoke_with_args(ScalarFunctionArgs {
            args: arguments,
            arg_fields: fields,
            number_rows: 1,
            return_field: Arc::new(Field::new("", return_type, true)),
            config_options: Arc::new(ConfigOptions::default()),
        })
    });
    Some(match result {
        Ok(ColumnarValue::Scalar(value)) => Ok(value),
        Ok(ColumnarValue::Array(array)) => {
            ScalarValue::try_from_array(&array, 0).map_err(|error| PgError::internal(error.to_string()))
        }
        Err(datafusion::error::DataFusionError::External(error)) => match error.downcast::<PgError>() {
            Ok(error) => Err(*error),
            Err(error) => Err(PgError::internal(error.to_string())),
        },
        Err(error) => Err(PgError::internal(error.to_string())),
    })
}

/// The constant a call of constants comes to. One that fails stays a call: it may stand where it is never evaluated.
pub(crate) fn folded(expr: Expr) -> Expr {
    match evaluate(&expr) {
        Some(Ok(value)) => lit(value),
        _ => expr,
    }
}

/// The type that all of `inputs` can become, by the rules of UNION and CASE. `context` names the construct in the error.
///
/// [`SqlType::Text`] where all are unknown. Error `42804`.
pub fn common_type(context: &str, inputs: &[&TypedExpr]) -> Result<SqlType, PgError> {
    let mut known = inputs.iter().map(|input| &input.sql_type).filter(|sql_type| **sql_type != SqlType::Unknown);
    let Some(mut chosen) = known.next() else { return Ok(SqlType::Text) };
    for next in known {
        if next == chosen {
            continue;
        }
        if category(next) != category(chosen) {
            let message = format!("{context} types {} and {} cannot be matched", chosen.sql_name(), next.sql_name());
            return Err(PgError::new(SqlState::DATATYPE_MISMATCH, message));
        }
        let preferred = matches!(chosen, SqlType::Bool | SqlType::Text | SqlType::Float8 | SqlType::Timestamptz);
        if !preferred && implicitly(chosen, next) && !implicitly(next, chosen) {
            chosen = next;
        }
    }
    for input in inputs {
        if !input.is_unknown() && !implicitly(&input.sql_type, chosen) {
            let message =
                format!("{context} could not convert type {} to {}", input.sql_type.sql_name(), chosen.sql_name());
            return Err(PgError::new(SqlState::CANNOT_COERCE, message));
        }
    }
    Ok(chosen.clone())
}

/// The type and modifier that a type name in SQL text means. Error `42704` if there is none of that name.
pub fn type_from_ast(data_type: &ast::DataType) -> Result<(SqlType, i32), PgError> {
    use ast::DataType as Ast;
    let plain = |sql_type: SqlType| Ok((sql_type, -1));
    match data_type {
        Ast::Bool | Ast::Boolean => plain(SqlType::Bool),
        Ast::SmallInt(None) | Ast::Int2(None) => plain(SqlType::Int2),
        Ast::Int(None) | Ast::Integer(None) | Ast::Int4(None) => plain(SqlType::Int4),
        Ast::BigInt(None) | Ast::Int8(None) => plain(SqlType::Int8),
        Ast::Real | Ast::Float4 => plain(SqlType::Float4),
        Ast::Float8 | Ast::DoublePrecision | Ast::Double(ast::ExactNumberInfo::None) => plain(SqlType::Float8),
        Ast::Float(info) => match info {
            ast::ExactNumberInfo::None => plain(SqlType::Float8),
            ast::ExactNumberInfo::Precision(0) => {
                invalid("precision for type float must be at least 1 bit".to_string())
            }
            ast::ExactNumberInfo::Precision(1..=24) => plain(SqlType::Float4),
            ast::ExactNumberInfo::Precision(25..=53) => plain(SqlType::Float8),
            _ => invalid("precision for type float must be less than 54 bits".to_string()),
        },
        Ast::Numeric(info) | Ast::Decimal(info) | Ast::Dec(info) => numeric_typmod(info),
        Ast::Text => plain(SqlType::Text),
        Ast::Varchar(length) | Ast::CharacterVarying(length) | Ast::CharVarying(length) => {
            Ok((SqlType::Varchar, length_typmod("varchar", length.as_ref(), None)?))
        }
        Ast::Char(length) | Ast::Character(length) => {
            Ok((SqlType::Bpchar, length_typmod("char", length.as_ref(), Some(1))?))
        }
        Ast::Bytea => plain(SqlType::Bytea),
        Ast::Date => plain(SqlType::Date),
        Ast::Time(precision, ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) => {
            Ok((SqlType::Time, precision_typmod(*precision)))
        }
        Ast::Timestamp(precision, ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) => {
            Ok((SqlType::Timestamp, precision_typmod(*precision)))
        }
        Ast::Timestamp(precision, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => {
            Ok((SqlType::Timestamptz, precision_typmod(*precision)))
        }
        Ast::Interval { fields, precision } => Ok((SqlType::Interval, interval_typmod(fields.as_ref(), *precision))),
        Ast::Uuid => plain(SqlType::Uuid),
        Ast::JSON => plain(SqlType::Json),
        Ast::JSONB => plain(SqlType::Jsonb),
        Ast::Regclass => plain(SqlType::Regclass),
        Ast::Array(ast::ArrayElemTypeDef::SquareBracket(element, _) | ast::ArrayElemTypeDef::AngleBracket(element)) => {
            match type_from_ast(element)? {
                // PostgreSQL has one array type for any number of dimensions.
                (array @ SqlType::Array(_), typmod) => Ok((array, typmod)),
                (element, typmod) => Ok((SqlType::Array(Box::new(element)), typmod)),
            }
        }
        Ast::Custom(name, modifiers) => named_type(name, modifiers),
        other => Err(undefined_type(&other.to_string().to_lowercase())),
    }
}

fn invalid<T>(message: String) -> Result<T, PgError> {
    Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message))
}

fn undefined_type(name: &str) -> PgError {
    PgError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}

fn named_type(name: &ast::ObjectName, modifiers: &[String]) -> Result<(SqlType, i32), PgError> {
    let full: Vec<String> = name
        .0
        .iter()
        .map(|part| match part.as_ident() {
            Some(ident) if ident.quote_style.is_none() => ident.value.to_lowercase(),
            Some(ident) => ident.value.clone(),
            None => part.to_string(),
        })
        .collect();
    let bare = match full.as_slice() {
        [bare] => bare,
        [schema, bare] if schema == "pg_catalog" => bare,
        _ => return Err(undefined_type(&full.join("."))),
    };
    let typmod = |modifier: &str| {
        modifier.parse::<i32>().map_err(|_| {
            PgError::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid type modifier \"{modifier}\""))
        })
    };
    let (sql_type, offset) = match bare.as_str() {
        "bpchar" => (SqlType::Bpchar, 4),
        "varchar" => (SqlType::Varchar, 4),
        "timestamptz" => (SqlType::Timestamptz, 0),
        // There is no text search: nothing has a name to be printed.
        "regconfig" | "regdictionary" => (SqlType::Oid, 0),
        bare => {
            let scalar = |name: &str| {
                let found = repr::types::TYPES.iter().find(|info| info.name == name && name != "unknown");
                found.map(|info| info.sql_type.clone())
            };
            let found = match bare.strip_prefix('_') {
                Some(element) => scalar(element).map(|element| SqlType::Array(Box::new(element))),
                None => scalar(bare),
            };
            (found.ok_or_else(|| undefined_type(bare))?, 0)
        }
    };
    match modifiers {
        [] => Ok((sql_type, -1)),
        [one] if sql_type == SqlType::Vector => match typmod(one)? {
            ..=0 => invalid("dimensions for type vector must be at least 1".to_string()),
            many if many as usize > DIMENSIONS_MAX => {
                invalid(format!("dimensions for type vector cannot exceed {DIMENSIONS_MAX}"))
            }
            dimensions => Ok((sql_type, dimensions)),
        },
        [one] => Ok((sql_type, typmod(one)? + offset)),
        _ => Err(undefined_type(bare)),
    }
}

fn numeric_typmod(info: &ast::ExactNumberInfo) -> Result<(SqlType, i32), PgError> {
    let (precision, scale) = match info {
        ast::ExactNumberInfo::None => return Ok((SqlType::Numeric, -1)),
        ast::ExactNumberInfo::Precision(precision) => (*precision, 0),
        ast::ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if !(1..=1000).contains(&precision) {
        return invalid(format!("NUMERIC precision {precision} must be between 1 and 1000"));
    }
    if !(-1000..=1000).contains(&scale) {
        return invalid(format!("NUMERIC scale {scale} must be between -1000 and 1000"));
    }
    Ok((SqlType::Numeric, ((precision as i32) << 16 | (scale as i32 & 0x7FF)) + 4))
}

fn length_typmod(name: &str, length: Option<&ast::CharacterLength>, default: Option<u64>) -> Result<i32, PgError> {
    let length = match length {
        Some(ast::CharacterLength::IntegerLength { length, .. }) => Some(*length),
        Some(ast::CharacterLength::Max) => return Err(PgError::unsupported(format!("{name}(max)"))),
        None => default,
    };
    match length {
        None => Ok(-1),
        Some(0) => invalid(format!("length for type {name} must be at least 1")),
        Some(1..=10_485_760) => Ok(length.unwrap_or(1) as i32 + 4),
        Some(_) => invalid(format!("length for type {name} cannot exceed 10485760")),
    }
}

/// PostgreSQL warns of a precision beyond microseconds and takes 6.
fn precision_typmod(precision: Option<u64>) -> i32 {
    precision.map_or(-1, |precision| precision.min(6) as i32)
}

fn interval_typmod(fields: Option<&ast::IntervalFields>, precision: Option<u64>) -> i32 {
    use ast::IntervalFields::*;
    let range = match fields {
        None => field::ALL,
        Some(Year) => field::YEAR,
        Some(Month) => field::MONTH,
        Some(Day) => field::DAY,
        Some(Hour) => field::HOUR,
        Some(Minute) => field::MINUTE,
        Some(Second) => field::SECOND,
        Some(YearToMonth) => field::YEAR | field::MONTH,
        Some(DayToHour) => field::DAY | field::HOUR,
        Some(DayToMinute) => field::DAY | field::HOUR | field::MINUTE,
        Some(DayToSecond) => field::DAY | field::HOUR | field::MINUTE | field::SECOND,
        Some(HourToMinute) => field::HOUR | field::MINUTE,
        Some(HourToSecond) => field::HOUR | field::MINUTE | field::SECOND,
        Some(MinuteToSecond) => field::MINUTE | field::SECOND,
    };
    match (fields, precision) {
        (None, None) => -1,
        (_, precision) => range << 16 | precision.map_or(0xFFFF, |precision| precision.min(6) as i32),
    }
}
