"""Motion fields: from codec vectors or optical flow, holes filled, and values warped along them."""
