"""What volumes are made of: folders of a file system, and what else can hold folders."""
