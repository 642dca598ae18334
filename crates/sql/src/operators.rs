//! Operators: the overloads PostgreSQL has, which one an expression means, and the expression that computes it.
//!
//! Comparisons of types whose stored order is PostgreSQL's are DataFusion's own, so that the optimizer sees them: equi-joins,
//! pushed-down filters. Floats, numerics, intervals and char(n) get there through a key ([`equality_key`]). All arithmetic is
//! ours, because it must fail where PostgreSQL's does.

use std::sync::LazyLock;

use arrow::datatypes::{DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::{Expr, Operator, binary_expr};
use repr::numeric::{self, Numeric};
use repr::{PgError, SqlState, SqlType};

use crate::cast::{CastContext, cast, folded};
use crate::functions::kernel::{Body, call_strict};
use crate::functions::resolution::{Failure, choose};
use crate::functions::{arithmetic, comparison, datetime, json_access, math, strings, vector};
use crate::typed::TypedExpr;

/// One overload.
struct Overload {
    name: &'static str,
    /// What its operands are declared as; a prefix operator has one.
    operands: Vec<SqlType>,
    /// What the kernel takes, where that differs.
    runs_on: Option<SqlType>,
    result: SqlType,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    /// A strict kernel; the name is that of the function it becomes.
    Kernel(&'static str, Body),
    Compare(Operator),
    Like {
        negated: bool,
        case_insensitive: bool,
    },
}

/// The types that can be compared, by themselves.
const COMPARED: &[SqlType] = &[
    SqlType::Bool,
    SqlType::Bytea,
    SqlType::Char,
    SqlType::Name,
    SqlType::Int8,
    SqlType::Int2,
    SqlType::Int4,
    SqlType::Text,
    SqlType::Oid,
    SqlType::Xid,
    SqlType::Float4,
    SqlType::Float8,
    SqlType::Bpchar,
    SqlType::Date,
    SqlType::Time,
    SqlType::Timestamp,
    SqlType::Timestamptz,
    SqlType::Interval,
    SqlType::Numeric,
    SqlType::Uuid,
];

fn comparison_operator(name: &str) -> Option<Operator> {
    Some(match name {
        "=" => Operator::Eq,
        "<>" | "!=" => Operator::NotEq,
        "<" => Operator::Lt,
        "<=" => Operator::LtEq,
        ">" => Operator::Gt,
        ">=" => Operator::GtEq,
        _ => return None,
    })
}

fn kernel(name: &'static str, operands: Vec<SqlType>, result: SqlType, function: &'static str, body: Body) -> Overload {
    Overload { name, operands, runs_on: None, result, action: Action::Kernel(function, body) }
}

/// A binary operator over one type.
fn same(name: &'static str, operand: SqlType, function: &'static str, body: Body) -> Overload {
    kernel(name, vec![operand.clone(), operand.clone()], operand, function, body)
}

/// An operator over real and double, either way round, computed on doubles.
fn mixed_floats(name: &'static str, action: Action, result: SqlType) -> [Overload; 2] {
    use SqlType::{Float4, Float8};
    [[Float4, Float8], [Float8, Float4]].map(|operands| Overload {
        name,
        operands: operands.to_vec(),
        runs_on: Some(Float8),
        result: result.clone(),
        action,
    })
}

macro_rules! integer_operators {
    ($list:ident, $sql:ident, $arrow:ty, $prefix:literal) => {{
        let sql = SqlType::$sql;
        $list.extend([
            same("+", sql.clone(), concat!($prefix, "_add"), arithmetic::int_add::<$arrow>),
            same("-", sql.clone(), concat!($prefix, "_sub"), arithmetic::int_sub::<$arrow>),
            same("*", sql.clone(), concat!($prefix, "_mul"), arithmetic::int_mul::<$arrow>),
            same("/", sql.clone(), concat!($prefix, "_div"), arithmetic::int_div::<$arrow>),
            same("%", sql.clone(), concat!($prefix, "_mod"), arithmetic::int_rem::<$arrow>),
            same("&", sql.clone(), concat!($prefix, "_and"), arithmetic::int_and::<$arrow>),
            same("|", sql.clone(), concat!($prefix, "_or"), arithmetic::int_or::<$arrow>),
            same("#", sql.clone(), concat!($prefix, "_xor"), arithmetic::int_xor::<$arrow>),
            kernel(
                "<<",
                vec![sql.clone(), SqlType::Int4],
                sql.clone(),
                concat!($prefix, "_shift_left"),
                arithmetic::int_shift_left::<$arrow>,
            ),
            kernel(
                ">>",
                vec![sql.clone(), SqlType::Int4],
                sql.clone(),
                concat!($prefix, "_shift_right"),
                arithmetic::int_shift_right::<$arrow>,
            ),
            kernel("-", vec![sql.clone()], sql.clone(), concat!($prefix, "_neg"), arithmetic::int_neg::<$arrow>),
            kernel("+", vec![sql.clone()], sql.clone(), concat!($prefix, "_plus"), arithmetic::identity),
            kernel("@", vec![sql.clone()], sql.clone(), concat!($prefix, "_abs"), arithmetic::int_abs::<$arrow>),
            kernel("~", vec![sql.clone()], sql.clone(), concat!($prefix, "_not"), arithmetic::int_not::<$arrow>),
        ]);
    }};
}

macro_rules! float_operators {
    ($list:ident, $sql:ident, $arrow:ty, $prefix:literal) => {{
        let sql = SqlType::$sql;
        $list.extend([
            same("+", sql.clone(), concat!($prefix, "_add"), arithmetic::float_add::<$arrow>),
            same("-", sql.clone(), concat!($prefix, "_sub"), arithmetic::float_sub::<$arrow>),
            same("*", sql.clone(), concat!($prefix, "_mul"), arithmetic::float_mul::<$arrow>),
            same("/", sql.clone(), concat!($prefix, "_div"), arithmetic::float_div::<$arrow>),
            kernel("-", vec![sql.clone()], sql.clone(), concat!($prefix, "_neg"), arithmetic::float_neg::<$arrow>),
            kernel("+", vec![sql.clone()], sql.clone(), concat!($prefix, "_plus"), arithmetic::identity),
            kernel("@", vec![sql.clone()], sql.clone(), concat!($prefix, "_abs"), arithmetic::float_abs::<$arrow>),
        ]);
    }};
}

fn overloads() -> Vec<Overload> {
    use SqlType::*;
    let mut list = Vec::new();
    integer_operators!(list, Int2, Int16Type, "int2");
    integer_operators!(list, Int4, Int32Type, "int4");
    integer_operators!(list, Int8, Int64Type, "int8");
    float_operators!(list, Float4, Float32Type, "float4");
    float_operators!(list, Float8, Float64Type, "float8");
    list.extend([
        same("+", Numeric, "numeric_add", arithmetic::numeric_add),
        same("-", Numeric, "numeric_sub", arithmetic::numeric_sub),
        same("*", Numeric, "numeric_mul", arithmetic::numeric_mul),
        same("/", Numeric, "numeric_div", arithmetic::numeric_div),
        same("%", Numeric, "numeric_mod", arithmetic::numeric_rem),
        same("^", Numeric, "numeric_power", math::numeric_power),
        same("^", Float8, "float8_power", math::float_power),
        kernel("-", vec![Numeric], Numeric, "numeric_neg", arithmetic::numeric_neg),
        kernel("+", vec![Numeric], Numeric, "numeric_plus", arithmetic::identity),
        kernel("@", vec![Numeric], Numeric, "numeric_abs", arithmetic::numeric_abs),
        kernel("|/", vec![Float8], Float8, "float8_sqrt", math::float_sqrt),
        kernel("||/", vec![Float8], Float8, "float8_cbrt", math::float_cbrt),
    ]);
    for (name, function, body) in [
        ("+", "float8_add", arithmetic::float_add::<Float64Type> as Body),
        ("-", "float8_sub", arithmetic::float_sub::<Float64Type>),
        ("*", "float8_mul", arithmetic::float_mul::<Float64Type>),
        ("/", "float8_div", arithmetic::float_div::<Float64Type>),
    ] {
        list.extend(mixed_floats(name, Action::Kernel(function, body), Float8));
    }
    list.extend([
        kernel("+", vec![Date, Int4], Date, "date_add_int4", datetime::date_add_int),
        kernel("+", vec![Int4, Date], Date, "int4_add_date", datetime::int_add_date),
        kernel("-", vec![Date, Int4], Date, "date_sub_int4", datetime::date_sub_int),
        kernel("-", vec![Date, Date], Int4, "date_sub", datetime::date_sub_date),
        kernel("+", vec![Date, Interval], Timestamp, "date_add_interval", datetime::date_add_interval),
        kernel("+", vec![Interval, Date], Timestamp, "interval_add_date", datetime::interval_add_date),
        kernel("-", vec![Date, Interval], Timestamp, "date_sub_interval", datetime::date_sub_interval),
        kernel("+", vec![Date, Time], Timestamp, "date_add_time", datetime::date_add_time),
        kernel("+", vec![Time, Date], Timestamp, "time_add_date", datetime::time_add_date),
        kernel("-", vec![Time, Time], Interval, "time_sub", datetime::time_sub_time),
        kernel("+", vec![Time, Interval], Time, "time_add_interval", datetime::time_add_interval),
        kernel("+", vec![Interval, Time], Time, "interval_add_time", datetime::interval_add_time),
        kernel("-", vec![Time, Interval], Time, "time_sub_interval", datetime::time_sub_interval),
        same("+", Interval, "interval_add", datetime::interval_add),
        same("-", Interval, "interval_sub", datetime::interval_sub),
        kernel("-", vec![Interval], Interval, "interval_neg", datetime::interval_neg),
        kernel("*", vec![Interval, Float8], Interval, "interval_mul", datetime::interval_mul),
        kernel("*", vec![Float8, Interval], Interval, "mul_interval", datetime::mul_interval),
        kernel("/", vec![Interval, Float8], Interval, "interval_div", datetime::interval_div),
    ]);
    for (timestamp, add, added, sub, difference) in [
        (Timestamp, "timestamp_add_interval", "interval_add_timestamp", "timestamp_sub_interval", "timestamp_sub"),
        (
            Timestamptz,
            "timestamptz_add_interval",
            "interval_add_timestamptz",
            "timestamptz_sub_interval",
            "timestamptz_sub",
        ),
    ] {
        let both = |left: &SqlType, right: &SqlType| vec![left.clone(), right.clone()];
        list.extend([
            kernel("+", both(&timestamp, &Interval), timestamp.clone(), add, datetime::timestamp_add_interval),
            kernel("+", both(&Interval, &timestamp), timestamp.clone(), added, datetime::interval_add_timestamp),
            kernel("-", both(&timestamp, &Interval), timestamp.clone(), sub, datetime::timestamp_sub_interval),
            kernel("-", both(&timestamp, &timestamp), Interval, difference, datetime::timestamp_sub_timestamp),
        ]);
    }
    for name in ["=", "<>", "!=", "<", "<=", ">", ">="] {
        let Some(operator) = comparison_operator(name) else { continue };
        for operand in COMPARED {
            list.push(Overload {
                name,
                operands: vec![operand.clone(), operand.clone()],
                runs_on: None,
                result: Bool,
                action: Action::Compare(operator),
            });
        }
        list.extend(mixed_floats(name, Action::Compare(operator), Bool));
        if matches!(operator, Operator::Eq | Operator::NotEq) {
            list.push(Overload {
                name,
                operands: vec![Jsonb, Jsonb],
                runs_on: None,
                result: Bool,
                action: Action::Compare(operator),
            });
        }
    }
    for (name, negated, case_insensitive) in
        [("~~", false, false), ("!~~", true, false), ("~~*", false, true), ("!~~*", true, true)]
    {
        for operand in [Text, Bpchar, Name] {
            list.push(Overload {
                name,
                operands: vec![operand, Text],
                runs_on: None,
                result: Bool,
                action: Action::Like { negated, case_insensitive },
            });
        }
    }
    for (name, function, body) in [
        ("~", "regex_match", strings::regex_match as Body),
        ("!~", "regex_not_match", strings::regex_not_match),
        ("~*", "regex_imatch", strings::regex_match_insensitive),
        ("!~*", "regex_not_imatch", strings::regex_not_match_insensitive),
    ] {
        for operand in [Text, Bpchar, Name] {
            list.push(kernel(name, vec![operand, Text], Bool, function, body));
        }
    }
    list.extend([
        same("||", Text, "text_cat", strings::concatenate),
        same("||", Bytea, "bytea_cat", strings::concatenate_bytes),
        kernel("^@", vec![Text, Text], Bool, "starts_with", strings::starts_with),
        kernel("?", vec![Jsonb, Text], Bool, "jsonb_exists", json_access::exists),
        kernel("@>", vec![Jsonb, Jsonb], Bool, "jsonb_contains", json_access::contains),
        kernel("<@", vec![Jsonb, Jsonb], Bool, "jsonb_contained", json_access::contained_by),
    ]);
    for (name, function, body) in [
        ("<->", "l2_distance", vector::l2_distance as Body),
        ("<#>", "negative_inner_product", vector::negative_inner_product),
        ("<=>", "cosine_distance", vector::cosine_distance),
        ("<+>", "l1_distance", vector::l1_distance),
    ] {
        list.push(kernel(name, vec![Vector, Vector], Float8, function, body));
    }
    list.extend([
        same("+", Vector, "vector_add", vector::add),
        same("-", Vector, "vector_sub", vector::subtract),
        same("*", Vector, "vector_mul", vector::multiply),
        same("||", Vector, "vector_cat", vector::concatenate),
    ]);
    for json in [Json, Jsonb] {
        let path = Array(Box::new(Text));
        list.extend([
            kernel("->", vec![json.clone(), Text], json.clone(), "json_field", json_access::field),
            kernel("->", vec![json.clone(), Int4], json.clone(), "json_element", json_access::element),
            kernel("->>", vec![json.clone(), Text], Text, "json_field_text", json_access::field_text),
            kernel("->>", vec![json.clone(), Int4], Text, "json_element_text", json_access::element_text),
            kernel("#>", vec![json.clone(), path.clone()], json.clone(), "json_path", json_access::path),
            kernel("#>>", vec![json.clone(), path.clone()], Text, "json_path_text", json_access::path_text),
        ]);
    }
    list
}

static OVERLOADS: LazyLock<Vec<Overload>> = LazyLock::new(overloads);

/// The operator `op` (`+`, `<=`, `~~`, `->>`, `and`, `not`, ..) over its operands; `left` is None for a prefix operator.
///
/// Overloads are chosen by the rules of PostgreSQL's manual, chapter 10; every conversion is part of the result. Errors:
/// `42883`, `42725`, `42804`, and those of reading a literal.
pub fn resolve_operator(op: &str, left: Option<TypedExpr>, right: TypedExpr) -> Result<TypedExpr, PgError> {
    match op.to_ascii_lowercase().as_str() {
        "and" | "or" => return logical(op, left, right),
        "not" => {
            let operand = boolean_operand("NOT", right)?;
            return Ok(TypedExpr::new(Expr::Not(Box::new(operand)), SqlType::Bool));
        }
        _ => {}
    }
    let (left, right) = match (left, right) {
        // A literal beside a vector is one too, and looks different from an array.
        (Some(left), right) if right.is_unknown() && left.sql_type.is_catalog_vector() => {
            let right = cast(right, &left.sql_type.clone(), -1, CastContext::Implicit)?;
            (Some(left.vector_as_array()), right.vector_as_array())
        }
        (left, right) => (left.map(TypedExpr::vector_as_array), right.vector_as_array()),
    };
    if let (Some(left), true) = (&left, comparison_operator(op).is_some())
        && let Some(compared) = compare_as_is(op, left, &right)?
    {
        return Ok(compared);
    }
    let operands: Vec<TypedExpr> = left.into_iter().chain([right]).collect();
    let types: Vec<&SqlType> = operands.iter().map(|operand| &operand.sql_type).collect();
    let candidates: Vec<&Overload> =
        OVERLOADS.iter().filter(|overload| overload.name == op && overload.operands.len() == types.len()).collect();
    let declared: Vec<Vec<&SqlType>> = candidates.iter().map(|overload| overload.operands.iter().collect()).collect();
    // varchar has no operators of its own: it is text to all of them.
    let as_text: Vec<&SqlType> =
        types.iter().map(|sql_type| if **sql_type == SqlType::Varchar { &SqlType::Text } else { *sql_type }).collect();
    let chosen = match choose(&declared, &as_text) {
        Ok(index) => candidates[index],
        Err(failure) => {
            if let Some(result) = polymorphic(op, &operands)? {
                return Ok(result);
            }
            return Err(unresolved(op, &types, failure));
        }
    };
    apply(chosen, operands)
}

fn unresolved(op: &str, types: &[&SqlType], failure: Failure) -> PgError {
    let spelled = match types {
        [left, right] => format!("{} {op} {}", left.sql_name(), right.sql_name()),
        [operand] => format!("{op} {}", operand.sql_name()),
        _ => op.to_string(),
    };
    match failure {
        Failure::None => PgError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {spelled}"))
            .with_hint(match types.len() {
                1 => {
                    "No operator matches the given name and argument type. You might need to add an explicit type cast."
                }
                _ => {
                    "No operator matches the given name and argument types. You might need to add explicit type casts."
                }
            }),
        Failure::Ambiguous => PgError::new(SqlState::AMBIGUOUS_FUNCTION, format!("operator is not unique: {spelled}"))
            .with_hint("Could not choose a best candidate operator. You might need to add explicit type casts."),
    }
}

fn boolean_operand(name: &str, operand: TypedExpr) -> Result<Expr, PgError> {
    match operand.sql_type {
        SqlType::Bool => Ok(operand.expr),
        SqlType::Unknown => Ok(cast(operand, &SqlType::Bool, -1, CastContext::Implicit)?.expr),
        other => Err(PgError::new(
            SqlState::DATATYPE_MISMATCH,
            format!("argument of {name} must be type boolean, not type {}", other.sql_name()),
        )),
    }
}

fn logical(op: &str, left: Option<TypedExpr>, right: TypedExpr) -> Result<TypedExpr, PgError> {
    let name = op.to_ascii_uppercase();
    let left =
        left.ok_or_else(|| PgError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{name}\"")))?;
    let operator = if name == "AND" { Operator::And } else { Operator::Or };
    let (left, right) = (boolean_operand(&name, left)?, boolean_operand(&name, right)?);
    Ok(TypedExpr::new(binary_expr(left, operator, right), SqlType::Bool))
}

