//! What a sequence is declared as. Where it stands is not a definition: it moves without the catalog.

use std::fmt;
use std::sync::LazyLock;

use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlType};

/// `CREATE SEQUENCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// `smallint`, `integer` or `bigint`.
    pub data_type: SqlType,
    /// The first number.
    pub start: i64,
    /// From one number to the next; negative goes down, never 0.
    pub increment: i64,
    /// The least number.
    pub min: i64,
    /// The greatest number.
    pub max: i64,
    /// As it was said; numbers are given out one by one.
    pub cache: i64,
    /// Whether it starts again behind the last number.
    pub cycle: bool,
    /// The table and the number of the column that it goes with.
    pub owned_by: Option<(ObjectId, i16)>,
}

/// Where a sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number given out last, or the one to give out first.
    pub last_value: i64,
    /// Whether `last_value` has been given out.
    pub is_called: bool,
}

impl Sequence {
    /// Where it stands when it is made.
    pub fn first(&self) -> Position {
        Position { last_value: self.start, is_called: false }
    }

    /// The number after `position`; None behind the last one.
    pub fn next(&self, position: Position) -> Option<i64> {
        if !position.is_called {
            return Some(position.last_value);
        }
        let next = position.last_value.checked_add(self.increment);
        match next.filter(|next| (self.min..=self.max).contains(next)) {
            Some(next) => Some(next),
            None if self.cycle => Some(if self.increment > 0 { self.min } else { self.max }),
            None => None,
        }
    }

    /// The columns that SELECT from a sequence has.
    pub(crate) fn relation_schema() -> &'static RelationSchema {
        static SCHEMA: LazyLock<RelationSchema> = LazyLock::new(|| {
            RelationSchema::new(vec![
                ColumnSchema::new("last_value", SqlType::Int8).not_null(),
                ColumnSchema::new("log_cnt", SqlType::Int8).not_null(),
                ColumnSchema::new("is_called", SqlType::Bool).not_null(),
            ])
        });
        &SCHEMA
    }
}

/// The sequences as one session sees them: what `nextval` and its kin call.
pub trait SequenceAccess: fmt::Debug + Send + Sync {
    /// Gives out the next number. Errors: `2200H` behind the last one, storage's.
    fn next(&self, oid: u32, sequence: &Sequence) -> Result<i64, PgError>;
    /// The number that this session was given last, from one sequence or, without one, from any.
    fn current(&self, oid: Option<u32>) -> Option<i64>;
    /// Moves it. Errors: storage's.
    fn set(&self, oid: u32, sequence: &Sequence, position: Position) -> Result<(), PgError>;
    /// Where it stands.
    fn position(&self, oid: u32, sequence: &Sequence) -> Position;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_or_down_to_the_end_and_around_where_they_may() {
        let up = Sequence {
            data_type: SqlType::Int8,
            start: 8,
            increment: 2,
            min: 1,
            max: 11,
            cache: 1,
            cycle: false,
            owned_by: None,
        };
        let all = |sequence: &Sequence| {
            let mut position = sequence.first();
            let numbers = std::iter::from_fn(|| {
                let next = sequence.next(position)?;
                position = Position { last_value: next, is_called: true };
                Some(next)
            });
            numbers.take(5).collect::<Vec<i64>>()
        };
        assert_eq!(all(&up), [8, 10]);
        assert_eq!(all(&Sequence { cycle: true, ..up.clone() }), [8, 10, 1, 3, 5]);
        let down = Sequence { increment: -4, cycle: true, ..up.clone() };
        assert_eq!(all(&down), [8, 4, 11, 7, 3]);
        let last = Sequence { start: i64::MAX, max: i64::MAX, increment: 1, ..up };
        assert_eq!(all(&last), [i64::MAX]);
    }
}
