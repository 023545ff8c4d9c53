"""What each command comes to, one module for each kind of thing; `domain.directory.decider` is the way in."""
