//! A plan becomes operators: one module an operator, and here what they have in common.
//!
//! Every node has a collection (a stream of [`Updates`]) and may have arrangements, one a key; both are made when
//! something first asks for them, and shared from then on. Beside each runs the collection of its errors.
//!
//! ```text
//! Source, Import --> stateless stages --> hash --> exchange --> arrangement --> operator over batches --> ..
//!                          |                                                            |
//!                          '----------------------> errors <----------------------------'
//! ```
//!
//! Operators with state work on closed intervals: an arrangement seals a batch, the operator compares each changed
//! group before and after it. Times are totally ordered, so that is all there is to it.

mod collate;
mod constant;
mod distinct;
mod fold;
mod group;
mod half_join;
mod join;
mod map;
mod order_statistic;
mod recursion;
mod reduce;
mod single_row;
mod temporal;
mod top_k;
mod unnest;
mod window;
mod window_close;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use differential_dataflow::operators::arrange::agent::ShutdownButton;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::chunk::ChunkBatch;
use plan::dataflow_plan::{DataflowPlan, Node, NodeId, Operator};
use repr::{ObjectId, PgError, Timestamp};
use timely::Container;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::generic::{Operator as _, OutputBuilder, OutputBuilderSession};
use timely::dataflow::operators::{CapabilitySet, Concatenate};
use timely::dataflow::{Scope, Stream};
use timely::progress::Antichain;
use timely::progress::operate::FrontierInterest;
use timely::scheduling::Activator;

use crate::DataflowError;
use crate::agenda::Agenda;
use crate::arrange::{ArrangedRows, ArrangementHandle, Batch, BatchSpan, Trace, arrange, flatten, share};
use crate::chunk::ArrowChunk;
use crate::errors::ErrorUpdates;
use crate::expression::RowFunction;
use crate::updates::Updates;
use crate::watermark::Watermarks;

/// A stream of containers.
pub(crate) type Rows<'scope> = Stream<'scope, Timestamp, Updates>;
/// A stream of errors.
pub(crate) type Errors<'scope> = Stream<'scope, Timestamp, ErrorUpdates>;

/// What a rendered dataflow gives to the runtime, on one worker.
pub struct Rendered<'scope> {
    /// The export: the rows of `plan.export.node` arranged by `plan.export.key`. Whoever holds it advances its
    /// frontiers.
    pub trace: Trace,
    /// The export's batches as they are sealed; [`crate::arrange::flatten`] makes rows of them.
    pub batches: Stream<'scope, Timestamp, Vec<BatchSpan>>,
    /// Rows that failed anywhere in the dataflow.
    pub errors: Stream<'scope, Timestamp, ErrorUpdates>,
    /// The arrangements this dataflow made (not those it imported).
    pub arrangements: Vec<ArrangementHandle>,
    /// Pressed, an import ends; dropped unpressed, it does not.
    pub imports: Vec<ShutdownButton<CapabilitySet<Timestamp>>>,
}

/// What operators that wait have to know of time: temporal filters for the clock, windows for their source's watermark.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// The first time at which the dataflow is read: what has come and gone before that need not be told.
    pub as_of: Timestamp,
    /// Where they note when they will want time to pass.
    pub agenda: Arc<Agenda>,
    /// The event time of each source that windows wait for, on this worker.
    pub watermarks: HashMap<ObjectId, Watermarks>,
}

/// Builds `plan` in `scope`.
///
/// `sources` has the stream of every source that the plan reads, all columns, on every worker. `imports` has a handle
/// on every export that it imports; the dataflow starts as of those handles' logical compaction: earlier changes are
/// read as one. Nobody reads it before `clock.as_of`.
pub fn render<'scope>(
    plan: &DataflowPlan,
    scope: Scope<'scope, Timestamp>,
    sources: HashMap<ObjectId, Stream<'scope, Timestamp, Updates>>,
    imports: &mut HashMap<ObjectId, Trace>,
    clock: &Clock,
) -> Result<Rendered<'scope>, DataflowError> {
    let mut as_of = 0;
    for id in plan.imports() {
        let trace = imports.get_mut(&id).ok_or(DataflowError::UnknownDataflow(id))?;
        as_of = as_of.max(trace.get_logical_compaction().first().copied().unwrap_or(0));
    }
    let mut renderer = Renderer {
        plan,
        scope,
        sources,
        imports,
        clock,
        as_of,
        collections: HashMap::new(),
        arrangements: HashMap::new(),
        imported: HashMap::new(),
        loops: HashMap::new(),
        errors: Vec::new(),
        handles: Vec::new(),
        buttons: Vec::new(),
    };
    let export = renderer.arrangement(plan.export.node, &plan.export.key)?;
    let Renderer { errors, handles, buttons, .. } = renderer;
    let errors = if errors.is_empty() { empty(scope) } else { scope.concatenate(errors) };
    Ok(Rendered { trace: export.trace, batches: export.stream, errors, arrangements: handles, imports: buttons })
}

