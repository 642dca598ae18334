//! What a lowered plan means is what DataFusion says the query means.
//!
//! Random tables with NULLs and duplicates; random queries over them, each lowered as bound and as optimised; the
//! dataflow evaluated by the naive interpreter in `interpreter`, which also holds every node to what the plan claims of
//! it. A seed replays a failure.

#[path = "lowering/interpreter.rs"]
mod interpreter;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, ScalarValue, UnnestOptions};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::functions_aggregate::expr_fn::{bool_and, bool_or, count, count_distinct, max, min, sum};
use datafusion::functions_aggregate::{count::count_udaf, min_max::max_udaf, sum::sum_udaf};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::functions_window::{lead_lag::lag_udwf, rank::rank_udwf, row_number::row_number_udwf};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder, SortExpr, TableSource, WindowFrame,
    WindowFunctionDefinition, cast, col, lit, not,
};
use datafusion::prelude::SessionContext;
use plan::{Export, LowerContext, Operator, Relation, SharedArrangement, explain, lower};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use repr::ObjectId;

use interpreter::{Collection, Interpreter, collection_of};

/// A source; a table without a key, exported by all columns; a table with a key.
const RELATIONS: [u32; 3] = [101, 102, 103];
const VIEW: ObjectId = ObjectId(200);

struct World {
    tables: HashMap<u32, RecordBatch>,
    arrangements: Vec<SharedArrangement>,
}

impl World {
    fn random(random: &mut StdRng) -> World {
        let tables = RELATIONS.into_iter().map(|id| (id, random_table(random, id == 103))).collect();
        World { tables, arrangements: Vec::new() }
    }

    fn scan(&self, id: u32, alias: &str) -> LogicalPlanBuilder {
        let batch = self.tables[&id].clone();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        let source: Arc<dyn TableSource> = provider_as_source(Arc::new(table));
        LogicalPlanBuilder::scan(id.to_string(), source, None).unwrap().alias(alias).unwrap()
    }

    fn relation(&self, id: ObjectId) -> Option<Relation> {
        let column_types = vec![DataType::Int64; 3];
        let export = |key: Vec<usize>, unique| Some(Export { node: 0, key, unique });
        Some(match id.0 {
            101 => Relation { column_types, export: None, append_only: true, keys: vec![] },
            102 => Relation { column_types, export: export(vec![0, 1, 2], false), append_only: false, keys: vec![] },
            103 => Relation { column_types, export: export(vec![0], true), append_only: false, keys: vec![vec![0]] },
            _ => return None,
        })
    }

    fn lower(&self, plan: &LogicalPlan) -> Result<Vec<plan::DataflowPlan>, repr::PgError> {
        let mut next = 1000;
        let mut allocate = || {
            next += 1;
            ObjectId(next)
        };
        let relations = |id| self.relation(id);
        lower(
            VIEW,
            "v",
            plan,
            &mut LowerContext { relations: &relations, arrangements: &self.arrangements, allocate: &mut allocate },
        )
    }

    fn evaluate(&self, plans: &[plan::DataflowPlan]) -> Collection {
        let mut interpreter = Interpreter::default();
        for (id, batch) in &self.tables {
            let relation = self.relation(ObjectId(*id)).unwrap();
            interpreter.relations.insert(ObjectId(*id), collection_of(batch));
            if let Some(export) = relation.export {
                interpreter.exports.insert(ObjectId(*id), (export.key, collection_of(batch)));
            }
        }
        plans.iter().map(|plan| interpreter.run(plan)).last().unwrap()
    }
}

fn random_table(random: &mut StdRng, keyed: bool) -> RecordBatch {
    let row_count = random.random_range(0..12);
    let mut columns: Vec<Vec<Option<i64>>> = vec![Vec::new(); 3];
    for row in 0..row_count {
        for (index, column) in columns.iter_mut().enumerate() {
            column.push(match index {
                0 if keyed => Some(row),
                _ if random.random_bool(0.2) => None,
                _ => Some(random.random_range(0..4)),
            });
        }
    }
    let fields: Vec<Field> = ["a", "b", "c"].into_iter().map(|name| Field::new(name, DataType::Int64, true)).collect();
    let arrays: Vec<ArrayRef> =
        columns.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// DataFusion's answer; None where it fails, as it does over some plans of its own making.
fn run(plan: &LogicalPlan) -> Option<Collection> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let context = context();
    let batches = runtime.block_on(async { context.execute_logical_plan(plan.clone()).await?.collect().await });
    let batches = match batches {
        Ok(batches) => batches,
        Err(error) if error.to_string().contains("bug in DataFusion") => return None,
        Err(error) => panic!("{error}\n{}", plan.display_indent()),
    };
    let mut rows = Collection::new();
    for batch in batches {
        for (row, count) in collection_of(&batch) {
            *rows.entry(row).or_insert(0) += count;
        }
    }
    Some(rows)
}

