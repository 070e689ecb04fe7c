"""Training clips: sampling of frames and objects, augmentation, pseudo-clips from stills, mixtures of sources."""
