"""Explanations by concepts that people can point at, instead of by inputs."""
