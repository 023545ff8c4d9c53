"""The scheduling context: which agents there are, what waits for them, and who gets what, and why. Key: the cell."""