fn apply(overload: &Overload, operands: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let mut converted = Vec::new();
    for (operand, declared) in operands.into_iter().zip(&overload.operands) {
        let wanted = overload.runs_on.as_ref().unwrap_or(declared);
        let implicit = cast(operand, wanted, -1, CastContext::Implicit)?;
        converted.push(implicit);
    }
    match overload.action {
        Action::Kernel(name, body) => {
            let arguments = converted.into_iter().map(|operand| (operand.expr, operand.sql_type.arrow())).collect();
            let expr = folded(call_strict(name, arguments, overload.result.arrow(), body));
            Ok(TypedExpr::new(expr, overload.result.clone()))
        }
        Action::Compare(operator) => {
            let [left, right] = take_two(converted)?;
            Ok(TypedExpr::new(compare(operator, left, right), SqlType::Bool))
        }
        Action::Like { negated, case_insensitive } => {
            let [value, pattern] = take_two(converted)?;
            let like = Like::new(negated, Box::new(value.expr), Box::new(pattern.expr), None, case_insensitive);
            Ok(TypedExpr::new(Expr::Like(like), SqlType::Bool))
        }
    }
}

fn take_two(operands: Vec<TypedExpr>) -> Result<[TypedExpr; 2], PgError> {
    operands.try_into().map_err(|_| PgError::internal("an operator has not two operands"))
}

