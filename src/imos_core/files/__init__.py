"""Propagations from files to files: jobs, locks, results, and what is known of both."""
