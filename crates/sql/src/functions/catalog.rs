//! Functions about the catalog, the session and the time: what psql's `\d` and drivers' introspection call, and `now()`.
//!
//! A call is bound without what it needs to know. Before a plan runs, [`attach`] gives every such call a [`Snapshot`] of the
//! catalog and the session; a plan that is maintained never gets one, so there the call is refused by its volatility. They
//! work row by row: these relations are small.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, UInt32Type};
use catalog::definition::{constraint_definition, index_definition};
use catalog::role::is_member;
pub use catalog::system::format_type;
use catalog::system::{Actions, Snapshot, quote_identifier};
use catalog::{Catalog, Object, ObjectKind, Position, Sequence, SequenceAccess};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use repr::numeric::Numeric;
use repr::types::Storage;
use repr::{ObjectId, PgError, SqlState, SqlType};

use crate::cast::{CastContext, cast};
use crate::typed::TypedExpr;

/// One overload: its arguments by `pg_type` name, its result, and what computes a row of it.
struct Function {
    name: &'static str,
    arguments: &'static [&'static str],
    result: &'static str,
    /// Whether a NULL argument makes the result NULL.
    strict: bool,
    call: fn(&Snapshot, &[Value]) -> Result<Value, PgError>,
}

/// One argument or result of a row.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Oid(u32),
    Text(String),
    /// None is NULL.
    Texts(Vec<Option<String>>),
}

impl Value {
    fn oid(&self) -> ObjectId {
        match self {
            Value::Oid(oid) => ObjectId(*oid),
            Value::Int(int) => ObjectId(*int as u32),
            _ => ObjectId(0),
        }
    }

    fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            _ => "",
        }
    }
}

fn text(value: impl Into<String>) -> Result<Value, PgError> {
    Ok(Value::Text(value.into()))
}

fn optional(value: Option<String>) -> Result<Value, PgError> {
    Ok(value.map_or(Value::Null, Value::Text))
}

macro_rules! functions {
    ($($name:literal ($($argument:literal),*) -> $result:literal $strict:ident = $call:expr;)*) => {
        &[$(Function {
            name: $name, arguments: &[$($argument),*], result: $result, strict: $strict, call: $call,
        }),*]
    };
}

pub(crate) mod sets;
mod tools;

const STRICT: bool = true;
const LAX: bool = false;

