//! The lowered plan: operators as `dataflow` renders them, in topological order.
//!
//! Columns have no names here. Within a node the expressions are DataFusion's `Expr` over columns called `#0`, `#1`, ..
//! of that node's input ([`column()`]); for a join, of the left columns followed by the right ones.
//!
//! One plan is one timely dataflow with exactly one exported arrangement: a view's rows, an index, or an arrangement
//! that several views share. Plans meet only there: one imports what another exports.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use repr::{ObjectId, ViewOptions};
use std::sync::Arc;

use crate::mutual_recursion::IterationLimit;

/// Index of a node in [`DataflowPlan::nodes`].
pub type NodeId = usize;

/// One dataflow.
#[derive(Clone, Debug)]
pub struct DataflowPlan {
    /// Whose rows it keeps; also the name under which other plans import its arrangement.
    pub id: ObjectId,
    /// For people: the view's name, or what the shared arrangement holds.
    pub name: String,
    /// In topological order: a node's inputs come before it.
    pub nodes: Vec<Node>,
    /// What others may read.
    pub export: Export,
    /// What the view was made with: what becomes of a row whose filter or column fails (that reads fail is for the reader to
    /// see to), and how long what was is kept.
    pub options: ViewOptions,
}

/// The arrangement that a dataflow gives away: peeked, subscribed to, imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The node whose rows it holds: an `Arrange`, `Reduce`, `TopK` or `Distinct`, whose own arrangement has this key.
    pub node: NodeId,
    /// The columns it is arranged by; all columns where there is no better key.
    pub key: Vec<usize>,
    /// Whether at most one row has a given key.
    pub unique: bool,
}

/// An operator with what is known of its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does.
    pub operator: Operator,
    /// Its output's columns, named `#0`, `#1`, ..; all nullable.
    pub schema: SchemaRef,
    /// Sets of columns no two rows agree on.
    pub keys: Vec<Vec<usize>>,
    /// Rows only ever arrive, with diff > 0: no retraction can come.
    pub append_only: bool,
}

/// A loop: its results from its inputs and from its results of the iteration before, none at first, until nothing changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Recursion {
    /// The body, in topological order. Its leaves are `Entered` and `Variable`.
    pub nodes: Vec<Node>,
    /// The body's nodes that are the results, at least one.
    pub results: Vec<NodeId>,
    /// When changes no longer go round.
    pub limit: IterationLimit,
}

