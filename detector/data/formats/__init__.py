"""The formats that datasets are written in: read into one common form, and written from it."""
