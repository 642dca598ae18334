//! Which overload a call means: chapter 10 of PostgreSQL's manual.

use repr::SqlType;

use crate::cast::implicitly;

/// Why no overload was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// None takes arguments of these types.
    None,
    /// Several do, none of them better than all others.
    Ambiguous,
}

/// Whether a type is the one its category prefers.
fn is_preferred(sql_type: &SqlType) -> bool {
    matches!(
        sql_type,
        SqlType::Bool | SqlType::Text | SqlType::Float8 | SqlType::Oid | SqlType::Timestamptz | SqlType::Interval
    )
}

/// The category of PostgreSQL's `pg_type.typcategory`; arrays are their own.
pub(crate) fn category(sql_type: &SqlType) -> char {
    match sql_type {
        SqlType::Array(_) => 'A',
        scalar => scalar.info().category,
    }
}

/// The index of the candidate (its argument types) that a call with `arguments` means.
pub(crate) fn choose(candidates: &[Vec<&SqlType>], arguments: &[&SqlType]) -> Result<usize, Failure> {
    let exact = |candidate: &Vec<&SqlType>| candidate.iter().zip(arguments).all(|(wanted, given)| wanted == given);
    let all: Vec<usize> = (0..candidates.len()).filter(|index| candidates[*index].len() == arguments.len()).collect();
    if let Some(found) = all.iter().find(|index| exact(&candidates[**index])) {
        return Ok(*found);
    }
    // An operand of unknown type is first taken to be of the other operand's type.
    if let [left, right] = arguments
        && (**left == SqlType::Unknown) != (**right == SqlType::Unknown)
    {
        let known = if **left == SqlType::Unknown { right } else { left };
        if let Some(found) = all.iter().find(|index| candidates[**index].iter().all(|wanted| wanted == known)) {
            return Ok(*found);
        }
    }
    let mut remaining = all;
    remaining.retain(|index| {
        candidates[*index]
            .iter()
            .zip(arguments)
            .all(|(wanted, given)| **given == SqlType::Unknown || implicitly(given, wanted))
    });
    if remaining.is_empty() {
        return Err(Failure::None);
    }
    keep_best(&mut remaining, |index| {
        candidates[index].iter().zip(arguments).filter(|(wanted, given)| wanted == given).count()
    });
    if let [only] = remaining[..] {
        return Ok(only);
    }
    keep_best(&mut remaining, |index| {
        let fits = |(wanted, given): &(&&SqlType, &&SqlType)| {
            wanted == given || (is_preferred(wanted) && category(wanted) == category(given))
        };
        candidates[index].iter().zip(arguments).filter(fits).count()
    });
    if let [only] = remaining[..] {
        return Ok(only);
    }
    if !arguments.iter().any(|given| **given == SqlType::Unknown) {
        return Err(Failure::Ambiguous);
    }
    narrow_by_category(candidates, arguments, &mut remaining);
    if let [only] = remaining[..] {
        return Ok(only);
    }
    // All known arguments of one type: take the unknown ones to be of it too.
    let mut known = arguments.iter().filter(|given| ***given != SqlType::Unknown);
    if let Some(first) = known.next()
        && known.all(|other| other == first)
    {
        let accepting: Vec<usize> = remaining
            .iter()
            .copied()
            .filter(|index| candidates[*index].iter().all(|wanted| wanted == first || implicitly(first, wanted)))
            .collect();
        if let [only] = accepting[..] {
            return Ok(only);
        }
    }
    Err(Failure::Ambiguous)
}

fn keep_best(remaining: &mut Vec<usize>, score: impl Fn(usize) -> usize) {
    let best = remaining.iter().map(|index| score(*index)).max().unwrap_or(0);
    remaining.retain(|index| score(*index) == best);
}

/// Unknown arguments: text if any candidate takes text there, else the one category all candidates have there.
fn narrow_by_category(candidates: &[Vec<&SqlType>], arguments: &[&SqlType], remaining: &mut Vec<usize>) {
    let mut wanted: Vec<Option<(char, bool)>> = vec![None; arguments.len()];
    for (position, given) in arguments.iter().enumerate() {
        if **given != SqlType::Unknown {
            continue;
        }
        let types: Vec<&SqlType> = remaining.iter().map(|index| candidates[*index][position]).collect();
        let categories: Vec<char> = types.iter().map(|sql_type| category(sql_type)).collect();
        let chosen = match categories.contains(&'S') {
            true => 'S',
            false if categories.iter().all(|other| *other == categories[0]) => categories[0],
            false => return,
        };
        let preferred = types.iter().any(|sql_type| category(sql_type) == chosen && is_preferred(sql_type));
        wanted[position] = Some((chosen, preferred));
    }
    let fits = |index: &usize| {
        wanted.iter().zip(&candidates[*index]).all(|(wanted, sql_type)| match wanted {
            None => true,
            Some((chosen, preferred)) => category(sql_type) == *chosen && (!preferred || is_preferred(sql_type)),
        })
    };
    if remaining.iter().any(fits) {
        remaining.retain(fits);
    }
}
