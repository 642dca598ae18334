//! A `DataflowPlan` evaluated over multisets, each operator by its definition and nothing else.
//!
//! On the way every claim of the plan is held against the rows: column types, keys, no negative multiplicities of what
//! is exported, imports by the exporter's key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_planner::create_window_expr_with_name;
use plan::dataflow_plan::longest_order;
use plan::{Aggregate, DataflowPlan, Node, Operator, Percentile, Recursion, SortKey};
use repr::ObjectId;

pub(crate) type Row = Vec<ScalarValue>;
/// Rows with how often each is there; none with 0.
pub(crate) type Collection = BTreeMap<OrderedRow, i64>;

/// A row that sorts by its text, so that failures print in a stable order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OrderedRow(pub(crate) Row);

impl Ord for OrderedRow {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        format!("{:?}", self.0).cmp(&format!("{:?}", other.0))
    }
}

impl PartialOrd for OrderedRow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The rows of a batch.
pub(crate) fn collection_of(batch: &RecordBatch) -> Collection {
    let mut rows = Collection::new();
    for index in 0..batch.num_rows() {
        let row = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, index).unwrap()).collect();
        *rows.entry(OrderedRow(row)).or_insert(0) += 1;
    }
    rows
}

/// What the plans read, and what those run so far export.
#[derive(Default)]
pub(crate) struct Interpreter {
    pub(crate) relations: HashMap<ObjectId, Collection>,
    pub(crate) exports: HashMap<ObjectId, (Vec<usize>, Collection)>,
}

impl Interpreter {
    /// The plan's export, which later plans may import.
    pub(crate) fn run(&mut self, plan: &DataflowPlan) -> Collection {
        let mut outputs: Vec<Vec<(Row, i64)>> = Vec::new();
        for (id, node) in plan.nodes.iter().enumerate() {
            assert!(node.operator.inputs().iter().all(|input| *input < id), "inputs come first");
            let rows = consolidated(self.evaluate(&plan.nodes, node, &outputs));
            check_node(node, &rows);
            outputs.push(rows);
        }
        let export = &plan.export;
        let own_key: Vec<usize> = match &plan.nodes[export.node].operator {
            Operator::Arrange { key, .. } | Operator::TopK { key, .. } => key.clone(),
            Operator::Reduce { key, .. } => (0..key.len()).collect(),
            Operator::Distinct { .. } => (0..plan.nodes[export.node].schema.fields().len()).collect(),
            other => panic!("{other:?} has no arrangement to export"),
        };
        assert_eq!(export.key, own_key);
        let rows = &outputs[export.node];
        assert!(rows.iter().all(|(_, count)| *count > 0), "negative multiplicity");
        if export.unique {
            check_unique(rows, &export.key);
        }
        let collection: Collection = rows.iter().map(|(row, count)| (OrderedRow(row.clone()), *count)).collect();
        self.exports.insert(plan.id, (export.key.clone(), collection.clone()));
        collection
    }

    /// A loop's results, from nothing until they stay the same.
    fn iterate(&self, inputs: &[usize], body: &Recursion, outer: &[Vec<(Row, i64)>]) -> Vec<Vec<(Row, i64)>> {
        let mut results = vec![Vec::new(); body.results.len()];
        for _ in 0..body.limit.count {
            let mut outputs: Vec<Vec<(Row, i64)>> = Vec::new();
            for node in &body.nodes {
                let rows = match &node.operator {
                    Operator::Entered { input } => outer[inputs[*input]].clone(),
                    Operator::Variable { result } => results[*result].clone(),
                    _ => self.evaluate(&body.nodes, node, &outputs),
                };
                let rows = consolidated(rows);
                check_node(node, &rows);
                outputs.push(rows);
            }
            let next: Vec<_> = body.results.iter().map(|result| outputs[*result].clone()).collect();
            if next == results {
                return results;
            }
            results = next;
        }
        assert!(body.limit.returns, "the loop does not end");
        results
    }

