//! GROUP BY: accumulable aggregates into one `Reduce`, each MIN or MAX into a `TopK` of one, DISTINCT ones over a
//! `Distinct`.
//!
//! Where one aggregate needs all of the group's rows, as `array_agg` does, a change costs the group anyway: then all of
//! them are computed in one `Fold`, which keeps the rows and nothing else, and a group of which one aggregate fails has
//! no row at all.
//!
//! Every part is made so that it has exactly one row for every group: a value that does not count (NULL, or FILTER not
//! true) stays as NULL instead of being filtered out, sorts last for MIN and MAX, and adds nothing to a count or sum.
//! So a single part is the answer by itself, and several are put side by side by `Collate`.
//!
//! GROUPING SETS are the union of one aggregation a set.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, GroupingSet};
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr};
use repr::PgError;
use repr::accumulator::Accumulator;

use super::{Lowering, batch, resolve_all};
use crate::dataflow_plan::{Aggregate, NodeId, Operator, Percentile, SortKey, column, positional_schema};
use crate::expression::{
    aggregate_call, all_columns, cast, internal, literal, null, only_where, resolve, substitute, type_of,
};
use crate::graph::place;

/// One aggregate call over positions of the input.
struct Call {
    function: String,
    /// None is `count(*)`, or a call that takes more than one: then only `whole` has them.
    argument: Option<Expr>,
    filter: Option<Expr>,
    distinct: bool,
    output: DataType,
    /// Nothing less than all rows of the group tells the answer.
    needs_group: bool,
    /// What it is of its argument's values in order, and whether they descend.
    percentile: Option<(Percentile, bool)>,
    /// The call itself, ORDER BY and all arguments included.
    whole: AggregateFunction,
}