/// DataFusion without a rule that takes `=` for IS NOT DISTINCT FROM where a join's other keys are that.
fn context() -> SessionContext {
    let context = SessionContext::new();
    assert!(context.remove_optimizer_rule("extract_equijoin_predicate"));
    context
}

/// As `sql` optimises what is to be maintained: DISTINCT ON stays itself.
fn optimized(plan: &LogicalPlan) -> LogicalPlan {
    let context = context();
    assert!(context.remove_optimizer_rule("replace_distinct_aggregate"));
    context.state().optimize(plan).unwrap()
}

/// The plan as bound and as optimised give what DataFusion gives.
fn check(world: &World, plan: &LogicalPlan) {
    let Some(expected) = run(plan) else { return };
    let optimized = optimized(plan);
    for plan in [plan, &optimized] {
        let plans = match world.lower(plan) {
            Ok(plans) => plans,
            Err(error) => panic!("{error}\n{}", plan.display_indent()),
        };
        let names = |id: ObjectId| id.to_string();
        let actual = world.evaluate(&plans);
        assert_eq!(
            actual,
            expected,
            "{}\n{}\nleft: maintained, right: DataFusion",
            plan.display_indent(),
            explain(&plans, &names)
        );
    }
}

/// Runs `case` over this many random worlds, naming the seed that fails.
fn each_world(count: u64, case: impl Fn(&World, &mut StdRng) + std::panic::RefUnwindSafe) {
    let only = std::env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let result = std::panic::catch_unwind(|| {
            let mut random = StdRng::seed_from_u64(seed);
            let world = World::random(&mut random);
            case(&world, &mut random);
        });
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn joined(
    left: LogicalPlanBuilder,
    right: LogicalPlanBuilder,
    on: Vec<(Expr, Expr)>,
    filter: Option<Expr>,
    join_type: JoinType,
    null_equality: NullEquality,
) -> LogicalPlanBuilder {
    let join = Join::try_new(
        Arc::new(left.build().unwrap()),
        Arc::new(right.build().unwrap()),
        on,
        filter,
        join_type,
        JoinConstraint::On,
        null_equality,
        false,
    )
    .unwrap();
    LogicalPlanBuilder::from(LogicalPlan::Join(join))
}

const JOIN_TYPES: [JoinType; 9] = [
    JoinType::Inner,
    JoinType::Left,
    JoinType::Right,
    JoinType::Full,
    JoinType::LeftSemi,
    JoinType::LeftAnti,
    JoinType::RightSemi,
    JoinType::RightAnti,
    JoinType::LeftMark,
];

fn pick<T: Clone>(random: &mut StdRng, from: &[T]) -> T {
    from[random.random_range(0..from.len())].clone()
}

/// A random condition over one or two relations' columns.
fn condition(random: &mut StdRng, columns: &[Expr]) -> Expr {
    let (left, right) = (pick(random, columns), pick(random, columns));
    match random.random_range(0..6) {
        0 => left.gt(lit(1i64)),
        1 => left.lt_eq(right),
        2 => left.is_null().or(right.gt(lit(0i64))),
        3 => left.not_eq(right),
        4 => not(left.eq(lit(2i64))),
        _ => (left + lit(1i64)).eq(right),
    }
}

/// A random query whose columns are all bigint and named `alias.c0`, `alias.c1`, ..
struct Generator<'a> {
    world: &'a World,
    random: &'a mut StdRng,
    aliases: usize,
}