    /// The rows of a node of `nodes`, of which those before it have their `outputs`.
    fn evaluate(&self, nodes: &[Node], node: &Node, outputs: &[Vec<(Row, i64)>]) -> Vec<(Row, i64)> {
        let schema = |id: usize| &nodes[id].schema;
        match &node.operator {
            Operator::Source { relation, columns } => {
                let rows = self.relations[relation].iter();
                rows.map(|(row, count)| (columns.iter().map(|index| row.0[*index].clone()).collect(), *count)).collect()
            }
            Operator::Import { dataflow, key } => {
                let (exported, rows) = &self.exports[dataflow];
                assert_eq!(exported, key, "imports by the exporter's key");
                rows.iter().map(|(row, count)| (row.0.clone(), *count)).collect()
            }
            Operator::Constant { rows } => collection_of(rows).into_iter().map(|(row, count)| (row.0, count)).collect(),
            Operator::Map { input, filter, columns } => map(outputs[*input].clone(), schema(*input), filter, columns),
            Operator::Unnest { input, lists } => unnest(&outputs[*input], lists),
            Operator::Union { inputs } => {
                for input in inputs {
                    assert_eq!(schema(*input), &node.schema, "inputs of a union have its types");
                }
                inputs.iter().flat_map(|input| outputs[*input].clone()).collect()
            }
            Operator::Recursion { inputs, body } => self.iterate(inputs, body, outputs).swap_remove(0),
            Operator::LoopResult { input, result } => match &nodes[*input].operator {
                Operator::Recursion { inputs, body } => self.iterate(inputs, body, outputs).swap_remove(*result),
                other => panic!("a result of {other:?}"),
            },
            Operator::Entered { .. } | Operator::Variable { .. } => panic!("a leaf of a loop outside of it"),
            Operator::Negate { input } => outputs[*input].iter().map(|(row, count)| (row.clone(), -count)).collect(),
            Operator::Arrange { input, .. } => outputs[*input].clone(),
            Operator::Join { left, right, null_equal, filter, columns } => {
                let keys = [arranged_key(&nodes[*left]), arranged_key(&nodes[*right])];
                let pairs = pairs(nodes, outputs, [*left, *right], keys, *null_equal);
                map(pairs, &both(nodes, *left, *right), filter, columns)
            }
            // All rows are there at one time, and nothing changes after it: then the last path is the join.
            Operator::Changes { .. } => Vec::new(),
            Operator::HalfJoin { input, key, arranged, before, filter, columns } => {
                let keys = [key.as_slice(), arranged_key(&nodes[*arranged])];
                let pairs = pairs(nodes, outputs, [*input, *arranged], keys, false);
                assert!(!before || outputs[*input].is_empty(), "what is there at the start meets all that is there");
                map(pairs, &both(nodes, *input, *arranged), filter, columns)
            }
            Operator::Reduce { input, key, aggregates } => reduce(&outputs[*input], key, aggregates),
            Operator::Fold { input, key, calls } => fold(&outputs[*input], schema(*input), key, calls),
            Operator::TopK { input, key, order, offset, limit } => {
                let mut rows = Vec::new();
                for (_, mut group) in groups(&outputs[*input], key) {
                    group.sort_by(|left, right| compare(&left.0, &right.0, order));
                    rows.extend(slice(group, *offset, *limit));
                }
                rows
            }
            Operator::OrderStatistic { input, key, value, calls } => {
                let groups = groups(&outputs[*input], key).into_iter();
                groups.map(|(key, group)| (order_statistic(key, &group, value, calls), 1)).collect()
            }
            Operator::TopRanks { input, key, order, limit, dense } => {
                let groups = groups(&outputs[*input], key);
                groups.into_iter().flat_map(|(_, group)| top_ranks(&group, order, *limit, *dense)).collect()
            }
            Operator::Window { input, key, calls } => {
                let mut rows = Vec::new();
                for (_, group) in groups(&outputs[*input], key) {
                    rows.extend(window(group, schema(*input), calls));
                }
                rows
            }
            Operator::Collate { inputs, key_count } => collate(nodes, inputs, *key_count, outputs),
            Operator::Distinct { input } => {
                let rows = outputs[*input].iter();
                rows.inspect(|(_, count)| assert!(*count > 0)).map(|(row, _)| (row.clone(), 1)).collect()
            }
            Operator::Threshold { input } => outputs[*input].iter().filter(|(_, count)| *count > 0).cloned().collect(),
            Operator::TemporalFilter { condition, .. } => panic!("random plans read no clock: {condition}"),
            Operator::WindowClose { .. } | Operator::Emitted { .. } => panic!("random plans have no watermark"),
            Operator::SingleRow { input, key } => {
                check_unique(&outputs[*input], key);
                outputs[*input].clone()
            }
        }
    }
}

