"""Functions under the names of other packages, for scripts that move over by changing an import."""
