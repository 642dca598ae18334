//! The runtime from outside: plans written by hand go in, rows go in, peeks and subscriptions must agree with a plain fold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use dataflow::{PeekTarget, Runtime, RuntimeConfig, SubscribeEvent, Write};
use datafusion::logical_expr::{Expr, binary_expr, lit};
use plan::dataflow_plan::{Aggregate, DataflowPlan, Export, Node, Operator, column, positional_schema};
use repr::source::Positions;
use repr::{Lane, ObjectId, Timestamp};
use tokio::sync::{mpsc, oneshot};

const TABLE: ObjectId = ObjectId(1);
const TABLE_PLAN: ObjectId = ObjectId(2);
const TOTALS: ObjectId = ObjectId(3);
const LARGE: ObjectId = ObjectId(4);

fn start(workers: usize) -> Runtime {
    Runtime::start(RuntimeConfig { workers }).expect("threads can be started")
}

fn node(operator: Operator, types: &[DataType]) -> Node {
    Node { operator, schema: positional_schema(types.iter().cloned()), keys: Vec::new(), append_only: false }
}

fn source(relation: ObjectId, width: usize) -> Node {
    node(Operator::Source { relation, columns: (0..width).collect() }, &vec![DataType::Int64; width])
}

/// `SELECT * FROM relation`, two bigint columns, arranged by `key`.
fn relation_plan(id: ObjectId, relation: ObjectId, key: Vec<usize>) -> DataflowPlan {
    let nodes = vec![source(relation, 2)];
    DataflowPlan {
        id,
        name: format!("relation {id}"),
        nodes,
        export: Export { node: 0, key, unique: false },
        options: Default::default(),
    }
}

fn import(dataflow: ObjectId, key: Vec<usize>, width: usize) -> Node {
    node(Operator::Import { dataflow, key }, &vec![DataType::Int64; width])
}

/// `SELECT #0, count(*) FROM input GROUP BY #0` and the like over node 0.
fn grouped(id: ObjectId, input: Node, aggregates: Vec<Aggregate>) -> DataflowPlan {
    let mut types = vec![DataType::Int64];
    types.extend(aggregates.iter().map(|aggregate| aggregate.output.clone()));
    let reduce = node(Operator::Reduce { input: 0, key: vec![0], aggregates }, &types);
    DataflowPlan {
        id,
        name: format!("grouped {id}"),
        nodes: vec![input, reduce],
        export: Export { node: 1, key: vec![0], unique: true },
        options: Default::default(),
    }
}

fn count() -> Aggregate {
    Aggregate { function: "count".into(), argument: None, filter: None, output: DataType::Int64 }
}

/// `SELECT * FROM input WHERE predicate`, two bigint columns.
fn filtered(id: ObjectId, input: Node, predicate: Expr) -> DataflowPlan {
    let map = Operator::Map { input: 0, filter: vec![predicate], columns: vec![column(0), column(1)] };
    DataflowPlan {
        id,
        name: format!("filtered {id}"),
        nodes: vec![input, node(map, &[DataType::Int64, DataType::Int64])],
        export: Export { node: 1, key: vec![0, 1], unique: false },
        options: Default::default(),
    }
}

fn columns(rows: &[(i64, i64)]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
    ]
}

fn write_of(relation: ObjectId, rows: &[(i64, i64, i64)]) -> Write {
    let values: Vec<(i64, i64)> = rows.iter().map(|row| (row.0, row.1)).collect();
    Write {
        relation,
        columns: columns(&values),
        row_count: rows.len(),
        diffs: Lane::Values(rows.iter().map(|row| row.2).collect()),
    }
}

/// Writes `(a, b, diff)` rows to the table.
fn write(runtime: &Runtime, rows: &[(i64, i64, i64)]) -> Timestamp {
    runtime.write(vec![write_of(TABLE, rows)], Vec::new())
}

fn wait<T>(mut receiver: oneshot::Receiver<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match receiver.try_recv() {
            Ok(answer) => return answer,
            Err(oneshot::error::TryRecvError::Closed) => panic!("nobody answers"),
            Err(oneshot::error::TryRecvError::Empty) if Instant::now() > deadline => panic!("no answer in time"),
            Err(oneshot::error::TryRecvError::Empty) => thread::sleep(Duration::from_micros(50)),
        }
    }
}

/// All rows of an export of two bigint columns, sorted.
fn rows(runtime: &Runtime, dataflow: ObjectId) -> Vec<(i64, i64)> {
    look_up(runtime, dataflow, None)
}