/// Whether every operator of `plan` can be built: all that [`render`] can fail with, but for missing imports.
pub fn check(plan: &DataflowPlan) -> Result<(), DataflowError> {
    if plan.export.node >= plan.nodes.len() {
        return Err(DataflowError::InvalidPlan("the export is not a node".to_owned()));
    }
    for (id, node) in plan.nodes.iter().enumerate() {
        if node.operator.inputs().iter().any(|input| *input >= id) {
            return Err(DataflowError::InvalidPlan(format!("node {id} reads a node after it")));
        }
        if let Some(field) = node.schema.fields().iter().find(|field| !is_stored(field.data_type())) {
            let what = format!("a column of type {}", field.data_type());
            return Err(DataflowError::Plan(PgError::unsupported(what)));
        }
        match &node.operator {
            Operator::Map { input, filter, columns } => {
                RowFunction::new("Map", &plan.nodes[*input].schema, filter, columns, &node.schema)?;
            }
            Operator::Join { .. } | Operator::HalfJoin { .. } => {
                join::JoinFunction::new(plan, id)?;
            }
            Operator::Reduce { input, key, aggregates } => {
                reduce::GroupFunction::new(&plan.nodes[*input], node, key, aggregates)?;
            }
            Operator::Fold { input, key, calls } => {
                check_columns(&plan.nodes[*input], key)?;
                fold::FoldFunction::new(&plan.nodes[*input], node, key, calls)?;
            }
            Operator::Arrange { input, key } => check_columns(&plan.nodes[*input], key)?,
            Operator::TopK { input, key, order, .. } | Operator::TopRanks { input, key, order, .. } => {
                check_columns(&plan.nodes[*input], key)?;
                check_columns(&plan.nodes[*input], &order.iter().map(|sort| sort.column).collect::<Vec<_>>())?;
            }
            Operator::OrderStatistic { input, key, value, calls } => {
                check_columns(&plan.nodes[*input], key)?;
                check_columns(&plan.nodes[*input], &[value.column])?;
                order_statistic::check(&plan.nodes[*input], value, calls)?;
            }
            Operator::SingleRow { input, key } => check_columns(&plan.nodes[*input], key)?,
            Operator::Collate { inputs, key_count } => collate::check(plan, inputs, *key_count, node)?,
            Operator::Window { input, key, calls } => {
                check_columns(&plan.nodes[*input], key)?;
                window::Functions::new(&plan.nodes[*input], calls, node)?;
            }
            Operator::TemporalFilter { input, condition } => {
                temporal::TemporalFilter::new(
                    format!("TemporalFilter {id}"),
                    &plan.nodes[*input],
                    condition,
                    plan.options.on_error,
                )?;
            }
            Operator::WindowClose { input, window_end, .. } => check_columns(&plan.nodes[*input], &[*window_end])?,
            Operator::Unnest { input, lists } => unnest::check(&plan.nodes[*input], lists)?,
            Operator::Recursion { inputs, body } => {
                recursion::check(plan, inputs, body)?;
                recursion::check_result(plan, id, 0, node)?;
            }
            Operator::LoopResult { input, result } => recursion::check_result(plan, *input, *result, node)?,
            Operator::Entered { .. } | Operator::Variable { .. } => {
                return Err(DataflowError::InvalidPlan(format!("node {id} is outside of any loop")));
            }
            _ => {}
        }
    }
    check_columns(&plan.nodes[plan.export.node], &plan.export.key)
}

