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

use std::collections::HashMap;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::trace::implementations::ValSpine;
use differential_dataflow::{AsCollection, VecCollection};
use plan::dataflow_plan::{DataflowPlan, Node, NodeId, Operator, Recursion, positional_schema};
use repr::{Diff, Lane, OnError, PgError, SqlState, Timestamp};
use timely::container::NoopBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator as _, OutputBuilder, OutputBuilderSession};
use timely::dataflow::operators::vec::Filter;
use timely::order::Product;

use super::{Errors, Rows, unnest};
use crate::DataflowError;
use crate::errors::{ErrorRow, ErrorUpdates};
use crate::expression::RowFunction;
use crate::updates::Updates;

/// A row in Arrow's row format, or the columns of a key.
type Encoded = Vec<u8>;
/// Timestamp and iteration.
type LoopTime = Product<Timestamp, u64>;
/// Rows of the outside.
type OuterRows<'scope> = VecCollection<'scope, Timestamp, Encoded, Diff>;
/// Rows of a loop.
type LoopRows<'inner> = VecCollection<'inner, LoopTime, Encoded, Diff>;
/// Rows of a loop by a key.
type LoopArrangement<'inner> = Arranged<'inner, TraceAgent<ValSpine<Encoded, Encoded, LoopTime, Diff>>>;
/// Errors of a loop.
type LoopErrors<'inner> = VecCollection<'inner, LoopTime, ErrorRow, Diff>;

/// Copies of a row that only a loop without end can make: above this, adding them up might overflow.
const COPIES_MAX: Diff = 1 << 40;

