//! LISTEN and NOTIFY: channels by name, and what sessions are told while they do something else.
//!
//! ```text
//! NOTIFY c -> the session's Outbox -- COMMIT --> Channels -> the Mailbox of each session that listens to c -> its client
//! ```
//!
//! A mailbox also hears that its session is to end. Its owner waits for it when it has nothing else to do.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use repr::{PgError, SqlState};
use tokio::sync::Notify;

/// What PostgreSQL allows: a name of a channel is an identifier, a payload fits a page.
const CHANNEL_BYTES_MAX: usize = 63;
const PAYLOAD_BYTES_MAX: usize = 7_999;

/// What may wait for one session that does not read it, and in one transaction.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What one notification takes besides its text, roughly.
const NOTIFICATION_BYTES: usize = 80;

/// One notification, as a listener gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The session that sent it.
    pub process_id: i32,
    /// Where to.
    pub channel: String,
    /// What it says; may be empty.
    pub payload: String,
}

/// What others tell a session.
#[derive(Default)]
pub struct Mailbox {
    notifications: Mutex<VecDeque<Notification>>,
    waiting_bytes: AtomicUsize,
    terminated: AtomicBool,
    termination: Notify,
    arrived: Notify,
}

impl Mailbox {
    /// Completes once something has arrived since the last time it completed. One waiter at a time.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Completes once the session is to end. One waiter at a time, beside that of [`Mailbox::arrived`].
    pub async fn terminated(&self) {
        while !self.is_terminated() {
            self.termination.notified().await;
        }
    }

    /// Whether the session is to end.
    pub fn is_terminated(&self) -> bool {
        self.terminated.load(Ordering::Acquire)
    }

    pub(crate) fn terminate(&self) {
        self.terminated.store(true, Ordering::Release);
        self.termination.notify_one();
        self.arrived.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Notification> {
        let mut notifications = self.notifications.lock();
        self.waiting_bytes.store(0, Ordering::Release);
        notifications.drain(..).collect()
    }

    fn deliver(&self, sent: impl Iterator<Item = Notification>) {
        let mut notifications = self.notifications.lock();
        for notification in sent {
            let bytes = size_bytes(&notification.channel, &notification.payload);
            self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
            notifications.push_back(notification);
        }
        self.arrived.notify_one();
    }
}

fn size_bytes(channel: &str, payload: &str) -> usize {
    channel.len() + payload.len() + NOTIFICATION_BYTES
}

/// Who listens to what.
#[derive(Default)]
pub(crate) struct Channels {
    /// By channel, then by the session's id. Locked while a transaction's notifications are delivered, so that all listeners
    /// get those of two transactions in the same order.
    listeners: Mutex<HashMap<String, HashMap<i32, Arc<Mailbox>>>>,
}

impl Channels {
    pub(crate) fn listen(&self, channel: &str, process_id: i32, mailbox: &Arc<Mailbox>) {
        self.listeners.lock().entry(channel.to_string()).or_default().insert(process_id, Arc::clone(mailbox));
    }

    pub(crate) fn unlisten(&self, channel: &str, process_id: i32) {
        let mut listeners = self.listeners.lock();
        if let Some(of_channel) = listeners.get_mut(channel) {
            of_channel.remove(&process_id);
            if of_channel.is_empty() {
                listeners.remove(channel);
            }
        }
    }

    /// Errors: `54000` if a listener reads so slowly that there is no room for more.
    pub(crate) fn check_room(&self, outbox: &Outbox) -> Result<(), PgError> {
        let listeners = self.listeners.lock();
        let to = outbox.order.iter().filter_map(|note| listeners.get(&note.0)).flat_map(HashMap::values);
        let full = |mailbox: &Arc<Mailbox>| mailbox.waiting_bytes.load(Ordering::Acquire) > WAITING_BYTES_MAX;
        match to.into_iter().any(full) {
            true => Err(too_many()),
            false => Ok(()),
        }
    }