fn look_up(runtime: &Runtime, dataflow: ObjectId, keys: Option<Vec<ArrayRef>>) -> Vec<(i64, i64)> {
    let mut peeked = runtime.peek(vec![PeekTarget { dataflow, keys }]);
    let answer = wait(peeked.answers.remove(0)).expect("a readable export");
    let mut rows: Vec<(i64, i64)> = Vec::new();
    for batch in &answer.batches {
        let (a, b) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        rows.extend(a.values().iter().copied().zip(b.values().iter().copied()));
    }
    rows.sort_unstable();
    rows
}

/// What a subscription of two bigint columns adds up to, and the last progress.
#[derive(Default)]
struct Followed {
    counts: BTreeMap<(i64, i64), i64>,
    times: Vec<Timestamp>,
    progress: Timestamp,
}

impl Followed {
    fn rows(&self) -> Vec<(i64, i64)> {
        self.counts.iter().filter(|(_, count)| **count != 0).map(|(row, _)| *row).collect()
    }

    /// Takes events until everything before or at `time` has come.
    fn until(&mut self, runtime: &Runtime, receiver: &mut mpsc::Receiver<SubscribeEvent>, time: Timestamp) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.progress <= time {
            match receiver.try_recv() {
                Ok(SubscribeEvent::Updates(batch)) => {
                    let (a, b) =
                        (batch.columns[0].as_primitive::<Int64Type>(), batch.columns[1].as_primitive::<Int64Type>());
                    for row in 0..batch.row_count() {
                        assert!(batch.times.get(row) >= self.progress, "an update of a time that was complete");
                        self.times.push(batch.times.get(row));
                        *self.counts.entry((a.value(row), b.value(row))).or_default() += batch.diffs.get(row);
                    }
                }
                Ok(SubscribeEvent::Progress(time)) => {
                    assert!(time > self.progress);
                    self.progress = time;
                }
                Ok(SubscribeEvent::Failed(error)) => panic!("{error}"),
                Err(mpsc::error::TryRecvError::Empty) => {
                    assert!(Instant::now() < deadline, "no progress to {time}");
                    runtime.tick_if_due();
                    thread::sleep(Duration::from_micros(20));
                }
                Err(mpsc::error::TryRecvError::Disconnected) => panic!("the subscription ended"),
            }
        }
    }
}

#[test]
fn a_peek_sees_every_acknowledged_write() {
    for workers in [1, 2] {
        let runtime = start(workers);
        runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
        assert_eq!(rows(&runtime, TABLE_PLAN), []);
        for value in 0..200 {
            write(&runtime, &[(value, 1, 1)]);
            assert_eq!(rows(&runtime, TABLE_PLAN).len(), value as usize + 1);
        }
        write(&runtime, &[(7, 1, -1), (7, 2, 3)]);
        assert_eq!(look_up(&runtime, TABLE_PLAN, Some(vec![Arc::new(Int64Array::from(vec![7]))])), [(7, 2); 3]);
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![3, 9, 3, 1000]));
        assert_eq!(look_up(&runtime, TABLE_PLAN, Some(vec![keys])), [(3, 1), (9, 1)]);
        let retractions: Vec<(i64, i64, i64)> =
            rows(&runtime, TABLE_PLAN).into_iter().map(|(a, b)| (a, b, -1)).collect();
        write(&runtime, &retractions);
        assert_eq!(rows(&runtime, TABLE_PLAN), []);
        runtime.shutdown();
    }
}

/// Batches of every size lie in the arrangement, rows come several times, go, and come again.
#[test]
fn a_peek_is_the_sum_of_all_updates() {
    for workers in [1, 2] {
        let runtime = start(workers);
        runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
        let mut counts: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for step in 0..60 {
            let row_count = [40_000, 3_000, 200, 5][step % 4];
            let mut updates = Vec::new();
            for _ in 0..row_count {
                let row = (random(3_000) as i64, random(20) as i64);
                let count = counts.entry(row).or_default();
                let diff = if *count > 0 && random(2) == 0 { -1 } else { 1 + random(2) as i64 };
                *count += diff;
                updates.push((row.0, row.1, diff));
            }
            write(&runtime, &updates);
            let expected: Vec<(i64, i64)> =
                counts.iter().flat_map(|(row, count)| std::iter::repeat_n(*row, *count as usize)).collect();
            assert_eq!(rows(&runtime, TABLE_PLAN), expected);
            let key = random(3_000) as i64;
            let of_key: Vec<(i64, i64)> = expected.into_iter().filter(|row| row.0 == key).collect();
            assert_eq!(look_up(&runtime, TABLE_PLAN, Some(vec![Arc::new(Int64Array::from(vec![key]))])), of_key);
        }
    }
}