/// Whether every operator of the body can be built.
pub(crate) fn check(
    plan: &DataflowPlan,
    inputs: &[NodeId],
    body: &Recursion,
    node: &Node,
) -> Result<(), DataflowError> {
    let invalid = |what: &str| Err(DataflowError::InvalidPlan(what.to_owned()));
    let Some(result) = body.nodes.get(body.result) else { return invalid("a loop's result is not a node") };
    if result.schema != node.schema {
        return invalid("a loop has a schema of another shape than its result");
    }
    for (id, inner) in body.nodes.iter().enumerate() {
        if inner.operator.inputs().iter().any(|input| *input >= id) {
            return invalid("a node of a loop reads a node after it");
        }
        Codec::new(&inner.schema)?;
        let schema = |input: NodeId| &body.nodes[input].schema;
        match &inner.operator {
            Operator::Entered { input } => match inputs.get(*input) {
                Some(outer) if plan.nodes[*outer].schema == inner.schema => {}
                _ => return invalid("what enters a loop is not what its input has"),
            },
            Operator::Variable if inner.schema == result.schema => {}
            Operator::Variable => return invalid("a loop reads rows of another shape than its result"),
            Operator::Map { input, filter, columns } => {
                RowFunction::new("Map", schema(*input), filter, columns, &inner.schema)?;
            }
            Operator::Unnest { input, lists } => unnest::check(&body.nodes[*input], lists)?,
            Operator::Join { left, right, filter, columns, .. } => {
                joined_key(body, *left)?;
                joined_key(body, *right)?;
                RowFunction::new("Join", &joined_schema(body, *left, *right), filter, columns, &inner.schema)?;
            }
            Operator::Union { .. }
            | Operator::Negate { .. }
            | Operator::Arrange { .. }
            | Operator::Distinct { .. }
            | Operator::Threshold { .. } => {}
            _ => return invalid("a loop has an operator that does not run in loops"),
        }
    }
    Ok(())
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

/// Runs the loop over `inputs`, which have the rows of the outer nodes of those `schemas`.
pub(crate) fn render<'scope>(
    scope: Scope<'scope, Timestamp>,
    inputs: Vec<(Rows<'scope>, SchemaRef)>,
    body: &Recursion,
    name: &str,
    on_error: OnError,
) -> Result<(Rows<'scope>, Vec<Errors<'scope>>), DataflowError> {
    let codec = Codec::new(&body.nodes[body.result].schema)?;
    let mut entering = Vec::new();
    for (rows, schema) in inputs {
        entering.push(encode(rows, Codec::new(&schema)?));
    }
    let limit = body.iteration_limit;
    let (result, cut, errors) = scope.iterative::<u64, _, _>(|inner| {
        let (variable, rows) = Variable::new(inner, Product::new(Default::default(), 1));
        let entered = entering.into_iter().map(|rows| rows.enter(inner)).collect();
        let mut renderer = LoopRenderer {
            body,
            name,
            on_error,
            scope: inner,
            entered,
            variable: rows,
            collections: HashMap::new(),
            arrangements: HashMap::new(),
            errors: Vec::new(),
        };
        let result = renderer.collection(body.result)?;
        // What cancels out must not go round.
        let result = match &body.nodes[body.result].operator {
            Operator::Distinct { .. } => result,
            _ => result.consolidate(),
        };
        let goes_round =
            move |time: &LoopTime, diff: Diff| time.inner + 1 < limit && diff.unsigned_abs() <= COPIES_MAX as u64;
        let cut = result.clone().inner.filter(move |(_, time, diff)| !goes_round(time, *diff));
        let next = result.clone().inner.filter(move |(_, time, diff)| goes_round(time, *diff));
        variable.set(next.as_collection());
        let errors: Vec<_> = renderer.errors.into_iter().map(|errors| errors.leave(scope).inner).collect();
        Ok::<_, DataflowError>((result.leave(scope), cut.as_collection().leave(scope), errors))
    })?;
    let mut errors = errors;
    errors.push(endless(cut, name, limit));
    Ok((decode(result, codec), errors))
}

/// One error while the last iteration still changes something.
fn endless<'scope>(cut: OuterRows<'scope>, name: &str, limit: u64) -> Errors<'scope> {
    let message = format!("recursive query does not end within {limit} iterations, or has too many copies of a row");
    let error = ErrorRow::new(name, &[], 0, &PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
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
    /// The result of the iteration before.
    variable: LoopRows<'inner>,
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
        let node = &body.nodes[id];
        let rows = match &node.operator {
            Operator::Entered { input } => self.entered[*input].clone(),
            Operator::Variable => self.variable.clone(),
            Operator::Map { input, filter, columns } => {
                let name = format!("{} Map {id}", self.name);
                let from = &body.nodes[*input].schema;
                let function = RowFunction::new(&name, from, filter, columns, &node.schema)?;
                let rows = self.collection(*input)?;
                self.map(rows, function, from, &node.schema)?
            }
            Operator::Unnest { input, lists } => {
                let lists = lists.clone();
                let rows = self.collection(*input)?;
                let logic = move |updates: Updates, _: &mut ErrorUpdates| unnest::expand(updates, &lists);
                self.batchwise(rows, "Unnest", &body.nodes[*input].schema, &node.schema, logic)?
            }
            Operator::Union { inputs } => {
                let inputs = inputs.iter().map(|input| self.collection(*input)).collect::<Result<Vec<_>, _>>()?;
                differential_dataflow::collection::concatenate(self.scope, inputs)
            }
            Operator::Negate { input } => self.collection(*input)?.negate(),
            Operator::Arrange { input, .. } => self.collection(*input)?,
            Operator::Join { left, right, null_equal, filter, columns } => {
                let name = format!("{} Join {id}", self.name);
                let joined = joined_schema(body, *left, *right);
                let function = RowFunction::new(&name, &joined, filter, columns, &node.schema)?;
                let (left, right) = (self.arranged(*left, *null_equal)?, self.arranged(*right, *null_equal)?);
                // The encoding of some columns followed by that of others is the encoding of all of them.
                let rows = left.join_core(right, |_, left, right| Some([left.as_slice(), right.as_slice()].concat()));
                self.map(rows, function, &joined, &node.schema)?
            }
            Operator::Distinct { input } => {
                self.collection(*input)?.threshold_named("Distinct", |_, count| Diff::from(*count > 0))
            }
            Operator::Threshold { input } => {
                self.collection(*input)?.threshold_named("Threshold", |_, count: &Diff| (*count).max(0))
            }
            _ => return Err(DataflowError::InvalidPlan(format!("node {id} does not run in loops"))),
        };
        self.collections.insert(id, rows.clone());
        Ok(rows)
    }

    /// A join's input by its key; without the rows whose key has a NULL, unless NULLs meet.
    fn arranged(&mut self, id: NodeId, null_equal: bool) -> Result<LoopArrangement<'inner>, DataflowError> {
        let body = self.body;
        let key = joined_key(body, id)?;
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
        self.batchwise(rows, "Map", from, to, move |updates, errors| function.apply(updates, errors))
    }

    /// Runs `logic` over containers as Arrow columns. There the time of a row is its number among the container's, and so it
    /// is in what comes out.
    fn batchwise(
        &mut self,
        rows: LoopRows<'inner>,
        name: &str,
        from: &Schema,
        to: &Schema,
        logic: impl FnMut(Updates, &mut ErrorUpdates) -> Updates + 'static,
    ) -> Result<LoopRows<'inner>, DataflowError> {
        let (rows, errors) = batchwise(rows, name, Codec::new(from)?, Codec::new(to)?, Box::new(logic));
        self.errors.push(errors);
        Ok(rows)
    }
}

