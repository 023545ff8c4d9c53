"""Kernels that only seem to run."""
