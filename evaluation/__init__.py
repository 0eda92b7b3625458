"""Attacks a network over many images, and judges what comes of it."""
