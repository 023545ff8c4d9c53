"""What people do inside a session: what goes from here to its kernels directly, and never through the log."""
