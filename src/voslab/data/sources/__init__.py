"""Data sets in their official layouts: each module lists the `VideoSequence`s or `Stills` of one of them."""
