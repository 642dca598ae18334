//! HALF JOIN: updates that look up what an arrangement had when they came.
//!
//! A join by deltas is a sum of paths, one a relation, on which that relation's changes look up the others. Two relations
//! that change at the same time must meet once: on one's path the other is read with that time's changes, on the other's
//! without. So nothing is kept here but updates whose time is not yet closed in the arrangement; a time that is found
//! there is never later than the update's own, so the update's time is the result's.
//!
//! ```text
//! updates --> hash --> exchange --> wait for the arrangement --> sort by key --> walk along it --> rows
//!                                          ^
//!                      arrangement ---------
//! ```
//!
//! The arrangement may not be compacted up to the next update's time: the last moment before it must still be told from
//! it.

use std::collections::VecDeque;
use std::rc::Rc;

use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::chunk::ChunkBatch;
use repr::Timestamp;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Antichain;
use timely::scheduling::Activator;

use super::Rows;
use super::join::{JoinFunction, Meets, Shape, Work};
use crate::arrange::{ArrangedRows, Trace};
use crate::chunker::sort_unpacked;
use crate::expression::RowFunction;
use crate::updates::{KeyDistributor, Updates};

/// Containers that leave in one scheduling.
const OUTPUT_CONTAINERS_MAX: usize = 32;

/// The rows of `updates` that are later than `as_of`.
pub(crate) fn changes(rows: Rows<'_>, as_of: Timestamp) -> Rows<'_> {
    super::stateless(rows, "Changes", move |updates| updates.split(|time| time > as_of).0)
}

/// The rows of hashed `updates` with what `arranged` had at their times, and the stage that is still to run over them.
pub(crate) fn render<'scope>(
    updates: Rows<'scope>,
    arranged: ArrangedRows<'scope>,
    function: JoinFunction,
    before: bool,
    as_of: Timestamp,
) -> (Rows<'scope>, RowFunction) {
    let meets = if before { Meets::Earlier } else { Meets::UpToNow };
    let (shape, function) = function.split(false, meets);
    let scope = updates.scope();
    let mut builder = OperatorBuilder::new("HalfJoin".to_owned(), scope);
    let activator = Activator::new(builder.operator_info().address, scope.activations());
    let mut input = builder.new_input(updates, DistributorPact(|_| KeyDistributor));
    let mut batches = builder.new_input(arranged.stream, Pipeline);
    let (output, rows) = builder.new_output::<Updates>();
    let mut output = OutputBuilder::<_, NoopBuilder<Updates>>::from(output);
    let mut lookups = Lookups::new(arranged.trace, shape, as_of);
    builder.build(move |_| {
        move |frontiers| {
            input.for_each(|capability, updates| {
                lookups.waiting.push((capability.retain_stamp(0), std::mem::take(updates)));
            });
            // They say that the trace has come further, which is read itself.
            batches.for_each(|_, spans| spans.clear());
            lookups.start();
            let mut output = output.activate();
            for _ in 0..OUTPUT_CONTAINERS_MAX {
                let Some((capabilities, mut updates)) = lookups.next() else { break };
                output.session_with_builder(&capabilities).give_container(&mut updates);
            }
            if !lookups.running.is_empty() {
                activator.activate();
            }
            lookups.let_compact(frontiers[0].frontier().first().copied());
        }
    });
    (rows, function)
}

/// Updates that wait for their time, and those that are being looked up.
struct Lookups {
    trace: Trace,
    shape: Rc<Shape>,
    as_of: Timestamp,
    waiting: Vec<(CapabilitySet<Timestamp>, Updates)>,
    running: VecDeque<(CapabilitySet<Timestamp>, Work)>,
}

impl Lookups {
    fn new(trace: Trace, shape: Shape, as_of: Timestamp) -> Lookups {
        Lookups { trace, shape: Rc::new(shape), as_of, waiting: Vec::new(), running: VecDeque::new() }
    }

    /// Starts on the updates whose time is closed in the arrangement.
    fn start(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut upper = Antichain::new();
        self.trace.read_upper(&mut upper);
        let is_closed = |time: Timestamp| !upper.less_equal(&time.max(self.as_of));
        let mut closed = Vec::new();
        let mut capabilities: Option<CapabilitySet<Timestamp>> = None;
        let mut first = Timestamp::MAX;
        for (capability, updates) in std::mem::take(&mut self.waiting) {
            let (ready, rest) = updates.split(is_closed);
            if !ready.is_empty() {
                first = ready.times.iter().fold(first, Timestamp::min);
                match &mut capabilities {
                    Some(all) => capability.iter().for_each(|one| all.insert(one.clone())),
                    None => capabilities = Some(capability.clone()),
                }
                closed.push(ready);
            }
            if !rest.is_empty() {
                self.waiting.push((capability, rest));
            }
        }
        let Some(capabilities) = capabilities else { return };
        let updates = Rc::new(ChunkBatch::new(sort_unpacked(&closed)));
        let batches = self.trace.batches_through(upper.borrow()).expect("this operator's hold keeps the boundary");
        let floor = self.shape.meets.floor(first).max(self.as_of);
        self.running.push_back((capabilities, Work::new(self.shape.clone(), [vec![updates], batches], 0, floor)));
    }

    /// The next container of results.
    fn next(&mut self) -> Option<(CapabilitySet<Timestamp>, Updates)> {
        while let Some((capabilities, work)) = self.running.front_mut() {
            match work.next() {
                Some(updates) => return Some((capabilities.clone(), updates)),
                None => self.running.pop_front(),
            };
        }
        None
    }

    /// Lets the arrangement forget what is earlier than the last moment before any update to come; `frontier` is where
    /// those begin.
    fn let_compact(&mut self, frontier: Option<Timestamp>) {
        let waiting = self.waiting.iter().flat_map(|(capabilities, _)| capabilities.iter());
        let first = waiting.map(|capability| *capability.time()).chain(frontier).min();
        let since: Antichain<Timestamp> = first.map(|time| time.saturating_sub(1)).into_iter().collect();
        self.trace.set_logical_compaction(since.borrow());
        let mut upper = Antichain::new();
        self.trace.read_upper(&mut upper);
        self.trace.set_physical_compaction(upper.borrow());
    }
}
