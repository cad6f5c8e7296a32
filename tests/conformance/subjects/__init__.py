"""Rows of the table of operations, by subject: the file names are those of the backends and kernels."""
