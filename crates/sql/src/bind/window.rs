//! Window functions: OVER, WINDOW and frames, and the `LogicalPlan::Window` nodes that compute them.
//!
//! A call stays in its expression as an `Expr::WindowFunction` until the stage after grouping, where each distinct call
//! becomes a column. Calls with the same partition and order share a node.

mod frame_value;
pub(crate) mod ties;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions_window::{cume_dist, lead_lag, nth_value, ntile, rank, row_number};
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr, LogicalPlan, SortExpr, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    WindowUDF, lit,
};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;

use super::Binder;
use super::build::{any_expr, filter, internal, replace};
use super::expr::{At, Clause, Inside};
use super::function::constant_integer;
use super::query::sort_key;
use super::scope::{Scope, fold};
use crate::cast::{CastContext, cast, common_type};
use crate::functions::{is_aggregate, over_window};
use crate::operators::equality_key;
use crate::typed::TypedExpr;
use ties::Definite;

/// A windowing error, `42P20`.
pub(crate) const WINDOWING_ERROR: SqlState = SqlState("42P20");

/// The window functions that are not aggregates.
pub(crate) fn is_window_function(name: &str) -> bool {
    matches!(
        name,
        "row_number"
            | "rank"
            | "dense_rank"
            | "percent_rank"
            | "cume_dist"
            | "ntile"
            | "lag"
            | "lead"
            | "first_value"
            | "last_value"
            | "nth_value"
    )
}

/// What OVER says.
#[derive(Clone)]
pub(crate) struct Over {
    pub(crate) partition_by: Vec<Expr>,
    pub(crate) order_by: Vec<SortExpr>,
    pub(crate) frame: WindowFrame,
}

