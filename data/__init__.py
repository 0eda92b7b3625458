"""Data sets in, files out: the only code that touches the disk, besides plots.py."""