impl Generator<'_> {
    fn query(&mut self, depth: usize) -> LogicalPlanBuilder {
        if depth == 0 {
            let id = pick(self.random, &RELATIONS);
            let alias = self.alias();
            let scan = self.world.scan(id, &alias);
            return self.renamed(scan);
        }
        let plan = match self.random.random_range(0..10) {
            0 => {
                let input = self.query(depth - 1);
                let columns = columns(&input);
                input.filter(condition(self.random, &columns)).unwrap()
            }
            1 => {
                let input = self.query(depth - 1);
                let columns = columns(&input);
                let exprs: Vec<Expr> = (0..self.random.random_range(1..4))
                    .map(|_| match self.random.random_bool(0.7) {
                        true => pick(self.random, &columns),
                        false => pick(self.random, &columns) * lit(2i64),
                    })
                    .enumerate()
                    .map(|(index, expr)| expr.alias(format!("p{index}")))
                    .collect();
                input.project(exprs).unwrap()
            }
            2 => {
                let input = self.query(depth - 1);
                self.aggregate(input)
            }
            3 => self.query(depth - 1).distinct().unwrap(),
            4 => {
                let (left, right) = (self.query(depth - 1), self.query(depth - 1));
                let count = columns(&left).len().min(columns(&right).len());
                let cut = |plan: LogicalPlanBuilder| {
                    let columns = columns(&plan);
                    plan.project(columns[..count].to_vec()).unwrap()
                };
                let (left, right) = (cut(left), cut(right));
                left.union(right.build().unwrap()).unwrap()
            }
            5 => {
                let input = self.query(depth - 1);
                let order: Vec<_> = columns(&input).into_iter().map(|column| column.sort(false, true)).collect();
                let (skip, fetch) = (self.random.random_range(0..2), self.random.random_range(0..4));
                input.sort(order).unwrap().limit(skip, Some(fetch)).unwrap()
            }
            _ => self.join(depth),
        };
        self.renamed(plan)
    }

    fn join(&mut self, depth: usize) -> LogicalPlanBuilder {
        let (left, right) = (self.query(depth - 1), self.query(depth - 1));
        let (left_columns, right_columns) = (columns(&left), columns(&right));
        let on: Vec<(Expr, Expr)> = (0..self.random.random_range(0..3))
            .map(|_| {
                let left = pick(self.random, &left_columns);
                let left = if self.random.random_bool(0.2) { left + lit(1i64) } else { left };
                (left, pick(self.random, &right_columns))
            })
            .collect();
        let both: Vec<Expr> = left_columns.iter().chain(&right_columns).cloned().collect();
        let filter = match self.random.random_range(0..5) {
            0 => Some(condition(self.random, &both)),
            1 => Some(condition(self.random, &left_columns)),
            2 => Some(condition(self.random, &right_columns)),
            _ => None,
        };
        let join_type = pick(self.random, &JOIN_TYPES);
        let null_equality = pick(self.random, &[NullEquality::NullEqualsNothing, NullEquality::NullEqualsNull]);
        joined(left, right, on, filter, join_type, null_equality)
    }

    fn aggregate(&mut self, input: LogicalPlanBuilder) -> LogicalPlanBuilder {
        let columns = columns(&input);
        let mut keys: Vec<Expr> = (0..self.random.random_range(0..3)).map(|_| pick(self.random, &columns)).collect();
        keys.dedup();
        if keys.len() == 2 && keys[0] == keys[1] {
            keys.pop();
        }
        let mut aggregates: Vec<Expr> = Vec::new();
        for index in 0..self.random.random_range(0..4) {
            let argument = pick(self.random, &columns);
            let plain = match self.random.random_range(0..8) {
                0 => count(lit(1i64)),
                1 => count(argument),
                2 => sum(argument),
                3 => min(argument),
                4 => max(argument + lit(1i64)),
                5 => count_distinct(argument),
                6 => cast(bool_or(argument.gt(lit(1i64))), DataType::Int64),
                _ => cast(bool_and(argument.gt(lit(1i64))), DataType::Int64),
            };
            let plain = match plain {
                Expr::Cast(cast) => *cast.expr,
                plain if self.random.random_bool(0.3) => {
                    plain.filter(condition(self.random, &columns)).build().unwrap()
                }
                plain => plain,
            };
            aggregates.push(plain.alias(format!("g{index}")));
        }
        if keys.is_empty() && aggregates.is_empty() {
            aggregates.push(count(lit(1i64)).alias("g"));
        }
        input.aggregate(keys, aggregates).unwrap()
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases)
    }

    fn renamed(&mut self, plan: LogicalPlanBuilder) -> LogicalPlanBuilder {
        let alias = self.alias();
        let exprs: Vec<Expr> = (plan.schema().iter().enumerate())
            .map(|(index, (qualifier, field))| {
                let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
                let column = match field.data_type() {
                    DataType::Int64 => column,
                    _ => cast(column, DataType::Int64),
                };
                column.alias(format!("c{index}"))
            })
            .collect();
        plan.project(exprs).unwrap().alias(alias).unwrap()
    }
}

