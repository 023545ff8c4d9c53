"""Folders, the volumes they lie in, how much their owners may have there, and the models that are offered in them."""
