"""Pairs of greatest total similarity: which pose continues which track."""

from __future__ import annotations

import numpy as np

from calipose.geometry import Floats


def assign(similarity: Floats) -> list[tuple[int, int]]:
    """Pairs (row, column) of greatest total similarity, each row and column at most once; no pair of similarity 0.

    Args:
        similarity: `(r, c)`, not negative.

    Source: the Hungarian method by shortest augmenting paths (Jonker and Volgenant, 1987), O(r^2 c).
    """
    if similarity.shape[0] > similarity.shape[1]:
        return sorted((row, column) for column, row in assign(similarity.T))
    rows, columns = similarity.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    row_of = np.full(columns + 1, -1)  # who holds a column; the one after the last is where a new row starts
    for row in range(rows):
        row_of[columns], column = row, columns
        shortest, previous = np.full(columns, np.inf), np.full(columns, columns)
        reached = np.zeros(columns + 1, bool)
        while row_of[column] >= 0:  # on to a column that nobody holds
            reached[column] = True
            holder = row_of[column]
            cost = -similarity[holder] - row_price[holder] - column_price[:-1]
            nearer = ~reached[:-1] & (cost < shortest)
            shortest[nearer], previous[nearer] = cost[nearer], column
            open_ends = np.where(reached[:-1], np.inf, shortest)
            nearest = int(open_ends.argmin())
            step = open_ends[nearest]
            row_price[row_of[reached]] += step
            column_price[reached] -= step
            shortest[~reached[:-1]] -= step
            column = nearest
        while column != columns:  # back along the path, each column to the row before
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
    pairs = [(int(row_of[column]), column) for column in range(columns) if row_of[column] >= 0]
    return sorted(pair for pair in pairs if similarity[pair] > 0)
