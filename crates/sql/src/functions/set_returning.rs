//! Functions that return sets: each of their columns is a list, which [`mod@crate::bind`] makes rows of.
//!
//! A set stays a list only within one row of its arguments, so that a function is an ordinary kernel: it runs vectorised
//! over many rows, in a query and in a view alike, and nothing but unnesting has to know of sets.

use std::sync::{Arc, LazyLock};

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use datafusion::logical_expr::{Expr, lit};
use repr::numeric::Numeric;
use repr::text::calendar::is_infinite;
use repr::text::interval::Interval;
use repr::text::json;
use repr::{PgError, SqlState, SqlType};

use super::datetime::add_interval;
use super::kernel::{Body, Call, Nulls, call};
use super::{Function, function, resolve_function, resolve_overload, strings};
use crate::cast::{CastContext, cast};
use crate::literal;
use crate::typed::TypedExpr;

/// What a call makes of one row: columns beside each other.
pub(crate) struct Set {
    /// At least one. Where their lists differ in length, the shorter ones end in NULLs.
    pub(crate) columns: Vec<SetColumn>,
}

/// One column of a set.
pub(crate) struct SetColumn {
    /// The name that the function itself gives it.
    pub(crate) name: Option<&'static str>,
    /// A list, the elements of which are the column's values.
    pub(crate) list: Expr,
    /// What the elements are.
    pub(crate) element: SqlType,
    /// Their type modifier.
    pub(crate) typmod: i32,
}

/// Most elements that the lists of one batch may have together.
const ELEMENTS_MAX: usize = 200_000_000;

/// The functions of one column whose result is a list of its values. Alphabetical.
#[rustfmt::skip]
fn list() -> Vec<Function> {
    vec![
        function("generate_series(int4, int4) _int4", int4_series),
        function("generate_series(int4, int4, int4) _int4", int4_series),
        function("generate_series(int8, int8) _int8", int8_series),
        function("generate_series(int8, int8, int8) _int8", int8_series),
        function("generate_series(numeric, numeric) _numeric", numeric_series),
        function("generate_series(numeric, numeric, numeric) _numeric", numeric_series),
        function("generate_series(timestamp, timestamp, interval) _timestamp", timestamp_series),
        function("generate_series(timestamptz, timestamptz, interval) _timestamptz", timestamp_series),
        function("json_array_elements(json) _json", json_elements),
        function("json_array_elements_text(json) _text", json_elements_text),
        function("json_object_keys(json) _text", json_keys),
        function("jsonb_array_elements(jsonb) _jsonb", json_elements),
        function("jsonb_array_elements_text(jsonb) _text", json_elements_text),
        function("jsonb_object_keys(jsonb) _text", json_keys),
        function("regexp_split_to_table(text, text) _text", strings::regexp_split_to_array),
        function("regexp_split_to_table(text, text, text) _text", strings::regexp_split_to_array),
    ]
}

/// Those that have no line in [`list`]. Alphabetical.
const OTHERS: &[&str] = &[
    "generate_subscripts",
    "json_each",
    "json_each_text",
    "jsonb_each",
    "jsonb_each_text",
    "pg_listening_channels",
    "regexp_matches",
    "string_to_table",
    "unnest",
];

/// Functions whose columns the query says: `AS t (a int, b text)`.
pub(crate) const RECORDS: [&str; 4] = ["json_to_record", "json_to_recordset", "jsonb_to_record", "jsonb_to_recordset"];

static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(list);

/// Whether a function of that name returns a set.
pub(crate) fn is_set_returning(name: &str) -> bool {
    OTHERS.contains(&name)
        || super::catalog::sets::names().any(|known| known == name)
        || FUNCTIONS.iter().any(|function| function.name == name)
}

/// The names of all of them, each once, sorted.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = FUNCTIONS.iter().map(|function| function.name).collect();
    names.extend(OTHERS);
    names.extend(super::catalog::sets::names());
    names.sort_unstable();
    names.dedup();
    names
}

