"""The paper's mixing experiment in miniature: seven ratios, two frameworks, one report."""
