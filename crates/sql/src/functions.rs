//! Functions: one flat list of the overloads there are, and which of them a call means.
//!
//! To add a function, write its kernel in the module of its kind and a line in [`list`].

pub mod catalog;

pub(crate) mod aggregate;
pub(crate) mod arithmetic;
pub(crate) mod array_concat;
pub(crate) mod comparison;
pub(crate) mod conversion;
pub(crate) mod datetime;
pub(crate) mod format;
pub(crate) mod json_access;
pub(crate) mod json_build;
pub(crate) mod kernel;
pub(crate) mod math;
mod not_yet;
pub(crate) mod resolution;
pub(crate) mod set_returning;
pub(crate) mod strings;
pub(crate) mod to_char;
pub(crate) mod vector;

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::array::Array;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use datafusion::logical_expr::{Expr, SortExpr, lit};
use repr::types::TYPES;
use repr::{PgError, SqlState, SqlType};

use crate::cast::{CastContext, cast, common_type, folded};
use crate::typed::TypedExpr;
use kernel::{Body, Nulls, call, call_strict};
use resolution::{Failure, choose};

/// One overload of a scalar function.
struct Function {
    name: &'static str,
    arguments: Vec<SqlType>,
    result: SqlType,
    body: Body,
}

/// An overload from its signature: `name(type, ..) type`, with the names of `pg_type`.
fn function(signature: &'static str, body: Body) -> Function {
    let (name, rest) = signature.split_once('(').unwrap_or((signature, ") text"));
    let (arguments, result) = rest.split_once(')').unwrap_or(("", "text"));
    let arguments = arguments.split(',').map(str::trim).filter(|name| !name.is_empty()).map(type_named).collect();
    Function { name, arguments, result: type_named(result.trim()), body }
}

fn type_named(name: &str) -> SqlType {
    let scalar = |name: &str| TYPES.iter().find(|info| info.name == name).map(|info| info.sql_type.clone());
    let found = match name.strip_prefix('_') {
        Some(element) => scalar(element).map(|element| SqlType::Array(Box::new(element))),
        None => scalar(name),
    };
    debug_assert!(found.is_some(), "type {name}");
    found.unwrap_or(SqlType::Text)
}