/// Rows of key columns followed by some of the aggregates, one row a group.
struct Part {
    node: NodeId,
    /// Which aggregates, in the order of the columns after the key.
    calls: Vec<usize>,
}

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &LogicalAggregate) -> Result<NodeId, PgError> {
        let input = self.plan(&aggregate.input)?;
        let schema = aggregate.input.schema();
        if let [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] = aggregate.group_expr.as_slice() {
            return self.grouping_sets(input, aggregate, sets);
        }
        let key = resolve_all(&aggregate.group_expr, schema)?;
        let calls = calls(aggregate, key.len(), &self.computed(input))?;
        self.grouped(input, &key, &calls)
    }

    /// What each column of `node` is, as far as one step back tells: an aggregate's arguments are columns made for it.
    fn computed(&self, node: NodeId) -> Vec<Expr> {
        match &self.graph.nodes[node].operator {
            Operator::Map { columns, .. } => columns.clone(),
            _ => all_columns(self.graph.width(node)),
        }
    }

    /// One row a group: the key, then the calls. Without a key there is a row even over nothing.
    fn grouped(&mut self, input: NodeId, key: &[Expr], calls: &[Call]) -> Result<NodeId, PgError> {
        if calls.is_empty() && key.is_empty() {
            return self.unit();
        }
        if calls.is_empty() {
            let keys = self.graph.map(input, Vec::new(), key.to_vec())?;
            return self.graph.distinct(keys);
        }
        let parts = match calls.iter().any(|call| call.needs_group) {
            true => vec![self.whole(input, key, calls)?],
            false => self.parts(input, key, calls)?,
        };
        let parts = match self.recursion.is_some() && !self.are_loops_own(&parts) {
            true => vec![self.whole(input, key, calls)?],
            false => parts,
        };
        let groups = self.side_by_side(parts, key.len(), calls)?;
        if !key.is_empty() {
            return Ok(groups);
        }
        let present = match calls.iter().any(may_fail) {
            true => self.any_row(input)?,
            false => groups,
        };
        self.at_least_one_row(groups, present, calls)
    }

    /// One aggregation a set, all over the same rows: the keys, NULL where the set lacks them, then the id that tells
    /// sets apart (DataFusion's: a bit for each key that is missing, and above these which of equal sets it is).
    fn grouping_sets(
        &mut self,
        input: NodeId,
        aggregate: &LogicalAggregate,
        sets: &[Vec<Expr>],
    ) -> Result<NodeId, PgError> {
        let mut keys: Vec<&Expr> = Vec::new();
        for expr in sets.iter().flatten() {
            if !keys.contains(&expr) {
                keys.push(expr);
            }
        }
        let types: Vec<DataType> = aggregate.schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let calls = calls(aggregate, keys.len() + 1, &self.computed(input))?;
        let mut seen: Vec<u64> = Vec::new();
        let mut nodes = Vec::new();
        for set in sets {
            let bits = keys.iter().fold(0, |bits, key| bits << 1 | u64::from(!set.contains(key)));
            let ordinal = seen.iter().filter(|other| **other == bits).count() as u64;
            seen.push(bits);
            let id = ScalarValue::UInt64(Some(bits | ordinal << keys.len()));
            let groups = self.grouped(input, &resolve_all(set, aggregate.input.schema())?, &calls)?;
            let mut columns = Vec::with_capacity(types.len());
            for (key, data_type) in keys.iter().zip(&types) {
                columns.push(match set.iter().position(|other| other == *key) {
                    Some(at) => column(at),
                    None => null(data_type)?,
                });
            }
            columns.push(literal(id.cast_to(&types[keys.len()]).map_err(internal)?));
            columns.extend((0..calls.len()).map(|index| column(set.len() + index)));
            nodes.push(self.graph.map(groups, Vec::new(), columns)?);
        }
        let node = self.graph.union(nodes)?;
        self.graph.declare_key(node, (0..=keys.len()).collect());
        Ok(node)
    }

    /// Whether a loop's body may have `parts` as they are: nothing there puts parts side by side.
    fn are_loops_own(&self, parts: &[Part]) -> bool {
        matches!(parts, [only] if self.graph.nodes[only.node].operator.runs_in_loops())
    }

    /// All calls from all rows of a group.
    fn whole(&mut self, input: NodeId, key: &[Expr], calls: &[Call]) -> Result<Part, PgError> {
        Ok(Part { node: self.fold(input, key, calls)?, calls: (0..calls.len()).collect() })
    }

    fn parts(&mut self, input: NodeId, key: &[Expr], calls: &[Call]) -> Result<Vec<Part>, PgError> {
        let mut accumulated = Vec::new();
        let mut single = Vec::new();
        let mut distinct: Vec<(Expr, Vec<usize>)> = Vec::new();
        let mut ordered: Vec<(Expr, bool, Vec<usize>)> = Vec::new();
        let mut parts = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            if let Some((_, descending)) = call.percentile {
                let value = only_where(call.filter.clone(), call.whole.params.args[0].clone());
                match ordered.iter_mut().find(|(other, order, _)| *other == value && *order == descending) {
                    Some((_, _, members)) => members.push(index),
                    None => ordered.push((value, descending, vec![index])),
                }
                continue;
            }
            match (call.function.as_str(), &call.argument) {
                ("min" | "max", Some(argument)) => {
                    let value = only_where(call.filter.clone(), argument.clone());
                    let node = self.extreme(input, key, value, call.function == "max")?;
                    parts.push(Part { node, calls: vec![index] });
                }
                ("single_value", Some(_)) => single.push(index),
                (_, Some(argument)) if call.distinct => {
                    let value = only_where(call.filter.clone(), argument.clone());
                    match distinct.iter_mut().find(|(other, _)| *other == value) {
                        Some((_, members)) => members.push(index),
                        None => distinct.push((value, vec![index])),
                    }
                }
                _ => accumulated.push(index),
            }
        }
        for (value, members) in distinct {
            let node = self.reduce_distinct(input, key, value, &members, calls)?;
            parts.insert(0, Part { node, calls: members });
        }
        for (value, descending, members) in ordered {
            let node = self.order_statistic(input, key, value, descending, &members, calls)?;
            parts.push(Part { node, calls: members });
        }
        if !single.is_empty() {
            let node = self.single_row(input, key, &single, calls)?;
            parts.insert(0, Part { node, calls: single });
        }
        // First where there is one: it is the cheapest to say which groups exist.
        if !accumulated.is_empty() {
            let node = self.reduce(input, key, &accumulated, calls)?;
            parts.insert(0, Part { node, calls: accumulated });
        }
        Ok(parts)
    }

    fn reduce(&mut self, input: NodeId, key: &[Expr], members: &[usize], calls: &[Call]) -> Result<NodeId, PgError> {
        let mut columns: Vec<Expr> = Vec::new();
        let key_positions: Vec<usize> = key.iter().map(|expr| place(&mut columns, expr.clone())).collect();
        let mut aggregates = Vec::new();
        for call in members.iter().map(|index| &calls[*index]) {
            aggregates.push(Aggregate {
                function: call.function.clone(),
                argument: call.argument.clone().map(|expr| place(&mut columns, expr)),
                filter: call.filter.clone().map(|expr| place(&mut columns, expr)),
                output: call.output.clone(),
            });
        }
        let input = self.graph.map(input, Vec::new(), columns)?;
        self.graph.add(Operator::Reduce { input, key: key_positions, aggregates })
    }

    /// Rows of the key and what the calls read, arranged by the key: views that want the same share them.
    fn fold(&mut self, input: NodeId, key: &[Expr], calls: &[Call]) -> Result<NodeId, PgError> {
        let mut columns: Vec<Expr> = Vec::new();
        let key: Vec<usize> = key.iter().map(|expr| place(&mut columns, expr.clone())).collect();
        let mut moved = |expr: &mut Expr| {
            if !matches!(expr, Expr::Literal(..)) {
                *expr = column(place(&mut columns, std::mem::take(expr)));
            }
        };
        let mut folded = Vec::new();
        for call in calls {
            let mut whole = call.whole.clone();
            whole.params.args.iter_mut().for_each(&mut moved);
            whole.params.order_by.iter_mut().for_each(|sort| moved(&mut sort.expr));
            whole.params.filter.iter_mut().for_each(|filter| moved(filter));
            folded.push(Expr::AggregateFunction(whole));
        }
        let input = self.graph.map(input, Vec::new(), columns)?;
        let input = self.graph.arrange(input, key.clone())?;
        self.graph.add(Operator::Fold { input, key, calls: folded })
    }

    fn reduce_distinct(
        &mut self,
        input: NodeId,
        key: &[Expr],
        value: Expr,
        members: &[usize],
        calls: &[Call],
    ) -> Result<NodeId, PgError> {
        let values = self.graph.map(input, Vec::new(), with(key, value))?;
        let values = self.graph.distinct(values)?;
        let aggregates = members
            .iter()
            .map(|index| Aggregate {
                function: calls[*index].function.clone(),
                argument: Some(key.len()),
                filter: None,
                output: calls[*index].output.clone(),
            })
            .collect();
        self.graph.add(Operator::Reduce { input: values, key: (0..key.len()).collect(), aggregates })
    }

    fn extreme(&mut self, input: NodeId, key: &[Expr], value: Expr, descending: bool) -> Result<NodeId, PgError> {
        let input = self.graph.map(input, Vec::new(), with(key, value))?;
        let order = vec![SortKey { column: key.len(), descending, nulls_first: false }];
        self.graph.add(Operator::TopK { input, key: (0..key.len()).collect(), order, offset: 0, limit: Some(1) })
    }

    fn order_statistic(
        &mut self,
        input: NodeId,
        key: &[Expr],
        value: Expr,
        descending: bool,
        members: &[usize],
        calls: &[Call],
    ) -> Result<NodeId, PgError> {
        let input = self.graph.map(input, Vec::new(), with(key, value))?;
        let value = SortKey { column: key.len(), descending, nulls_first: false };
        let calls = members.iter().filter_map(|index| calls[*index].percentile.clone()).map(|(call, _)| call).collect();
        self.graph.add(Operator::OrderStatistic { input, key: (0..key.len()).collect(), value, calls })
    }

    fn single_row(
        &mut self,
        input: NodeId,
        key: &[Expr],
        members: &[usize],
        calls: &[Call],
    ) -> Result<NodeId, PgError> {
        let mut columns = key.to_vec();
        for call in members.iter().map(|index| &calls[*index]) {
            if call.filter.is_some() {
                return Err(PgError::unsupported("FILTER on single_value"));
            }
            columns.extend(call.argument.clone());
        }
        let input = self.graph.map(input, Vec::new(), columns)?;
        self.graph.add(Operator::SingleRow { input, key: (0..key.len()).collect() })
    }

    /// Key, then the aggregates in the order they were asked for, in the types they were promised in.
    fn side_by_side(&mut self, parts: Vec<Part>, key_count: usize, calls: &[Call]) -> Result<NodeId, PgError> {
        let order: Vec<usize> = parts.iter().flat_map(|part| part.calls.iter().copied()).collect();
        let inputs: Vec<NodeId> = parts.iter().map(|part| part.node).collect();
        let groups = match inputs.as_slice() {
            [only] => *only,
            _ => self.graph.add(Operator::Collate { inputs, key_count })?,
        };
        let types = self.graph.types(groups);
        let mut columns = all_columns(key_count);
        for (index, call) in calls.iter().enumerate() {
            let at = order.iter().position(|member| *member == index);
            let at = key_count + at.ok_or_else(|| PgError::internal("an aggregate is in no part"))?;
            columns.push(cast(column(at), &types[at], &call.output));
        }
        self.graph.map(groups, Vec::new(), columns)
    }

    /// One row if `input` has any.
    fn any_row(&mut self, input: NodeId) -> Result<NodeId, PgError> {
        let count = Aggregate { function: "count".to_string(), argument: None, filter: None, output: DataType::Int64 };
        let rows = self.graph.map(input, Vec::new(), Vec::new())?;
        self.graph.add(Operator::Reduce { input: rows, key: Vec::new(), aggregates: vec![count] })
    }

    /// A global aggregate has a row even over nothing: the default row is there, and goes when `present` has one. That is
    /// the real one, or says that there would be one if it did not fail.
    fn at_least_one_row(&mut self, groups: NodeId, present: NodeId, calls: &[Call]) -> Result<NodeId, PgError> {
        let mut defaults = Vec::new();
        for call in calls {
            let value = call.whole.func.default_value(&call.output).map_err(internal)?;
            defaults.push(literal(value.cast_to(&call.output).map_err(internal)?));
        }
        let schema = positional_schema(calls.iter().map(|call| call.output.clone()));
        let mut arrays = Vec::new();
        for default in &defaults {
            let Expr::Literal(value, _) = default else { return Err(PgError::internal("a default is a literal")) };
            arrays.push(value.to_array().map_err(internal)?);
        }
        let default = self.constant(batch(schema, arrays, 1)?)?;
        let displaced = self.graph.map(present, Vec::new(), defaults)?;
        let displaced = self.graph.negate(displaced)?;
        let node = self.graph.union(vec![groups, default, displaced])?;
        self.graph.declare_key(node, Vec::new());
        Ok(node)
    }
}

