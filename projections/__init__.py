"""What is known: each module answers one question with the tables it folds from events."""
