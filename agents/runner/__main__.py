"""`python3 -I /opt/refold/runner`: the folder alone is enough, under whatever name it is mounted."""

import importlib
import os
import sys

if not __package__:  # run as a folder: its modules are a package all the same
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = os.path.dirname(here)
    __package__ = os.path.basename(here)

importlib.import_module(f"{__package__}.program").main()
