//! One column of CREATE TABLE and of ADD COLUMN: its type, its DEFAULT, who gives it its values.

use catalog::system::{format_type, quote_identifier, quote_literal};
use catalog::{ColumnDetail, Generation};
use datafusion::logical_expr::Expr as PlanExpr;
use repr::{ColumnSchema, PgError, RelationSchema, SqlState, SqlType};
use sqlparser::ast::{
    self, ColumnDef, ColumnOption, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GeneratedAs,
    GeneratedExpressionMode, UnaryOperator, Value,
};

use super::Target;
use super::constraint::object_name_of;
use crate::bind::{BindContext, bind_expr_over};
use crate::cast::{CastContext, cast, type_from_ast};
use crate::parse::{fold, parse_expr};

/// A column as it is declared.
pub(super) struct Column {
    pub(super) schema: ColumnSchema,
    /// The text of its DEFAULT or of what it is generated from.
    pub(super) default: Option<String>,
    pub(super) generation: Generation,
    /// The statement that makes the sequence of its values.
    pub(super) before: Option<String>,
    /// The one that gives it the sequence.
    pub(super) after: Option<String>,
}

/// Binds what `definition` says but for its constraints. A generated column's expression is bound with the others:
/// [`bind_generated`].
pub(super) fn bind(target: &Target, definition: &ColumnDef, context: &BindContext) -> Result<Column, PgError> {
    let serial = serial_type(&definition.data_type);
    let schema = match serial.clone() {
        Some(data_type) => ColumnSchema { nullable: false, ..ColumnSchema::new(fold(&definition.name), data_type) },
        None => typed(definition)?,
    };
    let mut column = Column { schema, default: None, generation: Generation::Default, before: None, after: None };
    if serial.is_some() {
        let sequence = free_sequence_name(target, &column.schema.name, context);
        give_sequence(&mut column, target, &sequence, "");
    }
    for option in &definition.options {
        match &option.option {
            ColumnOption::Null if column.generation.is_identity() || serial.is_some() => {
                let message = format!(
                    "conflicting NULL/NOT NULL declarations for column \"{}\" of table \"{}\"",
                    column.schema.name, target.name
                );
                return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
            }
            ColumnOption::Null => {}
            ColumnOption::NotNull => column.schema.nullable = false,
            ColumnOption::Default(default) => {
                if column.default.is_some() {
                    return Err(twice(&column.schema.name, target));
                }
                column.default = Some(bind_default(default, &column.schema, context)?);
            }
            ColumnOption::Generated {
                generated_as, sequence_options, generation_expr, generation_expr_mode, ..
            } => match generation_expr {
                Some(expr) => {
                    if *generation_expr_mode == Some(GeneratedExpressionMode::Virtual) {
                        return Err(PgError::unsupported("a virtual generated column"));
                    }
                    if column.default.is_some() {
                        let message = format!(
                            "both default and generation expression specified for column \"{}\" of table \"{}\"",
                            column.schema.name, target.name
                        );
                        return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
                    }
                    column.default = Some(expr.to_string());
                    column.generation = Generation::Stored;
                }
                None => identity(&mut column, target, generated_as, sequence_options.as_deref(), context)?,
            },
            // Its constraints are statements of their own; text is compared as its bytes whatever its collation.
            ColumnOption::PrimaryKey(_)
            | ColumnOption::Unique(_)
            | ColumnOption::ForeignKey(_)
            | ColumnOption::Check(_) => {}
            ColumnOption::Collation(collation) => check_collation(&collation.to_string())?,
            other => return Err(PgError::unsupported(format!("column option {other}"))),
        }
    }
    Ok(column)
}

/// Errors: 0A000 for a collation whose order is not that of bytes.
fn check_collation(name: &str) -> Result<(), PgError> {
    let name = name.to_lowercase().replace('"', "");
    match ["c", "posix", "default", "ucs_basic"].contains(&name.trim_start_matches("pg_catalog.")) {
        true => Ok(()),
        false => Err(PgError::unsupported(format!("collation \"{name}\""))
            .with_hint("Text is ordered by its bytes, as by the collation \"C\".")),
    }
}

fn twice(column: &str, target: &Target) -> PgError {
    let message = format!("multiple default values specified for column \"{column}\" of table \"{}\"", target.name);
    PgError::new(SqlState::SYNTAX_ERROR, message)
}

/// The column's name and type, nullable. Errors: types'.
pub(super) fn typed(definition: &ColumnDef) -> Result<ColumnSchema, PgError> {
    let (sql_type, typmod) = type_from_ast(&definition.data_type)?;
    if sql_type == SqlType::Unknown {
        let message = format!("column \"{}\" has pseudo-type unknown", fold(&definition.name));
        return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    }
    Ok(ColumnSchema { name: fold(&definition.name), sql_type, typmod, nullable: true })
}