/// A comparison of two expressions of one type.
fn compare(operator: Operator, left: TypedExpr, right: TypedExpr) -> Expr {
    let (left, right) = comparable(left, right);
    binary_expr(left, operator, right)
}

/// Both sides in a form whose stored order is the SQL order.
fn comparable(left: TypedExpr, right: TypedExpr) -> (Expr, Expr) {
    if left.sql_type == SqlType::Numeric
        && let (Some(left_scale), Some(right_scale)) = (fixed_scale(&left), fixed_scale(&right))
    {
        if left_scale == right_scale {
            return (left.expr, right.expr);
        }
        // A literal takes the column's scale where it can; if it cannot, no value of the column equals it, and the bytes
        // before the scale decide the order.
        match (&left.expr, &right.expr) {
            (_, Expr::Literal(ScalarValue::LargeBinary(Some(bytes)), _)) => {
                return (left.expr.clone(), at_scale(bytes, left_scale));
            }
            (Expr::Literal(ScalarValue::LargeBinary(Some(bytes)), _), _) => {
                return (at_scale(bytes, right_scale), right.expr.clone());
            }
            _ => {}
        }
    }
    equality_keys(left, right)
}

/// [`equality_key`] for both sides of a comparison: a numeric with a fixed scale meets one without in the same form.
pub fn equality_keys(left: TypedExpr, right: TypedExpr) -> (Expr, Expr) {
    let (left_typmod, right_typmod) = if left.typmod == right.typmod { (left.typmod, right.typmod) } else { (-1, -1) };
    (equality_key(TypedExpr { typmod: left_typmod, ..left }), equality_key(TypedExpr { typmod: right_typmod, ..right }))
}

