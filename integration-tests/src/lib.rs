//! Holds no code: the end-to-end suite is in `tests/`.
