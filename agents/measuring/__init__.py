"""What kernels, devices and the host use."""
