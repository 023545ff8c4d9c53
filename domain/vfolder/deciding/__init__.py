"""The deciders of folders: one module for each part of their story. `domain.vfolder.decider` says which is where."""
