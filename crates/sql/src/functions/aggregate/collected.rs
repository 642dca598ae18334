//! Aggregates that keep their rows: array_agg, string_agg, single_value, those of [`whole`], and DISTINCT around any aggregate.
//!
//! Rows that ORDER BY leaves open, all of them without one, are ordered by their values: the answer then depends on the
//! rows alone, not on how they came, and is the same from a view.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortColumn, SortOptions, concat, interleave, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};
use repr::{PgError, SqlState};

use super::{MakeState, Shape, State, whole};

fn internal(error: arrow::error::ArrowError) -> PgError {
    PgError::internal(error.to_string())
}

/// An exported state of [`Collected`]: a list of each column's values.
pub(crate) fn state_types(
    _name: &'static str,
    arguments: &[DataType],
    _result: &DataType,
) -> Result<Vec<DataType>, PgError> {
    Ok(arguments.iter().map(|argument| DataType::new_list(argument.clone(), true)).collect())
}

/// The rows of all groups, as batches and the places in them of each group's rows.
pub(crate) struct Collected {
    name: &'static str,
    shape: Shape,
    batches: Vec<Vec<ArrayRef>>,
    places: Vec<Vec<(usize, usize)>>,
}

impl Collected {
    pub(crate) fn boxed(name: &'static str, shape: &Shape) -> Result<Box<dyn State>, PgError> {
        Ok(Box::new(Collected { name, shape: shape.clone(), batches: Vec::new(), places: Vec::new() }))
    }

    fn column_types(&self) -> impl Iterator<Item = &DataType> {
        self.shape.arguments.iter().chain(self.shape.order.iter().map(|(data_type, _)| data_type))
    }

    /// A group's rows in the order they are aggregated.
    fn rows_of(&self, group: usize) -> Result<Vec<ArrayRef>, PgError> {
        let places = &self.places[group];
        let mut columns = Vec::new();
        for (index, data_type) in self.column_types().enumerate() {
            if places.is_empty() {
                columns.push(new_empty_array(data_type));
                continue;
            }
            let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch[index].as_ref()).collect();
            columns.push(interleave(&arrays, places).map_err(internal)?);
        }
        sorted(columns, &self.shape)
    }
}

/// An array of lists; None is NULL.
pub(super) fn list(lists: Vec<Option<ArrayRef>>, data_type: &DataType) -> Result<ArrayRef, PgError> {
    let lengths = lists.iter().map(|list| list.as_ref().map_or(0, |list| list.len()));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls: NullBuffer = lists.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    let present: Vec<&dyn Array> = lists.iter().flatten().map(|list| list.as_ref()).collect();
    let values = if present.is_empty() { new_empty_array(data_type) } else { concat(&present).map_err(internal)? };
    let field = Arc::new(Field::new_list_field(data_type.clone(), true));
    Ok(Arc::new(ListArray::new(field, offsets, values, Some(nulls))))
}

/// Rows by what ORDER BY named, which are the columns after the arguments, then by the arguments.
fn sorted(columns: Vec<ArrayRef>, shape: &Shape) -> Result<Vec<ArrayRef>, PgError> {
    if shape.in_frame || columns.iter().any(|column| column.len() < 2) {
        return Ok(columns);
    }
    let (arguments, ordering) = columns.split_at(shape.arguments.len());
    let named = ordering.iter().zip(shape.order.iter().map(|(_, options)| *options));
    let open = arguments.iter().map(|column| (column, SortOptions { descending: false, nulls_first: false }));
    let keys: Vec<SortColumn> = named
        .chain(open)
        .map(|(column, options)| SortColumn { values: Arc::clone(column), options: Some(options) })
        .collect();
    let order = lexsort_to_indices(&keys, None).map_err(internal)?;
    columns.iter().map(|column| take(column, &order, None).map_err(internal)).collect()
}