/// Every overload. Alphabetical; more specific argument types first.
#[rustfmt::skip]
static FUNCTIONS: &[Function] = functions! {
    "array_remove"("_text", "text") -> "_text" LAX = |_, arguments| Ok(match (&arguments[0], &arguments[1]) {
        (Value::Texts(elements), removed) => {
            let removed = if *removed == Value::Null { None } else { Some(removed.text()) };
            Value::Texts(elements.iter().filter(|element| element.as_deref() != removed).cloned().collect())
        }
        _ => Value::Null,
    });
    "array_to_string"("_text", "text") -> "text" STRICT = |_, arguments| joined(&arguments[0], arguments[1].text(), None);
    "array_to_string"("_text", "text", "text") -> "text" LAX = |_, arguments| match (&arguments[0], &arguments[1]) {
        (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
        (array, separator) => joined(array, separator.text(), Some(&arguments[2]).filter(|null| **null != Value::Null)),
    };
    "array_upper"("_text", "int4") -> "int4" STRICT = |_, arguments| Ok(match (&arguments[0], &arguments[1]) {
        (Value::Texts(elements), Value::Int(1)) if !elements.is_empty() => Value::Int(elements.len() as i64),
        _ => Value::Null,
    });
    "clock_timestamp"() -> "timestamptz" LAX = |_, _| Ok(Value::Int(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
    ));
    "col_description"("oid", "int4") -> "text" STRICT = |snapshot, arguments| {
        let Value::Int(number) = arguments[1] else { return Ok(Value::Null) };
        comment(snapshot, arguments[0].oid(), number as i16)
    };
    "current_catalog"() -> "name" LAX = |snapshot, _| text(&snapshot.database);
    "current_date"() -> "date" LAX = |snapshot, _| Ok(Value::Int(local(snapshot)?.div_euclid(86_400_000_000)));
    "current_database"() -> "name" LAX = |snapshot, _| text(&snapshot.database);
    "current_role"() -> "name" LAX = |snapshot, _| text(&snapshot.user);
    "current_schema"() -> "name" LAX = |snapshot, _| {
        optional(snapshot.search_path.creation_schema(&snapshot.catalog).map(str::to_string))
    };
    "current_schemas"("bool") -> "_name" STRICT = |snapshot, arguments| {
        let there = |schema: &&str| snapshot.catalog.has_schema(schema);
        let (path, implied) = (&snapshot.search_path, arguments[0] == Value::Bool(true));
        let schemas: Vec<String> = match implied {
            true => {
                // A session's own schema is there with its first temporary object.
                let used = |schema: &&str| {
                    path.temporary.as_deref() != Some(*schema)
                        || snapshot.catalog.objects().any(|object| object.schema == *schema)
                };
                let searched = path.searched().filter(there).filter(used);
                searched.filter(|schema| *schema != "tw_catalog").map(str::to_string).collect()
            }
            false => path.schemas.iter().map(String::as_str).filter(there).map(str::to_string).collect(),
        };
        Ok(Value::Texts(schemas.into_iter().map(Some).collect()))
    };
    "currval"("regclass") -> "int8" STRICT = |snapshot, arguments| {
        let (object, _) = sequence(snapshot, arguments[0].oid())?;
        current_value(snapshot, Some(object))
    };
    "current_setting"("text") -> "text" STRICT = |snapshot, arguments| setting(snapshot, arguments[0].text());
    "current_setting"("text", "bool") -> "text" STRICT = |snapshot, arguments| {
        match setting(snapshot, arguments[0].text()) {
            Err(_) if arguments[1] == Value::Bool(true) => Ok(Value::Null),
            found => found,
        }
    };
    "current_timestamp"() -> "timestamptz" LAX = |snapshot, _| Ok(Value::Int(snapshot.transaction_us));
    "current_user"() -> "name" LAX = |snapshot, _| text(&snapshot.user);
    "has_any_column_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_column_privilege"("text", "text", "text") -> "bool" STRICT = allowed;
    "has_database_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_database_privilege"("text", "text", "text") -> "bool" STRICT = allowed;
    "has_function_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_schema_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_schema_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_schema_privilege"("text", "text", "text") -> "bool" STRICT = allowed;
    "has_sequence_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_table_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_table_privilege"("oid", "text") -> "bool" STRICT = allowed;
    "has_table_privilege"("text", "text", "text") -> "bool" STRICT = allowed;
    "has_tablespace_privilege"("text", "text") -> "bool" STRICT = allowed;
    "has_type_privilege"("text", "text") -> "bool" STRICT = allowed;
    "inet_client_addr"() -> "text" LAX = |_, _| Ok(Value::Null);
    "inet_client_port"() -> "int4" LAX = |_, _| Ok(Value::Null);
    "inet_server_addr"() -> "text" LAX = |_, _| Ok(Value::Null);
    "inet_server_port"() -> "int4" LAX = |_, _| Ok(Value::Null);
    "lastval"() -> "int8" LAX = |snapshot, _| current_value(snapshot, None);
    "localtime"() -> "time" LAX = |snapshot, _| Ok(Value::Int(local(snapshot)?.rem_euclid(86_400_000_000)));
    "localtimestamp"() -> "timestamp" LAX = |snapshot, _| Ok(Value::Int(local(snapshot)?));
    "mz_now"() -> "timestamptz" LAX = |snapshot, _| Ok(Value::Int(snapshot.transaction_us.div_euclid(1000) * 1000));
    "nextval"("regclass") -> "int8" STRICT = |snapshot, arguments| {
        let (object, declared) = sequence(snapshot, arguments[0].oid())?;
        moved(snapshot)?.next(object.oid, declared).map(Value::Int)
    };
    "now"() -> "timestamptz" LAX = |snapshot, _| Ok(Value::Int(snapshot.transaction_us));
    "obj_description"("oid") -> "text" STRICT = |snapshot, arguments| comment(snapshot, arguments[0].oid(), 0);
    "obj_description"("oid", "name") -> "text" STRICT = |snapshot, arguments| {
        let class = snapshot.catalog.by_oid(arguments[0].oid().0).map(|object| catalog::system::class_of(object));
        let wanted = snapshot.catalog.resolve(Some("pg_catalog"), arguments[1].text()).map(|object| object.oid);
        match class.is_some() && class == wanted {
            true => comment(snapshot, arguments[0].oid(), 0),
            false => Ok(Value::Null),
        }
    };
    "pg_backend_pid"() -> "int4" LAX = |snapshot, _| Ok(Value::Int(snapshot.process_id as i64));
    "pg_cancel_backend"("int4") -> "bool" STRICT = |snapshot, arguments| signal(snapshot, &arguments[0], false);
    "pg_char_to_encoding"("name") -> "int4" STRICT = |_, arguments| {
        Ok(Value::Int(if arguments[0].text().replace('-', "").eq_ignore_ascii_case("utf8") { 6 } else { -1 }))
    };
    "pg_client_encoding"() -> "name" LAX = |_, _| text("UTF8");
    "pg_collation_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_database_size"("oid") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_database_size"("name") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_encoding_to_char"("int4") -> "name" STRICT = |_, arguments| {
        text(if arguments[0] == Value::Int(6) { "UTF8" } else { "" })
    };
    "pg_function_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_get_constraintdef"("oid") -> "text" STRICT = |snapshot, arguments| {
        defined(snapshot, arguments[0].oid(), constraint_definition)
    };
    "pg_get_constraintdef"("oid", "bool") -> "text" STRICT = |snapshot, arguments| {
        let definition = defined(snapshot, arguments[0].oid(), constraint_definition)?;
        Ok(match (&definition, &arguments[1]) {
            (Value::Text(text), Value::Bool(true)) => Value::Text(without_parens(text)),
            _ => definition,
        })
    };
    "pg_get_expr"("text", "oid") -> "text" STRICT = |_, arguments| Ok(arguments[0].clone());
    "pg_get_expr"("text", "oid", "bool") -> "text" STRICT = |_, arguments| Ok(arguments[0].clone());
    "pg_get_indexdef"("oid") -> "text" STRICT = |snapshot, arguments| {
        defined(snapshot, arguments[0].oid(), index_definition)
    };
    "pg_get_indexdef"("oid", "int4", "bool") -> "text" STRICT = index_column;
    "pg_get_partkeydef"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_ruledef"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_ruledef"("oid", "bool") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_serial_sequence"("text", "text") -> "text" STRICT = serial_sequence;
    "pg_get_statisticsobjdef_columns"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_triggerdef"("oid") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_triggerdef"("oid", "bool") -> "text" STRICT = |_, _| Ok(Value::Null);
    "pg_get_userbyid"("oid") -> "name" STRICT = |snapshot, arguments| {
        let oid = arguments[0].oid().0;
        let role = snapshot.roles.iter().find(|role| role.oid == oid);
        text(role.map_or_else(|| format!("unknown (OID={oid})"), |role| role.name.clone()))
    };
    "pg_has_role"("name", "name", "text") -> "bool" STRICT = |snapshot, arguments| {
        has_role(snapshot, arguments[0].text(), arguments[1].text(), arguments[2].text())
    };
    "pg_has_role"("name", "text") -> "bool" STRICT = |snapshot, arguments| {
        has_role(snapshot, &snapshot.user, arguments[0].text(), arguments[1].text())
    };
    "pg_get_viewdef"("oid") -> "text" STRICT = |snapshot, arguments| {
        optional(view_definition(&snapshot.catalog, arguments[0].oid()))
    };
    "pg_get_viewdef"("oid", "bool") -> "text" STRICT = |snapshot, arguments| {
        optional(view_definition(&snapshot.catalog, arguments[0].oid()))
    };
    "pg_get_viewdef"("text") -> "text" STRICT = |snapshot, arguments| {
        let object = snapshot.search_path.resolve_text(&snapshot.catalog, arguments[0].text());
        optional(object.and_then(|object| view_definition(&snapshot.catalog, ObjectId(object.oid))))
    };
    "pg_indexes_size"("oid") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_is_in_recovery"() -> "bool" LAX = |_, _| Ok(Value::Bool(false));
    "pg_is_other_temp_schema"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(false));
    "pg_listening_channel_list"() -> "_text" LAX = |snapshot, _| {
        Ok(Value::Texts(actions(snapshot)?.listening().into_iter().map(Some).collect()))
    };
    "pg_my_temp_schema"() -> "oid" LAX = |_, _| Ok(Value::Oid(0));
    "pg_notify"("text", "text") -> "text" LAX = |snapshot, arguments| {
        actions(snapshot)?.notify(arguments[0].text(), arguments[1].text())?;
        text("")
    };
    "pg_sequence_last_value"("regclass") -> "int8" STRICT = |snapshot, arguments| {
        let (object, declared) = sequence(snapshot, arguments[0].oid())?;
        let position = snapshot.sequences.as_ref().map(|access| access.position(object.oid, declared));
        Ok(position.filter(|position| position.is_called).map_or(Value::Null, |position| Value::Int(position.last_value)))
    };
    "pg_opclass_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_operator_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_relation_filenode"("oid") -> "oid" STRICT = |_, _| Ok(Value::Null);
    "pg_relation_is_publishable"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(false));
    "pg_relation_size"("oid") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_relation_size"("oid", "text") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_size_pretty"("int8") -> "text" STRICT = |_, arguments| text(match &arguments[0] {
        Value::Int(bytes) => pretty_size(*bytes),
        _ => String::new(),
    });
    "pg_sleep"("float8") -> "text" STRICT = |_, _| text("");
    "pg_statistics_obj_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_table_is_visible"("oid") -> "bool" STRICT = |snapshot, arguments| {
        Ok(snapshot.catalog.by_oid(arguments[0].oid().0).map_or(Value::Null, |object| {
            let found = snapshot.search_path.resolve(&snapshot.catalog, None, &object.name);
            // Tools list what is visible as the user's own, but for pg_catalog, which they know.
            let ours = object.schema == "tw_catalog";
            Value::Bool(!ours && found.is_some_and(|found| found.id == object.id))
        }))
    };
    "pg_table_size"("oid") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_tablespace_location"("oid") -> "text" STRICT = |_, _| text("");
    "pg_terminate_backend"("int4") -> "bool" STRICT = |snapshot, arguments| signal(snapshot, &arguments[0], true);
    "pg_total_relation_size"("oid") -> "int8" STRICT = |_, _| Ok(Value::Int(0));
    "pg_ts_config_is_visible"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(true));
    "pg_type_is_visible"("oid") -> "bool" STRICT = |_, arguments| {
        let name = catalog::system::registered::type_name(arguments[0].oid().0, -1);
        Ok(if name == "???" { Value::Null } else { Value::Bool(!name.starts_with("information_schema.")) })
    };
    "row_security_active"("oid") -> "bool" STRICT = |_, _| Ok(Value::Bool(false));
    "session_user"() -> "name" LAX = |snapshot, _| text(&snapshot.session_user);
    "set_config"("text", "text", "bool") -> "text" STRICT = |_, arguments| Ok(arguments[1].clone());
    "setval"("regclass", "int8") -> "int8" STRICT = |snapshot, arguments| set_value(snapshot, arguments, true);
    "setval"("regclass", "int8", "bool") -> "int8" STRICT = |snapshot, arguments| {
        set_value(snapshot, arguments, arguments[2] == Value::Bool(true))
    };
    "statement_timestamp"() -> "timestamptz" LAX = |snapshot, _| Ok(Value::Int(snapshot.statement_us));
    "transaction_timestamp"() -> "timestamptz" LAX = |snapshot, _| Ok(Value::Int(snapshot.transaction_us));
    "txid_current"() -> "int8" LAX = |_, _| Ok(Value::Int(1));
    "user"() -> "name" LAX = |snapshot, _| text(&snapshot.user);
    "version"() -> "text" LAX = |_, _| text(concat!(
        "PostgreSQL 15.18 (Tidewater ", env!("CARGO_PKG_VERSION"), ")"
    ));
};