/// What a node does. Inputs are earlier nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// The updates of a source as they arrive, and its history first. No state.
    Source {
        /// The source.
        relation: ObjectId,
        /// Which of its columns, in this order.
        columns: Vec<usize>,
    },
    /// The updates of another dataflow's export. Arranged as that export is, so a join may use it as it stands.
    Import {
        /// The exporting dataflow.
        dataflow: ObjectId,
        /// The export's key.
        key: Vec<usize>,
    },
    /// Rows that never change.
    Constant {
        /// The rows; equal ones count each. Possibly none, possibly without columns.
        rows: RecordBatch,
    },
    /// Filter, then project. No state.
    Map {
        /// The rows.
        input: NodeId,
        /// A row stays if all of these are true. In order: a later one is not asked of a row that an earlier one
        /// dropped, and the columns only of rows that stay, so that no error comes from a row that is not there.
        filter: Vec<Expr>,
        /// The output columns. There may be none: rows of no columns are still counted.
        columns: Vec<Expr>,
    },
    /// One output row an element of the longest of some lists; none where all are NULL or empty. Each list column becomes
    /// its element, NULL in the rows after its last.
    Unnest {
        /// The rows.
        input: NodeId,
        /// The list columns, at least one.
        lists: Vec<usize>,
    },
    /// All rows of all inputs.
    Union {
        /// Nodes of the same column types.
        inputs: Vec<NodeId>,
    },
    /// The same rows with diffs turned round.
    Negate {
        /// The rows.
        input: NodeId,
    },
    /// Indexed by a key, shared by every operator of this dataflow that wants the same. Of a `Reduce`, `TopK` or
    /// `Distinct` by that operator's own key it is the arrangement that the operator keeps anyway.
    Arrange {
        /// The rows.
        input: NodeId,
        /// The key's columns, in order. None at all is one group: a cross join's key.
        key: Vec<usize>,
    },
    /// Inner join of two arrangements on their keys, position by position.
    Join {
        /// An `Arrange` or `Import` node.
        left: NodeId,
        /// Another, of equally many key columns of the same types.
        right: NodeId,
        /// Whether NULL keys meet each other (IS NOT DISTINCT FROM); otherwise they meet nothing.
        null_equal: bool,
        /// Further conditions over left columns followed by right columns, in order as in `Map`.
        filter: Vec<Expr>,
        /// The output columns, over the same.
        columns: Vec<Expr>,
    },
    /// What changes in its input after the dataflow's start, when all that is there already comes at once. Not the rows
    /// of anything: the beginning of a path of a delta join. No state.
    Changes {
        /// The rows.
        input: NodeId,
    },
    /// Each update of its input with the rows that an arrangement had when it came: a step of a path of a delta join.
    /// The sum of all paths is the join. No state of its own.
    HalfJoin {
        /// The updates, [`Operator::Changes`] or another step.
        input: NodeId,
        /// The columns of the input that are looked up.
        key: Vec<usize>,
        /// An `Arrange` or `Import` node, of equally many key columns of the same types. A NULL key meets nothing.
        arranged: NodeId,
        /// Whether the arrangement is read as it was before the update's time, without what changed at that time: of two
        /// relations that change at once, one meets the other's change.
        before: bool,
        /// Further conditions over the input's columns followed by the arrangement's, in order as in `Map`.
        filter: Vec<Expr>,
        /// The output columns, over the same.
        columns: Vec<Expr>,
    },
    /// One row a group: key columns, then one column an aggregate. O(1) state a group; no row for an empty group.
    Reduce {
        /// The rows.
        input: NodeId,
        /// The grouping columns.
        key: Vec<usize>,
        /// All accumulable.
        aggregates: Vec<Aggregate>,
    },
    /// One row a group: key columns, then one column an aggregate, each computed from all rows of the group: for
    /// aggregates that nothing smaller than the group's rows can maintain. No row for an empty group.
    Fold {
        /// The rows.
        input: NodeId,
        /// The grouping columns.
        key: Vec<usize>,
        /// `Expr::AggregateFunction` each. What they read are columns of the input and literals. The answer must not
        /// depend on the order in which rows are taken in.
        calls: Vec<Expr>,
    },
    /// The first rows of each group by an order, `limit` of them after `offset`. MIN and MAX are `limit` 1.
    TopK {
        /// The rows.
        input: NodeId,
        /// The grouping columns; none at all is one group.
        key: Vec<usize>,
        /// The order; ties are broken by all columns, ascending, so that the answer is definite.
        order: Vec<SortKey>,
        /// Rows skipped.
        offset: u64,
        /// Rows kept; None is all after the offset.
        limit: Option<u64>,
    },
    /// One row a group: key columns, then one column a percentile of the value, NULLs left out. NULL where no value is there; no
    /// row for an empty group.
    OrderStatistic {
        /// The rows.
        input: NodeId,
        /// The grouping columns.
        key: Vec<usize>,
        /// The value and its order, NULLs last.
        value: SortKey,
        /// Each of the value's type.
        calls: Vec<Percentile>,
    },
    /// The rows of each group whose rank in an order is at most a limit; rows that are equal in order have one rank.
    TopRanks {
        /// The rows.
        input: NodeId,
        /// The grouping columns; none at all is one group.
        key: Vec<usize>,
        /// The order.
        order: Vec<SortKey>,
        /// The greatest rank kept.
        limit: u64,
        /// Whether ranks are counted without gaps, as `dense_rank` does.
        dense: bool,
    },
    /// Window functions over the partitions of its input. Output: the input's columns, then one column a call.
    Window {
        /// The rows.
        input: NodeId,
        /// The columns that make the partitions; none at all is one partition.
        key: Vec<usize>,
        /// Window calls over columns and literals, without a partition of their own. The orders of all of them are
        /// beginnings of the longest.
        calls: Vec<Expr>,
    },
    /// Puts the aggregates of one grouping side by side: the first input says which groups exist, each other input has
    /// at most one row a group, NULLs standing in where it has none. Output: key, then each input's further columns.
    Collate {
        /// Each has the key as its first `key_count` columns.
        inputs: Vec<NodeId>,
        /// Columns of the key.
        key_count: usize,
    },
    /// Each row that is there at all, once.
    Distinct {
        /// The rows.
        input: NodeId,
    },
    /// Rows with a positive count keep it, others go: what EXCEPT ALL and INTERSECT ALL need.
    Threshold {
        /// The rows.
        input: NodeId,
    },
    /// Rows while a condition on the clock holds: they come and go by themselves. What will be is given to the next operator
    /// at once, with the time at which it will; so this one keeps nothing.
    TemporalFilter {
        /// The rows.
        input: NodeId,
        /// Over the input's columns and the clock; [`crate::clock::TemporalCondition`] takes it apart.
        condition: Expr,
    },
    /// Rows held back until the watermark has reached the end of their window: then they come, and go again one time later, so
    /// that nothing above keeps them. A row whose window was given before fails. Keeps the rows of open windows.
    WindowClose {
        /// The rows.
        input: NodeId,
        /// The column that is the end of a row's window; a row where it is NULL never comes.
        window_end: usize,
        /// The source whose watermark it is.
        source: ObjectId,
    },
    /// What came, though it went again: the other end of a `WindowClose`. No row may come a second time. No state.
    Emitted {
        /// The rows.
        input: NodeId,
    },
    /// A loop. Its own rows are those of its first result.
    Recursion {
        /// Nodes whose rows enter it.
        inputs: Vec<NodeId>,
        /// What it does with them.
        body: Box<Recursion>,
    },
    /// In a loop's body: the rows of one of the loop's inputs.
    Entered {
        /// Its index among the loop's inputs.
        input: usize,
    },
    /// In a loop's body: one of the loop's results of the iteration before.
    Variable {
        /// Its index among the results.
        result: usize,
    },
    /// The rows of another of a loop's results.
    LoopResult {
        /// A `Recursion`.
        input: NodeId,
        /// Its index among the results.
        result: usize,
    },
    /// At most one row a group: a second one is error `21000`. For scalar subqueries.
    SingleRow {
        /// The rows.
        input: NodeId,
        /// The grouping columns.
        key: Vec<usize>,
    },
}