fn at_scale(bytes: &[u8], scale: i32) -> Expr {
    let value = Numeric::decode(bytes);
    let rounded = value.round(scale as i64);
    crate::literal::numeric(if rounded == value { &rounded } else { &value })
}

/// The one display scale that all values of a numeric expression have, if that is known.
fn fixed_scale(typed: &TypedExpr) -> Option<i32> {
    match &typed.expr {
        Expr::Literal(ScalarValue::LargeBinary(Some(bytes)), _) => {
            Numeric::decode(bytes).decimal().map(|decimal| decimal.scale() as i32)
        }
        // A negative scale is shown as 0.
        _ => numeric::precision_and_scale(typed.typmod).map(|(_, scale)| scale.max(0)),
    }
}

/// Comparisons that need no overload: arrays.
fn compare_as_is(op: &str, left: &TypedExpr, right: &TypedExpr) -> Result<Option<TypedExpr>, PgError> {
    let array = match (&left.sql_type, &right.sql_type) {
        (SqlType::Array(_) | SqlType::Vector, SqlType::Unknown) => left.sql_type.clone(),
        (SqlType::Unknown, SqlType::Array(_) | SqlType::Vector) => right.sql_type.clone(),
        (SqlType::Array(_), SqlType::Array(_)) | (SqlType::Vector, SqlType::Vector)
            if left.sql_type == right.sql_type =>
        {
            left.sql_type.clone()
        }
        _ => return Ok(None),
    };
    let (name, body): (&str, Body) = match op {
        "=" => ("array_eq", comparison::equal),
        "<>" | "!=" => ("array_ne", comparison::not_equal),
        "<" => ("array_lt", comparison::less),
        "<=" => ("array_le", comparison::less_or_equal),
        ">" => ("array_gt", comparison::greater),
        ">=" => ("array_ge", comparison::greater_or_equal),
        _ => return Ok(None),
    };
    let mut arguments = Vec::new();
    for operand in [left, right] {
        let converted = cast(operand.clone(), &array, -1, CastContext::Implicit)?;
        arguments.push((converted.expr, array.arrow()));
    }
    Ok(Some(TypedExpr::new(call_strict(name, arguments, DataType::Boolean, body), SqlType::Bool)))
}

