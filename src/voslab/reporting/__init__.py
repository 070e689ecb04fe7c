"""Writes the pages of experiments from run records: tables, figures and a README per study."""
