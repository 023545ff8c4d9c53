"""The storage service: it keeps the bytes of folders, moves them for clients, and does to them what the log says."""
