//! OIDs to names and back, as `regclass`, `regtype`, `regproc` and their kin print and read them.
//!
//! What a name means without its schema, and when the schema must be said, is decided here and nowhere else.

use repr::{PgError, SqlState, SqlType};

use super::{Snapshot, postgres, quote_identifier, schema_oid, schemas};
use crate::ObjectKind;
use crate::names::split_name;

/// What the OID is printed as under `sql_type`: `-` for none, the number where nothing has it.
pub fn name_of(snapshot: &Snapshot, sql_type: &SqlType, oid: u32) -> String {
    if oid == 0 {
        return match sql_type {
            SqlType::Regoper | SqlType::Regoperator => "0",
            _ => "-",
        }
        .to_string();
    }
    let found = match sql_type {
        SqlType::Regclass => class_name(snapshot, oid),
        SqlType::Regtype => Some(type_name(oid, -1)).filter(|name| name != "???"),
        SqlType::Regnamespace => namespace_name(snapshot, oid),
        SqlType::Regrole => role_name(snapshot, oid),
        SqlType::Regproc => postgres::function(oid).map(|function| {
            let name = quote_identifier(function.name);
            // One of several of a name is told from the others by nothing, and so printed with its schema.
            match postgres::functions_named(function.name).len() {
                1 => name,
                _ => format!("pg_catalog.{name}"),
            }
        }),
        SqlType::Regprocedure => postgres::function(oid)
            .map(|function| format!("{}({})", quote_identifier(function.name), type_list(function.arguments, ","))),
        SqlType::Regoper => operator(oid).map(|(name, _)| match postgres::operators(|_, other| other == name).len() {
            1 => name,
            _ => format!("pg_catalog.{name}"),
        }),
        SqlType::Regoperator => operator(oid).map(|(name, [left, right])| {
            let operand = |oid: u32| if oid == 0 { "NONE".to_string() } else { type_name(oid, -1) };
            format!("{name}({},{})", operand(left), operand(right))
        }),
        SqlType::Regcollation => {
            postgres::collations().find(|(collation, _)| *collation == oid).map(|(_, name)| quote_identifier(name))
        }
        _ => None,
    };
    found.unwrap_or_else(|| oid.to_string())
}