fn check_node(node: &Node, rows: &[(Row, i64)]) {
    for (row, _) in rows {
        assert_eq!(row.len(), node.schema.fields().len(), "{:?}", node.operator);
        for (value, field) in row.iter().zip(node.schema.fields()) {
            assert_eq!(&value.data_type(), field.data_type(), "{:?}", node.operator);
        }
    }
    for key in &node.keys {
        check_unique(rows, key);
    }
    if node.append_only {
        assert!(rows.iter().all(|(_, count)| *count > 0));
    }
}

fn check_unique(rows: &[(Row, i64)], key: &[usize]) {
    let mut seen = HashSet::new();
    for (row, count) in rows {
        let values: Row = key.iter().map(|index| row[*index].clone()).collect();
        assert!(seen.insert(values) && count.abs() == 1, "key {key:?} does not hold: {rows:?}");
    }
}

fn consolidated(rows: Vec<(Row, i64)>) -> Vec<(Row, i64)> {
    let mut counts: HashMap<Row, i64> = HashMap::new();
    let mut order: Vec<Row> = Vec::new();
    for (row, count) in rows {
        *counts.entry(row.clone()).or_insert_with(|| {
            order.push(row);
            0
        }) += count;
    }
    order.into_iter().map(|row| (row.clone(), counts[&row])).filter(|(_, count)| *count != 0).collect()
}

fn positional(types: Vec<arrow::datatypes::DataType>) -> SchemaRef {
    let fields: Vec<_> = (types.into_iter().enumerate())
        .map(|(index, data_type)| arrow::datatypes::Field::new(format!("#{index}"), data_type, true))
        .collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn batch(rows: &[(Row, i64)], schema: &SchemaRef) -> RecordBatch {
    let column = |index: usize| -> ArrayRef {
        match rows.is_empty() {
            true => arrow::array::new_empty_array(schema.field(index).data_type()),
            false => ScalarValue::iter_to_array(rows.iter().map(|(row, _)| row[index].clone())).unwrap(),
        }
    };
    let columns = (0..schema.fields().len()).map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).unwrap()
}

fn evaluate(rows: &[(Row, i64)], schema: &SchemaRef, expr: &Expr) -> ArrayRef {
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).unwrap();
    let physical = create_physical_expr(expr, &df_schema, &ExecutionProps::new(), &Default::default()).unwrap();
    physical.evaluate(&batch(rows, schema)).unwrap().into_array(rows.len()).unwrap()
}

/// The key of a join's input.
fn arranged_key(node: &Node) -> &[usize] {
    match &node.operator {
        Operator::Arrange { key, .. } | Operator::Import { key, .. } => key,
        other => panic!("join of {other:?}"),
    }
}

/// The columns of both sides of a join.
fn both(nodes: &[Node], left: usize, right: usize) -> SchemaRef {
    let fields = nodes[left].schema.fields().iter().chain(nodes[right].schema.fields());
    positional(fields.map(|field| field.data_type().clone()).collect())
}

