//! count, sum, avg, bool_and and bool_or on [`repr::accumulator`].

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryBuilder};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use repr::PgError;
use repr::accumulator::Accumulator;

use super::{Shape, State, first};
use crate::functions::kernel::external;

/// Rows whose contributions are computed at once: enough to amortise, few enough to stay in cache.
const BLOCK_ROWS: usize = 1024;
const LANE_BYTES: usize = 16;

pub(crate) fn is_linear(name: &str) -> bool {
    matches!(name, "avg" | "bool_and" | "bool_or" | "count" | "sum")
}

pub(crate) fn result_type(name: &'static str, arguments: &[DataType]) -> Result<DataType, PgError> {
    Ok(Accumulator::new(name, Some(first(arguments)?))?.output_type())
}

pub(crate) fn state_types(
    name: &'static str,
    arguments: &[DataType],
    _result: &DataType,
) -> Result<Vec<DataType>, PgError> {
    let lanes = Accumulator::new(name, Some(first(arguments)?))?.lane_count();
    Ok(vec![DataType::FixedSizeBinary((lanes * LANE_BYTES) as i32)])
}

/// Lanes of all groups, one group after the other.
pub(crate) struct Linear {
    accumulator: Accumulator,
    width: usize,
    lanes: Vec<i128>,
    contributions: Vec<i128>,
}

impl Linear {
    pub(crate) fn new(name: &str, shape: &Shape) -> Result<Linear, PgError> {
        let accumulator = Accumulator::new(name, Some(first(&shape.arguments)?))?;
        let width = accumulator.lane_count();
        Ok(Linear { accumulator, width, lanes: Vec::new(), contributions: Vec::new() })
    }

    pub(crate) fn boxed(name: &'static str, shape: &Shape) -> Result<Box<dyn State>, PgError> {
        Ok(Box::new(Linear::new(name, shape)?))
    }

    /// Adds rows to their groups, `times` times over.
    fn add(&mut self, argument: &ArrayRef, groups: &[usize], filter: Option<&BooleanArray>, times: i128) {
        for start in (0..groups.len()).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(groups.len() - start);
            let argument = argument.slice(start, rows);
            let filter = filter.map(|filter| filter.slice(start, rows));
            self.contributions.resize(rows * self.width, 0);
            self.accumulator.contributions(
                Some(&argument),
                filter.as_ref(),
                rows,
                &mut self.contributions,
                self.width,
                0,
            );
            for (row, group) in groups[start..start + rows].iter().enumerate() {
                let contribution = &self.contributions[row * self.width..][..self.width];
                let state = &mut self.lanes[group * self.width..][..self.width];
                for (lane, value) in state.iter_mut().zip(contribution) {
                    *lane = lane.wrapping_add(value.wrapping_mul(times));
                }
            }
        }
    }
}

impl State for Linear {
    fn update(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<(), PgError> {
        self.lanes.resize(group_count * self.width, 0);
        if let Some(argument) = values.first() {
            self.add(argument, groups, filter, 1);
        }
        Ok(())
    }

    fn finish(&mut self, group_count: usize) -> Result<ArrayRef, PgError> {
        let (array, errors) = self.accumulator.finish(&self.lanes, self.width, 0, group_count);
        match errors.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(array),
        }
    }

    fn export(&mut self, group_count: usize) -> Result<Vec<ArrayRef>, PgError> {
        let mut builder = FixedSizeBinaryBuilder::with_capacity(group_count, (self.width * LANE_BYTES) as i32);
        let mut bytes = Vec::with_capacity(self.width * LANE_BYTES);
        for lanes in self.lanes.chunks_exact(self.width).take(group_count) {
            bytes.clear();
            lanes.iter().for_each(|lane| bytes.extend_from_slice(&lane.to_le_bytes()));
            builder.append_value(&bytes).map_err(|error| PgError::internal(error.to_string()))?;
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<(), PgError> {
        self.lanes.resize(group_count * self.width, 0);
        let Some(states) = states.first() else { return Ok(()) };
        let states = states.as_fixed_size_binary();
        for (row, group) in groups.iter().enumerate() {
            if states.is_null(row) {
                continue;
            }
            let state = &mut self.lanes[group * self.width..][..self.width];
            for (lane, bytes) in state.iter_mut().zip(states.value(row).chunks_exact(LANE_BYTES)) {
                let mut word = [0u8; LANE_BYTES];
                word.copy_from_slice(bytes);
                *lane = lane.wrapping_add(i128::from_le_bytes(word));
            }
        }
        Ok(())
    }

    fn forget(&mut self, group_count: usize) {
        self.lanes.drain(..group_count * self.width);
    }

    fn group_count(&self) -> usize {
        self.lanes.len() / self.width
    }

    fn size_bytes(&self) -> usize {
        (self.lanes.capacity() + self.contributions.capacity()) * LANE_BYTES
    }
}

/// Over a frame that moves, a row that leaves is taken away exactly.
pub(crate) struct Moving(Linear);

impl fmt::Debug for Moving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moving")
    }
}

impl Moving {
    pub(crate) fn boxed(
        name: &'static str,
        shape: &Shape,
    ) -> Result<Box<dyn datafusion::logical_expr::Accumulator>, PgError> {
        let mut linear = Linear::new(name, shape)?;
        linear.lanes.resize(linear.width, 0);
        Ok(Box::new(Moving(linear)))
    }

    fn add(&mut self, values: &[ArrayRef], times: i128) {
        if let Some(argument) = values.first() {
            self.0.add(argument, &vec![0; argument.len()], None, times);
        }
    }
}

impl datafusion::logical_expr::Accumulator for Moving {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        self.add(values, 1);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        self.add(values, -1);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let array = self.0.finish(1).map_err(external)?;
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        self.0.size_bytes()
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let arrays = self.0.export(1).map_err(external)?;
        arrays.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let groups = vec![0; states.first().map_or(0, |column| column.len())];
        self.0.merge(states, &groups, 1).map_err(external)
    }
}
