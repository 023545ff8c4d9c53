"""What there is for everybody, and who looks after it."""
