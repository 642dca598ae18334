//! Drops what nobody reads: nodes, columns of nodes, aggregates; and merges what that brings together.
//!
//! First the columns each node is asked for are collected from the last node to the first; then the graph is built
//! again from the first to the last with just those. State is as narrow as that makes it: what an arrangement or a
//! top-k keeps is its key, its order and the columns that are read above.

use std::collections::{BTreeSet, HashMap};

use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::logical_expr::Expr;
use repr::PgError;

use crate::dataflow_plan::{Aggregate, Node, NodeId, Operator, Percentile, SortKey, column};
use crate::expression::{add_positions, positions, substitute_all};
use crate::graph::{Graph, is_mergeable};

/// A leaf to put in a node's place.
#[derive(Clone, Debug)]
pub(crate) struct Replacement {
    /// The leaf.
    pub(crate) node: Node,
    /// Where each column of the replaced node is in the leaf.
    pub(crate) columns: Vec<usize>,
}

/// The graph with only what `root` needs, and where the root is in it.
///
/// The root keeps all of its columns in order. A node with a replacement is a leaf from now on.
pub(crate) fn prune(
    graph: &Graph,
    root: NodeId,
    replacements: &HashMap<NodeId, Replacement>,
) -> Result<(Graph, NodeId), PgError> {
    let (graph, roots) = prune_all(graph, &[root], replacements)?;
    Ok((graph, roots[0]))
}

/// [`prune`] for what all of `roots` need.
pub(crate) fn prune_all(
    graph: &Graph,
    roots: &[NodeId],
    replacements: &HashMap<NodeId, Replacement>,
) -> Result<(Graph, Vec<NodeId>), PgError> {
    let mut pruning = Pruning {
        old: graph,
        uses: graph.use_counts(roots),
        demands: demands(graph, roots, replacements),
        replacements,
        new: Graph::default(),
        rebuilt: HashMap::new(),
    };
    for id in 0..graph.nodes.len() {
        if pruning.uses[id] > 0 && pruning.is_read(id) {
            let rebuilt = pruning.rebuild(id)?;
            pruning.carry_keys(id, &rebuilt);
            pruning.rebuilt.insert(id, rebuilt);
        }
    }
    let mut whole = Vec::with_capacity(roots.len());
    for root in roots {
        let all: Vec<usize> = (0..graph.width(*root)).collect();
        whole.push(pruning.narrow(*root, &all)?);
    }
    Ok(compact(&pruning.new, &whole))
}

/// Where a node went, and where each of its columns is; None is a column that nobody reads.
#[derive(Clone, Debug)]
struct Rebuilt {
    node: NodeId,
    columns: Vec<Option<usize>>,
}

struct Pruning<'a> {
    old: &'a Graph,
    uses: Vec<usize>,
    /// None for a node that is not read at all; a node may be read for no column but its rows.
    demands: Vec<Option<BTreeSet<usize>>>,
    replacements: &'a HashMap<NodeId, Replacement>,
    new: Graph,
    rebuilt: HashMap<NodeId, Rebuilt>,
}

