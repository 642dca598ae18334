//! Inner join of two arrangements on their keys.
//!
//! Each new batch of one side meets all of the other: the two are walked side by side by key hash, so the smaller
//! drives. Real keys are compared where hashes meet. Output comes in bounded containers, also from within one key, and
//! only has the columns that the residual filter and the projection read; those two run as a stateless stage after it.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;

use arrow::datatypes::Schema;
use datafusion::logical_expr::Expr;
use differential_dataflow::operators::join::{Fresh, JoinTactic, join_with_tactic};
use plan::dataflow_plan::{DataflowPlan, NodeId, Operator, positional_schema};
use repr::{Diff, Lane, Timestamp};

use super::Rows;
use super::group::{Picked, Place};
use crate::DataflowError;
use crate::arrange::{ArrangedRows, Batch};
use crate::chunk::Column;
use crate::cursor::Cursor;
use crate::expression::{RowFunction, columns_read};
use crate::updates::Updates;

/// Most rows of an output container.
const OUTPUT_ROWS_MAX: usize = 16 * 1024;

/// The key by which a join's input node is arranged.
pub(crate) fn arranged_key(plan: &DataflowPlan, id: NodeId) -> Result<&[usize], DataflowError> {
    match &plan.nodes[id].operator {
        Operator::Arrange { key, .. } | Operator::Import { key, .. } => Ok(key),
        _ => Err(DataflowError::InvalidPlan(format!("node {id} is joined but not arranged"))),
    }
}

/// What a join produces, compiled.
pub(crate) struct JoinFunction {
    /// The columns of either side that are produced.
    columns: [Vec<usize>; 2],
    keys: [Vec<usize>; 2],
    /// Filter and projection over the produced columns.
    function: RowFunction,
}

impl JoinFunction {
    /// The `Join` or `HalfJoin` at node `id`.
    pub(crate) fn new(plan: &DataflowPlan, id: NodeId) -> Result<JoinFunction, DataflowError> {
        match &plan.nodes[id].operator {
            Operator::Join { left, right, filter, columns, .. } => {
                let keys = [arranged_key(plan, *left)?, arranged_key(plan, *right)?];
                JoinFunction::over(plan, id, [*left, *right], keys, filter, columns)
            }
            Operator::HalfJoin { input, key, arranged, filter, columns, .. } => {
                let keys = [key, arranged_key(plan, *arranged)?];
                JoinFunction::over(plan, id, [*input, *arranged], keys, filter, columns)
            }
            _ => Err(DataflowError::InvalidPlan(format!("node {id} is no join"))),
        }
    }

    /// `filter` and `columns` read left columns followed by right ones.
    fn over(
        plan: &DataflowPlan,
        id: NodeId,
        sides: [NodeId; 2],
        keys: [&[usize]; 2],
        filter: &[Expr],
        columns: &[Expr],
    ) -> Result<JoinFunction, DataflowError> {
        let schemas = sides.map(|side| &plan.nodes[side].schema);
        let keys = keys.map(<[usize]>::to_vec);
        let type_of =
            |schema: &Schema, column: usize| schema.fields().get(column).map(|field| field.data_type().clone());
        let key_types =
            |side: usize| keys[side].iter().map(|column| type_of(schemas[side], *column)).collect::<Vec<_>>();
        if key_types(0) != key_types(1) || key_types(0).contains(&None) {
            return Err(DataflowError::InvalidPlan(format!("node {id} joins keys of different types")));
        }
        let types = schemas.iter().flat_map(|schema| schema.fields().iter().map(|field| field.data_type().clone()));
        let joined = positional_schema(types);
        let read = columns_read(filter.iter().chain(columns), &joined)?;
        let produced = joined.project(&read).map_err(|error| DataflowError::InvalidPlan(error.to_string()))?;
        let width = schemas[0].fields().len();
        let split = read.partition_point(|column| *column < width);
        let function =
            RowFunction::new(&format!("Join {id}"), &produced.into(), filter, columns, &plan.nodes[id].schema)?;
        let right = read[split..].iter().map(|column| column - width).collect();
        Ok(JoinFunction { columns: [read[..split].to_vec(), right], keys, function })
    }