/// Every overload of all lists.
fn overloads() -> impl Iterator<Item = &'static Function> {
    FUNCTIONS.iter().chain(tools::FUNCTIONS).chain(tools::REGISTERED)
}

/// A CHECK without the parentheses that its expression does not need, as it is printed for people.
fn without_parens(definition: &str) -> String {
    let inner = definition.strip_prefix("CHECK ((").and_then(|rest| rest.strip_suffix("))"));
    match inner {
        Some(inner) if is_balanced(inner) => format!("CHECK ({inner})"),
        _ => definition.to_string(),
    }
}

/// Whether every parenthesis is closed, and none that was not opened.
fn is_balanced(text: &str) -> bool {
    let mut depth = 0;
    for c in text.chars() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Whether a function of this name is here.
pub fn is_function(name: &str) -> bool {
    overloads().any(|function| function.name == name)
}

/// The names of all that are here, each once.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = overloads().map(|function| function.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// As [`super::signatures`].
pub(super) fn signatures() -> impl Iterator<Item = String> {
    overloads().map(|function| {
        let arguments: Vec<String> = function.arguments.iter().map(|name| type_named(name).sql_name()).collect();
        format!("{}({}) {}", function.name, arguments.join(", "), type_named(function.result).sql_name())
    })
}

/// A call, its arguments cast to the first overload that takes them. Errors: `42883`.
pub fn resolve(name: &str, arguments: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let fitting = overloads().filter(|function| function.name == name && function.arguments.len() == arguments.len());
    for function in fitting {
        let cast_all = arguments.iter().zip(function.arguments).map(|(argument, wanted)| accept(argument, wanted));
        if let Some(arguments) = cast_all.collect::<Option<Vec<Expr>>>() {
            let sql_type = type_named(function.result);
            let call = Expr::ScalarFunction(ScalarFunction::new_udf(udf(function, None), arguments));
            return Ok(TypedExpr::new(call, sql_type));
        }
    }
    let types: Vec<String> = arguments.iter().map(|argument| argument.sql_type.sql_name()).collect();
    let message = format!("function {name}({}) does not exist", types.join(", "));
    Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message)
        .with_hint("No function matches the given name and argument types. You might need to add explicit type casts."))
}

