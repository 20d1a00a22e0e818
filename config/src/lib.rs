//! From the text of a configuration file to what it says, with every fault of the text and its line, and not
//! only the first. What the daemons share; the fields are each daemon's own.

mod fault;
mod reader;

pub use fault::Fault;
pub use reader::Reader;