    /// What pairs rows, and the stage after it.
    pub(crate) fn split(self, null_equal: bool, meets: Meets) -> (Shape, RowFunction) {
        let JoinFunction { columns, keys, function } = self;
        (Shape { columns, keys, null_equal, meets }, function)
    }
}

/// Which rows of the right side a row of the left side meets, besides that their keys agree.
#[derive(Clone, Copy)]
pub(crate) enum Meets {
    /// All of them.
    All,
    /// Those that were there at its time.
    UpToNow,
    /// Those that were there before its time.
    Earlier,
}

impl Meets {
    #[inline(always)]
    fn admits(self, left: Timestamp, right: Timestamp) -> bool {
        match self {
            Meets::All => true,
            Meets::UpToNow => right <= left,
            Meets::Earlier => right < left,
        }
    }

    /// What times of the right side may be moved up to, if no row of the left side is earlier than `first`.
    pub(crate) fn floor(self, first: Timestamp) -> Timestamp {
        match self {
            Meets::All | Meets::UpToNow => first,
            Meets::Earlier => first.saturating_sub(1),
        }
    }
}

/// The joined rows, and the stage that is still to run over them.
pub(crate) fn render<'scope>(
    left: ArrangedRows<'scope>,
    right: ArrangedRows<'scope>,
    function: JoinFunction,
    null_equal: bool,
    as_of: Timestamp,
) -> (Rows<'scope>, RowFunction) {
    let (shape, function) = function.split(null_equal, Meets::All);
    let tactic = Join { shape: Rc::new(shape), as_of };
    (join_with_tactic(left, right, "Join", tactic), function)
}

/// How rows are paired, and what is produced of them.
pub(crate) struct Shape {
    columns: [Vec<usize>; 2],
    keys: [Vec<usize>; 2],
    null_equal: bool,
    pub(crate) meets: Meets,
}

struct Join {
    shape: Rc<Shape>,
    as_of: Timestamp,
}

impl JoinTactic<Timestamp, Batch, Batch, Updates> for Join {
    fn prep(
        &mut self,
        left: Vec<Batch>,
        right: Vec<Batch>,
        fresh: Fresh,
        meet: Timestamp,
    ) -> Box<dyn Iterator<Item = Updates>> {
        let fresh = matches!(fresh, Fresh::Input1) as usize;
        Box::new(Work::new(self.shape.clone(), [left, right], fresh, meet.max(self.as_of)))
    }
}

/// A row of one side.
#[derive(Clone, Copy)]
struct Drawn {
    source: (usize, usize),
    hash: u64,
    time: Timestamp,
    diff: Diff,
    place: Place,
}

/// Every row of `left` with every row of `right`, from `next` on.
struct Product {
    left: Vec<Drawn>,
    right: Vec<Drawn>,
    next: (usize, usize),
}

struct Side {
    cursor: Cursor,
    picked: Picked,
}

impl Side {
    fn new(batches: Vec<Batch>) -> Side {
        Side { picked: Picked::default(), cursor: Cursor::new(batches) }
    }

