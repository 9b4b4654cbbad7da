"""Measures the product beside a floor: what the same server gives with the barest handler and the fewest commands."""