impl State for Collected {
    fn update(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<(), PgError> {
        self.places.resize(group_count, Vec::new());
        let batch = self.batches.len();
        for (row, group) in groups.iter().enumerate() {
            if filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                self.places[*group].push((batch, row));
            }
        }
        if !groups.is_empty() {
            self.batches.push(values.to_vec());
        }
        Ok(())
    }

    fn finish(&mut self, group_count: usize) -> Result<ArrayRef, PgError> {
        match self.name {
            "array_agg" => {
                let mut lists = Vec::with_capacity(group_count);
                for group in 0..group_count {
                    let some = !self.places[group].is_empty();
                    lists.push(if some { self.rows_of(group)?.into_iter().next() } else { None });
                }
                list(lists, &self.shape.arguments[0])
            }
            "single_value" => {
                let mut values = Vec::with_capacity(group_count);
                for group in 0..group_count {
                    values.push(match self.places[group].len() {
                        0 => new_null_array(&self.shape.arguments[0], 1),
                        1 => self.rows_of(group)?.swap_remove(0),
                        _ => {
                            return Err(PgError::new(
                                SqlState::CARDINALITY_VIOLATION,
                                "more than one row returned by a subquery used as an expression",
                            ));
                        }
                    });
                }
                let values: Vec<&dyn Array> = values.iter().map(|value| value.as_ref()).collect();
                if values.is_empty() {
                    return Ok(new_empty_array(&self.shape.arguments[0]));
                }
                concat(&values).map_err(internal)
            }
            "string_agg" => {
                let mut builder = StringBuilder::new();
                for group in 0..group_count {
                    let rows = self.rows_of(group)?;
                    let (texts, separators) = (rows[0].as_string::<i32>(), rows[1].as_string::<i32>());
                    let mut joined: Option<String> = None;
                    for row in (0..texts.len()).filter(|row| texts.is_valid(*row)) {
                        match &mut joined {
                            None => joined = Some(texts.value(row).to_string()),
                            Some(joined) => {
                                // Each value brings the separator that stands before it.
                                if separators.is_valid(row) {
                                    joined.push_str(separators.value(row));
                                }
                                joined.push_str(texts.value(row));
                            }
                        }
                    }
                    builder.append_option(joined);
                }
                Ok(Arc::new(builder.finish()))
            }
            name => {
                let answer = |group: usize| whole::answer(name, &self.shape, &self.rows_of(group)?);
                let answers = (0..group_count).map(answer).collect::<Result<Vec<_>, _>>()?;
                let answers: Vec<&dyn Array> = answers.iter().map(|answer| answer.as_ref()).collect();
                match answers.is_empty() {
                    true => Ok(new_empty_array(&whole::result_type(name, &self.shape.arguments)?)),
                    false => concat(&answers).map_err(internal),
                }
            }
        }
    }

