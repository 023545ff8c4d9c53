"""Shared folders: who has which under what name, who may use them, and where they are in their life."""
