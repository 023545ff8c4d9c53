"""The agent: its runtimes, one contract for all of them, and the daemon around."""
