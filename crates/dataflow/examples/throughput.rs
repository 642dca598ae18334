//! CPU time a row of the operators that matter most, without connectors or the runtime around them.
//!
//! `cargo run -p dataflow --example throughput [workload ..]`; `ROWS`, `BATCH` and `WORKERS` change the size. Rows are
//! made before the clock starts to count.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use dataflow::render::{Clock, render};
use dataflow::updates::Updates;
use differential_dataflow::trace::TraceReader;
use plan::dataflow_plan::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use repr::{Lane, ObjectId, Timestamp};
use timely::container::NoopBuilder;
use timely::dataflow::operators::Probe;
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::progress::frontier::AntichainRef;

type Input = InputHandle<Timestamp, NoopBuilder<Updates>>;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// CPU seconds of this process so far.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_mib() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) / 256
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn words(rng: &mut StdRng, len: usize) -> Vec<ArrayRef> {
    vec![Arc::new(StringArray::from_iter_values((0..len).map(|_| {
        let word = rng.random_range(0..5000u64) * 2654435761;
        format!("w{:07}", word % 9_999_991)
    })))]
}

fn pairs(rng: &mut StdRng, len: usize) -> Vec<ArrayRef> {
    let keys = integers((0..len).map(|_| rng.random_range(0..1_000_000)));
    vec![keys, integers((0..len).map(|_| rng.random_range(0..1_000_000)))]
}

fn auctions(rng: &mut StdRng, start: usize, len: usize) -> Vec<ArrayRef> {
    let names = StringArray::from_iter_values((start..start + len).map(|id| format!("auction-{id:012}")));
    let ids = integers((start..start + len).map(|id| id as i64));
    vec![ids, integers((0..len).map(|_| rng.random_range(0..20))), Arc::new(names)]
}

struct Plan(Vec<Node>);

impl Plan {
    fn add(&mut self, operator: Operator, kinds: &str) -> NodeId {
        let types = kinds.chars().map(|kind| if kind == 'i' { DataType::Int64 } else { DataType::Utf8 });
        let append_only = setting("APPEND_ONLY", 0) == 1;
        self.0.push(Node { operator, schema: positional_schema(types), keys: Vec::new(), append_only });
        self.0.len() - 1
    }

    fn source(&mut self, relation: u32, kinds: &str) -> NodeId {
        self.add(Operator::Source { relation: ObjectId(relation), columns: (0..kinds.len()).collect() }, kinds)
    }

    fn max(&mut self, input: NodeId, kinds: &str) -> NodeId {
        let order = vec![SortKey { column: kinds.len() - 1, descending: true, nulls_first: false }];
        let key = (0..kinds.len() - 1).collect();
        self.add(Operator::TopK { input, key, order, offset: 0, limit: Some(1) }, kinds)
    }

    fn joined(&mut self) -> NodeId {
        let (left, right) = (self.source(0, "iit"), self.source(1, "ii"));
        let left = self.add(Operator::Arrange { input: left, key: vec![0] }, "iit");
        let right = self.add(Operator::Arrange { input: right, key: vec![0] }, "ii");
        let columns = vec![column(0), column(1), column(4)];
        self.add(Operator::Join { left, right, null_equal: false, filter: vec![], columns }, "iii")
    }
}

fn count() -> Aggregate {
    Aggregate { function: "count".to_owned(), argument: None, filter: None, output: DataType::Int64 }
}