/// A call's set. Errors: `42883` and those of overload resolution.
pub(crate) fn resolve_set(name: &str, args: Vec<TypedExpr>) -> Result<Set, PgError> {
    let named = if name.ends_with("array_elements") || name.ends_with("elements_text") { Some("value") } else { None };
    if let Some(columns) = super::catalog::sets::resolve(name, &args) {
        return columns.and_then(set);
    }
    match name {
        "unnest" => args
            .into_iter()
            .map(|array| elements_of("unnest", array.vector_as_array()))
            .collect::<Result<_, _>>()
            .and_then(set),
        "generate_subscripts" => subscripts(args).and_then(|list| set(vec![of_list(list, None)?])),
        "json_each" | "json_each_text" | "jsonb_each" | "jsonb_each_text" => each(name, args).and_then(set),
        "pg_listening_channels" => {
            let channels = super::catalog::resolve("pg_listening_channel_list", args)?;
            set(vec![of_list(channels, None)?])
        }
        "regexp_matches" => matches(args).and_then(|column| set(vec![column])),
        "string_to_table" => set(vec![of_list(resolve_function("string_to_array", args)?, None)?]),
        _ => {
            let overloads: Vec<&Function> = FUNCTIONS.iter().filter(|function| function.name == name).collect();
            set(vec![of_list(resolve_overload(name, &overloads, args)?, named)?])
        }
    }
}

fn set(columns: Vec<SetColumn>) -> Result<Set, PgError> {
    match columns.is_empty() {
        true => Err(PgError::new(SqlState::UNDEFINED_FUNCTION, "function unnest() does not exist")),
        false => Ok(Set { columns }),
    }
}

/// The fields that `json_to_recordset` and `json_to_record` find in each object: a list of texts, or of JSON for a column
/// that is JSON, one for each of `names`. Errors: `42883`.
pub(crate) fn record_fields(
    function: &str,
    args: Vec<TypedExpr>,
    columns: &[(String, SqlType)],
) -> Result<Vec<SetColumn>, PgError> {
    let wanted = if function.starts_with("jsonb") { SqlType::Jsonb } else { SqlType::Json };
    let undefined = || PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {function} does not exist"));
    let [value] = <[TypedExpr; 1]>::try_from(args).map_err(|_| undefined())?;
    let value = cast(value, &wanted, -1, CastContext::Implicit).map_err(|_| undefined())?;
    let fields = columns.iter().map(|(name, sql_type)| {
        let raw = matches!(sql_type, SqlType::Json | SqlType::Jsonb);
        let one = function.ends_with("record");
        let (element, body): (SqlType, Body) = match (raw, one) {
            (true, false) => (wanted.clone(), record_values::<false>),
            (true, true) => (wanted.clone(), record_values::<true>),
            (false, false) => (SqlType::Text, record_texts::<false>),
            (false, true) => (SqlType::Text, record_texts::<true>),
        };
        let arguments = vec![(value.expr.clone(), DataType::LargeUtf8), (lit(name.as_str()), DataType::Utf8)];
        let list = SqlType::Array(Box::new(element.clone())).arrow();
        // One record is a row even of NULL.
        let nulls = if one { Nulls::Seen } else { Nulls::Strict };
        Ok(SetColumn { name: None, list: call(function, arguments, list, nulls, body), element, typmod: -1 })
    });
    fields.collect()
}

/// A list of 1, 2, .. as long as the longest of `lists`.
pub(crate) fn ordinals(lists: Vec<(Expr, DataType)>) -> Expr {
    call("ordinals", lists, DataType::new_list(DataType::Int64, true), Nulls::Seen, count_up)
}

fn of_list(list: TypedExpr, name: Option<&'static str>) -> Result<SetColumn, PgError> {
    match list.sql_type {
        SqlType::Array(element) => Ok(SetColumn { name, list: list.expr, element: *element, typmod: list.typmod }),
        other => Err(PgError::internal(format!("a set of type {}", other.sql_name()))),
    }
}

fn elements_of(name: &str, array: TypedExpr) -> Result<SetColumn, PgError> {
    match array.sql_type {
        SqlType::Array(_) => of_list(array, None),
        other => {
            let message = format!("function {name}({}) does not exist", other.sql_name());
            Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message))
        }
    }
}

