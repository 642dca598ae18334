//! Loops: a body that reads its own result of the iteration before, until nothing changes.
//!
//! Inside a loop a time is (timestamp, iteration), and such times are only partially ordered: a retraction at a later
//! timestamp meets what was derived at an earlier one iteration by iteration. So the operators of a loop are
//! differential-dataflow's own, which know how to do that, over rows encoded as bytes; the operators of the rest of a
//! dataflow keep to their chunks and pay nothing for loops. Expressions are evaluated over Arrow columns here too,
//! decoded for a container at a time.
//!
//! ```text
//! inputs --> encode --> enter --> body --> result --> leave --> decode --> rows
//!                                  ^          |
//!                                  '- limit <-'
//! ```

mod codec;
mod grouped;

use std::collections::HashMap;

use arrow::array::Array;
use arrow::datatypes::{Schema, SchemaRef};
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::trace::implementations::ValSpine;
use differential_dataflow::{AsCollection, VecCollection};
use plan::dataflow_plan::{DataflowPlan, Node, NodeId, Operator, Recursion, SortKey, positional_schema};
use plan::mutual_recursion::IterationLimit;
use repr::{Diff, Lane, OnError, Timestamp};
use timely::dataflow::Scope;
use timely::dataflow::operators::vec::Filter;
use timely::order::Product;

use super::fold::FoldFunction;
use super::reduce::GroupFunction;
use super::{Errors, Rows, check_columns, containerwise, containerwise_fallible, unnest};
use crate::DataflowError;
use crate::errors::{ErrorRow, ErrorUpdates};
use crate::expression::RowFunction;
use crate::updates::Updates;
use codec::{Codec, Encoded, KeyCodec};

/// Timestamp and iteration.
type LoopTime = Product<Timestamp, u64>;
/// Rows of the outside.
type OuterRows<'scope> = VecCollection<'scope, Timestamp, Encoded, Diff>;
/// Rows of a loop.
type LoopRows<'inner> = VecCollection<'inner, LoopTime, Encoded, Diff>;
/// Rows of a loop with a key of theirs.
type KeyedRows<'inner> = VecCollection<'inner, LoopTime, (Encoded, Encoded), Diff>;
/// What keeps rows of a loop by a key.
type LoopSpine = ValSpine<Encoded, Encoded, LoopTime, Diff>;
/// Rows of a loop by a key.
type LoopArrangement<'inner> = Arranged<'inner, TraceAgent<LoopSpine>>;
/// Errors of a loop.
type LoopErrors<'inner> = VecCollection<'inner, LoopTime, ErrorRow, Diff>;
/// A change of a row of a loop.
type LoopUpdate = (Encoded, LoopTime, Diff);

/// Copies of a row that only a loop without end can make: above this, adding them up might overflow.
const COPIES_MAX: Diff = 1 << 40;

