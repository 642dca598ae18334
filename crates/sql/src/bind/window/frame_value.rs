//! `first_value`, `last_value` and `nth_value` over a frame of peers: the frame is given by the window's order, and within
//! it rows are in that order and then in that of further columns, so that the answer is definite.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, partition};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDFImpl};

/// Which row of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Which {
    First,
    Last,
    /// From 1.
    Nth(i64),
}

/// The function; its arguments are the value, then the columns that order peers, ascending with NULLs last.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FrameValue {
    which: Which,
    argument_count: usize,
    signature: Signature,
}

impl FrameValue {
    /// `argument_count` counts the value and the columns.
    pub(super) fn new(which: Which, argument_count: usize) -> FrameValue {
        FrameValue { which, argument_count, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for FrameValue {
    fn name(&self) -> &str {
        match self.which {
            Which::First => "first_value",
            Which::Last => "last_value",
            Which::Nth(_) => "nth_value",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator { which: self.which, argument_count: self.argument_count, rows: None }))
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        let data_type = arguments.get_input_field(0).map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Field::new(arguments.name(), data_type, true).into())
    }
}

/// One partition.
#[derive(Debug)]
struct Evaluator {
    which: Which,
    argument_count: usize,
    /// The partition's rows in order; known from the first frame on.
    rows: Option<Vec<u32>>,
}

impl PartitionEvaluator for Evaluator {
    /// `values` are the arguments, then the window's order; rows are sorted by the latter. A frame holds whole groups of
    /// peers, so that the same stretch of the rows in order holds the same rows.
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let (arguments, order) = values.split_at(self.argument_count);
        let row = match self.which {
            Which::First => Some(range.start),
            Which::Last => range.end.checked_sub(1),
            Which::Nth(position) => {
                usize::try_from(position).ok().and_then(|position| (range.start + position).checked_sub(1))
            }
        };
        let row = row.filter(|row| range.contains(row));
        let Some(row) = row else { return ScalarValue::try_from(arguments[0].data_type()) };
        if self.rows.is_none() {
            self.rows = Some(rows_in_order(order, &arguments[1..], arguments[0].len())?);
        }
        let row = self.rows.as_ref().and_then(|rows| rows.get(row)).map_or(row, |row| *row as usize);
        ScalarValue::try_from_array(&arguments[0], row)
    }

    fn uses_window_frame(&self) -> bool {
        true
    }
}

/// Rows that are sorted by `order`, sorted further by `ties`.
fn rows_in_order(order: &[ArrayRef], ties: &[ArrayRef], row_count: usize) -> Result<Vec<u32>> {
    if order.is_empty() || ties.is_empty() {
        return Ok((0..row_count as u32).collect());
    }
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let mut rows = Vec::with_capacity(row_count);
    for peers in partition(order)?.ranges() {
        if peers.len() == 1 {
            rows.push(peers.start as u32);
            continue;
        }
        let columns: Vec<SortColumn> =
            ties.iter().map(|column| SortColumn { values: column.slice(peers.start, peers.len()), options }).collect();
        let sorted = lexsort_to_indices(&columns, None)?;
        rows.extend(sorted.values().iter().map(|row| peers.start as u32 + row));
    }
    Ok(rows)
}
