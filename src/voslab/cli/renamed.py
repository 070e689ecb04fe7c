"""Lists renamed configuration keys and options, so that an old name is answered with the new one."""

RENAMED = {
    "data/alike": "lookalikes",
    "data/carried_davis2016": "covos_cache_davis2016",
    "data/carried_davis2017": "covos_cache_davis2017",
    "data/carried_youtube_vos": "covos_cache_youtube_vos",
    "sweep/adaptation_alike": "adaptation_lookalikes",
}
"""Old option of a configuration group, as `group/option` -> its new name in the same group."""
RENAMED_KEYS = {
    "model.fill": "model.intra_fill",
    "overlay": "save=[masks,overlay], or save=[masks] for no overlay",
    "model.training.scratch_lr": "model.training.optimizer.lr",
}
"""Old configuration key -> its new name, or how to write it now."""