fn columns(plan: &LogicalPlanBuilder) -> Vec<Expr> {
    plan.schema().iter().map(|(qualifier, field)| Expr::Column(Column::new(qualifier.cloned(), field.name()))).collect()
}

#[test]
fn random_queries_mean_what_datafusion_says() {
    let count = std::env::var("CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    each_world(count, |world, random| {
        let depth = random.random_range(1..5);
        let plan = Generator { world, random, aliases: 0 }.query(depth).build().unwrap();
        check(world, &plan);
    });
}

#[test]
fn every_join_type_with_every_kind_of_condition() {
    each_world(12, |world, random| {
        for join_type in JOIN_TYPES {
            for null_equality in [NullEquality::NullEqualsNothing, NullEquality::NullEqualsNull] {
                for filter in
                    [None, Some(col("l.b").lt(col("r.b"))), Some(col("l.b").gt(lit(1i64))), Some(col("r.c").is_null())]
                {
                    for keys in [
                        vec![],
                        vec![(col("l.a"), col("r.a"))],
                        vec![(col("l.c"), col("r.a")), (col("l.a"), col("r.c"))],
                    ] {
                        let left = world.scan(pick(random, &RELATIONS), "l");
                        let right = world.scan(pick(random, &RELATIONS), "r");
                        let plan = joined(left, right, keys, filter.clone(), join_type, null_equality);
                        check(world, &plan.build().unwrap());
                    }
                }
            }
        }
    });
}

#[test]
fn a_recursive_query_is_a_loop() {
    each_world(40, |world, random| {
        let distinct = random.random_bool(0.5);
        let start = world.scan(pick(random, &RELATIONS), "s").project(vec![col("s.a").alias("x")]).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        let rows = provider_as_source(Arc::new(CteWorkTable::new("w", schema)));
        let condition = if distinct { col("e.c").is_not_null() } else { col("w.x").lt(col("e.a")) };
        let step = LogicalPlanBuilder::scan("w", rows, None)
            .and_then(|rows| {
                let right = world.scan(pick(random, &RELATIONS), "e").build()?;
                let join_type = if distinct { JoinType::Left } else { JoinType::Inner };
                rows.join(right, join_type, (vec!["w.x"], vec!["e.b"]), Some(condition))
            })
            .and_then(|joined| joined.project(vec![col("e.a").alias("x")]))
            .and_then(LogicalPlanBuilder::build)
            .unwrap();
        let query = start.to_recursive_query("w".to_owned(), step, distinct).unwrap();
        check(world, &query.build().unwrap());
    });
}

#[test]
fn row_numbers_in_a_filter_are_a_top_k() {
    each_world(30, |world, random| {
        let input = world.scan(pick(random, &RELATIONS), "t");
        let all = [col("t.b"), col("t.a"), col("t.c")];
        let order: Vec<_> = all.iter().map(|column| column.clone().sort(random.random_bool(0.5), true)).collect();
        let number = row_number().partition_by(vec![col("t.b")]).order_by(order).build().unwrap();
        let windowed = input.window(vec![number.alias("n")]).unwrap();
        let number = cast(col("n"), DataType::Int64);
        let kept = match random.random_range(0..5) {
            0 => number.lt_eq(lit(2i64)),
            1 => number.lt(lit(2i64)),
            2 => number.eq(lit(2i64)),
            3 => lit(3i64).gt_eq(number.clone()).and(number.gt(lit(1i64))),
            _ => col("n").eq(lit(1u64)).and(col("t.c").gt(lit(0i64))),
        };
        let plan = windowed.filter(kept).unwrap().project(all).unwrap();
        check(world, &plan.build().unwrap());
    });
}

