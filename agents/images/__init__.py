"""The images of a host."""
