"""The directory context: who there is, what they may use, and under which policy. One key for the cluster."""
