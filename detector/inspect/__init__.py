"""What is looked at before a run relies on it."""
