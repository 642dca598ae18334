//! `lag` and `lead` whose offset or default is another one for each row.

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDFImpl};

/// The function; its arguments are the value, the offset (a bigint), and the default if there is one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Shifted {
    back: bool,
    signature: Signature,
}

impl Shifted {
    /// `back` is `lag`.
    pub(super) fn new(back: bool) -> Shifted {
        Shifted { back, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for Shifted {
    fn name(&self) -> &str {
        if self.back { "lag_by" } else { "lead_by" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator { back: self.back }))
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        let data_type = arguments.get_input_field(0).map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Field::new(arguments.name(), data_type, true).into())
    }
}

#[derive(Debug)]
struct Evaluator {
    back: bool,
}

impl PartitionEvaluator for Evaluator {
    /// A row without an offset has NULL; one whose other row is outside of the partition has the default.
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        let offsets = values[1].as_primitive::<Int64Type>();
        let absent = new_null_array(values[0].data_type(), 1);
        let sources: Vec<&dyn Array> =
            [&absent, &values[0]].into_iter().chain(values.get(2)).map(AsRef::as_ref).collect();
        let place = |row: usize| {
            if offsets.is_null(row) {
                return (0, 0);
            }
            let offset = i128::from(offsets.value(row));
            let other = row as i128 + if self.back { -offset } else { offset };
            match usize::try_from(other) {
                Ok(other) if other < num_rows => (1, other),
                _ if sources.len() == 3 => (2, row),
                _ => (0, 0),
            }
        };
        let places: Vec<(usize, usize)> = (0..num_rows).map(place).collect();
        Ok(interleave(&sources, &places)?)
    }
}
