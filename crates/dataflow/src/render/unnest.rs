//! One row an element of a list, or of several lists side by side.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::datatypes::DataType;
use plan::dataflow_plan::Node;

use super::{Rows, stateless};
use crate::DataflowError;
use crate::updates::{Updates, take_lane, take_rows};

/// Whether there are lists, and all are columns that hold some.
pub(crate) fn check(input: &Node, lists: &[usize]) -> Result<(), DataflowError> {
    if lists.is_empty() {
        return Err(DataflowError::InvalidPlan("nothing to unnest".to_owned()));
    }
    for list in lists {
        match input.schema.fields().get(*list).map(|field| field.data_type()) {
            Some(DataType::List(_)) => {}
            _ => return Err(DataflowError::InvalidPlan(format!("column {list} to unnest is not a list"))),
        }
    }
    Ok(())
}

/// Repeats each row for the elements of the longest of its lists, an element in each list's place, NULL after its last.
pub(crate) fn render(rows: Rows<'_>, lists: Vec<usize>) -> Rows<'_> {
    stateless(rows, "Unnest", move |updates| {
        let arrays: Vec<&ListArray> = lists.iter().map(|list| updates.columns[*list].as_list::<i32>()).collect();
        let row_count = arrays.first().map_or(0, |array| array.len());
        let mut sources = Vec::new();
        for row in 0..row_count {
            let longest = arrays.iter().map(|array| length(array, row)).max().unwrap_or_default();
            sources.extend(std::iter::repeat_n(row as u32, longest));
        }
        let elements: Vec<ArrayRef> = arrays.iter().map(|array| elements(array, &sources)).collect();
        let times = take_lane(&updates.times, &sources);
        let diffs = take_lane(&updates.diffs, &sources);
        let sources = UInt32Array::from(sources);
        let columns = updates.columns.iter().enumerate();
        let columns = columns
            .map(|(index, array)| match lists.iter().position(|list| *list == index) {
                Some(list) => elements[list].clone(),
                None => take_rows(array, &sources),
            })
            .collect();
        Updates::new(columns, times, diffs)
    })
}

fn length(lists: &ListArray, row: usize) -> usize {
    if lists.is_valid(row) { lists.value_length(row) as usize } else { 0 }
}

/// The elements of the lists of `rows`, each of which is repeated at least as often as its list is long.
fn elements(lists: &ListArray, rows: &[u32]) -> ArrayRef {
    let mut places: Vec<Option<u32>> = Vec::with_capacity(rows.len());
    for copies in rows.chunk_by(|left, right| left == right) {
        let row = copies[0] as usize;
        let start = lists.value_offsets()[row] as u32;
        let length = length(lists, row);
        places.extend((0..copies.len()).map(|at| (at < length).then(|| start + at as u32)));
    }
    take_rows(lists.values(), &UInt32Array::from(places))
}
