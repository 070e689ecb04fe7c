"""Trains and evaluates methods with Lightning: modules, callbacks, loggers and checkpoints."""