/// Every row of the left side with every row of the right one that has its key.
fn pairs(
    nodes: &[Node],
    outputs: &[Vec<(Row, i64)>],
    [left, right]: [usize; 2],
    [left_key, right_key]: [&[usize]; 2],
    null_equal: bool,
) -> Vec<(Row, i64)> {
    assert_eq!(left_key.len(), right_key.len());
    for (left_index, right_index) in left_key.iter().zip(right_key) {
        let (left, right) = (nodes[left].schema.field(*left_index), nodes[right].schema.field(*right_index));
        assert_eq!(left.data_type(), right.data_type());
    }
    let mut pairs = Vec::new();
    for (left_row, left_count) in &outputs[left] {
        for (right_row, right_count) in &outputs[right] {
            let meets = left_key.iter().zip(right_key).all(|(left, right)| {
                let (left, right) = (&left_row[*left], &right_row[*right]);
                left == right && (null_equal || !left.is_null())
            });
            if meets {
                pairs.push((left_row.iter().chain(right_row).cloned().collect(), left_count * right_count));
            }
        }
    }
    pairs
}

fn map(mut rows: Vec<(Row, i64)>, schema: &SchemaRef, filter: &[Expr], columns: &[Expr]) -> Vec<(Row, i64)> {
    for condition in filter {
        let kept = evaluate(&rows, schema, condition);
        let kept = kept.as_boolean();
        let mut index = 0;
        rows.retain(|_| {
            index += 1;
            kept.is_valid(index - 1) && kept.value(index - 1)
        });
    }
    let columns: Vec<ArrayRef> = columns.iter().map(|expr| evaluate(&rows, schema, expr)).collect();
    let row = |index: usize| columns.iter().map(|column| ScalarValue::try_from_array(column, index).unwrap()).collect();
    rows.iter().enumerate().map(|(index, (_, count))| (row(index), *count)).collect()
}

fn unnest(rows: &[(Row, i64)], lists: &[usize]) -> Vec<(Row, i64)> {
    let mut unnested = Vec::new();
    for (row, count) in rows {
        let elements: Vec<Vec<ScalarValue>> = lists.iter().map(|list| elements(&row[*list])).collect();
        for index in 0..elements.iter().map(Vec::len).max().unwrap() {
            let mut row = row.clone();
            for (list, elements) in lists.iter().zip(&elements) {
                let ScalarValue::List(array) = &row[*list] else { panic!("not a list") };
                let absent = ScalarValue::try_from(&array.value_type()).unwrap();
                row[*list] = elements.get(index).cloned().unwrap_or(absent);
            }
            unnested.push((row, *count));
        }
    }
    unnested
}

fn elements(list: &ScalarValue) -> Vec<ScalarValue> {
    let ScalarValue::List(list) = list else { panic!("not a list") };
    if list.is_null(0) {
        return Vec::new();
    }
    let elements = list.value(0);
    (0..elements.len()).map(|index| ScalarValue::try_from_array(&elements, index).unwrap()).collect()
}