#[test]
fn row_numbers_are_columns_too() {
    let mut random = StdRng::seed_from_u64(7);
    let world = World::random(&mut random);
    let ranked = |kept: Expr| {
        let order = vec![col("t.a").sort(true, false), col("t.b").sort(true, false), col("t.c").sort(true, false)];
        let number = row_number().partition_by(vec![col("t.b")]).order_by(order).build().unwrap();
        let windowed = world.scan(102, "t").window(vec![number.alias("n")]).unwrap();
        windowed.filter(kept).unwrap().build().unwrap()
    };
    let number = || cast(col("n"), DataType::Int64);
    for kept in [
        col("n").eq(lit(1u64)),
        col("n").lt(lit(2u64)),
        col("n").lt_eq(lit(3u64)),
        col("n").gt(lit(1u64)),
        number().gt(lit(1i64)).and(number().lt_eq(lit(4i64))),
        number().lt(col("t.a")),
        col("t.a").gt(lit(1i64)),
    ] {
        check(&world, &ranked(kept));
    }
}

#[test]
fn window_functions_are_columns() {
    each_world(40, |world, random| {
        let all = [col("t.b"), col("t.a"), col("t.c")];
        let by_all: Vec<_> = all.iter().map(|column| column.clone().sort(random.random_bool(0.5), true)).collect();
        let by_one = vec![col("t.a").sort(true, false)];
        let over = |udf, args, order: &[SortExpr], random: &mut StdRng| {
            let partition: Vec<Expr> = all.iter().filter(|_| random.random_bool(0.4)).cloned().collect();
            let call = Expr::from(WindowFunction::new(udf, args));
            call.partition_by(partition).order_by(order.to_vec()).window_frame(WindowFrame::new(
                match order.is_empty() {
                    true => None,
                    false => Some(order.len() > 1),
                },
            ))
        };
        let aggregate = WindowFunctionDefinition::AggregateUDF;
        let window = WindowFunctionDefinition::WindowUDF;
        let calls = [
            (window(row_number_udwf()), vec![], &by_all),
            (window(rank_udwf()), vec![], &by_one),
            (window(lag_udwf()), vec![col("t.c") + lit(1i64)], &by_all),
            (aggregate(sum_udaf()), vec![col("t.c")], &by_all),
            (aggregate(sum_udaf()), vec![col("t.c") * lit(2i64)], &by_one),
            (aggregate(sum_udaf()), vec![col("t.c")], &Vec::new()),
            (aggregate(max_udaf()), vec![col("t.a")], &Vec::new()),
            (aggregate(count_udaf()), vec![lit(1i64)], &Vec::new()),
        ];
        // Rows that are equal could be numbered in any order by each of two windows.
        let mut plan = world.scan(pick(random, &RELATIONS), "t").distinct().unwrap();
        let mut columns = vec![col("t.b")];
        let mut made: Vec<Expr> = Vec::new();
        for index in 0..random.random_range(1..4) {
            let (udf, args, order) = pick(random, &calls);
            let call = over(udf, args, order, random).build().unwrap();
            // DataFusion cannot optimise the same call twice; the binder never asks for it.
            if made.contains(&call) {
                continue;
            }
            made.push(call.clone());
            plan = plan.window(vec![call.alias(format!("w{index}"))]).unwrap();
            if random.random_bool(0.7) {
                columns.push(col(format!("w{index}")));
            }
        }
        if random.random_bool(0.3) {
            plan = plan.filter(cast(col("w0"), DataType::Int64).lt_eq(lit(2i64))).unwrap();
        }
        check(world, &plan.project(columns).unwrap().build().unwrap());
    });
}