/// Every strict scalar function. Alphabetical.
#[rustfmt::skip]
fn list() -> Vec<Function> {
    vec![
        function("abs(float4) float4", arithmetic::float_abs::<Float32Type>),
        function("abs(float8) float8", arithmetic::float_abs::<Float64Type>),
        function("abs(int2) int2", arithmetic::int_abs::<Int16Type>),
        function("abs(int4) int4", arithmetic::int_abs::<Int32Type>),
        function("abs(int8) int8", arithmetic::int_abs::<Int64Type>),
        function("abs(numeric) numeric", arithmetic::numeric_abs),
        function("acos(float8) float8", math::acos),
        function("acosh(float8) float8", math::acosh),
        function("age(timestamp, timestamp) interval", datetime::age),
        function("age(timestamptz, timestamptz) interval", datetime::age),
        function("ascii(text) int4", strings::ascii),
        function("asin(float8) float8", math::asin),
        function("asinh(float8) float8", math::asinh),
        function("atan(float8) float8", math::atan),
        function("atan2(float8, float8) float8", math::atan2),
        function("atanh(float8) float8", math::atanh),
        function("bit_length(text) int4", strings::bit_length),
        function("btrim(text) text", strings::btrim),
        function("btrim(text, text) text", strings::btrim),
        function("cbrt(float8) float8", math::float_cbrt),
        function("ceil(float8) float8", math::float_ceil),
        function("ceil(numeric) numeric", math::numeric_ceil),
        function("ceiling(float8) float8", math::float_ceil),
        function("ceiling(numeric) numeric", math::numeric_ceil),
        function("char_length(bpchar) int4", strings::bpchar_length),
        function("char_length(text) int4", strings::length),
        function("character_length(bpchar) int4", strings::bpchar_length),
        function("character_length(text) int4", strings::length),
        function("chr(int4) text", strings::chr),
        function("cos(float8) float8", math::cos),
        function("cosh(float8) float8", math::cosh),
        function("cosine_distance(vector, vector) float8", vector::cosine_distance),
        function("cot(float8) float8", math::cot),
        function("date_bin(interval, timestamp, timestamp) timestamp", datetime::date_bin),
        function("date_bin(interval, timestamptz, timestamptz) timestamptz", datetime::date_bin),
        function("date_part(text, date) float8", datetime::date_part),
        function("date_part(text, interval) float8", datetime::date_part),
        function("date_part(text, time) float8", datetime::date_part),
        function("date_part(text, timestamp) float8", datetime::date_part),
        function("date_part(text, timestamptz) float8", datetime::date_part),
        function("date_trunc(text, interval) interval", datetime::interval_trunc),
        function("date_trunc(text, timestamp) timestamp", datetime::date_trunc),
        function("date_trunc(text, timestamptz) timestamptz", datetime::date_trunc),
        function("date_trunc(text, timestamptz, text) timestamptz", datetime::date_trunc_zone),
        function("decode(text, text) bytea", strings::decode),
        function("degrees(float8) float8", math::degrees),
        function("div(numeric, numeric) numeric", arithmetic::numeric_div_trunc),
        function("encode(bytea, text) text", strings::encode),
        function("exp(float8) float8", math::float_exp),
        function("exp(numeric) numeric", math::numeric_exp),
        function("extract(text, date) numeric", datetime::extract),
        function("extract(text, interval) numeric", datetime::extract),
        function("extract(text, time) numeric", datetime::extract),
        function("extract(text, timestamp) numeric", datetime::extract),
        function("extract(text, timestamptz) numeric", datetime::extract),
        function("factorial(int8) numeric", math::factorial),
        function("floor(float8) float8", math::float_floor),
        function("floor(numeric) numeric", math::numeric_floor),
        function("gcd(int4, int4) int4", math::gcd::<Int32Type>),
        function("gcd(int8, int8) int8", math::gcd::<Int64Type>),
        function("initcap(text) text", strings::initcap),
        function("inner_product(vector, vector) float8", vector::inner_product),
        function("isfinite(date) bool", datetime::is_finite_date),
        function("isfinite(timestamp) bool", datetime::is_finite_timestamp),
        function("isfinite(timestamptz) bool", datetime::is_finite_timestamp),
        function("json_array_length(json) int4", json_access::array_length),
        function("json_extract_path_text(json, _text) text", json_access::path_text),
        function("json_typeof(json) text", json_access::type_of),
        function("jsonb_array_length(jsonb) int4", json_access::array_length),
        function("jsonb_typeof(jsonb) text", json_access::type_of),
        function("justify_days(interval) interval", datetime::justify_days),
        function("justify_hours(interval) interval", datetime::justify_hours),
        function("justify_interval(interval) interval", datetime::justify_interval),
        function("l1_distance(vector, vector) float8", vector::l1_distance),
        function("l2_distance(vector, vector) float8", vector::l2_distance),
        function("l2_normalize(vector) vector", vector::normalize),
        function("lcm(int4, int4) int4", math::lcm::<Int32Type>),
        function("lcm(int8, int8) int8", math::lcm::<Int64Type>),
        function("left(text, int4) text", strings::left),
        function("length(bpchar) int4", strings::bpchar_length),
        function("length(bytea) int4", strings::bytea_length),
        function("length(text) int4", strings::length),
        function("like_escape(text, text) text", strings::like_escape),
        function("ln(float8) float8", math::float_ln),
        function("ln(numeric) numeric", math::numeric_ln),
        function("log(float8) float8", math::float_log10),
        function("log(numeric) numeric", math::numeric_log10),
        function("log(numeric, numeric) numeric", math::numeric_log),
        function("log10(float8) float8", math::float_log10),
        function("log10(numeric) numeric", math::numeric_log10),
        function("lower(text) text", strings::lower),
        function("lpad(text, int4) text", strings::lpad),
        function("lpad(text, int4, text) text", strings::lpad),
        function("ltrim(text) text", strings::ltrim),
        function("ltrim(text, text) text", strings::ltrim),
        function("make_date(int4, int4, int4) date", datetime::make_date),
        function("make_time(int4, int4, float8) time", datetime::make_time),
        function("make_timestamp(int4, int4, int4, int4, int4, float8) timestamp", datetime::make_timestamp),
        function("make_timestamptz(int4, int4, int4, int4, int4, float8) timestamptz", datetime::make_timestamp),
        function("md5(bytea) text", strings::md5_bytea),
        function("md5(text) text", strings::md5),
        function("mod(int2, int2) int2", arithmetic::int_rem::<Int16Type>),
        function("mod(int4, int4) int4", arithmetic::int_rem::<Int32Type>),
        function("mod(int8, int8) int8", arithmetic::int_rem::<Int64Type>),
        function("mod(numeric, numeric) numeric", arithmetic::numeric_rem),
        function("octet_length(bytea) int4", strings::bytea_length),
        function("octet_length(text) int4", strings::octet_length),
        function("overlay(text, text, int4) text", strings::overlay),
        function("overlay(text, text, int4, int4) text", strings::overlay),
        function("pi() float8", math::pi),
        function("pow(float8, float8) float8", math::float_power),
        function("pow(numeric, numeric) numeric", math::numeric_power),
        function("power(float8, float8) float8", math::float_power),
        function("power(numeric, numeric) numeric", math::numeric_power),
        function("quote_ident(text) text", strings::quote_ident),
        function("quote_literal(text) text", strings::quote_literal),
        function("radians(float8) float8", math::radians),
        function("regexp_match(text, text) _text", strings::regexp_match),
        function("regexp_match(text, text, text) _text", strings::regexp_match),
        function("regexp_replace(text, text, text) text", strings::regexp_replace),
        function("regexp_replace(text, text, text, text) text", strings::regexp_replace),
        function("regexp_split_to_array(text, text) _text", strings::regexp_split_to_array),
        function("regexp_split_to_array(text, text, text) _text", strings::regexp_split_to_array),
        function("repeat(text, int4) text", strings::repeat),
        function("replace(text, text, text) text", strings::replace),
        function("reverse(text) text", strings::reverse),
        function("right(text, int4) text", strings::right),
        function("round(float8) float8", math::float_round),
        function("round(numeric) numeric", math::numeric_round),
        function("round(numeric, int4) numeric", math::numeric_round_to),
        function("rpad(text, int4) text", strings::rpad),
        function("rpad(text, int4, text) text", strings::rpad),
        function("rtrim(text) text", strings::rtrim),
        function("rtrim(text, text) text", strings::rtrim),
        function("scale(numeric) int4", math::numeric_scale),
        function("sign(float8) float8", math::float_sign),
        function("sign(numeric) numeric", math::numeric_sign),
        function("similar_to_escape(text) text", strings::similar_to_escape),
        function("similar_to_escape(text, text) text", strings::similar_to_escape),
        function("sin(float8) float8", math::sin),
        function("sinh(float8) float8", math::sinh),
        function("split_part(text, text, int4) text", strings::split_part),
        function("sqrt(float8) float8", math::float_sqrt),
        function("sqrt(numeric) numeric", math::numeric_sqrt),
        function("starts_with(text, text) bool", strings::starts_with),
        function("strpos(text, text) int4", strings::position),
        function("substr(bytea, int4) bytea", strings::bytea_substring),
        function("substr(bytea, int4, int4) bytea", strings::bytea_substring),
        function("substr(text, int4) text", strings::substring),
        function("substr(text, int4, int4) text", strings::substring),
        function("substring(bytea, int4) bytea", strings::bytea_substring),
        function("substring(bytea, int4, int4) bytea", strings::bytea_substring),
        function("substring(text, int4) text", strings::substring),
        function("substring(text, int4, int4) text", strings::substring),
        function("substring(text, text) text", strings::substring_regex),
        function("subvector(vector, int4, int4) vector", vector::subvector),
        function("tan(float8) float8", math::tan),
        function("tanh(float8) float8", math::tanh),
        function("timezone(text, timestamp) timestamptz", datetime::timestamp_at_zone),
        function("timezone(text, timestamptz) timestamp", datetime::timestamptz_at_zone),
        function("to_char(interval, text) text", to_char::interval),
        function("to_char(timestamp, text) text", to_char::timestamp),
        function("to_char(timestamptz, text) text", to_char::timestamp),
        function("to_hex(int4) text", strings::to_hex_int4),
        function("to_hex(int8) text", strings::to_hex_int8),
        function("to_timestamp(float8) timestamptz", datetime::to_timestamp_epoch),
        function("translate(text, text, text) text", strings::translate),
        function("trim_scale(numeric) numeric", math::numeric_trim_scale),
        function("trunc(float8) float8", math::float_trunc),
        function("trunc(numeric) numeric", math::numeric_trunc),
        function("trunc(numeric, int4) numeric", math::numeric_trunc_to),
        function("upper(text) text", strings::upper),
        function("vector_dims(vector) int4", vector::dimensions),
        function("vector_norm(vector) float8", vector::norm),
        function("width_bucket(float8, float8, float8, int4) int4", math::width_bucket_float),
    ]
}

