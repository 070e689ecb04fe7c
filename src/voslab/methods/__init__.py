"""One room per method. `registry` finds them; a room never imports another's."""
