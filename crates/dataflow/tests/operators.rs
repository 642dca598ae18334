//! Every operator against a naive fold: random updates with retractions and NULLs, several times in flight, on one
//! worker, on two, and on two that exchange bytes. After each time, the rows that came out must be what the model
//! computes from the rows that went in.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use dataflow::arrange::flatten;
use dataflow::render::{Clock, render};
use dataflow::updates::{ErrorRow, Updates};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::bit_and_or_xor::bit_xor_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Cast, Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, lit,
};
use differential_dataflow::trace::TraceReader;
use plan::dataflow_plan::*;
use plan::mutual_recursion::IterationLimit;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use repr::{Diff, Lane, ObjectId, Timestamp};
use timely::container::NoopBuilder;
use timely::dataflow::operators::{Inspect, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::progress::Antichain;
use timely::{CommunicationConfig, WorkerConfig};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Null,
    Int(i64),
    Text(String),
}
use Value::{Int, Null, Text};

type Row = Vec<Value>;
type Bag = BTreeMap<Row, Diff>;
/// Of each relation, its updates.
type Feed = Vec<Vec<(Row, Timestamp, Diff)>>;

const TIMES: Timestamp = 12;

fn types(text: &str) -> Vec<DataType> {
    text.chars().map(|kind| if kind == 'i' { DataType::Int64 } else { DataType::Utf8 }).collect()
}

fn arrays(rows: &[&Row], types: &[DataType]) -> Vec<ArrayRef> {
    let column = |index: usize| -> ArrayRef {
        match types[index] {
            DataType::Int64 => Arc::new(Int64Array::from_iter(rows.iter().map(|row| match &row[index] {
                Int(value) => Some(*value),
                _ => None,
            }))),
            _ => Arc::new(StringArray::from_iter(rows.iter().map(|row| match &row[index] {
                Text(value) => Some(value.clone()),
                _ => None,
            }))),
        }
    };
    (0..types.len()).map(column).collect()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Null;
    }
    match column.data_type() {
        DataType::Int64 => Int(column.as_primitive::<Int64Type>().value(row)),
        _ => Text(column.as_string::<i32>().value(row).to_owned()),
    }
}

/// Random updates of small rows, so that rows and keys meet. Retractions take back what was put in before.
fn feed(rng: &mut StdRng, types: &[DataType], count: usize, append_only: bool) -> Vec<(Row, Timestamp, Diff)> {
    let mut alive: Vec<(Row, Timestamp)> = Vec::new();
    let mut updates = Vec::new();
    for time in 1..TIMES {
        for _ in 0..count {
            if !append_only && !alive.is_empty() && rng.random_bool(0.4) {
                let (row, _) = alive.swap_remove(rng.random_range(0..alive.len()));
                updates.push((row, time, -1));
                continue;
            }
            let row: Row = types
                .iter()
                .enumerate()
                .map(|(index, data_type)| match (rng.random_range(0..6), data_type) {
                    (0, _) => Null,
                    (_, DataType::Int64) => Int(rng.random_range(-3..4 + 5 * index as i64)),
                    _ => Text(format!("value {}", "x".repeat(rng.random_range(0..4)))),
                })
                .collect();
            alive.push((row.clone(), time));
            updates.push((row, time, 1));
        }
    }
    updates
}

fn as_of(updates: &[(Row, Timestamp, Diff)], time: Timestamp) -> Bag {
    let mut bag = Bag::new();
    for (row, at, diff) in updates {
        if *at <= time {
            *bag.entry(row.clone()).or_default() += diff;
        }
    }
    bag.retain(|_, count| *count != 0);
    bag
}

#[derive(Clone, Default)]
struct Captured {
    rows: Arc<Mutex<Vec<(Row, Timestamp, Diff)>>>,
    errors: Arc<Mutex<Vec<(ErrorRow, Timestamp, Diff)>>>,
}

impl Captured {
    fn take_rows(&self, updates: &Updates) {
        let mut rows = self.rows.lock().unwrap();
        for row in 0..updates.len() {
            let values = updates.columns.iter().map(|column| value(column, row)).collect();
            rows.push((values, updates.times.get(row), updates.diffs.get(row)));
        }
    }
}

type Input = InputHandle<Timestamp, NoopBuilder<Updates>>;

/// Runs `plans` one after the other in the same workers, each importing from those before, and captures the last.
/// Later plans are installed when the inputs are at `install_at`.
fn run(
    plans: Vec<DataflowPlan>,
    relations: Vec<Vec<DataType>>,
    feed: Feed,
    workers: usize,
    install_at: Timestamp,
) -> Captured {
    let captured = Captured::default();
    let result = captured.clone();
    let config = match workers {
        1 => timely::Config::thread(),
        2 => timely::Config::process(2),
        // Two workers that talk in bytes, as processes do.
        _ => timely::Config { communication: CommunicationConfig::ProcessBinary(2), worker: WorkerConfig::default() },
    };
    timely::execute(config, move |worker| {
        let mut inputs: Vec<(usize, Input)> = Vec::new();
        let mut traces = HashMap::new();
        let probe = ProbeHandle::new();
        let mut now = 1;
        let mut sent = 0;
        for (index, plan) in plans.iter().enumerate() {
            if index > 0 {
                advance(worker, &mut inputs, &feed, &relations, &mut now, &mut sent, install_at, &probe);
                // A worker that lags has compacted less.
                let since = Antichain::from_elem((install_at - 1).saturating_sub(2 * worker.index() as Timestamp));
                for trace in traces.values_mut() {
                    let trace: &mut dataflow::arrange::Trace = trace;
                    trace.set_logical_compaction(since.borrow());
                    trace.set_physical_compaction(since.borrow());
                }
            }
            let last = index + 1 == plans.len();
            let as_of = if index > 0 { install_at - 1 } else { 0 };
            let clock = Clock { as_of, ..Clock::default() };
            let trace = worker.dataflow::<Timestamp, _, _>(|scope| {
                let mut sources = HashMap::new();
                for id in plan.sources() {
                    let mut input = Input::new_with_builder();
                    sources.insert(id, input.to_stream(scope));
                    if index == 0 {
                        inputs.push((id.0 as usize, input));
                    }
                }
                let rendered = render(plan, scope, sources, &mut traces, &clock).expect("a plan that renders");
                if last {
                    let (rows, errors) = (captured.clone(), captured.errors.clone());
                    flatten(rendered.batches, install_at.saturating_sub(1))
                        .inspect_core(move |event| {
                            if let Ok((_, updates)) = event {
                                rows.take_rows(updates);
                            }
                        })
                        .probe_with(&probe);
                    rendered
                        .errors
                        .inspect_core(move |event| {
                            if let Ok((_, updates)) = event {
                                errors.lock().unwrap().extend(updates.iter().cloned());
                            }
                        })
                        .probe_with(&probe);
                } else {
                    rendered.batches.probe_with(&probe);
                }
                rendered.trace
            });
            traces.insert(plan.id, trace);
        }
        advance(worker, &mut inputs, &feed, &relations, &mut now, &mut sent, TIMES + 1, &probe);
        drop(inputs);
        drop(traces);
    })
    .unwrap()
    .join()
    .into_iter()
    .for_each(|result| result.unwrap());
    result
}

