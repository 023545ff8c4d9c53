"""The session context: what a user asked for, its kernels, and how both live and end. Key: the owner's access key."""
