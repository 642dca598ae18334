//! Arrangements: a collection indexed by a key, kept as spines of [`ArrowChunk`]s and shared through traces.
//!
//! Rows go to the worker that owns their key's hash, so that whoever wants the same key finds it on the same worker.
//! Those who only want the rows of an arrangement read its batches as containers ([`flatten`]): columns are shared, not
//! copied.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use differential_dataflow::operators::arrange::arrangement::{Arranged, arrange_core};
use differential_dataflow::operators::arrange::{TraceAgent, agent::trace_box::TraceBox};
use differential_dataflow::trace::chunk::{ChunkBatch, ChunkBatcher, ChunkSpine};
use differential_dataflow::trace::{Span, TraceReader};
use plan::dataflow_plan::NodeId;
use repr::Timestamp;
use timely::container::NoopBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::scheduling::Activator;

use crate::chunk::ArrowChunk;
use crate::chunker::ArrowChunker;
use crate::updates::{KeyDistributor, Updates};

/// One closed interval's updates, sorted.
pub type Batch = Rc<ChunkBatch<ArrowChunk>>;
/// The batches of an arrangement, merged as they grow.
pub type Spine = ChunkSpine<ArrowChunk>;
/// A handle on an arrangement; it holds back compaction as far as its own frontiers say.
pub type Trace = TraceAgent<Spine>;
/// What an arrangement's stream carries.
pub type BatchSpan = Span<Timestamp, Batch>;

type Batcher = ChunkBatcher<ArrowChunker, ArrowChunk>;

/// Containers that [`flatten`] lets go in one scheduling, 8,192 rows each.
const FLATTEN_CHUNKS_MAX: usize = 32;

/// How many rows an arrangement holds, on this worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrangementSize {
    /// Updates, of which several may be of one row.
    pub rows: usize,
    /// Memory of columns, hashes, times and diffs.
    pub bytes: usize,
    /// Batches that merging has left.
    pub batches: usize,
}

/// One arrangement of a dataflow, for statistics. Does not keep it alive, nor hold back its compaction.
#[derive(Clone)]
pub struct ArrangementHandle {
    /// The plan's node whose state it is.
    pub node: NodeId,
    /// What the operator calls it, such as `Arrange 3`.
    pub name: String,
    trace: Weak<RefCell<TraceBox<Spine>>>,
}

impl ArrangementHandle {
    pub(crate) fn new(node: NodeId, name: String, trace: &Trace) -> ArrangementHandle {
        ArrangementHandle { node, name, trace: Rc::downgrade(&trace.trace_box_unstable()) }
    }

    /// Its size now; zeros once the dataflow is gone.
    pub fn size(&self) -> ArrangementSize {
        let mut size = ArrangementSize::default();
        let Some(trace) = self.trace.upgrade() else { return size };
        trace.borrow().trace().map_spans(|span| {
            if let Some(batch) = &span.inner {
                size.batches += 1;
                for chunk in &batch.chunks {
                    size.rows += chunk.row_count();
                    size.bytes += chunk.size_bytes();
                }
            }
        });
        size
    }
}

/// An arrangement inside a dataflow.
pub type ArrangedRows<'scope> = Arranged<'scope, Trace>;

/// Exchanges hashed containers by key and arranges them.
pub(crate) fn arrange<'scope>(stream: Stream<'scope, Timestamp, Updates>, name: &str) -> ArrangedRows<'scope> {
    arrange_core::<_, _, Batcher, Spine>(stream, DistributorPact(|_| KeyDistributor), name, Batcher::new)
}

/// Another handle on the same arrangement.
pub(crate) fn share<'scope>(arranged: &ArrangedRows<'scope>) -> ArrangedRows<'scope> {
    Arranged { stream: arranged.stream.clone(), trace: arranged.trace.clone() }
}

/// The arrangement's updates as containers, times no earlier than `as_of`. A large history leaves in portions.
pub fn flatten<'scope>(
    stream: Stream<'scope, Timestamp, Vec<BatchSpan>>,
    as_of: Timestamp,
) -> Stream<'scope, Timestamp, Updates> {
    let scope = stream.scope();
    stream.unary(Pipeline, "Flatten", move |_, info| {
        let activator = Activator::new(info.address, scope.activations());
        let mut waiting: VecDeque<(CapabilitySet<Timestamp>, VecDeque<ArrowChunk>)> = VecDeque::new();
        move |input, output: &mut OutputBuilderSession<'_, Timestamp, NoopBuilder<Updates>>| {
            input.for_each(|capability, spans| {
                let chunks: VecDeque<ArrowChunk> =
                    spans.drain(..).filter_map(|span| span.inner).flat_map(|batch| batch.chunks.clone()).collect();
                if !chunks.is_empty() {
                    waiting.push_back((capability.retain_stamp(0), chunks));
                }
            });
            let mut budget = FLATTEN_CHUNKS_MAX;
            while let Some((capabilities, chunks)) = waiting.front_mut() {
                let mut session = output.session_with_builder(capabilities);
                while budget > 0
                    && let Some(chunk) = chunks.pop_front()
                {
                    session.give_container(&mut chunk.updates(as_of));
                    budget -= 1;
                }
                drop(session);
                if !chunks.is_empty() {
                    activator.activate();
                    break;
                }
                waiting.pop_front();
            }
        }
    })
}