/// Whether rows may have columns of this type: those that can be hashed, and so arranged.
fn is_stored(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(element) => is_stored(element.data_type()),
        DataType::Time64(unit) | DataType::Timestamp(unit, _) => *unit == TimeUnit::Microsecond,
        DataType::Interval(unit) => *unit == IntervalUnit::MonthDayNano,
        DataType::Null
        | DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Decimal128(_, _)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_) => true,
        _ => false,
    }
}

fn check_columns(node: &Node, columns: &[usize]) -> Result<(), DataflowError> {
    match columns.iter().find(|column| **column >= node.schema.fields().len()) {
        Some(column) => Err(DataflowError::InvalidPlan(format!("a key names column {column}, which is not there"))),
        None => Ok(()),
    }
}

/// The dataflow under construction.
struct Renderer<'a, 'scope> {
    plan: &'a DataflowPlan,
    scope: Scope<'scope, Timestamp>,
    sources: HashMap<ObjectId, Rows<'scope>>,
    imports: &'a mut HashMap<ObjectId, Trace>,
    clock: &'a Clock,
    as_of: Timestamp,
    collections: HashMap<NodeId, Rows<'scope>>,
    arrangements: HashMap<(NodeId, Vec<usize>), ArrangedRows<'scope>>,
    imported: HashMap<ObjectId, ArrangedRows<'scope>>,
    /// The results of each loop.
    loops: HashMap<NodeId, Vec<Rows<'scope>>>,
    errors: Vec<Errors<'scope>>,
    handles: Vec<ArrangementHandle>,
    buttons: Vec<ShutdownButton<CapabilitySet<Timestamp>>>,
}