#[test]
fn a_plan_over_another_follows_it() {
    for workers in [1, 2] {
        let runtime = start(workers);
        runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
        write(&runtime, &[(1, 10, 1), (1, 11, 1), (2, 20, 1)]);
        let installed = runtime.install(grouped(TOTALS, import(TABLE_PLAN, vec![0], 2), vec![count()]));
        assert!(installed.expect("a valid plan").backfills.is_empty());
        assert_eq!(rows(&runtime, TOTALS), [(1, 2), (2, 1)]);
        write(&runtime, &[(2, 21, 1), (1, 10, -1), (1, 11, -1)]);
        assert_eq!(rows(&runtime, TOTALS), [(2, 2)]);
        runtime.install(filtered(LARGE, import(TOTALS, vec![0], 2), column(1).gt(lit(2i64)))).expect("a valid plan");
        assert_eq!(rows(&runtime, LARGE), []);
        write(&runtime, &[(2, 22, 1)]);
        assert_eq!(rows(&runtime, LARGE), [(2, 3)]);
        runtime.uninstall(LARGE);
        runtime.uninstall(TOTALS);
        write(&runtime, &[(3, 30, 1)]);
        assert_eq!(rows(&runtime, TABLE_PLAN).len(), 4);
        let mut gone = runtime.peek(vec![PeekTarget { dataflow: TOTALS, keys: None }]);
        assert!(wait(gone.answers.remove(0)).is_err());
        runtime.install(grouped(TOTALS, import(TABLE_PLAN, vec![0], 2), vec![count()])).expect("the id is free again");
        assert_eq!(rows(&runtime, TOTALS), [(2, 3), (3, 1)]);
    }
}

#[test]
fn a_plan_that_cannot_run_is_refused() {
    let runtime = start(1);
    assert!(runtime.install(grouped(TOTALS, import(TABLE_PLAN, vec![0], 2), vec![count()])).is_err());
    runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
    assert!(runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).is_err());
    let wrong: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let mut peeked = runtime.peek(vec![PeekTarget { dataflow: TABLE_PLAN, keys: Some(vec![wrong]) }]);
    assert!(wait(peeked.answers.remove(0)).is_err());
    assert_eq!(rows(&runtime, TABLE_PLAN), []);
}

#[test]
fn a_source_read_before_is_backfilled() {
    for workers in [1, 2] {
        let runtime = start(workers);
        let installed = runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
        assert!(installed.backfills.is_empty());
        let history: Vec<(i64, i64)> = (0..200_000).map(|value| (value % 1000, value)).collect();
        for (index, part) in history.chunks(8192).enumerate() {
            runtime.wait_capacity(TABLE);
            let positions = Positions::from([("0".to_owned(), (index * 8192 + part.len()) as u64)]);
            runtime.append(TABLE, columns(part), part.len(), Lane::Constant(1, part.len()), Some(positions));
            runtime.tick_if_due();
        }
        let mut installed = runtime.install(grouped(TOTALS, source(TABLE, 2), vec![count()])).expect("a valid plan");
        let mut backfill = installed.backfills.pop().expect("the source was read");
        assert_eq!(backfill.positions["0"], 200_000);
        assert_eq!(runtime.source_positions(TABLE)["0"], 200_000);
        // Live rows go on while the history is read again.
        let positions = Some(Positions::from([("0".to_owned(), 200_001)]));
        runtime.append(TABLE, columns(&[(5, -1)]), 1, Lane::Constant(1, 1), positions);
        runtime.tick();
        let mut pending = runtime.peek(vec![PeekTarget { dataflow: TOTALS, keys: None }]);
        for part in history.chunks(10_000) {
            backfill.append(columns(part), part.len()).expect("the dataflow runs");
        }
        thread::sleep(Duration::from_millis(20));
        assert!(pending.answers[0].try_recv().is_err(), "answered before its history was complete");
        assert!(runtime.frontier(TOTALS).expect("it runs") <= installed.as_of);
        backfill.finish();
        assert!(wait(pending.answers.remove(0)).is_ok());
        let totals = rows(&runtime, TOTALS);
        assert_eq!(totals.len(), 1000);
        assert!(totals.iter().all(|(key, count)| *count == if *key == 5 { 201 } else { 200 }));
        assert_eq!(rows(&runtime, TABLE_PLAN).len(), 200_001);
    }
}

