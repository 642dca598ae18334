//! The aggregates of one grouping, side by side: one row a group from several inputs of at most one row a group each.
//!
//! The inputs are widened to one layout, the key and then every input's further columns, NULL where they are another
//! input's; the input's number is the rank. So one arrangement holds them all, and a group's rows come in order of
//! input.

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::DataType;
use plan::dataflow_plan::{DataflowPlan, Node, NodeId};
use repr::Timestamp;

use super::group::{ChangedGroup, Live, PatchedRows, changed_groups};
use super::{BatchLogic, Output, Rows, stateless};
use crate::DataflowError;
use crate::arrange::Batch;
use crate::chunk::CHUNK_ROWS_MAX;

/// Where each input's columns go.
#[derive(Clone)]
pub(crate) struct Layout {
    key_count: usize,
    /// Types of all columns of the layout, which is that of the output too.
    types: Vec<DataType>,
    /// Of each input, the first of its further columns in the layout; after the last, the layout's width.
    starts: Vec<usize>,
}

/// Whether inputs and output fit.
pub(crate) fn check(
    plan: &DataflowPlan,
    inputs: &[NodeId],
    key_count: usize,
    node: &Node,
) -> Result<(), DataflowError> {
    if inputs.is_empty() || inputs.iter().any(|input| plan.nodes[*input].schema.fields().len() < key_count) {
        return Err(DataflowError::InvalidPlan("an input to collate lacks the key".to_owned()));
    }
    if Layout::new(plan, inputs, key_count).types.len() != node.schema.fields().len() {
        return Err(DataflowError::InvalidPlan("collated rows have a schema of another width".to_owned()));
    }
    Ok(())
}

impl Layout {
    /// The layout of `inputs`, each of which starts with the key.
    pub(crate) fn new(plan: &DataflowPlan, inputs: &[NodeId], key_count: usize) -> Layout {
        let types_of =
            |input: &NodeId| plan.nodes[*input].schema.fields().iter().map(|field| field.data_type().clone());
        let mut types: Vec<DataType> = types_of(&inputs[0]).take(key_count).collect();
        let mut starts = Vec::new();
        for input in inputs {
            starts.push(types.len());
            types.extend(types_of(input).skip(key_count));
        }
        starts.push(types.len());
        Layout { key_count, types, starts }
    }

    /// The rows of input `index` in the layout, hashed by key and ranked by input.
    pub(crate) fn widen<'scope>(&self, rows: Rows<'scope>, index: usize) -> Rows<'scope> {
        let layout = self.clone();
        stateless(rows, "Widen", move |updates| {
            let len = updates.len();
            let own = layout.starts[index]..layout.starts[index + 1];
            let columns = (0..layout.types.len())
                .map(|column| {
                    if column < layout.key_count {
                        updates.columns[column].clone()
                    } else if own.contains(&column) {
                        updates.columns[layout.key_count + column - own.start].clone()
                    } else {
                        new_null_array(&layout.types[column], len)
                    }
                })
                .collect();
            let mut updates = updates.with_columns(columns);
            updates.hash(&(0..layout.key_count).collect::<Vec<_>>());
            updates.ranks = vec![index as u64; len];
            updates
        })
    }
}

/// Puts a group's rows side by side.
pub(crate) struct Collate {
    layout: Layout,
    key: Vec<usize>,
    /// For each output column, whose row it is from and its column in the layout.
    columns: Vec<(usize, usize)>,
}

impl Collate {
    /// Over the arrangement of all inputs in `layout`.
    pub(crate) fn new(layout: Layout) -> Collate {
        let input_of = |column: usize| {
            if column < layout.key_count { 0 } else { layout.starts.partition_point(|start| *start <= column) - 1 }
        };
        let columns = (0..layout.types.len()).map(|column| (input_of(column), column)).collect();
        Collate { key: (0..layout.key_count).collect(), columns, layout }
    }

    /// One row an input, if the first input has one.
    fn row(&self, group: &ChangedGroup<'_>, until: Option<Timestamp>) -> Option<Vec<Option<Live>>> {
        let mut parts: Vec<Option<Live>> = vec![None; self.layout.starts.len() - 1];
        for live in group.rows(until) {
            parts[live.rank as usize].get_or_insert(live);
        }
        parts[0].is_some().then_some(parts)
    }
}

fn same(left: &Option<Vec<Option<Live>>>, right: &Option<Vec<Option<Live>>>) -> bool {
    let hashes = |row: &Option<Vec<Option<Live>>>| -> Option<Vec<Option<u64>>> {
        row.as_ref().map(|parts| parts.iter().map(|part| part.map(|live| live.hash)).collect())
    };
    hashes(left) == hashes(right)
}

impl BatchLogic for Collate {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut batches = prior.to_vec();
        batches.push(novel.clone());
        let nulls: Vec<ArrayRef> = self.layout.types.iter().map(|data_type| new_null_array(data_type, 1)).collect();
        let mut rows = PatchedRows::new(self.layout.starts.len() - 1, nulls);
        changed_groups(&batches, &self.key, as_of, |group| {
            let mut before = self.row(&group, None);
            for time in group.times {
                let after = self.row(&group, Some(*time));
                if !same(&before, &after) {
                    for (row, diff) in [(&before, -1), (&after, 1)] {
                        if let Some(parts) = row {
                            rows.push(group.batches, parts, *time, diff);
                        }
                    }
                }
                before = after;
            }
            if rows.len() >= CHUNK_ROWS_MAX {
                rows.flush(&self.columns, &mut output.updates);
            }
        });
        rows.flush(&self.columns, &mut output.updates);
    }
}
