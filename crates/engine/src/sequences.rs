//! Where sequences stand. They move outside of transactions: a number that was given out is not given out again, whatever
//! becomes of the transaction that took it.
//!
//! A number is given out from memory; what is stored runs ahead of it, so that most numbers cost no write. After a crash the
//! sequence goes on behind what was stored: numbers are left out, never repeated.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use catalog::{Position, Sequence, SequenceAccess};
use parking_lot::Mutex;
use repr::{PgError, SqlState};
use storage::{Storage, StoredSequence};

use crate::engine::Shared;

/// How many numbers the first write of a sequence runs ahead.
const AHEAD_FIRST: i64 = 32;
/// How many the later ones do at most: what a crash can leave out.
const AHEAD_MAX: i64 = 8192;

/// All sequences that were used since the start, by OID.
#[derive(Default)]
pub(crate) struct Sequences {
    states: Mutex<HashMap<u32, State>>,
}

#[derive(Clone, Copy)]
struct State {
    position: Position,
    /// How many more numbers are covered by what is stored.
    covered: i64,
    /// How many the next write covers.
    ahead: i64,
}

impl Sequences {
    /// Where the sequence stands. Errors: storage's.
    fn state(&self, storage: &Storage, oid: u32, sequence: &Sequence) -> Result<State, PgError> {
        if let Some(state) = self.states.lock().get(&oid) {
            return Ok(*state);
        }
        let position = match storage.sequence(oid)? {
            Some(stored) => Position { last_value: stored.last_value, is_called: stored.is_called },
            None => sequence.first(),
        };
        Ok(State { position, covered: 0, ahead: AHEAD_FIRST })
    }

    fn next(&self, storage: &Storage, oid: u32, sequence: &Sequence) -> Result<i64, PgError> {
        let known = self.state(storage, oid, sequence)?;
        let mut states = self.states.lock();
        let state = states.entry(oid).or_insert(known);
        let next = sequence.next(state.position).ok_or_else(|| exhausted(sequence))?;
        if state.covered == 0 {
            let stored = sequence.increment.saturating_mul(state.ahead - 1).saturating_add(next);
            let last_value = stored.clamp(sequence.min, sequence.max);
            // One that goes around would come to numbers that are not covered.
            let last_value = if sequence.cycle { next } else { last_value };
            storage.put_sequence(oid, StoredSequence { last_value, is_called: true })?;
            state.covered = if sequence.cycle { 1 } else { state.ahead };
            state.ahead = (state.ahead * 2).min(AHEAD_MAX);
        }
        state.covered -= 1;
        state.position = Position { last_value: next, is_called: true };
        Ok(next)
    }

    /// Moves a sequence. Errors: storage's.
    pub(crate) fn set(&self, storage: &Storage, oid: u32, position: Position) -> Result<(), PgError> {
        let mut states = self.states.lock();
        let stored = StoredSequence { last_value: position.last_value, is_called: position.is_called };
        storage.put_sequence(oid, stored)?;
        states.insert(oid, State { position, covered: 0, ahead: AHEAD_FIRST });
        Ok(())
    }

    /// Where the sequence stands; at its start where that cannot be read.
    pub(crate) fn position(&self, storage: &Storage, oid: u32, sequence: &Sequence) -> Position {
        match self.state(storage, oid, sequence) {
            Ok(state) => state.position,
            Err(error) => {
                tracing::error!("sequence {oid} cannot be read: {error}");
                sequence.first()
            }
        }
    }

    /// Stores where each stands, so that a clean stop leaves no numbers out. Errors: storage's.
    pub(crate) fn settle(&self, storage: &Storage) -> Result<(), PgError> {
        for (oid, state) in self.states.lock().iter_mut().filter(|(_, state)| state.covered > 0) {
            let Position { last_value, is_called } = state.position;
            storage.put_sequence(*oid, StoredSequence { last_value, is_called })?;
            state.covered = 0;
        }
        Ok(())
    }

    /// Forgets sequences that were dropped.
    pub(crate) fn forget(&self, oids: &[u32]) {
        self.states.lock().retain(|oid, _| !oids.contains(oid));
    }
}

fn exhausted(sequence: &Sequence) -> PgError {
    let (word, bound) = if sequence.increment > 0 { ("maximum", sequence.max) } else { ("minimum", sequence.min) };
    PgError::new(SqlState("2200H"), format!("nextval: reached {word} value of sequence ({bound})"))
}

/// The numbers that a session was given: what `currval` and `lastval` tell.
#[derive(Debug, Default)]
pub(crate) struct Given {
    by_sequence: HashMap<u32, i64>,
    last: Option<u32>,
}

/// The sequences as one session moves them.
pub(crate) struct SessionSequences {
    pub(crate) shared: Arc<Shared>,
    pub(crate) given: Arc<Mutex<Given>>,
}

impl fmt::Debug for SessionSequences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSequences")
    }
}

impl SequenceAccess for SessionSequences {
    fn next(&self, oid: u32, sequence: &Sequence) -> Result<i64, PgError> {
        let next = self.shared.sequences.next(&self.shared.storage, oid, sequence)?;
        let mut given = self.given.lock();
        given.by_sequence.insert(oid, next);
        given.last = Some(oid);
        Ok(next)
    }

    fn current(&self, oid: Option<u32>) -> Option<i64> {
        let given = self.given.lock();
        given.by_sequence.get(&oid.or(given.last)?).copied()
    }

    fn set(&self, oid: u32, _: &Sequence, position: Position) -> Result<(), PgError> {
        self.shared.sequences.set(&self.shared.storage, oid, position)?;
        if position.is_called {
            self.given.lock().by_sequence.insert(oid, position.last_value);
        }
        Ok(())
    }

    fn position(&self, oid: u32, sequence: &Sequence) -> Position {
        self.shared.sequences.position(&self.shared.storage, oid, sequence)
    }
}
