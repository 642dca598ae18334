//! Window functions: each distinct partition and order becomes one `Window`, whose calls read columns only.
//!
//! An aggregate over the whole of its partition needs no order: it is the grouping's `Reduce`, joined back to the rows.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate as LogicalAggregate, Expr, LogicalPlan, Window, WindowFrameUnits, WindowFunctionDefinition,
};
use repr::PgError;
use std::sync::Arc;

use super::{Lowering, resolve_all};
use crate::dataflow_plan::{NodeId, Operator, SortKey, column, window_order};
use crate::expression::{all_columns, cast, internal, position, resolve};

/// One call, over positions of the rows below all windows.
struct Call {
    /// Without its partition.
    function: WindowFunction,
    key: Vec<Expr>,
    /// The type it was promised in.
    output: DataType,
}

/// Calls that one operator computes.
struct Group {
    key: Vec<usize>,
    order: Vec<SortKey>,
    members: Vec<usize>,
}

impl Lowering<'_> {
    /// The rows below a window and the windows under it that do not build on each other, with a column for each call.
    pub(super) fn window(&mut self, top: &Window) -> Result<NodeId, PgError> {
        let mut windows = vec![top];
        let mut base: &LogicalPlan = &top.input;
        while let LogicalPlan::Window(window) = base
            && windows.iter().all(|above| reads_only(&above.window_expr, window.input.schema()))
        {
            windows.push(window);
            base = &window.input;
        }
        windows.reverse();
        let input = self.plan(base)?;
        self.window_over(input, &windows)
    }

    /// The rows of `input` with a column for each call of `windows`, the lowest of which reads it.
    pub(super) fn window_over(&mut self, input: NodeId, windows: &[&Window]) -> Result<NodeId, PgError> {
        let Some(lowest) = windows.first() else { return Ok(input) };
        let schema = lowest.input.schema();
        let width = self.graph.width(input);
        let mut calls = Vec::new();
        let mut whole: Vec<(usize, WindowFunction)> = Vec::new();
        for window in windows {
            let outputs = window.schema.fields().iter().skip(window.input.schema().fields().len());
            for (expr, output) in window.window_expr.iter().zip(outputs) {
                let function = window_call(expr)?;
                if is_grouping(function, output.data_type()) {
                    whole.push((calls.len(), function.clone()));
                }
                calls.push(resolved(function, output.data_type().clone(), schema)?);
            }
        }
        let mut exprs: Vec<Expr> = Vec::new();
        calls.iter().for_each(|call| inputs(call, &mut |expr| exprs.push(expr.clone())));
        let (mut node, positions) = self.graph.extend(input, &exprs)?;
        let place = |expr: &Expr| match exprs.iter().position(|other| other == expr) {
            Some(at) => column(positions[at]),
            None => expr.clone(),
        };
        let calls: Vec<Call> = calls.into_iter().map(|call| over_columns(call, &place)).collect();
        let mut places = vec![0; calls.len()];
        for group in groups(&calls, &|index| whole.iter().any(|(other, _)| *other == index)) {
            let first = self.graph.width(node);
            let functions = group.members.iter().map(|index| calls[*index].function.clone());
            let functions = functions.map(|function| Expr::WindowFunction(Box::new(function))).collect();
            node = self.graph.add(Operator::Window { input: node, key: group.key, calls: functions })?;
            group.members.iter().enumerate().for_each(|(at, index)| places[*index] = first + at);
        }
        while let Some((index, function)) = whole.first().cloned() {
            let partition = function.params.partition_by.clone();
            let (same, others): (Vec<_>, Vec<_>) =
                whole.into_iter().partition(|(_, other)| other.params.partition_by == partition);
            whole = others;
            let key = column_positions(&calls[index].key);
            let first = self.graph.width(node);
            let functions: Vec<WindowFunction> = same.iter().map(|(_, function)| function.clone()).collect();
            node = self.grouped_beside(node, &key, &lowest.input, &functions)?;
            same.iter().enumerate().for_each(|(at, (index, _))| places[*index] = first + at);
        }
        let types = self.graph.types(node);
        let mut columns = all_columns(width);
        for (call, at) in calls.iter().zip(places) {
            columns.push(cast(column(at), &types[at], &call.output));
        }
        self.graph.map(node, Vec::new(), columns)
    }

    /// The rows of `node` with a column for each of `functions`, which aggregate the partitions that `key` makes of them;
    /// the functions' expressions are over the rows of `plan`, which `node` extends.
    fn grouped_beside(
        &mut self,
        node: NodeId,
        key: &[usize],
        plan: &Arc<LogicalPlan>,
        functions: &[WindowFunction],
    ) -> Result<NodeId, PgError> {
        let Some(first) = functions.first() else { return Ok(node) };
        let mut partition: Vec<(&Expr, usize)> = Vec::new();
        for (expr, column) in first.params.partition_by.iter().zip(key) {
            if !partition.iter().any(|(_, other)| other == column) {
                partition.push((expr, *column));
            }
        }
        let key: Vec<usize> = partition.iter().map(|(_, column)| *column).collect();
        let group =
            partition.iter().enumerate().map(|(index, (expr, _))| (*expr).clone().alias(format!("key {index}")));
        let aggregates = functions.iter().enumerate().map(|(index, function)| {
            let WindowFunctionDefinition::AggregateUDF(udf) = &function.fun else {
                return Err(PgError::internal("a grouping of what is no aggregate"));
            };
            let params = &function.params;
            let call = AggregateFunction::new_udf(
                Arc::clone(udf),
                params.args.clone(),
                params.distinct,
                params.filter.clone(),
                Vec::new(),
                params.null_treatment,
            );
            Ok(Expr::AggregateFunction(call).alias(format!("aggregate {index}")))
        });
        let aggregates = aggregates.collect::<Result<Vec<_>, PgError>>()?;
        let aggregate = LogicalAggregate::try_new(Arc::clone(plan), group.collect(), aggregates).map_err(internal)?;
        let groups = self.aggregate(&aggregate)?;
        let width = self.graph.width(node);
        let left = self.graph.arrange(node, key.clone())?;
        let right = self.graph.arrange(groups, (0..key.len()).collect())?;
        let mut columns = all_columns(width);
        columns.extend((0..functions.len()).map(|index| column(width + key.len() + index)));
        self.graph.add(Operator::Join { left, right, null_equal: true, filter: Vec::new(), columns })
    }
}

