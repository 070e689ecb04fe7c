"""Generated videos: small moving worlds with exact masks, and the data sets made of them."""
