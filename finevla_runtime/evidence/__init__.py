"""Statistics of paired trials: intervals, exact paired tests, steering index, violation rate, comparison."""