impl<'scope> Renderer<'_, 'scope> {
    /// The rows of a node as a stream.
    fn collection(&mut self, id: NodeId) -> Result<Rows<'scope>, DataflowError> {
        if let Some(rows) = self.collections.get(&id) {
            return Ok(rows.clone());
        }
        let plan = self.plan;
        let node = &plan.nodes[id];
        let rows = match &node.operator {
            Operator::Source { relation, columns } => {
                let rows = self.sources.get(relation).ok_or(DataflowError::UnknownDataflow(*relation))?.clone();
                map::select(rows, columns.clone())
            }
            Operator::Import { dataflow, .. } => {
                let arranged = self.import(*dataflow)?;
                flatten(arranged.stream, self.as_of)
            }
            Operator::Constant { rows } => constant::render(self.scope, rows),
            Operator::Map { input, .. } => {
                let rows = self.collection(*input)?;
                self.map_node(id, rows)?
            }
            Operator::Unnest { input, lists } => {
                let pace = unnest::Pace::new();
                // Where a Map makes the lists, its rows are let in one by one.
                if let (Operator::Map { input: rows, .. }, false) =
                    (&plan.nodes[*input].operator, self.collections.contains_key(input))
                {
                    let rows = unnest::paced(self.collection(*rows)?, pace.clone());
                    let rows = self.map_node(*input, rows)?;
                    self.collections.insert(*input, rows);
                }
                unnest::render(self.collection(*input)?, lists.clone(), pace)
            }
            Operator::Union { inputs } => {
                let inputs = inputs.iter().map(|input| self.collection(*input)).collect::<Result<Vec<_>, _>>()?;
                self.scope.concatenate(inputs)
            }
            Operator::Negate { input } => map::negate(self.collection(*input)?),
            Operator::Recursion { inputs, body } => {
                let mut entering = Vec::new();
                for input in inputs {
                    entering.push((self.collection(*input)?, plan.nodes[*input].schema.clone()));
                }
                let name = format!("Recursion {id}");
                let (results, errors) = recursion::render(self.scope, entering, body, &name, plan.options.on_error)?;
                self.errors.extend(errors);
                self.loops.insert(id, results.clone());
                results[0].clone()
            }
            Operator::LoopResult { input, result } => {
                self.collection(*input)?;
                let rows = self.loops.get(input).and_then(|results| results.get(*result));
                let missing = || DataflowError::InvalidPlan(format!("node {id} is a result that a loop does not have"));
                rows.ok_or_else(missing)?.clone()
            }
            Operator::Entered { .. } | Operator::Variable { .. } => {
                return Err(DataflowError::InvalidPlan(format!("node {id} is outside of any loop")));
            }
            Operator::Arrange { input, .. } => self.collection(*input)?,
            Operator::Changes { input } => half_join::changes(self.collection(*input)?, self.start()),
            Operator::HalfJoin { input, key, arranged, before, .. } => {
                let function = join::JoinFunction::new(plan, id)?;
                let updates = map::hash(self.collection(*input)?, key.clone());
                let arranged = self.arranged(*arranged)?;
                let (joined, function) = half_join::render(updates, arranged, function, *before, self.start());
                self.map(joined, function)
            }
            Operator::Join { left, right, null_equal, .. } => {
                let function = join::JoinFunction::new(plan, id)?;
                let (left, right) = (self.arranged(*left)?, self.arranged(*right)?);
                let (joined, function) = join::render(left, right, function, *null_equal, self.as_of);
                self.map(joined, function)
            }
            Operator::Reduce { input, key, aggregates } => {
                let function = reduce::GroupFunction::new(&plan.nodes[*input], node, key, aggregates)?;
                let rows = reduce::contributions(self.collection(*input)?, function.clone());
                let arranged = self.arrange(rows, id, "Reduce");
                self.stateful(
                    arranged,
                    &format!("Reduce {id}"),
                    Box::new(reduce::Reduce::new(function, format!("Reduce {id}"))),
                )
            }
            Operator::Fold { input, key, calls } => {
                let function = fold::FoldFunction::new(&plan.nodes[*input], node, key, calls)?;
                let arranged = self.arrangement(*input, key)?;
                let name = format!("Fold {id}");
                self.stateful(arranged, &name, Box::new(fold::Fold::new(function, name.clone())))
            }
            Operator::TopK { input, key, order, offset, limit } => {
                let append_only = plan.nodes[*input].append_only && limit.is_some();
                let first_only = append_only && *offset == 0 && *limit == Some(1);
                let rows = top_k::rank(self.collection(*input)?, key.clone(), order.first().cloned(), first_only);
                let logic = top_k::TopK::new(key.clone(), order.clone(), *offset, *limit);
                if append_only {
                    let name = format!("TopK {id}");
                    let (rows, kept) = top_k::render_append_only(arrange(rows, &name).stream, &name, self.as_of, logic);
                    self.handles.push(ArrangementHandle::new(id, name, &kept));
                    self.collections.insert(id, rows.clone());
                    return Ok(rows);
                }
                let arranged = self.arrange(rows, id, "TopK");
                self.stateful(arranged, &format!("TopK {id}"), Box::new(logic))
            }
            Operator::OrderStatistic { input, key, value, calls } => {
                let rows = top_k::rank(self.collection(*input)?, key.clone(), Some(value.clone()), false);
                let arranged = self.arrange(rows, id, "OrderStatistic");
                let logic = order_statistic::OrderStatistic::new(key.clone(), value.clone(), calls.clone());
                self.stateful(arranged, &format!("OrderStatistic {id}"), Box::new(logic))
            }
            Operator::TopRanks { input, key, order, limit, dense } => {
                let rows = top_k::rank(self.collection(*input)?, key.clone(), order.first().cloned(), false);
                let logic = top_k::TopK::ranks(key.clone(), order.clone(), *limit, *dense);
                let arranged = self.arrange(rows, id, "TopRanks");
                self.stateful(arranged, &format!("TopRanks {id}"), Box::new(logic))
            }
            Operator::Window { input, key, calls } => {
                let functions = window::Functions::new(&plan.nodes[*input], calls, node)?;
                let logic = window::Window::new(key.clone(), functions, format!("Window {id}"));
                let rows = top_k::rank(self.collection(*input)?, key.clone(), logic.first_sort_key(), false);
                let arranged = self.arrange(rows, id, "Window");
                self.stateful(arranged, &format!("Window {id}"), Box::new(logic))
            }
            Operator::Distinct { input } => self.counted(id, *input, "Distinct", |count| i64::from(count > 0))?,
            Operator::Threshold { input } => self.counted(id, *input, "Threshold", |count| count.max(0))?,
            Operator::Collate { inputs, key_count } => {
                let layout = collate::Layout::new(plan, inputs, *key_count);
                let mut streams = Vec::new();
                for (index, input) in inputs.iter().enumerate() {
                    streams.push(layout.widen(self.collection(*input)?, index));
                }
                let arranged = self.arrange(self.scope.concatenate(streams), id, "Collate");
                self.stateful(arranged, &format!("Collate {id}"), Box::new(collate::Collate::new(layout)))
            }
            Operator::TemporalFilter { input, condition } => {
                let name = format!("TemporalFilter {id}");
                let filter =
                    temporal::TemporalFilter::new(name, &plan.nodes[*input], condition, plan.options.on_error)?;
                let rows = self.collection(*input)?;
                let (rows, errors) = temporal::render(rows, filter, self.clock.as_of, Arc::clone(&self.clock.agenda));
                self.errors.push(errors);
                rows
            }
            Operator::WindowClose { input, window_end, source } => {
                let name = format!("WindowClose {id}");
                let watermarks = self.clock.watermarks.get(source).cloned().unwrap_or_default();
                let rows = self.collection(*input)?;
                let (rows, errors) = window_close::render(rows, name, *window_end, watermarks);
                self.errors.push(errors);
                rows
            }
            Operator::Emitted { input } => {
                let rows = self.collection(*input)?;
                // A row that fails for a window's rows goes on failing, though they went again.
                let errors = self.scope.concatenate(std::mem::take(&mut self.errors));
                self.errors.push(window_close::emitted_errors(errors));
                window_close::emitted(rows)
            }
            Operator::SingleRow { input, key } => {
                let arranged = self.arrangement(*input, key)?;
                let logic = single_row::SingleRow::new(key.clone(), format!("SingleRow {id}"));
                self.stateful(arranged, &format!("SingleRow {id}"), Box::new(logic))
            }
        };
        self.collections.insert(id, rows.clone());
        Ok(rows)
    }

    /// What counts as the start where operators on different workers have to agree on it: how far imports are compacted may
    /// differ between them, but is never later than the first time that is read. The times of sources are the same everywhere.
    fn start(&self) -> Timestamp {
        match self.plan.imports().is_empty() {
            true => self.as_of,
            false => self.as_of.max(self.clock.as_of),
        }
    }

    /// The rows of a node arranged by `key`.
    fn arrangement(&mut self, id: NodeId, key: &[usize]) -> Result<ArrangedRows<'scope>, DataflowError> {
        // An Arrange node has its input's rows: whoever arranges either by the same key shares.
        let mut id = id;
        while let Operator::Arrange { input, .. } = &self.plan.nodes[id].operator {
            id = *input;
        }
        if let Operator::Import { dataflow, key: imported } = &self.plan.nodes[id].operator
            && imported == key
        {
            return self.import(*dataflow);
        }
        if let Some(arranged) = self.arrangements.get(&(id, key.to_vec())) {
            return Ok(share(arranged));
        }
        let rows = map::hash(self.collection(id)?, key.to_vec());
        let arranged = self.arrange(rows, id, "Arrange");
        self.arrangements.insert((id, key.to_vec()), share(&arranged));
        Ok(arranged)
    }

    /// A join's input: an `Arrange` or an `Import` node.
    fn arranged(&mut self, id: NodeId) -> Result<ArrangedRows<'scope>, DataflowError> {
        let key = join::arranged_key(self.plan, id)?.to_vec();
        self.arrangement(id, &key)
    }

    fn import(&mut self, id: ObjectId) -> Result<ArrangedRows<'scope>, DataflowError> {
        if let Some(arranged) = self.imported.get(&id) {
            return Ok(share(arranged));
        }
        let trace = self.imports.get_mut(&id).ok_or(DataflowError::UnknownDataflow(id))?;
        let (arranged, button) = trace.import_core(self.scope, "Import");
        self.buttons.push(button);
        self.imported.insert(id, share(&arranged));
        Ok(arranged)
    }

    /// Arranges hashed rows and keeps a handle for statistics.
    fn arrange(&mut self, rows: Rows<'scope>, node: NodeId, name: &str) -> ArrangedRows<'scope> {
        let name = format!("{name} {node}");
        let arranged = arrange(rows, &name);
        self.handles.push(ArrangementHandle::new(node, name, &arranged.trace));
        arranged
    }

    /// A `Map` over the rows of its input.
    fn map_node(&mut self, id: NodeId, rows: Rows<'scope>) -> Result<Rows<'scope>, DataflowError> {
        let node = &self.plan.nodes[id];
        let Operator::Map { input, filter, columns } = &node.operator else {
            return Err(DataflowError::InvalidPlan(format!("node {id} is not a Map")));
        };
        let input = &self.plan.nodes[*input].schema;
        let function = RowFunction::new(&format!("Map {id}"), input, filter, columns, &node.schema)?;
        Ok(self.map(rows, function))
    }

    fn map(&mut self, rows: Rows<'scope>, mut function: RowFunction) -> Rows<'scope> {
        function.set_on_error(self.plan.options.on_error);
        if function.is_identity() {
            return rows;
        }
        let (rows, errors) = map::render(rows, function);
        self.errors.push(errors);
        rows
    }

    /// DISTINCT and its kin: a row's count of copies decides how many come out.
    fn counted(
        &mut self,
        id: NodeId,
        input: NodeId,
        name: &str,
        copies: fn(i64) -> i64,
    ) -> Result<Rows<'scope>, DataflowError> {
        let key: Vec<usize> = (0..self.plan.nodes[input].schema.fields().len()).collect();
        let arranged = self.arrangement(input, &key)?;
        Ok(self.stateful(arranged, &format!("{name} {id}"), Box::new(distinct::Counted::new(copies))))
    }

    fn stateful(&mut self, arranged: ArrangedRows<'scope>, name: &str, logic: Box<dyn BatchLogic>) -> Rows<'scope> {
        let (rows, errors) = over_batches(arranged, name, self.as_of, logic);
        self.errors.push(errors);
        rows
    }
}

/// What an operator over an arrangement does with each sealed batch.
pub(crate) trait BatchLogic {
    /// Puts into `output` what changes when `novel` comes after all of `prior`. Times before `as_of` count as `as_of`.
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output);
}

/// What operators produce: containers and errors.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) updates: Vec<Updates>,
    pub(crate) errors: ErrorUpdates,
}