#[test]
fn ranks_in_a_filter_are_top_ranks() {
    each_world(30, |world, random| {
        let order = vec![col("t.a").sort(random.random_bool(0.5), random.random_bool(0.5))];
        let dense = random.random_bool(0.5);
        let udf = if dense { datafusion::functions_window::rank::dense_rank_udwf() } else { rank_udwf() };
        let call = Expr::from(WindowFunction::new(WindowFunctionDefinition::WindowUDF(udf), vec![]));
        let call = call.partition_by(vec![col("t.b")]).order_by(order).build().unwrap();
        let ranked = world.scan(pick(random, &RELATIONS), "t").window(vec![call.alias("n")]).unwrap();
        let rank = cast(col("n"), DataType::Int64);
        let kept = match random.random_range(0..4) {
            0 => rank.lt_eq(lit(2i64)),
            1 => rank.eq(lit(2i64)),
            2 => rank.clone().lt(lit(4i64)).and(rank.gt(lit(1i64))),
            _ => rank.lt_eq(lit(1i64)).and(col("t.c").gt(lit(0i64))),
        };
        let mut columns = vec![col("t.b"), col("t.a"), col("t.c")];
        if random.random_bool(0.5) {
            columns.push(col("n"));
        }
        check(world, &ranked.filter(kept).unwrap().project(columns).unwrap().build().unwrap());
    });
}

#[test]
fn distinct_on_keeps_the_first_row() {
    each_world(20, |world, random| {
        let order = ["t.b", "t.a", "t.c"].map(|name| col(name).sort(random.random_bool(0.5), random.random_bool(0.5)));
        let plan = world
            .scan(pick(random, &RELATIONS), "t")
            .distinct_on(vec![col("t.b")], vec![col("t.a"), col("t.b") + col("t.c")], Some(order.to_vec()))
            .unwrap();
        check(world, &plan.build().unwrap());
    });
}

#[test]
fn lists_become_rows() {
    each_world(10, |world, random| {
        let list = datafusion::functions_nested::expr_fn::make_array(vec![col("t.a"), col("t.c")]);
        let list = datafusion::logical_expr::when(col("t.b").gt(lit(0i64)), list).end().unwrap();
        for options in [UnnestOptions::new(), UnnestOptions::new().with_preserve_nulls(false)] {
            let plan = world
                .scan(pick(random, &RELATIONS), "t")
                .project(vec![col("t.b"), list.clone().alias("l")])
                .unwrap()
                .unnest_column_with_options("l", options)
                .unwrap();
            check(world, &plan.build().unwrap());
        }
    });
}

#[test]
fn lists_of_several_lengths_become_rows_side_by_side() {
    each_world(10, |world, random| {
        let of = datafusion::functions_nested::expr_fn::make_array;
        let short = datafusion::logical_expr::when(col("t.b").gt(lit(0i64)), of(vec![col("t.a")])).end().unwrap();
        let plan = world
            .scan(pick(random, &RELATIONS), "t")
            .project(vec![col("t.b"), of(vec![col("t.a"), col("t.c")]).alias("l"), short.alias("s")])
            .unwrap()
            .unnest_columns_with_options(vec!["l".into(), "s".into()], UnnestOptions::new().with_preserve_nulls(false))
            .unwrap();
        check(world, &plan.build().unwrap());
    });
}

#[test]
fn values_and_empty_relations() {
    each_world(1, |world, _| {
        let rows = vec![
            vec![lit(1i64), lit(2i64)],
            vec![lit(1i64), lit(2i64)],
            vec![lit(1i64) + lit(4i64), lit(ScalarValue::Int64(None))],
        ];
        let values = LogicalPlanBuilder::values(rows).unwrap().alias("v").unwrap();
        check(world, &values.clone().build().unwrap());
        check(world, &values.clone().aggregate(Vec::<Expr>::new(), vec![count(lit(1i64))]).unwrap().build().unwrap());
        let crossed =
            joined(values, world.scan(101, "t"), vec![], None, JoinType::Inner, NullEquality::NullEqualsNothing);
        check(world, &crossed.build().unwrap());
        for produce_one_row in [true, false] {
            let plan = LogicalPlanBuilder::empty(produce_one_row).project(vec![lit(7i64).alias("x")]).unwrap();
            check(world, &plan.build().unwrap());
        }
    });
}

/// The text of a query's plans, lowered as optimised.
fn explained(world: &World, plan: LogicalPlanBuilder) -> String {
    let plan = optimized(&plan.build().unwrap());
    let plans = world.lower(&plan).unwrap();
    let names = |id: ObjectId| match id.0 {
        101 => "clicks".to_string(),
        102 => "orders".to_string(),
        103 => "users".to_string(),
        other => format!("dataflow {other}"),
    };
    explain(&plans, &names)
}

