"""Synthetic videos with exact masks, and the data sets made of them."""