/// Functions over any types, which have no line in [`list`]. Alphabetical.
const POLYMORPHIC: &[&str] = &[
    "pg_typeof",
    "all",
    "any",
    "array_length",
    "cardinality",
    "coalesce",
    "concat",
    "concat_ws",
    "format",
    "greatest",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "least",
    "nullif",
    "num_nonnulls",
    "num_nulls",
    "row_to_json",
    "string_to_array",
    "to_json",
    "to_jsonb",
];

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Function>>> = LazyLock::new(|| {
    let mut by_name: HashMap<&'static str, Vec<Function>> = HashMap::new();
    for function in list() {
        by_name.entry(function.name).or_default().push(function);
    }
    by_name
});

/// Whether any scalar function has that name.
pub fn is_function(name: &str) -> bool {
    FUNCTIONS.contains_key(name) || POLYMORPHIC.contains(&name) || catalog::is_function(name)
}

/// The names of all functions and aggregates, each once, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = FUNCTIONS.keys().copied().collect();
    names.extend(POLYMORPHIC.iter().filter(|name| !matches!(**name, "all" | "any")));
    names.extend(catalog::names());
    names.extend(aggregate::names());
    names.extend(set_returning::names());
    names.sort_unstable();
    names.dedup();
    names
}

/// What each scalar function takes and gives, as `name(type, ..) type` in SQL's names of types, sorted: the reference's source.
pub fn signatures() -> Vec<String> {
    let polymorphic = POLYMORPHIC.iter().filter(|name| !matches!(**name, "all" | "any"));
    let mut signatures: Vec<String> = polymorphic.map(|name| format!("{name}(..)")).collect();
    signatures.extend(FUNCTIONS.values().flatten().map(|function| {
        let arguments: Vec<String> = function.arguments.iter().map(SqlType::sql_name).collect();
        format!("{}({}) {}", function.name, arguments.join(", "), function.result.sql_name())
    }));
    signatures.extend(catalog::signatures());
    signatures.sort_unstable();
    signatures
}

