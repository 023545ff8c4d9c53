"""Sessions, as clients ask for them and follow them."""
