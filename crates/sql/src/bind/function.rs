//! Calls: scalar functions, aggregates with DISTINCT, ORDER BY and FILTER, and window functions with OVER.

use datafusion::arrow::array::{Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::physical_expr::create_physical_expr;
use repr::numeric::Numeric;
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;
use std::sync::Arc;

use super::Binder;
use super::build::{any_expr, case, internal};
use super::expr::{At, Clause, Inside, shared_typmod, unify};
use super::from::name_text;
use super::query::sort_key;
use super::table_function::{is_constant, set_returning};
use super::window::WINDOWING_ERROR;
use crate::cast::{CastContext, cast, common_type};
use crate::functions::set_returning::is_set_returning;
use crate::functions::{
    is_aggregate, is_function, is_hypothetical, is_ordered_set, ordered_set_value, resolve_aggregate, resolve_function,
    resolve_hypothetical, resolve_ordered_set, takes_rows,
};
use crate::literal;
use crate::operators::{equality_key, resolve_operator};
use crate::typed::TypedExpr;

/// The arguments of a call, and how they are to be taken.
struct Arguments {
    args: Vec<TypedExpr>,
    star: bool,
    distinct: bool,
    order_by: Vec<ast::OrderByExpr>,
}

/// A function's name without the schema that it may be called with: `pg_catalog`, and for what pgjdbc calls of the
/// information schema's own functions that one.
pub(super) fn built_in_name(name: &str) -> &str {
    match name {
        "information_schema._pg_expandarray" => "_pg_expandarray",
        name => name.strip_prefix("pg_catalog.").unwrap_or(name),
    }
}

impl Binder<'_> {
    /// Calls a scalar function.
    pub(crate) fn call(&self, name: &str, args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
        if is_function(name) {
            return resolve_function(name, args);
        }
        match (name, args.as_slice()) {
            ("coalesce", [_, ..]) => coalesce(args),
            ("nullif", [left, right]) => {
                let equal = resolve_operator("=", Some(left.clone()), right.clone())?;
                let null = unify("NULLIF", &[left, &literal::null()])?.remove(1);
                let value = unify("NULLIF", &[left])?.remove(0);
                Ok(TypedExpr { expr: case(vec![(equal.expr, null.expr)], value.expr.clone()), ..value })
            }
            _ => resolve_function(name, args),
        }
    }

    /// A call written `name(..)`, of whatever kind.
    pub(crate) fn bind_function(&self, function: &ast::Function, at: At) -> Result<TypedExpr, PgError> {
        let full = name_text(&function.name);
        let name = built_in_name(&full).to_string();
        let span = super::expr::span_of(&ast::Expr::Function(function.clone()));
        self.bind_call(&name, function, at).map_err(|error| match error.state {
            SqlState::UNDEFINED_FUNCTION
            | SqlState::FEATURE_NOT_SUPPORTED
            | SqlState::GROUPING_ERROR
            | SqlState::AMBIGUOUS_FUNCTION
            | SqlState::WRONG_OBJECT_TYPE
            | WINDOWING_ERROR => self.at(error, span),
            _ => error,
        })
    }

    fn bind_call(&self, name: &str, function: &ast::Function, at: At) -> Result<TypedExpr, PgError> {
        if !matches!(function.parameters, ast::FunctionArguments::None) {
            return Err(PgError::unsupported(format!("{name} with two lists of arguments")));
        }
        let wrong = |message: String| Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
        let ranks_hypothetically = is_hypothetical(name) && !function.within_group.is_empty();
        match (function.within_group.is_empty(), is_ordered_set(name) || ranks_hypothetically) {
            (true, true) => {
                let arguments = self.bind_arguments(name, function, at)?.args;
                let types: Vec<String> = arguments.iter().map(|argument| argument.sql_type.sql_name()).collect();
                let message = format!("function {name}({}) does not exist", types.join(", "));
                return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message));
            }
            (false, false) if is_aggregate(name) => {
                return wrong(format!("{name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP"));
            }
            (false, false) => return Err(PgError::unsupported(format!("{name} with WITHIN GROUP"))),
            (false, true) if function.over.is_some() => {
                return Err(PgError::unsupported(format!("OVER for ordered-set aggregate {name}")));
            }
            _ => {}
        }
        if function.null_treatment.is_some() {
            return Err(PgError::unsupported("IGNORE NULLS or RESPECT NULLS"));
        }
        if let ast::FunctionArguments::Subquery(query) = &function.args {
            return match name {
                "array" => self.bind_array_subquery(query, at),
                _ => Err(PgError::unsupported(format!("a subquery as the argument list of {name}"))),
            };
        }
        if let Some(over) = &function.over {
            return self.bind_window_function(name, function, over, at);
        }
        if name == "grouping" {
            return self.bind_grouping(function, at);
        }
        if ranks_hypothetically || is_aggregate(name) && !(is_function(name) && function.filter.is_none()) {
            return self.bind_aggregate(name, function, at);
        }
        if super::window::is_window_function(name) {
            let message = format!("window function {name} requires an OVER clause");
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        if is_set_returning(name) {
            refuse_set_in(at)?;
            return set_returning(name, self.plain_arguments(name, function, at)?);
        }
        let arguments = self.bind_arguments(name, function, at)?;
        for (present, what) in [
            (arguments.distinct, "DISTINCT"),
            (arguments.star, "*"),
            (!arguments.order_by.is_empty(), "ORDER BY"),
            (function.filter.is_some(), "FILTER"),
        ] {
            if present && is_function(name) {
                let message = format!("{what} specified, but {name} is not an aggregate function");
                return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
            }
        }
        self.call(name, arguments.args)
    }

    fn bind_arguments(&self, name: &str, function: &ast::Function, at: At) -> Result<Arguments, PgError> {
        let mut bound = Arguments { args: Vec::new(), star: false, distinct: false, order_by: Vec::new() };
        let list = match &function.args {
            ast::FunctionArguments::None => return Ok(bound),
            ast::FunctionArguments::List(list) => list,
            ast::FunctionArguments::Subquery(_) => return Err(PgError::unsupported("a subquery as argument list")),
        };
        bound.distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
        for clause in &list.clauses {
            match clause {
                ast::FunctionArgumentClause::OrderBy(order_by) => bound.order_by = order_by.clone(),
                other => return Err(PgError::unsupported(format!("\"{other}\" within a call"))),
            }
        }
        for arg in &list.args {
            match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => {
                    let row = match expr {
                        ast::Expr::Identifier(ident) if takes_rows(name) => self.row_as_json(ident, at.env)?,
                        _ => None,
                    };
                    bound.args.push(match row {
                        Some(row) => row,
                        None => self.bind_at(expr, at)?,
                    });
                }
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard) if list.args.len() == 1 => bound.star = true,
                _ => return Err(PgError::unsupported(format!("this argument of {name}"))),
            }
        }
        Ok(bound)
    }

    fn bind_aggregate(&self, name: &str, function: &ast::Function, at: At) -> Result<TypedExpr, PgError> {
        let refuse = |message: String| Err(PgError::new(SqlState::GROUPING_ERROR, message));
        if at.inside == Inside::Aggregate {
            return refuse("aggregate function calls cannot be nested".to_string());
        }
        if !matches!(at.clause, Clause::Select | Clause::Having | Clause::OrderBy | Clause::DistinctOn | Clause::Window)
        {
            return refuse(format!("aggregate functions are not allowed in {}", at.clause.name()));
        }
        let typed = self.aggregate_call(name, function, at)?;
        let outer_only = any_expr(&typed.expr, |expr| matches!(expr, Expr::OuterReferenceColumn(..)))
            && !any_expr(&typed.expr, |expr| matches!(expr, Expr::Column(_)));
        if outer_only {
            // PostgreSQL evaluates it in the outer query, as the standard says.
            return Err(PgError::unsupported("an aggregate over columns of an outer query only"));
        }
        self.aggregated.set(true);
        Ok(typed)
    }

    /// The aggregate itself, as an `Expr::AggregateFunction`, whether it groups or runs over a window.
    pub(crate) fn aggregate_call(&self, name: &str, function: &ast::Function, at: At) -> Result<TypedExpr, PgError> {
        if function.over.is_some() {
            return self.aggregate_over(name, function, At { inside: Inside::Window, ..at });
        }
        self.aggregate_depth.set(self.aggregate_depth.get() + 1);
        let result = self.aggregate_over(name, function, At { inside: Inside::Aggregate, ..at });
        self.aggregate_depth.set(self.aggregate_depth.get() - 1);
        result
    }

    fn aggregate_over(&self, name: &str, function: &ast::Function, inside: At) -> Result<TypedExpr, PgError> {
        let arguments = self.bind_arguments(name, function, inside)?;
        if !function.within_group.is_empty() {
            return self.ordered_set(name, function, arguments, inside);
        }
        if arguments.star && name != "count" {
            let message = format!("{name}(*) specified, but {name} takes an argument");
            return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message));
        }
        if !arguments.star && arguments.args.is_empty() {
            let message = if name == "count" {
                "count(*) must be used to call a parameterless aggregate function".to_string()
            } else {
                format!("function {name}() does not exist")
            };
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        let filter = self.bind_filter(function, inside)?;
        let mut order_by = Vec::new();
        for item in &arguments.order_by {
            order_by.push(sort_key(self.bind_at(&item.expr, inside)?, &item.options)?);
        }
        resolve_aggregate(name, arguments.args, arguments.distinct, filter, order_by)
    }

    fn bind_filter(&self, function: &ast::Function, inside: At) -> Result<Option<Expr>, PgError> {
        match &function.filter {
            None => Ok(None),
            Some(filter) => {
                let typed = self.bind_at(filter, At { clause: Clause::Filter, ..inside })?;
                self.boolean(typed, "FILTER").map(Some)
            }
        }
    }

    /// `name(fraction) WITHIN GROUP (ORDER BY value)`.
    fn ordered_set(
        &self,
        name: &str,
        function: &ast::Function,
        arguments: Arguments,
        inside: At,
    ) -> Result<TypedExpr, PgError> {
        let undefined = || PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
        if arguments.distinct || arguments.star || !arguments.order_by.is_empty() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "cannot use DISTINCT or ORDER BY with WITHIN GROUP"));
        }
        if is_hypothetical(name) {
            return self.hypothetical(name, function, arguments.args, inside);
        }
        let [item] = function.within_group.as_slice() else { return Err(undefined()) };
        let value = ordered_set_value(name, self.bind_at(&item.expr, inside)?)?;
        let fraction = match (name, <[TypedExpr; 1]>::try_from(arguments.args)) {
            ("mode", Err(none)) if none.is_empty() => None,
            ("percentile_cont" | "percentile_disc", Ok([fraction])) => Some(percentile_fraction(name, fraction)?),
            _ => return Err(undefined()),
        };
        let sort = sort_key(value.clone(), &item.options)?;
        let filter = self.bind_filter(function, inside)?;
        resolve_ordered_set(name, fraction, value, sort, filter)
    }

    /// `name(value, ..) WITHIN GROUP (ORDER BY expr, ..)`, as many values as expressions.
    fn hypothetical(
        &self,
        name: &str,
        function: &ast::Function,
        arguments: Vec<TypedExpr>,
        inside: At,
    ) -> Result<TypedExpr, PgError> {
        if arguments.len() != function.within_group.len() {
            let message = format!("function {name} does not exist");
            let (wanted, given) = (function.within_group.len(), arguments.len());
            let hint = format!(
                "To use the hypothetical-set aggregate {name}, the number of hypothetical direct arguments (here {given}) \
                 must match the number of ordering columns (here {wanted})."
            );
            return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(hint));
        }
        let (mut row, mut order) = (Vec::new(), Vec::new());
        for (argument, item) in arguments.into_iter().zip(&function.within_group) {
            let value = self.bind_at(&item.expr, inside)?;
            let sql_type = common_type("WITHIN GROUP", &[&value, &argument])?;
            // Both as keys of any scale: at the one scale of a column a key is the value as it is.
            let of_any_scale = |typed: TypedExpr| -> Result<TypedExpr, PgError> {
                Ok(TypedExpr { typmod: -1, ..cast(typed, &sql_type, -1, CastContext::Implicit)? })
            };
            let Some(argument) = constant(&equality_key(of_any_scale(argument)?))? else {
                return Err(PgError::unsupported(format!("a value of {name} WITHIN GROUP that is not a constant")));
            };
            row.push(Expr::Literal(argument, None));
            order.push(sort_key(of_any_scale(value)?, &item.options)?);
        }
        let filter = self.bind_filter(function, inside)?;
        resolve_hypothetical(name, row, order, filter)
    }

    /// The arguments of a call that takes nothing else.
    pub(crate) fn plain_arguments(
        &self,
        name: &str,
        function: &ast::Function,
        at: At,
    ) -> Result<Vec<TypedExpr>, PgError> {
        let arguments = self.bind_arguments(name, function, at)?;
        if arguments.distinct || arguments.star || !arguments.order_by.is_empty() || function.filter.is_some() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, format!("{name} takes expressions only")));
        }
        Ok(arguments.args)
    }

    /// The arguments of a window function that is no aggregate.
    pub(crate) fn window_arguments(
        &self,
        name: &str,
        function: &ast::Function,
        at: At,
    ) -> Result<Vec<TypedExpr>, PgError> {
        let arguments = self.bind_arguments(name, function, At { inside: Inside::Window, ..at })?;
        if arguments.distinct || arguments.star || !arguments.order_by.is_empty() || function.filter.is_some() {
            let message = format!("DISTINCT, *, ORDER BY and FILTER mean nothing for window function {name}");
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        Ok(arguments.args)
    }
}

