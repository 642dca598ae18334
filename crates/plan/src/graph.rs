//! The operators of one dataflow while it is being built: each operator once, whoever asks for it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use repr::PgError;

use crate::clock::{TemporalCondition, reads_clock};
use crate::dataflow_plan::{Node, NodeId, Operator, column};
use crate::expression::{all_columns, is_trivial, position, substitute_all, visit_positions};
use crate::properties;
use datafusion::logical_expr::Expr;

/// Nodes in topological order; equal operators over equal inputs are one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    /// A node that reads nothing of this graph, so that its caller knows what its rows are.
    pub(crate) fn leaf(&mut self, node: Node) -> NodeId {
        match self.nodes.iter().position(|other| other.operator == node.operator) {
            Some(id) => id,
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    /// A node whose properties follow from its inputs.
    pub(crate) fn add(&mut self, operator: Operator) -> Result<NodeId, PgError> {
        if let Some(id) = self.nodes.iter().position(|node| node.operator == operator) {
            return Ok(id);
        }
        let schema = properties::schema(&operator, &self.nodes)?;
        let keys = properties::keys(&operator, &self.nodes);
        let append_only = properties::append_only(&operator, &self.nodes);
        self.nodes.push(Node { operator, schema, keys, append_only });
        Ok(self.nodes.len() - 1)
    }

    /// States that no two rows of `node` agree on `key`: what its operators alone would not show.
    pub(crate) fn declare_key(&mut self, node: NodeId, key: Vec<usize>) {
        properties::add_key(&mut self.nodes[node].keys, key);
    }

    /// Rows that never change.
    pub(crate) fn constant(&mut self, rows: RecordBatch) -> Result<NodeId, PgError> {
        self.add(Operator::Constant { rows })
    }

    /// Filters, then projects; merged into a `Map` below it, and nothing at all where it changes nothing.
    ///
    /// It is not merged where that would evaluate an expression of the lower one more than once.
    pub(crate) fn map(&mut self, input: NodeId, filter: Vec<Expr>, columns: Vec<Expr>) -> Result<NodeId, PgError> {
        if let Operator::Map { input: below, filter: filter_below, columns: columns_below } =
            &self.nodes[input].operator
            && is_mergeable(columns_below, filter.iter().chain(&columns))
        {
            let below = *below;
            let replacement = |index: usize| columns_below[index].clone();
            let mut merged = filter_below.clone();
            merged.extend(substitute_all(&filter, &replacement)?);
            let columns = substitute_all(&columns, &replacement)?;
            return self.map(below, merged, columns);
        }
        if filter.is_empty() && is_identity(&columns, self.width(input)) {
            return Ok(input);
        }
        self.add(Operator::Map { input, filter, columns })
    }

    /// The rows for which all `conditions` hold. Those that read the clock come last.
    pub(crate) fn filter(&mut self, input: NodeId, conditions: Vec<Expr>) -> Result<NodeId, PgError> {
        let width = self.width(input);
        let (temporal, plain): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(reads_clock);
        let input = self.map(input, plain, all_columns(width))?;
        let Some(condition) = temporal.into_iter().reduce(Expr::and) else { return Ok(input) };
        TemporalCondition::new(&condition, width)?;
        self.add(Operator::TemporalFilter { input, condition })
    }

    /// Only these columns, in this order.
    pub(crate) fn project(&mut self, input: NodeId, columns: &[usize]) -> Result<NodeId, PgError> {
        self.map(input, Vec::new(), columns.iter().map(|index| column(*index)).collect())
    }

    /// All columns, then those of `exprs` that are not columns already. Also where each of `exprs` is now.
    pub(crate) fn extend(&mut self, input: NodeId, exprs: &[Expr]) -> Result<(NodeId, Vec<usize>), PgError> {
        let mut columns = all_columns(self.width(input));
        let positions = exprs.iter().map(|expr| place(&mut columns, expr.clone())).collect();
        Ok((self.map(input, Vec::new(), columns)?, positions))
    }

    /// All rows of all inputs.
    pub(crate) fn union(&mut self, inputs: Vec<NodeId>) -> Result<NodeId, PgError> {
        let mut flat: Vec<NodeId> = Vec::new();
        for input in inputs {
            match &self.nodes[input].operator {
                Operator::Union { inputs } => flat.extend(inputs.iter().copied()),
                _ => flat.push(input),
            }
        }
        if let Some(first) = flat.first().copied() {
            flat.retain(|input| !is_empty(&self.nodes[*input]));
            if flat.is_empty() {
                flat.push(first);
            }
        }
        if flat.len() == 1 { Ok(flat[0]) } else { self.add(Operator::Union { inputs: flat }) }
    }

    /// The same rows with diffs turned round.
    pub(crate) fn negate(&mut self, input: NodeId) -> Result<NodeId, PgError> {
        self.add(Operator::Negate { input })
    }

    /// Each row once; nothing to do where no row can come twice.
    pub(crate) fn distinct(&mut self, input: NodeId) -> Result<NodeId, PgError> {
        match self.nodes[input].keys.is_empty() {
            false => Ok(input),
            true => self.add(Operator::Distinct { input }),
        }
    }

    /// Indexed by `key`.
    pub(crate) fn arrange(&mut self, input: NodeId, key: Vec<usize>) -> Result<NodeId, PgError> {
        self.add(Operator::Arrange { input, key })
    }

    /// How many columns a node's rows have.
    pub(crate) fn width(&self, node: NodeId) -> usize {
        self.nodes[node].schema.fields().len()
    }

    /// The columns of a node's rows.
    pub(crate) fn schema(&self, node: NodeId) -> SchemaRef {
        Arc::clone(&self.nodes[node].schema)
    }

    /// The types of those columns.
    pub(crate) fn types(&self, node: NodeId) -> Vec<DataType> {
        self.nodes[node].schema.fields().iter().map(|field| field.data_type().clone()).collect()
    }

    /// Whether at most one row of `node` has given values in `columns`.
    pub(crate) fn is_unique(&self, node: NodeId, columns: &[usize]) -> bool {
        self.nodes[node].keys.iter().any(|key| key.iter().all(|index| columns.contains(index)))
    }

    /// The keys of `node` within its first `width` columns, which are found from `start` on elsewhere.
    pub(crate) fn keys_placed(&self, node: NodeId, width: usize, start: usize) -> Vec<Vec<usize>> {
        let keys = self.nodes[node].keys.iter();
        let own = keys.filter(|key| key.iter().all(|index| *index < width));
        own.map(|key| key.iter().map(|index| index + start).collect()).collect()
    }

    /// Whether updates of `node` come before their time, as a temporal filter gives them and nothing above it holds back.
    pub(crate) fn reads_ahead(&self, node: NodeId) -> bool {
        match &self.nodes[node].operator {
            Operator::TemporalFilter { .. } => true,
            Operator::Map { .. } | Operator::Unnest { .. } | Operator::Union { .. } | Operator::Negate { .. } => {
                self.nodes[node].operator.inputs().into_iter().any(|input| self.reads_ahead(input))
            }
            _ => false,
        }
    }

    /// How many times each node is read, and a root once more; 0 is a node that nobody needs.
    pub(crate) fn use_counts(&self, roots: &[NodeId]) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        roots.iter().for_each(|root| counts[*root] += 1);
        for id in (0..self.nodes.len()).rev() {
            if counts[id] > 0 {
                for input in self.nodes[id].operator.inputs() {
                    counts[input] += 1;
                }
            }
        }
        counts
    }
}

fn is_empty(node: &Node) -> bool {
    matches!(&node.operator, Operator::Constant { rows } if rows.num_rows() == 0)
}

/// The position of `expr` among `columns`, where it is put if it is not there.
pub(crate) fn place(columns: &mut Vec<Expr>, expr: Expr) -> usize {
    match columns.iter().position(|other| *other == expr) {
        Some(index) => index,
        None => {
            columns.push(expr);
            columns.len() - 1
        }
    }
}

/// Whether putting `below` in place of the columns of `above` evaluates nothing twice.
pub(crate) fn is_mergeable<'a>(below: &[Expr], above: impl Iterator<Item = &'a Expr>) -> bool {
    let mut reads = vec![0usize; below.len()];
    for expr in above {
        visit_positions(expr, |index| reads[index] += 1);
    }
    below.iter().zip(reads).all(|(expr, reads)| reads <= 1 || is_trivial(expr))
}

fn is_identity(columns: &[Expr], width: usize) -> bool {
    columns.len() == width && columns.iter().enumerate().all(|(index, expr)| position(expr) == Some(index))
}
