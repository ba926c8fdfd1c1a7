//! What the background does: a [`Task`] as soon as a thread is there, and whatever is to be [tended](Tend) at its time.

use std::sync::Arc;

/// What there is to do.
pub(crate) trait Task: Send {
    /// Does it, on this thread.
    fn run(self: Box<Self>);
    /// There is no thread to do it, and it stays undone. What comes next, if that is another task.
    fn give_up(self: Box<Self>) -> Option<Box<dyn Task>>;
}

/// When the worker is to look after something, on the worker's clock; never if it is zero.
pub(crate) type Timer = u64;

/// What the worker looks after.
pub(crate) trait Tend: Send + Sync {
    /// Its time has come, on behalf of the timer that was set to this moment.
    fn tend(self: Arc<Self>, timer: Timer);
    /// One of the clocks was set.
    fn look_again(self: Arc<Self>);
}
