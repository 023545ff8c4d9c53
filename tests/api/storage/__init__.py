"""The storage service: uploads, downloads and file operations of one folder on a real disk."""