/// `generate_subscripts(array, dimension [, reverse])`: all arrays have one dimension, from 1; vectors are from 0.
fn subscripts(mut args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let reverse = match args.len() {
        2 => literal::boolean(false),
        3 => cast(args.remove(2), &SqlType::Bool, -1, CastContext::Implicit)?,
        _ => {
            let message = format!("function generate_subscripts with {} arguments does not exist", args.len());
            return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message));
        }
    };
    let from_zero = args.first().is_some_and(|array| array.sql_type.is_catalog_vector());
    let length = resolve_function("array_length", args)?;
    let first = literal::number(if from_zero { "0" } else { "1" })?;
    let arguments =
        vec![(length.expr, DataType::Int32), (reverse.expr, DataType::Boolean), (first.expr, DataType::Int32)];
    let sql_type = SqlType::Array(Box::new(SqlType::Int4));
    let expr = call("generate_subscripts", arguments, sql_type.arrow(), Nulls::Strict, count_to);
    Ok(TypedExpr::new(expr, sql_type))
}

/// The names and the values of an object's fields.
fn each(name: &str, args: Vec<TypedExpr>) -> Result<Vec<SetColumn>, PgError> {
    let json = if name.starts_with("jsonb") { SqlType::Jsonb } else { SqlType::Json };
    let undefined = || PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
    let [object] = <[TypedExpr; 1]>::try_from(args).map_err(|_| undefined())?;
    let object = cast(object, &json, -1, CastContext::Implicit).map_err(|_| undefined())?;
    let column = |of: &'static str, element: SqlType, body: Body| {
        let list = SqlType::Array(Box::new(element.clone())).arrow();
        let list =
            call(&format!("{name} {of}"), vec![(object.expr.clone(), DataType::LargeUtf8)], list, Nulls::Strict, body);
        SetColumn { name: Some(of), list, element, typmod: -1 }
    };
    let value = match name.ends_with("text") {
        true => column("value", SqlType::Text, each_texts),
        false => column("value", json, each_values),
    };
    Ok(vec![column("key", SqlType::Text, each_keys), value])
}

fn matches(args: Vec<TypedExpr>) -> Result<SetColumn, PgError> {
    let undefined = || PgError::new(SqlState::UNDEFINED_FUNCTION, "function regexp_matches does not exist");
    if !(2..=3).contains(&args.len()) {
        return Err(undefined());
    }
    let text = |typed| cast(typed, &SqlType::Text, -1, CastContext::Implicit).map_err(|_| undefined());
    let arguments = args.into_iter().map(|typed| Ok((text(typed)?.expr, DataType::Utf8)));
    let element = SqlType::Array(Box::new(SqlType::Text));
    let list = DataType::new_list(element.arrow(), true);
    let arguments = arguments.collect::<Result<Vec<_>, PgError>>()?;
    let list = call("regexp_matches", arguments, list, Nulls::Strict, strings::regexp_matches);
    Ok(SetColumn { name: None, list, element, typmod: -1 })
}

fn too_many() -> PgError {
    PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "a set-returning function returns too many rows at once")
        .with_detail(format!("At most {ELEMENTS_MAX} rows are made in one step."))
}

/// A list a row from its elements, which `elements` puts at the end of what it is given.
fn lists<T: ArrowPrimitiveType>(
    call: &Call,
    mut elements: impl FnMut(usize, &mut Vec<T::Native>) -> Result<(), PgError>,
) -> Result<ArrayRef, PgError> {
    let mut values: Vec<T::Native> = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let start = values.len();
        if call.is_valid(row) {
            elements(row, &mut values)?;
        }
        lengths.push(values.len() - start);
    }
    let values = PrimitiveArray::<T>::new(values.into(), None);
    as_lists(call, lengths, |data_type| Arc::new(values.with_data_type(data_type)))
}

fn as_lists(call: &Call, lengths: Vec<usize>, values: impl FnOnce(DataType) -> ArrayRef) -> Result<ArrayRef, PgError> {
    let DataType::List(field) = call.result() else {
        return Err(PgError::internal(format!("a set of type {}", call.result())));
    };
    let nulls: Option<NullBuffer> = call.nulls().cloned();
    let values = values(field.data_type().clone());
    Ok(Arc::new(ListArray::new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, nulls)))
}

fn zero_step() -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero")
}