/// The definition that makes a column like `column`.
pub(super) fn definition(column: &ColumnSchema) -> Result<ColumnDef, PgError> {
    let text = format!("NULL::{}", format_type(&column.sql_type, column.typmod));
    let Expr::Cast { data_type, .. } = parse_expr(&text)? else {
        return Err(PgError::internal(format!("{text} is no cast")));
    };
    let not_null = ast::ColumnOptionDef { name: None, option: ColumnOption::NotNull };
    Ok(ColumnDef {
        name: ast::Ident::with_quote('"', &column.name),
        data_type,
        options: if column.nullable { Vec::new() } else { vec![not_null] },
    })
}

/// The type of the numbers of a `serial`.
fn serial_type(data_type: &DataType) -> Option<SqlType> {
    let DataType::Custom(name, _) = data_type else { return None };
    match name.to_string().to_lowercase().trim_start_matches("pg_catalog.") {
        "serial" | "serial4" => Some(SqlType::Int4),
        "bigserial" | "serial8" => Some(SqlType::Int8),
        "smallserial" | "serial2" => Some(SqlType::Int2),
        _ => None,
    }
}

fn identity(
    column: &mut Column,
    target: &Target,
    generated_as: &GeneratedAs,
    options: Option<&[ast::SequenceOptions]>,
    context: &BindContext,
) -> Result<(), PgError> {
    if !matches!(column.schema.sql_type, SqlType::Int2 | SqlType::Int4 | SqlType::Int8) {
        return Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "identity column type must be smallint, integer, or bigint",
        ));
    }
    column.schema.nullable = false;
    column.generation = match generated_as {
        GeneratedAs::Always => Generation::IdentityAlways,
        _ => Generation::IdentityByDefault,
    };
    match &column.default {
        // As it is stored: the sequence is there already.
        Some(default) if default.starts_with("nextval(") => {}
        Some(_) => {
            let message = format!(
                "both default and identity specified for column \"{}\" of table \"{}\"",
                column.schema.name, target.name
            );
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
        }
        None => {
            let sequence = free_sequence_name(target, &column.schema.name, context);
            let options: String = options.unwrap_or_default().iter().map(|option| option.to_string()).collect();
            give_sequence(column, target, &sequence, &options);
        }
    }
    Ok(())
}

/// Makes the next value of a new sequence the column's DEFAULT.
pub(super) fn give_sequence(column: &mut Column, target: &Target, sequence: &str, options: &str) {
    let name = format!("{}.{}", quote_identifier(&target.schema), quote_identifier(sequence));
    let data_type = column.schema.sql_type.sql_name();
    column.default = Some(next_value(&target.schema, sequence));
    column.before = Some(format!("CREATE SEQUENCE {name} AS {data_type}{options}"));
    let owner = format!("{}.{}", target.qualified(), quote_identifier(&column.schema.name));
    column.after = Some(format!("ALTER SEQUENCE {name} OWNED BY {owner}"));
}

/// The DEFAULT that gives out a sequence's numbers, as PostgreSQL prints it.
pub(super) fn next_value(schema: &str, sequence: &str) -> String {
    let name = match schema {
        catalog::DEFAULT_SCHEMA => quote_identifier(sequence),
        schema => format!("{}.{}", quote_identifier(schema), quote_identifier(sequence)),
    };
    format!("nextval({}::regclass)", quote_literal(&name))
}

/// `table_column_seq`, with a number behind it where that is taken.
pub(super) fn free_sequence_name(target: &Target, column: &str, context: &BindContext) -> String {
    object_name_of(&target.name, column, "seq", |name| context.catalog.in_schema(&target.schema, name).is_some())
}

/// The text of a DEFAULT, once it is seen to fit the column. Errors: 42804, those of expressions; 0A000 for a subquery, 0A000
/// for a column.
pub(super) fn bind_default(default: &Expr, column: &ColumnSchema, context: &BindContext) -> Result<String, PgError> {
    let typed =
        bind_expr_over(None, &RelationSchema::new(Vec::new()), default, context).map_err(|error| {
            match error.state {
                SqlState::UNDEFINED_COLUMN => {
                    PgError { message: "cannot use column reference in DEFAULT expression".to_string(), ..error }
                }
                _ => error,
            }
        })?;
    let found = typed.sql_type.clone();
    cast(typed, &column.sql_type, column.typmod, CastContext::Assignment).map_err(|error| match error.state {
        SqlState::CANNOT_COERCE | SqlState::DATATYPE_MISMATCH => {
            let message = format!(
                "column \"{}\" is of type {} but default expression is of type {}",
                column.name,
                column.sql_type.sql_name(),
                found.sql_name()
            );
            PgError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression.")
        }
        _ => error,
    })?;
    Ok(default_text(default, column, context))
}