/// Whether the calls read no column but those of `schema`.
fn reads_only(calls: &[Expr], schema: &DFSchema) -> bool {
    calls.iter().all(|call| call.column_refs().into_iter().all(|column| schema.has_column(column)))
}

/// The window call inside aliases.
fn window_call(expr: &Expr) -> Result<&WindowFunction, PgError> {
    match expr {
        Expr::Alias(alias) => window_call(&alias.expr),
        Expr::WindowFunction(call) => Ok(call),
        other => Err(PgError::internal(format!("{other} is not a window call"))),
    }
}

/// Whether the call has one value a partition, which a grouping computes.
fn is_grouping(call: &WindowFunction, output: &DataType) -> bool {
    let known = matches!(call.fun.name(), "count" | "sum" | "avg" | "min" | "max" | "bool_and" | "bool_or");
    let frame = &call.params.window_frame;
    known
        && !matches!(output, DataType::Interval(_))
        && matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_))
        && call.params.order_by.is_empty()
        && !call.params.distinct
        && frame.start_bound.is_unbounded()
        && frame.end_bound.is_unbounded()
}

/// The call over positions. Errors: `0A000` where its answer would depend on the order of peers.
fn resolved(call: &WindowFunction, output: DataType, schema: &DFSchema) -> Result<Call, PgError> {
    let mut function = call.clone();
    let frame = &call.params.window_frame;
    let keeps_order = matches!(
        call.fun.name(),
        "array_agg"
            | "string_agg"
            | "json_agg"
            | "json_agg of rows"
            | "jsonb_agg"
            | "json_object_agg"
            | "jsonb_object_agg"
    );
    if keeps_order && frame.units != WindowFrameUnits::Rows {
        let what = format!("{} over a window frame of peers in a materialized view", call.fun.name());
        return Err(PgError::unsupported(what).with_hint("Use a ROWS frame."));
    }
    let params = &mut function.params;
    params.args = resolve_all(&call.params.args, schema)?;
    for sort in &mut params.order_by {
        sort.expr = resolve(&sort.expr, &[schema])?;
    }
    params.filter = params.filter.as_deref().map(|filter| resolve(filter, &[schema]).map(Box::new)).transpose()?;
    let key = resolve_all(&std::mem::take(&mut params.partition_by), schema)?;
    Ok(Call { function, key, output })
}

/// What has to be a column of the operator's input: literals stay in arguments, where functions look for them.
fn inputs(call: &Call, visit: &mut dyn FnMut(&Expr)) {
    let params = &call.function.params;
    params.args.iter().filter(|arg| !matches!(arg, Expr::Literal(..))).for_each(&mut *visit);
    params.filter.iter().for_each(|filter| visit(filter));
    params.order_by.iter().for_each(|sort| visit(&sort.expr));
    call.key.iter().for_each(visit);
}

/// The call with `place` in the place of each of its inputs; what an order repeats is dropped.
fn over_columns(mut call: Call, place: &dyn Fn(&Expr) -> Expr) -> Call {
    let params = &mut call.function.params;
    for arg in params.args.iter_mut().filter(|arg| !matches!(arg, Expr::Literal(..))) {
        *arg = place(arg);
    }
    params.filter = params.filter.as_deref().map(|filter| Box::new(place(filter)));
    let mut order = std::mem::take(&mut params.order_by);
    order.iter_mut().for_each(|sort| sort.expr = place(&sort.expr));
    for sort in order {
        if !params.order_by.iter().any(|other| other.expr == sort.expr) {
            params.order_by.push(sort);
        }
    }
    call.key = call.key.iter().map(place).collect();
    call
}

fn column_positions(exprs: &[Expr]) -> Vec<usize> {
    exprs.iter().filter_map(position).collect()
}

/// The calls by partition and order: orders that are beginnings of one another are one. Not those that are `apart`.
fn groups(calls: &[Call], apart: &dyn Fn(usize) -> bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, call) in calls.iter().enumerate().filter(|(index, _)| !apart(*index)) {
        let mut key = column_positions(&call.key);
        key.sort_unstable();
        key.dedup();
        let order = window_order(&Expr::WindowFunction(Box::new(call.function.clone())));
        let fits = |group: &&mut Group| {
            group.key == key && (group.order.starts_with(&order) || order.starts_with(&group.order))
        };
        match groups.iter_mut().find(fits) {
            Some(group) => {
                group.members.push(index);
                if order.len() > group.order.len() {
                    group.order = order;
                }
            }
            None => groups.push(Group { key, order, members: vec![index] }),
        }
    }
    groups
}
