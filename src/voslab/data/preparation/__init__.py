"""Checks and completes data sets on disk."""