fn integer_series<T: ArrowPrimitiveType>(
    call: &Call,
    read: impl Fn(T::Native) -> i64,
    write: impl Fn(i64) -> T::Native,
) -> Result<ArrayRef, PgError> {
    let (starts, stops) = (call.primitive::<T>(0), call.primitive::<T>(1));
    let steps = (call.argument_count() == 3).then(|| call.primitive::<T>(2));
    lists::<T>(call, |row, values| {
        let (start, stop) = (i128::from(read(starts.get(row))), i128::from(read(stops.get(row))));
        let step = i128::from(steps.map_or(1, |steps| read(steps.get(row))));
        if step == 0 {
            return Err(zero_step());
        }
        let count = if (stop - start) * step.signum() < 0 { 0 } else { (stop - start) / step + 1 };
        if values.len() as i128 + count > ELEMENTS_MAX as i128 {
            return Err(too_many());
        }
        values.extend((0..count).map(|index| write((start + index * step) as i64)));
        Ok(())
    })
}

fn int4_series(call: &Call) -> Result<ArrayRef, PgError> {
    integer_series::<Int32Type>(call, i64::from, |value| value as i32)
}

fn int8_series(call: &Call) -> Result<ArrayRef, PgError> {
    integer_series::<Int64Type>(call, |value| value, |value| value)
}

fn numeric_series(call: &Call) -> Result<ArrayRef, PgError> {
    let (starts, stops) = (call.numeric(0), call.numeric(1));
    let steps = (call.argument_count() == 3).then(|| call.numeric(2));
    let mut values = LargeBinaryBuilder::new();
    let mut lengths = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let before = values.len();
        if call.is_valid(row) {
            let (mut value, stop) = (starts.get(row), stops.get(row));
            let step = steps.map_or(Numeric::from_i64(1), |steps| steps.get(row));
            for (bound, what) in [(&value, "start value"), (&stop, "stop value"), (&step, "step size")] {
                if bound.decimal().is_none() {
                    let which = if bound.is_nan() { "NaN" } else { "infinity" };
                    let message = format!("{what} cannot be {which}");
                    return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
                }
            }
            if step.is_zero() {
                return Err(zero_step());
            }
            while if step.is_negative() { value >= stop } else { value <= stop } {
                if values.len() >= ELEMENTS_MAX {
                    return Err(too_many());
                }
                values.append_value(value.encode());
                value = value.add(&step)?;
            }
        }
        lengths.push(values.len() - before);
    }
    as_lists(call, lengths, |_| Arc::new(values.finish()))
}

fn timestamp_series(call: &Call) -> Result<ArrayRef, PgError> {
    let (starts, stops, steps) = (call.timestamp(0), call.timestamp(1), call.interval(2));
    lists::<TimestampMicrosecondType>(call, |row, values| {
        let (mut value, stop, step): (i64, i64, Interval) = (starts.get(row), stops.get(row), steps.get(row));
        if step.span() == 0 {
            return Err(zero_step());
        }
        while if step.span() < 0 { value >= stop } else { value <= stop } {
            if values.len() >= ELEMENTS_MAX || is_infinite(value) {
                return Err(too_many());
            }
            values.push(value);
            value = add_interval(value, &step)?;
        }
        Ok(())
    })
}

fn count_to(call: &Call) -> Result<ArrayRef, PgError> {
    let (lengths, reverse, first) = (call.int4(0), call.boolean(1), call.int4(2));
    lists::<Int32Type>(call, |row, values| {
        let subscripts = first.get(row)..first.get(row) + lengths.get(row);
        match reverse.get(row) {
            true => values.extend(subscripts.rev()),
            false => values.extend(subscripts),
        }
        Ok(())
    })
}

fn count_up(call: &Call) -> Result<ArrayRef, PgError> {
    let length = |argument: usize, row: usize| match call.is_null(argument, row) {
        true => 0,
        false => call.argument(argument).0.as_list::<i32>().value_length(call.index(argument, row)),
    };
    lists::<Int64Type>(call, |row, values| {
        let longest = (0..call.argument_count()).map(|argument| length(argument, row)).max().unwrap_or_default();
        values.extend(1..=i64::from(longest));
        Ok(())
    })
}

/// A list a row of what `parts` finds in its JSON, as text or JSON by the result's type. None is NULL.
fn json_parts(
    call: &Call,
    mut parts: impl FnMut(usize, &str, &mut dyn FnMut(Option<&str>)) -> Result<(), PgError>,
) -> Result<ArrayRef, PgError> {
    let values = call.json(0);
    let (mut texts, mut raws) = (StringBuilder::new(), LargeStringBuilder::new());
    let as_json = matches!(call.result(), DataType::List(field) if *field.data_type() == DataType::LargeUtf8);
    let mut lengths = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let mut length = 0;
        if call.is_valid(row) {
            parts(row, values.get(row), &mut |part| {
                length += 1;
                match as_json {
                    true => raws.append_option(part),
                    false => texts.append_option(part),
                }
            })?;
        }
        lengths.push(length);
    }
    as_lists(call, lengths, |_| if as_json { Arc::new(raws.finish()) } else { Arc::new(texts.finish()) })
}