/// The names of all aggregates, sorted.
pub fn aggregate_names() -> Vec<&'static str> {
    let mut names = aggregate::names();
    names.retain(|name| *name != "single_value" && !name.contains(' '));
    names.sort_unstable();
    names
}

/// The names of the functions that return sets, sorted.
pub fn set_returning_names() -> Vec<&'static str> {
    let mut names = set_returning::names();
    names.extend(set_returning::RECORDS);
    names.sort_unstable();
    names
}

/// The functions of PostgreSQL that are refused with `0A000`, sorted.
pub fn refused_names() -> Vec<&'static str> {
    let window = crate::bind::window::is_window_function;
    let known = |name: &&str| is_function(name) || is_aggregate(name) || set_returning_names().contains(name);
    not_yet::names().filter(|name| !known(name) && !window(name)).collect()
}

pub(crate) use aggregate::{
    MovingAggregate, is_hypothetical, is_ordered_set, keeps_order, ordered_set_value, over_window,
    resolve_hypothetical, resolve_ordered_set, static_name,
};

/// Whether any aggregate has that name.
pub fn is_aggregate(name: &str) -> bool {
    aggregate::is_aggregate(name)
}

/// An aggregate call: always an `Expr::AggregateFunction`. No argument at all is `count(*)`.
///
/// Errors: `42883` where no such aggregate takes these arguments.
pub fn resolve_aggregate(
    name: &str,
    args: Vec<TypedExpr>,
    distinct: bool,
    filter: Option<Expr>,
    order_by: Vec<SortExpr>,
) -> Result<TypedExpr, PgError> {
    aggregate::resolve_aggregate(name, args, distinct, filter, order_by)
}

