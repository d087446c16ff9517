"""What a model runs, what explanation methods cannot see of it, and how a copy is mended."""
