"""From configuration to objects: the only room that sees everything."""
