"""The program on each GPU host: takes orders, runs kernels on a runtime, reports what it saw."""