fn groups(rows: &[(Row, i64)], key: &[usize]) -> Vec<(Row, Vec<(Row, i64)>)> {
    let mut places: HashMap<Row, usize> = HashMap::new();
    let mut groups: Vec<(Row, Vec<(Row, i64)>)> = Vec::new();
    for (row, count) in rows {
        assert!(*count > 0, "a group of negative rows");
        let values: Row = key.iter().map(|index| row[*index].clone()).collect();
        let place = *places.entry(values.clone()).or_insert_with(|| {
            groups.push((values, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push((row.clone(), *count));
    }
    groups
}

fn reduce(rows: &[(Row, i64)], key: &[usize], aggregates: &[Aggregate]) -> Vec<(Row, i64)> {
    assert!(!aggregates.is_empty());
    let finish = |(mut key, group): (Row, Vec<(Row, i64)>)| {
        key.extend(aggregates.iter().map(|aggregate| finish(aggregate, &group)));
        (key, 1)
    };
    groups(rows, key).into_iter().map(finish).collect()
}

fn finish(aggregate: &Aggregate, group: &[(Row, i64)]) -> ScalarValue {
    let counts = |row: &Row| match aggregate.filter {
        Some(filter) => row[filter] == ScalarValue::Boolean(Some(true)),
        None => true,
    };
    let group = group.iter().filter(|(row, _)| counts(row));
    let Some(argument) = aggregate.argument else {
        assert_eq!(aggregate.function, "count");
        return ScalarValue::Int64(Some(group.map(|(_, count)| count).sum()));
    };
    let values: Vec<(&ScalarValue, i64)> =
        group.map(|(row, count)| (&row[argument], *count)).filter(|(value, _)| !value.is_null()).collect();
    let booleans = || values.iter().map(|(value, _)| **value == ScalarValue::Boolean(Some(true)));
    match aggregate.function.as_str() {
        "count" => ScalarValue::Int64(Some(values.iter().map(|(_, count)| count).sum())),
        _ if values.is_empty() => ScalarValue::try_from(&aggregate.output).unwrap(),
        "sum" => {
            let sum = values.iter().map(|(value, count)| match value {
                ScalarValue::Int64(Some(value)) => value * count,
                other => panic!("sum of {other:?}"),
            });
            ScalarValue::Int64(Some(sum.sum()))
        }
        "bool_and" => ScalarValue::Boolean(Some(booleans().all(|value| value))),
        "bool_or" => ScalarValue::Boolean(Some(booleans().any(|value| value))),
        other => panic!("{other} is not accumulable"),
    }
}

fn fold(rows: &[(Row, i64)], schema: &SchemaRef, key: &[usize], calls: &[Expr]) -> Vec<(Row, i64)> {
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).unwrap();
    let physical =
        |expr: &Expr| create_physical_expr(expr, &df_schema, &ExecutionProps::new(), &Default::default()).unwrap();
    let finish = |(mut key, group): (Row, Vec<(Row, i64)>)| {
        let copies = |(row, count): (Row, i64)| std::iter::repeat_n((row, 1), count as usize);
        let group: Vec<(Row, i64)> = group.into_iter().flat_map(copies).collect();
        for call in calls {
            let Expr::AggregateFunction(call) = call else { panic!("{call} is not an aggregate call") };
            assert!(call.params.filter.is_none() && call.params.order_by.is_empty());
            let values: Vec<ArrayRef> = call.params.args.iter().map(|expr| evaluate(&group, schema, expr)).collect();
            let function =
                AggregateExprBuilder::new(Arc::clone(&call.func), call.params.args.iter().map(physical).collect());
            let function = function.schema(Arc::clone(schema)).alias("call").with_distinct(call.params.distinct);
            let mut accumulator = function.build().unwrap().create_accumulator().unwrap();
            accumulator.update_batch(&values).unwrap();
            key.push(accumulator.evaluate().unwrap());
        }
        (key, 1)
    };
    groups(rows, key).into_iter().map(finish).collect()
}

fn compare(left: &Row, right: &Row, order: &[SortKey]) -> std::cmp::Ordering {
    let all: Vec<SortKey> =
        (0..left.len()).map(|column| SortKey { column, descending: false, nulls_first: false }).collect();
    by_order(left, right, order).then_with(|| by_order(left, right, &all))
}

fn by_order(left: &Row, right: &Row, order: &[SortKey]) -> std::cmp::Ordering {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let of = |left: &ScalarValue, right: &ScalarValue, descending: bool, nulls_first: bool| match (
        left.is_null(),
        right.is_null(),
    ) {
        (true, true) => Equal,
        (true, false) => {
            if nulls_first {
                Less
            } else {
                Greater
            }
        }
        (false, true) => {
            if nulls_first {
                Greater
            } else {
                Less
            }
        }
        (false, false) => {
            let ordering = left.partial_cmp(right).unwrap();
            if descending { ordering.reverse() } else { ordering }
        }
    };
    let mut keys = order.iter().map(|key| of(&left[key.column], &right[key.column], key.descending, key.nulls_first));
    keys.find(|ordering| *ordering != Equal).unwrap_or(Equal)
}

fn order_statistic(mut key: Row, group: &[(Row, i64)], value: &SortKey, calls: &[Percentile]) -> Row {
    let mut sorted = group.to_vec();
    sorted.sort_by(|left, right| by_order(&left.0, &right.0, std::slice::from_ref(value)));
    let copies = sorted.iter().flat_map(|(row, count)| vec![row[value.column].clone(); *count as usize]);
    let values: Vec<ScalarValue> = copies.filter(|value| !value.is_null()).collect();
    for call in calls {
        let place = match call.continuous {
            true => call.fraction * values.len().saturating_sub(1) as f64,
            false => (call.fraction * values.len() as f64).ceil().max(1.0) - 1.0,
        };
        key.push(match (values.get(place.floor() as usize), values.get(place.ceil() as usize)) {
            (Some(ScalarValue::Float64(Some(low))), Some(ScalarValue::Float64(Some(high)))) if call.continuous => {
                ScalarValue::Float64(Some(if place.fract() > 0.0 { low + place.fract() * (high - low) } else { *low }))
            }
            (Some(low), _) => low.clone(),
            (None, _) => ScalarValue::try_from(&group[0].0[value.column].data_type()).unwrap(),
        });
    }
    key
}

fn top_ranks(group: &[(Row, i64)], order: &[SortKey], limit: u64, dense: bool) -> Vec<(Row, i64)> {
    let mut sorted = group.to_vec();
    sorted.sort_by(|left, right| by_order(&left.0, &right.0, order));
    let mut kept: Vec<(Row, i64)> = Vec::new();
    let (mut rank, mut seen) = (1, 0);
    for (row, count) in sorted {
        if kept.last().is_some_and(|last| by_order(&last.0, &row, order).is_ne()) {
            rank = if dense { rank + 1 } else { seen + 1 };
        }
        if rank > limit {
            break;
        }
        seen += count as u64;
        kept.push((row, count));
    }
    kept
}

fn window(mut group: Vec<(Row, i64)>, schema: &SchemaRef, calls: &[Expr]) -> Vec<(Row, i64)> {
    group.sort_by(|left, right| compare(&left.0, &right.0, &longest_order(calls)));
    let copies = group.into_iter().flat_map(|(row, count)| vec![(row, 1); count as usize]);
    let mut rows: Vec<(Row, i64)> = copies.collect();
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).unwrap();
    let batch = batch(&rows, schema);
    for call in calls {
        let call = create_window_expr_with_name(call, "w", &df_schema, &ExecutionProps::new(), &Default::default());
        let values = call.unwrap().evaluate(&batch).unwrap();
        for (index, (row, _)) in rows.iter_mut().enumerate() {
            row.push(ScalarValue::try_from_array(&values, index).unwrap());
        }
    }
    rows
}

fn slice(group: Vec<(Row, i64)>, offset: u64, limit: Option<u64>) -> Vec<(Row, i64)> {
    let (mut skip, mut left) = (offset as i64, limit.map_or(i64::MAX, |limit| limit as i64));
    let mut rows = Vec::new();
    for (row, count) in group {
        let skipped = skip.min(count);
        skip -= skipped;
        let kept = (count - skipped).min(left);
        left -= kept;
        if kept > 0 {
            rows.push((row, kept));
        }
    }
    rows
}

fn collate(nodes: &[Node], inputs: &[usize], key_count: usize, outputs: &[Vec<(Row, i64)>]) -> Vec<(Row, i64)> {
    for input in inputs {
        check_unique(&outputs[*input], &(0..key_count).collect::<Vec<_>>());
    }
    let beside = |(first, _): &(Row, i64)| {
        let mut row = first.clone();
        for input in &inputs[1..] {
            let found = outputs[*input].iter().find(|(other, _)| other[..key_count] == first[..key_count]);
            match found {
                Some((other, _)) => row.extend(other[key_count..].iter().cloned()),
                None => row.extend(
                    nodes[*input].schema.fields()[key_count..]
                        .iter()
                        .map(|field| ScalarValue::try_from(field.data_type()).unwrap()),
                ),
            }
        }
        (row, 1)
    };
    outputs[inputs[0]].iter().map(beside).collect()
}
