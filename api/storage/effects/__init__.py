"""What the log says is to be done to folders: it is done to the disk and reported; usage is measured, quotas kept."""
