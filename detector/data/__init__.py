"""From the files of a dataset to batches of the network's input."""
