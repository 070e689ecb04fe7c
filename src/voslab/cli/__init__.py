"""Command line programs: they read a configuration, build the objects and run them."""