    fn export(&mut self, group_count: usize) -> Result<Vec<ArrayRef>, PgError> {
        let types: Vec<DataType> = self.column_types().cloned().collect();
        let mut columns: Vec<Vec<Option<ArrayRef>>> = vec![Vec::with_capacity(group_count); types.len()];
        for group in 0..group_count {
            for (column, values) in columns.iter_mut().zip(self.rows_of(group)?) {
                column.push(Some(values));
            }
        }
        columns.into_iter().zip(&types).map(|(lists, data_type)| list(lists, data_type)).collect()
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<(), PgError> {
        self.places.resize(group_count, Vec::new());
        let Some(leading) = states.first() else { return Ok(()) };
        let offsets = leading.as_list::<i32>().value_offsets();
        let batch = self.batches.len();
        for (row, group) in groups.iter().enumerate() {
            self.places[*group].extend((offsets[row]..offsets[row + 1]).map(|place| (batch, place as usize)));
        }
        self.batches.push(states.iter().map(|state| Arc::clone(state.as_list::<i32>().values())).collect());
        Ok(())
    }

    fn forget(&mut self, group_count: usize) {
        self.places.drain(..group_count);
        if self.places.is_empty() {
            self.batches.clear();
        }
    }

    fn group_count(&self) -> usize {
        self.places.len()
    }

    fn size_bytes(&self) -> usize {
        let rows: usize = self.batches.iter().flatten().map(|column| column.get_array_memory_size()).sum();
        rows + self.places.iter().map(|places| places.capacity() * 16).sum::<usize>()
    }
}

/// An exported state of [`Distinct`]: a list of rows in Arrow's row format.
pub(crate) fn set_type() -> DataType {
    DataType::new_list(DataType::Binary, true)
}

/// Each group's set of rows, aggregated when the answer is asked for.
pub(crate) struct Distinct {
    name: &'static str,
    make: MakeState,
    shape: Shape,
    converter: RowConverter,
    sets: Vec<HashSet<Box<[u8]>, foldhash::fast::RandomState>>,
    bytes: usize,
}

impl Distinct {
    pub(crate) fn new(shape: Shape, name: &'static str, make: MakeState) -> Result<Distinct, PgError> {
        let order = shape.order.iter().map(|(data_type, _)| data_type);
        let fields = shape.arguments.iter().chain(order).map(|data_type| SortField::new(data_type.clone())).collect();
        let converter = RowConverter::new(fields).map_err(internal)?;
        Ok(Distinct { name, make, shape, converter, sets: Vec::new(), bytes: 0 })
    }

    fn insert(&mut self, group: usize, row: &[u8]) {
        if !self.sets[group].contains(row) {
            self.bytes += row.len() + 24;
            self.sets[group].insert(row.into());
        }
    }
}

impl State for Distinct {
    fn update(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<(), PgError> {
        self.sets.resize_with(group_count, HashSet::default);
        if values.is_empty() {
            return Ok(());
        }
        let rows = self.converter.convert_columns(values).map_err(internal)?;
        for (row, group) in groups.iter().enumerate() {
            if filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                self.insert(*group, rows.row(row).as_ref());
            }
        }
        Ok(())
    }

    fn finish(&mut self, group_count: usize) -> Result<ArrayRef, PgError> {
        let shape = Shape { distinct: false, ..self.shape.clone() };
        let mut state = (self.make)(self.name, &shape)?;
        let parser = self.converter.parser();
        let mut groups = Vec::new();
        let mut rows = Vec::new();
        for (group, set) in self.sets[..group_count].iter().enumerate() {
            // Sorted, so that the answer does not depend on how rows hash.
            let mut members: Vec<&Box<[u8]>> = set.iter().collect();
            members.sort_unstable();
            groups.extend(std::iter::repeat_n(group, members.len()));
            rows.extend(members.into_iter().map(|row| parser.parse(row)));
        }
        let columns = self.converter.convert_rows(rows).map_err(internal)?;
        state.update(&columns, &groups, None, group_count)?;
        state.finish(group_count)
    }

    fn export(&mut self, group_count: usize) -> Result<Vec<ArrayRef>, PgError> {
        let mut builder = ListBuilder::new(BinaryBuilder::new());
        for set in &self.sets[..group_count] {
            set.iter().for_each(|row| builder.values().append_value(row));
            builder.append(true);
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<(), PgError> {
        self.sets.resize_with(group_count, HashSet::default);
        let Some(states) = states.first() else { return Ok(()) };
        let states = states.as_list::<i32>();
        let rows = states.values().as_binary::<i32>();
        for (row, group) in groups.iter().enumerate() {
            for place in states.value_offsets()[row]..states.value_offsets()[row + 1] {
                self.insert(*group, rows.value(place as usize));
            }
        }
        Ok(())
    }

    fn forget(&mut self, group_count: usize) {
        let forgotten: usize = self.sets.drain(..group_count).flatten().map(|row| row.len() + 24).sum();
        self.bytes = self.bytes.saturating_sub(forgotten);
    }

    fn group_count(&self) -> usize {
        self.sets.len()
    }

    fn size_bytes(&self) -> usize {
        self.bytes + self.sets.capacity() * 48
    }
}