/// The columns of each node that are read.
fn demands(
    graph: &Graph,
    roots: &[NodeId],
    replacements: &HashMap<NodeId, Replacement>,
) -> Vec<Option<BTreeSet<usize>>> {
    let mut demands: Vec<Option<BTreeSet<usize>>> = vec![None; graph.nodes.len()];
    for root in roots {
        demands[*root] = Some((0..graph.width(*root)).collect());
    }
    for id in (0..graph.nodes.len()).rev() {
        let Some(demand) = demands[id].clone() else { continue };
        if replacements.contains_key(&id) {
            continue;
        }
        let mut ask = |input: NodeId, columns: &mut dyn Iterator<Item = usize>| {
            demands[input].get_or_insert_default().extend(columns);
        };
        let demand = demand.iter().copied();
        match &graph.nodes[id].operator {
            Operator::Source { .. }
            | Operator::Import { .. }
            | Operator::Constant { .. }
            | Operator::Entered { .. }
            | Operator::Variable { .. } => {}
            Operator::LoopResult { input, .. } => ask(*input, &mut std::iter::empty()),
            Operator::Recursion { inputs, .. } => {
                inputs.iter().for_each(|input| ask(*input, &mut (0..graph.width(*input))));
            }
            Operator::Map { input, filter, columns } => {
                let mut reads = BTreeSet::new();
                filter.iter().for_each(|expr| add_positions(expr, &mut reads));
                demand.for_each(|index| add_positions(&columns[index], &mut reads));
                ask(*input, &mut reads.into_iter());
            }
            Operator::Unnest { input, lists } => ask(*input, &mut demand.chain(lists.iter().copied())),
            Operator::Union { inputs } => inputs.iter().for_each(|input| ask(*input, &mut demand.clone())),
            Operator::Negate { input } | Operator::Changes { input } => ask(*input, &mut { demand }),
            Operator::Arrange { input, key } => ask(*input, &mut demand.chain(key.iter().copied())),
            Operator::Join { left, right, filter, columns, .. }
            | Operator::HalfJoin { input: left, arranged: right, filter, columns, .. } => {
                let mut reads = BTreeSet::new();
                filter.iter().for_each(|expr| add_positions(expr, &mut reads));
                demand.for_each(|index| add_positions(&columns[index], &mut reads));
                if let Operator::HalfJoin { key, .. } = &graph.nodes[id].operator {
                    reads.extend(key);
                }
                let width = graph.width(*left);
                ask(*left, &mut reads.iter().copied().filter(|index| *index < width));
                ask(*right, &mut reads.iter().copied().filter(|index| *index >= width).map(|index| index - width));
            }
            Operator::Reduce { input, key, aggregates } => {
                let read = demand.filter(|index| *index >= key.len()).map(|index| &aggregates[index - key.len()]);
                let read = read.flat_map(|aggregate| aggregate.argument.into_iter().chain(aggregate.filter));
                ask(*input, &mut key.iter().copied().chain(read));
            }
            Operator::Fold { input, key, calls } => {
                let mut reads: BTreeSet<usize> = key.iter().copied().collect();
                let read = demand.filter(|index| *index >= key.len());
                read.for_each(|index| add_positions(&calls[index - key.len()], &mut reads));
                ask(*input, &mut reads.into_iter());
            }
            Operator::OrderStatistic { input, key, value, .. } => {
                ask(*input, &mut key.iter().copied().chain([value.column]));
            }
            Operator::TopK { input, key, order, .. } | Operator::TopRanks { input, key, order, .. } => {
                let order = order.iter().map(|order| order.column);
                ask(*input, &mut demand.chain(key.iter().copied()).chain(order));
            }
            Operator::Window { input, key, calls } => {
                let width = graph.width(*input);
                let mut reads = BTreeSet::new();
                for index in demand {
                    match index.checked_sub(width) {
                        None => {
                            reads.insert(index);
                        }
                        Some(call) => {
                            reads.extend(key);
                            add_positions(&calls[call], &mut reads);
                        }
                    }
                }
                ask(*input, &mut reads.into_iter());
            }
            Operator::Collate { inputs, key_count } => {
                for (index, input) in inputs.iter().enumerate() {
                    let own = collated(graph, inputs, *key_count, index, demand.clone());
                    if index == 0 || !own.is_empty() {
                        ask(*input, &mut (0..*key_count).chain(own));
                    }
                }
            }
            Operator::Distinct { input } | Operator::Threshold { input } => {
                ask(*input, &mut (0..graph.width(*input)));
            }
            Operator::SingleRow { input, key } => ask(*input, &mut demand.chain(key.iter().copied())),
            Operator::WindowClose { input, window_end, .. } => ask(*input, &mut demand.chain([*window_end])),
            Operator::Emitted { input } => ask(*input, &mut demand.clone()),
            Operator::TemporalFilter { input, condition } => {
                ask(*input, &mut demand.chain(positions(condition)));
            }
        }
    }
    demands
}

