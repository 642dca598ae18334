//! How far event time has come in each source, in step with its rows: from when on a watermark holds is a time of the timeline, so
//! all workers close a window at the same moment.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use repr::Timestamp;

/// Watermarks that an operator has still to look at: from which time on, and which. In order.
pub(crate) type WatermarkQueue = Rc<RefCell<VecDeque<(Timestamp, i64)>>>;
/// The queues of all operators that are still there.
type Followers = Rc<RefCell<Vec<Weak<RefCell<VecDeque<(Timestamp, i64)>>>>>>;

/// A source's watermark on one worker, and who waits for it.
#[derive(Default)]
pub(crate) struct WatermarkCourse {
    latest: Option<i64>,
    waiting: Followers,
}

/// The way to a source's watermark for the operators of one dataflow.
#[derive(Clone, Debug, Default)]
pub struct Watermarks {
    /// What it was when the dataflow began.
    first: Option<(Timestamp, i64)>,
    waiting: Followers,
}

impl WatermarkCourse {
    /// From `time` on it is `watermark`.
    pub(crate) fn advance(&mut self, watermark: i64, time: Timestamp) {
        self.latest = Some(watermark);
        self.waiting.borrow_mut().retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.borrow_mut().push_back((time, watermark));
                true
            }
            None => false,
        });
    }

    /// For a dataflow that begins at `as_of`.
    pub(crate) fn follow(&self, as_of: Timestamp) -> Watermarks {
        Watermarks { first: self.latest.map(|latest| (as_of, latest)), waiting: Rc::clone(&self.waiting) }
    }
}

impl Watermarks {
    /// For one operator: what the watermark was at first, and what it will be. Fed for as long as the operator is there.
    pub(crate) fn queue(&self) -> WatermarkQueue {
        let queue: WatermarkQueue = Rc::new(RefCell::new(self.first.into_iter().collect()));
        self.waiting.borrow_mut().push(Rc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_hears_of_every_watermark_from_its_start_on() {
        let mut course = WatermarkCourse::default();
        let early = course.follow(3).queue();
        course.advance(100, 5);
        let late = course.follow(7).queue();
        course.advance(200, 9);
        assert_eq!(*early.borrow(), [(5, 100), (9, 200)]);
        assert_eq!(*late.borrow(), [(7, 100), (9, 200)]);
        drop((early, late));
        course.advance(300, 11);
        assert!(course.waiting.borrow().is_empty(), "who has gone is forgotten");
    }
}
