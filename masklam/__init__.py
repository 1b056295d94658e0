"""Latent action models from video, with and without the agent's mask: train, probe, evaluate, publish."""