/// Operators over any type: `text || anything`, arrays.
fn polymorphic(op: &str, operands: &[TypedExpr]) -> Result<Option<TypedExpr>, PgError> {
    let [left, right] = operands else { return Ok(None) };
    let is_text = |typed: &TypedExpr| {
        matches!(typed.sql_type, SqlType::Text | SqlType::Varchar | SqlType::Bpchar | SqlType::Name | SqlType::Unknown)
    };
    if op != "||" {
        return Ok(None);
    }
    if matches!(left.sql_type, SqlType::Array(_)) || matches!(right.sql_type, SqlType::Array(_)) {
        return crate::functions::array_concat::concatenation(left.clone(), right.clone()).map(Some);
    }
    if matches!(left.sql_type, SqlType::Jsonb) || matches!(right.sql_type, SqlType::Jsonb) {
        return Err(PgError::unsupported("|| over jsonb"));
    }
    if !is_text(left) && !is_text(right) {
        return Ok(None);
    }
    let mut arguments = Vec::new();
    for operand in operands {
        let text = cast(operand.clone(), &SqlType::Text, -1, CastContext::Explicit)?;
        arguments.push((text.expr, DataType::Utf8));
    }
    let expr = folded(call_strict("text_cat", arguments, DataType::Utf8, strings::concatenate));
    Ok(Some(TypedExpr::new(expr, SqlType::Text)))
}