fn some_world() -> World {
    World::random(&mut StdRng::seed_from_u64(1))
}

#[test]
fn a_group_by_reads_two_columns_and_exports_its_own_arrangement() {
    let world = some_world();
    let plan = world.scan(101, "t").aggregate(vec![col("t.b")], vec![count(lit(1i64)), sum(col("t.c"))]).unwrap();
    assert_eq!(
        explained(&world, plan),
        "\
v, by (#0) unique
  0 Reduce by (#0): count(*), sum(#1) -- one accumulator row a group; O(1) a row
    1 Source clicks (#1, #2) -- append-only
"
    );
}

#[test]
fn a_maximum_of_an_append_only_source_keeps_one_row_a_group() {
    let world = some_world();
    let plan = world.scan(101, "t").aggregate(vec![col("t.b")], vec![max(col("t.c"))]).unwrap();
    assert_eq!(
        explained(&world, plan),
        "\
v, by (#0) unique
  0 TopK by (#0) order #1 desc nulls last limit 1 -- the first 1 rows a group; O(1) a row
    1 Source clicks (#1, #2) -- append-only
"
    );
}

#[test]
fn a_join_on_a_primary_key_uses_the_tables_own_arrangement() {
    let world = some_world();
    let plan = joined(
        world.scan(102, "o"),
        world.scan(103, "u"),
        vec![(col("o.b"), col("u.a"))],
        None,
        JoinType::Inner,
        NullEquality::NullEqualsNothing,
    );
    let plan = plan.project(vec![col("o.a"), col("u.c")]).unwrap();
    assert_eq!(
        explained(&world, plan),
        "\
arrangement of orders (#0, #1), by (#1)
  0 Arrange by (#1) -- all rows; O(1) a row
    1 Map #0, #1
      2 Import orders by (#0, #1, #2) -- shared arrangement
v, by (#0, #1)
  0 Arrange by (#0, #1) -- all rows; O(1) a row
    1 Join on #1 = #2: #0, #4 -- its inputs' arrangements; a row costs its matches
      2 Import arrangement of orders (#0, #1) by (#1) -- shared arrangement
      3 Import users by (#0) -- shared arrangement
"
    );
}

#[test]
fn an_arrangement_that_exists_is_used_also_where_it_is_wider() {
    let mut world = some_world();
    let plan = joined(
        world.scan(101, "l"),
        world.scan(103, "r"),
        vec![(col("l.b"), col("r.a"))],
        None,
        JoinType::Left,
        NullEquality::NullEqualsNothing,
    );
    let plan = plan.project(vec![col("l.c"), col("r.c")]).unwrap().build().unwrap();
    let plans = world.lower(&plan).unwrap();
    assert_eq!(plans.len(), 2);
    assert_eq!(plans[0].name, "arrangement of 101 columns 1,2 by 1");
    // The source is read through the arrangement alone.
    assert!(plans[1].sources().is_empty());

    let fingerprint = "arrangement of 101 columns 0,1,2 by 1".to_string();
    world.arrangements = vec![SharedArrangement { dataflow: ObjectId(77), fingerprint, key: vec![1] }];
    let plans = world.lower(&plan).unwrap();
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].imports(), [ObjectId(77), ObjectId(103)]);
    assert!(
        plans[0]
            .nodes
            .iter()
            .any(|node| matches!(&node.operator, Operator::Import { dataflow: ObjectId(77), key } if *key == [1]))
    );
}

#[test]
fn what_cannot_be_maintained_is_refused_by_name() {
    let world = some_world();
    let random = datafusion::functions::expr_fn::random();
    let volatile = world.scan(101, "t").project(vec![random.alias("r")]).unwrap().build().unwrap();
    let error = world.lower(&volatile).unwrap_err();
    assert_eq!(error.state.0, "0A000");
    assert!(error.message.contains("random"), "{}", error.message);

    let deviation = datafusion::functions_aggregate::expr_fn::stddev(cast(col("t.a"), DataType::Float64));
    let plan = world.scan(101, "t").aggregate(vec![col("t.b")], vec![deviation]).unwrap().build().unwrap();
    let plans = world.lower(&plan).unwrap();
    assert!(plans[0].nodes.iter().any(|node| matches!(&node.operator, Operator::Fold { .. })), "needs its group");
}