/// Feeds up to time `until`, two times at once, one container a couple of rows.
fn advance(
    worker: &mut timely::worker::Worker,
    inputs: &mut [(usize, Input)],
    feed: &Feed,
    relations: &[Vec<DataType>],
    now: &mut Timestamp,
    sent: &mut Timestamp,
    until: Timestamp,
    probe: &ProbeHandle<Timestamp>,
) {
    let (index, peers) = (worker.index(), worker.peers());
    while *now < until {
        let upto = (*now + 1).min(until - 1);
        for (relation, input) in inputs.iter_mut() {
            let rows: Vec<_> = feed[*relation].iter().enumerate().collect();
            let mine: Vec<_> = rows
                .iter()
                .filter(|(number, (_, time, _))| number % peers == index && *time > *sent && *time <= upto)
                .map(|(_, update)| *update)
                .collect();
            for part in mine.chunks(5) {
                let rows: Vec<&Row> = part.iter().map(|update| &update.0).collect();
                let times = Lane::Values(part.iter().map(|update| update.1).collect()).compress();
                let diffs = Lane::Values(part.iter().map(|update| update.2).collect()).compress();
                input.send_batch(&mut Updates::new(arrays(&rows, &relations[*relation]), times, diffs));
            }
            input.flush();
        }
        *sent = upto;
        if index == 0 {
            worker.step();
        }
        *now = (*now + 2).min(until);
        for (_, input) in inputs.iter_mut() {
            input.advance_to(*now);
        }
        if now.is_multiple_of(3) {
            continue;
        }
        while probe.less_than(now) {
            worker.step();
        }
    }
    while probe.less_than(now) {
        worker.step();
    }
}

struct Plan {
    nodes: Vec<Node>,
}

impl Plan {
    fn new() -> Plan {
        Plan { nodes: Vec::new() }
    }

    fn add(&mut self, operator: Operator, kinds: &str) -> NodeId {
        let schema = positional_schema(types(kinds));
        self.nodes.push(Node { operator, schema, keys: Vec::new(), append_only: false });
        self.nodes.len() - 1
    }

    fn source(&mut self, relation: u32, kinds: &str) -> NodeId {
        self.add(Operator::Source { relation: ObjectId(relation), columns: (0..kinds.len()).collect() }, kinds)
    }

    fn export(self, id: u32, key: Vec<usize>) -> DataflowPlan {
        let node = self.nodes.len() - 1;
        DataflowPlan {
            id: ObjectId(id),
            name: "test".to_owned(),
            nodes: self.nodes,
            export: Export { node, key, unique: false },
            options: Default::default(),
        }
    }
}

/// Runs one plan over random updates of relations of these column kinds, on one and two workers, and compares.
fn check(build: impl Fn(&mut Plan), kinds: &[&str], model: impl Fn(&[Bag]) -> Bag) {
    check_feed(build, kinds, false, |rows, _| model(rows));
}

fn check_feed(
    build: impl Fn(&mut Plan),
    kinds: &[&str],
    append_only: bool,
    model: impl Fn(&[Bag], &[(ErrorRow, Timestamp, Diff)]) -> Bag,
) {
    for workers in [1, 2, 3] {
        for seed in 0..9 {
            let mut rng = StdRng::seed_from_u64(seed);
            let relations: Vec<Vec<DataType>> = kinds.iter().map(|kinds| types(kinds)).collect();
            let count = [1, 4, 30][seed as usize % 3];
            let feed: Feed = relations.iter().map(|types| feed(&mut rng, types, count, append_only)).collect();
            let mut plan = Plan::new();
            build(&mut plan);
            let captured = run(vec![plan.export(100, vec![0])], relations, feed.clone(), workers, 0);
            compare(&captured, &feed, &model, 1, &format!("seed {seed}, {workers} workers"));
        }
    }
}

fn compare(
    captured: &Captured,
    feed: &Feed,
    model: impl Fn(&[Bag], &[(ErrorRow, Timestamp, Diff)]) -> Bag,
    from: Timestamp,
    context: &str,
) {
    let rows = captured.rows.lock().unwrap();
    let errors = captured.errors.lock().unwrap();
    for time in from..TIMES {
        let inputs: Vec<Bag> = feed.iter().map(|updates| as_of(updates, time)).collect();
        let errors: Vec<_> = errors.iter().filter(|error| error.1 <= time).cloned().collect();
        assert_eq!(as_of(&rows, time), model(&inputs, &errors), "at time {time}, {context}");
    }
}

fn bag(rows: impl IntoIterator<Item = (Row, Diff)>) -> Bag {
    let mut bag = Bag::new();
    for (row, count) in rows {
        *bag.entry(row).or_default() += count;
    }
    bag.retain(|_, count| *count != 0);
    bag
}

fn key_of(row: &Row, key: &[usize]) -> Row {
    key.iter().map(|column| row[*column].clone()).collect()
}

fn groups(bag: &Bag, key: &[usize]) -> BTreeMap<Row, Vec<(Row, Diff)>> {
    let mut groups: BTreeMap<Row, Vec<(Row, Diff)>> = BTreeMap::new();
    for (row, count) in bag {
        groups.entry(key_of(row, key)).or_default().push((row.clone(), *count));
    }
    groups
}

#[test]
fn rows_pass_through() {
    check(
        |plan| {
            plan.source(0, "it");
        },
        &["it"],
        |inputs| inputs[0].clone(),
    );
}

#[test]
fn map_filters_and_projects() {
    check(
        |plan| {
            let input = plan.source(0, "it");
            let filter = vec![column(0).gt(lit(0i64))];
            plan.add(Operator::Map { input, filter, columns: vec![column(1), column(0) + lit(1i64)] }, "ti");
        },
        &["it"],
        |inputs| {
            bag(inputs[0].iter().filter_map(|(row, count)| match &row[0] {
                Int(value) if *value > 0 => Some((vec![row[1].clone(), Int(value + 1)], *count)),
                _ => None,
            }))
        },
    );
}

#[test]
fn rows_that_fail_become_errors_and_go_again() {
    check_feed(
        |plan| {
            let input = plan.source(0, "ii");
            plan.add(Operator::Map { input, filter: vec![], columns: vec![column(0), lit(12i64) / column(1)] }, "ii");
        },
        &["ii"],
        false,
        |inputs, errors| {
            let failing: Diff = inputs[0].iter().filter(|(row, _)| row[1] == Int(0)).map(|(_, count)| count).sum();
            assert_eq!(errors.iter().map(|error| error.2).sum::<Diff>(), failing);
            assert!(errors.iter().all(|error| error.0.message == "division by zero" && error.0.state.0 == "22012"));
            bag(inputs[0].iter().filter_map(|(row, count)| match &row[1] {
                Int(0) => None,
                Int(value) => Some((vec![row[0].clone(), Int(12 / value)], *count)),
                _ => Some((vec![row[0].clone(), Null], *count)),
            }))
        },
    );
}

#[test]
fn a_condition_guards_the_next() {
    check_feed(
        |plan| {
            let input = plan.source(0, "ii");
            let filter = vec![column(1).not_eq(lit(0i64)), (lit(12i64) / column(1)).gt(lit(3i64))];
            plan.add(Operator::Map { input, filter, columns: vec![column(0), column(1)] }, "ii");
        },
        &["ii"],
        false,
        |inputs, errors| {
            assert!(errors.is_empty());
            bag(inputs[0].iter().filter_map(|(row, count)| match &row[1] {
                Int(value) if *value != 0 && 12 / value > 3 => Some((row.clone(), *count)),
                _ => None,
            }))
        },
    );
}

