//! Operators of a loop that look at groups: differential-dataflow's `reduce` finds which groups change when, and only then are
//! those of a container decoded and computed together.
//!
//! - Reduce: the accumulators are the diff of the group's key, so that they are added up wherever diffs are.
//! - Fold: a group's rows follow one another in one value.
//! - TopK: the order is the order of the bytes.

use std::ops::Range;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use differential_dataflow::difference::{IsZero, Semigroup};
use differential_dataflow::trace::implementations::ValBuilder;
use differential_dataflow::{AsCollection, VecCollection};
use plan::dataflow_plan::{NodeId, SortKey};
use repr::{Diff, Lane};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::codec::{Codec, Encoded, KeyCodec, OrderCodec};
use super::{KeyedRows, LoopArrangement, LoopRenderer, LoopRows, LoopSpine, LoopTime, LoopUpdate, numbers};
use crate::DataflowError;
use crate::chunk::add_lanes;
use crate::errors::ErrorUpdates;
use crate::render::containerwise;
use crate::render::fold::FoldFunction;
use crate::render::reduce::GroupFunction;
use crate::updates::Updates;

/// Bytes of an accumulator's lane.
const LANE_BYTES: usize = size_of::<i128>();
/// Bytes of a length within a value.
const LENGTH_BYTES: usize = size_of::<u32>();

/// The accumulators of a group as a diff. The first counts its rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Accumulated(SmallVec<[i128; 3]>);

impl IsZero for Accumulated {
    fn is_zero(&self) -> bool {
        self.0.iter().all(|lane| *lane == 0)
    }
}

impl Semigroup for Accumulated {
    fn plus_equals(&mut self, other: &Accumulated) {
        add_lanes(&mut self.0, &other.0);
    }
}

impl<'inner> LoopRenderer<'_, 'inner> {
    /// One row a group, from accumulators.
    pub(super) fn reduce(
        &mut self,
        rows: LoopRows<'inner>,
        function: GroupFunction,
        id: NodeId,
        from: &Schema,
        to: &Schema,
    ) -> Result<LoopRows<'inner>, DataflowError> {
        let (key_codec, width) = (KeyCodec::new(from, &function.key)?, function.width);
        let groups = contributions(rows, function.clone(), Codec::new(from)?, key_codec.clone());
        // The key, then the lanes.
        let states = groups
            .arrange_by_self_named("Arrange: Reduce")
            .reduce_abelian::<_, ValBuilder<_, _, _, _>, LoopSpine, _, _>(
                "Reduce",
                |key: &Encoded, input, output| {
                    let lanes = &input[0].1.0;
                    if lanes[0] > 0 {
                        let lanes = lanes.iter().flat_map(|lane| lane.to_le_bytes());
                        output.push((key.iter().copied().chain(lanes).collect(), 1));
                    }
                },
                fill,
            )
            .as_collection(|_, state| state.clone());
        let name = format!("{} Reduce {id}", self.name);
        let finish = move |container: &[LoopUpdate], errors: &mut ErrorUpdates| {
            let split = |update: &LoopUpdate| update.0.len() - width * LANE_BYTES;
            let keys = key_codec.decode(container.iter().map(|update| &update.0[..split(update)]));
            let lanes = container.iter().flat_map(|update| update.0[split(update)..].chunks_exact(LANE_BYTES));
            let states: Vec<i128> =
                lanes.map(|lane| i128::from_le_bytes(lane.try_into().expect("a lane's bytes"))).collect();
            let len = container.len();
            function.finish(&name, keys, &states, numbers(len), Lane::Constant(1, len), errors)
        };
        self.batchwise(states, "Finish", to, finish)
    }

    /// One row a group, each from all rows of the group.
    pub(super) fn fold(
        &mut self,
        groups: LoopArrangement<'inner>,
        function: FoldFunction,
        id: NodeId,
        from: &SchemaRef,
        to: &Schema,
    ) -> Result<LoopRows<'inner>, DataflowError> {
        // Each row after its length, as often as it is there.
        let values = groupwise(groups, "Fold", |rows, output| {
            let mut value = Encoded::new();
            for (row, count) in rows {
                for _ in 0..*count {
                    value.extend_from_slice(&(row.len() as u32).to_le_bytes());
                    value.extend_from_slice(row);
                }
            }
            if !value.is_empty() {
                output.push((value, 1));
            }
        });
        let (codec, schema) = (Codec::new(from)?, from.clone());
        let name = format!("{} Fold {id}", self.name);
        let answer = move |container: &[LoopUpdate], errors: &mut ErrorUpdates| {
            let mut rows: Vec<&[u8]> = Vec::new();
            let mut states: Vec<Range<usize>> = Vec::with_capacity(container.len());
            for (value, ..) in container {
                let start = rows.len();
                rows.extend(Rows(value));
                states.push(start..rows.len());
            }
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let columns = codec.decode(rows.into_iter());
            let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options);
            let rows = rows.expect("the codec has the columns of its node");
            let changes = (0..states.len()).map(|state| (state, state as u64, 1));
            function.answers(&name, &rows, &states, changes, errors)
        };
        self.batchwise(values, "Fold", to, answer)
    }
}

