//! Where WITH RECURSIVE may name itself: PostgreSQL's rules, with its messages.
//!
//! Once, in the right part of a UNION, where each row comes from one row of the query: not in a subquery of an expression, not on
//! a side of an outer join that may be missing, not where EXCEPT or INTERSECT take rows away. (Of these PostgreSQL minds INTERSECT
//! with ALL only.)

use std::ops::ControlFlow;

use repr::{PgError, SqlState};
use sqlparser::ast::{
    Cte, Expr, JoinConstraint, JoinOperator, LimitClause, ObjectName, Query, Select, SetExpr, SetOperator,
    SetQuantifier, TableFactor, TableWithJoins, Visit, Visitor,
};

use crate::bind::scope::fold;
use crate::functions::is_aggregate;

/// Whether a query that may see itself does.
pub(crate) fn is_recursive(cte: &Cte) -> bool {
    names(cte.query.as_ref(), &fold(&cte.alias.name))
}

/// Errors: `0A000` for queries that read each other.
pub(crate) fn check_acyclic(ctes: &[Cte]) -> Result<(), PgError> {
    let reads = |reader: &Cte, read: &Cte| names(reader.query.as_ref(), &fold(&read.alias.name));
    for index in 0..ctes.len() {
        // The query, what it reads, what that reads, and so on.
        let mut found: Vec<usize> = vec![index];
        let mut at = 0;
        while let Some(reader) = found.get(at).map(|reader| &ctes[*reader]) {
            for (other, read) in ctes.iter().enumerate() {
                if at > 0 && other == index && reads(reader, read) {
                    let message = "mutual recursion between WITH items is not implemented";
                    return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                        .with_hint("Use WITH MUTUALLY RECURSIVE."));
                }
                if !found.contains(&other) && reads(reader, read) {
                    found.push(other);
                }
            }
            at += 1;
        }
    }
    Ok(())
}

/// The two parts of a recursive query. Errors: `42P19` where it is not of the form that PostgreSQL wants, `0A000` for what it
/// does not do either.
pub(crate) fn parts(cte: &Cte) -> Result<(SetQuantifier, &SetExpr, &SetExpr), PgError> {
    let name = fold(&cte.alias.name);
    let query = bare(&cte.query);
    let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } = query.body.as_ref() else {
        return Err(PgError::new(
            SqlState::INVALID_RECURSION,
            format!("recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"),
        ));
    };
    let mut walk = Walk { name: &name, place: Place::NonRecursiveTerm, count: 0 };
    walk.set_expr(left)?;
    walk.place = Place::RecursiveTerm;
    walk.set_expr(right)?;
    if let Some(with) = &query.with {
        walk.place = Place::Subquery;
        with.cte_tables.iter().try_for_each(|cte| walk.query(&cte.query))?;
        return Err(PgError::unsupported("WITH in a recursive query"));
    }
    let (limit, offset) = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => (limit.is_some(), offset.is_some()),
        Some(LimitClause::OffsetCommaLimit { .. }) => (true, true),
        None => (false, false),
    };
    let unsupported = [
        (query.order_by.is_some(), "ORDER BY"),
        (offset, "OFFSET"),
        (limit || query.fetch.is_some(), "LIMIT"),
        (!query.locks.is_empty(), "FOR UPDATE/SHARE"),
    ];
    match unsupported.iter().find(|(present, _)| *present) {
        Some((_, what)) => {
            let message = format!("{what} in a recursive query is not implemented");
            Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
        }
        None => Ok((*set_quantifier, left, right)),
    }
}

/// What is in the parentheses, where a query is nothing else.
fn bare(query: &Query) -> &Query {
    let decorated = query.with.is_some() || query.order_by.is_some() || query.limit_clause.is_some();
    match query.body.as_ref() {
        SetExpr::Query(inner) if !decorated && query.fetch.is_none() => bare(inner),
        _ => query,
    }
}

/// Where the walk is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    RecursiveTerm,
    NonRecursiveTerm,
    Subquery,
    OuterJoin,
    Intersect,
    Except,
}

impl Place {
    fn text(self) -> &'static str {
        match self {
            Place::RecursiveTerm => "its recursive term",
            Place::NonRecursiveTerm => "its non-recursive term",
            Place::Subquery => "a subquery",
            Place::OuterJoin => "an outer join",
            Place::Intersect => "INTERSECT",
            Place::Except => "EXCEPT",
        }
    }
}

/// Through a query in search of its own name.
struct Walk<'a> {
    name: &'a str,
    place: Place,
    count: usize,
}

