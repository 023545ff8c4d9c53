"""What people talk to: a write becomes a command, a read is answered from a projection, a stream from the log."""
