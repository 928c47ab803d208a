//! The daemon: a thin ring of I/O round the pure core.