fn plan(workload: &str) -> DataflowPlan {
    let mut plan = Plan(Vec::new());
    match workload {
        "wordcount" => {
            let input = plan.source(1, "t");
            plan.add(Operator::Reduce { input, key: vec![0], aggregates: vec![count()] }, "ti");
        }
        "count" => {
            let input = plan.source(1, "ii");
            plan.add(Operator::Reduce { input, key: vec![0], aggregates: vec![count()] }, "ii");
        }
        "max" => {
            let input = plan.source(1, "ii");
            plan.max(input, "ii");
        }
        "join" => {
            let input = plan.joined();
            plan.add(Operator::Reduce { input, key: vec![1], aggregates: vec![count()] }, "ii");
        }
        // The greatest bid of each auction, counted by category.
        _ => {
            let input = plan.joined();
            let input = plan.max(input, "iii");
            plan.add(Operator::Reduce { input, key: vec![1], aggregates: vec![count()] }, "ii");
        }
    }
    let node = plan.0.len() - 1;
    DataflowPlan {
        id: ObjectId(9),
        name: workload.to_owned(),
        nodes: plan.0,
        export: Export { node, key: vec![0], unique: false },
        options: Default::default(),
    }
}

fn run(workload: &'static str, workers: usize) {
    let (rows, batch) = (setting("ROWS", 5_000_000), setting("BATCH", 65_536));
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let barrier = Arc::new(std::sync::Barrier::new(workers));
    timely::execute(config, move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let mut rng = StdRng::seed_from_u64(index as u64);
        let plan = plan(workload);
        let joins = plan.sources().len() > 1;
        let auction_count = 1_000_000 / peers;
        let left: Vec<Vec<ArrayRef>> = match joins {
            true => (0..auction_count)
                .step_by(batch)
                .map(|start| auctions(&mut rng, index * auction_count + start, batch.min(auction_count - start)))
                .collect(),
            false => Vec::new(),
        };
        let right: Vec<Vec<ArrayRef>> = (0..rows / peers)
            .step_by(batch)
            .map(|_| if workload == "wordcount" { words(&mut rng, batch) } else { pairs(&mut rng, batch) })
            .collect();
        let row_count: usize = left.iter().chain(&right).map(|columns| columns[0].len()).sum();
        let probe = ProbeHandle::new();
        let mut inputs: Vec<Input> = vec![Input::new_with_builder(), Input::new_with_builder()];
        let mut handles = Vec::new();
        let mut trace = worker.dataflow::<Timestamp, _, _>(|scope| {
            let sources: HashMap<_, _> = inputs
                .iter_mut()
                .enumerate()
                .map(|(id, input)| (ObjectId(id as u32), input.to_stream(scope)))
                .collect();
            let rendered =
                render(&plan, scope, sources, &mut HashMap::new(), &Clock::default()).expect("a plan that renders");
            rendered.batches.probe_with(&probe);
            handles = rendered.arrangements;
            rendered.trace
        });
        barrier.wait();
        let (cpu, clock) = (cpu_seconds(), Instant::now());
        let mut time = 1;
        for (id, columns) in
            left.into_iter().map(|columns| (0, columns)).chain(right.into_iter().map(|columns| (1, columns)))
        {
            let len = columns[0].len();
            inputs.iter_mut().for_each(|input| input.advance_to(time));
            inputs[id].send_batch(&mut Updates::new(columns, Lane::Constant(time, len), Lane::Constant(1, len)));
            time += 1;
            inputs.iter_mut().for_each(|input| input.advance_to(time));
            while probe.less_than(&time) {
                worker.step();
            }
            trace.set_logical_compaction(AntichainRef::new(&[time]));
            trace.set_physical_compaction(AntichainRef::new(&[time]));
        }
        barrier.wait();
        if index == 0 {
            let (cpu, wall) = (cpu_seconds() - cpu, clock.elapsed().as_secs_f64());
            let total = row_count * peers;
            let nanoseconds = cpu * 1e9 / total as f64;
            println!(
                "{workload:10} {workers} workers  {total} rows  {wall:.2} s  {nanoseconds:.0} ns of CPU a row  {} MiB",
                resident_mib()
            );
            for handle in &handles {
                println!("    {:12} {:?}", handle.name, handle.size());
            }
        }
    })
    .expect("workers start")
    .join();
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    for workload in ["wordcount", "count", "max", "join", "q4"] {
        if chosen.is_empty() || chosen.iter().any(|name| name == workload) {
            run(workload, setting("WORKERS", 1));
        }
    }
}
