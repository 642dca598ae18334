//! Window functions: OVER, WINDOW and frames, and the `LogicalPlan::Window` nodes that compute them.
//!
//! A call stays in its expression as an `Expr::WindowFunction` until the stage after grouping, where each distinct call
//! becomes a column. Calls with the same partition and order share a node.

mod frame_value;
mod own_frame;
mod shifted;
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
use super::function::{constant, constant_integer};
use super::query::sort_key;
use super::scope::{Scope, fold};
use crate::cast::{CastContext, cast, common_type};
use crate::functions::{is_aggregate, keeps_order, over_window, static_name};
use crate::operators::equality_key;
use crate::typed::TypedExpr;
use own_frame::{Bound, Excluded, Offset, OwnFrame};
use shifted::Shifted;
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

/// What OVER says, and of its frame also what DataFusion cannot.
#[derive(Clone)]
struct Bounded {
    over: Over,
    /// What ORDER BY names, before it became a key.
    ordered_by: Vec<TypedExpr>,
    units: WindowFrameUnits,
    start: Bound,
    end: Bound,
    excluded: Excluded,
    /// Whether DataFusion has no such frame.
    is_own: bool,
}

impl Bounded {
    /// The call of a function that finds these frames itself.
    fn call(self, of: own_frame::Computed, args: Vec<Expr>, filter: Option<Box<Expr>>, result: DataType) -> Expr {
        let offset = |bound: &Bound| matches!(bound, Bound::Preceding(_) | Bound::Following(_));
        let is_measured = self.units == WindowFrameUnits::Range && (offset(&self.start) || offset(&self.end));
        let function = OwnFrame {
            start: self.start,
            end: self.end,
            excluded: self.excluded,
            value_count: args.len(),
            is_filtered: filter.is_some(),
            descending: self.over.order_by.first().is_some_and(|key| !key.asc),
            is_measured,
            ..OwnFrame::new(of, self.units, result)
        };
        let measured = self.ordered_by.into_iter().take(usize::from(is_measured)).map(|typed| typed.expr);
        let keys = self.over.order_by.iter().map(|key| key.expr.clone());
        let args = args.into_iter().chain(filter.map(|filter| *filter)).chain(measured).chain(keys).collect();
        let udf = WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::new_from_impl(function)));
        window_call(udf, args, Over { frame: WindowFrame::new(Some(true)), ..self.over }, None)
    }
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
        // As in PostgreSQL.
        let refused = |message: &str| Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        if aggregate.params.distinct {
            return refused("DISTINCT is not implemented for window functions");
        }
        if !aggregate.params.order_by.is_empty() {
            return refused("aggregate ORDER BY is not implemented for window functions");
        }
        let whole = over.over.frame.start_bound.is_unbounded() && over.over.frame.end_bound.is_unbounded();
        let lists_peers = keeps_order(aggregate.func.name()) && over.units != WindowFrameUnits::Rows && !whole;
        if let (true, Some(name)) = (over.is_own || lists_peers, static_name(aggregate.func.name())) {
            let of = own_frame::Computed::Aggregate(name);
            let expr = over.call(of, aggregate.params.args, aggregate.params.filter, typed.sql_type.arrow());
            return Ok(TypedExpr { expr, ..typed });
        }
        let over = over.over;
        let function = WindowFunctionDefinition::AggregateUDF(over_window(&aggregate.func));
        let expr = window_call(function, aggregate.params.args, over, aggregate.params.filter);
        Ok(TypedExpr { expr, ..typed })
    }

    fn ranking_call(
        &self,
        name: &str,
        function: &ast::Function,
        bounded: Bounded,
        at: At,
    ) -> Result<TypedExpr, PgError> {
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
        if matches!(name, "first_value" | "last_value" | "nth_value") {
            let changing = name == "nth_value" && constant(&args[1].expr)?.is_none_or(|position| position.is_null());
            if bounded.is_own || changing {
                return own_value(name, args, bounded);
            }
        }
        let over = bounded.over;
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
                let offset = (args.len() == 2).then(|| args.remove(1));
                let offset = offset.unwrap_or_else(|| TypedExpr::new(lit(1i64), SqlType::Int8));
                let offset = cast(offset, &SqlType::Int8, -1, CastContext::Implicit)?;
                let mut value = known(args.remove(0))?;
                let mut default_value = None;
                if let Some(default) = default {
                    let sql_type = common_type(name, &[&value, &default])?;
                    value = cast(value, &sql_type, -1, CastContext::Implicit)?;
                    default_value = Some(cast(default, &sql_type, -1, CastContext::Implicit)?.expr);
                }
                let rows = match constant(&offset.expr)? {
                    Some(ScalarValue::Int64(rows)) => rows,
                    _ => None,
                };
                let known_default = default_value.as_ref().map(constant).transpose()?;
                let args = match (rows, known_default) {
                    (Some(rows), None) => vec![value.expr.clone(), lit(rows)],
                    (Some(rows), Some(Some(default))) => vec![value.expr.clone(), lit(rows), lit(default)],
                    _ => {
                        let args = [value.expr.clone(), offset.expr].into_iter().chain(default_value).collect();
                        let udf = WindowUDF::new_from_impl(Shifted::new(name == "lag"));
                        return valued(Arc::new(udf), args, value);
                    }
                };
                valued(udf, args, value)
            }
        }
    }

    fn bind_over(&self, over: &ast::WindowType, at: At) -> Result<Bounded, PgError> {
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

    fn bind_spec(&self, spec: &ast::WindowSpec, at: At, with_frame: bool) -> Result<Bounded, PgError> {
        let inside = At { clause: Clause::Window, inside: Inside::Neither, ..at };
        let (base, excluded) = crate::parse::excluded(spec);
        let mut bounded = match &base {
            Some(base) => self.bind_spec(self.window_named(base, at)?, at, false)?,
            None => Bounded {
                over: Over { partition_by: Vec::new(), order_by: Vec::new(), frame: WindowFrame::new(None) },
                ordered_by: Vec::new(),
                units: WindowFrameUnits::Range,
                start: Bound::Unbounded,
                end: Bound::Current,
                excluded: Excluded::Nothing,
                is_own: false,
            },
        };
        let over = &mut bounded.over;
        if base.is_some() && !spec.partition_by.is_empty() {
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
                let typed = known(self.bind_at(&item.expr, inside)?)?;
                over.order_by.push(sort_key(typed.clone(), &item.options)?);
                bounded.ordered_by.push(typed);
            }
        }
        if let (true, Some(frame)) = (with_frame, &spec.window_frame) {
            bounded = self.bind_frame(frame, bounded, inside)?;
            bounded.excluded = match excluded.as_deref() {
                Some("current row") => Excluded::CurrentRow,
                Some("group") => Excluded::Group,
                Some("ties") => Excluded::Ties,
                _ => Excluded::Nothing,
            };
            bounded.is_own |= bounded.excluded != Excluded::Nothing;
        } else if with_frame && !bounded.over.order_by.is_empty() {
            bounded.over.frame = WindowFrame::new(Some(false));
        }
        Ok(bounded)
    }

    fn bind_frame(&self, frame: &ast::WindowFrame, bounded: Bounded, at: At) -> Result<Bounded, PgError> {
        let unbounded = || ScalarValue::UInt64(None);
        let ordered = !bounded.over.order_by.is_empty();
        let units = match frame.units {
            ast::WindowFrameUnits::Rows => WindowFrameUnits::Rows,
            ast::WindowFrameUnits::Range => WindowFrameUnits::Range,
            ast::WindowFrameUnits::Groups => WindowFrameUnits::Groups,
        };
        if units == WindowFrameUnits::Groups && !ordered {
            return Err(PgError::new(WINDOWING_ERROR, "GROUPS mode requires an ORDER BY clause"));
        }
        let bound = |bound: &ast::WindowFrameBound, side: &str| -> Result<(Bound, WindowFrameBound), PgError> {
            let offset = |expr: &ast::Expr| -> Result<(Offset, ScalarValue), PgError> {
                let typed = self.bind_at(expr, at)?;
                let offset = match units {
                    WindowFrameUnits::Range => distance(&bounded.ordered_by, typed, side)?,
                    _ => Offset::Count(offset_count(typed, side)?),
                };
                let count = match offset {
                    Offset::Count(count) => ScalarValue::UInt64(u64::try_from(count).ok()),
                    _ => ScalarValue::UInt64(Some(0)),
                };
                Ok((offset, count))
            };
            Ok(match bound {
                ast::WindowFrameBound::CurrentRow => (Bound::Current, WindowFrameBound::CurrentRow),
                ast::WindowFrameBound::Preceding(None) => (Bound::Unbounded, WindowFrameBound::Preceding(unbounded())),
                ast::WindowFrameBound::Following(None) => (Bound::Unbounded, WindowFrameBound::Following(unbounded())),
                ast::WindowFrameBound::Preceding(Some(expr)) => {
                    let (offset, count) = offset(expr)?;
                    (Bound::Preceding(offset), WindowFrameBound::Preceding(count))
                }
                ast::WindowFrameBound::Following(Some(expr)) => {
                    let (offset, count) = offset(expr)?;
                    (Bound::Following(offset), WindowFrameBound::Following(count))
                }
            })
        };
        let (start, start_bound) = bound(&frame.start_bound, "starting")?;
        let (end, end_bound) = match &frame.end_bound {
            Some(end) => bound(end, "ending")?,
            None => (Bound::Current, WindowFrameBound::CurrentRow),
        };
        let rank = |bound: &WindowFrameBound| match bound {
            WindowFrameBound::Preceding(value) if value.is_null() => 0,
            WindowFrameBound::Preceding(_) => 1,
            WindowFrameBound::CurrentRow => 2,
            WindowFrameBound::Following(value) if value.is_null() => 4,
            WindowFrameBound::Following(_) => 3,
        };
        if rank(&start_bound) == 4 || rank(&end_bound) == 0 || rank(&start_bound) > rank(&end_bound) {
            return Err(PgError::new(WINDOWING_ERROR, "the frame cannot end before it starts"));
        }
        let measures = |bound: &Bound| matches!(bound, Bound::Preceding(_) | Bound::Following(_));
        let is_own = units == WindowFrameUnits::Range && (measures(&start) || measures(&end));
        let frame = match units == WindowFrameUnits::Range && !ordered {
            // Without an order all rows are peers.
            true => WindowFrame::new(None),
            false => WindowFrame::new_bounds(units, start_bound, end_bound),
        };
        Ok(Bounded { over: Over { frame, ..bounded.over }, units, start, end, is_own, ..bounded })
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

/// `first_value`, `last_value` and `nth_value` over a frame that the function finds itself.
fn own_value(name: &str, args: Vec<TypedExpr>, bounded: Bounded) -> Result<TypedExpr, PgError> {
    let of = match name {
        "first_value" => own_frame::Computed::FirstValue,
        "last_value" => own_frame::Computed::LastValue,
        _ => own_frame::Computed::NthValue,
    };
    let mut args = args.into_iter();
    let Some(value) = args.next() else { return Err(PgError::internal(format!("{name} lost its argument"))) };
    let value = known(value)?;
    let mut exprs = vec![value.expr.clone()];
    for position in args {
        exprs.push(cast(position, &SqlType::Int8, -1, CastContext::Implicit)?.expr);
    }
    Ok(TypedExpr { expr: bounded.call(of, exprs, None, value.sql_type.arrow()), ..value })
}

fn null_offset(side: &str) -> PgError {
    PgError::new(SqlState("22004"), format!("frame {side} offset must not be null"))
}

/// A number of rows or groups. Errors: `22004`, `22013`, `0A000`.
fn offset_count(typed: TypedExpr, side: &str) -> Result<i64, PgError> {
    let typed = cast(typed, &SqlType::Int8, -1, CastContext::Implicit)?;
    match constant(&typed.expr)? {
        Some(ScalarValue::Int64(Some(count))) if count < 0 => {
            Err(PgError::new(SqlState("22013"), format!("frame {side} offset must not be negative")))
        }
        Some(ScalarValue::Int64(Some(count))) => Ok(count),
        Some(_) => Err(null_offset(side)),
        None => Err(PgError::unsupported("a frame's offset that is not a constant")),
    }
}

/// A distance in the one column of the order, by PostgreSQL's `in_range` functions. Errors: `42P20`, `0A000`, `22013`.
fn distance(ordered_by: &[TypedExpr], offset: TypedExpr, side: &str) -> Result<Offset, PgError> {
    use SqlType::*;
    let [column] = ordered_by else {
        let message = "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column";
        return Err(PgError::new(WINDOWING_ERROR, message));
    };
    let refused = |what: String| {
        let message = format!("RANGE with offset PRECEDING/FOLLOWING is not supported for {what}");
        PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
    };
    let column_type = format!("column type {}", column.sql_type.sql_name());
    let wanted = match &column.sql_type {
        Int2 | Int4 | Int8 => Int8,
        Float4 | Float8 => Float8,
        Numeric => Numeric,
        Date | Time | Timestamp | Timestamptz | Interval => Interval,
        _ => return Err(refused(column_type)),
    };
    let given = offset.sql_type.sql_name();
    let offset = cast(offset, &wanted, -1, CastContext::Implicit).map_err(|error| match error.state {
        SqlState::CANNOT_COERCE | SqlState::DATATYPE_MISMATCH => {
            refused(format!("{column_type} and offset type {given}"))
                .with_hint("Cast the offset value to an appropriate type.")
        }
        _ => error,
    })?;
    let Some(value) = constant(&offset.expr)? else {
        return Err(PgError::unsupported("a frame's offset that is not a constant"));
    };
    let (offset, negative) = match value {
        value if value.is_null() => return Err(null_offset(side)),
        ScalarValue::Int64(Some(count)) => (Offset::Count(count), count < 0),
        ScalarValue::Float64(Some(value)) => (Offset::Double(value.to_bits()), value < 0.0 || value.is_nan()),
        ScalarValue::LargeBinary(Some(bytes)) => {
            let value = repr::numeric::Numeric::decode(&bytes);
            let negative = value.is_negative() || value.is_nan();
            (Offset::Numeric(bytes), negative)
        }
        ScalarValue::IntervalMonthDayNano(Some(value)) => {
            let value = repr::text::interval::Interval::from_arrow(value);
            let negative = if column.sql_type == Time { value.micros < 0 } else { value.span() < 0 };
            (Offset::Interval(value.months, value.days, value.micros), negative)
        }
        other => return Err(PgError::internal(format!("a frame's offset of type {}", other.data_type()))),
    };
    match negative {
        true => Err(PgError::new(SqlState("22013"), "invalid preceding or following size in window function")),
        false => Ok(offset),
    }
}

/// A literal of unknown type is text where nothing else decides.
fn known(typed: TypedExpr) -> Result<TypedExpr, PgError> {
    if typed.is_unknown() { cast(typed, &SqlType::Text, -1, CastContext::Implicit) } else { Ok(typed) }
}