/// An operator of a body, compiled: the one list of those that run in loops.
enum Compiled<'a> {
    Entered(usize),
    Variable(usize),
    Map { input: NodeId, function: RowFunction },
    Unnest { input: NodeId, lists: &'a [usize] },
    Union { inputs: &'a [NodeId] },
    Negate { input: NodeId },
    Arrange { input: NodeId },
    Join { left: NodeId, right: NodeId, null_equal: bool, joined: SchemaRef, function: RowFunction },
    Reduce { input: NodeId, function: GroupFunction },
    Fold { input: NodeId, key: &'a [usize], function: FoldFunction },
    TopK { input: NodeId, key: &'a [usize], order: &'a [SortKey], offset: u64, limit: Option<u64> },
    Distinct { input: NodeId },
    Threshold { input: NodeId },
}

/// Compiles a node of `body`; `name` is the loop's in errors.
fn compile<'a>(body: &'a Recursion, id: NodeId, name: &str) -> Result<Compiled<'a>, DataflowError> {
    let node = &body.nodes[id];
    let schema = |input: NodeId| &body.nodes[input].schema;
    Ok(match &node.operator {
        Operator::Entered { input } => Compiled::Entered(*input),
        Operator::Variable { result } => Compiled::Variable(*result),
        Operator::Map { input, filter, columns } => {
            let name = format!("{name} Map {id}");
            let function = RowFunction::new(&name, schema(*input), filter, columns, &node.schema)?;
            Compiled::Map { input: *input, function }
        }
        Operator::Unnest { input, lists } => {
            unnest::check(&body.nodes[*input], lists)?;
            Compiled::Unnest { input: *input, lists }
        }
        Operator::Union { inputs } => Compiled::Union { inputs },
        Operator::Negate { input } => Compiled::Negate { input: *input },
        Operator::Arrange { input, .. } => Compiled::Arrange { input: *input },
        Operator::Join { left, right, null_equal, filter, columns } => {
            joined_key(body, *left)?;
            joined_key(body, *right)?;
            let (name, joined) = (format!("{name} Join {id}"), joined_schema(body, *left, *right));
            let function = RowFunction::new(&name, &joined, filter, columns, &node.schema)?;
            Compiled::Join { left: *left, right: *right, null_equal: *null_equal, joined, function }
        }
        Operator::Reduce { input, key, aggregates } => {
            let function = GroupFunction::new(&body.nodes[*input], node, key, aggregates)?;
            Compiled::Reduce { input: *input, function }
        }
        Operator::Fold { input, key, calls } => {
            check_columns(&body.nodes[*input], key)?;
            let function = FoldFunction::new(&body.nodes[*input], node, key, calls)?;
            Compiled::Fold { input: *input, key, function }
        }
        Operator::TopK { input, key, order, offset, limit } => {
            check_columns(&body.nodes[*input], key)?;
            check_columns(&body.nodes[*input], &order.iter().map(|sort| sort.column).collect::<Vec<_>>())?;
            Compiled::TopK { input: *input, key, order, offset: *offset, limit: *limit }
        }
        Operator::Distinct { input } => Compiled::Distinct { input: *input },
        Operator::Threshold { input } => Compiled::Threshold { input: *input },
        _ => return Err(DataflowError::InvalidPlan(format!("node {id} does not run in loops"))),
    })
}

/// Whether every operator of the body can be built.
pub(crate) fn check(plan: &DataflowPlan, inputs: &[NodeId], body: &Recursion) -> Result<(), DataflowError> {
    let invalid = |what: &str| Err(DataflowError::InvalidPlan(what.to_owned()));
    if body.results.is_empty() || body.results.iter().any(|result| *result >= body.nodes.len()) {
        return invalid("a loop's result is not a node");
    }
    for (id, inner) in body.nodes.iter().enumerate() {
        if inner.operator.inputs().iter().any(|input| *input >= id) {
            return invalid("a node of a loop reads a node after it");
        }
        Codec::new(&inner.schema)?;
        match compile(body, id, "loop")? {
            Compiled::Entered(input) => match inputs.get(input) {
                Some(outer) if plan.nodes[*outer].schema == inner.schema => {}
                _ => return invalid("what enters a loop is not what its input has"),
            },
            Compiled::Variable(result) => match body.results.get(result) {
                Some(result) if body.nodes[*result].schema == inner.schema => {}
                _ => return invalid("a loop reads rows of another shape than its result"),
            },
            _ => {}
        }
    }
    Ok(())
}

/// Whether a node has the rows of a loop's result.
pub(crate) fn check_result(
    plan: &DataflowPlan,
    input: NodeId,
    result: usize,
    node: &Node,
) -> Result<(), DataflowError> {
    let Operator::Recursion { body, .. } = &plan.nodes[input].operator else {
        return Err(DataflowError::InvalidPlan("a result of what is no loop".to_owned()));
    };
    match body.results.get(result) {
        Some(result) if body.nodes[*result].schema == node.schema => Ok(()),
        _ => Err(DataflowError::InvalidPlan("a loop has a schema of another shape than its result".to_owned())),
    }
}

/// The columns of a join's input by which it is arranged.
fn joined_key(body: &Recursion, id: NodeId) -> Result<&[usize], DataflowError> {
    match &body.nodes[id].operator {
        Operator::Arrange { key, .. } => Ok(key),
        _ => Err(DataflowError::InvalidPlan(format!("node {id} of a loop is joined but not arranged"))),
    }
}

fn joined_schema(body: &Recursion, left: NodeId, right: NodeId) -> SchemaRef {
    let fields = |id: NodeId| body.nodes[id].schema.fields().iter().map(|field| field.data_type().clone());
    positional_schema(fields(left).chain(fields(right)))
}

