//! Rows gathered from batches and put in the window's order, every copy by itself.

use std::ops::Range;

use arrow::array::{ArrayRef, UInt32Array};

use super::function::Functions;
use crate::arrange::Batch;
use crate::render::group::{Live, Picked};
use crate::updates::take_rows;

/// Segments of rows, one after the other, each sorted.
pub(super) struct Sorted {
    /// The columns that the functions read.
    pub(super) columns: Vec<ArrayRef>,
    /// Of each segment, where its copies are in the columns.
    pub(super) bounds: Vec<Range<usize>>,
    /// Of each row, where its first copy is; the others follow.
    pub(super) starts: Vec<u32>,
    /// Of each segment, the first of its rows in order.
    pub(super) firsts: Vec<Option<usize>>,
}

impl Sorted {
    /// Segments are ranges of `rows` that follow one another. Rows that are equal in order stay as they are.
    pub(super) fn new(functions: &Functions, batches: &[Batch], rows: &[Live], segments: &[Range<usize>]) -> Sorted {
        // What came and went within one interval: there is nothing to take columns from.
        if rows.is_empty() {
            let (bounds, firsts) = (vec![0..0; segments.len()], vec![None; segments.len()]);
            return Sorted { columns: Vec::new(), bounds, starts: Vec::new(), firsts };
        }
        let mut picked = Picked::default();
        let mut locations = Vec::with_capacity(rows.len());
        for row in rows {
            locations.push(picked.locate(batches, row.place));
        }
        picked.rows = locations;
        let columns: Vec<ArrayRef> = functions.columns().iter().map(|column| picked.column(*column)).collect();
        let order = functions.sorted(&columns, rows.len(), segments);
        let mut copies: Vec<u32> = Vec::with_capacity(order.len());
        let mut starts = vec![0; rows.len()];
        let mut bounds = Vec::with_capacity(segments.len());
        let mut firsts = Vec::with_capacity(segments.len());
        for segment in segments {
            let start = copies.len();
            for row in &order[segment.clone()] {
                starts[*row as usize] = copies.len() as u32;
                copies.extend(std::iter::repeat_n(*row, rows[*row as usize].count as usize));
            }
            bounds.push(start..copies.len());
            firsts.push(copies.get(start).map(|row| *row as usize));
        }
        let copies = UInt32Array::from(copies);
        let columns = columns.iter().map(|column| take_rows(column, &copies)).collect();
        Sorted { columns, bounds, starts, firsts }
    }
}
