"""What somebody sees and changes of himself."""