    /// Takes the rows of key hash `key` into `rows`, with times no earlier than `floor`, and moves past them.
    fn draw(&mut self, key: u64, floor: Timestamp, rows: &mut Vec<Drawn>) {
        rows.clear();
        let mut retracts = false;
        for index in 0..self.cursor.batches.len() {
            let batch = &self.cursor.batches[index];
            let at = &mut self.cursor.positions[index];
            while at.key(&batch.chunks) == Some(key) {
                let chunk = &batch.chunks[at.chunk];
                let place = Place { batch: index as u32, chunk: at.chunk as u32, row: at.row as u32 };
                let diff = chunk.diff(at.row);
                retracts |= diff < 0;
                rows.push(Drawn {
                    source: self.picked.locate(&self.cursor.batches, place),
                    hash: chunk.row_hash(at.row),
                    time: chunk.time(at.row).max(floor),
                    diff,
                    place,
                });
                at.step(&batch.chunks);
            }
        }
        // Rows that came and went before the floor would only produce changes that cancel.
        if retracts && rows.len() > 1 {
            rows.sort_unstable_by_key(|row| (row.hash, row.time));
            rows.dedup_by(|row, kept| {
                let same = (row.hash, row.time) == (kept.hash, kept.time);
                if same {
                    kept.diff += row.diff;
                }
                same
            });
            rows.retain(|row| row.diff != 0);
        }
    }

    fn key<'a>(&'a self, row: &Drawn, columns: &'a [usize]) -> impl Iterator<Item = (&'a Column, usize)> {
        let place = row.place;
        columns.iter().map(move |column| place.value(&self.cursor.batches, *column))
    }
}

/// The join of one batch with the other side, as far as it has come.
pub(crate) struct Work {
    shape: Rc<Shape>,
    sides: [Side; 2],
    /// The side that the new batch is of, likely the smaller.
    fresh: usize,
    /// The rows of the key at hand.
    drawn: [Vec<Drawn>; 2],
    floor: Timestamp,
    products: VecDeque<Product>,
    times: Vec<Timestamp>,
    diffs: Vec<Diff>,
}

impl Iterator for Work {
    type Item = Updates;

    fn next(&mut self) -> Option<Updates> {
        while self.times.len() < OUTPUT_ROWS_MAX {
            let [left, right] = &mut self.sides;
            match self.products.front_mut() {
                Some(product) => {
                    let picked = [&mut left.picked, &mut right.picked];
                    if product.emit(self.shape.meets, picked, &mut self.times, &mut self.diffs) {
                        self.products.pop_front();
                    }
                }
                None => {
                    if !self.meet() {
                        break;
                    }
                }
            }
        }
        if self.times.is_empty() {
            return None;
        }
        let times = Lane::Values(std::mem::take(&mut self.times)).compress();
        let diffs = Lane::Values(std::mem::take(&mut self.diffs)).compress();
        let sides = self.sides.iter().zip(&self.shape.columns);
        let columns =
            sides.flat_map(|(side, columns)| columns.iter().map(|column| side.picked.column(*column))).collect();
        for side in &mut self.sides {
            // Rows of an unfinished product still point at the sources.
            if self.products.is_empty() { side.picked.clear() } else { side.picked.rows.clear() }
        }
        Some(Updates::new(columns, times, diffs))
    }
}

impl Work {
    /// All of both sides; `fresh` is the one likely to have fewer rows, and times before `floor` count as `floor`.
    pub(crate) fn new(shape: Rc<Shape>, sides: [Vec<Batch>; 2], fresh: usize, floor: Timestamp) -> Work {
        Work {
            shape,
            sides: sides.map(Side::new),
            fresh,
            drawn: [Vec::new(), Vec::new()],
            floor,
            products: VecDeque::new(),
            times: Vec::new(),
            diffs: Vec::new(),
        }
    }

    /// Moves to the next key hash that both sides have and puts out or sets aside its pairs; false at the end.
    fn meet(&mut self) -> bool {
        let [left, right] = &mut self.sides;
        let key = loop {
            let (Some(a), Some(b)) = (left.cursor.key(), right.cursor.key()) else { return false };
            match a.cmp(&b) {
                Ordering::Less => left.cursor.seek(b),
                Ordering::Greater => right.cursor.seek(a),
                Ordering::Equal => break a,
            }
        };
        // NULLs may be many on the other side: they are not even looked at where the fresh side has nothing else.
        let (fresh, other) = (self.fresh, 1 - self.fresh);
        self.draw(fresh, key);
        if !self.drawn[fresh].is_empty() || key == u64::MAX {
            self.draw(other, key);
            self.pair();
        } else {
            self.sides[other].cursor.seek(key + 1);
        }
        true
    }