/// Runs the loop over `inputs`, which have the rows of the outer nodes of those `schemas`. Its results, in order.
pub(crate) fn render<'scope>(
    scope: Scope<'scope, Timestamp>,
    inputs: Vec<(Rows<'scope>, SchemaRef)>,
    body: &Recursion,
    name: &str,
    on_error: OnError,
) -> Result<(Vec<Rows<'scope>>, Vec<Errors<'scope>>), DataflowError> {
    let mut entering = Vec::new();
    for (rows, schema) in inputs {
        entering.push(encode(rows, Codec::new(&schema)?));
    }
    let limit = body.limit;
    let is_read = |result: usize| {
        body.nodes.iter().any(|node| matches!(node.operator, Operator::Variable { result: other } if other == result))
    };
    let (results, cut, errors) = scope.iterative::<u64, _, _>(|inner| {
        let mut feedbacks = HashMap::new();
        let mut variables = HashMap::new();
        for result in (0..body.results.len()).filter(|result| is_read(*result)) {
            let (feedback, rows) = Variable::new(inner, Product::new(Default::default(), 1));
            feedbacks.insert(result, feedback);
            variables.insert(result, rows);
        }
        let entered = entering.into_iter().map(|rows| rows.enter(inner)).collect();
        let mut renderer = LoopRenderer {
            body,
            name,
            on_error,
            scope: inner,
            entered,
            variables,
            collections: HashMap::new(),
            arrangements: HashMap::new(),
            errors: Vec::new(),
        };
        let (mut results, mut cut) = (Vec::new(), Vec::new());
        for (number, id) in body.results.iter().enumerate() {
            let rows = renderer.collection(*id)?;
            // What cancels out must not go round.
            let rows = match &body.nodes[*id].operator {
                _ if !feedbacks.contains_key(&number) => rows,
                Operator::Distinct { .. } => rows,
                _ => rows.consolidate(),
            };
            if let Some(feedback) = feedbacks.remove(&number) {
                let goes_round = move |time: &LoopTime, diff: Diff| time.inner + 1 < limit.count && !is_too_many(diff);
                feedback.set(rows.clone().inner.filter(move |(_, time, diff)| goes_round(time, *diff)).as_collection());
            }
            let is_cut = move |time: &LoopTime, diff: Diff| {
                is_too_many(diff) || (!limit.returns && time.inner + 1 >= limit.count)
            };
            let lost = rows.clone().inner.filter(move |(_, time, diff)| is_cut(time, *diff));
            cut.push(lost.as_collection().map(move |row| (number, row)).leave(scope));
            results.push((rows.leave(scope), Codec::new(&body.nodes[*id].schema)?));
        }
        let errors: Vec<_> = renderer.errors.into_iter().map(|errors| errors.leave(scope).inner).collect();
        Ok::<_, DataflowError>((results, cut, errors))
    })?;
    let mut errors = errors;
    errors.push(endless(differential_dataflow::collection::concatenate(scope, cut), name, limit));
    Ok((results.into_iter().map(|(rows, codec)| decode(rows, codec)).collect(), errors))
}

fn is_too_many(diff: Diff) -> bool {
    diff.unsigned_abs() > COPIES_MAX as u64
}

/// One error while the last iteration still changes something of a result, whose number is beside the row.
fn endless<'scope>(
    cut: VecCollection<'scope, Timestamp, (usize, Encoded), Diff>,
    name: &str,
    limit: IterationLimit,
) -> Errors<'scope> {
    let error = ErrorRow::new(name, &[], 0, &limit.error());
    cut.map(|row| ((), row))
        .reduce_named("Endless", |_, _, output: &mut Vec<((), Diff)>| output.push(((), 1)))
        .map(move |_| error.clone())
        .inner
}

/// The loop under construction.
struct LoopRenderer<'a, 'inner> {
    body: &'a Recursion,
    name: &'a str,
    on_error: OnError,
    scope: Scope<'inner, LoopTime>,
    entered: Vec<LoopRows<'inner>>,
    /// The results of the iteration before that are read.
    variables: HashMap<usize, LoopRows<'inner>>,
    collections: HashMap<NodeId, LoopRows<'inner>>,
    arrangements: HashMap<(NodeId, Vec<usize>, bool), LoopArrangement<'inner>>,
    errors: Vec<LoopErrors<'inner>>,
}