/// A sealed batch that an operator still has to work through.
struct Pending {
    rows: CapabilitySet<Timestamp>,
    errors: CapabilitySet<Timestamp>,
    /// What was there before it.
    prior: Vec<Batch>,
    /// What is left of it, key by key.
    portions: VecDeque<Batch>,
}

/// Runs `logic` over the batches of an arrangement as they are sealed, a portion at a time: others want to run too.
fn over_batches<'scope>(
    arranged: ArrangedRows<'scope>,
    name: &str,
    as_of: Timestamp,
    mut logic: Box<dyn BatchLogic>,
) -> (Rows<'scope>, Errors<'scope>) {
    let mut trace = arranged.trace;
    let scope = arranged.stream.scope();
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let activator = Activator::new(builder.operator_info().address, scope.activations());
    let mut input = builder.new_input(arranged.stream, Pipeline);
    let (rows_output, rows) = builder.new_output::<Updates>();
    let (errors_output, errors) = builder.new_output::<ErrorUpdates>();
    let mut rows_output = OutputBuilder::<_, NoopBuilder<Updates>>::from(rows_output);
    let mut errors_output = OutputBuilder::<_, NoopBuilder<ErrorUpdates>>::from(errors_output);
    // Where the batches end that this operator has seen: it reads the trace up to there.
    let mut upper = Antichain::from_elem(0);
    let mut waiting: VecDeque<Pending> = VecDeque::new();
    builder.build(move |_| {
        move |_| {
            let lower = upper.clone();
            let mut prior: Option<Vec<Batch>> = None;
            input.for_each(|capability, spans| {
                for span in spans.drain(..) {
                    upper.clone_from(span.upper());
                    let Some(batch) = span.inner else { continue };
                    let prior = prior.get_or_insert_with(|| {
                        trace.batches_through(lower.borrow()).expect("this operator's hold keeps the boundary")
                    });
                    waiting.push_back(Pending {
                        rows: capability.retain_stamp(0),
                        errors: capability.retain_stamp(1),
                        prior: prior.clone(),
                        portions: portions(&batch),
                    });
                    prior.push(batch);
                }
            });
            let mut budget = PORTION_CHUNKS;
            while budget > 0
                && let Some(pending) = waiting.front_mut()
            {
                let Some(portion) = pending.portions.pop_front() else {
                    waiting.pop_front();
                    continue;
                };
                budget = budget.saturating_sub(portion.chunks.len());
                let mut output = Output::default();
                logic.process(&pending.prior, &portion, as_of, &mut output);
                let mut handle = rows_output.activate();
                let mut session = handle.session_with_builder(&pending.rows);
                output.updates.iter_mut().for_each(|updates| session.give_container(updates));
                if !output.errors.is_empty() {
                    errors_output.activate().session_with_builder(&pending.errors).give_container(&mut output.errors);
                }
            }
            if waiting.front().is_some_and(|pending| pending.portions.is_empty()) {
                waiting.pop_front();
            }
            if !waiting.is_empty() {
                activator.activate();
            }
            trace.advance_upper(&mut upper);
            trace.set_logical_compaction(upper.borrow());
            trace.set_physical_compaction(upper.borrow());
        }
    });
    (rows, errors)
}