/// The OID that a text means under `sql_type`. Errors: those of PostgreSQL's input functions for what is not there.
pub fn oid_of(snapshot: &Snapshot, sql_type: &SqlType, text: &str) -> Result<u32, PgError> {
    let text = text.trim();
    if text == "-" {
        return Ok(0);
    }
    if let Ok(oid) = text.parse::<u32>() {
        return Ok(oid);
    }
    let missing = |state: SqlState, what: &str| PgError::new(state, format!("{what} \"{text}\" does not exist"));
    match sql_type {
        SqlType::Regclass => {
            let found = snapshot.search_path.resolve_text(&snapshot.catalog, text);
            found.map(|object| object.oid).ok_or_else(|| missing(SqlState::UNDEFINED_TABLE, "relation"))
        }
        SqlType::Regtype => type_named(text).ok_or_else(|| missing(SqlState::UNDEFINED_OBJECT, "type")),
        SqlType::Regnamespace => {
            let name = last_name(text);
            let known = snapshot.catalog.has_schema(&name).then(|| schema_oid(&snapshot.catalog, &name));
            known.ok_or_else(|| missing(SqlState("3F000"), "schema"))
        }
        SqlType::Regrole => {
            let name = last_name(text);
            roles(snapshot)
                .into_iter()
                .find(|(_, role)| *role == name)
                .map(|(oid, _)| oid)
                .ok_or_else(|| PgError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist")))
        }
        SqlType::Regproc => {
            let name = last_name(text);
            match postgres::functions_named(&name).as_slice() {
                [] => Err(missing(SqlState::UNDEFINED_FUNCTION, "function")),
                [one] => Ok(one.oid),
                _ => {
                    let message = format!("more than one function named \"{text}\"");
                    Err(PgError::new(SqlState::AMBIGUOUS_FUNCTION, message))
                }
            }
        }
        SqlType::Regprocedure => procedure_named(text).ok_or_else(|| missing(SqlState::UNDEFINED_FUNCTION, "function")),
        SqlType::Regoper => {
            let name = text.rsplit_once('.').map_or(text, |(_, name)| name);
            match postgres::operators(|_, other| other == name).as_slice() {
                [] => Err(PgError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {text}"))),
                [(one, _)] => Ok(one.oid),
                _ => {
                    let message = format!("more than one operator named {text}");
                    Err(PgError::new(SqlState::AMBIGUOUS_FUNCTION, message))
                }
            }
        }
        SqlType::Regoperator => operator_named(text)
            .ok_or_else(|| PgError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {text}"))),
        SqlType::Regcollation => {
            let name = last_name(text);
            let found = postgres::collations().find(|(_, collation)| *collation == name);
            found.map(|(oid, _)| oid).ok_or_else(|| {
                let message = format!("collation \"{text}\" for encoding \"UTF8\" does not exist");
                PgError::new(SqlState::UNDEFINED_OBJECT, message)
            })
        }
        _ => {
            let message = format!("invalid input syntax for type oid: \"{text}\"");
            Err(PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, message))
        }
    }
}

/// A name without its schema.
fn last_name(text: &str) -> String {
    split_name(text).pop().unwrap_or_default()
}

fn class_name(snapshot: &Snapshot, oid: u32) -> Option<String> {
    let object = snapshot.catalog.by_oid(oid)?;
    let name = quote_identifier(&object.name);
    Some(match snapshot.search_path.resolve(&snapshot.catalog, None, &object.name) {
        Some(found) if found.id == object.id => name,
        _ => format!("{}.{name}", quote_identifier(&object.schema)),
    })
}

fn namespace_name(snapshot: &Snapshot, oid: u32) -> Option<String> {
    let built_in = schemas().into_iter().find(|(_, schema)| *schema == oid).map(|(name, _)| quote_identifier(name));
    let made = || snapshot.catalog.by_oid(oid).filter(|object| object.kind == ObjectKind::Schema);
    built_in.or_else(|| made().map(|schema| quote_identifier(&schema.name)))
}

/// Every role's OID and name.
fn roles(snapshot: &Snapshot) -> Vec<(u32, String)> {
    super::pg_database::roles(snapshot).into_iter().map(|role| (role.oid, role.name)).collect()
}

fn role_name(snapshot: &Snapshot, oid: u32) -> Option<String> {
    roles(snapshot).into_iter().find(|(role, _)| *role == oid).map(|(_, name)| quote_identifier(&name))
}

/// What `format_type` prints; `-` for no type, `???` for one that is not there.
pub fn type_name(oid: u32, typmod: i32) -> String {
    if oid == 0 {
        return "-".to_string();
    }
    if let Some(sql_type) = SqlType::from_oid(oid) {
        return super::format_type(&sql_type, typmod);
    }
    match (postgres::of_type(oid, "typname"), postgres::of_type(oid, "typelem")) {
        (Some(name), Some(element)) if name.starts_with('_') && element != "0" => {
            format!("{}[]", type_name(element.parse().unwrap_or(0), typmod))
        }
        (Some(name), _) => match postgres::of_type(oid, "typnamespace") {
            Some("11") | None => quote_identifier(name),
            Some(_) => format!("information_schema.{}", quote_identifier(name)),
        },
        (None, _) => "???".to_string(),
    }
}

/// The OID of a type by any of its names, `[]` behind it or not.
pub fn type_named(text: &str) -> Option<u32> {
    let text = text.trim();
    if let Some(element) = text.strip_suffix("[]") {
        let element = type_named(element)?;
        return SqlType::from_oid(element)
            .map(|sql_type| SqlType::Array(Box::new(sql_type)).oid())
            .or_else(|| postgres::of_type(element, "typarray").and_then(|oid| oid.parse().ok()));
    }
    // A modifier says nothing of the OID.
    let plain = match (text.find('('), text.find(')')) {
        (Some(open), Some(close)) if open < close && !text.starts_with('"') => {
            format!("{}{}", text[..open].trim_end(), &text[close + 1..])
        }
        _ => text.to_string(),
    };
    if plain == "\"char\"" {
        return Some(SqlType::Char.oid());
    }
    let lower = plain.to_lowercase();
    let standard = repr::types::TYPES.iter().find(|info| info.sql_name == lower).map(|info| info.oid);
    let alias = match lower.as_str() {
        "int" => Some(SqlType::Int4.oid()),
        "char" => Some(SqlType::Bpchar.oid()),
        "decimal" | "dec" => Some(SqlType::Numeric.oid()),
        "float" => Some(SqlType::Float8.oid()),
        "timestamp" => Some(SqlType::Timestamp.oid()),
        "time" => Some(SqlType::Time.oid()),
        _ => None,
    };
    standard.or(alias).or_else(|| {
        let name = split_name(&plain).pop()?;
        let ours = repr::types::TYPES.iter().find(|info| info.name == name).map(|info| info.oid);
        ours.or_else(|| postgres::type_oid(&name))
    })
}

fn type_list(oids: &str, separator: &str) -> String {
    let names = oids.split(' ').filter(|oid| !oid.is_empty()).map(|oid| type_name(oid.parse().unwrap_or(0), -1));
    names.collect::<Vec<_>>().join(separator)
}

fn procedure_named(text: &str) -> Option<u32> {
    let (name, arguments) = text.split_once('(')?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let arguments: Vec<String> = arguments
        .split(',')
        .filter(|argument| !argument.trim().is_empty())
        .map(|argument| type_named(argument).map(|oid| oid.to_string()))
        .collect::<Option<_>>()?;
    let name = split_name(name).pop()?;
    let found = postgres::functions_named(&name).into_iter();
    found.into_iter().find(|function| function.arguments == arguments.join(" ")).map(|function| function.oid)
}

fn operator(oid: u32) -> Option<(String, [u32; 2])> {
    let found = postgres::operators(|other, _| other == oid).pop();
    found.map(|(operator, operands)| (operator.name.to_string(), operands))
}

fn operator_named(text: &str) -> Option<u32> {
    let (name, operands) = text.split_once('(')?;
    let (left, right) = operands.trim_end().strip_suffix(')')?.split_once(',')?;
    let operand = |text: &str| match text.trim() {
        none if none.eq_ignore_ascii_case("none") => Some(0),
        text => type_named(text),
    };
    let operands = [operand(left)?, operand(right)?];
    let name = name.trim().trim_start_matches("pg_catalog.").to_string();
    let found = postgres::operators(|_, other| other == name).into_iter();
    found.into_iter().find(|(_, other)| *other == operands).map(|(operator, _)| operator.oid)
}

/// `name(type, ..)` of a function's arguments as `pg_get_function_arguments` prints them, with modes, names and defaults, or
/// without defaults as `pg_get_function_identity_arguments` does.
pub fn function_arguments(oid: u32, with_defaults: bool) -> Option<String> {
    let inputs: Vec<&str> = postgres::function(oid)?.arguments.split(' ').filter(|oid| !oid.is_empty()).collect();
    let types = list(oid, "proallargtypes").unwrap_or_else(|| inputs.clone());
    let (modes, names) = (list(oid, "proargmodes"), list(oid, "proargnames"));
    let variadic = postgres::of_function(oid, "provariadic").is_some_and(|oid| oid != "0");
    let defaults: Vec<String> = postgres::of_function(oid, "proargdefaults").map(split_expressions).unwrap_or_default();
    let mut shown = Vec::new();
    let mut input = 0;
    for (index, type_oid) in types.iter().enumerate() {
        let mode = modes.as_ref().and_then(|modes| modes.get(index)).copied().unwrap_or("i");
        let is_input = matches!(mode, "i" | "b" | "v");
        input += usize::from(is_input);
        if mode == "t" {
            continue;
        }
        let mut argument = String::new();
        argument.push_str(match mode {
            "o" => "OUT ",
            "b" => "INOUT ",
            "v" => "VARIADIC ",
            "i" if variadic && modes.is_none() && index + 1 == types.len() => "VARIADIC ",
            _ => "",
        });
        match names.as_ref().and_then(|names| names.get(index)) {
            None | Some(&"") => {}
            Some(name) => argument.push_str(&format!("{} ", quote_identifier(name))),
        }
        argument.push_str(&type_name(type_oid.parse().unwrap_or(0), -1));
        let default = (inputs.len() - defaults.len().min(inputs.len())..inputs.len())
            .position(|defaulted| is_input && defaulted + 1 == input);
        if let Some(default) = default.filter(|_| with_defaults) {
            argument.push_str(&format!(" DEFAULT {}", defaults[default]));
        }
        shown.push(argument);
    }
    Some(shown.join(", "))
}

/// The expressions of a list, split at the commas that stand in no quotes or parentheses.
fn split_expressions(text: &str) -> Vec<String> {
    let mut expressions = vec![String::new()];
    let (mut quoted, mut depth) = (false, 0);
    for c in text.chars() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        match (c, expressions.last_mut()) {
            (',', _) if !quoted && depth == 0 => expressions.push(String::new()),
            (_, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    expressions.into_iter().map(|expression| expression.trim().to_string()).collect()
}

/// What a function gives, as `pg_get_function_result` prints it; None for a procedure and where there is none.
pub fn function_result(oid: u32) -> Option<String> {
    let result: u32 = postgres::of_function(oid, "prorettype")?.parse().ok()?;
    if postgres::of_function(oid, "prokind") == Some("p") {
        return None;
    }
    if let Some(columns) = table_columns(oid) {
        return Some(format!("TABLE({columns})"));
    }
    let set = postgres::of_function(oid, "proretset") == Some("t");
    Some(format!("{}{}", if set { "SETOF " } else { "" }, type_name(result, -1)))
}

/// The columns of a function that RETURNS TABLE.
fn table_columns(oid: u32) -> Option<String> {
    let modes = list(oid, "proargmodes").filter(|modes| modes.contains(&"t"))?;
    let (types, names) = (list(oid, "proallargtypes")?, list(oid, "proargnames")?);
    let columns = modes.iter().zip(types).zip(names).filter(|((mode, _), _)| **mode == "t");
    let columns = columns.map(|((_, type_oid), name)| {
        format!("{} {}", quote_identifier(name), type_name(type_oid.parse().unwrap_or(0), -1))
    });
    Some(columns.collect::<Vec<_>>().join(", "))
}

/// The elements of an array column of `pg_proc`.
fn list(oid: u32, column: &str) -> Option<Vec<&'static str>> {
    let text = postgres::of_function(oid, column)?;
    Some(text.trim_start_matches('{').trim_end_matches('}').split(',').map(|name| name.trim_matches('"')).collect())
}

/// What `oidvectortypes` prints.
pub fn type_names(oids: &[u32]) -> String {
    let names: Vec<String> = oids.iter().map(|oid| type_name(*oid, -1)).collect();
    names.join(", ")
}

/// What `pg_get_functiondef` prints of one of PostgreSQL's functions.
pub fn function_definition(oid: u32) -> Option<String> {
    let function = postgres::function(oid)?;
    let said = |column: &str| postgres::of_function(oid, column).unwrap_or_default();
    let language = if said("prolang") == "14" { "sql" } else { "internal" };
    let mut lines = vec![
        format!(
            "CREATE OR REPLACE FUNCTION pg_catalog.{}({})",
            quote_identifier(function.name),
            function_arguments(oid, true)?
        ),
        format!(" RETURNS {}", function_result(oid)?),
        format!(" LANGUAGE {language}"),
    ];
    let volatility = match said("provolatile") {
        "i" => " IMMUTABLE",
        "s" => " STABLE",
        _ => "",
    };
    let parallel = match said("proparallel") {
        "s" => " PARALLEL SAFE",
        "r" => " PARALLEL RESTRICTED",
        _ => "",
    };
    let strict = if said("proisstrict") == "t" { " STRICT" } else { "" };
    let leakproof = if said("proleakproof") == "t" { " LEAKPROOF" } else { "" };
    let options = format!("{volatility}{parallel}{strict}{leakproof}");
    if !options.is_empty() {
        lines.push(options);
    }
    lines.push(format!("AS $function${}$function$\n", said("prosrc")));
    Some(lines.join("\n"))
}