/// `left IS NOT DISTINCT FROM right`. Errors: as for `=`.
pub fn not_distinct(left: TypedExpr, right: TypedExpr) -> Result<TypedExpr, PgError> {
    let equal = resolve_operator("=", Some(left), right)?;
    match equal.expr {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let expr = binary_expr(*binary.left, Operator::IsNotDistinctFrom, *binary.right);
            Ok(TypedExpr::new(expr, SqlType::Bool))
        }
        _ => Err(PgError::unsupported("IS DISTINCT FROM over arrays")),
    }
}

/// What to group, join and order by: equal bytes exactly where SQL says equal, and ordered as SQL orders.
///
/// The same expression for most types; numeric without a fixed scale, float, interval and bpchar are wrapped.
/// For numeric, float and bpchar the result is itself a value of that type (without needless zeros, -0, trailing blanks);
/// for interval it is `LargeBinary` of the interval's length.
pub fn equality_key(typed: TypedExpr) -> Expr {
    let (name, body): (&str, Body) = match typed.sql_type {
        SqlType::Numeric if numeric::precision_and_scale(typed.typmod).is_some() => return typed.expr,
        SqlType::Numeric => ("numeric_key", comparison::numeric_key),
        SqlType::Float4 => ("float4_key", arithmetic::float_key::<Float32Type>),
        SqlType::Float8 => ("float8_key", arithmetic::float_key::<Float64Type>),
        SqlType::Interval => ("interval_key", comparison::interval_key),
        SqlType::Bpchar => ("bpchar_key", comparison::bpchar_key),
        _ => return typed.expr,
    };
    let arrow = typed.sql_type.arrow();
    let result = if typed.sql_type == SqlType::Interval { DataType::LargeBinary } else { arrow.clone() };
    if is_key(&typed.expr, name) {
        return typed.expr;
    }
    folded(call_strict(name, vec![(typed.expr, arrow)], result, body))
}

fn is_key(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == name)
}