/// Chunks that an operator works through in one scheduling.
const PORTION_CHUNKS: usize = 4;

/// Cuts a batch where one key ends and another begins.
fn portions(batch: &Batch) -> VecDeque<Batch> {
    if batch.chunks.len() <= PORTION_CHUNKS {
        return VecDeque::from([batch.clone()]);
    }
    let last_key = |chunk: &ArrowChunk| chunk.key_hash(chunk.row_count() - 1);
    let mut portions = VecDeque::new();
    let mut portion: Vec<ArrowChunk> = Vec::new();
    for chunk in &batch.chunks {
        if portion.len() >= PORTION_CHUNKS && portion.last().is_some_and(|last| last_key(last) < chunk.key_hash(0)) {
            portions.push_back(Rc::new(ChunkBatch::new(std::mem::take(&mut portion))));
        }
        portion.push(chunk.clone());
    }
    portions.push_back(Rc::new(ChunkBatch::new(portion)));
    portions
}

/// A stateless operator without errors.
pub(crate) fn stateless<'scope>(
    rows: Rows<'scope>,
    name: &str,
    logic: impl FnMut(Updates) -> Updates + 'static,
) -> Rows<'scope> {
    // One timely operator is compiled for all of them.
    let logic: Box<dyn FnMut(Updates) -> Updates> = Box::new(logic);
    containerwise(rows, name, logic)
}