/// `argument` as `wanted`, if it goes there without being asked to.
fn accept(argument: &TypedExpr, wanted: &str) -> Option<Expr> {
    let wanted = type_named(wanted);
    let is_integer = |sql_type: &SqlType| matches!(sql_type, SqlType::Int2 | SqlType::Int4 | SqlType::Int8);
    let is_oid = SqlType::is_oid;
    let is_text = |sql_type: &SqlType| sql_type.storage() == Storage::Text && *sql_type != SqlType::Unknown;
    if let (SqlType::Array(element), SqlType::Array(_)) = (&argument.sql_type, &wanted) {
        // Elements are read by their storage.
        let readable = is_text(element) || is_integer(element) || is_oid(element) || **element == SqlType::Bool;
        return readable.then(|| argument.expr.clone());
    }
    let fits = argument.sql_type == wanted
        || argument.is_unknown()
        || (argument.sql_type.is_oid() && wanted.is_oid())
        || (is_integer(&argument.sql_type) && (is_oid(&wanted) || is_integer(&wanted)))
        || (wanted == SqlType::Float8 && argument.sql_type.info().category == 'N')
        || (is_text(&argument.sql_type) && is_text(&wanted));
    if !fits {
        return None;
    }
    // The storage of these is the same: no cast.
    if argument.sql_type.arrow() == wanted.arrow() && !argument.is_unknown() {
        return Some(argument.expr.clone());
    }
    cast(argument.clone(), &wanted, -1, CastContext::Explicit).ok().map(|typed| typed.expr)
}