#[test]
fn union_negate_threshold_is_except_all() {
    check(
        |plan| {
            let (left, right) = (plan.source(0, "i"), plan.source(1, "i"));
            let negated = plan.add(Operator::Negate { input: right }, "i");
            let union = plan.add(Operator::Union { inputs: vec![left, negated] }, "i");
            plan.add(Operator::Threshold { input: union }, "i");
        },
        &["i", "i"],
        |inputs| {
            let right = |row: &Row| inputs[1].get(row).copied().unwrap_or(0);
            bag(inputs[0].iter().map(|(row, count)| (row.clone(), (count - right(row)).max(0))))
        },
    );
}

#[test]
fn distinct() {
    check(
        |plan| {
            let input = plan.source(0, "it");
            plan.add(Operator::Distinct { input }, "it");
        },
        &["it"],
        |inputs| bag(inputs[0].keys().map(|row| (row.clone(), 1))),
    );
}

fn join_plan(plan: &mut Plan, null_equal: bool, key: Vec<usize>, filter: Vec<Expr>) {
    let (left, right) = (plan.source(0, "it"), plan.source(1, "ii"));
    let left = plan.add(Operator::Arrange { input: left, key: key.clone() }, "it");
    let right = plan.add(Operator::Arrange { input: right, key }, "ii");
    let columns = vec![column(1), column(3), column(0)];
    plan.add(Operator::Join { left, right, null_equal, filter, columns }, "tii");
}

fn join_model(inputs: &[Bag], matches: impl Fn(&Row, &Row) -> bool) -> Bag {
    bag(inputs[0].iter().flat_map(|(left, a)| {
        let matches = &matches;
        inputs[1]
            .iter()
            .filter(move |(right, _)| matches(left, right))
            .map(move |(right, b)| (vec![left[1].clone(), right[1].clone(), left[0].clone()], a * b))
    }))
}

#[test]
fn join_on_a_key() {
    check(
        |plan| join_plan(plan, false, vec![0], vec![]),
        &["it", "ii"],
        |inputs| join_model(inputs, |left, right| left[0] != Null && left[0] == right[0]),
    );
}

#[test]
fn join_where_nulls_meet() {
    check(
        |plan| join_plan(plan, true, vec![0], vec![]),
        &["it", "ii"],
        |inputs| join_model(inputs, |left, right| left[0] == right[0]),
    );
}

#[test]
fn cross_join_with_a_condition() {
    check(
        |plan| join_plan(plan, false, vec![], vec![column(0).lt(column(3))]),
        &["it", "ii"],
        |inputs| {
            join_model(inputs, |left, right| match (&left[0], &right[1]) {
                (Int(left), Int(right)) => left < right,
                _ => false,
            })
        },
    );
}

/// Ways of three edges, from the delta paths of `a.1 = b.0 and b.1 = c.0`: all three are `rows`, so each meets changes of
/// its own time. Of what is there at the start the path of c has all.
fn three_edges(plan: &mut Plan, rows: NodeId, by_first: NodeId, by_second: NodeId) {
    let half = |input: NodeId, key: usize, arranged: NodeId, before: bool, columns: &[usize], filter: Vec<Expr>| {
        let columns = columns.iter().map(|index| column(*index)).collect();
        Operator::HalfJoin { input, key: vec![key], arranged, before, filter, columns }
    };
    // Columns a.0, a.1, b.1, c.1; the condition is about the ends.
    let ends = || vec![column(0).not_eq(column(4))];
    let a = plan.add(Operator::Changes { input: rows }, "ii");
    let a = plan.add(half(a, 1, by_first, true, &[0, 1, 3], vec![]), "iii");
    let a = plan.add(half(a, 2, by_first, true, &[0, 1, 2, 4], ends()), "iiii");
    let b = plan.add(Operator::Changes { input: rows }, "ii");
    let b = plan.add(half(b, 0, by_second, false, &[2, 0, 1], vec![]), "iii");
    let b = plan.add(half(b, 2, by_first, true, &[0, 1, 2, 4], ends()), "iiii");
    let c = plan.add(half(rows, 0, by_second, false, &[2, 0, 1], vec![]), "iii");
    let c = plan.add(half(c, 0, by_second, false, &[3, 0, 1, 2], vec![column(3).not_eq(column(2))]), "iiii");
    plan.add(Operator::Union { inputs: vec![a, b, c] }, "iiii");
}

fn three_edges_model(inputs: &[Bag]) -> Bag {
    let mut ways = Vec::new();
    for (a, a_count) in &inputs[0] {
        for (b, b_count) in inputs[0].iter().filter(|(b, _)| a[1] != Null && a[1] == b[0]) {
            for (c, c_count) in inputs[0].iter().filter(|(c, _)| b[1] != Null && b[1] == c[0]) {
                if a[0] != Null && c[1] != Null && a[0] != c[1] {
                    let way = vec![a[0].clone(), a[1].clone(), b[1].clone(), c[1].clone()];
                    ways.push((way, a_count * b_count * c_count));
                }
            }
        }
    }
    bag(ways)
}

#[test]
fn join_by_deltas() {
    check(
        |plan| {
            let rows = plan.source(0, "ii");
            let by_first = plan.add(Operator::Arrange { input: rows, key: vec![0] }, "ii");
            let by_second = plan.add(Operator::Arrange { input: rows, key: vec![1] }, "ii");
            three_edges(plan, rows, by_first, by_second);
        },
        &["ii"],
        three_edges_model,
    );
}

/// What is there at the start comes along one path, and nothing is missed or doubled at the seam.
#[test]
fn join_by_deltas_of_imports() {
    for workers in [1, 2, 3] {
        for seed in 0..9 {
            let mut rng = StdRng::seed_from_u64(seed);
            let relations = vec![types("ii")];
            let feed: Feed = vec![feed(&mut rng, &relations[0], [1, 4, 30][seed as usize % 3], false)];
            let mut table = Plan::new();
            table.source(0, "ii");
            let mut view = Plan::new();
            let by_first = view.add(Operator::Import { dataflow: ObjectId(10), key: vec![0] }, "ii");
            let by_second = view.add(Operator::Arrange { input: by_first, key: vec![1] }, "ii");
            three_edges(&mut view, by_first, by_first, by_second);
            let install_at = [2, 7, 9][seed as usize / 3];
            let plans = vec![table.export(10, vec![0]), view.export(20, vec![0])];
            let captured = run(plans, relations, feed.clone(), workers, install_at);
            let model = |inputs: &[Bag], _: &[(ErrorRow, Timestamp, Diff)]| three_edges_model(inputs);
            compare(&captured, &feed, model, install_at - 1, &format!("seed {seed}, {workers} workers"));
        }
    }
}

fn aggregate(function: &str, argument: Option<usize>, filter: Option<usize>) -> Aggregate {
    Aggregate { function: function.to_owned(), argument, filter, output: DataType::Int64 }
}

fn reduce_model(inputs: &[Bag], key: &[usize]) -> Bag {
    bag(groups(&inputs[0], key).into_iter().map(|(mut row, rows)| {
        let values = rows.iter().filter(|(row, _)| row[1] != Null);
        row.push(Int(rows.iter().map(|(_, count)| count).sum()));
        row.push(Int(values.map(|(_, count)| count).sum()));
        (row, 1)
    }))
}