/// One accumulable aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Lower case: `count`, `sum`, `avg`, `bool_and`, `bool_or`; what `repr::accumulator` knows.
    pub function: String,
    /// The argument's column; None for `count(*)`.
    pub argument: Option<usize>,
    /// A boolean column; only rows where it is true count.
    pub filter: Option<usize>,
    /// The result's Arrow type.
    pub output: DataType,
}

/// A value at a fraction of the way through a group's values in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentile {
    /// From 0, the first, to 1, the last.
    pub fraction: f64,
    /// Interpolated between two neighbours, of double values only; otherwise the first value at or after the fraction.
    pub continuous: bool,
}

/// One column of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The column.
    pub column: usize,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// The order of one window call; nothing for what is no call.
pub fn window_order(call: &Expr) -> Vec<SortKey> {
    let Expr::WindowFunction(call) = call else { return Vec::new() };
    let keys = call.params.order_by.iter().filter_map(|sort| {
        let column = crate::expression::position(&sort.expr)?;
        Some(SortKey { column, descending: !sort.asc, nulls_first: sort.nulls_first })
    });
    keys.collect()
}

/// The order that the rows of a partition have while `calls` are evaluated: the longest of theirs.
pub fn longest_order(calls: &[Expr]) -> Vec<SortKey> {
    calls.iter().map(window_order).max_by_key(Vec::len).unwrap_or_default()
}

/// The expression for column `index` of an input.
pub fn column(index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(column_name(index)))
}

/// `#index`.
pub fn column_name(index: usize) -> String {
    format!("#{index}")
}

/// A node's schema from its column types.
pub fn positional_schema(types: impl IntoIterator<Item = DataType>) -> SchemaRef {
    let fields: Vec<Field> = types
        .into_iter()
        .enumerate()
        .map(|(index, data_type)| Field::new(column_name(index), data_type, true))
        .collect();
    Arc::new(Schema::new(fields))
}