/// A percentile's fraction, or an array of them, as a literal.
fn percentile_fraction(name: &str, fraction: TypedExpr) -> Result<TypedExpr, PgError> {
    let changing = || PgError::unsupported(format!("a fraction of {name} that is not a constant"));
    if !matches!(fraction.sql_type, SqlType::Array(_)) {
        let typed = crate::cast::cast(fraction, &SqlType::Float8, -1, crate::cast::CastContext::Implicit)?;
        let value = constant(&typed.expr)?.ok_or_else(changing)?;
        return Ok(TypedExpr { expr: Expr::Literal(value, None), ..typed });
    }
    let ScalarValue::List(list) = constant(&fraction.expr)?.ok_or_else(changing)? else {
        return Err(PgError::internal("an array that is no list"));
    };
    let mut fractions = Vec::new();
    for row in 0..if list.is_null(0) { 0 } else { list.value(0).len() } {
        let element = list.value(0);
        fractions.push(match ScalarValue::try_from_array(&element, row).map_err(internal)? {
            ScalarValue::LargeBinary(numeric) => {
                ScalarValue::Float64(numeric.map(|numeric| Numeric::decode(&numeric).to_f64()))
            }
            number => number.cast_to(&DataType::Float64).map_err(internal)?,
        });
    }
    let list = match list.is_null(0) {
        true => ScalarValue::try_from(&DataType::new_list(DataType::Float64, true)).map_err(internal)?,
        false => ScalarValue::List(ScalarValue::new_list_nullable(&fractions, &DataType::Float64)),
    };
    Ok(TypedExpr::new(Expr::Literal(list, None), SqlType::Array(Box::new(SqlType::Float8))))
}