type BatchwiseLogic = Box<dyn FnMut(Updates, &mut ErrorUpdates) -> Updates>;

fn batchwise<'inner>(
    rows: LoopRows<'inner>,
    name: &str,
    from: Codec,
    to: Codec,
    mut logic: BatchwiseLogic,
) -> (LoopRows<'inner>, LoopErrors<'inner>) {
    let stream = rows.inner;
    let mut builder = OperatorBuilder::new(name.to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let (rows_output, rows) = builder.new_output::<Vec<(Encoded, LoopTime, Diff)>>();
    let (errors_output, errors) = builder.new_output::<Vec<(ErrorRow, LoopTime, Diff)>>();
    let mut rows_output = OutputBuilder::<_, NoopBuilder<Vec<(Encoded, LoopTime, Diff)>>>::from(rows_output);
    let mut errors_output = OutputBuilder::<_, NoopBuilder<Vec<(ErrorRow, LoopTime, Diff)>>>::from(errors_output);
    builder.build(move |_| {
        move |_| {
            let (mut rows, mut errors) = (rows_output.activate(), errors_output.activate());
            input.for_each(|capability, container| {
                let container = std::mem::take(container);
                let len = container.len();
                let columns = from.decode(container.iter().map(|update| update.0.as_slice()));
                let numbers = Lane::Values((0..len as u64).collect());
                let mut failed = ErrorUpdates::new();
                let updates = logic(Updates::new(columns, numbers, Lane::Constant(1, len)), &mut failed);
                let encoded = to.encode(&updates.columns, updates.len()).into_iter().enumerate();
                let mut out: Vec<(Encoded, LoopTime, Diff)> = encoded
                    .map(|(row, encoded)| {
                        let (_, time, diff) = &container[updates.times.get(row) as usize];
                        (encoded, *time, *diff)
                    })
                    .collect();
                if !out.is_empty() {
                    rows.session_with_builder(&capability).give_container(&mut out);
                }
                let mut failed: Vec<(ErrorRow, LoopTime, Diff)> = failed
                    .into_iter()
                    .map(|(error, row, _)| {
                        let (_, time, diff) = &container[row as usize];
                        (error, *time, *diff)
                    })
                    .collect();
                if !failed.is_empty() {
                    errors.session_with_builder(&capability).give_container(&mut failed);
                }
            });
        }
    });
    (rows.as_collection(), errors.as_collection())
}

/// The rows with the columns of `key` encoded apart.
fn by_key<'inner>(
    rows: LoopRows<'inner>,
    schema: &Schema,
    key: &[usize],
    null_equal: bool,
) -> Result<VecCollection<'inner, LoopTime, (Encoded, Encoded), Diff>, DataflowError> {
    let codec = Codec::new(schema)?;
    let key = key.to_vec();
    let types = key.iter().map(|column| schema.field(*column).data_type().clone());
    let key_codec = Codec::new(&positional_schema(types))?;
    type Keyed = Vec<((Encoded, Encoded), LoopTime, Diff)>;
    let keyed = rows.inner.unary(Pipeline, "Key", move |_, _| {
        move |input, output: &mut OutputBuilderSession<'_, LoopTime, NoopBuilder<Keyed>>| {
            input.for_each(|capability, container| {
                let container = std::mem::take(container);
                let columns = codec.decode(container.iter().map(|update| update.0.as_slice()));
                let columns: Vec<ArrayRef> = key.iter().map(|column| columns[*column].clone()).collect();
                let keys = key_codec.encode(&columns, container.len());
                let meets = |row: usize| null_equal || columns.iter().all(|column| column.is_valid(row));
                let keyed = container.into_iter().zip(keys).enumerate().filter(|(row, _)| meets(*row));
                let mut keyed: Keyed = keyed.map(|(_, ((row, time, diff), key))| ((key, row), time, diff)).collect();
                if !keyed.is_empty() {
                    output.session_with_builder(&capability).give_container(&mut keyed);
                }
            });
        }
    });
    Ok(keyed.as_collection())
}

