//! min and max: the best value of each group so far, in PostgreSQL's order.

use std::cmp::{Ordering, Reverse};
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use repr::PgError;
use repr::numeric;
use repr::text::interval::Interval;

use super::{Shape, State, first};
use crate::functions::arithmetic::Float;

/// How values of one storage are read, compared and written back.
trait Storage: Send + 'static {
    type Value: Clone + Send + Sync;
    fn read(array: &ArrayRef, row: usize) -> Self::Value;
    fn compare(left: &Self::Value, right: &Self::Value) -> Ordering;
    fn write(values: &[Option<Self::Value>], data_type: &DataType) -> ArrayRef;
    /// What a value holds beside itself.
    fn heap_bytes(value: &Self::Value) -> usize;
}

struct Integers<T>(PhantomData<fn() -> T>);
struct Floats<T>(PhantomData<fn() -> T>);
struct Intervals;
struct Texts;
struct Bytes;
struct Numerics;

impl<T: ArrowPrimitiveType> Storage for Integers<T>
where
    T::Native: Ord,
{
    type Value = T::Native;

    fn read(array: &ArrayRef, row: usize) -> T::Native {
        array.as_primitive::<T>().value(row)
    }

    fn compare(left: &T::Native, right: &T::Native) -> Ordering {
        left.cmp(right)
    }

    fn write(values: &[Option<T::Native>], data_type: &DataType) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter(values.iter().copied()).with_data_type(data_type.clone()))
    }

    fn heap_bytes(_: &T::Native) -> usize {
        0
    }
}

impl<T: Float> Storage for Floats<T> {
    type Value = T::Native;

    fn read(array: &ArrayRef, row: usize) -> T::Native {
        array.as_primitive::<T>().value(row)
    }

    fn compare(left: &T::Native, right: &T::Native) -> Ordering {
        T::wide(T::key(*left)).total_cmp(&T::wide(T::key(*right)))
    }

    fn write(values: &[Option<T::Native>], _: &DataType) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter(values.iter().copied()))
    }

    fn heap_bytes(_: &T::Native) -> usize {
        0
    }
}

impl Storage for Intervals {
    type Value = IntervalMonthDayNano;

    fn read(array: &ArrayRef, row: usize) -> IntervalMonthDayNano {
        array.as_primitive::<IntervalMonthDayNanoType>().value(row)
    }

    /// Of equally long ones that with more months comes first, then that with more days: so the answer does not depend
    /// on the order of rows.
    fn compare(left: &IntervalMonthDayNano, right: &IntervalMonthDayNano) -> Ordering {
        let parts = |value: &IntervalMonthDayNano| (Reverse(value.months), Reverse(value.days));
        let (left_span, right_span) = (Interval::from_arrow(*left).span(), Interval::from_arrow(*right).span());
        left_span.cmp(&right_span).then_with(|| parts(left).cmp(&parts(right)))
    }

    fn write(values: &[Option<IntervalMonthDayNano>], _: &DataType) -> ArrayRef {
        Arc::new(IntervalMonthDayNanoArray::from_iter(values.iter().copied()))
    }

    fn heap_bytes(_: &IntervalMonthDayNano) -> usize {
        0
    }
}

impl Storage for Texts {
    type Value = Box<str>;

    fn read(array: &ArrayRef, row: usize) -> Box<str> {
        array.as_string::<i32>().value(row).into()
    }

    fn compare(left: &Box<str>, right: &Box<str>) -> Ordering {
        left.cmp(right)
    }

    fn write(values: &[Option<Box<str>>], _: &DataType) -> ArrayRef {
        Arc::new(values.iter().map(|value| value.as_deref()).collect::<StringArray>())
    }

    fn heap_bytes(value: &Box<str>) -> usize {
        value.len()
    }
}

impl Storage for Bytes {
    type Value = Box<[u8]>;

    fn read(array: &ArrayRef, row: usize) -> Box<[u8]> {
        array.as_binary::<i32>().value(row).into()
    }

    fn compare(left: &Box<[u8]>, right: &Box<[u8]>) -> Ordering {
        left.cmp(right)
    }

    fn write(values: &[Option<Box<[u8]>>], _: &DataType) -> ArrayRef {
        Arc::new(values.iter().map(|value| value.as_deref()).collect::<BinaryArray>())
    }

