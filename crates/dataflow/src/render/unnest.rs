//! One row an element of a list, or of several lists side by side.
//!
//! Lists can be long: a row is in 600 windows of ten minutes that start every second. So rows are let in a few at a time
//! before their lists are made, and what comes after has made them fewer, or put them away, before more are: else a view
//! that hydrates would hold all its rows with all their lists at once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::datatypes::DataType;
use plan::dataflow_plan::Node;
use repr::Timestamp;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;
use timely::scheduling::Activator;

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

/// Elements to be made at a time.
const ELEMENTS: usize = 1 << 19;

/// Rows at a time while nothing is known of their lists.
const FIRST_ROWS: usize = 1024;

/// How many rows are let in at a time: what [`paced`] goes by and [`render`] learns from the lists it sees.
#[derive(Clone)]
pub(crate) struct Pace(Rc<Cell<usize>>);

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace(Rc::new(Cell::new(FIRST_ROWS)))
    }

    fn learn(&self, row_count: usize, element_count: usize) {
        if row_count > 0 {
            self.0.set((ELEMENTS * row_count / element_count.max(1)).max(1));
        }
    }
}

/// Rows that wait to be let in.
struct Waiting {
    capability: CapabilitySet<Timestamp>,
    updates: Updates,
    /// The first that still waits.
    start: usize,
}

/// Lets rows in at the pace of the unnest behind.
pub(crate) fn paced<'scope>(rows: Rows<'scope>, pace: Pace) -> Rows<'scope> {
    let scope = rows.scope();
    let mut builder = OperatorBuilder::new("Pace".to_owned(), scope);
    let activator = Activator::new(builder.operator_info().address, scope.activations());
    let mut input = builder.new_input(rows, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (output, rows) = builder.new_output::<Updates>();
    let mut output = OutputBuilder::<_, NoopBuilder<Updates>>::from(output);
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    builder.build(move |_| {
        move |_| {
            input.for_each(|capability, container| {
                let updates = std::mem::take(container);
                waiting.push_back(Waiting { capability: capability.retain_stamp(0), updates, start: 0 });
            });
            let mut budget = pace.0.get();
            let mut output = output.activate();
            while budget > 0
                && let Some(Waiting { capability, updates, start }) = waiting.front_mut()
            {
                let end = updates.len().min(*start + budget);
                budget -= end - *start;
                let is_last = end == updates.len();
                let mut piece = match *start == 0 && is_last {
                    true => std::mem::take(updates),
                    false => updates.take(&UInt32Array::from_iter_values(*start as u32..end as u32)),
                };
                *start = end;
                output.session_with_builder(&*capability).give_container(&mut piece);
                if is_last {
                    waiting.pop_front();
                }
            }
            if !waiting.is_empty() {
                activator.activate();
            }
        }
    });
    rows
}

/// Repeats each row for the elements of the longest of its lists, an element in each list's place, NULL after its last.
pub(crate) fn render(rows: Rows<'_>, lists: Vec<usize>, pace: Pace) -> Rows<'_> {
    stateless(rows, "Unnest", move |updates| {
        let row_count = updates.len();
        let expanded = expand(updates, &lists);
        pace.learn(row_count, expanded.len());
        expanded
    })
}

/// The same of one container.
pub(crate) fn expand(updates: Updates, lists: &[usize]) -> Updates {
    let arrays: Vec<&ListArray> = lists.iter().map(|list| updates.columns[*list].as_list::<i32>()).collect();
    let mut sources = Vec::new();
    for row in 0..updates.len() {
        let longest = arrays.iter().map(|array| length(array, row)).max().unwrap_or_default();
        sources.extend(std::iter::repeat_n(row as u32, longest));
    }
    let elements: Vec<ArrayRef> = match arrays.as_slice() {
        [only] => vec![all_elements(only, sources.len())],
        _ => arrays.iter().map(|array| elements(array, &sources)).collect(),
    };
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
}

fn length(lists: &ListArray, row: usize) -> usize {
    if lists.is_valid(row) { lists.value_length(row) as usize } else { 0 }
}

/// The elements of all lists, `count` of them, one list after the other.
fn all_elements(lists: &ListArray, count: usize) -> ArrayRef {
    let mut places: Vec<u32> = Vec::with_capacity(count);
    for row in 0..lists.len() {
        let start = lists.value_offsets()[row] as u32;
        places.extend(start..start + length(lists, row) as u32);
    }
    take_rows(lists.values(), &UInt32Array::from(places))
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