/// The columns of input `index` of a `Collate`, beyond its key, that are among its `demand`.
fn collated(
    graph: &Graph,
    inputs: &[NodeId],
    key_count: usize,
    index: usize,
    demand: impl Iterator<Item = usize>,
) -> Vec<usize> {
    let further = |input: &NodeId| graph.width(*input) - key_count;
    let start = key_count + inputs[..index].iter().map(further).sum::<usize>();
    let range = start..start + further(&inputs[index]);
    demand.filter(|column| range.contains(column)).map(|column| column - start + key_count).collect()
}

impl Pruning<'_> {
    fn is_read(&self, id: NodeId) -> bool {
        self.demands[id].is_some()
    }

    fn demand(&self, id: NodeId) -> Vec<usize> {
        self.demands[id].iter().flatten().copied().collect()
    }

    fn rebuild(&mut self, id: NodeId) -> Result<Rebuilt, PgError> {
        let width = self.old.width(id);
        let demand = self.demand(id);
        if let Some(replacement) = self.replacements.get(&id) {
            let node = self.new.leaf(replacement.node.clone());
            return Ok(Rebuilt { node, columns: replacement.columns.iter().map(|index| Some(*index)).collect() });
        }
        let old = self.old;
        let node = &old.nodes[id];
        match &node.operator {
            Operator::Source { relation, columns } => {
                let kept = demand.iter().map(|index| columns[*index]).collect();
                let mut leaf = node.clone();
                leaf.operator = Operator::Source { relation: *relation, columns: kept };
                leaf.schema = project_schema(node, &demand);
                leaf.keys = Vec::new();
                Ok(Rebuilt { node: self.new.leaf(leaf), columns: places(width, &demand) })
            }
            Operator::Import { .. } | Operator::Entered { .. } | Operator::Variable { .. } => {
                let all: Vec<usize> = (0..width).collect();
                Ok(Rebuilt { node: self.new.leaf(node.clone()), columns: places(width, &all) })
            }
            Operator::Constant { rows } => {
                let columns = demand.iter().map(|index| rows.column(*index).clone()).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
                let rows = RecordBatch::try_new_with_options(project_schema(node, &demand), columns, &options)
                    .map_err(|error| PgError::internal(error.to_string()))?;
                Ok(Rebuilt { node: self.new.constant(rows)?, columns: places(width, &demand) })
            }
            Operator::Recursion { inputs, body } => {
                let all = |id: NodeId| (0..old.width(id)).collect::<Vec<usize>>();
                let inputs = inputs.iter().map(|input| self.narrow(*input, &all(*input))).collect::<Result<_, _>>()?;
                let node = self.new.add(Operator::Recursion { inputs, body: body.clone() })?;
                Ok(Rebuilt { node, columns: places(width, &all(id)) })
            }
            Operator::LoopResult { input, result } => {
                let input = self.rebuilt_of(*input)?.node;
                let node = self.new.add(Operator::LoopResult { input, result: *result })?;
                Ok(Rebuilt { node, columns: places(width, &(0..width).collect::<Vec<_>>()) })
            }
            Operator::Map { input, filter, columns } => self.rebuild_map(id, *input, filter, columns),
            Operator::Unnest { input, lists } => {
                let kept = union_of(&demand, lists);
                let input = self.narrow(*input, &kept)?;
                let lists = places_in(&kept, lists)?;
                Ok(Rebuilt { node: self.new.add(Operator::Unnest { input, lists })?, columns: places(width, &kept) })
            }
            Operator::Union { inputs } => {
                let inputs = inputs.iter().map(|input| self.narrow(*input, &demand)).collect::<Result<_, _>>()?;
                Ok(Rebuilt { node: self.new.union(inputs)?, columns: places(width, &demand) })
            }
            Operator::Negate { input } => {
                let input = self.narrow(*input, &demand)?;
                Ok(Rebuilt { node: self.new.negate(input)?, columns: places(width, &demand) })
            }
            Operator::Changes { input } => {
                let input = self.narrow(*input, &demand)?;
                Ok(Rebuilt { node: self.new.add(Operator::Changes { input })?, columns: places(width, &demand) })
            }
            Operator::Arrange { input, key } => {
                let kept = union_of(&demand, key);
                let input = self.narrow(*input, &kept)?;
                let key = places_in(&kept, key)?;
                Ok(Rebuilt { node: self.new.arrange(input, key)?, columns: places(width, &kept) })
            }
            Operator::Join { filter, columns, .. } | Operator::HalfJoin { filter, columns, .. } => {
                let columns: Vec<Expr> = demand.iter().map(|index| columns[*index].clone()).collect();
                let node = self.rebuild_join(&node.operator, filter, &columns)?;
                Ok(Rebuilt { node, columns: places(width, &demand) })
            }
            Operator::Reduce { input, key, aggregates } => self.rebuild_reduce(id, *input, key, aggregates),
            Operator::Fold { input, key, calls } => self.rebuild_fold(id, *input, key, calls),
            Operator::OrderStatistic { input, key, value, calls } => {
                self.rebuild_order_statistic(id, *input, key, value, calls)
            }
            Operator::TopK { input, key, order, offset, limit } => {
                let (kept, input, key, order) = self.narrow_ordered(&demand, *input, key, order)?;
                let node = self.new.add(Operator::TopK { input, key, order, offset: *offset, limit: *limit })?;
                Ok(Rebuilt { node, columns: places(width, &kept) })
            }
            Operator::TopRanks { input, key, order, limit, dense } => {
                let (kept, input, key, order) = self.narrow_ordered(&demand, *input, key, order)?;
                let node = self.new.add(Operator::TopRanks { input, key, order, limit: *limit, dense: *dense })?;
                Ok(Rebuilt { node, columns: places(width, &kept) })
            }
            Operator::Window { input, key, calls } => self.rebuild_window(id, *input, key, calls),
            Operator::Collate { inputs, key_count } => self.rebuild_collate(id, inputs, *key_count),
            Operator::Distinct { input } => {
                let all: Vec<usize> = (0..width).collect();
                let input = self.narrow(*input, &all)?;
                Ok(Rebuilt { node: self.new.distinct(input)?, columns: places(width, &all) })
            }
            Operator::Threshold { input } => {
                let all: Vec<usize> = (0..width).collect();
                let input = self.narrow(*input, &all)?;
                Ok(Rebuilt { node: self.new.add(Operator::Threshold { input })?, columns: places(width, &all) })
            }
            Operator::TemporalFilter { input, condition } => {
                let reads: Vec<usize> = positions(condition).into_iter().collect();
                let kept = union_of(&demand, &reads);
                let below = Rebuilt { node: self.narrow(*input, &kept)?, columns: places(width, &kept) };
                let condition = moved(std::slice::from_ref(condition), &below)?.remove(0);
                let node = self.new.add(Operator::TemporalFilter { input: below.node, condition })?;
                Ok(Rebuilt { node, columns: below.columns })
            }
            Operator::WindowClose { .. } | Operator::Emitted { .. } => {
                Err(PgError::internal("windows are closed in a plan that is already pruned"))
            }
            Operator::SingleRow { input, key } => {
                let kept = union_of(&demand, key);
                let input = self.narrow(*input, &kept)?;
                let key = places_in(&kept, key)?;
                let node = match self.new.is_unique(input, &key) {
                    true => input,
                    false => self.new.add(Operator::SingleRow { input, key })?,
                };
                Ok(Rebuilt { node, columns: places(width, &kept) })
            }
        }
    }

    /// A `Map` that alone reads a join becomes part of it: its columns are then never built for rows that it drops.
    fn rebuild_map(
        &mut self,
        id: NodeId,
        input: NodeId,
        filter: &[Expr],
        columns: &[Expr],
    ) -> Result<Rebuilt, PgError> {
        let demand = self.demand(id);
        let places = places(columns.len(), &demand);
        let columns: Vec<Expr> = demand.iter().map(|index| columns[*index].clone()).collect();
        let operator = &self.old.nodes[input].operator;
        if let Operator::Join { filter: below, columns: joined, .. }
        | Operator::HalfJoin { filter: below, columns: joined, .. } = operator
            && self.uses[input] == 1
            && is_mergeable(joined, filter.iter().chain(&columns))
        {
            let replacement = |index: usize| joined[index].clone();
            let mut merged = below.clone();
            merged.extend(substitute_all(filter, &replacement)?);
            let columns = substitute_all(&columns, &replacement)?;
            let node = self.rebuild_join(operator, &merged, &columns)?;
            return Ok(Rebuilt { node, columns: places });
        }
        let below = self.rebuilt_of(input)?;
        let filter = moved(filter, &below)?;
        let columns = moved(&columns, &below)?;
        Ok(Rebuilt { node: self.new.map(below.node, filter, columns)?, columns: places })
    }

    /// A `Join` or `HalfJoin` with another filter and other columns, over the old columns of both sides.
    fn rebuild_join(&mut self, join: &Operator, filter: &[Expr], columns: &[Expr]) -> Result<NodeId, PgError> {
        let inputs = join.inputs();
        let old_width = self.old.width(inputs[0]);
        let (left, right) = (self.rebuilt_of(inputs[0])?, self.rebuilt_of(inputs[1])?);
        let new_width = self.new.width(left.node);
        let both = Rebuilt {
            node: left.node,
            columns: left
                .columns
                .iter()
                .copied()
                .chain(right.columns.iter().map(|place| place.map(|index| index + new_width)))
                .collect(),
        };
        debug_assert_eq!(left.columns.len(), old_width);
        let (filter, columns) = (moved(filter, &both)?, moved(columns, &both)?);
        self.new.add(match join {
            Operator::HalfJoin { key, before, .. } => {
                let key = key.iter().map(|index| left.columns[*index].ok_or_else(|| lost(*index)));
                let key = key.collect::<Result<_, _>>()?;
                Operator::HalfJoin { input: left.node, key, arranged: right.node, before: *before, filter, columns }
            }
            Operator::Join { null_equal, .. } => {
                Operator::Join { left: left.node, right: right.node, null_equal: *null_equal, filter, columns }
            }
            other => return Err(PgError::internal(format!("{other:?} is no join"))),
        })
    }

    /// Of the columns of a grouping: its key, and the aggregates that are read.
    fn kept_of_group(&self, id: NodeId, key_count: usize) -> Vec<usize> {
        (0..key_count).chain(self.demand(id).into_iter().filter(|index| *index >= key_count)).collect()
    }

    /// A grouping of `width` columns whose aggregates nobody reads.
    fn distinct_keys(&mut self, input: NodeId, key: &[usize], width: usize) -> Result<Rebuilt, PgError> {
        let keys = self.narrow(input, key)?;
        let kept: Vec<usize> = (0..key.len()).collect();
        Ok(Rebuilt { node: self.new.distinct(keys)?, columns: places(width, &kept) })
    }

    /// A `Reduce` whose aggregates nobody reads is the distinct keys.
    fn rebuild_reduce(
        &mut self,
        id: NodeId,
        input: NodeId,
        key: &[usize],
        aggregates: &[Aggregate],
    ) -> Result<Rebuilt, PgError> {
        let width = key.len() + aggregates.len();
        let kept = self.kept_of_group(id, key.len());
        if kept.len() == key.len() {
            return self.distinct_keys(input, key, width);
        }
        let below = self.rebuilt_of(input)?;
        let place = |index: usize| below.columns[index].ok_or_else(|| lost(index));
        let aggregates = kept[key.len()..]
            .iter()
            .map(|index| {
                let aggregate = &aggregates[index - key.len()];
                Ok(Aggregate {
                    argument: aggregate.argument.map(place).transpose()?,
                    filter: aggregate.filter.map(place).transpose()?,
                    ..aggregate.clone()
                })
            })
            .collect::<Result<_, PgError>>()?;
        let key = key.iter().map(|index| place(*index)).collect::<Result<_, _>>()?;
        let node = self.new.add(Operator::Reduce { input: below.node, key, aggregates })?;
        Ok(Rebuilt { node, columns: places(width, &kept) })
    }

    /// Without the percentiles nobody reads.
    fn rebuild_order_statistic(
        &mut self,
        id: NodeId,
        input: NodeId,
        key: &[usize],
        value: &SortKey,
        calls: &[Percentile],
    ) -> Result<Rebuilt, PgError> {
        let width = key.len() + calls.len();
        let kept = self.kept_of_group(id, key.len());
        if kept.len() == key.len() {
            return self.distinct_keys(input, key, width);
        }
        let calls = kept[key.len()..].iter().map(|index| calls[index - key.len()].clone()).collect();
        let (_, input, key, mut order) = self.narrow_ordered(&[], input, key, std::slice::from_ref(value))?;
        let value = order.remove(0);
        let node = self.new.add(Operator::OrderStatistic { input, key, value, calls })?;
        Ok(Rebuilt { node, columns: places(width, &kept) })
    }

    /// An input of `demand`, a key and an order, and where those are in it; the columns it keeps come first.
    fn narrow_ordered(
        &mut self,
        demand: &[usize],
        input: NodeId,
        key: &[usize],
        order: &[SortKey],
    ) -> Result<(Vec<usize>, NodeId, Vec<usize>, Vec<SortKey>), PgError> {
        let ordered: Vec<usize> = order.iter().map(|order| order.column).collect();
        let kept = union_of(&union_of(demand, key), &ordered);
        let input = self.narrow(input, &kept)?;
        let key = places_in(&kept, key)?;
        let order = order
            .iter()
            .map(|order| Ok(SortKey { column: place_in(&kept, order.column)?, ..order.clone() }))
            .collect::<Result<_, PgError>>()?;
        Ok((kept, input, key, order))
    }

    /// Without the calls nobody reads; the input itself where that is all of them.
    fn rebuild_window(&mut self, id: NodeId, input: NodeId, key: &[usize], calls: &[Expr]) -> Result<Rebuilt, PgError> {
        let width = self.old.width(input);
        let demand = self.demand(id);
        let read: Vec<usize> = demand.iter().filter_map(|index| index.checked_sub(width)).collect();
        let mut kept: BTreeSet<usize> = demand.into_iter().filter(|index| *index < width).collect();
        if !read.is_empty() {
            kept.extend(key);
            read.iter().for_each(|call| add_positions(&calls[*call], &mut kept));
        }
        let kept: Vec<usize> = kept.into_iter().collect();
        let below = Rebuilt { node: self.narrow(input, &kept)?, columns: places(width, &kept) };
        let mut columns = below.columns.clone();
        columns.extend(places(calls.len(), &read).into_iter().map(|place| place.map(|place| kept.len() + place)));
        if read.is_empty() {
            return Ok(Rebuilt { node: below.node, columns });
        }
        let calls: Vec<Expr> = read.iter().map(|call| calls[*call].clone()).collect();
        let calls = moved(&calls, &below)?;
        let key = places_in(&kept, key)?;
        let node = self.new.add(Operator::Window { input: below.node, key, calls })?;
        Ok(Rebuilt { node, columns })
    }

    /// A `Fold` whose aggregates nobody reads is the distinct keys.
    fn rebuild_fold(&mut self, id: NodeId, input: NodeId, key: &[usize], calls: &[Expr]) -> Result<Rebuilt, PgError> {
        let width = key.len() + calls.len();
        let kept = self.kept_of_group(id, key.len());
        if kept.len() == key.len() {
            return self.distinct_keys(input, key, width);
        }
        let below = self.rebuilt_of(input)?;
        let calls: Vec<Expr> = kept[key.len()..].iter().map(|index| calls[index - key.len()].clone()).collect();
        let calls = moved(&calls, &below)?;
        let key = key.iter().map(|index| below.columns[*index].ok_or_else(|| lost(*index)));
        let key = key.collect::<Result<_, _>>()?;
        let node = self.new.add(Operator::Fold { input: below.node, key, calls })?;
        Ok(Rebuilt { node, columns: places(width, &kept) })
    }

    /// Without the inputs of which only the key would be left, but for the first, which says what groups there are.
    fn rebuild_collate(&mut self, id: NodeId, inputs: &[NodeId], key_count: usize) -> Result<Rebuilt, PgError> {
        let demand = self.demand(id);
        let mut kept: Vec<usize> = (0..key_count).collect();
        let mut new_inputs = Vec::new();
        let mut start = key_count;
        for (index, input) in inputs.iter().enumerate() {
            let own = collated(self.old, inputs, key_count, index, demand.iter().copied());
            if index == 0 || !own.is_empty() {
                let columns: Vec<usize> = (0..key_count).chain(own.iter().copied()).collect();
                new_inputs.push(self.narrow(*input, &columns)?);
                kept.extend(own.iter().map(|index| index - key_count + start));
            }
            start += self.old.width(*input) - key_count;
        }
        let node = match new_inputs.as_slice() {
            [only] => *only,
            _ => self.new.add(Operator::Collate { inputs: new_inputs, key_count })?,
        };
        Ok(Rebuilt { node, columns: places(self.old.width(id), &kept) })
    }

    fn rebuilt_of(&self, id: NodeId) -> Result<Rebuilt, PgError> {
        self.rebuilt.get(&id).cloned().ok_or_else(|| PgError::internal(format!("node {id} was not rebuilt")))
    }

    /// A node of exactly `columns` of the old node `id`, in that order.
    fn narrow(&mut self, id: NodeId, columns: &[usize]) -> Result<NodeId, PgError> {
        let rebuilt = self.rebuilt_of(id)?;
        let columns = columns
            .iter()
            .map(|index| rebuilt.columns[*index].ok_or_else(|| lost(*index)))
            .collect::<Result<Vec<_>, _>>()?;
        self.new.project(rebuilt.node, &columns)
    }

    /// Keys that were declared rather than derived would be lost otherwise.
    fn carry_keys(&mut self, id: NodeId, rebuilt: &Rebuilt) {
        for key in &self.old.nodes[id].keys {
            if let Some(key) = key.iter().map(|index| rebuilt.columns[*index]).collect() {
                self.new.declare_key(rebuilt.node, key);
            }
        }
    }
}