    /// Hands all of `outbox` to those who listen, and empties it.
    pub(crate) fn publish(&self, process_id: i32, outbox: &mut Outbox) {
        if outbox.order.is_empty() {
            return;
        }
        let listeners = self.listeners.lock();
        let mut by_mailbox: HashMap<*const Mailbox, (Arc<Mailbox>, Vec<Notification>)> = HashMap::new();
        for note in &outbox.order {
            let (channel, payload) = note.as_ref();
            for mailbox in listeners.get(channel).into_iter().flat_map(HashMap::values) {
                let (channel, payload) = (channel.clone(), payload.clone());
                let (_, sent) =
                    by_mailbox.entry(Arc::as_ptr(mailbox)).or_insert_with(|| (Arc::clone(mailbox), Vec::new()));
                sent.push(Notification { process_id, channel, payload });
            }
        }
        by_mailbox.into_values().for_each(|(mailbox, sent)| mailbox.deliver(sent.into_iter()));
        outbox.clear();
    }
}

/// What a transaction has to send when it commits: each channel and payload once, in the order of the first time.
#[derive(Default)]
pub(crate) struct Outbox {
    order: Vec<Arc<(String, String)>>,
    seen: HashSet<Arc<(String, String)>>,
    size_bytes: usize,
}

impl Outbox {
    /// Errors: `22023` for a name or payload that is too long, `54000` where there are too many.
    pub(crate) fn add(&mut self, channel: &str, payload: &str) -> Result<(), PgError> {
        check_channel(channel)?;
        let invalid = |message: &str| PgError::new(SqlState::INVALID_PARAMETER_VALUE, message);
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(invalid("payload string too long"));
        }
        let note = Arc::new((channel.to_string(), payload.to_string()));
        if self.seen.contains(&note) {
            return Ok(());
        }
        let bytes = size_bytes(channel, payload);
        if self.size_bytes + bytes > WAITING_BYTES_MAX {
            return Err(too_many());
        }
        self.size_bytes += bytes;
        self.seen.insert(Arc::clone(&note));
        self.order.push(note);
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.order.len()
    }

    /// Forgets all but the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        for note in self.order.drain(count.min(self.order.len())..) {
            self.seen.remove(&note);
            self.size_bytes -= size_bytes(&note.0, &note.1);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }
}

/// Errors: `22023` as PostgreSQL's `pg_notify`.
pub(crate) fn check_channel(channel: &str) -> Result<(), PgError> {
    let message = match channel.len() {
        0 => "channel name cannot be empty",
        length if length > CHANNEL_BYTES_MAX => "channel name too long",
        _ => return Ok(()),
    };
    Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message))
}

fn too_many() -> PgError {
    PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many notifications in the NOTIFY queue")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_says_a_thing_once_and_takes_it_back() {
        let mut outbox = Outbox::default();
        for payload in ["a", "b", "a"] {
            outbox.add("c", payload).expect("short");
        }
        assert_eq!(outbox.count(), 2);
        outbox.truncate(1);
        outbox.add("c", "b").expect("it was taken back");
        assert_eq!(outbox.count(), 2);
        outbox.clear();
        assert_eq!(outbox.size_bytes, 0);
        assert!(outbox.add("", "x").is_err());
        assert!(outbox.add(&"c".repeat(64), "x").is_err());
        assert!(outbox.add("c", &"x".repeat(8000)).is_err());
        assert!(outbox.add("c", &"x".repeat(7999)).is_ok());
    }

    #[test]
    fn only_listeners_are_told_and_in_order() {
        let (channels, ann, bob) = (Channels::default(), Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
        channels.listen("a", 1, &ann);
        channels.listen("b", 1, &ann);
        channels.listen("b", 2, &bob);
        let mut outbox = Outbox::default();
        for (channel, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("z", "4")] {
            outbox.add(channel, payload).expect("short");
        }
        channels.publish(7, &mut outbox);
        let payloads = |mailbox: &Mailbox| mailbox.take().into_iter().map(|note| note.payload).collect::<Vec<_>>();
        assert_eq!(payloads(&ann), ["1", "2", "3"]);
        assert_eq!(payloads(&bob), ["2"]);
        channels.unlisten("b", 2);
        outbox.add("b", "5").expect("short");
        channels.publish(7, &mut outbox);
        assert_eq!(payloads(&bob), [""; 0]);
        assert_eq!(outbox.count(), 0);
    }
}