fn invalid(message: String) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn elements<'j>(what: &str, value: &'j str) -> Result<Vec<&'j str>, PgError> {
    json::elements(value).ok_or_else(|| match json::type_name(value) {
        "object" => invalid(format!("cannot {what} from an object")),
        _ => invalid(format!("cannot {what} from a scalar")),
    })
}

fn members<'j>(what: &str, value: &'j str) -> Result<Vec<(&'j str, &'j str)>, PgError> {
    json::members(value).ok_or_else(|| match json::type_name(value) {
        "array" => invalid(format!("cannot {what} an array")),
        _ => invalid(format!("cannot {what} a scalar")),
    })
}

fn json_elements(call: &Call) -> Result<ArrayRef, PgError> {
    json_parts(call, |_, value, push| {
        elements("extract elements", value)?.into_iter().for_each(|element| push(Some(element)));
        Ok(())
    })
}

fn json_elements_text(call: &Call) -> Result<ArrayRef, PgError> {
    json_parts(call, |_, value, push| {
        let found = elements("extract elements", value)?;
        found.into_iter().for_each(|element| push(json::as_text(element).as_deref()));
        Ok(())
    })
}

fn json_keys(call: &Call) -> Result<ArrayRef, PgError> {
    json_parts(call, |_, value, push| {
        let found = members("call json_object_keys on", value)?;
        found.into_iter().for_each(|(key, _)| push(json::as_text(key).as_deref()));
        Ok(())
    })
}

fn each_keys(call: &Call) -> Result<ArrayRef, PgError> {
    json_parts(call, |_, value, push| {
        members("deconstruct", value)?.into_iter().for_each(|(key, _)| push(json::as_text(key).as_deref()));
        Ok(())
    })
}

fn each_values(call: &Call) -> Result<ArrayRef, PgError> {
    json_parts(call, |_, value, push| {
        members("deconstruct", value)?.into_iter().for_each(|(_, value)| push(Some(value)));
        Ok(())
    })
}

fn each_texts(call: &Call) -> Result<ArrayRef, PgError> {
    json_parts(call, |_, value, push| {
        members("deconstruct", value)?.into_iter().for_each(|(_, value)| push(json::as_text(value).as_deref()));
        Ok(())
    })
}

/// The objects among whose fields a record's columns are looked for: the value itself, or those of the array it is.
fn records<'c>(call: &'c Call, row: usize, one: bool) -> Result<Vec<&'c str>, PgError> {
    if call.is_null(0, row) {
        return Ok(vec!["null"]);
    }
    let value = call.json(0).get(row);
    let function = if one { "json_to_record" } else { "json_to_recordset" };
    let kind = json::type_name(value);
    match (kind, one) {
        ("object", true) => return Ok(vec![value]),
        ("array", false) => {}
        ("object" | "array", _) => return Err(invalid(format!("cannot call {function} on an {kind}"))),
        _ => return Err(invalid(format!("cannot call {function} on a scalar"))),
    }
    let found = json::elements(value).unwrap_or_default();
    match found.iter().all(|value| json::type_name(value) == "object") {
        true => Ok(found),
        false => Err(invalid(format!("argument of {function} must be an array of objects"))),
    }
}

fn record_texts<const ONE: bool>(call: &Call) -> Result<ArrayRef, PgError> {
    let names = call.text(1);
    json_parts(call, |row, _, push| {
        for object in records(call, row, ONE)? {
            push(json::field(object, names.get(row)).and_then(json::as_text).as_deref());
        }
        Ok(())
    })
}

fn record_values<const ONE: bool>(call: &Call) -> Result<ArrayRef, PgError> {
    let names = call.text(1);
    json_parts(call, |row, _, push| {
        for object in records(call, row, ONE)? {
            push(json::field(object, names.get(row)).filter(|value| json::type_name(value) != "null"));
        }
        Ok(())
    })
}
