"""Kernels as Docker containers."""