impl Binder<'_> {
    /// `name(..) OVER ..`
    pub(crate) fn bind_window_function(
        &self,
        name: &str,
        function: &ast::Function,
        over: &ast::WindowType,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        match at.inside {
            Inside::Neither => {}
            Inside::Aggregate => {
                let message = "aggregate function calls cannot contain window function calls";
                return Err(PgError::new(SqlState::GROUPING_ERROR, message));
            }
            Inside::Window => {
                return Err(PgError::new(WINDOWING_ERROR, "window function calls cannot be nested"));
            }
        }
        if !matches!(at.clause, Clause::Select | Clause::OrderBy | Clause::DistinctOn) {
            let message = format!("window functions are not allowed in {}", at.clause.name());
            return Err(PgError::new(WINDOWING_ERROR, message));
        }
        let over = self.bind_over(over, at)?;
        if is_window_function(name) {
            return self.ranking_call(name, function, over, at);
        }
        if !is_aggregate(name) {
            let message = format!("OVER specified, but {name} is not a window function nor an aggregate function");
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        let typed = self.aggregate_call(name, function, at)?;
        let Expr::AggregateFunction(aggregate) = typed.expr else {
            return Err(PgError::internal(format!("aggregate {name} is not an aggregate")));
        };
        if aggregate.params.distinct {
            return Err(PgError::unsupported("DISTINCT for an aggregate over a window"));
        }
        if !aggregate.params.order_by.is_empty() {
            return Err(PgError::unsupported("ORDER BY for an aggregate over a window"));
        }
        let function = WindowFunctionDefinition::AggregateUDF(over_window(&aggregate.func));
        let expr = window_call(function, aggregate.params.args, over, aggregate.params.filter);
        Ok(TypedExpr { expr, ..typed })
    }

    fn ranking_call(&self, name: &str, function: &ast::Function, over: Over, at: At) -> Result<TypedExpr, PgError> {
        let mut args = self.window_arguments(name, function, at)?;
        let wanted = match name {
            "ntile" | "first_value" | "last_value" => 1..=1,
            "nth_value" => 2..=2,
            "lag" | "lead" => 1..=3,
            _ => 0..=0,
        };
        if !wanted.contains(&args.len()) {
            let types: Vec<String> = args.iter().map(|arg| arg.sql_type.sql_name()).collect();
            let message = format!("function {name}({}) does not exist", types.join(", "));
            return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message));
        }
        let call = |udf: Arc<WindowUDF>, args: Vec<Expr>| {
            window_call(WindowFunctionDefinition::WindowUDF(udf), args, over.clone(), None)
        };
        let counted = |udf: Arc<WindowUDF>, args: Vec<Expr>, sql_type: SqlType| {
            let expr = datafusion::logical_expr::cast(call(udf, args), sql_type.arrow());
            Ok(TypedExpr::new(expr, sql_type))
        };
        let valued =
            |udf: Arc<WindowUDF>, args: Vec<Expr>, value: TypedExpr| Ok(TypedExpr { expr: call(udf, args), ..value });
        match name {
            "row_number" => counted(row_number::row_number_udwf(), Vec::new(), SqlType::Int8),
            "rank" => counted(rank::rank_udwf(), Vec::new(), SqlType::Int8),
            "dense_rank" => counted(rank::dense_rank_udwf(), Vec::new(), SqlType::Int8),
            "percent_rank" => Ok(TypedExpr::new(call(rank::percent_rank_udwf(), Vec::new()), SqlType::Float8)),
            "cume_dist" => Ok(TypedExpr::new(call(cume_dist::cume_dist_udwf(), Vec::new()), SqlType::Float8)),
            "ntile" => {
                let buckets = constant_integer(args.remove(0), "a bucket count")?;
                if buckets <= 0 {
                    return Err(PgError::new(SqlState("22014"), "argument of ntile must be greater than zero"));
                }
                counted(ntile::ntile_udwf(), vec![lit(buckets)], SqlType::Int4)
            }
            "first_value" | "last_value" => {
                let value = known(args.remove(0))?;
                let udf =
                    if name == "first_value" { nth_value::first_value_udwf() } else { nth_value::last_value_udwf() };
                valued(udf, vec![value.expr.clone()], value)
            }
            "nth_value" => {
                let position = constant_integer(args.remove(1), "a position")?;
                if position <= 0 {
                    return Err(PgError::new(SqlState("22016"), "argument of nth_value must be greater than zero"));
                }
                let value = known(args.remove(0))?;
                valued(nth_value::nth_value_udwf(), vec![value.expr.clone(), lit(position)], value)
            }
            _ => {
                let udf = if name == "lag" { lead_lag::lag_udwf() } else { lead_lag::lead_udwf() };
                let default = (args.len() == 3).then(|| args.remove(2));
                let offset = if args.len() == 2 { constant_integer(args.remove(1), "an offset")? } else { 1 };
                let value = known(args.remove(0))?;
                let Some(default) = default else {
                    return valued(udf, vec![value.expr.clone(), lit(offset)], value);
                };
                let sql_type = common_type(name, &[&value, &default])?;
                let value = cast(value, &sql_type, -1, CastContext::Implicit)?;
                let default = cast(default, &sql_type, -1, CastContext::Implicit)?;
                let Some(default) = super::function::constant(&default.expr)? else {
                    return Err(PgError::unsupported(format!("a default of {name} that is not a constant")));
                };
                valued(udf, vec![value.expr.clone(), lit(offset), lit(default)], value)
            }
        }
    }

    fn bind_over(&self, over: &ast::WindowType, at: At) -> Result<Over, PgError> {
        match over {
            ast::WindowType::NamedWindow(name) => self.bind_spec(self.window_named(name, at)?, at, true),
            ast::WindowType::WindowSpec(spec) => self.bind_spec(spec, at, true),
        }
    }

    fn window_named<'e>(&self, name: &ast::Ident, at: At<'e>) -> Result<&'e ast::WindowSpec, PgError> {
        let wanted = fold(name);
        let mut next = wanted.clone();
        // A window defined as another one's name: each step must reach another definition.
        for _ in 0..=at.windows.len() {
            let Some(definition) = at.windows.iter().find(|definition| fold(&definition.0) == next) else { break };
            match &definition.1 {
                ast::NamedWindowExpr::WindowSpec(spec) => return Ok(spec),
                ast::NamedWindowExpr::NamedWindow(other) => next = fold(other),
            }
        }
        let error = PgError::new(SqlState::UNDEFINED_OBJECT, format!("window \"{wanted}\" does not exist"));
        Err(self.at(error, name.span))
    }

    fn bind_spec(&self, spec: &ast::WindowSpec, at: At, with_frame: bool) -> Result<Over, PgError> {
        let inside = At { clause: Clause::Window, inside: Inside::Neither, ..at };
        let mut over = match &spec.window_name {
            Some(base) => self.bind_spec(self.window_named(base, at)?, at, false)?,
            None => Over { partition_by: Vec::new(), order_by: Vec::new(), frame: WindowFrame::new(None) },
        };
        if spec.window_name.is_some() && !spec.partition_by.is_empty() {
            let message = "cannot override PARTITION BY clause of a window";
            return Err(PgError::new(WINDOWING_ERROR, message));
        }
        for expr in &spec.partition_by {
            over.partition_by.push(equality_key(known(self.bind_at(expr, inside)?)?));
        }
        if !spec.order_by.is_empty() {
            if !over.order_by.is_empty() {
                return Err(PgError::new(WINDOWING_ERROR, "cannot override ORDER BY clause of a window"));
            }
            for item in &spec.order_by {
                over.order_by.push(sort_key(known(self.bind_at(&item.expr, inside)?)?, &item.options)?);
            }
        }
        if with_frame {
            over.frame = self.bind_frame(spec.window_frame.as_ref(), !over.order_by.is_empty(), inside)?;
        }
        Ok(over)
    }

    fn bind_frame(&self, frame: Option<&ast::WindowFrame>, ordered: bool, at: At) -> Result<WindowFrame, PgError> {
        let unbounded = || ScalarValue::UInt64(None);
        let whole = WindowFrame::new(None);
        let Some(frame) = frame else {
            return Ok(if ordered { WindowFrame::new(Some(false)) } else { whole });
        };
        let units = match frame.units {
            ast::WindowFrameUnits::Rows => WindowFrameUnits::Rows,
            ast::WindowFrameUnits::Range => WindowFrameUnits::Range,
            ast::WindowFrameUnits::Groups => WindowFrameUnits::Groups,
        };
        let bound = |bound: &ast::WindowFrameBound| -> Result<WindowFrameBound, PgError> {
            let count = |expr: &ast::Expr| -> Result<ScalarValue, PgError> {
                if units == WindowFrameUnits::Range {
                    return Err(PgError::unsupported("RANGE with an offset"));
                }
                let count = constant_integer(self.bind_at(expr, at)?, "a frame's offset")?;
                u64::try_from(count).map(|count| ScalarValue::UInt64(Some(count))).map_err(|_| {
                    PgError::new(SqlState("22013"), "frame starting or ending offset must not be negative")
                })
            };
            Ok(match bound {
                ast::WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
                ast::WindowFrameBound::Preceding(None) => WindowFrameBound::Preceding(unbounded()),
                ast::WindowFrameBound::Following(None) => WindowFrameBound::Following(unbounded()),
                ast::WindowFrameBound::Preceding(Some(expr)) => WindowFrameBound::Preceding(count(expr)?),
                ast::WindowFrameBound::Following(Some(expr)) => WindowFrameBound::Following(count(expr)?),
            })
        };
        let start = bound(&frame.start_bound)?;
        let end = frame.end_bound.as_ref().map(bound).transpose()?.unwrap_or(WindowFrameBound::CurrentRow);
        let rank = |bound: &WindowFrameBound| match bound {
            WindowFrameBound::Preceding(value) if value.is_null() => 0,
            WindowFrameBound::Preceding(_) => 1,
            WindowFrameBound::CurrentRow => 2,
            WindowFrameBound::Following(value) if value.is_null() => 4,
            WindowFrameBound::Following(_) => 3,
        };
        if rank(&start) == 4 || rank(&end) == 0 || rank(&start) > rank(&end) {
            return Err(PgError::new(WINDOWING_ERROR, "the frame cannot end before it starts"));
        }
        if units == WindowFrameUnits::Groups && !ordered {
            return Err(PgError::new(WINDOWING_ERROR, "GROUPS mode requires an ORDER BY clause"));
        }
        if units == WindowFrameUnits::Range && !ordered {
            // Without an order all rows are peers.
            return Ok(whole);
        }
        Ok(WindowFrame::new_bounds(units, start, end))
    }

    /// Computes every window function within `exprs` as a column of `plan`, and puts the column in its place. `scope` is
    /// what FROM gave, if the rows of `plan` are still its rows.
    pub(crate) fn resolve_windows(
        &self,
        mut plan: LogicalPlan,
        scope: Option<&Scope>,
        exprs: &mut [&mut Expr],
    ) -> Result<LogicalPlan, PgError> {
        let mut calls: Vec<Expr> = Vec::new();
        for expr in exprs.iter() {
            any_expr(expr, |expr| {
                if matches!(expr, Expr::WindowFunction(_)) && !calls.contains(expr) {
                    calls.push(expr.clone());
                }
                false
            });
        }
        if calls.is_empty() {
            return Ok(plan);
        }
        let ties = self.ties(&plan, scope, exprs);
        let mut ready = calls.clone();
        plan = self.resolve_subqueries(plan, &mut ready.iter_mut().collect::<Vec<_>>())?;
        let mut columns = Vec::new();
        let mut nodes: Vec<Vec<(Definite, Column)>> = Vec::new();
        for call in ready {
            let Expr::WindowFunction(function) = call else { continue };
            let definite = ties::definite(*function, &ties.columns);
            // Calls that were written differently may have become one; DataFusion fails over two equal ones.
            let known = nodes.iter().flatten().find(|(known, _)| known.call == definite.call);
            if let Some((_, column)) = known {
                columns.push(Expr::Column(column.clone()));
                continue;
            }
            let column = Column::new_unqualified(self.fresh("c"));
            columns.push(Expr::Column(column.clone()));
            let shares = |node: &&mut Vec<(Definite, Column)>| {
                node.first().is_some_and(|(first, _)| {
                    let (left, right) = (&first.call.params, &definite.call.params);
                    first.positional == definite.positional
                        && left.partition_by == right.partition_by
                        && left.order_by == right.order_by
                })
            };
            match nodes.iter_mut().find(shares) {
                Some(node) => node.push((definite, column)),
                None => nodes.push(vec![(definite, column)]),
            }
        }
        let mut numbers: Vec<Column> = Vec::new();
        for node in nodes {
            let mut named = Vec::new();
            let mut own = Vec::new();
            for (Definite { mut call, positional }, column) in node {
                if positional {
                    call.params.order_by = ties::extended(call.params.order_by, &[], &numbers);
                    own.push(column.clone());
                }
                named.push(Expr::WindowFunction(Box::new(call)).alias(column.name));
            }
            plan = window(plan, named)?;
            if !ties.unique {
                numbers.extend(own);
            }
        }
        for expr in exprs.iter_mut() {
            let taken = std::mem::take(&mut **expr);
            **expr =
                replace(taken, |expr| calls.iter().position(|call| call == expr).map(|index| columns[index].clone()))?;
        }
        Ok(plan)
    }
}

