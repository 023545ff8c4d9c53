"""Who is there, with which keys, limits and resource groups? One projection, a module for each kind of thing.

Admin queries read it; no secret is in it. Who may come in is not asked here: the api folds the directory's events
itself. What many rows refer to has a `number`, the offset of the event that made it: so a new name changes one row.
"""