fn encode<'scope>(rows: Rows<'scope>, codec: Codec) -> OuterRows<'scope> {
    type Out = Vec<(Encoded, Timestamp, Diff)>;
    let encoded = rows.unary(Pipeline, "Encode", move |_, _| {
        move |input, output: &mut OutputBuilderSession<'_, Timestamp, NoopBuilder<Out>>| {
            input.for_each(|capability, container| {
                let updates = std::mem::take(container);
                let encoded = codec.encode(&updates.columns, updates.len()).into_iter();
                let lanes = updates.times.iter().zip(updates.diffs.iter());
                let mut out: Out = encoded.zip(lanes).map(|(row, (time, diff))| (row, time, diff)).collect();
                if !out.is_empty() {
                    output.session_with_builder(&capability).give_container(&mut out);
                }
            });
        }
    });
    encoded.as_collection()
}

fn decode<'scope>(rows: OuterRows<'scope>, codec: Codec) -> Rows<'scope> {
    rows.inner.unary(Pipeline, "Decode", move |_, _| {
        move |input, output: &mut OutputBuilderSession<'_, Timestamp, NoopBuilder<Updates>>| {
            input.for_each(|capability, container| {
                let container = std::mem::take(container);
                let columns = codec.decode(container.iter().map(|update| update.0.as_slice()));
                let times = Lane::Values(container.iter().map(|update| update.1).collect()).compress();
                let diffs = Lane::Values(container.iter().map(|update| update.2).collect()).compress();
                let mut updates = Updates::new(columns, times, diffs);
                if !updates.is_empty() {
                    output.session_with_builder(&capability).give_container(&mut updates);
                }
            });
        }
    })
}

/// Between columns and encoded rows. Values that SQL calls equal have one encoding.
#[derive(Clone)]
struct Codec {
    converter: Rc<RowConverter>,
    width: usize,
}

impl Codec {
    /// Errors: `0A000` for a column type that has no encoding.
    fn new(schema: &Schema) -> Result<Codec, DataflowError> {
        let fields: Vec<SortField> =
            schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let unsupported = || {
            let types: Vec<String> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
            DataflowError::Plan(PgError::unsupported(format!("columns of types {} in a recursion", types.join(", "))))
        };
        let converter = RowConverter::new(fields).map_err(|_| unsupported())?;
        Ok(Codec { converter: Rc::new(converter), width: schema.fields().len() })
    }

    fn encode(&self, columns: &[ArrayRef], row_count: usize) -> Vec<Encoded> {
        if self.width == 0 {
            return vec![Encoded::new(); row_count];
        }
        let columns: Vec<ArrayRef> = columns.iter().map(canonical).collect();
        let rows = self.converter.convert_columns(&columns).expect("columns of the types that the codec was made for");
        rows.iter().map(|row| row.as_ref().to_vec()).collect()
    }

    fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        if self.width == 0 {
            return Vec::new();
        }
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.map(|row| parser.parse(row))).expect("rows that the codec's kind encoded")
    }
}

/// One zero and one NaN.
fn canonical(column: &ArrayRef) -> ArrayRef {
    fn each<T: ArrowPrimitiveType>(column: &ArrayRef, value: impl Fn(T::Native) -> T::Native) -> ArrayRef {
        let values: PrimitiveArray<T> = column.as_primitive::<T>().unary(value);
        std::sync::Arc::new(values)
    }
    match column.data_type() {
        DataType::Float32 => each::<Float32Type>(column, |value| if value.is_nan() { f32::NAN } else { value + 0.0 }),
        DataType::Float64 => each::<Float64Type>(column, |value| if value.is_nan() { f64::NAN } else { value + 0.0 }),
        _ => column.clone(),
    }
}
