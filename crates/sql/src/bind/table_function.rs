//! Functions in FROM: TUMBLE, HOP, CUMULATE and SESSION over a relation, those that return sets ([`rows`]), and any scalar
//! function as one row.
//!
//! A function's arguments may read the items before it, without LATERAL being said.

use datafusion::common::{Column, ScalarValue, UnnestOptions};
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, Unnest, lit};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;
use std::sync::Arc;

use super::Binder;
use super::build::{any_expr, extend, internal, one_row, project, replace};
use super::expr::Clause;
use super::from::{Item, name_text};
use super::function::{built_in_name, constant};
use super::query::{Output, OutputColumn};
use super::scope::{Env, Scope, ScopeColumn, fold};
use crate::cast::{CastContext, cast};
use crate::functions::set_returning::{SetColumn, is_set_returning, resolve_set};
use crate::parse::ROWS_FROM;
use crate::typed::TypedExpr;

mod rows;
mod session;
pub(crate) mod window_udf;

use rows::{RowsCall, listed_calls, returns_record};
use window_udf::{WindowFunction, WindowPart};

/// The table functions whose windows depend on a row's time alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Windows {
    Tumble,
    Hop,
    Cumulate,
}

impl Windows {
    fn name(self) -> &'static str {
        match self {
            Windows::Tumble => "TUMBLE",
            Windows::Hop => "HOP",
            Windows::Cumulate => "CUMULATE",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Windows::Tumble => "TUMBLE(relation, time column, size [, offset])",
            Windows::Hop => "HOP(relation, time column, slide, size [, offset])",
            Windows::Cumulate => "CUMULATE(relation, time column, step, size [, offset])",
        }
    }
}

