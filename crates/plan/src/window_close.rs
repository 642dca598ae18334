//! `EMIT ON WINDOW CLOSE`: a lowered plan that gives each window's rows once, when the watermark has passed its end.
//!
//! ```text
//! Source -> Map (window_start, window_end) -> WindowClose -> Reduce by (window_end, ..) -> Map -> Emitted -> Arrange
//!                                             +1 at t, -1 at t + 1: keeps nothing        keeps what came
//! ```
//!
//! A window's rows reach the operators above all at one time `t` and leave at the next, so each of them computes the window as
//! the query from scratch would, and forgets it. That is so for any operator that keeps rows of different windows apart: one
//! whose key has the window's end in it. Whatever else would be a wrong answer, so it is refused.

use datafusion::logical_expr::Expr;
use repr::{LateRows, ObjectId, PgError, Watermark};

use crate::dataflow_plan::{DataflowPlan, Node, NodeId, Operator};
use crate::expression::position;
use crate::graph::Graph;
use crate::lower::export;

/// What a column is to the windows of its row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The source's event time.
    Time,
    /// The starts of the row's windows, a list.
    Starts,
    /// The start of one.
    Start,
    /// The ends of the row's windows, a list.
    Ends,
    /// The end of one.
    End,
}

/// A node of the new plan.
#[derive(Clone)]
struct Built {
    node: NodeId,
    moments: Vec<Option<Moment>>,
    /// Whether its rows have waited for their window.
    is_closed: bool,
}

/// The same query as `plan`, its windows given once. `watermark` is that of a source, if it has one.
///
/// Errors: `0A000` for a query whose windows do not close one by one, or whose source does not say when they do.
pub fn emit_on_window_close(
    plan: DataflowPlan,
    watermark: &dyn Fn(ObjectId) -> Option<Watermark>,
) -> Result<DataflowPlan, PgError> {
    let mut root = plan.export.node;
    if let Operator::Arrange { input, .. } = &plan.nodes[root].operator {
        root = *input;
    }
    let source = only_relation(&plan)?;
    let mut graph = Graph::default();
    let mut built: Vec<Built> = Vec::with_capacity(root + 1);
    for node in &plan.nodes[..=root] {
        let next = rebuild(&mut graph, node, &built, source, watermark)?;
        built.push(close(&mut graph, next, source)?);
    }
    let Built { node, moments, is_closed } = built.swap_remove(root);
    if !is_closed {
        return Err(refused("of a query without windows").with_hint(FORM));
    }
    if !moments.contains(&Some(Moment::End)) {
        return Err(refused("without window_end among the columns")
            .with_hint("GROUP BY window_end and SELECT it: it tells the rows of one window from those of another."));
    }
    let emitted = graph.add(Operator::Emitted { input: node })?;
    let export = export(&mut graph, emitted)?;
    Ok(DataflowPlan { nodes: graph.nodes, export, ..plan })
}

/// The form of a query that can be given so.
const FORM: &str = "Write SELECT window_end, .. FROM TUMBLE(source, event time, size) GROUP BY window_end, .., or HOP or \
                    CUMULATE, over one source with a watermark for that event time.";

fn refused(what: &str) -> PgError {
    PgError::unsupported(format!("EMIT ON WINDOW CLOSE {what}"))
}

/// The one source or table that all rows come from.
fn only_relation(plan: &DataflowPlan) -> Result<ObjectId, PgError> {
    match [plan.sources(), plan.imports()].concat()[..] {
        [only] => Ok(only),
        _ => Err(refused("over anything but one source or table").with_hint(FORM)),
    }
}

/// `node` over the nodes built before it.
fn rebuild(
    graph: &mut Graph,
    node: &Node,
    built: &[Built],
    source: ObjectId,
    watermark: &dyn Fn(ObjectId) -> Option<Watermark>,
) -> Result<Built, PgError> {
    let below: Vec<&Built> = node.operator.inputs().into_iter().map(|input| &built[input]).collect();
    let is_closed = below.iter().any(|input| input.is_closed);
    let moments = match below.is_empty() {
        true => moments_of_relation(node, || event_time(source, watermark))?,
        false => moments_of(node, &below, is_closed)?,
    };
    let mut operator = node.operator.clone();
    operator.inputs_mut().into_iter().for_each(|input| *input = built[*input].node);
    let id = match below.is_empty() {
        true => graph.leaf(node.clone()),
        false => graph.add(operator)?,
    };
    node.keys.iter().for_each(|key| graph.declare_key(id, key.clone()));
    Ok(Built { node: id, moments, is_closed })
}

/// What the columns of a relation are, by which of them its event time is.
fn moments_of_relation(
    node: &Node,
    event_time: impl FnOnce() -> Result<usize, PgError>,
) -> Result<Vec<Option<Moment>>, PgError> {
    let columns = match &node.operator {
        Operator::Source { columns, .. } => columns.clone(),
        Operator::Import { .. } => (0..node.schema.fields().len()).collect(),
        _ => return Err(refused("of this query").with_hint(FORM)),
    };
    let time = event_time()?;
    Ok(columns.into_iter().map(|column| (column == time).then_some(Moment::Time)).collect())
}

