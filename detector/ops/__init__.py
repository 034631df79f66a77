"""Box arithmetic."""