impl<'inner> LoopRenderer<'_, 'inner> {
    /// The rows of a node of the body.
    fn collection(&mut self, id: NodeId) -> Result<LoopRows<'inner>, DataflowError> {
        if let Some(rows) = self.collections.get(&id) {
            return Ok(rows.clone());
        }
        let body = self.body;
        let to = &body.nodes[id].schema;
        let schema = |input: NodeId| &body.nodes[input].schema;
        let rows = match compile(body, id, self.name)? {
            Compiled::Entered(input) => self.entered[input].clone(),
            Compiled::Variable(result) => self.variables[&result].clone(),
            Compiled::Map { input, function } => {
                let rows = self.collection(input)?;
                self.map(rows, function, schema(input), to)?
            }
            Compiled::Unnest { input, lists } => {
                let lists = lists.to_vec();
                let rows = self.collection(input)?;
                let logic = move |updates: Updates, _: &mut ErrorUpdates| unnest::expand(updates, &lists);
                self.columnwise(rows, "Unnest", schema(input), to, logic)?
            }
            Compiled::Union { inputs } => {
                let inputs = inputs.iter().map(|input| self.collection(*input)).collect::<Result<Vec<_>, _>>()?;
                differential_dataflow::collection::concatenate(self.scope, inputs)
            }
            Compiled::Negate { input } => self.collection(input)?.negate(),
            Compiled::Arrange { input } => self.collection(input)?,
            Compiled::Join { left, right, null_equal, joined, function } => {
                let (left_key, right_key) = (joined_key(body, left)?, joined_key(body, right)?);
                let left = self.arranged(left, left_key, null_equal)?;
                let right = self.arranged(right, right_key, null_equal)?;
                // The encoding of some columns followed by that of others is the encoding of all of them.
                let rows = left.join_core(right, |_, left, right| {
                    let mut joined = Encoded::with_capacity(left.len() + right.len());
                    joined.extend_from_slice(left);
                    joined.extend_from_slice(right);
                    Some(joined)
                });
                self.map(rows, function, &joined, to)?
            }
            Compiled::Reduce { input, function } => {
                let rows = self.collection(input)?;
                self.reduce(rows, function, id, schema(input), to)?
            }
            Compiled::Fold { input, key, function } => {
                let groups = self.arranged(input, key, true)?;
                self.fold(groups, function, id, schema(input), to)?
            }
            Compiled::TopK { input, key, order, offset, limit } => {
                let rows = self.collection(input)?;
                grouped::top_k(rows, schema(input), key, order, offset, limit)?
            }
            Compiled::Distinct { input } => {
                self.collection(input)?.threshold_named("Distinct", |_, count| Diff::from(*count > 0))
            }
            Compiled::Threshold { input } => {
                self.collection(input)?.threshold_named("Threshold", |_, count: &Diff| (*count).max(0))
            }
        };
        self.collections.insert(id, rows.clone());
        Ok(rows)
    }

    /// The rows of a node by a key; without the rows whose key has a NULL, unless NULLs meet.
    fn arranged(
        &mut self,
        id: NodeId,
        key: &[usize],
        null_equal: bool,
    ) -> Result<LoopArrangement<'inner>, DataflowError> {
        let body = self.body;
        let mut id = id;
        while let Operator::Arrange { input, .. } = &body.nodes[id].operator {
            id = *input;
        }
        let place = (id, key.to_vec(), null_equal);
        if let Some(arranged) = self.arrangements.get(&place) {
            return Ok(arranged.clone());
        }
        let rows = self.collection(id)?;
        let arranged = by_key(rows, &body.nodes[id].schema, key, null_equal)?.arrange_by_key();
        self.arrangements.insert(place, arranged.clone());
        Ok(arranged)
    }

    fn map(
        &mut self,
        rows: LoopRows<'inner>,
        mut function: RowFunction,
        from: &Schema,
        to: &Schema,
    ) -> Result<LoopRows<'inner>, DataflowError> {
        if function.is_identity() {
            return Ok(rows);
        }
        function.set_on_error(self.on_error);
        self.columnwise(rows, "Map", from, to, move |updates, errors| function.apply(updates, errors))
    }

    /// Runs `logic` over containers as Arrow columns.
    fn columnwise(
        &mut self,
        rows: LoopRows<'inner>,
        name: &str,
        from: &Schema,
        to: &Schema,
        mut logic: impl FnMut(Updates, &mut ErrorUpdates) -> Updates + 'static,
    ) -> Result<LoopRows<'inner>, DataflowError> {
        let from = Codec::new(from)?;
        let decoded = move |container: &[LoopUpdate], errors: &mut ErrorUpdates| {
            let columns = from.decode(container.iter().map(|update| update.0.as_slice()));
            logic(Updates::new(columns, numbers(container.len()), Lane::Constant(1, container.len())), errors)
        };
        self.batchwise(rows, name, to, decoded)
    }

    /// Runs `logic` over containers. What comes out has as its times the numbers of the container's rows that it came from, and
    /// takes on their times and diffs.
    fn batchwise(
        &mut self,
        rows: LoopRows<'inner>,
        name: &str,
        to: &Schema,
        logic: impl FnMut(&[LoopUpdate], &mut ErrorUpdates) -> Updates + 'static,
    ) -> Result<LoopRows<'inner>, DataflowError> {
        let (rows, errors) = batchwise(rows, name, Codec::new(to)?, Box::new(logic));
        self.errors.push(errors);
        Ok(rows)
    }
}

