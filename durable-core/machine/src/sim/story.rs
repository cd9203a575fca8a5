//! The last things that happened, for whoever has to understand a violation.

use std::collections::VecDeque;

const LINES: usize = 80;

#[derive(Debug)]
pub(super) struct Story {
    lines: VecDeque<String>,
    lines_max: usize,
}

impl Story {
    pub(super) fn new(whole: bool) -> Self {
        Self { lines: VecDeque::new(), lines_max: if whole { usize::MAX } else { LINES } }
    }

    pub(super) fn tell(&mut self, micros: i64, line: std::fmt::Arguments<'_>) {
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        self.lines.push_back(format!("{seconds:>7}.{rest:06}  {line}"));
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
