"""Evaluation: sequences with truth, protocols, baselines and tables."""
