"""What a codec's motion carried to B-frames, kept in files, and the training samples cut from it."""
