"""One package per method; `registry` finds them. A method never imports another method."""
