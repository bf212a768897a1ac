"""The loaders that a node may boot with, one file each in sh; loader.sh says what each has to offer.

They are parts of the helper (kbuild_tasks/node), which is the only place where they run.
"""
