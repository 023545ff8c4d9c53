"""What kernels are given when they start, whatever runs them."""
