# SPDX-License-Identifier: BSD-3-Clause
"""Peaks of an image as it sinks below a falling water level: 0-dimensional persistence of superlevel sets.

Each pixel waits for all that are higher: there is no kernel of this for GPUs.
"""

import numpy as np

from ._jit import exact

__all__ = ["merge_tree"]


@exact
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@exact
def merge_tree(order, height, width, births, deaths):
    """Join pixels in an order from the highest down; fill where each peak was born and where it died.

    `order` are the valid pixels' flat indices. `births` and `deaths` have the length of `order`; of a peak that never
    joins a higher one the death is -1. Gives the number of peaks. Of two that join the one born later dies, and a
    pixel with higher neighbours belongs to the one of its neighbours' peaks that was born first: 8 neighbours.
    """
    parent = np.full(height * width, -1, np.int64)  # -1: still under water
    number = np.full(height * width, -1, np.int64)  # of a root: its peak
    count = 0
    for k in range(order.size):
        p = order[k]
        y, x = p // width, p % width
        eldest = -1
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                yy, xx = y + dy, x + dx
                if yy < 0 or yy >= height or xx < 0 or xx >= width or (dy == 0 and dx == 0):
                    continue
                q = yy * width + xx
                if parent[q] < 0:
                    continue
                root = _root(parent, q)
                if eldest < 0:
                    eldest = root
                elif root != eldest:
                    younger = root
                    if number[root] < number[eldest]:
                        younger, eldest = eldest, root
                    deaths[number[younger]] = p
                    parent[younger] = eldest
        if eldest < 0:
            parent[p] = p
            number[p] = count
            births[count] = p
            deaths[count] = -1
            count += 1
        else:
            parent[p] = eldest
    return count