#[test]
fn reduce_by_a_key() {
    check(
        |plan| {
            let input = plan.source(0, "ti");
            let aggregates = vec![aggregate("count", None, None), aggregate("count", Some(1), None)];
            plan.add(Operator::Reduce { input, key: vec![0], aggregates }, "tii");
        },
        &["ti"],
        |inputs| reduce_model(inputs, &[0]),
    );
}

#[test]
fn reduce_everything() {
    check(
        |plan| {
            let input = plan.source(0, "ti");
            let aggregates = vec![aggregate("count", None, None), aggregate("count", Some(1), None)];
            plan.add(Operator::Reduce { input, key: vec![], aggregates }, "ii");
        },
        &["ti"],
        |inputs| reduce_model(inputs, &[]),
    );
}

fn top_k_model(inputs: &[Bag], order: &[SortKey], offset: usize, limit: Option<usize>) -> Bag {
    use std::cmp::Ordering;
    let compare_values = |left: &Value, right: &Value, descending: bool, nulls_first: bool| match (left, right) {
        (Null, Null) => Ordering::Equal,
        (Null, _) => {
            if nulls_first {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (_, Null) => {
            if nulls_first {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        _ if descending => right.cmp(left),
        _ => left.cmp(right),
    };
    let compare = |left: &Row, right: &Row| {
        let sorted = order
            .iter()
            .map(|sort| compare_values(&left[sort.column], &right[sort.column], sort.descending, sort.nulls_first));
        let all = left.iter().zip(right).map(|(left, right)| compare_values(left, right, false, false));
        sorted.chain(all).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    bag(groups(&inputs[0], &[0]).into_values().flat_map(|rows| {
        let mut all: Vec<Row> = rows.iter().flat_map(|(row, count)| vec![row.clone(); *count as usize]).collect();
        all.sort_by(&compare);
        all.into_iter().skip(offset).take(limit.unwrap_or(usize::MAX)).map(|row| (row, 1)).collect::<Vec<_>>()
    }))
}

#[test]
fn top_k_in_every_order() {
    for (offset, limit) in [(0, Some(1)), (0, Some(3)), (2, Some(2)), (1, None)] {
        for (column, descending, nulls_first) in
            [(1, false, false), (1, true, true), (1, true, false), (2, false, true), (2, true, false)]
        {
            for append_only in [false, true] {
                let sort = |column| SortKey { column, descending, nulls_first };
                let order = vec![sort(column), SortKey { column: 3 - column, descending: false, nulls_first: true }];
                check_feed(
                    |plan| {
                        let input = plan.source(0, "iit");
                        plan.nodes[input].append_only = append_only;
                        let limit = limit.map(|limit: usize| limit as u64);
                        let (order, offset) = (order.clone(), offset as u64);
                        plan.add(Operator::TopK { input, key: vec![0], order, offset, limit }, "iit");
                    },
                    &["iit"],
                    append_only,
                    |inputs, _| top_k_model(inputs, &order, offset, limit),
                );
            }
        }
    }
}

#[test]
fn top_ranks_keep_ties() {
    for (limit, dense) in [(1, false), (3, false), (1, true), (2, true)] {
        for order in [vec![1], vec![1, 2], vec![2]] {
            let kinds = "iit";
            let key_of = |row: &Row| order.iter().map(|column| row[*column].clone()).collect::<Vec<_>>();
            check(
                |plan| {
                    let input = plan.source(0, kinds);
                    // NULLs first, as the model's values order.
                    let order =
                        order.iter().map(|column| SortKey { column: *column, descending: false, nulls_first: true });
                    plan.add(Operator::TopRanks { input, key: vec![0], order: order.collect(), limit, dense }, kinds);
                },
                &[kinds],
                |inputs| {
                    bag(groups(&inputs[0], &[0]).into_values().flat_map(|rows| {
                        let rank = |row: &Row| {
                            let before = rows.iter().filter(|other| key_of(&other.0) < key_of(row));
                            match dense {
                                true => before
                                    .map(|other| key_of(&other.0))
                                    .collect::<std::collections::BTreeSet<_>>()
                                    .len(),
                                false => before.map(|other| other.1 as usize).sum(),
                            }
                        };
                        rows.iter().filter(|(row, _)| (rank(row) as u64) < limit).cloned().collect::<Vec<_>>()
                    }))
                },
            );
        }
    }
}

/// A window call over columns.
fn window_call(fun: WindowFunctionDefinition, args: Vec<Expr>, order: &[usize], frame: WindowFrame) -> Expr {
    Expr::WindowFunction(Box::new(WindowFunction {
        fun,
        params: WindowFunctionParams {
            args,
            partition_by: Vec::new(),
            order_by: order.iter().map(|index| column(*index).sort(true, false)).collect(),
            window_frame: frame,
            filter: None,
            null_treatment: None,
            distinct: false,
        },
    }))
}

/// A window function, and what it gives for row `index` of a sorted partition.
type WindowCase = (Expr, fn(&[Row], usize) -> Value);

fn int(value: &Value) -> Option<i64> {
    match value {
        Int(value) => Some(*value),
        _ => None,
    }
}

fn sum_of(rows: &[Row]) -> Value {
    let values: Vec<i64> = rows.iter().filter_map(|row| int(&row[1])).collect();
    if values.is_empty() { Null } else { Int(values.iter().sum()) }
}

/// Whether two rows tie by the first column of the order.
fn peers(left: &Row, right: &Row) -> bool {
    left[1] == right[1]
}

fn window_cases() -> Vec<WindowCase> {
    use datafusion::functions_aggregate::{min_max::max_udaf, sum::sum_udaf};
    use datafusion::functions_window::{lead_lag, nth_value, ntile, rank, row_number};
    let udf = WindowFunctionDefinition::WindowUDF;
    let aggregate = WindowFunctionDefinition::AggregateUDF;
    let count = |count: u64| ScalarValue::UInt64(Some(count));
    let rows = |start, end| WindowFrame::new_bounds(WindowFrameUnits::Rows, start, end);
    let running = || WindowFrame::new(Some(false));
    let by_rows = || WindowFrame::new(Some(true));
    let (some, all) = ([1], [1, 2]);
    vec![
        (window_call(udf(row_number::row_number_udwf()), vec![], &all, by_rows()), |_, at| Int(at as i64 + 1)),
        (window_call(udf(rank::rank_udwf()), vec![], &some, running()), |rows, at| {
            Int(rows.iter().position(|row| peers(row, &rows[at])).unwrap() as i64 + 1)
        }),
        (window_call(udf(rank::dense_rank_udwf()), vec![], &some, running()), |rows, at| {
            let starts = (1..=at).filter(|index| !peers(&rows[index - 1], &rows[*index]));
            Int(starts.count() as i64 + 1)
        }),
        (window_call(udf(ntile::ntile_udwf()), vec![lit(1i64)], &all, by_rows()), |_, _| Int(1)),
        (window_call(udf(lead_lag::lag_udwf()), vec![column(1), lit(2i64)], &all, by_rows()), |rows, at| {
            at.checked_sub(2).map_or(Null, |at| rows[at][1].clone())
        }),
        (window_call(udf(lead_lag::lead_udwf()), vec![column(1), lit(1i64)], &all, by_rows()), |rows, at| {
            rows.get(at + 1).map_or(Null, |row| row[1].clone())
        }),
        (window_call(udf(nth_value::first_value_udwf()), vec![column(1)], &all, by_rows()), |rows, _| {
            rows[0][1].clone()
        }),
        (window_call(udf(nth_value::nth_value_udwf()), vec![column(1), lit(3i64)], &all, by_rows()), |rows, at| {
            if at < 2 { Null } else { rows[2][1].clone() }
        }),
        (
            window_call(
                aggregate(sum_udaf()),
                vec![column(1)],
                &all,
                rows(WindowFrameBound::Preceding(count(1)), WindowFrameBound::Following(count(2))),
            ),
            |rows, at| sum_of(&rows[at.saturating_sub(1)..(at + 3).min(rows.len())]),
        ),
        (window_call(aggregate(sum_udaf()), vec![column(1)], &all, by_rows()), |rows, at| sum_of(&rows[..=at])),
        (window_call(aggregate(sum_udaf()), vec![column(1)], &some, running()), |rows, at| {
            let end = (at..rows.len()).find(|index| !peers(&rows[at], &rows[*index])).unwrap_or(rows.len());
            sum_of(&rows[..end])
        }),
        (window_call(aggregate(max_udaf()), vec![column(1)], &all, by_rows()), |rows, at| {
            rows[..=at].iter().filter_map(|row| int(&row[1])).max().map_or(Null, Int)
        }),
    ]
}

fn window_model(inputs: &[Bag], key: &[usize], values: &[fn(&[Row], usize) -> Value]) -> Bag {
    bag(groups(&inputs[0], key).into_values().flat_map(|rows| {
        let mut all: Vec<Row> = rows.iter().flat_map(|(row, count)| vec![row.clone(); *count as usize]).collect();
        // NULLs last.
        let place = |value: &Value| (*value == Null, value.clone());
        all.sort_by_key(|row| (place(&row[1]), place(&row[2])));
        let with_values = |at: usize| {
            let mut row = all[at].clone();
            row.extend(values.iter().map(|value| value(&all, at)));
            (row, 1)
        };
        (0..all.len()).map(with_values).collect::<Vec<_>>()
    }))
}

/// Each function by itself, so that each is maintained in its own way, and all in one operator.
#[test]
fn window_functions_over_partitions() {
    let cases = window_cases();
    let mut runs: Vec<Vec<&WindowCase>> = cases.iter().map(|case| vec![case]).collect();
    runs.push(cases.iter().collect());
    for run in runs {
        let kinds = format!("iit{}", "i".repeat(run.len()));
        check(
            |plan| {
                let input = plan.source(0, "iit");
                let calls = run.iter().map(|case| case.0.clone()).collect();
                plan.add(Operator::Window { input, key: vec![0], calls }, &kinds);
            },
            &["iit"],
            |inputs| window_model(inputs, &[0], &run.iter().map(|case| case.1).collect::<Vec<_>>()),
        );
    }
}

/// One partition of thousands of rows, changed a few rows at a time: what is evaluated is only a part of it.
#[test]
fn window_functions_over_a_large_partition() {
    let cases = window_cases();
    let mut runs: Vec<Vec<&WindowCase>> = cases.iter().map(|case| vec![case]).collect();
    runs.push(cases.iter().collect());
    // Without those that look at whole partitions.
    let partial = |case: &&WindowCase| !["ntile", "nth_value"].iter().any(|name| case.0.to_string().starts_with(name));
    runs.push(cases.iter().filter(partial).collect());
    for (seed, run) in runs.into_iter().enumerate() {
        for (workers, values) in [(1, 20_000), (2, 40)] {
            let mut rng = StdRng::seed_from_u64(seed as u64);
            let mut alive: Vec<Row> = Vec::new();
            let mut updates = Vec::new();
            for time in 1..TIMES {
                // Many at first, then a few here and there, then nearly all leave.
                let count = [2500, 3, 1, 40, 2, 1, 1, 10, 2000, 1, 2][time as usize - 1];
                for _ in 0..count {
                    if (time > 8 && rng.random_bool(0.99) || time > 1 && rng.random_bool(0.4)) && !alive.is_empty() {
                        let row = alive.swap_remove(rng.random_range(0..alive.len()));
                        updates.push((row, time, -1));
                    }
                    if time > 8 && rng.random_bool(0.99) {
                        continue;
                    }
                    let order = if rng.random_bool(0.05) { Null } else { Int(rng.random_range(0..values)) };
                    let row = vec![Int(1), order, Text(format!("{}", rng.random_range(0..3)))];
                    alive.push(row.clone());
                    updates.push((row, time, 1));
                }
            }
            let feed: Feed = vec![updates];
            let mut plan = Plan::new();
            let input = plan.source(0, "iit");
            let calls = run.iter().map(|case| case.0.clone()).collect();
            let kinds = format!("iit{}", "i".repeat(run.len()));
            plan.add(Operator::Window { input, key: vec![], calls }, &kinds);
            let captured = crate::run(vec![plan.export(100, vec![0])], vec![types("iit")], feed.clone(), workers, 0);
            let values: Vec<_> = run.iter().map(|case| case.1).collect();
            let model = |inputs: &[Bag], _: &[(ErrorRow, Timestamp, Diff)]| window_model(inputs, &[], &values);
            compare(&captured, &feed, model, 1, &format!("run {seed}, {workers} workers"));
        }
    }
}

#[test]
fn collate_puts_aggregates_side_by_side() {
    check(
        |plan| {
            let input = plan.source(0, "ii");
            let positive = plan.add(
                Operator::Map { input, filter: vec![column(1).gt(lit(0i64))], columns: vec![column(0), column(1)] },
                "ii",
            );
            let all = vec![aggregate("count", None, None)];
            let counts = plan.add(Operator::Reduce { input, key: vec![0], aggregates: all }, "ii");
            let order = vec![SortKey { column: 1, descending: true, nulls_first: false }];
            let top = Operator::TopK { input: positive, key: vec![0], order, offset: 0, limit: Some(1) };
            let greatest = plan.add(top, "ii");
            plan.add(Operator::Collate { inputs: vec![counts, greatest], key_count: 1 }, "iii");
        },
        &["ii"],
        |inputs| {
            bag(groups(&inputs[0], &[0]).into_iter().map(|(mut row, rows)| {
                let greatest = rows.iter().map(|(row, _)| row[1].clone()).filter(|value| *value > Int(0)).max();
                row.push(Int(rows.iter().map(|(_, count)| count).sum()));
                row.push(greatest.unwrap_or(Null));
                (row, 1)
            }))
        },
    );
}

/// Of `bit_xor`, which tells any row that is missing or there too often.
fn bit_xor(argument: Expr, filter: Option<Expr>) -> Expr {
    let filter = filter.map(Box::new);
    let call = AggregateFunction::new_udf(bit_xor_udaf(), vec![argument], false, filter, Vec::new(), None);
    Expr::AggregateFunction(call)
}

fn bit_xor_model(rows: &[(Row, Diff)], value: impl Fn(&Row) -> Value) -> Value {
    let mut result = Null;
    for (row, count) in rows {
        if let Int(value) = value(row) {
            let before = if let Int(before) = result { before } else { 0 };
            result = Int(if count % 2 == 0 { before } else { before ^ value });
        }
    }
    result
}

#[test]
fn fold_reads_its_groups_back() {
    for key in [vec![0], vec![], vec![2, 0]] {
        check(
            |plan| {
                let input = plan.source(0, "iit");
                let calls = vec![
                    bit_xor(column(1), None),
                    bit_xor(column(1), Some(column(0).lt(lit(2i64)))),
                    bit_xor(lit(5i64), None),
                ];
                let kinds = format!("{}iii", key.iter().map(|index| ["i", "i", "t"][*index]).collect::<String>());
                plan.add(Operator::Fold { input, key: key.clone(), calls }, &kinds);
            },
            &["iit"],
            |inputs| {
                bag(groups(&inputs[0], &key).into_iter().map(|(mut row, rows)| {
                    row.push(bit_xor_model(&rows, |row| row[1].clone()));
                    let small = |row: &Row| matches!(row[0], Int(value) if value < 2);
                    row.push(bit_xor_model(&rows, |row| if small(row) { row[1].clone() } else { Null }));
                    row.push(bit_xor_model(&rows, |_| Int(5)));
                    (row, 1)
                }))
            },
        );
    }
}

/// [`bit_xor_model`] of twelve divided by column 1, by column 0. Asserts that each group with a zero is an error instead.
fn divided_model(rows: &Bag, errors: &[(ErrorRow, Timestamp, Diff)]) -> Bag {
    let fails = |rows: &[(Row, Diff)]| rows.iter().any(|(row, _)| row[1] == Int(0));
    let groups = groups(rows, &[0]);
    let failing = groups.values().filter(|rows| fails(rows)).count() as Diff;
    assert_eq!(errors.iter().map(|error| error.2).sum::<Diff>(), failing);
    assert!(errors.iter().all(|error| error.0.state.0 == "22012"));
    bag(groups.into_iter().filter(|(_, rows)| !fails(rows)).map(|(mut row, rows)| {
        row.push(bit_xor_model(&rows, |row| match row[1] {
            Int(value) => Int(12 / value),
            _ => Null,
        }));
        (row, 1)
    }))
}

#[test]
fn a_fold_that_fails_takes_its_group_alone() {
    check_feed(
        |plan| {
            let input = plan.source(0, "ii");
            let calls = vec![bit_xor(lit(12i64) / column(1), None)];
            plan.add(Operator::Fold { input, key: vec![0], calls }, "ii");
        },
        &["ii"],
        false,
        |inputs, errors| divided_model(&inputs[0], errors),
    );
}

#[test]
fn a_second_row_of_a_scalar_subquery_is_an_error_while_it_lasts() {
    check_feed(
        |plan| {
            let input = plan.source(0, "ii");
            plan.add(Operator::SingleRow { input, key: vec![0] }, "ii");
        },
        &["ii"],
        false,
        |inputs, errors| {
            let groups = groups(&inputs[0], &[0]);
            let size = |rows: &[(Row, Diff)]| rows.iter().map(|(_, count)| count).sum::<Diff>();
            let failing = groups.values().filter(|rows| size(rows) > 1).count() as Diff;
            assert_eq!(errors.iter().map(|error| error.2).sum::<Diff>(), failing);
            assert!(errors.iter().all(|error| error.0.state.0 == "21000"));
            bag(groups.into_values().filter(|rows| size(rows) == 1).flatten())
        },
    );
}

#[test]
fn constants_join_in() {
    check(
        |plan| {
            let input = plan.source(0, "it");
            let constant: Vec<Row> = vec![vec![Int(7), Text("seven".into())], vec![Null, Null]];
            let columns = arrays(&constant.iter().collect::<Vec<_>>(), &types("it"));
            let rows = RecordBatch::try_new(positional_schema(types("it")), columns).unwrap();
            let constant = plan.add(Operator::Constant { rows }, "it");
            plan.add(Operator::Union { inputs: vec![input, constant] }, "it");
        },
        &["it"],
        |inputs| {
            let constant = [(vec![Int(7), Text("seven".into())], 1), (vec![Null, Null], 1)];
            bag(inputs[0].clone().into_iter().chain(constant))
        },
    );
}

/// The second dataflow starts late, from the first one's compacted trace: as an arrangement, and as rows.
#[test]
fn imports_start_as_of_their_compaction() {
    for workers in [1, 2, 3] {
        for seed in 0..9 {
            let mut rng = StdRng::seed_from_u64(seed);
            let relations = vec![types("it"), types("ii")];
            let count = [1, 4, 30][seed as usize % 3];
            let feed: Feed = relations.iter().map(|types| feed(&mut rng, types, count, false)).collect();
            let plans = [0, 1].map(|relation: u32| {
                let mut plan = Plan::new();
                plan.source(relation, ["it", "ii"][relation as usize]);
                plan.export(10 + relation, vec![0])
            });
            // Both tables live in one plan's stead: the harness feeds the inputs of the first plan only.
            let mut view = Plan::new();
            let left = view.add(Operator::Import { dataflow: ObjectId(10), key: vec![0] }, "it");
            let right = view.add(Operator::Import { dataflow: ObjectId(10), key: vec![0] }, "it");
            let columns = vec![column(1), column(3), column(0)];
            let joined = view.add(Operator::Join { left, right, null_equal: false, filter: vec![], columns }, "tti");
            let aggregates = vec![aggregate("count", None, None)];
            view.add(Operator::Reduce { input: joined, key: vec![0, 1, 2], aggregates }, "ttii");
            let [table, _] = plans;
            let install_at = 7;
            let captured = run(vec![table, view.export(20, vec![2])], relations, feed.clone(), workers, install_at);
            let model = |inputs: &[Bag], _: &[(ErrorRow, Timestamp, Diff)]| {
                let joined = inputs[0].iter().flat_map(|(left, a)| {
                    inputs[0]
                        .iter()
                        .filter(move |(right, _)| left[0] != Null && left[0] == right[0])
                        .map(move |(right, b)| (vec![left[1].clone(), right[1].clone(), left[0].clone()], a * b))
                });
                bag(bag(joined).into_iter().map(|(mut row, count)| {
                    row.push(Int(count));
                    (row, 1)
                }))
            };
            assert!(captured.rows.lock().unwrap().iter().all(|row| row.1 >= install_at - 1));
            compare(&captured, &feed, model, install_at - 1, &format!("seed {seed}, {workers} workers"));
        }
    }
}

/// Rows that are there while the clock's milliseconds are more than the first column and less than the second, or just the
/// third: what will be is stamped with its time, and taken back if the row goes before.
#[test]
fn rows_come_and_go_with_the_clock() {
    let micros = || Expr::Cast(Cast::new(Box::new(plan::clock::clock()), DataType::Int64));
    let at = |index: usize| column(index) * lit(1000i64);
    let is_there = |row: &Row, time: Timestamp| match row.as_slice() {
        [Int(low), Int(high), ..] if *low < time as i64 && (time as i64) < *high => true,
        [_, _, Int(moment), _] => *moment == time as i64,
        _ => false,
    };
    for workers in [1, 2, 3] {
        for seed in 0..9 {
            let mut rng = StdRng::seed_from_u64(seed);
            let kinds = types("iiit");
            let feed: Feed = vec![feed(&mut rng, &kinds, [1, 4, 30][seed as usize % 3], false)];
            let mut plan = Plan::new();
            let input = plan.source(0, "iiit");
            let between = micros().gt(at(0)).and(Expr::Not(Box::new(micros().gt_eq(at(1)))));
            let condition = between.or(micros().eq(at(2)));
            plan.add(Operator::TemporalFilter { input, condition }, "iiit");
            let captured = run(vec![plan.export(100, vec![0])], vec![kinds], feed.clone(), workers, 0);
            let rows = captured.rows.lock().unwrap();
            for time in 1..TIMES + 8 {
                let expected = as_of(&feed[0], time).into_iter().filter(|(row, _)| is_there(row, time)).collect();
                assert_eq!(as_of(&rows, time), expected, "at time {time}, seed {seed}, {workers} workers");
            }
            assert!(captured.errors.lock().unwrap().is_empty());
        }
    }
}

/// Percentiles that are counted, of integers and of texts whose first eight bytes agree, in both directions.
#[test]
fn order_statistics_are_the_kth_of_all_values() {
    for (value, descending) in [(1, false), (1, true), (2, false), (2, true)] {
        let fractions = [0.0, 0.3, 0.5, 1.0];
        check(
            |plan| {
                let input = plan.source(0, "iit");
                let calls = fractions.map(|fraction| Percentile { fraction, continuous: false });
                let value = SortKey { column: value, descending, nulls_first: false };
                let kinds = if value.column == 1 { "iiiii" } else { "itttt" };
                plan.add(Operator::OrderStatistic { input, key: vec![0], value, calls: calls.to_vec() }, kinds);
            },
            &["iit"],
            |inputs| {
                bag(groups(&inputs[0], &[0]).into_iter().map(|(mut key, rows)| {
                    let copies = rows.iter().flat_map(|(row, count)| vec![row[value].clone(); *count as usize]);
                    let mut values: Vec<Value> = copies.filter(|value| *value != Null).collect();
                    values.sort();
                    if descending {
                        values.reverse();
                    }
                    for fraction in fractions {
                        let place = (fraction * values.len() as f64).ceil().max(1.0) as usize - 1;
                        key.push(values.get(place).cloned().unwrap_or(Null));
                    }
                    (key, 1)
                }))
            },
        );
    }
}

/// What can be reached from relation 1 along the edges of relation 0, with or without its number of ways.
fn reach_plan(plan: &mut Plan, distinct: bool, ascending: bool, iteration_limit: u64) {
    let (edges, roots) = (plan.source(0, "ii"), plan.source(1, "i"));
    let mut body = Plan::new();
    let edge = body.add(Operator::Entered { input: 0 }, "ii");
    let root = body.add(Operator::Entered { input: 1 }, "i");
    let variable = body.add(Operator::Variable { result: 0 }, "i");
    let left = body.add(Operator::Arrange { input: variable, key: vec![0] }, "i");
    let right = body.add(Operator::Arrange { input: edge, key: vec![0] }, "ii");
    let filter = if ascending { vec![column(1).lt(column(2))] } else { Vec::new() };
    let step = body.add(Operator::Join { left, right, null_equal: false, filter, columns: vec![column(2)] }, "i");
    let mut result = body.add(Operator::Union { inputs: vec![root, step] }, "i");
    if distinct {
        result = body.add(Operator::Distinct { input: result }, "i");
    }
    let results = vec![result];
    let limit = IterationLimit { count: iteration_limit, returns: false };
    let body = Box::new(Recursion { nodes: body.nodes, results, limit });
    plan.add(Operator::Recursion { inputs: vec![edges, roots], body }, "i");
}

/// The result of `iterations`, or of as many as change something.
fn reach_model(inputs: &[Bag], distinct: bool, ascending: bool, iterations: usize) -> Bag {
    let mut result = Bag::new();
    for _ in 0..iterations {
        let step = result.iter().flat_map(|(row, count)| {
            inputs[0]
                .iter()
                .filter(move |(edge, _)| row[0] != Null && edge[0] == row[0] && (!ascending || edge[0] < edge[1]))
                .filter(move |(edge, _)| !ascending || edge[1] != Null)
                .map(move |(edge, copies)| (vec![edge[1].clone()], count * copies))
        });
        let rows = bag(step.chain(inputs[1].iter().map(|(row, count)| (row.clone(), *count))));
        let next = if distinct { bag(rows.into_keys().map(|row| (row, 1))) } else { rows };
        if next == result {
            break;
        }
        result = next;
    }
    result
}

#[test]
fn a_loop_reaches_along_edges_that_come_and_go() {
    check(|plan| reach_plan(plan, true, false, 1000), &["ii", "i"], |inputs| reach_model(inputs, true, false, 1000));
}

#[test]
fn a_loop_without_distinct_counts_the_ways() {
    check(|plan| reach_plan(plan, false, true, 1000), &["ii", "i"], |inputs| reach_model(inputs, false, true, 1000));
}

#[test]
fn a_loop_that_does_not_end_in_time_is_an_error_while_it_does_not() {
    check_feed(
        |plan| reach_plan(plan, true, false, 3),
        &["ii", "i"],
        false,
        |inputs, errors| {
            let result = reach_model(inputs, true, false, 3);
            let ends = result == reach_model(inputs, true, false, 2);
            let standing: Diff = errors.iter().map(|error| error.2).sum();
            assert_eq!(standing, if ends { 0 } else { 1 });
            assert!(errors.iter().all(|error| error.0.state.0 == "54000"));
            result
        },
    );
}

/// A loop over relations 0, the edges, and 1, the roots, whose results start as the roots and whose iterations `step` gives. Edges
/// and results have two columns, of which an edge joins the first ones.
struct Looped<'a> {
    iteration_limit: u64,
    /// From the rows that went one edge further (a result's two columns, the edge's two) and the roots to a result.
    step: &'a dyn Fn(&mut Plan, NodeId, NodeId) -> NodeId,
}

impl Looped<'_> {
    fn build(&self, plan: &mut Plan) {
        let (edges, roots) = (plan.source(0, "ii"), plan.source(1, "ii"));
        let mut body = Plan::new();
        let edge = body.add(Operator::Entered { input: 0 }, "ii");
        let root = body.add(Operator::Entered { input: 1 }, "ii");
        let variable = body.add(Operator::Variable { result: 0 }, "ii");
        let left = body.add(Operator::Arrange { input: variable, key: vec![0] }, "ii");
        let right = body.add(Operator::Arrange { input: edge, key: vec![0] }, "ii");
        let columns = vec![column(0), column(1), column(2), column(3)];
        let filter = Vec::new();
        let further = body.add(Operator::Join { left, right, null_equal: false, filter, columns }, "iiii");
        let results = vec![(self.step)(&mut body, further, root)];
        let limit = IterationLimit { count: self.iteration_limit, returns: true };
        let body = Box::new(Recursion { nodes: body.nodes, results, limit });
        plan.add(Operator::Recursion { inputs: vec![edges, roots], body }, "ii");
    }

    /// The result of the last iteration, by `step` of the rows one edge further.
    fn model(&self, inputs: &[Bag], step: impl Fn(Vec<(Row, Diff)>, &Bag) -> Bag) -> Bag {
        let mut result = Bag::new();
        for _ in 0..self.iteration_limit {
            let mut further = Vec::new();
            for (row, count) in &result {
                let met = inputs[0].iter().filter(|(edge, _)| row[0] != Null && edge[0] == row[0]);
                further.extend(met.map(|(edge, copies)| ([row.clone(), edge.clone()].concat(), count * copies)));
            }
            result = step(further, &inputs[1]);
        }
        result
    }
}

fn sum(left: &Value, right: &Value) -> Value {
    match (left, right) {
        (Int(left), Int(right)) => Int(left + right),
        _ => Null,
    }
}

/// The rows one edge further, the edge's second column added to the result's, and the roots.
fn lengthened(body: &mut Plan, further: NodeId, root: NodeId) -> NodeId {
    let columns = vec![column(3), column(1) + column(3)];
    let lengthened = body.add(Operator::Map { input: further, filter: Vec::new(), columns }, "ii");
    body.add(Operator::Union { inputs: vec![lengthened, root] }, "ii")
}

fn lengthened_model(further: Vec<(Row, Diff)>, roots: &Bag) -> Bag {
    let lengthened = further.into_iter().map(|(row, count)| (vec![row[3].clone(), sum(&row[1], &row[3])], count));
    bag(lengthened.chain(roots.iter().map(|(row, count)| (row.clone(), *count))))
}

#[test]
fn a_loop_keeps_the_first_rows_of_its_groups() {
    for (offset, limit, descending) in [(0, 1, false), (0, 1, true), (1, 2, false)] {
        let order = vec![SortKey { column: 1, descending, nulls_first: false }];
        let step = |body: &mut Plan, further, root| {
            let input = lengthened(body, further, root);
            let (order, limit) = (order.clone(), Some(limit));
            body.add(Operator::TopK { input, key: vec![0], order, offset, limit }, "ii")
        };
        let looped = Looped { iteration_limit: 5, step: &step };
        let first = |further, roots: &Bag| {
            let rows = vec![lengthened_model(further, roots)];
            top_k_model(&rows, &order, offset as usize, Some(limit as usize))
        };
        check(|plan| looped.build(plan), &["ii", "ii"], |inputs| looped.model(inputs, first));
    }
}

#[test]
fn a_loop_counts_its_own_rows() {
    // Rows of few copies go on, so that more rows may mean fewer: a count must go back as well as forth.
    let step = |body: &mut Plan, further, root| {
        let (filter, columns) = (vec![column(1).lt(lit(3i64))], vec![column(3)]);
        let further = body.add(Operator::Map { input: further, filter, columns }, "i");
        let root = body.add(Operator::Map { input: root, filter: Vec::new(), columns: vec![column(0)] }, "i");
        let input = body.add(Operator::Union { inputs: vec![further, root] }, "i");
        let aggregates = vec![aggregate("count", None, None)];
        body.add(Operator::Reduce { input, key: vec![0], aggregates }, "ii")
    };
    for iteration_limit in [1, 2, 7] {
        let looped = Looped { iteration_limit, step: &step };
        let counted = |further: Vec<(Row, Diff)>, roots: &Bag| {
            let few = further.into_iter().filter(|(row, _)| row[1] < Int(3));
            let rows = few.map(|(row, count)| (vec![row[3].clone()], count));
            let rows = bag(rows.chain(roots.iter().map(|(row, count)| (vec![row[0].clone()], *count))));
            bag(rows.into_iter().map(|(row, count)| (vec![row[0].clone(), Int(count)], 1)))
        };
        check(|plan| looped.build(plan), &["ii", "ii"], |inputs| looped.model(inputs, counted));
    }
}

#[test]
fn a_loop_aggregates_whole_groups() {
    let step = |body: &mut Plan, further, root| {
        let input = lengthened(body, further, root);
        let input = body.add(Operator::Arrange { input, key: vec![0] }, "ii");
        body.add(Operator::Fold { input, key: vec![0], calls: vec![bit_xor(column(1), None)] }, "ii")
    };
    let looped = Looped { iteration_limit: 6, step: &step };
    let folded = |further, roots: &Bag| {
        bag(groups(&lengthened_model(further, roots), &[0]).into_iter().map(|(mut row, rows)| {
            row.push(bit_xor_model(&rows, |row| row[1].clone()));
            (row, 1)
        }))
    };
    check(|plan| looped.build(plan), &["ii", "ii"], |inputs| looped.model(inputs, folded));
}

#[test]
fn a_group_that_fails_in_a_loop_is_an_error_while_it_does() {
    let step = |body: &mut Plan, _, root| {
        let input = body.add(Operator::Arrange { input: root, key: vec![0] }, "ii");
        body.add(Operator::Fold { input, key: vec![0], calls: vec![bit_xor(lit(12i64) / column(1), None)] }, "ii")
    };
    let looped = Looped { iteration_limit: 6, step: &step };
    check_feed(|plan| looped.build(plan), &["ii", "ii"], false, |inputs, errors| divided_model(&inputs[1], errors));
}

/// Even and odd numbers of steps: the second result reads what the first has just become, the first what the second was.
#[test]
fn the_results_of_a_loop_read_each_other() {
    let build = |plan: &mut Plan| {
        let (edges, roots) = (plan.source(0, "ii"), plan.source(1, "i"));
        let mut body = Plan::new();
        let edge = body.add(Operator::Entered { input: 0 }, "ii");
        let root = body.add(Operator::Entered { input: 1 }, "i");
        let step = |body: &mut Plan, input: NodeId| {
            let left = body.add(Operator::Arrange { input, key: vec![0] }, "i");
            let right = body.add(Operator::Arrange { input: edge, key: vec![0] }, "ii");
            let (filter, columns) = (Vec::new(), vec![column(2)]);
            body.add(Operator::Join { left, right, null_equal: false, filter, columns }, "i")
        };
        let odd_before = body.add(Operator::Variable { result: 1 }, "i");
        let further = step(&mut body, odd_before);
        let even = body.add(Operator::Union { inputs: vec![root, further] }, "i");
        let even = body.add(Operator::Distinct { input: even }, "i");
        let odd = step(&mut body, even);
        let odd = body.add(Operator::Distinct { input: odd }, "i");
        let results = vec![even, odd];
        let limit = IterationLimit { count: 100, returns: false };
        let body = Box::new(Recursion { nodes: body.nodes, results, limit });
        let input = plan.add(Operator::Recursion { inputs: vec![edges, roots], body }, "i");
        let odd = plan.add(Operator::LoopResult { input, result: 1 }, "i");
        let tagged = |plan: &mut Plan, input: NodeId, tag: i64| {
            plan.add(Operator::Map { input, filter: Vec::new(), columns: vec![column(0), lit(tag)] }, "ii")
        };
        let inputs = vec![tagged(plan, input, 0), tagged(plan, odd, 1)];
        plan.add(Operator::Union { inputs }, "ii");
    };
    let model = |inputs: &[Bag]| {
        let distinct = |rows: Vec<Row>| bag(bag(rows.into_iter().map(|row| (row, 1))).into_keys().map(|row| (row, 1)));
        let step = |rows: &Bag| -> Vec<Row> {
            let met =
                |row: &Row| inputs[0].keys().filter(|edge| row[0] != Null && edge[0] == row[0]).collect::<Vec<_>>();
            rows.keys().flat_map(met).map(|edge| vec![edge[1].clone()]).collect()
        };
        let (mut even, mut odd) = (Bag::new(), Bag::new());
        for _ in 0..100 {
            even = distinct(inputs[1].keys().cloned().chain(step(&odd)).collect());
            odd = distinct(step(&even));
        }
        let tagged = |rows: Bag, tag: i64| rows.into_keys().map(move |row| (vec![row[0].clone(), Int(tag)], 1));
        bag(tagged(even, 0).chain(tagged(odd, 1)))
    };
    check(build, &["ii", "i"], model);
}