    fn heap_bytes(value: &Box<[u8]>) -> usize {
        value.len()
    }
}

impl Storage for Numerics {
    type Value = Box<[u8]>;

    fn read(array: &ArrayRef, row: usize) -> Box<[u8]> {
        array.as_binary::<i64>().value(row).into()
    }

    /// Of equal numbers the scale decides, so that the answer does not depend on the order of rows.
    fn compare(left: &Box<[u8]>, right: &Box<[u8]>) -> Ordering {
        numeric::key(left).cmp(numeric::key(right)).then_with(|| left.cmp(right))
    }

    fn write(values: &[Option<Box<[u8]>>], _: &DataType) -> ArrayRef {
        Arc::new(values.iter().map(|value| value.as_deref()).collect::<LargeBinaryArray>())
    }

    fn heap_bytes(value: &Box<[u8]>) -> usize {
        value.len()
    }
}

struct Extreme<S: Storage> {
    best: Vec<Option<S::Value>>,
    wanted: Ordering,
    data_type: DataType,
}

pub(crate) fn make(name: &'static str, shape: &Shape) -> Result<Box<dyn State>, PgError> {
    let data_type = first(&shape.arguments)?.clone();
    let wanted = if name == "max" { Ordering::Greater } else { Ordering::Less };
    fn boxed<S: Storage>(data_type: DataType, wanted: Ordering) -> Result<Box<dyn State>, PgError> {
        Ok(Box::new(Extreme::<S> { best: Vec::new(), wanted, data_type }))
    }
    match &data_type {
        DataType::Int16 => boxed::<Integers<Int16Type>>(data_type, wanted),
        DataType::Int32 => boxed::<Integers<Int32Type>>(data_type, wanted),
        DataType::Int64 => boxed::<Integers<Int64Type>>(data_type, wanted),
        DataType::UInt32 => boxed::<Integers<UInt32Type>>(data_type, wanted),
        DataType::Date32 => boxed::<Integers<Date32Type>>(data_type, wanted),
        DataType::Time64(TimeUnit::Microsecond) => boxed::<Integers<Time64MicrosecondType>>(data_type, wanted),
        DataType::Timestamp(TimeUnit::Microsecond, _) => boxed::<Integers<TimestampMicrosecondType>>(data_type, wanted),
        DataType::Float32 => boxed::<Floats<Float32Type>>(data_type, wanted),
        DataType::Float64 => boxed::<Floats<Float64Type>>(data_type, wanted),
        DataType::Interval(_) => boxed::<Intervals>(data_type, wanted),
        DataType::Utf8 => boxed::<Texts>(data_type, wanted),
        DataType::Binary => boxed::<Bytes>(data_type, wanted),
        DataType::LargeBinary => boxed::<Numerics>(data_type, wanted),
        other => Err(PgError::unsupported(format!("{name} over {other}"))),
    }
}

impl<S: Storage> State for Extreme<S> {
    fn update(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<(), PgError> {
        self.best.resize(group_count, None);
        let Some(values) = values.first() else { return Ok(()) };
        for (row, group) in groups.iter().enumerate() {
            if values.is_null(row) || filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                continue;
            }
            let value = S::read(values, row);
            let best = &mut self.best[*group];
            if best.as_ref().is_none_or(|best| S::compare(&value, best) == self.wanted) {
                *best = Some(value);
            }
        }
        Ok(())
    }

    fn finish(&mut self, group_count: usize) -> Result<ArrayRef, PgError> {
        Ok(S::write(&self.best[..group_count], &self.data_type))
    }

    fn export(&mut self, group_count: usize) -> Result<Vec<ArrayRef>, PgError> {
        Ok(vec![self.finish(group_count)?])
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<(), PgError> {
        self.update(states, groups, None, group_count)
    }

    fn forget(&mut self, group_count: usize) {
        self.best.drain(..group_count);
    }

    fn group_count(&self) -> usize {
        self.best.len()
    }

    fn size_bytes(&self) -> usize {
        self.best.capacity() * size_of::<Option<S::Value>>()
            + self.best.iter().flatten().map(|value| S::heap_bytes(value)).sum::<usize>()
    }
}