    /// Draws the rows of one side that can have a match.
    fn draw(&mut self, side: usize, key: u64) {
        let mut rows = std::mem::take(&mut self.drawn[side]);
        self.sides[side].draw(key, self.floor, &mut rows);
        if !self.shape.null_equal {
            let columns = &self.shape.keys[side];
            rows.retain(|row| self.sides[side].key(row, columns).all(|(column, row)| !column.is_null(row)));
        }
        self.drawn[side] = rows;
    }

    /// Makes products of drawn rows that agree on the key itself. Nearly always that is one product of all, and a small
    /// one.
    fn pair(&mut self) {
        let [left, right] = &self.drawn;
        let Some(sample) = left.first().copied() else { return };
        let uniform = left[1..].iter().all(|row| self.agree(&sample, 0, row))
            && right.iter().all(|row| self.agree(&sample, 1, row));
        if uniform && self.times.len() + left.len() * right.len() <= OUTPUT_ROWS_MAX {
            let [left_side, right_side] = &mut self.sides;
            let meets = self.shape.meets;
            for a in left {
                for b in right.iter().filter(|b| meets.admits(a.time, b.time)) {
                    left_side.picked.rows.push(a.source);
                    right_side.picked.rows.push(b.source);
                    self.times.push(a.time.max(b.time));
                    self.diffs.push(a.diff * b.diff);
                }
            }
            return;
        }
        let [mut left, mut right] = std::mem::take(&mut self.drawn);
        while !left.is_empty() && !right.is_empty() {
            let sample = left[0];
            let (same_left, rest_left) = split(left, |row| self.agree(&sample, 0, row));
            let (same_right, rest_right) = split(right, |row| self.agree(&sample, 1, row));
            if !same_right.is_empty() {
                self.products.push_back(Product { left: same_left, right: same_right, next: (0, 0) });
            }
            (left, right) = (rest_left, rest_right);
        }
    }

    /// Whether a row of `side` has the key of `sample`, a row of the left side.
    fn agree(&self, sample: &Drawn, side: usize, row: &Drawn) -> bool {
        let keys =
            self.sides[0].key(sample, &self.shape.keys[0]).zip(self.sides[side].key(row, &self.shape.keys[side]));
        keys.into_iter().all(|((a, i), (b, j))| a.compare(i, b, j, false, false).is_eq())
    }
}

/// Rows that satisfy the condition, and the others.
fn split(rows: Vec<Drawn>, condition: impl Fn(&Drawn) -> bool) -> (Vec<Drawn>, Vec<Drawn>) {
    if rows.iter().all(&condition) { (rows, Vec::new()) } else { rows.into_iter().partition(condition) }
}

impl Product {
    /// Appends pairs until the container is full; true when all are out.
    fn emit(
        &mut self,
        meets: Meets,
        [left, right]: [&mut Picked; 2],
        times: &mut Vec<Timestamp>,
        diffs: &mut Vec<Diff>,
    ) -> bool {
        let (mut i, mut j) = self.next;
        while i < self.left.len() {
            let a = &self.left[i];
            while j < self.right.len() {
                if times.len() >= OUTPUT_ROWS_MAX {
                    self.next = (i, j);
                    return false;
                }
                let b = &self.right[j];
                j += 1;
                if !meets.admits(a.time, b.time) {
                    continue;
                }
                left.rows.push(a.source);
                right.rows.push(b.source);
                times.push(a.time.max(b.time));
                diffs.push(a.diff * b.diff);
            }
            (i, j) = (i + 1, 0);
        }
        true
    }
}
