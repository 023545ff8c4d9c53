"""Kernels as native processes."""
