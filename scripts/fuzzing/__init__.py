"""Mutations of valid files, what reads them, and what a reader must not do with them."""