fn type_named(name: &str) -> SqlType {
    let scalar = |name: &str| {
        repr::types::TYPES.iter().find(|info| info.name == name).map_or(SqlType::Text, |info| info.sql_type.clone())
    };
    match name.strip_prefix('_') {
        Some(element) => SqlType::Array(Box::new(scalar(element))),
        None => scalar(name),
    }
}

/// Gives every call in `plan` the snapshot. `snapshot` is asked for at most once, and only if there is a call.
pub fn attach(plan: LogicalPlan, snapshot: impl Fn() -> Snapshot) -> Result<LogicalPlan, DataFusionError> {
    let mut called = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            called = called || calls(expr)?;
            Ok(if called { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    if !called {
        return Ok(plan);
    }
    let snapshot = Arc::new(snapshot());
    let transformed =
        plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| attach_calls(expr, &snapshot)))?;
    Ok(transformed.data)
}

/// [`attach`] for one expression.
pub fn attach_expr(expr: Expr, snapshot: impl Fn() -> Snapshot) -> Result<Expr, DataFusionError> {
    match calls(&expr)? {
        true => Ok(attach_calls(expr, &Arc::new(snapshot()))?.data),
        false => Ok(expr),
    }
}

/// Whether an expression asks the catalog or the session.
pub(crate) fn calls(expr: &Expr) -> Result<bool, DataFusionError> {
    expr.exists(|expr| Ok(catalog_function(expr).is_some()))
}

fn catalog_function(expr: &Expr) -> Option<&CatalogFunction> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let inner: &dyn Any = call.func.inner().as_ref();
    inner.downcast_ref::<CatalogFunction>()
}

fn attach_calls(expr: Expr, snapshot: &Arc<Snapshot>) -> Result<Transformed<Expr>, DataFusionError> {
    expr.transform_up(|expr| {
        let function = catalog_function(&expr).map(|found| found.function);
        match (expr, function) {
            (Expr::ScalarFunction(call), Some(function)) => {
                let udf = udf(function, Some(Arc::clone(snapshot)));
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(udf, call.args))))
            }
            (expr, _) => Ok(Transformed::no(expr)),
        }
    })
}

/// What a call does besides giving a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// `set_config`.
    Set {
        /// The setting.
        name: String,
        /// Its new value.
        value: String,
        /// Until the end of the transaction only.
        local: bool,
    },
    /// `pg_sleep`, in seconds.
    Sleep(f64),
}

/// The effects of the calls in `plan`. They are the caller's to bring about; the calls themselves only give their values.
/// `parameters` are those of the statement, `$1` first, of one row each.
///
/// Errors: `0A000` for a call whose arguments are no constants: how often it is called would be anybody's guess.
pub fn effects(plan: &LogicalPlan, parameters: &[ArrayRef]) -> Result<Vec<Effect>, PgError> {
    let mut found = Vec::new();
    let mut failure = None;
    let constant = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Placeholder(placeholder) => {
            let index = placeholder.id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)?;
            ScalarValue::try_from_array(parameters.get(index)?, 0).ok()
        }
        _ => None,
    };
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && matches!(call.func.name(), "set_config" | "pg_sleep")
                {
                    let arguments: Vec<Option<ScalarValue>> = call.args.iter().map(constant).collect();
                    match arguments.as_slice() {
                        [
                            Some(ScalarValue::Utf8(Some(name))),
                            Some(ScalarValue::Utf8(Some(value))),
                            Some(ScalarValue::Boolean(Some(local))),
                        ] => found.push(Effect::Set { name: name.clone(), value: value.clone(), local: *local }),
                        [Some(ScalarValue::Float64(Some(seconds)))] => found.push(Effect::Sleep(*seconds)),
                        _ => failure = Some(PgError::unsupported(format!("{} of no constants", call.func.name()))),
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.map_err(|error| PgError::internal(error.to_string()))?;
    failure.map_or(Ok(found), Err)
}

fn udf(function: &'static Function, snapshot: Option<Arc<Snapshot>>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(CatalogFunction {
        function,
        snapshot,
        // Volatile, or the optimizer would call it before it has its snapshot.
        signature: match function.arguments.len() {
            0 => Signature::nullary(Volatility::Volatile),
            count => Signature::any(count, Volatility::Volatile),
        },
    }))
}

