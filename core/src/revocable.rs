//! Whether a publication that is under way can still be taken back.

use std::sync::Arc;

use tokio::sync::watch;

/// What the writer tells the runtime of a [`commit`](crate::Writer::commit): whether it leaves nothing at the target when it
/// fails or is stopped now. Then a stop ends it at once, and nobody need ask what became of it. A writer that never says so is
/// given its time, and of a lost connection of its nobody knows.
#[derive(Debug, Clone)]
pub struct Revocable(Arc<watch::Sender<bool>>);

impl Default for Revocable {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Revocable {
    /// Says it. `true` once no one else can have published either, within the transaction that keeps them from it; `false`
    /// before the request is sent that makes it visible.
    pub fn set(&self, revocable: bool) {
        self.0.send_replace(revocable);
    }

    /// What was said last.
    pub fn get(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is.
    pub async fn wait(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|revocable| *revocable).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_it() {
        let revocable = Revocable::default();
        let writer = revocable.clone();
        assert!(!revocable.get());
        tokio::join!(revocable.wait(), async { writer.set(true) });
        assert!(revocable.get());
        writer.set(false);
        assert!(!revocable.get());
    }
}
