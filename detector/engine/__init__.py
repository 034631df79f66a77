"""The train loop, the evaluation loop, and everything that they keep between steps."""