/// A scalar function call by PostgreSQL's overload resolution, its arguments converted to what the function takes.
///
/// Errors: `42883` where no function fits, `42725` where several do, and those of reading a literal.
pub fn resolve_function(name: &str, args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let args = match name {
        "pg_typeof" | "coalesce" | "nullif" => args,
        _ => args.into_iter().map(TypedExpr::vector_as_array).collect(),
    };
    if POLYMORPHIC.contains(&name) {
        return polymorphic(name, args);
    }
    let Some(overloads) = FUNCTIONS.get(name) else {
        if catalog::is_function(name) {
            return catalog::resolve(name, args);
        }
        return cast_call(name, args);
    };
    let overloads: Vec<&Function> = overloads.iter().collect();
    match catalog::is_function(name) {
        true => resolve_overload(name, &overloads, args.clone()).or_else(|_| catalog::resolve(name, args)),
        false => resolve_overload(name, &overloads, args),
    }
}

/// The call of the one of `overloads` that fits, its arguments converted.
fn resolve_overload(name: &str, overloads: &[&Function], args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let types: Vec<&SqlType> = args.iter().map(|argument| &argument.sql_type).collect();
    // varchar has no functions of its own: it is text to all of them.
    let as_text: Vec<&SqlType> =
        types.iter().map(|sql_type| if **sql_type == SqlType::Varchar { &SqlType::Text } else { *sql_type }).collect();
    let candidates: Vec<Vec<&SqlType>> = overloads.iter().map(|function| function.arguments.iter().collect()).collect();
    let chosen = match choose(&candidates, &as_text) {
        Ok(index) => overloads[index],
        Err(failure) => return Err(unresolved(name, &types, failure)),
    };
    let mut arguments = Vec::new();
    for (argument, wanted) in args.into_iter().zip(&chosen.arguments) {
        let converted = cast(argument, wanted, -1, CastContext::Implicit)?;
        arguments.push((converted.expr, wanted.arrow()));
    }
    let expr = folded(call_strict(&chosen.kernel_name(), arguments, chosen.result.arrow(), chosen.body));
    Ok(TypedExpr::new(expr, chosen.result.clone()))
}

impl Function {
    /// What the kernel is called in plans. Calls of one name over the same stored types are one kernel, so overloads that
    /// differ only for char(n), which is stored as text is, need another name.
    fn kernel_name(&self) -> String {
        match self.arguments.contains(&SqlType::Bpchar) {
            true => format!("bpchar_{}", self.name),
            false => self.name.to_string(),
        }
    }
}

fn unresolved(name: &str, types: &[&SqlType], failure: Failure) -> PgError {
    let types: Vec<String> = types.iter().map(|sql_type| sql_type.sql_name()).collect();
    let spelled = format!("{name}({})", types.join(", "));
    match failure {
        Failure::None if !is_function(name) && not_yet::is_postgres_function(name) => {
            PgError::unsupported(format!("function {spelled}"))
        }
        Failure::None => PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {spelled} does not exist"))
            .with_hint(
                "No function matches the given name and argument types. You might need to add explicit type casts.",
            ),
        Failure::Ambiguous => PgError::new(SqlState::AMBIGUOUS_FUNCTION, format!("function {spelled} is not unique"))
            .with_hint("Could not choose a best candidate function. You might need to add explicit type casts."),
    }
}

/// `float8(x)`: a type's name called like a function is a cast.
fn cast_call(name: &str, mut args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let target = TYPES.iter().find(|info| info.name == name && info.sql_type != SqlType::Unknown);
    if let (Some(target), [_]) = (target, args.as_slice())
        && let Some(argument) = args.pop()
    {
        let from = argument.sql_type.clone();
        return cast(argument, &target.sql_type, -1, CastContext::Explicit).map_err(|error| match error.state {
            SqlState::CANNOT_COERCE => unresolved(name, &[&from], Failure::None),
            _ => error,
        });
    }
    let types: Vec<&SqlType> = args.iter().map(|argument| &argument.sql_type).collect();
    Err(unresolved(name, &types, Failure::None))
}

