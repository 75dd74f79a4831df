"""Measures Bursar against baselines in the same run: `python -m bench`. See docs/benchmarks.md."""
