"""What agents ask of the api."""
