"""Folders, as people see them: their routes, and the way to the services where the files lie."""
