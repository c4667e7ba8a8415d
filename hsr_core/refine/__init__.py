"""Refinement of a window of frames by rendering: avatar, losses, renderers, optimiser."""
