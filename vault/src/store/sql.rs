//! The store in SQL.
