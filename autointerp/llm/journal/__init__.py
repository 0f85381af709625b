"""Stores every paid reply on disk before it is used."""
