//! A value that one side sets and others look at or wait for: tokio's watch channel, but that those who wait are woken in
//! the order in which they began to. The watch channel spreads them over eight queues at random, out of reach of any
//! seed, and a schedule of the simulation would not come back the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

struct Inner<T> {
    /// How often it was set, and what it is.
    state: Mutex<(u64, T)>,
    changed: Notify,
}

impl<T> Inner<T> {
    fn state(&self) -> MutexGuard<'_, (u64, T)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the value.
pub struct Sender<T>(Arc<Inner<T>>);

/// Looks at the value, and waits for it to change. It outlives the sender; then the value stays.
pub struct Receiver<T> {
    inner: Arc<Inner<T>>,
    seen: u64,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { inner: self.inner.clone(), seen: self.seen }
    }
}

/// Both ends of a new value.
pub fn channel<T: Clone>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T: Clone> Sender<T> {
    /// A new value.
    pub fn new(value: T) -> Self {
        Sender(Arc::new(Inner { state: Mutex::new((0, value)), changed: Notify::new() }))
    }

    /// Sets it.
    pub fn set(&self, value: T) {
        self.modify(|now| *now = value);
    }

    /// Changes it in place.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        {
            let mut state = self.0.state();
            state.0 += 1;
            change(&mut state.1);
        }
        self.0.changed.notify_waiters();
    }

    /// What it is now.
    pub fn get(&self) -> T {
        self.0.state().1.clone()
    }

    /// Somebody who has seen it as it is now.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { inner: self.0.clone(), seen: self.0.state().0 }
    }
}

impl<T: Clone> Receiver<T> {
    /// What it is now, which does not count as seen.
    pub fn get(&self) -> T {
        self.inner.state().1.clone()
    }

    /// What it is now, and counts as seen.
    pub fn see(&mut self) -> T {
        let state = self.inner.state();
        self.seen = state.0;
        state.1.clone()
    }

    /// Returns once it was set since it was last seen, and counts as seeing it.
    pub async fn changed(&mut self) {
        let inner = self.inner.clone();
        loop {
            let changed = inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = inner.state().0;
            if now != self.seen {
                self.seen = now;
                return;
            }
            changed.await;
        }
    }

    /// Returns once it is as wanted.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        loop {
            if wanted(&self.see()) {
                return;
            }
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_set_is_met_once() {
        let (sender, mut receiver) = channel(1);
        sender.set(2);
        receiver.changed().await;
        assert_eq!(receiver.get(), 2);
        let other = sender.subscribe();
        let mut waiting = tokio::spawn(async move {
            let mut other = other;
            other.wait_for(|value| *value > 3).await;
            other.get()
        });
        sender.modify(|value| *value += 1);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), &mut waiting).await.is_err());
        sender.set(4);
        assert_eq!(waiting.await.unwrap(), 4);
        assert_eq!(receiver.see(), 4);
    }

    /// In the order in which they began to wait, whatever the runtime's chance says.
    #[tokio::test]
    async fn those_who_wait_are_woken_in_their_order() {
        for _ in 0..20 {
            let sender = Sender::new(0);
            let met = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for number in 0..10 {
                let (mut receiver, met) = (sender.subscribe(), met.clone());
                tasks.push(tokio::spawn(async move {
                    receiver.changed().await;
                    met.lock().unwrap().push(number);
                }));
            }
            tokio::task::yield_now().await;
            sender.set(1);
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*met.lock().unwrap(), (0..10).collect::<Vec<_>>());
        }
    }
}
