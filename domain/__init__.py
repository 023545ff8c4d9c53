"""What may happen: commands, events and the pure functions between them. No I/O, no clock, no randomness."""
