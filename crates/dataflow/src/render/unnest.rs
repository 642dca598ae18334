//! One row an element of a list.

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::datatypes::DataType;
use plan::dataflow_plan::Node;

use super::{Rows, stateless};
use crate::DataflowError;
use crate::updates::{Updates, take_lane, take_rows};

/// Whether the column is there, and a list.
pub(crate) fn check(input: &Node, column: usize) -> Result<(), DataflowError> {
    match input.schema.fields().get(column).map(|field| field.data_type()) {
        Some(DataType::List(_)) => Ok(()),
        _ => Err(DataflowError::InvalidPlan(format!("column {column} to unnest is not a list"))),
    }
}

/// Repeats each row for the elements of its list, the element in the list's place.
pub(crate) fn render(rows: Rows<'_>, column: usize) -> Rows<'_> {
    stateless(rows, "Unnest", move |updates| expand(updates, column))
}

/// The same of one container.
pub(crate) fn expand(updates: Updates, column: usize) -> Updates {
    let lists = updates.columns[column].as_list::<i32>();
    let (mut sources, mut elements) = (Vec::new(), Vec::new());
    for row in 0..lists.len() {
        if lists.is_valid(row) {
            let range = lists.value_offsets()[row] as u32..lists.value_offsets()[row + 1] as u32;
            sources.extend(range.clone().map(|_| row as u32));
            elements.extend(range);
        }
    }
    let values = take_rows(lists.values(), &UInt32Array::from(elements));
    let times = take_lane(&updates.times, &sources);
    let diffs = take_lane(&updates.diffs, &sources);
    let sources = UInt32Array::from(sources);
    let columns = updates.columns.iter().enumerate();
    let columns = columns
        .map(|(index, array)| if index == column { values.clone() } else { take_rows(array, &sources) })
        .collect();
    Updates::new(columns, times, diffs)
}
