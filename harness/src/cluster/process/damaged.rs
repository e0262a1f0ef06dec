//! A node whose disk is changed while it is down.
//!
//! In: the node, and that what it has on its disk is changed, or is as it was. Out: a [`Deed`] for each end and start.
//! Never: an act of anybody else on the node meanwhile, or a look at its disk.

use super::{ActError, Deed, Node};

impl Node {
    /// SIGKILL; from then on only [`Node::start_damaged`] starts it, until [`Node::mend`].
    pub async fn kill_for_damage(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        self.free()?;
        let deed = self.kill_held(&hand).await?;
        self.life.send_modify(|life| life.damaged = true);
        Ok(deed)
    }

    /// Starts it on what it has.
    pub async fn start_damaged(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        self.start_held(&hand).await
    }

    /// Its disk is as it was, or it has made up for the damage: it is a node like any other.
    pub fn mend(&self) {
        self.life.send_modify(|life| life.damaged = false);
    }

    /// Its last start has told the damage by file and place, and has ended.
    pub fn note_refusal(&self) {
        self.life.send_modify(|life| {
            if let Some(last) = life.starts.last_mut() {
                last.refused = true;
            }
        });
    }
}
