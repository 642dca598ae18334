//! Functions of the catalog that return sets: what tools ask of partitions, options, privileges and keywords.

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;
use repr::types::Storage;
use repr::{PgError, SqlState, SqlType};

use crate::cast::{CastContext, cast};
use crate::functions::kernel::{Body, Call, Nulls, call};
use crate::functions::set_returning::SetColumn;
use crate::typed::TypedExpr;

/// One of them: what it takes, and its columns with what makes each.
struct SetFunction {
    name: &'static str,
    arguments: &'static [SqlType],
    columns: &'static [(&'static str, SqlType, Body)],
}

/// Every one. Alphabetical.
static FUNCTIONS: &[SetFunction] = &[
    SetFunction {
        // Nothing has privileges of its own: what holds is said by `acldefault`.
        name: "aclexplode",
        arguments: &[SqlType::Text],
        columns: &[
            ("grantor", SqlType::Oid, none),
            ("grantee", SqlType::Oid, none),
            ("privilege_type", SqlType::Text, none),
            ("is_grantable", SqlType::Bool, none),
        ],
    },
    SetFunction {
        name: "pg_get_keywords",
        arguments: &[],
        columns: &[
            ("word", SqlType::Text, keywords::<0>),
            ("catcode", SqlType::Char, keywords::<1>),
            ("barelabel", SqlType::Bool, bare_labels),
            ("catdesc", SqlType::Text, keywords::<3>),
            ("baredesc", SqlType::Text, keywords::<4>),
        ],
    },
    SetFunction {
        name: "pg_options_to_table",
        arguments: &[SqlType::Text],
        columns: &[("option_name", SqlType::Text, options::<true>), ("option_value", SqlType::Text, options::<false>)],
    },
    SetFunction {
        name: "pg_partition_ancestors",
        arguments: &[SqlType::Regclass],
        columns: &[("relid", SqlType::Regclass, none)],
    },
    SetFunction {
        name: "pg_partition_tree",
        arguments: &[SqlType::Regclass],
        columns: &[
            ("relid", SqlType::Regclass, none),
            ("parentrelid", SqlType::Regclass, none),
            ("isleaf", SqlType::Bool, none),
            ("level", SqlType::Int4, none),
        ],
    },
    SetFunction {
        name: "ts_token_type",
        arguments: &[SqlType::Oid],
        columns: &[
            ("tokid", SqlType::Int4, none),
            ("alias", SqlType::Text, none),
            ("description", SqlType::Text, none),
        ],
    },
];

/// Their names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name).chain([EXPAND_ARRAY])
}

/// The columns of a call; None if no such function is here. Errors: `42883`.
pub(crate) fn resolve(name: &str, args: &[TypedExpr]) -> Option<Result<Vec<SetColumn>, PgError>> {
    if name == EXPAND_ARRAY {
        return Some(expanded(args));
    }
    let function = FUNCTIONS.iter().find(|function| function.name == name)?;
    Some(columns(function, args))
}

/// `_pg_expandarray(array)`: each element with its number, both in an array, as there are no records.
fn expanded(args: &[TypedExpr]) -> Result<Vec<SetColumn>, PgError> {
    let array = match args {
        [array] => array.clone().vector_as_array(),
        _ => return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, "function _pg_expandarray takes one array")),
    };
    let pair = SqlType::Array(Box::new(SqlType::Int4));
    let array = cast(array, &pair, -1, CastContext::Explicit)?;
    let list = DataType::new_list(pair.arrow(), true);
    let list = call(EXPAND_ARRAY, vec![(array.expr, pair.arrow())], list, Nulls::Strict, pairs);
    Ok(vec![SetColumn { name: None, list, element: pair, typmod: -1 }])
}

const EXPAND_ARRAY: &str = "_pg_expandarray";