impl Walk<'_> {
    /// Walks with `place` for what lies in it; what is worse already stays so.
    fn within(&mut self, place: Place, walk: impl FnOnce(&mut Self) -> Result<(), PgError>) -> Result<(), PgError> {
        let before = self.place;
        if before == Place::RecursiveTerm || place == Place::Subquery {
            self.place = place;
        }
        let walked = walk(self);
        self.place = before;
        walked
    }

    fn query(&mut self, query: &Query) -> Result<(), PgError> {
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let is_hidden = with.recursive && fold(&cte.alias.name) == self.name;
                if !is_hidden {
                    self.query(&cte.query)?;
                }
                if fold(&cte.alias.name) == self.name {
                    // From here on the name means another query.
                    return Ok(());
                }
            }
        }
        self.set_expr(&query.body)?;
        self.expressions(&query.order_by)?;
        self.expressions(&query.limit_clause)
    }

    fn set_expr(&mut self, body: &SetExpr) -> Result<(), PgError> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                let all = *set_quantifier == SetQuantifier::All;
                match op {
                    SetOperator::Intersect if all => self.within(Place::Intersect, |walk| {
                        walk.set_expr(left)?;
                        walk.set_expr(right)
                    }),
                    SetOperator::Except if all => self.within(Place::Except, |walk| {
                        walk.set_expr(left)?;
                        walk.set_expr(right)
                    }),
                    SetOperator::Except => {
                        self.set_expr(left)?;
                        self.within(Place::Except, |walk| walk.set_expr(right))
                    }
                    _ => {
                        self.set_expr(left)?;
                        self.set_expr(right)
                    }
                }
            }
            other => self.expressions(other),
        }
    }

    fn select(&mut self, select: &Select) -> Result<(), PgError> {
        let before = self.count;
        select.from.iter().try_for_each(|tables| self.tables(tables))?;
        let mut rest = select.clone();
        rest.from.clear();
        self.expressions(&rest)?;
        let reads_itself = self.count > before && select.from.iter().any(|tables| self.is_among(tables));
        if reads_itself && holds_aggregate(&rest) {
            let message = "aggregate functions are not allowed in a recursive query's recursive term";
            return Err(PgError::new(SqlState::INVALID_RECURSION, message));
        }
        Ok(())
    }

    /// Whether the query itself is one of the tables, not only within a subquery of theirs.
    fn is_among(&self, tables: &TableWithJoins) -> bool {
        let factors = std::iter::once(&tables.relation).chain(tables.joins.iter().map(|join| &join.relation));
        factors.into_iter().any(|factor| match factor {
            TableFactor::Table { name, .. } => is_named(name, self.name),
            TableFactor::NestedJoin { table_with_joins, .. } => self.is_among(table_with_joins),
            _ => false,
        })
    }

    fn tables(&mut self, tables: &TableWithJoins) -> Result<(), PgError> {
        // A join's left side is all that stands before it.
        let outer = |operator: &JoinOperator| match operator {
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => (false, true),
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => (true, false),
            JoinOperator::FullOuter(_) => (true, true),
            _ => (false, false),
        };
        let sides: Vec<(bool, bool)> = tables.joins.iter().map(|join| outer(&join.join_operator)).collect();
        let factors = std::iter::once(&tables.relation).chain(tables.joins.iter().map(|join| &join.relation));
        for (index, factor) in factors.enumerate() {
            let own = index > 0 && sides[index - 1].1;
            match own || sides[index..].iter().any(|side| side.0) {
                true => self.within(Place::OuterJoin, |walk| walk.factor(factor))?,
                false => self.factor(factor)?,
            }
        }
        for join in &tables.joins {
            if let Some(JoinConstraint::On(condition)) = constraint(&join.join_operator) {
                self.expressions(condition)?;
            }
        }
        Ok(())
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<(), PgError> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => self.tables(table_with_joins),
            other => self.expressions(other),
        }
    }

    fn relation(&mut self, name: &ObjectName) -> Result<(), PgError> {
        if !is_named(name, self.name) {
            return Ok(());
        }
        self.count += 1;
        let wrong = match self.place {
            Place::RecursiveTerm if self.count > 1 => "more than once".to_string(),
            Place::RecursiveTerm => return Ok(()),
            place => format!("within {}", place.text()),
        };
        let message = format!("recursive reference to query \"{}\" must not appear {wrong}", self.name);
        Err(PgError::new(SqlState::INVALID_RECURSION, message))
    }

    /// Of expressions, the queries in them.
    fn expressions(&mut self, expressions: &impl Visit) -> Result<(), PgError> {
        if !names(expressions, self.name) {
            return Ok(());
        }
        self.within(Place::Subquery, |walk| walk.relation(&ObjectName::from(vec![quoted(walk.name)])))
    }
}

/// The identifier that means just `name`.
fn quoted(name: &str) -> sqlparser::ast::Ident {
    sqlparser::ast::Ident::with_quote('"', name)
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

fn is_named(relation: &ObjectName, name: &str) -> bool {
    matches!(relation.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| fold(ident) == name))
}

/// Whether a FROM anywhere in `part` has the unqualified `name`, and means no WITH query of its own by it.
fn names(part: &impl Visit, name: &str) -> bool {
    part.visit(&mut Names { name, hidden: 0 }).is_break()
}

struct Names<'a> {
    name: &'a str,
    /// How many queries around have a WITH query of that name.
    hidden: usize,
}

impl Names<'_> {
    fn hides(&self, query: &Query) -> bool {
        query.with.as_ref().is_some_and(|with| with.cte_tables.iter().any(|cte| fold(&cte.alias.name) == self.name))
    }
}

impl Visitor for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.hidden += usize::from(self.hides(query));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.hidden -= usize::from(self.hides(query));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match self.hidden == 0 && is_named(relation, self.name) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Whether a SELECT, given without its FROM, calls an aggregate of its own.
fn holds_aggregate(select: &Select) -> bool {
    select.visit(&mut Aggregates { depth: 0 }).is_break()
}

/// In search of aggregates outside of subqueries.
struct Aggregates {
    depth: usize,
}

impl Visitor for Aggregates {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(call)
                if self.depth == 0 && call.over.is_none() && is_aggregate(&call.name.to_string().to_lowercase()) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
