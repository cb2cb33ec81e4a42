"""The wire formats: one codec per runtime, each free of I/O."""
