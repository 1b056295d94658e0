"""Renderers: what draws the image and the agent's mask of one fixed camera."""
