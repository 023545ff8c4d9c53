"""Which folders are there, whose are they, and who may do what in them? One projection of the vfolder context.

Every key begins with the scope, since events of two owners have no common order: what an owner says of a folder, and
what a member says of it, are rows of their own, brought together when they are asked for.
"""