impl Binder<'_> {
    /// The rows of `plan` after the first `skip`, up to the `fetch`th of them by `order` and all that tie with it: those
    /// whose rank is at most `skip + fetch`.
    pub(crate) fn first_with_ties(
        &self,
        plan: LogicalPlan,
        order: Vec<SortExpr>,
        skip: Option<Expr>,
        fetch: Expr,
    ) -> Result<LogicalPlan, PgError> {
        let call = |udf: Arc<WindowUDF>, order_by: Vec<SortExpr>| {
            let over = Over { partition_by: Vec::new(), order_by, frame: WindowFrame::new(Some(true)) };
            self.named(window_call(WindowFunctionDefinition::WindowUDF(udf), Vec::new(), over, None))
        };
        let number = |column| datafusion::logical_expr::cast(Expr::Column(column), DataType::Int64);
        let all = plan.schema().columns();
        let (rank, place) = call(rank::rank_udwf(), order.clone());
        let mut rows = window(plan, vec![rank])?;
        let mut last = fetch.clone();
        if let Some(skip) = skip {
            let (counted, at) = call(row_number::row_number_udwf(), ties::extended(order, &[], &all));
            rows = filter(window(rows, vec![counted])?, number(at).gt(skip.clone()))?;
            last = match (&skip, &last) {
                (
                    Expr::Literal(ScalarValue::Int64(Some(skip)), _),
                    Expr::Literal(ScalarValue::Int64(Some(last)), _),
                ) => lit(skip.saturating_add(*last)),
                _ => skip + last,
            };
        }
        filter(rows, number(place).lt_eq(last).and(fetch.gt(lit(0i64))))
    }
}

/// `function(args) FILTER (WHERE filter) OVER ..`
pub(crate) fn window_call(
    fun: WindowFunctionDefinition,
    args: Vec<Expr>,
    over: Over,
    filter: Option<Box<Expr>>,
) -> Expr {
    let Over { partition_by, order_by, frame: window_frame } = over;
    let params = WindowFunctionParams {
        args,
        partition_by,
        order_by,
        window_frame,
        filter,
        null_treatment: None,
        distinct: false,
    };
    Expr::WindowFunction(Box::new(WindowFunction { fun, params }))
}

/// `plan` with a column for each of `calls`, which share partition and order.
pub(crate) fn window(plan: LogicalPlan, calls: Vec<Expr>) -> Result<LogicalPlan, PgError> {
    Window::try_new(calls, Arc::new(plan)).map(LogicalPlan::Window).map_err(internal)
}

/// A literal of unknown type is text where nothing else decides.
fn known(typed: TypedExpr) -> Result<TypedExpr, PgError> {
    if typed.is_unknown() { cast(typed, &SqlType::Text, -1, CastContext::Implicit) } else { Ok(typed) }
}