/// `exprs` of an old node over the columns of what it became.
fn moved(exprs: &[Expr], below: &Rebuilt) -> Result<Vec<Expr>, PgError> {
    let mut reads = BTreeSet::new();
    exprs.iter().for_each(|expr| add_positions(expr, &mut reads));
    if let Some(index) = reads.into_iter().find(|index| below.columns[*index].is_none()) {
        return Err(lost(index));
    }
    substitute_all(exprs, &|index| column(below.columns[index].unwrap_or(index)))
}

fn lost(index: usize) -> PgError {
    PgError::internal(format!("column #{index} was pruned but is read"))
}

fn project_schema(node: &Node, columns: &[usize]) -> arrow::datatypes::SchemaRef {
    crate::dataflow_plan::positional_schema(columns.iter().map(|index| node.schema.field(*index).data_type().clone()))
}

/// For each of `width` columns its position among `kept`.
fn places(width: usize, kept: &[usize]) -> Vec<Option<usize>> {
    (0..width).map(|column| kept.iter().position(|other| *other == column)).collect()
}

fn place_in(kept: &[usize], index: usize) -> Result<usize, PgError> {
    kept.iter().position(|other| *other == index).ok_or_else(|| lost(index))
}

fn places_in(kept: &[usize], indexes: &[usize]) -> Result<Vec<usize>, PgError> {
    indexes.iter().map(|index| place_in(kept, *index)).collect()
}

/// Both, ascending, each once.
fn union_of(left: &[usize], right: &[usize]) -> Vec<usize> {
    left.iter().chain(right).copied().collect::<BTreeSet<usize>>().into_iter().collect()
}

/// Only the nodes that `root` needs.
fn compact(graph: &Graph, roots: &[NodeId]) -> (Graph, Vec<NodeId>) {
    let uses = graph.use_counts(roots);
    let mut places = vec![0; graph.nodes.len()];
    let mut compacted = Graph::default();
    for (id, node) in graph.nodes.iter().enumerate().filter(|(id, _)| uses[*id] > 0) {
        let mut node = node.clone();
        node.operator.inputs_mut().into_iter().for_each(|input| *input = places[*input]);
        places[id] = compacted.nodes.len();
        compacted.nodes.push(node);
    }
    (compacted, roots.iter().map(|root| places[*root]).collect())
}