impl Operator {
    /// The nodes it reads, in order.
    pub fn inputs(&self) -> Vec<NodeId> {
        match self {
            Operator::Source { .. }
            | Operator::Import { .. }
            | Operator::Constant { .. }
            | Operator::Entered { .. }
            | Operator::Variable { .. } => Vec::new(),
            Operator::Map { input, .. }
            | Operator::Unnest { input, .. }
            | Operator::Negate { input }
            | Operator::Arrange { input, .. }
            | Operator::Reduce { input, .. }
            | Operator::Fold { input, .. }
            | Operator::TopK { input, .. }
            | Operator::OrderStatistic { input, .. }
            | Operator::TopRanks { input, .. }
            | Operator::Window { input, .. }
            | Operator::Distinct { input }
            | Operator::Threshold { input }
            | Operator::TemporalFilter { input, .. }
            | Operator::WindowClose { input, .. }
            | Operator::Emitted { input }
            | Operator::SingleRow { input, .. }
            | Operator::LoopResult { input, .. }
            | Operator::Changes { input } => vec![*input],
            Operator::Join { left, right, .. } => vec![*left, *right],
            Operator::HalfJoin { input, arranged, .. } => vec![*input, *arranged],
            Operator::Union { inputs } | Operator::Collate { inputs, .. } | Operator::Recursion { inputs, .. } => {
                inputs.clone()
            }
        }
    }

    /// The same, to be changed when nodes move.
    pub(crate) fn inputs_mut(&mut self) -> Vec<&mut NodeId> {
        match self {
            Operator::Source { .. }
            | Operator::Import { .. }
            | Operator::Constant { .. }
            | Operator::Entered { .. }
            | Operator::Variable { .. } => Vec::new(),
            Operator::Map { input, .. }
            | Operator::Unnest { input, .. }
            | Operator::Negate { input }
            | Operator::Arrange { input, .. }
            | Operator::Reduce { input, .. }
            | Operator::Fold { input, .. }
            | Operator::TopK { input, .. }
            | Operator::OrderStatistic { input, .. }
            | Operator::TopRanks { input, .. }
            | Operator::Window { input, .. }
            | Operator::Distinct { input }
            | Operator::Threshold { input }
            | Operator::TemporalFilter { input, .. }
            | Operator::WindowClose { input, .. }
            | Operator::Emitted { input }
            | Operator::SingleRow { input, .. }
            | Operator::LoopResult { input, .. }
            | Operator::Changes { input } => vec![input],
            Operator::Join { left, right, .. } => vec![left, right],
            Operator::HalfJoin { input, arranged, .. } => vec![input, arranged],
            Operator::Union { inputs } | Operator::Collate { inputs, .. } | Operator::Recursion { inputs, .. } => {
                inputs.iter_mut().collect()
            }
        }
    }

    /// Whether a loop's body may have it.
    pub fn runs_in_loops(&self) -> bool {
        matches!(
            self,
            Operator::Entered { .. }
                | Operator::Variable { .. }
                | Operator::Map { .. }
                | Operator::Unnest { .. }
                | Operator::Union { .. }
                | Operator::Negate { .. }
                | Operator::Arrange { .. }
                | Operator::Join { .. }
                | Operator::Reduce { .. }
                | Operator::Fold { .. }
                | Operator::TopK { .. }
                | Operator::Distinct { .. }
                | Operator::Threshold { .. }
        )
    }
}

impl DataflowPlan {
    /// The dataflows it imports from, each once, in order of first use.
    pub fn imports(&self) -> Vec<ObjectId> {
        let mut ids = Vec::new();
        for node in &self.nodes {
            if let Operator::Import { dataflow, .. } = &node.operator
                && !ids.contains(dataflow)
            {
                ids.push(*dataflow);
            }
        }
        ids
    }

    /// Whether rows come and go by the clock alone.
    pub fn reads_clock(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.operator, Operator::TemporalFilter { .. }))
    }

    /// The sources whose watermarks it waits for.
    pub fn awaited_sources(&self) -> impl Iterator<Item = ObjectId> {
        self.nodes.iter().filter_map(|node| match &node.operator {
            Operator::WindowClose { source, .. } => Some(*source),
            _ => None,
        })
    }

    /// The sources it reads directly, each once, in order of first use.
    pub fn sources(&self) -> Vec<ObjectId> {
        let mut ids = Vec::new();
        for node in &self.nodes {
            if let Operator::Source { relation, .. } = &node.operator
                && !ids.contains(relation)
            {
                ids.push(*relation);
            }
        }
        ids
    }

    /// The columns of a relation that the plan reads, some perhaps more than once.
    pub fn source_columns(&self, relation: ObjectId) -> impl Iterator<Item = usize> {
        let of_node = move |node: &Node| match &node.operator {
            Operator::Source { relation: other, columns } if *other == relation => columns.clone(),
            _ => Vec::new(),
        };
        self.nodes.iter().flat_map(of_node)
    }
}