/// Whether a group may have no answer but an error. A sum of integers has to be of billions to overflow: it is not asked.
fn may_fail(call: &Call) -> bool {
    let overflows = matches!(call.output, DataType::Float32 | DataType::Float64 | DataType::Interval(_));
    call.needs_group
        || call.function == "single_value"
        || (overflows && matches!(call.function.as_str(), "sum" | "avg"))
}

fn with(key: &[Expr], value: Expr) -> Vec<Expr> {
    key.iter().cloned().chain([value]).collect()
}

/// The calls of an aggregate, whose results come after `skipped` columns; its input's columns are `computed` so.
fn calls(aggregate: &LogicalAggregate, skipped: usize, computed: &[Expr]) -> Result<Vec<Call>, PgError> {
    let outputs = aggregate.schema.fields().iter().skip(skipped).map(|field| field.data_type().clone());
    let calls = aggregate.aggr_expr.iter().zip(outputs);
    calls.map(|(expr, output)| call(expr, output, aggregate.input.schema(), computed)).collect()
}

fn types_of(schema: &DFSchema) -> impl Iterator<Item = DataType> {
    schema.fields().iter().map(|field| field.data_type().clone())
}

fn call(expr: &Expr, output: DataType, schema: &DFSchema, computed: &[Expr]) -> Result<Call, PgError> {
    let call = aggregate_call(expr).ok_or_else(|| PgError::internal(format!("{expr} is not an aggregate call")))?;
    let function = call.func.name().to_lowercase();
    let mut whole = call.clone();
    for part in whole.params.args.iter_mut().chain(whole.params.order_by.iter_mut().map(|sort| &mut sort.expr)) {
        *part = resolve(part, &[schema])?;
    }
    if let Some(filter) = &mut whole.params.filter {
        **filter = resolve(filter, &[schema])?;
    }
    let filter = whole.params.filter.as_deref().cloned();
    let argument = match whole.params.args.as_slice() {
        [argument] => Some(argument.clone()),
        _ => None,
    };
    let argument = argument.filter(|argument| {
        let counts_rows = function == "count" && !call.params.distinct;
        !(counts_rows && matches!(argument, Expr::Literal(value, _) if !value.is_null()))
    });
    let schema = positional_schema(types_of(schema));
    let percentile = percentile(&function, &whole, &schema, computed)?;
    let needs_group = match (function.as_str(), whole.params.args.as_slice()) {
        ("count" | "min" | "max" | "single_value", _) => false,
        _ if percentile.is_some() => false,
        (_, [argument]) => {
            let argument = type_of(argument, &schema)?;
            Accumulator::new(&function, Some(&argument)).is_err()
        }
        _ => true,
    };
    Ok(Call { function, argument, filter, distinct: call.params.distinct, output, needs_group, percentile, whole })
}