/// An expression as a value of `column`, over the columns of `over`. Errors: as [`bind_default`].
pub(super) fn bind_value(
    expr: &Expr,
    relation: Option<&str>,
    over: &RelationSchema,
    column: &ColumnSchema,
    context: &BindContext,
) -> Result<PlanExpr, PgError> {
    let typed = bind_expr_over(relation, over, expr, context)?;
    Ok(cast(typed, &column.sql_type, column.typmod, CastContext::Assignment)?.expr)
}

/// As PostgreSQL prints it, for the forms that most defaults have; otherwise as the parser does.
fn default_text(default: &Expr, column: &ColumnSchema, context: &BindContext) -> String {
    let typed = |text: &str| format!("{}::{}", quote_literal(text), column.sql_type.sql_name());
    match default {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => typed(text),
            Value::Number(number, _) => number.clone(),
            Value::Boolean(value) => value.to_string(),
            other => other.to_string(),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => typed(&format!("-{}", value.value)),
            _ => default.to_string(),
        },
        Expr::Cast { expr, .. } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) if cast_to(default, column) => typed(text),
                _ => default.to_string(),
            },
            _ => default.to_string(),
        },
        _ => match sequence_named(default) {
            Some(name) => match super::sequence::resolve_text(&name, context) {
                Some(sequence) => next_value(&sequence.schema, &sequence.name),
                None => format!("nextval({}::regclass)", quote_literal(&name)),
            },
            None => default.to_string(),
        },
    }
}

/// Whether the cast is to the column's own type.
fn cast_to(expr: &Expr, column: &ColumnSchema) -> bool {
    let Expr::Cast { data_type, .. } = expr else { return false };
    type_from_ast(data_type).is_ok_and(|(sql_type, typmod)| sql_type == column.sql_type && typmod == -1)
}

/// The name in `nextval('name')` and `nextval('name'::regclass)`; None for any other expression.
pub(crate) fn sequence_named(default: &Expr) -> Option<String> {
    let Expr::Function(function) = default else { return None };
    if !function.name.to_string().to_lowercase().trim_start_matches("pg_catalog.").eq("nextval") {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_slice() else { return None };
    let argument = match argument {
        Expr::Cast { expr, .. } => expr.as_ref(),
        other => other,
    };
    match argument {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Sees that each generated column's expression fits it. Errors: 42P17 for one that names a generated column or changes by
/// itself, those of expressions.
pub(super) fn bind_generated(
    target: &Target,
    columns: &[ColumnSchema],
    details: &mut [ColumnDetail],
    context: &BindContext,
) -> Result<(), PgError> {
    let stored = |detail: &ColumnDetail| detail.generation == Generation::Stored;
    let basic: Vec<ColumnSchema> = columns
        .iter()
        .zip(details.iter())
        .filter(|(_, detail)| !stored(detail))
        .map(|(column, _)| column.clone())
        .collect();
    for (column, detail) in columns.iter().zip(details.iter_mut()).filter(|(_, detail)| stored(detail)) {
        let Some(text) = detail.default.clone() else { continue };
        let expr = parse_expr(&text)?;
        let bound = bind_expr_over(Some(&target.name), &RelationSchema::new(basic.clone()), &expr, context);
        let named = |error: &PgError| {
            let names = |other: &&ColumnSchema| error.message.contains(&format!("\"{}\"", other.name));
            columns
                .iter()
                .find(names)
                .filter(|_| error.state == SqlState::UNDEFINED_COLUMN)
                .map(|other| other.name.clone())
        };
        let typed = bound.map_err(|error| match named(&error) {
            Some(other) => {
                let message = format!("cannot use generated column \"{other}\" in column generation expression");
                PgError::new(INVALID_OBJECT_DEFINITION, message)
                    .with_detail("A generated column cannot reference another generated column.")
            }
            None => error,
        })?;
        if typed.expr.is_volatile() {
            return Err(PgError::new(INVALID_OBJECT_DEFINITION, "generation expression is not immutable"));
        }
        let found = typed.sql_type.clone();
        cast(typed, &column.sql_type, column.typmod, CastContext::Assignment).map_err(|_| {
            let message = format!(
                "column \"{}\" is of type {} but generation expression is of type {}",
                column.name,
                column.sql_type.sql_name(),
                found.sql_name()
            );
            PgError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression.")
        })?;
    }
    Ok(())
}

/// `42P17`.
const INVALID_OBJECT_DEFINITION: SqlState = SqlState("42P17");
