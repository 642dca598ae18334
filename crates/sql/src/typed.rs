//! An expression with the SQL type the binder gave it.
//!
//! A plan knows Arrow types only, and several SQL types share one (text and varchar, oid and regclass), so the SQL type and
//! its modifier travel beside the expression until the statement is bound.

use datafusion::logical_expr::Expr;
use repr::SqlType;

/// A bound expression: names, operators and casts are all resolved, and `expr` yields `sql_type.arrow()`.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedExpr {
    /// What is evaluated.
    pub expr: Expr,
    /// What SQL calls its type; [`SqlType::Unknown`] for a quoted literal or NULL whose type the context decides.
    pub sql_type: SqlType,
    /// PostgreSQL's type modifier as in `pg_attribute.atttypmod`; -1 is none.
    pub typmod: i32,
}

impl TypedExpr {
    /// An expression without a type modifier.
    pub fn new(expr: Expr, sql_type: SqlType) -> TypedExpr {
        TypedExpr { expr, sql_type, typmod: -1 }
    }

    /// An `int2vector` or `oidvector` as the array that it is stored as; any other value as it is.
    pub fn vector_as_array(self) -> TypedExpr {
        match self.sql_type.element().cloned() {
            Some(element) => TypedExpr { sql_type: SqlType::Array(Box::new(element)), ..self },
            None => self,
        }
    }

    /// Whether this is a quoted literal, NULL or parameter that takes its type from the context.
    pub fn is_unknown(&self) -> bool {
        self.sql_type == SqlType::Unknown
    }
}