impl Binder<'_> {
    /// `name(args)` in FROM. `env` sees the items before it.
    pub(crate) fn bind_table_function(
        &self,
        name: &ast::ObjectName,
        args: &[ast::FunctionArg],
        with_ordinality: bool,
        alias: Option<&ast::TableAlias>,
        env: &Env,
    ) -> Result<Item, PgError> {
        let text = name_text(name);
        let function = built_in_name(&text).to_string();
        let args = positional(args, &function)?;
        match function.as_str() {
            "tumble" => self.bind_window(&args, alias, env, Windows::Tumble),
            "hop" => self.bind_window(&args, alias, env, Windows::Hop),
            "cumulate" => self.bind_window(&args, alias, env, Windows::Cumulate),
            "session" => self.bind_session(&args, alias, env),
            ROWS_FROM => self.bind_rows(&listed_calls(&args)?, with_ordinality, alias, env),
            name if with_ordinality || is_set_returning(name) || returns_record(name) => {
                self.bind_rows(&[RowsCall { function, args }], with_ordinality, alias, env)
            }
            _ => {
                let mut bound = Vec::new();
                for arg in &args {
                    bound.push(self.bind_expr(arg, env, Clause::FromFunction)?);
                }
                let typed = self.call(&function, bound)?;
                let mut expr = typed.expr.clone();
                let plan = self.resolve_subqueries(one_row(), &mut [&mut expr])?;
                let (expr, column) = self.named(expr);
                let typed = TypedExpr { expr: Expr::Column(column), ..typed };
                self.function_item(project(plan, vec![expr])?, typed, &function, alias)
            }
        }
    }

    /// `UNNEST(array, ..)` in FROM.
    pub(crate) fn bind_unnest(
        &self,
        arrays: &[ast::Expr],
        with_ordinality: bool,
        alias: Option<&ast::TableAlias>,
        env: &Env,
    ) -> Result<Item, PgError> {
        let call = RowsCall { function: "unnest".to_string(), args: arrays.iter().collect() };
        self.bind_rows(&[call], with_ordinality, alias, env)
    }

    /// Makes rows of the set-returning calls in `exprs`, which read `plan`, and columns of the calls. Calls run side by
    /// side, the arguments of others before them.
    pub(crate) fn unnest_calls(&self, plan: LogicalPlan, exprs: &mut [&mut Expr]) -> Result<LogicalPlan, PgError> {
        let is_call = |expr: &Expr| matches!(expr, Expr::Unnest(_));
        let mut plan = plan;
        loop {
            let mut calls: Vec<Expr> = Vec::new();
            for expr in exprs.iter() {
                if any_expr(expr, |expr| matches!(expr, Expr::Case(_)) && any_expr(expr, is_call)) {
                    let message = "set-returning functions are not allowed in CASE";
                    return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
                }
                any_expr(expr, |expr| {
                    if let Expr::Unnest(list) = expr
                        && !any_expr(&list.expr, is_call)
                        && !calls.contains(expr)
                    {
                        calls.push(expr.clone());
                    }
                    false
                });
            }
            if calls.is_empty() {
                return Ok(plan);
            }
            let (mut lists, mut columns) = (Vec::new(), Vec::new());
            for call in &calls {
                let Expr::Unnest(list) = call else { return Err(PgError::internal("a call that returns no set")) };
                let (list, column) = self.named(list.expr.as_ref().clone());
                lists.push(list);
                columns.push(column);
            }
            plan = unnest(extend(plan, lists)?, columns.clone())?;
            for expr in exprs.iter_mut() {
                let found = |expr: &Expr| {
                    calls.iter().position(|call| call == expr).map(|index| Expr::Column(columns[index].clone()))
                };
                **expr = replace(std::mem::take(&mut **expr), found)?;
            }
        }
    }

    /// A function's rows as a relation: it and its one column take the alias's name.
    fn function_item(
        &self,
        plan: LogicalPlan,
        typed: TypedExpr,
        function: &str,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Item, PgError> {
        let name = alias.map_or_else(|| function.to_string(), |alias| fold(&alias.name));
        let column = OutputColumn { name: name.clone(), typed, nullable: true, constant: None };
        let output = Output { plan, columns: vec![column] };
        match alias {
            Some(alias) => self.aliased(output, alias),
            None => {
                let scope = output.scope(&name);
                Ok((output.plan, scope))
            }
        }
    }

    /// `TUMBLE(t, ts, size [, offset])`, `HOP(t, ts, slide, size [, offset])` and `CUMULATE(t, ts, step, size [, offset])`:
    /// t's columns, `window_start`, `window_end`.
    fn bind_window(
        &self,
        args: &[&ast::Expr],
        alias: Option<&ast::TableAlias>,
        env: &Env,
        windows: Windows,
    ) -> Result<Item, PgError> {
        let function = windows.name();
        let least = if windows == Windows::Tumble { 3 } else { 4 };
        if !(least..=least + 1).contains(&args.len()) {
            return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, format!("{function} takes {}", windows.usage())));
        }
        let (plan, scope) = self.window_input(args[0], env, function)?;
        let over = Env::Scope { scope: &scope, parent: &Env::Root };
        let time = self.window_time(args[1], &over, function)?;
        let mut lengths = Vec::new();
        for arg in &args[2..] {
            lengths.push(self.window_length(arg, &time.sql_type, function)?);
        }
        let (slide, size, offset) = match (windows, lengths.as_slice()) {
            (Windows::Tumble, [size]) => (*size, *size, 0),
            (Windows::Tumble, [size, offset]) => (*size, *size, *offset),
            (_, [slide, size]) => (*slide, *size, 0),
            (_, [slide, size, offset]) => (*slide, *size, *offset),
            _ => return Err(PgError::internal("window arguments were counted wrong")),
        };
        let invalid = |message: String| Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        if slide <= 0 || size <= 0 {
            return invalid(format!("{function} needs a size greater than zero"));
        }
        if windows == Windows::Cumulate && size % slide != 0 {
            return invalid(format!("{function} needs a size that is a multiple of its step"));
        }
        let count = (size - 1) / slide + 1;
        if count > 10_000 {
            let message = format!("{function} would put each row into {count} windows");
            return Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }

        let part = |part: WindowPart, time: Expr, slide: i64| {
            ScalarUDF::from(WindowFunction::new(part)).call(vec![time, lit(slide), lit(size), lit(offset)])
        };
        let sql_type = time.sql_type.clone();
        let (plan, start, end) = match windows {
            Windows::Tumble => {
                let (starts, column) = self.named(part(WindowPart::TumbleStart, time.expr, slide));
                let start = Expr::Column(column);
                (extend(plan, vec![starts])?, start.clone(), part(WindowPart::End, start, slide))
            }
            Windows::Hop => {
                let (starts, column) = self.named(part(WindowPart::HopStarts, time.expr, slide));
                let plan = unnest(extend(plan, vec![starts])?, vec![column.clone()])?;
                let start = Expr::Column(column);
                (plan, start.clone(), part(WindowPart::End, start, slide))
            }
            Windows::Cumulate => {
                let (start, start_column) = self.named(part(WindowPart::TumbleStart, time.expr.clone(), size));
                let (ends, column) = self.named(part(WindowPart::CumulateEnds, time.expr, slide));
                let plan = unnest(extend(plan, vec![start, ends])?, vec![column.clone()])?;
                (plan, Expr::Column(start_column), Expr::Column(column))
            }
        };
        let (end, end_column) = self.named(end);
        let plan = extend(plan, vec![end])?;
        self.window_item(plan, &scope, [start, Expr::Column(end_column)], &sql_type, alias)
    }

    /// The column by which windows are told apart: of a timestamp or integer type.
    fn window_time(&self, expr: &ast::Expr, over: &Env, function: &str) -> Result<TypedExpr, PgError> {
        let time = self.bind_expr(expr, over, Clause::FromFunction)?;
        match time.sql_type {
            SqlType::Timestamp | SqlType::Timestamptz | SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => Ok(time),
            SqlType::Date => cast(time, &SqlType::Timestamp, -1, CastContext::Implicit),
            other => {
                let message =
                    format!("{function} needs a time column of a timestamp or integer type, not {}", other.sql_name());
                Err(PgError::new(SqlState::DATATYPE_MISMATCH, message))
            }
        }
    }

    /// The relation's columns, then the start and the end of each row's window, which are of type `sql_type`.
    fn window_item(
        &self,
        plan: LogicalPlan,
        scope: &Scope,
        [start, end]: [Expr; 2],
        sql_type: &SqlType,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Item, PgError> {
        let mut columns: Vec<ScopeColumn> = scope.visible.iter().map(|visible| visible.column.clone()).collect();
        for (name, expr) in [("window_start", start), ("window_end", end)] {
            let typed = TypedExpr::new(expr, sql_type.clone());
            columns.push(ScopeColumn { name: name.to_string(), typed, nullable: true });
        }
        // Without an alias the relation keeps its name: `FROM TUMBLE(bid, ..) WHERE bid.price > 3`.
        let name = scope.relations.first().map(|relation| relation.name.clone()).unwrap_or_default();
        let name = alias.map_or(name, |alias| fold(&alias.name));
        let scope = Scope::of_relation(&name, None, columns, None);
        match alias {
            Some(alias) if !alias.columns.is_empty() => self.aliased(super::query::star_output(plan, &scope), alias),
            _ => Ok((plan, scope)),
        }
    }

    fn window_input(&self, expr: &ast::Expr, env: &Env, function: &str) -> Result<Item, PgError> {
        let relation = |idents: &[ast::Ident]| {
            ast::ObjectName(idents.iter().cloned().map(ast::ObjectNamePart::Identifier).collect())
        };
        match expr {
            ast::Expr::Identifier(ident) => self.bind_relation(&relation(std::slice::from_ref(ident)), None, env),
            ast::Expr::CompoundIdentifier(idents) => self.bind_relation(&relation(idents), None, env),
            ast::Expr::Nested(inner) => self.window_input(inner, env, function),
            ast::Expr::Subquery(query) => {
                let output = self.bind_query(query, env, false)?;
                let scope = output.scope("");
                Ok((output.plan, scope))
            }
            _ => Err(PgError::new(
                SqlState::SYNTAX_ERROR,
                format!("the first argument of {function} must be a relation or a subquery"),
            )),
        }
    }

    /// A constant in the unit of the time column: an integer for an integer, an interval in microseconds for a timestamp.
    pub(super) fn window_length(&self, expr: &ast::Expr, time: &SqlType, function: &str) -> Result<i64, PgError> {
        let typed = self.bind_expr(expr, &Env::Root, Clause::FromFunction)?;
        let invalid = |message: String| Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        if !matches!(time, SqlType::Int2 | SqlType::Int4 | SqlType::Int8) {
            if matches!(typed.sql_type, SqlType::Int2 | SqlType::Int4 | SqlType::Int8) {
                return Err(mixed(function, time, "an interval", &typed.sql_type));
            }
            let typed = cast(typed, &SqlType::Interval, -1, CastContext::Implicit)?;
            return match constant(&typed.expr)? {
                Some(ScalarValue::IntervalMonthDayNano(Some(length))) if length.months == 0 => {
                    Ok(i64::from(length.days) * 86_400_000_000 + length.nanoseconds / 1_000)
                }
                Some(ScalarValue::IntervalMonthDayNano(Some(_))) => {
                    invalid(format!("{function} needs an interval of days or less: months differ in length"))
                }
                _ => invalid(format!("{function} needs a constant interval")),
            };
        }
        match &typed.sql_type {
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Unknown => {}
            other => return Err(mixed(function, time, "an integer", other)),
        }
        let typed = cast(typed, &SqlType::Int8, -1, CastContext::Implicit)?;
        match constant(&typed.expr)? {
            Some(ScalarValue::Int64(Some(length))) => Ok(length),
            _ => invalid(format!("{function} needs a constant integer")),
        }
    }
}