/// What the columns of an operator over others are. Errors: `0A000` where it may put rows of several windows together.
fn moments_of(node: &Node, below: &[&Built], is_closed: bool) -> Result<Vec<Option<Moment>>, PgError> {
    Ok(match &node.operator {
        Operator::Map { columns, .. } => columns.iter().map(|expr| moment(expr, &below[0].moments)).collect(),
        Operator::Unnest { lists, .. } => {
            let mut moments = below[0].moments.clone();
            for list in lists {
                moments[*list] = match moments[*list] {
                    Some(Moment::Starts) => Some(Moment::Start),
                    Some(Moment::Ends) => Some(Moment::End),
                    _ => None,
                };
            }
            moments
        }
        Operator::Union { .. } if below.iter().all(|input| input.is_closed == is_closed) => {
            let alike = |column: usize| {
                below.iter().map(|input| input.moments[column]).reduce(|left, right| left.filter(|_| left == right))
            };
            (0..node.schema.fields().len()).map(|column| alike(column).flatten()).collect()
        }
        Operator::Arrange { .. } => below[0].moments.clone(),
        Operator::Reduce { key, .. } | Operator::Fold { key, .. } | Operator::OrderStatistic { key, .. } => {
            let mut moments: Vec<Option<Moment>> = key.iter().map(|column| below[0].moments[*column]).collect();
            apart(&moments, is_closed)?;
            moments.resize(node.schema.fields().len(), None);
            moments
        }
        Operator::TopK { key, .. } | Operator::TopRanks { key, .. } | Operator::Window { key, .. } => {
            let mut moments = below[0].moments.clone();
            apart(&key.iter().map(|column| moments[*column]).collect::<Vec<_>>(), is_closed)?;
            moments.resize(node.schema.fields().len(), None);
            moments
        }
        Operator::Distinct { .. } | Operator::Threshold { .. } => {
            apart(&below[0].moments, is_closed)?;
            below[0].moments.clone()
        }
        Operator::Collate { key_count, .. } => {
            // All its inputs are keyed alike.
            let mut moments = below[0].moments[..*key_count].to_vec();
            apart(&moments, below.iter().all(|input| input.is_closed))?;
            moments.resize(node.schema.fields().len(), None);
            moments
        }
        Operator::Join { .. } => return Err(refused("of a join").with_hint(FORM)),
        Operator::TemporalFilter { .. } => return Err(refused("of a query that reads the clock").with_hint(FORM)),
        _ => return Err(refused("of this query").with_hint(FORM)),
    })
}

/// Holds rows back where the end of their window is first known.
fn close(graph: &mut Graph, built: Built, source: ObjectId) -> Result<Built, PgError> {
    match built.moments.iter().position(|moment| *moment == Some(Moment::End)) {
        Some(window_end) if !built.is_closed => {
            let node = graph.add(Operator::WindowClose { input: built.node, window_end, source })?;
            // From here on rows come together by this window: another one's end, known now or later, says nothing of when.
            let mut moments = vec![None; built.moments.len()];
            moments[window_end] = Some(Moment::End);
            Ok(Built { node, moments, is_closed: true })
        }
        _ => Ok(built),
    }
}

/// Whether rows that share `moments` are of one window. Errors: `0A000` if they may not be.
fn apart(moments: &[Option<Moment>], is_closed: bool) -> Result<(), PgError> {
    match (is_closed, moments.contains(&Some(Moment::End))) {
        (true, true) => Ok(()),
        (false, _) => Err(refused("of a query that does not group by window_end").with_hint(FORM)),
        (true, false) => Err(refused("of a query that puts rows of several windows together")
            .with_hint("Group, partition and deduplicate by window_end, among others.")),
    }
}

/// What an expression over columns of such `moments` is.
fn moment(expr: &Expr, moments: &[Option<Moment>]) -> Option<Moment> {
    match expr {
        Expr::Alias(alias) => moment(&alias.expr, moments),
        // The kernels that `sql` binds TUMBLE, HOP and CUMULATE to.
        Expr::ScalarFunction(call) => match (call.func.name(), moment(call.args.first()?, moments)?) {
            ("tumble_start", Moment::Time) => Some(Moment::Start),
            ("hop_windows", Moment::Time) => Some(Moment::Starts),
            ("cumulate_ends", Moment::Time) => Some(Moment::Ends),
            ("window_end", Moment::Start) => Some(Moment::End),
            _ => None,
        },
        expr => moments[position(expr)?],
    }
}

/// The column of the source's event time. Errors: `0A000` if nothing says when its windows close.
fn event_time(source: ObjectId, watermark: &dyn Fn(ObjectId) -> Option<Watermark>) -> Result<usize, PgError> {
    match watermark(source) {
        Some(Watermark { column, late_rows: LateRows::Drop, .. }) => Ok(column),
        Some(_) => Err(refused("over a source that gives late rows").with_hint(
            "A window that was given cannot take them: create the source WITH (LATE ROWS = drop).",
        )),
        None => {
            Err(refused("over a source without a watermark").with_hint(
                "Create the source with WATERMARK FOR event_time AS event_time - INTERVAL '..' and WITH (LATE ROWS = drop).",
            ))
        }
    }
}