/// The rows of a group's value.
struct Rows<'a>(&'a [u8]);

impl<'a> Iterator for Rows<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<LENGTH_BYTES>()?;
        let (row, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(row)
    }
}

/// What `logic` makes of each group: of its rows and how often each is there.
fn groupwise<'inner>(
    groups: LoopArrangement<'inner>,
    name: &str,
    mut logic: impl FnMut(&[(&Encoded, Diff)], &mut Vec<(Encoded, Diff)>) + 'static,
) -> LoopRows<'inner> {
    groups
        .reduce_abelian::<_, ValBuilder<_, _, _, _>, LoopSpine, _, _>(
            name,
            move |_, rows, output| logic(rows, output),
            fill,
        )
        .as_collection(|_, row| row.clone())
}

/// Puts the changes of a key together as a builder takes them.
fn fill(
    container: &mut Vec<((Encoded, Encoded), LoopTime, Diff)>,
    key: &Encoded,
    changes: &mut Vec<(Encoded, LoopTime, Diff)>,
) {
    container.clear();
    container.extend(changes.drain(..).map(|(value, time, diff)| ((key.clone(), value), time, diff)));
}

/// The rows' groups, with what the rows add to the accumulators for diffs.
fn contributions<'inner>(
    rows: LoopRows<'inner>,
    function: GroupFunction,
    codec: Codec,
    key_codec: KeyCodec,
) -> VecCollection<'inner, LoopTime, Encoded, Accumulated> {
    let mut lanes = Vec::new();
    let groups = containerwise(rows.inner, "Accumulate", move |container: Vec<LoopUpdate>| {
        let len = container.len();
        let columns = codec.decode(container.iter().map(|update| update.0.as_slice()));
        let diffs = Lane::Values(container.iter().map(|update| update.2).collect()).compress();
        let updates = Updates::new(columns, numbers(len), diffs);
        function.lanes(&updates, 0, len, &mut lanes);
        let keys = key_codec.encode(&key_codec.columns(&updates.columns), len).into_iter();
        let rows = keys.zip(lanes.chunks_exact(function.width)).zip(&container);
        rows.map(|((key, lanes), row)| (key, row.1, Accumulated(SmallVec::from_slice(lanes)))).collect::<Vec<_>>()
    });
    groups.as_collection()
}

/// The first rows of each group.
pub(super) fn top_k<'inner>(
    rows: LoopRows<'inner>,
    schema: &Schema,
    key: &[usize],
    order: &[SortKey],
    offset: u64,
    limit: Option<u64>,
) -> Result<LoopRows<'inner>, DataflowError> {
    let end = limit.map_or(u64::MAX, |limit| offset.saturating_add(limit));
    let groups = ordered(rows, schema, key, order)?.arrange_by_key_named("Arrange: TopK");
    Ok(groupwise(groups, "TopK", move |rows, output| {
        let mut seen = 0u64;
        for (value, count) in rows.iter().filter(|(_, count)| *count > 0) {
            let (from, to) = (seen.max(offset), (seen.saturating_add(*count as u64)).min(end));
            if from < to {
                output.push((Encoded::from_slice(row_of(value)), (to - from) as Diff));
            }
            seen = seen.saturating_add(*count as u64);
            if seen >= end {
                break;
            }
        }
    }))
}

/// Rows by a key, after what orders them: the bytes of the order, the row, and the length of the former.
fn ordered<'inner>(
    rows: LoopRows<'inner>,
    schema: &Schema,
    key: &[usize],
    order: &[SortKey],
) -> Result<KeyedRows<'inner>, DataflowError> {
    let (codec, order) = (Codec::new(schema)?, OrderCodec::new(schema, key, order)?);
    let key_codec = KeyCodec::new(schema, key)?;
    let keyed = containerwise(rows.inner, "Order", move |container: Vec<LoopUpdate>| {
        let len = container.len();
        let columns = codec.decode(container.iter().map(|update| update.0.as_slice()));
        let keys = key_codec.encode(&key_codec.columns(&columns), len);
        let orders = order.encode(&columns, len);
        let mut out = Vec::with_capacity(len);
        for (((row, time, diff), key), mut value) in container.into_iter().zip(keys).zip(orders) {
            let length = value.len() as u32;
            value.extend(row);
            value.extend(length.to_le_bytes());
            out.push(((key, value), time, diff));
        }
        out
    });
    Ok(keyed.as_collection())
}

/// The row of a value that [`ordered`] made.
fn row_of(value: &[u8]) -> &[u8] {
    match value.split_last_chunk::<LENGTH_BYTES>() {
        Some((value, length)) => value.get(u32::from_le_bytes(*length) as usize..).unwrap_or_default(),
        None => value,
    }
}
