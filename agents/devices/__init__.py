"""What a host has for its kernels: processors, memory and accelerators. Plugins find devices and say how they are; a
host offers them as slots, turns what the scheduler gave a kernel into an environment and limits, and reads what is
used of it all."""
