//! One row an element of a list.
//!
//! Lists can be long: a row is in 600 windows of ten minutes that start every second. So rows are let in a few at a time
//! before their lists are made, and what comes after has made them fewer, or put them away, before more are: else a view
//! that hydrates would hold all its rows with all their lists at once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use arrow::array::{Array, AsArray, UInt32Array};
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

/// Whether the column is there, and a list.
pub(crate) fn check(input: &Node, column: usize) -> Result<(), DataflowError> {
    match input.schema.fields().get(column).map(|field| field.data_type()) {
        Some(DataType::List(_)) => Ok(()),
        _ => Err(DataflowError::InvalidPlan(format!("column {column} to unnest is not a list"))),
    }
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

/// Repeats each row for the elements of its list, the element in the list's place.
pub(crate) fn render(rows: Rows<'_>, column: usize, pace: Pace) -> Rows<'_> {
    stateless(rows, "Unnest", move |updates| {
        let lists = updates.columns[column].as_list::<i32>();
        let (mut sources, mut elements) = (Vec::new(), Vec::new());
        for row in 0..lists.len() {
            if lists.is_valid(row) {
                let range = lists.value_offsets()[row] as u32..lists.value_offsets()[row + 1] as u32;
                sources.extend(range.clone().map(|_| row as u32));
                elements.extend(range);
            }
        }
        pace.learn(lists.len(), elements.len());
        let values = take_rows(lists.values(), &UInt32Array::from(elements));
        let times = take_lane(&updates.times, &sources);
        let diffs = take_lane(&updates.diffs, &sources);
        let sources = UInt32Array::from(sources);
        let columns = updates.columns.iter().enumerate();
        let columns = columns
            .map(|(index, array)| if index == column { values.clone() } else { take_rows(array, &sources) })
            .collect();
        Updates::new(columns, times, diffs)
    })
}