/// Set-returning functions stand in the SELECT list and what goes with it.
fn refuse_set_in(at: At) -> Result<(), PgError> {
    let message = match (at.inside, at.clause) {
        (Inside::Aggregate, _) => "aggregate function calls cannot contain set-returning function calls".to_string(),
        (Inside::Window, _) => "window function calls cannot contain set-returning function calls".to_string(),
        (_, Clause::Select | Clause::GroupBy | Clause::OrderBy | Clause::DistinctOn) => return Ok(()),
        (_, clause) => format!("set-returning functions are not allowed in {}", clause.name()),
    };
    Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
}

fn coalesce(args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let mut args = unify("COALESCE", &args.iter().collect::<Vec<_>>())?;
    let typmod = shared_typmod(&args);
    let Some(last) = args.pop() else {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "COALESCE needs an argument"));
    };
    let branches = args.into_iter().map(|typed| (typed.expr.clone().is_not_null(), typed.expr)).collect::<Vec<_>>();
    let expr = if branches.is_empty() { last.expr } else { case(branches, last.expr) };
    Ok(TypedExpr { expr, sql_type: last.sql_type, typmod })
}

/// What a constant expression comes to; None if it reads a column or a parameter. Errors: those of the evaluation.
pub(crate) fn constant(expr: &Expr) -> Result<Option<ScalarValue>, PgError> {
    if let Expr::Literal(value, _) = expr {
        return Ok(Some(value.clone()));
    }
    // What asks the catalog or the session is known when the statement runs.
    if !is_constant(expr) || crate::functions::catalog::calls(expr).map_err(internal)? {
        return Ok(None);
    }
    let schema = DFSchema::empty();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(|error| PgError::internal(error.to_string()))?;
    let value = create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
        .and_then(|physical| physical.evaluate(&row))
        .and_then(|value| match value {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
        });
    value.map(Some).map_err(internal)
}

/// An integer that is known now, such as an offset of `lag`.
pub(crate) fn constant_integer(typed: TypedExpr, what: &str) -> Result<i64, PgError> {
    let typed = crate::cast::cast(typed, &SqlType::Int8, -1, crate::cast::CastContext::Implicit)?;
    match constant(&typed.expr)? {
        Some(ScalarValue::Int64(Some(value))) => Ok(value),
        _ => Err(PgError::unsupported(format!("{what} that is not a constant"))),
    }
}
