"""Commands that train, distil and measure: each is a frozen config, a `run` and a thin entry."""