fn polymorphic(name: &str, args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let types: Vec<&SqlType> = args.iter().map(|argument| &argument.sql_type).collect();
    let missing = || unresolved(name, &types, Failure::None);
    match (name, args.as_slice()) {
        ("coalesce", [_, ..]) => coalesce(args),
        ("pg_typeof", [argument]) => Ok(TypedExpr::new(lit(argument.sql_type.sql_name()), SqlType::Text)),
        ("nullif", [_, _]) => nullif(args),
        ("greatest" | "least", [_, ..]) => {
            let context = name.to_ascii_uppercase();
            let (arguments, sql_type) = unified(&context, args)?;
            if matches!(sql_type, SqlType::Json | SqlType::Jsonb) {
                return Err(PgError::unsupported(format!("{context} of type {}", sql_type.sql_name())));
            }
            let arrow = sql_type.arrow();
            let body: Body = if name == "greatest" { comparison::greatest } else { comparison::least };
            let arguments = arguments.into_iter().map(|argument| (argument, arrow.clone())).collect();
            Ok(TypedExpr::new(folded(call(name, arguments, arrow, Nulls::Seen, body)), sql_type))
        }
        ("concat", [_, ..]) | ("concat_ws", [_, _, ..]) => {
            let body: Body = if name == "concat" { strings::concat } else { strings::concat_ws };
            let mut arguments = Vec::new();
            for argument in args {
                arguments.push((printed(argument)?, DataType::Utf8));
            }
            Ok(TypedExpr::new(folded(call(name, arguments, DataType::Utf8, Nulls::Seen, body)), SqlType::Text))
        }
        ("format", [_, ..]) => {
            let mut arguments = Vec::new();
            for argument in args {
                arguments.push((printed(argument)?, DataType::Utf8));
            }
            let expr = folded(call(name, arguments, DataType::Utf8, Nulls::Seen, format::format));
            Ok(TypedExpr::new(expr, SqlType::Text))
        }
        ("num_nulls" | "num_nonnulls", [_, ..]) => {
            let body: Body = if name == "num_nulls" { count_nulls } else { count_values };
            let arguments = args.into_iter().map(|argument| (argument.expr, argument.sql_type.arrow())).collect();
            Ok(TypedExpr::new(call(name, arguments, DataType::Int32, Nulls::Seen, body), SqlType::Int4))
        }
        ("string_to_array", [_, _] | [_, _, _]) => {
            let mut arguments = Vec::new();
            for argument in args {
                arguments.push((cast(argument, &SqlType::Text, -1, CastContext::Implicit)?.expr, DataType::Utf8));
            }
            let sql_type = SqlType::Array(Box::new(SqlType::Text));
            let result = sql_type.arrow();
            let expr = call(name, arguments, result, Nulls::Seen, strings::string_to_array);
            Ok(TypedExpr::new(expr, sql_type))
        }
        ("array_length", [array, _]) if matches!(array.sql_type, SqlType::Array(_)) => {
            let mut args = args.into_iter();
            let (Some(array), Some(dimension)) = (args.next(), args.next()) else {
                return Err(PgError::internal("array_length lost its arguments"));
            };
            let dimension = cast(dimension, &SqlType::Int4, -1, CastContext::Implicit)?;
            let arguments = vec![(array.expr, array.sql_type.arrow()), (dimension.expr, DataType::Int32)];
            Ok(TypedExpr::new(call_strict(name, arguments, DataType::Int32, array_length), SqlType::Int4))
        }
        ("cardinality", [array]) if matches!(array.sql_type, SqlType::Array(_)) => {
            let arguments = vec![(array.expr.clone(), array.sql_type.arrow())];
            Ok(TypedExpr::new(call_strict(name, arguments, DataType::Int32, cardinality), SqlType::Int4))
        }
        ("to_json" | "to_jsonb", [value]) => {
            let result = if name == "to_json" { SqlType::Json } else { SqlType::Jsonb };
            to_json(value.clone(), result)
        }
        ("json_build_array" | "json_build_object" | "jsonb_build_array" | "jsonb_build_object", _) => {
            build_json(name, args)
        }
        ("row_to_json", [row]) if is_whole_row(&row.expr) => Ok(row.clone()),
        ("any" | "all", [element, operator, array]) => quantified(name, element, operator, array),
        _ => Err(missing()),
    }
}

/// All arguments as their common type.
fn unified(context: &str, args: Vec<TypedExpr>) -> Result<(Vec<Expr>, SqlType), PgError> {
    let sql_type = common_type(context, &args.iter().collect::<Vec<_>>())?;
    let mut converted = Vec::new();
    for argument in args {
        converted.push(cast(argument, &sql_type, -1, CastContext::Implicit)?.expr);
    }
    Ok((converted, sql_type))
}

