"""What decides and folds: shards turn commands into events; Faust handlers keep what is derived up to date."""
