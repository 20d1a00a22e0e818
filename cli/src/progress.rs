//! How far long work has come: a bar on stderr, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns while nothing is heard.
const TURN: Duration = Duration::from_millis(120);
/// While it is not known how much there is.
const OPEN: &str = "{spinner} {prefix}: {bytes} ({binary_bytes_per_sec})";
/// While one of several stages is under way.
const STAGE: &str = "{spinner} {prefix}: {msg} [{bar:30}] {human_pos} of {human_len}, {eta} left";

/// Progress of one piece of work; its line goes when it ends.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of this work, in bytes until a stage is named.
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::no_length().with_prefix(what).with_style(style(OPEN));
        bar.enable_steady_tick(TURN);
        Self { bar }
    }

    /// So many bytes are done.
    pub fn bytes(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// So many of so many are done of one of several stages.
    pub fn stage(&self, stage: &str, done: u64, total: u64) {
        if self.bar.length().is_none() {
            self.bar.set_style(style(STAGE));
        }
        if self.bar.message() != stage || done < self.bar.position() {
            self.bar.reset_eta();
        }
        self.bar.set_length(total);
        self.bar.set_message(stage.to_owned());
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A style of those above; each of them is whole, as the test sees.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_whole() {
        for template in [OPEN, STAGE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