fn coalesce(args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let (mut values, sql_type) = unified("COALESCE", args)?;
    let Some(last) = values.pop() else { return Err(PgError::internal("COALESCE lost its arguments")) };
    // A CASE, because arguments after the first value must not be evaluated.
    let branches: Vec<_> =
        values.into_iter().map(|value| (Box::new(value.clone().is_not_null()), Box::new(value))).collect();
    let expr = match branches.is_empty() {
        true => last,
        false => Expr::Case(datafusion::logical_expr::expr::Case::new(None, branches, Some(Box::new(last)))),
    };
    Ok(TypedExpr::new(expr, sql_type))
}

fn nullif(args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let [left, right] = <[TypedExpr; 2]>::try_from(args).map_err(|_| PgError::internal("NULLIF lost its arguments"))?;
    let equal = crate::operators::resolve_operator("=", Some(left.clone()), right)?;
    let value = match left.is_unknown() {
        true => cast(left, &SqlType::Text, -1, CastContext::Implicit)?,
        false => left,
    };
    let null = crate::literal::typed_null(&value.sql_type)?.expr;
    let branches = vec![(Box::new(equal.expr), Box::new(null))];
    let case = datafusion::logical_expr::expr::Case::new(None, branches, Some(Box::new(value.expr.clone())));
    Ok(TypedExpr { expr: Expr::Case(case), ..value })
}

/// Any value as the text that output shows; a boolean as `t`, not the `true` of a cast.
fn printed(argument: TypedExpr) -> Result<Expr, PgError> {
    match argument.sql_type {
        SqlType::Bool => {
            let arguments = vec![(argument.expr, DataType::Boolean)];
            Ok(folded(call_strict("bool_out", arguments, DataType::Utf8, conversion::to_text)))
        }
        // Blanks at the end of char(n) are printed.
        SqlType::Bpchar => Ok(argument.expr),
        _ => Ok(cast(argument, &SqlType::Text, -1, CastContext::Explicit)?.expr),
    }
}

fn to_json(value: TypedExpr, result: SqlType) -> Result<TypedExpr, PgError> {
    let (name, body): (&str, Body) = match (&value.sql_type, &result) {
        (SqlType::Json | SqlType::Jsonb, _) => return cast(value, &result, -1, CastContext::Explicit),
        (_, SqlType::Json) => ("to_json", json_build::to_json),
        _ => ("to_jsonb", json_build::to_jsonb),
    };
    let value = if value.is_unknown() { cast(value, &SqlType::Text, -1, CastContext::Implicit)? } else { value };
    let arguments = vec![(value.expr, value.sql_type.arrow())];
    Ok(TypedExpr::new(folded(call_strict(name, arguments, DataType::LargeUtf8, body)), result))
}

/// What a whole row's JSON is called in plans.
const WHOLE_ROW: &str = "whole_row";

/// A row of named values as JSON.
pub(crate) fn whole_row(fields: Vec<(String, TypedExpr)>) -> TypedExpr {
    let mut arguments = Vec::new();
    for (name, value) in fields {
        arguments.push((lit(name), DataType::Utf8));
        arguments.push((value.expr, value.sql_type.arrow()));
    }
    let expr = call(WHOLE_ROW, arguments, DataType::LargeUtf8, Nulls::Seen, json_build::whole_row);
    TypedExpr::new(expr, SqlType::Json)
}

/// Whether `expr` is a [`whole_row`].
pub(crate) fn is_whole_row(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == WHOLE_ROW)
}

/// Whether a function takes a whole row for one value, as JSON.
pub(crate) fn takes_rows(name: &str) -> bool {
    name == "row_to_json"
        || name.starts_with("to_json")
        || name.starts_with("json_agg")
        || name.starts_with("jsonb_agg")
}

/// `json_build_array(..)` and `json_build_object(name, value, ..)`.
fn build_json(name: &str, args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let (body, result): (Body, SqlType) = match name {
        "json_build_array" => (json_build::build_array, SqlType::Json),
        "json_build_object" => (json_build::build_object, SqlType::Json),
        "jsonb_build_array" => (json_build::build_array_b, SqlType::Jsonb),
        _ => (json_build::build_object_b, SqlType::Jsonb),
    };
    if name.ends_with("object") && args.len() % 2 == 1 {
        let message = "argument list must have even number of elements";
        let hint = format!("The arguments of {name}() must consist of alternating keys and values.");
        return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(hint));
    }
    let mut arguments = Vec::new();
    for value in args {
        let value = if value.is_unknown() { cast(value, &SqlType::Text, -1, CastContext::Implicit)? } else { value };
        arguments.push((value.expr, value.sql_type.arrow()));
    }
    Ok(TypedExpr::new(folded(call(name, arguments, DataType::LargeUtf8, Nulls::Seen, body)), result))
}