struct CatalogFunction {
    function: &'static Function,
    snapshot: Option<Arc<Snapshot>>,
    signature: Signature,
}

impl fmt::Debug for CatalogFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.name)
    }
}

impl PartialEq for CatalogFunction {
    fn eq(&self, other: &CatalogFunction) -> bool {
        std::ptr::eq(self.function, other.function) && self.snapshot.is_some() == other.snapshot.is_some()
    }
}

impl Eq for CatalogFunction {}

impl Hash for CatalogFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
        self.function.arguments.hash(state);
    }
}

impl ScalarUDFImpl for CatalogFunction {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(type_named(self.function.result).arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let external = |error: PgError| DataFusionError::External(Box::new(error));
        let Some(snapshot) = &self.snapshot else {
            return Err(external(PgError::unsupported(format!("function {} here", self.function.name))));
        };
        let constant = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        // Each row gets a number of its own.
        let moves = matches!(self.function.name, "nextval" | "setval");
        let constant = constant && !moves;
        let row_count = if constant { 1 } else { args.number_rows };
        let columns: Vec<ArrayRef> =
            args.args.iter().map(|argument| argument.to_array(row_count)).collect::<Result<_, _>>()?;
        let mut results = Vec::with_capacity(row_count);
        // The same few OIDs come again and again.
        let mut known: HashMap<String, Value> = HashMap::new();
        for row in 0..row_count {
            let values: Vec<Value> = columns.iter().map(|column| value_at(column, row)).collect();
            if self.function.strict && values.contains(&Value::Null) {
                results.push(Value::Null);
                continue;
            }
            let key = format!("{values:?}");
            if moves {
                known.clear();
            }
            if let Some(value) = known.get(&key) {
                results.push(value.clone());
                continue;
            }
            let value = (self.function.call)(snapshot, &values).map_err(external)?;
            known.insert(key, value.clone());
            results.push(value);
        }
        let array = build(&type_named(self.function.result), &results);
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

fn value_at(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int16 => Value::Int(column.as_primitive::<Int16Type>().value(row) as i64),
        DataType::Int32 => Value::Int(column.as_primitive::<Int32Type>().value(row) as i64),
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt32 => Value::Oid(column.as_primitive::<UInt32Type>().value(row)),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_string()),
        DataType::LargeBinary => Value::Text(Numeric::decode(column.as_binary::<i64>().value(row)).to_string()),
        DataType::List(_) => {
            let elements = column.as_list::<i32>().value(row);
            let element = |index: usize| match value_at(&elements, index) {
                Value::Null => None,
                Value::Text(text) => Some(text),
                Value::Int(int) => Some(int.to_string()),
                Value::Oid(oid) => Some(oid.to_string()),
                Value::Bool(bool) => Some(if bool { "t" } else { "f" }.to_string()),
                Value::Texts(_) => None,
            };
            Value::Texts((0..elements.len()).map(element).collect())
        }
        _ => Value::Null,
    }
}

fn build(sql_type: &SqlType, values: &[Value]) -> ArrayRef {
    use arrow::array::{BooleanArray, Int32Array, Int64Array, StringArray, UInt32Array};
    match sql_type {
        SqlType::Bool => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Value::Bool(bool) => Some(*bool),
            _ => None,
        }))),
        SqlType::Int4 => Arc::new(Int32Array::from_iter(values.iter().map(|value| match value {
            Value::Int(int) => Some(*int as i32),
            _ => None,
        }))),
        SqlType::Int8 => Arc::new(Int64Array::from_iter(values.iter().map(|value| match value {
            Value::Int(int) => Some(*int),
            _ => None,
        }))),
        SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => {
            let numbers = Int64Array::from_iter(values.iter().map(|value| match value {
                Value::Int(int) => Some(*int),
                _ => None,
            }));
            let numbers: ArrayRef = Arc::new(numbers);
            let days = || {
                arrow::compute::cast(&numbers, &DataType::Int32)
                    .and_then(|days| arrow::compute::cast(&days, &DataType::Date32))
            };
            let typed =
                if *sql_type == SqlType::Date { days() } else { arrow::compute::cast(&numbers, &sql_type.arrow()) };
            // Casts between integers and times that are integers.
            typed.unwrap_or_else(|_| arrow::array::new_null_array(&sql_type.arrow(), values.len()))
        }
        other if other.storage() == Storage::Oid => {
            Arc::new(UInt32Array::from_iter(values.iter().map(|value| match value {
                Value::Oid(oid) => Some(*oid),
                _ => None,
            })))
        }
        SqlType::Array(_) => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for value in values {
                match value {
                    Value::Texts(texts) => builder.append_value(texts.iter().cloned()),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        _ => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        }))),
    }
}

