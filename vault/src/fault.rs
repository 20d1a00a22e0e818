//! Places where the tests end the process as a power loss would.

/// A named place between two durable writes. With the feature `failpoints` and
/// `FAILPOINTS="NAME=return"` in the environment the process kills itself there with SIGKILL;
/// without the feature it is nothing.
macro_rules! crash_point {
    ($name:expr) => {
        fail::fail_point!($name, |_| $crate::fault::die())
    };
}

pub(crate) use crash_point;

/// Ends the process at once, as `kill -9` does: no destructor, no flush.
#[cfg(feature = "failpoints")]
pub fn die<T>() -> T {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}