/// `element operator ANY (array)`, the operator being given as a literal.
fn quantified(name: &str, element: &TypedExpr, operator: &TypedExpr, array: &TypedExpr) -> Result<TypedExpr, PgError> {
    let Expr::Literal(datafusion::common::ScalarValue::Utf8(Some(operator)), _) = &operator.expr else {
        return Err(PgError::internal("a quantified comparison without its operator"));
    };
    let SqlType::Array(element_type) = &array.sql_type else {
        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, "op ANY/ALL (array) requires array on right side"));
    };
    let element = cast(element.clone(), element_type, -1, CastContext::Implicit)?;
    let (any, all): (Body, Body) = match operator.as_str() {
        "=" => (comparison::equal_any, comparison::equal_all),
        "<>" | "!=" => (comparison::not_equal_any, comparison::not_equal_all),
        "<" => (comparison::less_any, comparison::less_all),
        "<=" => (comparison::less_or_equal_any, comparison::less_or_equal_all),
        ">" => (comparison::greater_any, comparison::greater_all),
        ">=" => (comparison::greater_or_equal_any, comparison::greater_or_equal_all),
        other => return Err(PgError::unsupported(format!("{other} {}", name.to_ascii_uppercase()))),
    };
    let arguments = vec![(element.expr, element_type.arrow()), (array.expr.clone(), array.sql_type.arrow())];
    let body = if name == "any" { any } else { all };
    let expr = call_strict(&format!("{operator} {name}"), arguments, DataType::Boolean, body);
    let never_empty = matches!(&array.expr, Expr::Literal(datafusion::common::ScalarValue::List(list), _)
        if list.is_null(0) || list.value_length(0) > 0);
    if never_empty {
        return Ok(TypedExpr::new(expr, SqlType::Bool));
    }
    // Of no elements at all none is and all are, whatever they are compared with.
    let arguments = vec![(array.expr.clone(), array.sql_type.arrow())];
    let is_empty = folded(call_strict("cardinality", arguments, DataType::Int32, cardinality)).eq(lit(0i32));
    let branches = vec![(Box::new(is_empty), Box::new(lit(name == "all")))];
    let case = datafusion::logical_expr::expr::Case::new(None, branches, Some(Box::new(expr)));
    Ok(TypedExpr::new(Expr::Case(case), SqlType::Bool))
}

fn count_nulls(call: &kernel::Call) -> Result<arrow::array::ArrayRef, PgError> {
    let count = call.argument_count();
    call.map::<Int32Type>(|row| Ok((0..count).filter(|argument| call.is_null(*argument, row)).count() as i32))
}

fn count_values(call: &kernel::Call) -> Result<arrow::array::ArrayRef, PgError> {
    let count = call.argument_count();
    call.map::<Int32Type>(|row| Ok((0..count).filter(|argument| !call.is_null(*argument, row)).count() as i32))
}

fn array_length(call: &kernel::Call) -> Result<arrow::array::ArrayRef, PgError> {
    use arrow::array::AsArray;
    let (lists, dimensions) = (call.argument(0).0.as_list::<i32>(), call.int4(1));
    call.map_nullable::<Int32Type>(|row| {
        let length = lists.value_length(call.index(0, row));
        Ok((dimensions.get(row) == 1 && length > 0).then_some(length))
    })
}

fn cardinality(call: &kernel::Call) -> Result<arrow::array::ArrayRef, PgError> {
    use arrow::array::AsArray;
    let lists = call.argument(0).0.as_list::<i32>();
    call.map::<Int32Type>(|row| Ok(lists.value_length(call.index(0, row))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kernel_a_name_and_types() {
        let mut seen: HashMap<(String, Vec<DataType>), Body> = HashMap::new();
        for function in list() {
            let types = function.arguments.iter().map(SqlType::arrow).collect();
            let key = (function.kernel_name(), types);
            let same = seen.insert(key.clone(), function.body);
            assert!(same.is_none_or(|body| std::ptr::fn_addr_eq(body, function.body)), "{key:?}");
        }
    }

    #[test]
    fn the_list_is_sorted() {
        let names: Vec<&str> = list().iter().map(|function| function.name).collect();
        assert!(names.is_sorted());
    }
}
