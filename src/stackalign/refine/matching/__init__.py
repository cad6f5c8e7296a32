"""Matching of simulated with measured disks, whatever simulates them.

`parameters` says what can be refined; `measured` prepares the data; `template` looks for them in simulations on a
wide grid, `search` scans and polishes; `model` and `climb` fit all parameters on a fine grid; `converge` follows them
to more beams; `noise`, `goodness` and `held` say what the residual means, and `outcome` puts the result together.
"""