/// A window's length that does not fit the time column it is measured on.
fn mixed(function: &str, time: &SqlType, wanted: &str, given: &SqlType) -> PgError {
    let message = format!(
        "{function} over a column of type {} needs {wanted} as size, not {}",
        time.sql_name(),
        given.sql_name()
    );
    PgError::new(SqlState::DATATYPE_MISMATCH, message)
}

/// A set-returning call among other expressions: `Expr::Unnest` until [`Binder::unnest_calls`] makes rows of it.
pub(crate) fn set_returning(name: &str, args: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    let types: Vec<String> = args.iter().map(|arg| arg.sql_type.sql_name()).collect();
    let [column] = <[SetColumn; 1]>::try_from(resolve_set(name, args)?.columns).map_err(|_| match name {
        "unnest" => {
            let message = format!("function unnest({}) does not exist", types.join(", "));
            PgError::new(SqlState::UNDEFINED_FUNCTION, message)
        }
        _ => PgError::unsupported(format!("{name} in a SELECT list")).with_hint("Call it in FROM."),
    })?;
    let expr = Expr::Unnest(datafusion::logical_expr::expr::Unnest::new(column.list));
    Ok(TypedExpr { expr, sql_type: column.element, typmod: column.typmod })
}

/// One row an element of the longest of the lists in `columns`, which become their elements, and NULL after the last. No
/// row where all are NULL or empty.
pub(crate) fn unnest(plan: LogicalPlan, columns: Vec<Column>) -> Result<LogicalPlan, PgError> {
    let options = UnnestOptions::new().with_preserve_nulls(false);
    Unnest::try_new(Arc::new(plan), columns, options).map(LogicalPlan::Unnest).map_err(internal)
}

/// The arguments of a call in FROM, which has no use for names or `*`.
fn positional<'e>(args: &'e [ast::FunctionArg], function: &str) -> Result<Vec<&'e ast::Expr>, PgError> {
    args.iter()
        .map(|arg| match arg {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Ok(expr),
            _ => Err(PgError::unsupported(format!("this argument of {function}"))),
        })
        .collect()
}

/// Whether `expr` reads no row at all.
pub(crate) fn is_constant(expr: &Expr) -> bool {
    !any_expr(expr, |expr| matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::Placeholder(_)))
}
