"""Cold start: how users would rate items that nobody has rated yet."""