#[test]
fn a_subscription_adds_up_to_the_export_at_every_progress() {
    for workers in [1, 2] {
        let runtime = start(workers);
        runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
        runtime.install(grouped(TOTALS, import(TABLE_PLAN, vec![0], 2), vec![count()])).expect("a valid plan");
        write(&runtime, &[(1, 1, 1), (2, 1, 1)]);
        let mut receiver = runtime.subscribe(TOTALS, true);
        let mut later = runtime.subscribe(TOTALS, false);
        let (mut followed, mut changes) = (Followed::default(), Followed::default());
        let mut counts: BTreeMap<i64, i64> = BTreeMap::from([(1, 1), (2, 1)]);
        for step in 0..300i64 {
            let key = step * 7 % 13;
            let time = write(&runtime, &[(key, step, 1)]);
            *counts.entry(key).or_default() += 1;
            followed.until(&runtime, &mut receiver, time);
            assert_eq!(followed.rows(), counts.iter().map(|(key, count)| (*key, *count)).collect::<Vec<_>>());
        }
        changes.until(&runtime, &mut later, followed.progress - 1);
        let sum: i64 = changes.counts.iter().map(|((_, total), count)| total * count).sum();
        assert_eq!(sum, 300);
        assert!(followed.times.is_sorted());
        drop(receiver);
        write(&runtime, &[(1, -1, 1)]);
        runtime.tick_if_due();
        runtime.uninstall(TOTALS);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match later.try_recv() {
                Ok(SubscribeEvent::Failed(_)) => break,
                Ok(_) => {}
                Err(_) => assert!(Instant::now() < deadline, "the end of the dataflow is not told"),
            }
        }
    }
}

#[test]
fn transfers_never_change_the_sum() {
    for workers in [1, 2] {
        let runtime = start(workers);
        runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
        runtime
            .install(filtered(LARGE, import(TABLE_PLAN, vec![0], 2), column(1).gt(lit(-1i64))))
            .expect("a valid plan");
        let accounts = 20i64;
        write(&runtime, &(0..accounts).map(|account| (account, 100, 1)).collect::<Vec<_>>());
        let is_over = Arc::new(AtomicBool::new(false));
        let read_count = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (runtime, is_over, read_count) = (runtime.clone(), Arc::clone(&is_over), Arc::clone(&read_count));
                thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let targets = [TABLE_PLAN, LARGE].map(|dataflow| PeekTarget { dataflow, keys: None });
                        let peeked = runtime.peek(targets.to_vec());
                        let mut sums = Vec::new();
                        for answer in peeked.answers {
                            let answer = wait(answer).expect("a readable export");
                            let sum: i64 = answer
                                .batches
                                .iter()
                                .flat_map(|batch| batch.column(1).as_primitive::<Int64Type>().values().to_vec())
                                .sum();
                            sums.push(sum);
                        }
                        assert_eq!(sums, [accounts * 100; 2]);
                        read_count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut balances = vec![100i64; accounts as usize];
        for step in 0.. {
            if step >= 1000i64 && read_count.load(Ordering::Relaxed) >= 100 {
                break;
            }
            assert!(!readers.iter().any(thread::JoinHandle::is_finished), "a reader has failed");
            let (from, to) = ((step * 31 % accounts) as usize, ((step * 17 + 3) % accounts) as usize);
            if from == to || balances[from] == 0 {
                continue;
            }
            let before = (balances[from], balances[to]);
            balances[from] -= 1;
            balances[to] += 1;
            write(
                &runtime,
                &[
                    (from as i64, before.0, -1),
                    (from as i64, balances[from], 1),
                    (to as i64, before.1, -1),
                    (to as i64, balances[to], 1),
                ],
            );
        }
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().expect("every sum agreed"));
        let expected: Vec<(i64, i64)> =
            balances.iter().enumerate().map(|(account, sum)| (account as i64, *sum)).collect();
        assert_eq!(rows(&runtime, LARGE), expected);
    }
}

#[test]
fn a_failing_row_is_an_error_until_it_is_mended() {
    let runtime = start(2);
    runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
    let quotient = binary_expr(lit(100i64), datafusion::logical_expr::Operator::Divide, column(1));
    runtime.install(filtered(LARGE, import(TABLE_PLAN, vec![0], 2), quotient.gt(lit(10i64)))).expect("a valid plan");
    let time = write(&runtime, &[(1, 5, 1), (2, 0, 1), (3, 50, 1)]);
    let mut peeked = runtime.peek(vec![PeekTarget { dataflow: LARGE, keys: None }]);
    let answer = wait(peeked.answers.remove(0)).expect("errors are data");
    assert_eq!(answer.error_count, 1);
    assert_eq!(rows(&runtime, LARGE), [(1, 5)]);
    let errors = runtime.errors();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].0, errors[0].2, errors[0].3), (LARGE, time, 1));
    write(&runtime, &[(2, 0, -1), (2, 1, 1)]);
    assert_eq!(rows(&runtime, LARGE), [(1, 5), (2, 1)]);
    assert!(runtime.errors().is_empty());
    let mut peeked = runtime.peek(vec![PeekTarget { dataflow: LARGE, keys: None }]);
    assert_eq!(wait(peeked.answers.remove(0)).expect("mended").error_count, 0);
}