fn pairs(call: &Call) -> Result<ArrayRef, PgError> {
    let lists = call.argument(0).0.as_list::<i32>();
    let mut builder = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
    for row in 0..call.rows() {
        if !call.is_valid(row) {
            builder.append_null();
            continue;
        }
        let list = lists.value(call.index(0, row));
        for (index, element) in list.as_primitive::<Int32Type>().iter().enumerate() {
            builder.values().append_value([element, Some(index as i32 + 1)]);
        }
        builder.append(true);
    }
    Ok(std::sync::Arc::new(builder.finish()))
}

fn columns(function: &SetFunction, args: &[TypedExpr]) -> Result<Vec<SetColumn>, PgError> {
    let undefined = || {
        let types: Vec<String> = args.iter().map(|argument| argument.sql_type.sql_name()).collect();
        let message = format!("function {}({}) does not exist", function.name, types.join(", "));
        PgError::new(SqlState::UNDEFINED_FUNCTION, message)
    };
    if args.len() != function.arguments.len() {
        return Err(undefined());
    }
    let mut arguments = Vec::new();
    for (argument, wanted) in args.iter().zip(function.arguments) {
        // A list is read by its elements' storage, whatever they are called.
        let is_list = matches!(&argument.sql_type, SqlType::Array(element) if element.storage() == Storage::Text);
        let converted = match is_list && *wanted == SqlType::Text {
            true => argument.clone(),
            false if *wanted == SqlType::Text => {
                cast(argument.clone(), &SqlType::Array(Box::new(SqlType::Text)), -1, CastContext::Implicit)
                    .map_err(|_| undefined())?
            }
            false => cast(argument.clone(), wanted, -1, CastContext::Implicit)?,
        };
        arguments.push((converted.expr, converted.sql_type.arrow()));
    }
    let column = |(name, element, body): &(&'static str, SqlType, Body)| {
        let list = DataType::new_list(element.arrow(), true);
        let call_name = format!("{}_{name}", function.name);
        SetColumn {
            name: Some(name),
            list: call(&call_name, arguments.clone(), list, Nulls::Strict, *body),
            element: element.clone(),
            typmod: -1,
        }
    };
    Ok(function.columns.iter().map(column).collect())
}

/// An empty list for each row.
fn none(call: &Call) -> Result<ArrayRef, PgError> {
    let DataType::List(field) = call.result() else { return Err(PgError::internal("a set that is no list")) };
    let (offsets, values) = (OffsetBuffer::new_zeroed(call.rows()), new_empty_array(field.data_type()));
    Ok(std::sync::Arc::new(ListArray::new(field.clone(), offsets, values, None)))
}

/// The names or the values of `{name=value, ..}`.
fn options<const NAMES: bool>(call: &Call) -> Result<ArrayRef, PgError> {
    let lists = call.argument(0).0.as_list::<i32>();
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows() {
        if !call.is_valid(row) {
            builder.append_null();
            continue;
        }
        let list = lists.value(call.index(0, row));
        for option in list.as_string::<i32>().iter().flatten() {
            match option.split_once('=') {
                Some((name, value)) => builder.values().append_value(if NAMES { name } else { value }),
                None if NAMES => builder.values().append_value(option),
                None => builder.values().append_null(),
            }
        }
        builder.append(true);
    }
    Ok(std::sync::Arc::new(builder.finish()))
}

/// A column of PostgreSQL's keywords that is text.
fn keywords<const COLUMN: usize>(call: &Call) -> Result<ArrayRef, PgError> {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for _ in 0..call.rows() {
        builder.append_value(catalog::system::keywords().map(|keyword| keyword.get(COLUMN).copied()));
    }
    Ok(std::sync::Arc::new(builder.finish()))
}

/// Whether each may be a column's label without AS.
fn bare_labels(call: &Call) -> Result<ArrayRef, PgError> {
    let mut builder = ListBuilder::new(BooleanBuilder::new());
    for _ in 0..call.rows() {
        builder.append_value(catalog::system::keywords().map(|keyword| keyword.get(2).map(|bare| *bare == "t")));
    }
    Ok(std::sync::Arc::new(builder.finish()))
}
