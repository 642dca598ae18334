//! CHECK and FOREIGN KEY: what a table's rows are held to. Keys are indexes, see [`crate::Uniqueness`].

use repr::ObjectId;

/// A constraint of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// The table whose rows it holds.
    pub table: ObjectId,
    /// What it holds them to.
    pub kind: ConstraintKind,
}

/// What a constraint demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// The expression, as SQL text over the table's columns, is not false.
    Check {
        /// Without the parentheses around it.
        expression: String,
    },
    /// The columns are NULL or a key of another table.
    ForeignKey(ForeignKey),
}

/// `FOREIGN KEY (..) REFERENCES ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Indexes of the table's columns.
    pub columns: Vec<usize>,
    /// The table referred to.
    pub referenced: ObjectId,
    /// The unique index of the table referred to.
    pub key: ObjectId,
    /// Indexes of its columns, as many as `columns`.
    pub referenced_columns: Vec<usize>,
    /// What a change of a key that is referred to does.
    pub on_update: ReferentialAction,
    /// What the loss of one does.
    pub on_delete: ReferentialAction,
    /// `MATCH FULL`: all columns are NULL or none is. Otherwise one that is NULL is enough.
    pub match_full: bool,
    /// Whether `SET CONSTRAINTS` may put the check off.
    pub deferrable: bool,
    /// Whether it is checked at COMMIT unless said otherwise.
    pub initially_deferred: bool,
}

/// What happens to rows that refer to a key which changes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferentialAction {
    /// An error, if at the end there are still any.
    NoAction,
    /// An error.
    Restrict,
    /// They change or go with it.
    Cascade,
    /// They no longer refer to anything.
    SetNull,
    /// They refer to what their columns' DEFAULTs say.
    SetDefault,
}

impl ReferentialAction {
    /// As `pg_constraint` writes it.
    pub fn code(self) -> &'static str {
        match self {
            ReferentialAction::NoAction => "a",
            ReferentialAction::Restrict => "r",
            ReferentialAction::Cascade => "c",
            ReferentialAction::SetNull => "n",
            ReferentialAction::SetDefault => "d",
        }
    }

    /// As SQL writes it.
    pub fn sql(self) -> &'static str {
        match self {
            ReferentialAction::NoAction => "NO ACTION",
            ReferentialAction::Restrict => "RESTRICT",
            ReferentialAction::Cascade => "CASCADE",
            ReferentialAction::SetNull => "SET NULL",
            ReferentialAction::SetDefault => "SET DEFAULT",
        }
    }
}
