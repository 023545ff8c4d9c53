"""`infra/bench`: what Refold can do on this machine, measured side by side in one run, through its own doors."""