/// The transaction's time on the session's clock.
fn local(snapshot: &Snapshot) -> Result<i64, PgError> {
    let zone = snapshot.settings.iter().find(|setting| setting.name == "TimeZone");
    let zone = repr::text::TimeZone::parse(zone.map_or("UTC", |zone| zone.value.as_str()))?;
    Ok(zone.to_local(snapshot.transaction_us))
}

fn actions(snapshot: &Snapshot) -> Result<&Arc<dyn Actions>, PgError> {
    snapshot.actions.as_ref().ok_or_else(|| PgError::unsupported("this function here"))
}

fn signal(snapshot: &Snapshot, process_id: &Value, terminate: bool) -> Result<Value, PgError> {
    let Value::Int(process_id) = process_id else { return Ok(Value::Null) };
    actions(snapshot)?.signal(*process_id as i32, terminate).map(Value::Bool)
}

/// Whether a role is a member of another. `kind` is `MEMBER` or `USAGE`, which differ by whether rights are inherited.
fn has_role(snapshot: &Snapshot, member: &str, role: &str, kind: &str) -> Result<Value, PgError> {
    let named = |name: &str| {
        let found = snapshot.roles.iter().find(|role| role.name == name);
        found.ok_or_else(|| PgError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist")))
    };
    let usage = match kind.to_ascii_uppercase().as_str() {
        "USAGE" => true,
        "MEMBER" | "MEMBER WITH ADMIN OPTION" | "MEMBER WITH GRANT OPTION" => false,
        _ => {
            let message = format!("unrecognized privilege type: \"{kind}\"");
            return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
    };
    let (member, role) = (named(member)?, named(role)?);
    let is_member =
        is_member(&snapshot.roles, member.oid, role.oid) && (!usage || member.inherit || member.oid == role.oid);
    Ok(Value::Bool(member.superuser || is_member))
}

/// Privileges on objects are not kept: every role has them all.
fn allowed(_: &Snapshot, _: &[Value]) -> Result<Value, PgError> {
    Ok(Value::Bool(true))
}

fn setting(snapshot: &Snapshot, name: &str) -> Result<Value, PgError> {
    let found = snapshot.settings.iter().find(|setting| setting.name.eq_ignore_ascii_case(name));
    match found {
        Some(setting) => text(&setting.value),
        None => {
            let message = format!("unrecognized configuration parameter \"{name}\"");
            Err(PgError::new(SqlState::UNDEFINED_OBJECT, message))
        }
    }
}

/// `pg_get_indexdef` of one column is its name; column 0 is the whole index.
fn index_column(snapshot: &Snapshot, arguments: &[Value]) -> Result<Value, PgError> {
    let Value::Int(number) = arguments[1] else { return Ok(Value::Null) };
    if number <= 0 {
        let definition = defined(snapshot, arguments[0].oid(), index_definition)?;
        let (Value::Text(text), Some(Value::Bool(true))) = (&definition, arguments.get(2)) else {
            return Ok(definition);
        };
        return Ok(Value::Text(unqualified(snapshot, arguments[0].oid(), text)));
    }
    let name = || {
        let index = snapshot.catalog.by_oid(arguments[0].oid().0)?;
        let ObjectKind::Index { on, columns, .. } = &index.kind else { return None };
        let column = *columns.get(number as usize - 1)?;
        Some(quote_identifier(&snapshot.catalog.get(*on)?.relation_schema()?.columns[column].name))
    };
    text(name().unwrap_or_default())
}

/// An index's definition for people: without the schema of a table that is found without it.
fn unqualified(snapshot: &Snapshot, index: ObjectId, definition: &str) -> String {
    let table = snapshot.catalog.by_oid(index.0).and_then(|index| match &index.kind {
        ObjectKind::Index { on, .. } => snapshot.catalog.get(*on),
        _ => None,
    });
    let Some(table) = table else { return definition.to_string() };
    let shown = catalog::system::registered::name_of(snapshot, &SqlType::Regclass, table.oid);
    definition.replacen(&format!(" ON {} ", catalog::definition::qualified(table)), &format!(" ON {shown} "), 1)
}

fn view_definition(catalog: &Catalog, oid: ObjectId) -> Option<String> {
    let definition = catalog::definition::view_query(catalog.by_oid(oid.0)?, catalog)?;
    Some(format!(" {};", definition.trim().trim_end_matches(';')))
}

/// What `definition` says of the object with this OID.
fn defined(
    snapshot: &Snapshot,
    oid: ObjectId,
    definition: fn(&Object, &Catalog) -> Option<String>,
) -> Result<Value, PgError> {
    optional(snapshot.catalog.by_oid(oid.0).and_then(|object| definition(object, &snapshot.catalog)))
}

fn comment(snapshot: &Snapshot, oid: ObjectId, number: i16) -> Result<Value, PgError> {
    optional(snapshot.catalog.by_oid(oid.0).and_then(|object| object.comments.get(&number).cloned()))
}

/// The sequence with this OID. Errors: 42809 for anything else.
fn sequence(snapshot: &Snapshot, oid: ObjectId) -> Result<(&Object, &Sequence), PgError> {
    match snapshot.catalog.by_oid(oid.0) {
        Some(object) => match &object.kind {
            ObjectKind::Sequence(sequence) => Ok((object, sequence)),
            _ => Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a sequence", object.name))),
        },
        None => {
            let message = format!("could not open relation with OID {oid}");
            Err(PgError::new(SqlState::INTERNAL_ERROR, message))
        }
    }
}

/// Errors: 25006 where nothing may be moved.
fn moved(snapshot: &Snapshot) -> Result<&Arc<dyn SequenceAccess>, PgError> {
    snapshot.sequences.as_ref().ok_or_else(|| {
        PgError::new(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot execute nextval() in a read-only transaction")
    })
}

fn current_value(snapshot: &Snapshot, of: Option<&Object>) -> Result<Value, PgError> {
    let current = snapshot.sequences.as_ref().and_then(|access| access.current(of.map(|object| object.oid)));
    current.map(Value::Int).ok_or_else(|| {
        let message = match of {
            Some(object) => format!("currval of sequence \"{}\" is not yet defined in this session", object.name),
            None => "lastval is not yet defined in this session".to_string(),
        };
        PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    })
}

fn set_value(snapshot: &Snapshot, arguments: &[Value], is_called: bool) -> Result<Value, PgError> {
    let (object, declared) = sequence(snapshot, arguments[0].oid())?;
    let Value::Int(last_value) = arguments[1] else { return Ok(Value::Null) };
    if !(declared.min..=declared.max).contains(&last_value) {
        let message = format!(
            "setval: value {last_value} is out of bounds for sequence \"{}\" ({}..{})",
            object.name, declared.min, declared.max
        );
        return Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
    }
    moved(snapshot)?.set(object.oid, declared, Position { last_value, is_called })?;
    Ok(Value::Int(last_value))
}

/// `pg_get_serial_sequence('table', 'column')`: the sequence that the column owns.
fn serial_sequence(snapshot: &Snapshot, arguments: &[Value]) -> Result<Value, PgError> {
    let (catalog, name, column) = (&snapshot.catalog, arguments[0].text(), arguments[1].text());
    let table = snapshot
        .search_path
        .resolve_text(catalog, name)
        .ok_or_else(|| PgError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")))?;
    let index = table.relation_schema().and_then(|schema| schema.column_index(column)).ok_or_else(|| {
        let message = format!("column \"{column}\" of relation \"{}\" does not exist", table.name);
        PgError::new(SqlState::UNDEFINED_COLUMN, message)
    })?;
    let owner = Some((table.id, table.column_number(index)));
    let owned = catalog
        .dependents(table.id)
        .into_iter()
        .find(|object| matches!(&object.kind, ObjectKind::Sequence(sequence) if sequence.owned_by == owner));
    optional(owned.map(|sequence| catalog::definition::qualified(sequence)))
}

/// A cast that needs the catalog: between text and the types that are names. None for any other.
pub(crate) fn cast_by_name(expr: &TypedExpr, to: &SqlType) -> Option<Result<TypedExpr, PgError>> {
    let is_text = |sql_type: &SqlType| matches!(sql_type, SqlType::Text | SqlType::Varchar | SqlType::Name);
    let function = match (&expr.sql_type, to) {
        (from, to) if from.is_registered() && is_text(to) => format!("{}out", from.name()),
        (SqlType::Array(from), SqlType::Array(to)) if from.is_registered() && is_text(to) => {
            format!("{}arrayout", from.name())
        }
        (from, to) if to.is_registered() => {
            let written = matches!(&expr.expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
            match (written || !expr.is_unknown()) && (is_text(from) || expr.is_unknown()) {
                true => format!("{}in", to.name()),
                false => return None,
            }
        }
        _ => return None,
    };
    let argument = match expr.is_unknown() {
        true => TypedExpr::new(expr.expr.clone(), SqlType::Text),
        false => expr.clone(),
    };
    let called = resolve(&function, vec![argument]);
    Some(called.map(|typed| TypedExpr { sql_type: to.clone(), ..typed }))
}

/// The elements that are there, or what stands for NULL, one after the other.
fn joined(array: &Value, separator: &str, null: Option<&Value>) -> Result<Value, PgError> {
    let Value::Texts(elements) = array else { return Ok(Value::Null) };
    let shown = elements.iter().filter_map(|element| element.as_deref().or(null.map(Value::text)));
    text(shown.collect::<Vec<_>>().join(separator))
}

fn pretty_size(bytes: i64) -> String {
    let mut size = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        if size.abs() < 10240.0 || unit == "TB" {
            return format!("{} {unit}", size.round());
        }
        size /= 1024.0;
    }
    format!("{bytes} bytes")
}
