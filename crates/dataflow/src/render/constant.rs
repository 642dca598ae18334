//! Rows that never change: there from the first time on, on one worker.

use arrow::record_batch::RecordBatch;
use repr::{Lane, Timestamp};
use timely::container::NoopBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilderSession;
use timely::dataflow::operators::generic::operator::source;

use super::Rows;
use crate::updates::Updates;

/// The rows at time 0; then nothing ever comes.
pub(crate) fn render<'scope>(scope: Scope<'scope, Timestamp>, rows: &RecordBatch) -> Rows<'scope> {
    let len = rows.num_rows();
    let mut updates = (scope.index() == 0 && len > 0)
        .then(|| Updates::new(rows.columns().to_vec(), Lane::Constant(0, len), Lane::Constant(1, len)));
    source(scope, "Constant", move |capability, _| {
        let mut capability = Some(capability);
        move |output: &mut OutputBuilderSession<'_, Timestamp, NoopBuilder<Updates>>| {
            if let (Some(capability), Some(mut updates)) = (capability.take(), updates.take()) {
                output.session_with_builder(&capability).give_container(&mut updates);
            }
        }
    })
}