/// A stateless operator whose rows may fail.
pub(crate) fn fallible<'scope>(
    rows: Rows<'scope>,
    name: &str,
    mut logic: impl FnMut(Updates, &mut ErrorUpdates) -> Updates + 'static,
) -> (Rows<'scope>, Errors<'scope>) {
    containerwise_fallible(rows, name, move |updates| {
        let mut failed = ErrorUpdates::new();
        let updates = logic(updates, &mut failed);
        (updates, failed)
    })
}

/// A stateless operator over containers of any kind. Of what is empty nothing is sent.
fn containerwise<'scope, T: timely::progress::Timestamp, I: Container, O: Container>(
    stream: Stream<'scope, T, I>,
    name: &str,
    mut logic: impl FnMut(I) -> O + 'static,
) -> Stream<'scope, T, O> {
    stream.unary(Pipeline, name, move |_, _| {
        move |input, output: &mut OutputBuilderSession<'_, T, NoopBuilder<O>>| {
            input.for_each(|capability, container| {
                let mut out = logic(std::mem::take(container));
                if !out.is_empty() {
                    output.session_with_builder(&capability).give_container(&mut out);
                }
            });
        }
    })
}

/// The same with a second output, of what failed.
fn containerwise_fallible<'scope, T: timely::progress::Timestamp, I: Container, O: Container, E: Container>(
    stream: Stream<'scope, T, I>,
    name: &str,
    mut logic: impl FnMut(I) -> (O, E) + 'static,
) -> (Stream<'scope, T, O>, Stream<'scope, T, E>) {
    let mut builder = OperatorBuilder::new(name.to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (rows_output, rows) = builder.new_output::<O>();
    let (errors_output, errors) = builder.new_output::<E>();
    let mut rows_output = OutputBuilder::<_, NoopBuilder<O>>::from(rows_output);
    let mut errors_output = OutputBuilder::<_, NoopBuilder<E>>::from(errors_output);
    builder.build(move |_| {
        move |_| {
            let (mut rows, mut errors) = (rows_output.activate(), errors_output.activate());
            input.for_each(|capability, container| {
                let (mut out, mut failed) = logic(std::mem::take(container));
                if !out.is_empty() {
                    rows.session_with_builder(&capability).give_container(&mut out);
                }
                if !failed.is_empty() {
                    errors.session_with_builder(&capability).give_container(&mut failed);
                }
            });
        }
    });
    (rows, errors)
}
