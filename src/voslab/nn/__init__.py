"""Layers and functions that several methods share: encoders, decoders, memories, aggregation, losses."""