/// A percentile that can be counted: at one fraction, of values that tell their order. Intervals do not, and what lies between
/// two of them is not in the plan's power to say.
fn percentile(
    function: &str,
    call: &AggregateFunction,
    schema: &Schema,
    computed: &[Expr],
) -> Result<Option<(Percentile, bool)>, PgError> {
    let continuous = match function {
        "percentile_cont" => true,
        "percentile_disc" => false,
        _ => return Ok(None),
    };
    let ([value, Expr::Literal(ScalarValue::Float64(Some(fraction)), _)], [sort]) =
        (call.params.args.as_slice(), call.params.order_by.as_slice())
    else {
        return Ok(None);
    };
    let meaning = |expr: &Expr| substitute(expr.clone(), &|index| computed[index].clone());
    let countable = tells_order(&meaning(value)?, &meaning(&sort.expr)?)
        && (0.0..=1.0).contains(fraction)
        && (!continuous || type_of(value, schema)? == DataType::Float64);
    Ok(countable.then_some((Percentile { fraction: *fraction, continuous }, !sort.asc)))
}

/// Whether operators that order by `value` order as `order` does. They know -0 and NaN of floats, so floats need no key.
fn tells_order(value: &Expr, order: &Expr) -> bool {
    match order {
        Expr::ScalarFunction(call) if matches!(call.func.name(), "float4_key" | "float8_key") => {
            call.args.as_slice() == std::slice::from_ref(value)
        }
        _ => order == value,
    }
}
