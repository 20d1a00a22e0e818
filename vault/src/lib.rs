//! The vault daemon's rooms.