/// `0..len` as times.
fn numbers(len: usize) -> Lane<Timestamp> {
    Lane::Values((0..len as u64).collect())
}

type BatchwiseLogic = Box<dyn FnMut(&[LoopUpdate], &mut ErrorUpdates) -> Updates>;

fn batchwise<'inner>(
    rows: LoopRows<'inner>,
    name: &str,
    to: Codec,
    mut logic: BatchwiseLogic,
) -> (LoopRows<'inner>, LoopErrors<'inner>) {
    let (rows, errors) = containerwise_fallible(rows.inner, name, move |container: Vec<LoopUpdate>| {
        let mut failed = ErrorUpdates::new();
        let updates = logic(&container, &mut failed);
        let origin = |row: Timestamp| (container[row as usize].1, container[row as usize].2);
        let encoded = to.encode(&updates.columns, updates.len()).into_iter().zip(updates.times.iter());
        let out: Vec<LoopUpdate> = encoded
            .map(|(encoded, row)| {
                let (time, diff) = origin(row);
                (encoded, time, diff)
            })
            .collect();
        let failed: Vec<(ErrorRow, LoopTime, Diff)> = failed
            .into_iter()
            .map(|(error, row, _)| {
                let (time, diff) = origin(row);
                (error, time, diff)
            })
            .collect();
        (out, failed)
    });
    (rows.as_collection(), errors.as_collection())
}

/// The rows with the columns of `key` encoded apart.
fn by_key<'inner>(
    rows: LoopRows<'inner>,
    schema: &Schema,
    key: &[usize],
    null_equal: bool,
) -> Result<KeyedRows<'inner>, DataflowError> {
    let (codec, key_codec) = (Codec::new(schema)?, KeyCodec::new(schema, key)?);
    let keyed = containerwise(rows.inner, "Key", move |container: Vec<LoopUpdate>| {
        let columns = key_codec.columns(&codec.decode(container.iter().map(|update| update.0.as_slice())));
        let keys = key_codec.encode(&columns, container.len());
        let meets = |row: usize| null_equal || columns.iter().all(|column| column.is_valid(row));
        let keyed = container.into_iter().zip(keys).enumerate().filter(|(row, _)| meets(*row));
        keyed.map(|(_, ((row, time, diff), key))| ((key, row), time, diff)).collect::<Vec<_>>()
    });
    Ok(keyed.as_collection())
}

fn encode<'scope>(rows: Rows<'scope>, codec: Codec) -> OuterRows<'scope> {
    let encoded = containerwise(rows, "Encode", move |updates: Updates| {
        let encoded = codec.encode(&updates.columns, updates.len()).into_iter();
        let lanes = updates.times.iter().zip(updates.diffs.iter());
        encoded.zip(lanes).map(|(row, (time, diff))| (row, time, diff)).collect::<Vec<_>>()
    });
    encoded.as_collection()
}

fn decode<'scope>(rows: OuterRows<'scope>, codec: Codec) -> Rows<'scope> {
    containerwise(rows.inner, "Decode", move |container: Vec<(Encoded, Timestamp, Diff)>| {
        let columns = codec.decode(container.iter().map(|update| update.0.as_slice()));
        let times = Lane::Values(container.iter().map(|update| update.1).collect()).compress();
        let diffs = Lane::Values(container.iter().map(|update| update.2).collect()).compress();
        Updates::new(columns, times, diffs)
    })
}
