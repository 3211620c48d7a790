//! What waits for the broker: bounded, in order, and never waited for by whoever puts it in.
//!
//! Of decisions each is kept until the broker has acknowledged it, and when there are too many the
//! oldest goes. Of everything else (scores, health, pictures, rules) only the newest counts and
//! takes the place of what is there. What is retained is remembered, because a broker that starts
//! again may have forgotten it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Something to publish.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Arc<[u8]>,
    /// Sent again until it is acknowledged (QoS 1), instead of once.
    pub(super) sure: bool,
    pub(super) retain: bool,
    /// Its predecessors in the topic count too, and are kept.
    pub(super) history: bool,
    /// In the order of the outbox, from 1 on; 0: not put in yet.
    pub(super) id: u64,
}

impl Message {
    /// The newest value of something: retained, and sent until it is acknowledged.
    pub(super) fn value(topic: &str, payload: impl Into<Vec<u8>>) -> Self {
        let payload: Vec<u8> = payload.into();
        let (topic, payload) = (topic.into(), payload.into());
        Self { topic, payload, sure: true, retain: true, history: false, id: 0 }
    }
}

/// Shared by who puts in and who sends.
#[derive(Debug)]
pub(super) struct Outbox {
    most: usize,
    inner: Mutex<Inner>,
    /// Woken when something was put in, or it is over.
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Message>,
    /// The last of each retained topic.
    retained: BTreeMap<Arc<str>, Message>,
    last_id: u64,
    /// How many of those that wait are history.
    history: usize,
    lost: u64,
    over: bool,
}

impl Outbox {
    /// At most `most` messages of history wait.
    pub(super) fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default(), news: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in.
    pub(super) fn put(&self, mut message: Message) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.last_id += 1;
        message.id = inner.last_id;
        if message.history {
            inner.history += 1;
            if inner.history > self.most
                && let Some(oldest) = inner.waiting.iter().position(|m| m.history)
            {
                inner.waiting.remove(oldest);
                inner.history -= 1;
                inner.lost += 1;
            }
        } else {
            inner.waiting.retain(|m| m.topic != message.topic);
        }
        if message.retain {
            inner.retained.insert(Arc::clone(&message.topic), message.clone());
        }
        inner.waiting.push_back(message);
        drop(guard);
        self.news.notify_one();
    }

    /// The first message after the one with this id.
    pub(super) fn after(&self, id: u64) -> Option<Message> {
        self.lock().waiting.iter().find(|m| m.id > id).cloned()
    }

    /// Takes a message out: it has arrived, or was sent and is not asked about.
    pub(super) fn done(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(place) = inner.waiting.iter().position(|m| m.id == id)
            && let Some(message) = inner.waiting.remove(place)
        {
            inner.history -= usize::from(message.history);
        }
    }

    /// What a broker should remember and is not on its way anyway, for a new connection.
    pub(super) fn remembered(&self) -> VecDeque<Message> {
        let inner = self.lock();
        let waits = |topic: &Arc<str>| inner.waiting.iter().any(|m| m.topic == *topic);
        let missing = inner.retained.iter().filter(|(topic, _)| !waits(topic));
        missing.map(|(_, message)| Message { id: 0, ..message.clone() }).collect()
    }

    /// Messages that were lost because too many waited.
    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Nothing more will be put in.
    pub(super) fn close(&self) {
        self.lock().over = true;
        self.news.notify_one();
    }

    /// Whether it was closed.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(n: u64) -> Message {
        Message { history: true, ..Message::value("state", n.to_string()) }
    }

    fn waiting(outbox: &Outbox) -> Vec<String> {
        let mut found = Vec::new();
        let mut id = 0;
        while let Some(message) = outbox.after(id) {
            id = message.id;
            found.push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
        found
    }

    #[test]
    fn of_decisions_the_newest_are_kept_in_order() {
        let outbox = Outbox::new(3);
        outbox.put(Message::value("health", "h1"));
        (1..=1000).for_each(|n| outbox.put(state(n)));
        outbox.put(Message::value("health", "h2"));
        assert_eq!(waiting(&outbox), ["998", "999", "1000", "h2"]);
        assert_eq!(outbox.lost(), 997);
        // What is acknowledged makes room.
        let first = outbox.after(0).unwrap();
        outbox.done(first.id);
        outbox.done(first.id);
        outbox.put(state(1001));
        assert_eq!(waiting(&outbox), ["999", "1000", "h2", "1001"]);
        assert_eq!(outbox.lost(), 997);
    }

    #[test]
    fn a_new_connection_is_told_what_is_not_on_its_way() {
        let outbox = Outbox::new(3);
        outbox.put(Message { retain: false, sure: false, ..Message::value("scores", "s") });
        outbox.put(Message::value("health", "h"));
        outbox.put(state(1));
        let sent = outbox.after(0).unwrap();
        outbox.done(sent.id);
        outbox.done(outbox.after(0).unwrap().id);
        let told: Vec<_> = outbox.remembered().iter().map(|m| m.topic.to_string()).collect();
        assert_eq!(told, ["health"], "the state waits, scores are not retained");
        assert!(!outbox.is_empty() && !outbox.is_over());
    }
}