#[test]
fn ticks_and_figures_follow_the_rows() {
    let runtime = start(2);
    runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
    let closed = runtime.closed();
    runtime.tick_if_due();
    assert_eq!(runtime.closed(), closed, "nothing was appended");
    let time = runtime.append(TABLE, columns(&[(1, 1)]), 1, Lane::Constant(1, 1), None).expect("all columns are there");
    assert!(time > closed);
    assert_eq!(rows(&runtime, TABLE_PLAN), [], "the open time is not read");
    assert!(runtime.wait_until(TABLE_PLAN, closed, Duration::from_secs(10)));
    runtime.tick_if_due();
    assert_eq!(runtime.closed(), time);
    assert_eq!(rows(&runtime, TABLE_PLAN), [(1, 1)]);
    assert!(runtime.wait_until(TABLE_PLAN, time, Duration::from_secs(10)));
    let stats = runtime.stats();
    assert_eq!(stats.len(), 1);
    assert_eq!((stats[0].rows_in, stats[0].lag_ms), (1, 0));
    assert_eq!(stats[0].operators.iter().map(|operator| operator.row_count).sum::<usize>(), 1);
    assert_eq!(runtime.relation_stats()[0].rows_in, 1);
    assert_eq!(runtime.peek_latency().count, 2);
}

#[test]
fn many_rows_at_once_keep_sources_waiting_but_not_for_ever() {
    for workers in [1, 2] {
        let runtime = start(workers);
        runtime.install(grouped(TOTALS, source(TABLE, 2), vec![count()])).expect("a valid plan");
        let part: Vec<(i64, i64)> = (0..16_384).map(|value| (value % 100, value)).collect();
        for _ in 0..100 {
            runtime.wait_capacity(TABLE);
            runtime.append(TABLE, columns(&part), part.len(), Lane::Constant(1, part.len()), None);
        }
        runtime.tick();
        let total: i64 = rows(&runtime, TOTALS).into_iter().map(|(_, count)| count).sum();
        assert_eq!(total, 1_638_400);
    }
}

#[test]
fn after_shutdown_every_request_is_answered_with_an_error() {
    let runtime = start(2);
    runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
    write(&runtime, &[(1, 1, 1)]);
    let mut before = runtime.peek(vec![PeekTarget { dataflow: TABLE_PLAN, keys: None }]);
    runtime.shutdown();
    assert!(wait(before.answers.remove(0)).is_ok());
    write(&runtime, &[(1, 1, 1)]);
    runtime.wait_capacity(TABLE);
    let mut after = runtime.peek(vec![PeekTarget { dataflow: TABLE_PLAN, keys: None }]);
    assert!(wait(after.answers.remove(0)).is_err());
    assert!(runtime.install(relation_plan(TOTALS, TABLE, vec![0])).is_err());
    assert!(runtime.stats().len() <= 1);
    let mut subscription = runtime.subscribe(TABLE_PLAN, true);
    assert!(matches!(subscription.blocking_recv(), Some(SubscribeEvent::Failed(_))));
}

#[test]
fn a_panic_in_a_worker_answers_everyone() {
    for workers in [1, 2] {
        let runtime = start(workers);
        runtime.install(relation_plan(TABLE_PLAN, TABLE, vec![0])).expect("a valid plan");
        write(&runtime, &[(1, 1, 1)]);
        let mut subscription = runtime.subscribe(TABLE_PLAN, true);
        // A column is missing: no caller may do that, and an operator trips over it.
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let broken = Write { relation: TABLE, columns: vec![column], row_count: 1, diffs: Lane::Constant(1, 1) };
        runtime.write(vec![broken], Vec::new());
        let mut peeked = runtime.peek(vec![PeekTarget { dataflow: TABLE_PLAN, keys: None }]);
        assert!(wait(peeked.answers.remove(0)).is_err());
        let failed = loop {
            if let SubscribeEvent::Failed(error) = subscription.blocking_recv().expect("an end is told") {
                break error;
            }
        };
        assert_eq!(failed.state.0, "XX000");
        assert!(runtime.failed().is_some());
        runtime.wait_capacity(TABLE);
        assert!(runtime.install(relation_plan(TOTALS, TABLE, vec![0])).is_err());
        runtime.shutdown();
    }
}
